// Every translator on every layer's states: the transfer matrix, the other lenses beside it, and how alike layers are.

function transferMatrix(run, id) {
    const rows = pick(rowsOf(run), { kind: ['transfer', 'transfer-corrected'] });
    const subjects = distinct(rows, 'subject');
    const order = ['penalty_state', 'penalty_lens', 'ce', 'kl', 'agreement', 'kl_native'];
    const metrics = distinct(rows, 'metric').sort(
        (a, b) => ((order.indexOf(a) + 99) % 99) - ((order.indexOf(b) + 99) % 99),
    );
    const all = new Map(rows.map((row) => [[row.subject, row.metric, row.source_layer, row.layer].join('|'), row]));
    return figure({
        id,
        title: 'Transfer',
        run,
        shows:
            'The translator fitted for the layer of the row reads states of the layer of the column; the dashed diagonal is each translator at home. ' +
            'The penalty to the state’s own lens, CE[i, j] − CE[j, j], is what it costs to read layer j with another layer’s translator; the penalty to the lens’s own state, CE[i, j] − CE[i, i], is what it costs a translator to leave home. ' +
            'Small values near the diagonal mean that neighbouring layers write in nearly the same code. Relative: the penalty over the CE at home.',
        not: 'why two layers differ. A penalty may come from a mere shift or rotation of the states: the corrected lenses (+shift, +moments, +rotation) undo these first.',
        controls: [
            { key: 'lens', label: 'Lens', options: subjects, usual: subjects[0] },
            { key: 'metric', label: 'Metric', options: metrics.map((m) => [m, METRICS[m] ?? m]), usual: metrics[0] },
            { key: 'of', label: 'As', options: ['absolute', 'relative'], usual: 'absolute' },
        ],
        draw({ lens, metric, of }) {
            const here = pick(rows, { subject: lens, metric });
            const at = (what, i, j) => all.get([lens, what, i, j].join('|'));
            const home = (row) =>
                metric === 'penalty_lens'
                    ? at('ce', row.source_layer, row.source_layer)
                    : at('ce', row.layer, row.layer);
            const diagonal = (row) => at(metric, row.layer, row.layer);
            const penalty = metric.startsWith('penalty');
            const relative = (row) => {
                const base = (penalty ? home(row) : diagonal(row))?.estimate;
                return base ? row.estimate / base - (penalty ? 0 : 1) : NaN;
            };
            const card = (row) => () => {
                const { source_layer: i, layer: j } = row;
                const line = (what) => [METRICS[what], at(what, i, j) ? withInterval(at(what, i, j)) : '–'];
                return [...new Set([metric, 'penalty_state', 'penalty_lens', 'ce', 'kl'])]
                    .map(line)
                    .concat([['relative', percentSigned(relative(row))]]);
            };
            const layers = layersOf(here);
            return {
                matrix: {
                    title: `${METRICS[metric]} of ${lens}`,
                    rows: { label: 'lens of layer', values: distinct(here, 'source_layer').sort((a, b) => a - b) },
                    columns: { label: 'state of layer', values: layers },
                    diagonal: true,
                    signed: penalty || of === 'relative',
                    legend:
                        of === 'relative'
                            ? `${METRICS[metric] ?? metric}, ${penalty ? 'as a share of CE at home' : 'less the diagonal’s, as a share of it'}`
                            : `${METRICS[metric] ?? metric} (${here[0]?.unit})`,
                    cells: new Map(
                        here.map((row) => [
                            `${row.source_layer}|${row.layer}`,
                            { value: of === 'relative' ? relative(row) : row.estimate, card: card(row) },
                        ]),
                    ),
                },
                table: tableOf(here),
                note: behind(run, here),
            };
        },
    });
}

const percentSigned = (x) => (Number.isFinite(x) ? `${x > 0 ? '+' : ''}${number(100 * x)} %` : '–');

