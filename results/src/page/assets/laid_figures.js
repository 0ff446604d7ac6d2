// Figures of runs that change the model, and others, drawn as the report lays them out.

/** Sections and the runs they hold. */
const LAID = [
    ['parity', 'Is it the model?', ['verify']],
    ['later', 'Future: what one state knows of later tokens', ['future']],
    ['heads', 'What attention heads look at', ['attention']],
    ['changes', 'Changing the model', ['generate', 'schedule', 'trace', 'patch', 'steer']],
    ['attribution', 'What brought the logit', ['attribute']],
    ['thoughts', 'Thoughts fed back', ['think', 'think space']],
    ['concepts', 'What lenses show that is not said', ['lens concepts']],
    ['causal', 'Does the model use what a lens reads?', ['lens causal']],
];

const isLaid = (run) => LAID.some(([, , kinds]) => kinds.includes(run.kind));

/** A line chart of one of the figure's panels. */
function laidLines(laid, panel) {
    const { title, lines, levels } = laid.lines.panels[panel];
    const { log } = laid.lines;
    const drawn = ([x, y, lo, hi]) => ({ x, y, lo, hi });
    const points = lines.map(([name, all]) => ({ name, points: all.map(drawn).filter((p) => !log || p.y > 0) }));
    const xs = [...new Set(points.flatMap((line) => line.points.map((p) => p.x)))].sort((a, b) => a - b);
    const rows = lines.flatMap(([name, all]) => all.map((numbers) => [name, ...numbers]));
    return {
        lines: {
            title: title ? `${laid.title}, ${title}` : laid.title,
            x: { label: laid.lines.x, values: xs, text: (x) => laid.lines.names[x] ?? String(x) },
            y: { label: laid.lines.y, zero: !log, log },
            lines: points,
            references: levels.map(([name, y]) => ({ name, y, lo: null, hi: null })),
        },
        table: {
            head: ['line', laid.lines.x, 'estimate', 'lower', 'upper'],
            rows: [...rows, ...levels.map(([name, y]) => [name, null, y, null, null])],
        },
    };
}

/** One panel of a scatter plot; all panels have the same axes. */
function laidScatter(laid, panel) {
    const { x, y, panels } = laid.scatter;
    const shown = (point) => point[0] > 0 && point[1] > 0;
    const names = [...new Set(panels.flatMap((one) => one.series.map(([name]) => name)))];
    const points = (name) => new Map(panels[panel].series).get(name) ?? [];
    return {
        scatter: {
            title: `${laid.title}, ${panels[panel].title}`,
            x,
            y,
            series: names.map((name) => ({ name, points: points(name).filter(shown) })),
            all: panels.flatMap((one) => one.series.flatMap(([, all]) => all.filter(shown).flat())),
        },
        table: { head: ['', x, y], rows: names.flatMap((name) => points(name).map((point) => [name, ...point])) },
    };
}

/** A heat map; of names that stand twice each has its place. */
function laidMatrix(laid) {
    const { rows, columns, legend, signed, values } = laid.matrix;
    const axis = ([label, names]) => ({
        label,
        values: names.map((_, i) => i),
        text: (i) => String(names[i]),
        named: names.some((name) => typeof name === 'string'),
    });
    const [down, across] = [axis(rows), axis(columns)];
    const cells = new Map();
    down.values.forEach((r) =>
        across.values.forEach((c) => {
            const value = values[r * across.values.length + c];
            if (value !== null) cells.set(`${r}|${c}`, { value, card: () => [[legend, number(value)]] });
        }),
    );
    return {
        matrix: { title: laid.title, rows: down, columns: across, legend, signed, cells },
        table: {
            head: ['', ...columns[1].map(String)],
            rows: rows[1].map((name, r) => [name, ...across.values.map((c) => cells.get(`${r}|${c}`)?.value ?? null)]),
        },
    };
}

/** Bars, each with its number and, in a waterfall, the sum so far. */
function laidBars(laid) {
    const { x, connected, series, bars } = laid.bars;
    const drawn = bars.map(([name, of, from, to, lo, hi]) => ({ name, series: of, from, to, lo, hi }));
    const shown = (name) => drawn.some((bar) => bar.series === name);
    const used = series.map((name, place) => ({ name, place })).filter(({ name }) => shown(name));
    return {
        bars: { title: laid.title, x, connected, series: used, bars: drawn },
        table: {
            head: ['', x, 'so far', 'lower', 'upper'],
            rows: drawn.map(({ name, from, to, lo, hi }) => [name, to - from, connected ? to : null, lo, hi]),
        },
    };
}

/** What lays out a figure of a kind. */
function layerOf({ matrix, scatter, bars }) {
    if (matrix) return laidMatrix;
    if (scatter) return laidScatter;
    return bars ? laidBars : laidLines;
}

/** Figures of a run that lack the same are one, with a choice; panels are chosen apart where all have the same. */
function laidFigure(run, all) {
    const of = (laid) => laid.lines?.panels ?? laid.scatter?.panels ?? [];
    const titles = (laid) => of(laid).map((panel) => panel.title).filter(Boolean);
    const panels = titles(all[0]);
    const apart = all.every((laid) => titles(laid).join() === panels.join());
    const choices = all.flatMap((laid) =>
        apart || titles(laid).length < 2
            ? [[laid, null, laid.title]]
            : titles(laid).map((title, i) => [laid, i, `${laid.title}: ${title}`]),
    );
    return figure({
        id: all[0].id,
        title: all[0].title,
        run,
        shows: all[0].shows,
        not: all[0].not,
        controls: [
            {
                key: 'figure',
                label: 'Figure',
                options: choices.map(([, , title], i) => [String(i), title]),
                usual: '0',
            },
            { key: 'panel', label: 'Panel', options: apart ? panels : [], usual: panels.at(-1) ?? '' },
        ],
        draw({ figure: place, panel }) {
            const [laid, own, title] = choices[Number(place)];
            const drawn = layerOf(laid)(laid, own ?? (apart ? Math.max(0, panels.indexOf(panel)) : 0));
            return { ...drawn, title, shows: laid.shows };
        },
    });
}

/** The sections with these names that have something to show. */
function laidSections(...wanted) {
    return LAID.filter(([id]) => wanted.includes(id)).flatMap(([id, title, kinds]) => {
        const runs = DATA.runs.filter((run) => kinds.includes(run.kind));
        const of = (run) => distinct(run.figures, 'not').map((not) => laidFigure(run, pick(run.figures, { not })));
        const all = runs.flatMap(of);
        return all.length ? [section(id, title, ...all)] : [];
    });
}
