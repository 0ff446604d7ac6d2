// The card of a cell of a prompt.

/** Where the cell is, its numbers, its likeliest tokens with ids. With `pin`, tokens are buttons that follow them. */
function cardOf(reading, layer, pos, pin = null) {
    const { prompt } = reading;
    const name = prompt.layerName(reading.layers[layer]);
    const head = el(
        'p',
        { class: 'where' },
        el('strong', {}, name === 'output' ? name : `layer ${name}`),
        ` · after token ${pos} `,
        tokenNode(prompt.text(prompt.tokens[pos])),
        ` · ${reading.lens}`,
    );
    const several = reading.traces.length > 1;
    const lists = reading.at(layer).map(([trace, place]) => {
        const follow = trace === reading.main ? pin : null;
        const above = several
            ? el('p', { class: 'ahead' }, `${trace.horizon} ahead`)
            : numbersOf(prompt, trace, place, pos);
        return el('div', {}, above, likeliest(prompt, trace, place, pos, several ? 5 : trace.k, follow));
    });
    return el('div', { class: 'cellcard' }, head, el('div', { class: 'lists' }, lists));
}

/** Entropy, KL, cross-entropy and rank, and the true token. */
function numbersOf(prompt, trace, layer, pos) {
    const words = { entropy: 'entropy', kl: 'KL', ce: 'CE of the true token', rank: 'rank of the model’s token' };
    const parts = Object.entries(words).map(([metric, word]) => {
        return el('span', {}, `${word} ${CELLS[metric].write(trace.value(metric, layer, pos))}`);
    });
    const truth = trace.truth(pos);
    const token = truth === undefined ? '–' : tokenNode(prompt.text(truth));
    return el('p', { class: 'numbers' }, parts, el('span', {}, 'true token ', token));
}

/** The `k` likeliest tokens with their ids, probabilities, and bars. */
function likeliest(prompt, trace, layer, pos, k, pin) {
    const rows = Array.from({ length: Math.min(k, trace.k) }, (_, rank) => {
        const [token, p] = [trace.token(layer, pos, rank), trace.prob(layer, pos, rank)];
        const bar = el('span', { class: 'share' });
        bar.style.width = `${Math.round(60 * p)}px`;
        const follow = { type: 'button', class: 'pin', title: 'Follow this token through the layers' };
        const text = tokenNode(prompt.text(token));
        return el(
            'tr',
            {},
            el('td', {}, pin ? el('button', { ...follow, onclick: () => pin(token) }, text) : text),
            el('td', { class: 'number id' }, `#${prompt.ids[token]}`),
            el('td', { class: 'number' }, percent(p)),
            el('td', {}, bar),
        );
    });
    return el('table', {}, el('tbody', {}, rows));
}
