// A line chart: lines with ribbons over layers, reference lines, marks, a cross-hair that reads every line.

const MARKERS = [
    (x, y) => svg('circle', { cx: x, cy: y, r: 3.2 }),
    (x, y) => svg('rect', { x: x - 3, y: y - 3, width: 6, height: 6 }),
    (x, y) => svg('path', { d: `M${x} ${y - 4}l4 7h-8z` }),
    (x, y) => svg('path', { d: `M${x} ${y - 4.4}l4.4 4.4l-4.4 4.4l-4.4 -4.4z` }),
    (x, y) => svg('path', { d: `M${x} ${y + 4}l4 -7h-8z` }),
    (x, y) => svg('path', { d: `M${x - 3.5} ${y}h7M${x} ${y - 3.5}v7`, 'stroke-width': 2 }),
];

/**
 * `spec`: { title, x: {label, values, text}, y: {label, log, zero, limits}, lines: [{name, points: [{x, y, lo, hi}],
 * style, thin}], references: [{name, y, lo, hi}], marks: [{x, y, text}], bands: [{x, text}], hidden, onToggle, open }.
 * `x` values are places 0, 1, 2 … of `spec.x.values`; points name the value.
 */
function lineChart(spec, width) {
    const ink = theme();
    const shown = spec.lines.filter((line) => !spec.hidden.has(line.name));
    const references = spec.references.filter((line) => !spec.hidden.has(line.name));
    const entries = [...spec.lines, ...spec.references];
    const legend = flow(
        entries.map((line) => line.name),
        width - 16,
    );
    const numbers = [
        ...shown.flatMap((l) => l.points.flatMap((p) => [p.y, p.lo, p.hi])),
        ...references.flatMap((r) => [r.y, r.lo, r.hi]),
    ].filter((v) => v !== null && v !== undefined);
    const top = legend.height + 24;
    const height = top + Math.max(220, Math.min(340, width * 0.42)) + 44;
    const probe = scale(numbers, [height - 44, top], spec.y);
    const left = 16 + Math.max(...probe.ticks.map((t) => widthOf(number(t)))) + 8;
    const y = probe;
    const names = spec.x.values.map(spec.x.text ?? String);
    const span = [left + 10, width - Math.max(16, widthOf(names.at(-1) ?? '') / 2 + 4)];
    const last = Math.max(1, spec.x.values.length - 1);
    const place = new Map(
        spec.x.values.map((value, i) => [
            value,
            span[0] + (spec.x.values.length > 1 ? i / last : 0.5) * (span[1] - span[0]),
        ]),
    );
    const chart = emptyChart(spec.title, 'values', width, height);
    chart.append(...frame(spec, { y, place, left, top, width, height, ink }));
    for (const line of references) chart.append(...reference(line, entries.indexOf(line), { y, span }));
    for (const line of shown) chart.append(ribbon(line, entries.indexOf(line), { y, place }));
    for (const line of shown)
        chart.append(...curve(line, entries.indexOf(line), { y, place, many: spec.x.values.length > 40 }));
    for (const mark of spec.marks ?? []) {
        if (spec.hidden.has(mark.of)) continue;
        const at = [place.get(mark.x), y.at(mark.y)];
        chart.append(
            svg('circle', {
                cx: at[0],
                cy: at[1],
                r: 7.5,
                fill: 'none',
                stroke: ink.ink,
                'stroke-width': mark.text ? 1.6 : 1,
                'stroke-dasharray': mark.text ? '' : '2 2',
            }),
        );
        if (!mark.text) continue;
        const right = at[0] > span[1] - widthOf(mark.text) - 14;
        chart.append(
            label(mark.text, at[0] + (right ? -11 : 11), at[1] - 15, {
                'text-anchor': right ? 'end' : 'start',
                ...halo(ink),
            }),
        );
    }
    chart.append(legendNode(entries, legend, spec));
    crosshair(chart, spec, shown, references, { place, top, bottom: height - 44, ink });
    return chart;
}

const halo = (ink) => ({ stroke: ink.paper, 'stroke-width': 3, 'paint-order': 'stroke', 'stroke-linejoin': 'round' });

