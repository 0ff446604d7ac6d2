// Lenses by layer, and future lenses by layer and horizon.

const LENSES = ['logit', 'tuned', 'shared', 'linear', 'future', 'shift'];
const isLens = (row) =>
    ![
        'model',
        'baseline',
        'probe',
        'law',
        'transfer',
        'transfer-corrected',
        'reader',
        'geometry',
        'generalisation',
        'probe-transfer',
    ].includes(row.kind);

const layersOf = (rows) => distinct(rows, 'layer').sort((a, b) => a - b);
const pointsOf = (rows) =>
    [...rows]
        .sort((a, b) => a.layer - b.layer)
        .map((row) => ({ x: row.layer, y: row.estimate, lo: row.lower, hi: row.upper }));
const lineOf = (name, rows) => ({ name, points: pointsOf(rows) });
const referenceOf = (name, row) => ({ name, y: row.estimate, lo: row.lower, hi: row.upper });
/** A chart's rows with the file's own columns. */
const COLUMNS = [
    'subject',
    'kind',
    'hook',
    'layer',
    'source_layer',
    'horizon',
    'metric',
    'unit',
    'estimate',
    'lower',
    'upper',
    'n',
    'n_clusters',
];
const tableOf = (rows) => ({ head: COLUMNS, rows: rows.map((row) => COLUMNS.map((name) => row[name])) });
/** What the numbers rest on: `20,000 tokens, 83 documents.` */
const behind = (run, rows) => {
    if (!rows.length) return '';
    const [item, items, cluster, clusters] = run.counted;
    const said = (n, one, several) => `${n.toLocaleString('en')} ${n === 1 ? one : several}`;
    return `${said(rows[0].n, item, items)}, ${said(rows[0].n_clusters, cluster, clusters)}.`;
};

function lensCurves(run, id) {
    const rows = rowsOf(run).filter((row) => isLens(row) && row.horizon === 1);
    const byLayer = rows.filter((row) => !/^(prediction_depth|exit_)/.test(row.metric));
    const options = measures(byLayer);
    return figure({
        id,
        title: 'Lenses by layer',
        run,
        shows:
            'How well each lens says, at every layer, what the model will say. KL is the distance from the model’s own prediction, in nats: zero is the same prediction. ' +
            'Where a curve comes down early, the prediction takes shape early. The dashed line of the model is what the model itself reaches with all layers.',
        not: 'whether the model uses what a lens finds. A fitted lens may know things that the model computes only later; the logit lens, which is not fitted, may miss what stands there in another basis.',
        controls: [
            {
                key: 'metric',
                label: 'Metric',
                options,
                usual: options.some(([k]) => k === 'kl, nats') ? 'kl, nats' : options[0][0],
            },
            hookControl(rows),
            SCALE,
        ],
        draw({ metric, hook, scale: asked }) {
            const here = byLayer.filter((row) => measure(row) === metric && row.hook === hook);
            const beside = rowsOf(run).filter(
                (row) => ['model', 'baseline'].includes(row.kind) && row.horizon === 1 && measure(row) === metric,
            );
            const lines = distinct(here, 'subject').map((name) => lineOf(name, pick(here, { subject: name })));
            return {
                lines: {
                    title: `${metric} by layer`,
                    x: { label: 'layer', values: layersOf(here) },
                    y: {
                        label: options.find(([k]) => k === metric)[1],
                        zero: !/^(ce|entropy)/.test(metric),
                        limits: limitsOf(metric),
                        log: logScale(asked, here),
                    },
                    lines,
                    references: beside.map((row) => referenceOf(row.kind === 'model' ? 'model' : row.subject, row)),
                },
                table: tableOf([...here, ...beside]),
                note: behind(run, here),
            };
        },
    });
}

/** Depth and early exit: single numbers per lens. */
function depthTable(run) {
    const rows = rowsOf(run).filter((row) => /^(prediction_depth|exit_)/.test(row.metric));
    if (!rows.length) return null;
    const metrics = distinct(rows, 'metric');
    const subjects = distinct(rows, 'subject');
    const cell = (subject, metric) => {
        const row = rows.find((r) => r.subject === subject && r.metric === metric);
        return row ? withInterval(row) : null;
    };
    return el(
        'details',
        { class: 'figure' },
        el('summary', {}, 'Prediction depth and early exit'),
        el(
            'p',
            {},
            'Prediction depth: the mean of the first layer from which on the lens’s first token is the model’s. Exit rules stop reading as soon as they hold: the mean layer of the stop, and how often the token found there is the model’s.',
        ),
        el(
            'div',
            { class: 'scroll', tabindex: 0 },
            tableNode(
                { head: ['', ...subjects], rows: metrics.map((m) => [m, ...subjects.map((s) => cell(s, m))]) },
                'Prediction depth and early exit',
            ),
        ),
    );
}