/** What one lens for all layers leaves open, beside the lens that has a translator per layer. */
function readersFigure(run, id) {
    const rows = rowsOf(run);
    const readers = pick(rows, { kind: 'reader' });
    if (!readers.length) return null;
    const own = pick(rows, { kind: 'transfer' }).filter((row) => row.layer === row.source_layer);
    const options = measures(readers);
    return figure({
        id,
        title: 'One lens for every layer?',
        run,
        shows:
            'Other lenses on each layer’s own states, beside the lens that has a translator per layer (the matrix’s diagonal). A shared lens that lies close to it reads all layers with one map: they share a code. ' +
            'The rotated control has as many parameters but states turned differently in every layer; it should do badly. The constant line is a prediction that never changes.',
        not: 'that the layers do the same work: they can share a code and still say different things in it.',
        controls: [{ key: 'metric', label: 'Metric', options, usual: options[0][0] }, SCALE],
        draw({ metric, scale: asked }) {
            const here = readers.filter((row) => measure(row) === metric);
            const home = own.filter((row) => measure(row) === metric);
            const constant = pick(rows, { kind: 'baseline' }).filter((row) => measure(row) === metric);
            return {
                lines: {
                    title: `${metric} by layer`,
                    x: { label: 'layer', values: layersOf([...here, ...home]) },
                    y: {
                        label: options.find(([k]) => k === metric)[1],
                        zero: true,
                        limits: limitsOf(metric),
                        log: logScale(asked, [...here, ...home]),
                    },
                    lines: [
                        ...distinct(home, 'subject').map((s) =>
                            lineOf(`${s}, one per layer`, pick(home, { subject: s })),
                        ),
                        ...distinct(here, 'subject').map((s) => lineOf(s, pick(here, { subject: s }))),
                    ],
                    references: constant.map((row) => referenceOf(row.subject, row)),
                },
                table: tableOf([...home, ...here, ...constant]),
                note: behind(run, here),
            };
        },
    });
}

function geometryFigure(run, id) {
    const rows = pick(rowsOf(run), { kind: 'geometry' });
    if (!rows.length) return null;
    const metrics = distinct(rows, 'metric');
    return figure({
        id,
        title: 'How alike are the layers?',
        run,
        shows: 'Similarity of the states of two layers. CKA does not see rotations; the cosine of covariances does. Where states lie in the same directions, translators can be exchanged. “Without outliers” leaves out the three largest dimensions of each layer, “without first” the first token of every window.',
        not: 'what the states mean. These numbers have no intervals.',
        controls: [
            {
                key: 'metric',
                label: 'Metric',
                options: metrics.map((m) => [m, METRICS[m] ?? m.replaceAll('_', ' ')]),
                usual: metrics[0],
            },
        ],
        draw({ metric }) {
            const here = pick(rows, { metric });
            const layers = [...new Set(here.flatMap((row) => [row.layer, row.source_layer]))].sort((a, b) => a - b);
            const card = (row) => () => [[metric.replaceAll('_', ' '), withInterval(row)]];
            const both = here.flatMap((row) => [
                [`${row.source_layer}|${row.layer}`, row],
                [`${row.layer}|${row.source_layer}`, row],
            ]);
            return {
                matrix: {
                    title: metric,
                    rows: { label: 'layer', values: layers },
                    columns: { label: 'layer', values: layers },
                    signed: true,
                    legend: METRICS[metric] ?? metric.replaceAll('_', ' '),
                    cells: new Map(both.map(([key, row]) => [key, { value: row.estimate, card: card(row) }])),
                },
                table: tableOf(here),
            };
        },
    });
}

function transferSection() {
    const runs = DATA.runs.filter((run) => pick(rowsOf(run), { kind: 'transfer' }).length);
    const parts = runs.flatMap((run) => {
        const i = DATA.runs.indexOf(run);
        return [
            transferMatrix(run, `transfer-${i}`),
            readersFigure(run, `readers-${i}`),
            geometryFigure(run, `geometry-${i}`),
        ].filter(Boolean);
    });
    return parts.length ? section('transfer', 'Transfer between layers', ...parts) : null;
}