/** Ticks, grid, names of the axes. */
function frame(spec, { y, place, left, top, width, height, ink }) {
    const parts = [];
    for (const tick of y.ticks) {
        const at = y.at(tick);
        parts.push(svg('line', { x1: left, x2: width - 8, y1: at, y2: at, stroke: ink.grid }));
        parts.push(label(number(tick), left - 6, at + 4, { 'text-anchor': 'end', fill: ink.muted }));
    }
    const text = spec.x.text ?? String;
    const room = Math.max(...spec.x.values.map((value) => widthOf(text(value)))) + 10;
    for (const value of thinned(spec.x.values, width - left - 16, room)) {
        const at = place.get(value);
        parts.push(svg('line', { x1: at, x2: at, y1: height - 44, y2: height - 39, stroke: ink.muted }));
        parts.push(label(text(value), at, height - 25, { 'text-anchor': 'middle', fill: ink.muted }));
    }
    parts.push(svg('line', { x1: left, x2: width - 8, y1: height - 44, y2: height - 44, stroke: ink.muted }));
    parts.push(label(spec.x.label, (left + width) / 2, height - 7, { 'text-anchor': 'middle' }));
    parts.push(label(cut(spec.y.label + (spec.y.log ? ' (log scale)' : ''), width - 20), 8, top - 10));
    return parts;
}

/** A horizontal line with its interval. */
function reference(line, i, { y, span }) {
    const { colour, dash } = line.style ?? styleOf(i);
    const at = y.at(line.y);
    const band =
        line.lo === null || line.lo === undefined
            ? []
            : [
                  svg('rect', {
                      x: span[0],
                      width: span[1] - span[0],
                      y: y.at(line.hi),
                      height: Math.max(0, y.at(line.lo) - y.at(line.hi)),
                      fill: colour,
                      opacity: 0.12,
                  }),
              ];
    return [
        ...band,
        svg('line', {
            x1: span[0],
            x2: span[1],
            y1: at,
            y2: at,
            stroke: colour,
            'stroke-width': 1.5,
            'stroke-dasharray': dash || '5 4',
        }),
    ];
}

function ribbon(line, i, { y, place }) {
    const points = line.points.filter((p) => p.lo !== null && p.lo !== undefined);
    if (points.length === 1) {
        const x = place.get(points[0].x);
        return svg('path', { d: `M${x} ${y.at(points[0].lo)}V${y.at(points[0].hi)}`, stroke: styleOf(i).colour });
    }
    if (!points.length) return '';
    const upper = points.map((p) => `${place.get(p.x)} ${y.at(p.hi)}`);
    const lower = points.map((p) => `${place.get(p.x)} ${y.at(p.lo)}`).reverse();
    return svg('path', { d: `M${[...upper, ...lower].join('L')}z`, fill: styleOf(i).colour, opacity: 0.18 });
}

/** The line, broken where a point has no value, and a marker per point unless there are many. */
function curve(line, i, { y, place, many }) {
    const { colour, dash, marker } = line.style ?? styleOf(i);
    let path = '';
    let open = false;
    for (const p of line.points) {
        const known = p.y !== null && Number.isFinite(p.y);
        if (known) path += `${open ? 'L' : 'M'}${place.get(p.x)} ${y.at(p.y)}`;
        open = known;
    }
    const every = many ? Math.ceil(line.points.length / 16) : 1;
    const points = line.points.filter((p, j) => p.y !== null && (j % every === 0 || j === line.points.length - 1));
    const dots = svg(
        'g',
        { fill: colour, stroke: colour },
        points.map((p) => MARKERS[marker](place.get(p.x), y.at(p.y))),
    );
    return [
        svg('path', {
            d: path || 'M0 0',
            fill: 'none',
            stroke: colour,
            'stroke-width': 2,
            'stroke-dasharray': dash,
            'stroke-linejoin': 'round',
        }),
        dots,
    ];
}

/** Names of the lines; a click hides or shows one. */
function legendNode(entries, { places }, spec) {
    const items = entries.map((line, i) => {
        const { colour, dash, marker } = line.style ?? styleOf(i);
        const { x, y, width } = places[i];
        const flip = () => spec.onToggle(line.name);
        const off = spec.hidden.has(line.name);
        return svg(
            'g',
            {
                transform: `translate(${x + 8} ${y + 12})`,
                role: 'button',
                tabindex: 0,
                class: 'entry',
                'data-line': line.name,
                opacity: off ? 0.4 : 1,
                'aria-pressed': String(!off),
                'aria-label': `${line.name}: shown or not`,
                onclick: flip,
                onkeydown: (event) => {
                    if (event.key === 'Enter' || event.key === ' ') {
                        event.preventDefault();
                        flip();
                    }
                },
            },
            svg('rect', { x: -3, y: -11, width: width - 6, height: 19, fill: 'transparent' }),
            svg('line', {
                x1: 0,
                x2: 28,
                y1: 0,
                y2: 0,
                stroke: colour,
                'stroke-width': 2,
                'stroke-dasharray': line.points ? dash : dash || '5 4',
            }),
            line.points ? svg('g', { fill: colour, stroke: colour }, MARKERS[marker](14, 0)) : '',
            label(line.name, 34, 4, {
                'unicode-bidi': 'isolate',
                ...(off ? { 'text-decoration': 'line-through' } : {}),
            }),
        );
    });
    return svg('g', {}, items);
}
