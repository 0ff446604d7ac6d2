// What was measured and on what.

/** A section of the page with its heading. */
function section(id, title, ...children) {
    return el(
        'section',
        { id, 'aria-labelledby': `${id}-title` },
        el('h2', { id: `${id}-title`, tabindex: -1 }, title),
        ...children,
    );
}

function factList(facts) {
    return el(
        'dl',
        { class: 'facts' },
        facts.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, el('bdi', {}, value))]),
    );
}

/** The line that matters of a run's facts. */
function summaryOf(facts) {
    const of = (name) => facts.filter(([label]) => label === name).map(([, value]) => value.split(/, (?:\d+ bytes, )?sha256/)[0]);
    return [
        of('model')[0],
        of('data')
            .map((path) => path.split(/[/\\]/).at(-1))
            .join(', '),
        of('read')[0],
    ]
        .filter(Boolean)
        .join(' · ');
}

function aboutSection() {
    const intro = el(
        'p',
        {},
        'A language model passes every token through a stack of layers. Each layer leaves a vector, the residual stream; ',
        'layer 0 is what enters the first block, layer L what leaves the last one. A lens turns the vector of some layer into a prediction of the next token; ',
        'a probe reads a label off it. Lines have ribbons: 95 % intervals, from resampling whole documents (or groups), not single tokens.',
    );
    const prompts = new Map(); // of one run directory: described once
    for (const prompt of DATA.prompts.filter((p) => p.facts)) {
        const key = JSON.stringify(prompt.facts);
        prompts.set(key, [...(prompts.get(key) ?? []), prompt]);
    }
    const merged = [...prompts.values()].map((same) => ({
        name: same.map((p) => p.name).join(' · '),
        kind: same.length > 1 ? 'prompts' : 'prompt',
        facts: same[0].facts,
    }));
    const parts = [...DATA.runs, ...merged].map((run) => {
        const caveats = run.caveats ?? [];
        const parity = run.facts.find(([name]) => name === 'parity');
        return el(
            'article',
            { class: 'run' },
            el('h3', {}, el('bdi', {}, run.name), el('span', { class: 'kind' }, run.kind)),
            el('p', {}, el('bdi', {}, summaryOf(run.facts))),
            parity ? el('p', { class: 'parity' }, el('strong', {}, 'Parity with the reference: '), parity[1]) : null,
            caveats.length
                ? el(
                      'div',
                      { class: 'caveats' },
                      el('strong', {}, 'Before you believe it'),
                      el(
                          'ul',
                          {},
                          caveats.map((text) => el('li', {}, text)),
                      ),
                  )
                : null,
            el('details', {}, el('summary', {}, 'Everything the run recorded'), factList(run.facts)),
        );
    });
    return section('about', 'What was measured', intro, ...parts);
}
