// The law of next-token prediction: residuals by layer, and the reported fit.

function lawFigure(run, id) {
    const rows = pick(rowsOf(run), { kind: 'law' });
    const residuals = rows.filter((row) => row.metric.startsWith('pr'));
    const options = measures(residuals);
    const usual = options.find(([k]) => k.startsWith('pr_held_out'))?.[0] ?? options[0][0];
    return figure({
        id,
        title: 'Law of next-token prediction',
        run,
        shows:
            'The share of the next token’s variance that a linear regression on each layer’s states leaves open, on a log scale. The law (He & Su 2024) says that it falls by the same factor in every layer: a straight line here; the dotted line is the fit to “next”. ' +
            'The other lines regress on something else: shuffled ids mean nothing, the current and the previous token, the one after next.',
        not: 'that the next token becomes linear in the meaning of its id: the ids’ numbers are arbitrary. In-sample residuals fall with the number of dimensions alone; quote the held-out ones.',
        hide: distinct(rows, 'subject').filter((s) => /:shared|log-rank/.test(s)),
        controls: [{ key: 'metric', label: 'Residual', options, usual }],
        draw({ metric }) {
            const here = residuals.filter((row) => measure(row) === metric);
            const fit = fitted(rows, here, metric);
            const law = rows.filter(
                (row) =>
                    row.metric.startsWith('law_') &&
                    // Shuffled ids fall in as straight a line: how straight it is tells nothing.
                    !/pearson|r2/.test(row.metric) &&
                    row.subject === 'next' &&
                    partOf(row.metric) === partOf(metric),
            );
            const said = law
                .map((row) => `${row.metric.replace('law_', '').replace(partOf(row.metric), '')} ${number(row.estimate)}`)
                .join(', ');
            return {
                lines: {
                    title: metric,
                    x: { label: 'layer', values: layersOf(here) },
                    y: { label: options.find(([k]) => k === metric)[1], log: true },
                    lines: [...distinct(here, 'subject').map((s) => lineOf(s, pick(here, { subject: s }))), ...fit],
                    references: [],
                },
                table: tableOf([...here, ...rows.filter((row) => row.metric.startsWith('law_'))]),
                note: said ? `Exponential fit to “next” over layers 1 to L: ${said}. ${behind(run, here)}` : behind(run, here),
            };
        },
    });
}

/** Of which documents a metric is, the end of its name; nothing of those of the fit. */
function partOf(metric) {
    return /_held_out|_cross_validated/.exec(metric)?.[0] ?? '';
}

/** The reported exponential fit through the mean of the fitted points (a least-squares line passes there). */
function fitted(rows, here, metric) {
    const slope = rows.find(
        (row) =>
            row.subject === 'next' && row.metric === `law_slope${partOf(metric)}`,
    );
    const points = here.filter((row) => row.subject === 'next' && row.layer >= 1 && row.estimate > 0);
    if (!slope || metric.startsWith('pr_adjusted') || points.length < 2) return [];
    const mean = (get) => points.reduce((sum, row) => sum + get(row), 0) / points.length;
    const [x, y] = [mean((row) => row.layer), mean((row) => Math.log10(row.estimate))];
    return [
        {
            name: 'fit of next',
            style: { colour: theme().ink, dash: '2 4', marker: 5 },
            points: points.map((row) => ({
                x: row.layer,
                y: 10 ** (y + slope.estimate * (row.layer - x)),
                lo: null,
                hi: null,
            })),
        },
    ];
}