function futureFigure(run, id) {
    const rows = pick(rowsOf(run), { kind: 'future' });
    const horizons = distinct(rows, 'horizon').sort((a, b) => a - b);
    const subjects = distinct(rows, 'subject');
    const ahead = rows.filter((row) => row.horizon > 1);
    const options = measures(ahead.length ? ahead : rows);
    const usual = options.some(([k]) => k === 'accuracy, share') ? 'accuracy, share' : options[0][0];
    return figure({
        id,
        title: 'Future lens',
        run,
        shows:
            'How much of what comes several tokens later can be read from one state. Horizon 1 is the next token, horizon k the k-th one (the Future Lens paper’s N is k − 1). ' +
            'The lens sees one state and none of the tokens between. Dashed lines are baselines that look at token counts only: bigram has seen the token just before the one to predict, which the lens has not; skipgram is as blind as the lens; unigram always says the commonest token.',
        not: 'that the model plans ahead. A token may be predictable because texts repeat: only what lies above the skipgram line is more than counting.',
        controls: [
            { key: 'metric', label: 'Metric', options, usual },
            {
                key: 'horizon',
                label: 'Horizon',
                options: [
                    ['all', 'all, one line each'],
                    ['map', 'all, as a map'],
                    ...horizons.map((h) => [String(h), `${h} ahead`]),
                ],
                usual: 'all',
            },
            { key: 'lens', label: 'Lens', options: subjects, usual: subjects[0] },
        ],
        draw({ metric, horizon, lens }) {
            const here = pick(rows, { subject: lens }).filter((row) => measure(row) === metric);
            const beside = pick(rowsOf(run), { kind: 'baseline' }).filter((row) => measure(row) === metric);
            const name = options.find(([k]) => k === metric)[1];
            if (horizon === 'map') {
                return {
                    matrix: {
                        title: `${metric} by layer and horizon`,
                        rows: { label: 'layer', values: layersOf(here) },
                        columns: { label: 'horizon', values: horizons },
                        legend: name,
                        cells: new Map(
                            here.map((row) => [
                                `${row.layer}|${row.horizon}`,
                                {
                                    value: row.estimate,
                                    card: () => [
                                        [name, withInterval(row)],
                                        ...pick(beside, { horizon: row.horizon }).map((b) => [
                                            b.subject,
                                            withInterval(b),
                                        ]),
                                    ],
                                },
                            ]),
                        ),
                    },
                    table: tableOf([...here, ...beside]),
                    note: behind(run, here),
                };
            }
            const all = horizon === 'all';
            const chosen = all ? here : here.filter((row) => String(row.horizon) === horizon);
            const shown = beside.filter((row) => (all ? row.subject === 'skipgram' : String(row.horizon) === horizon));
            const lines = distinct(chosen, 'horizon').map((h) => lineOf(`${h} ahead`, pick(chosen, { horizon: h })));
            const references = shown.map((row) => ({
                ...referenceOf(all ? `${row.subject}, ${row.horizon} ahead` : row.subject, row),
                style: all ? { ...styleOf(horizons.indexOf(row.horizon)), dash: '3 4' } : undefined,
            }));
            return {
                lines: {
                    title: `${metric} by layer`,
                    x: { label: 'layer', values: layersOf(chosen) },
                    y: { label: name, zero: true, limits: limitsOf(metric) },
                    lines,
                    references,
                },
                table: tableOf([...chosen, ...shown]),
                note: behind(run, chosen),
            };
        },
    });
}

function lensSections() {
    const evals = DATA.runs.filter(
        (run) =>
            !isLaid(run) && rowsOf(run).some((row) => isLens(row) && row.horizon === 1 && LENSES.includes(row.kind)),
    );
    const futures = DATA.runs.filter(
        (run) => !isLaid(run) && pick(rowsOf(run), { kind: 'future' }).some((row) => row.horizon > 1),
    );
    return [
        evals.length &&
            section(
                'lenses',
                'Lenses by layer',
                ...evals.flatMap((run) =>
                    [lensCurves(run, `lens-${DATA.runs.indexOf(run)}`), depthTable(run)].filter(Boolean),
                ),
            ),
        futures.length &&
            section(
                'future',
                'Future lens',
                ...futures.map((run) => futureFigure(run, `future-${DATA.runs.indexOf(run)}`)),
            ),
    ].filter(Boolean);
}
