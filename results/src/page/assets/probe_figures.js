// Probes by layer, probes on other data and other layers, and the law of next-token prediction.

function probeFigure(run, id) {
    const rows = pick(rowsOf(run), { kind: ['probe', 'applied'] });
    const baselines = pick(rowsOf(run), { kind: 'baseline', horizon: rows[0].horizon });
    const subjects = distinct(rows, 'subject');
    const byLayer = rows.filter((row) => !/^(tied_with_best|best_|nested_|shuffled_|control_|train_)/.test(row.metric));
    const options = measures(byLayer);
    const usual = options.find(([k]) => /^(accuracy|r2),/.test(k))?.[0] ?? options[0][0];
    return figure({
        id,
        title: 'Probes',
        run,
        shows:
            'How well a linear probe reads the label off each layer’s states, on examples and groups it was not fitted on. Layer 0 is the embedding. ' +
            'Dashed and dotted lines keep it honest: the control task has random labels per word type (what a probe can memorise), shuffled labels show chance or a leak, majority always says the commonest class, and bag-of-tokens or token-identity knows the tokens but no model. ' +
            'The ring marks the best layer, dashed rings the layers that cannot be told from it.',
        not: 'that the model uses this information, or that it is absent where a linear probe fails. The best layer was chosen by looking: quote nested_… in the table, the test value of the layer that validation rows chose; best_… is the best one’s value less the optimism of that choice.',
        controls: [
            { key: 'metric', label: 'Metric', options, usual },
            {
                key: 'probe',
                label: 'Probe',
                options: [...subjects, ...(subjects.length > 1 ? [['all', 'all, without controls']] : [])],
                usual: subjects[0],
            },
            hookControl(rows),
        ],
        draw({ metric, probe, hook }) {
            const here = byLayer.filter((row) => measure(row) === metric && row.hook === hook);
            const name = metric.split(',')[0];
            const chosen = probe === 'all' ? subjects : [probe];
            const extra = (prefix, text) =>
                chosen.length > 1
                    ? []
                    : pick(rows, { subject: probe, hook, metric: `${prefix}_${name}` }).reduce(
                          (line, row, i, all) => (i ? line : [{ ...lineOf(text, all) }]),
                          [],
                      );
            const lines = [
                ...chosen.map((s) => lineOf(s, pick(here, { subject: s }))),
                ...extra('control', 'control task'),
                ...extra('shuffled', 'shuffled labels'),
            ];
            const beside = baselines.filter((row) => row.metric === name || row.metric === `majority_${name}`);
            const marks = chosen.length > 1 ? [] : bestMarks(rows, { probe, hook, name, here });
            const used = [
                ...here.filter((row) => chosen.includes(row.subject)),
                ...pick(rows, {
                    subject: chosen,
                    hook,
                    metric: ['control', 'shuffled', 'nested', 'best', 'train']
                        .map((prefix) => `${prefix}_${name}`)
                        .concat('tied_with_best'),
                }),
                ...beside,
            ];
            // Runs of earlier versions chose no layer on validation rows.
            const nested = pick(rows, { subject: chosen, hook, metric: `nested_${name}` });
            const best = nested.length ? [] : pick(rows, { subject: chosen, hook, metric: `best_${name}` });
            const said = [
                ...nested.map(
                    (row) =>
                        `${row.subject}: layer ${row.layer}, chosen on validation rows, has ${withInterval(row)} on test rows.`,
                ),
                ...best.map(
                    (row) =>
                        `${row.subject}: best at layer ${row.layer}, ${withInterval(row)} after correcting for the choice.`,
                ),
            ].join(' ');
            return {
                lines: {
                    title: `${metric} by layer`,
                    x: { label: 'layer', values: layersOf(here) },
                    y: { label: options.find(([k]) => k === metric)[1], limits: limitsOf(metric) },
                    lines,
                    references: beside.map((row) => referenceOf(row.subject, row)),
                    marks,
                },
                table: tableOf(used),
                note: `${said} ${behind(run, here)}`,
            };
        },
    });
}

