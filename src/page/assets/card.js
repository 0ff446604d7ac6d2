// The card of a cell of a prompt.

/** The card of a cell: where it is, its numbers, its likeliest tokens with ids. With `pin`, tokens are buttons. */
function cardOf(reading, layer, pos, metric, pin = null) {
    const { prompt } = reading;
    const name = prompt.layerName(reading.layers[layer]);
    const head = el(
        'p',
        { class: 'where' },
        el('strong', {}, name === 'output' ? 'output' : `layer ${name}`),
        ` · after token ${pos} `,
        tokenNode(prompt.text(prompt.tokens[pos])),
        ` · ${reading.lens}`,
    );
    const numbers = ([trace, place]) => {
        const of = (what) => [
            what === 'rank' ? 'rank of the model’s token' : what === 'ce' ? 'CE of the true token' : what,
            CELLS[what].write(trace.value(what, place, pos)),
        ];
        const truth = trace.truth(pos);
        return el(
            'p',
            { class: 'numbers' },
            ['entropy', 'kl', 'ce', 'rank'].map(of).map(([label, text]) => el('span', {}, `${label} ${text}`)),
            el('span', {}, 'true token ', truth === undefined ? '–' : tokenNode(prompt.text(truth))),
        );
    };
    const row = (trace, place, rank, width) => {
        const token = trace.token(place, pos, rank);
        const p = trace.prob(place, pos, rank);
        const bar = el('span', { class: 'share' });
        bar.style.width = `${Math.round(width * p)}px`;
        const label =
            pin && trace.horizon === reading.main.horizon
                ? el(
                      'button',
                      {
                          type: 'button',
                          class: 'pin',
                          title: 'Follow this token through the layers',
                          onclick: () => pin(token),
                      },
                      tokenNode(prompt.text(token)),
                  )
                : tokenNode(prompt.text(token));
        return el(
            'tr',
            {},
            el('td', {}, label),
            el('td', { class: 'number id' }, `#${prompt.ids[token]}`),
            el('td', { class: 'number' }, percent(p)),
            el('td', {}, bar),
        );
    };
    const lists = reading.at(layer).map(([trace, place]) => {
        const many = reading.traces.length > 1;
        const k = many ? Math.min(5, trace.k) : trace.k;
        const rows = Array.from({ length: k }, (_, rank) => row(trace, place, rank, many ? 40 : 80));
        return el(
            'div',
            {},
            many ? el('p', { class: 'ahead' }, `${trace.horizon} ahead`) : null,
            many ? null : numbers([trace, place]),
            el('table', {}, el('tbody', {}, rows)),
        );
    });
    return el('div', { class: 'cellcard' }, head, el('div', { class: 'lists' }, lists));
}