/** The best layer, and those tied with it. */
function bestMarks(rows, { probe, hook, name, here }) {
    const best = pick(rows, { subject: probe, hook, metric: `best_${name}` })[0];
    if (!best) return [];
    const tied = pick(rows, { subject: probe, hook, metric: 'tied_with_best' })
        .filter((row) => row.estimate === 1)
        .map((row) => row.layer)
        .sort((a, b) => a - b);
    const row = pick(here, { subject: probe, layer: best.layer })[0];
    const others = tied.filter((layer) => layer !== best.layer);
    const text = others.length ? `best: ${best.layer}; tied: ${spans(others)}` : `best: ${best.layer}`;
    const ring = (layer) => ({ of: probe, x: layer, y: pick(here, { subject: probe, layer })[0]?.estimate, text: '' });
    return row ? [...others.map(ring), { of: probe, x: best.layer, y: row.estimate, text }] : [];
}

/** `1–4, 7`. */
function spans(numbers) {
    const runs = [];
    for (const n of numbers) {
        if (runs.length && runs.at(-1)[1] === n - 1) runs.at(-1)[1] = n;
        else runs.push([n, n]);
    }
    return runs.map(([a, b]) => (a === b ? a : `${a}–${b}`)).join(', ');
}

/** Probes of one set on the others, by layer. */
function generalisation(run, id) {
    const rows = pick(rowsOf(run), { kind: 'generalisation' });
    if (!rows.length) return null;
    const options = measures(rows);
    return figure({
        id,
        title: 'Probes on other data',
        run,
        shows: 'A probe fitted on the set left of “>” and tested on the held-out part of the set right of it, by layer. Lines of a set with itself are the ceiling.',
        not: 'that a direction which carries over is the concept you named: both sets may share another regularity.',
        controls: [{ key: 'metric', label: 'Metric', options, usual: options[0][0] }, hookControl(rows)],
        draw({ metric, hook }) {
            const here = pick(rows, { hook }).filter((row) => measure(row) === metric);
            return {
                lines: {
                    title: metric,
                    x: { label: 'layer', values: layersOf(here) },
                    y: { label: options.find(([k]) => k === metric)[1], limits: limitsOf(metric) },
                    lines: distinct(here, 'subject').map((s) => lineOf(s, pick(here, { subject: s }))),
                    references: [],
                },
                table: tableOf(here),
                note: behind(run, here),
            };
        },
    });
}

/** Probes of one layer on the states of another. */
function probeMatrix(run, id) {
    const rows = pick(rowsOf(run), { kind: 'probe-transfer' });
    if (!rows.length) return null;
    const [subjects, options] = [distinct(rows, 'subject'), measures(rows)];
    return figure({
        id,
        title: 'Probes on other layers',
        run,
        shows: 'The probe of the row’s layer reads the states of the column’s layer, on test examples. Where a block of layers is bright, they keep the label in the same direction.',
        not: 'that the label is missing off the diagonal: it may only point elsewhere.',
        controls: [
            { key: 'set', label: 'Set', options: subjects, usual: subjects[0] },
            { key: 'metric', label: 'Metric', options, usual: options[0][0] },
            hookControl(rows),
        ],
        draw({ set, metric, hook }) {
            const here = pick(rows, { subject: set, hook }).filter((row) => measure(row) === metric);
            return {
                matrix: {
                    title: metric,
                    rows: { label: 'probe of layer', values: distinct(here, 'source_layer').sort((a, b) => a - b) },
                    columns: { label: 'state of layer', values: layersOf(here) },
                    diagonal: true,
                    legend: options.find(([k]) => k === metric)[1],
                    cells: new Map(
                        here.map((row) => [
                            `${row.source_layer}|${row.layer}`,
                            { value: row.estimate, card: () => [[row.metric, withInterval(row)]] },
                        ]),
                    ),
                },
                table: tableOf(here),
                note: behind(run, here),
            };
        },
    });
}

function probeSections() {
    const index = (run) => DATA.runs.indexOf(run);
    const having = (kind) => DATA.runs.filter((run) => pick(rowsOf(run), { kind }).length);
    const probes = having(['probe', 'applied']).map((run) => probeFigure(run, `probe-${index(run)}`));
    const other = DATA.runs.flatMap((run) =>
        [generalisation(run, `sets-${index(run)}`), probeMatrix(run, `probe-layers-${index(run)}`)].filter(Boolean),
    );
    const laws = having('law').map((run) => lawFigure(run, `law-${index(run)}`));
    return [
        probes.length && section('probes', 'Probes', ...probes),
        other.length && section('probe-transfer', 'Probes elsewhere', ...other),
        laws.length && section('law', 'Law of next-token prediction', ...laws),
    ].filter(Boolean);
}
