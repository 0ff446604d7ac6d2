// A heat map of numbers, such as layers against layers, with a colour scale and a card per cell.

/**
 * `spec`: { title, rows: {label, values, text, named}, columns: {label, values, text, named}, cells: Map "row|column" -> {value, card},
 * signed, legend, diagonal }. The first row is drawn at the bottom, as layers are, unless rows are `named`.
 */
function matrixChart(spec, width) {
    const ink = theme();
    const [rows, columns] = [spec.rows.values, spec.columns.values];
    const [rowText, columnText] = [spec.rows.text ?? String, spec.columns.text ?? String];
    const left = 30 + Math.min(180, Math.max(...rows.map((r) => widthOf(rowText(r)))));
    const side = Math.max(3, Math.min(44, Math.floor((Math.min(width, 760) - left - 12) / columns.length)));
    const tall = Math.max(3, Math.min(side, Math.floor(620 / rows.length)));
    const widest = Math.min(120, Math.max(...columns.map((c) => widthOf(columnText(c)))));
    const turned = spec.columns.named && widest > side - 4;
    const [top, below] = [54, 46 + (turned ? widest - 8 : 0)];
    const size = [Math.max(left + side * columns.length + 12, Math.min(width, 320)), top + tall * rows.length + below];
    const values = [...spec.cells.values()].map((cell) => cell.value).filter(Number.isFinite);
    const paint = painter(values, spec.signed);
    const chart = emptyChart(spec.title, 'cells', size[0], size[1]);
    chart.append(...scaleBar(spec, paint, size[0], ink));
    const line = (r) => (spec.rows.named ? r : rows.length - 1 - r);
    const at = (r, c) => [left + c * side, top + line(r) * tall];
    const digits = side >= 38 && tall >= 22;
    const gap = side > 12 ? 1 : 0;
    rows.forEach((row, r) =>
        columns.forEach((column, c) => {
            const cell = spec.cells.get(`${row}|${column}`);
            const [x, y] = at(r, c);
            if (!cell || !Number.isFinite(cell.value)) {
                chart.append(
                    svg('rect', { x, y, width: side - gap, height: tall - gap, fill: 'none', stroke: ink.grid }),
                );
                return;
            }
            const rgb = paint.rgb(cell.value);
            chart.append(
                svg('rect', {
                    x,
                    y,
                    width: side - gap,
                    height: tall - gap,
                    fill: css(rgb),
                    'shape-rendering': 'crispEdges',
                }),
            );
            if (digits) {
                chart.append(
                    label(short(cell.value), x + side / 2 - 0.5, y + tall / 2 + 4, {
                        'text-anchor': 'middle',
                        'font-size': 11,
                        fill: onTop(rgb),
                    }),
                );
            }
            if (spec.diagonal && row === column) {
                chart.append(
                    svg('rect', {
                        x: x + 0.5,
                        y: y + 0.5,
                        width: side - gap - 1,
                        height: tall - gap - 1,
                        fill: 'none',
                        stroke: onTop(rgb),
                        'stroke-width': side > 10 ? 1.5 : 0.75,
                        'stroke-dasharray': side > 10 ? '3 2' : '',
                    }),
                );
            }
        }),
    );
    const middle = (i, step) => i * step + step / 2;
    for (const value of thinned(columns, side * columns.length, turned ? 16 : widest + 8)) {
        const [x, y] = [left + middle(columns.indexOf(value), side), top + tall * rows.length + 16];
        chart.append(
            label(cut(columnText(value), 120), x + (turned ? 4 : 0), y - (turned ? 6 : 0), {
                'text-anchor': turned ? 'end' : 'middle',
                fill: ink.muted,
                ...(turned ? { transform: `rotate(-90 ${x + 4} ${y - 6})` } : {}),
            }),
        );
    }
    for (const value of thinned(rows, tall * rows.length, 16)) {
        chart.append(
            label(cut(rowText(value), 180), left - 6, at(rows.indexOf(value), 0)[1] + tall / 2 + 4, {
                'text-anchor': 'end',
                fill: ink.muted,
            }),
        );
    }
    const centre = top + (tall * rows.length) / 2;
    chart.append(
        label(spec.columns.label, left + (side * columns.length) / 2, top + tall * rows.length + below - 10, {
            'text-anchor': 'middle',
        }),
    );
    chart.append(
        label(spec.rows.label, 14, centre, { 'text-anchor': 'middle', transform: `rotate(-90 14 ${centre})` }),
    );
    pointing(chart, spec, { rows, columns, rowText, columnText, at, line, side, tall, left, top, ink });
    return chart;
}

/** Two or three digits for the inside of a cell. */
function short(x) {
    if (x === 0) return '0';
    const size = Math.abs(x);
    const text = size >= 100 ? x.toFixed(0) : size >= 10 ? x.toFixed(1) : x.toFixed(2);
    return /[1-9]/.test(text) ? text.replace('-', '−') : text.replace('-', '');
}

/** From values to colours: sequential, or diverging around zero. */
function painter(values, signed) {
    const [lo, hi] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    if (signed && lo < 0) {
        const end = Math.max(-lo, hi) || 1;
        return { lo: -end, hi: end, rgb: (v) => along(DIVERGING, (v / end + 1) / 2) };
    }
    const room = hi - lo || 1;
    return { lo, hi, rgb: (v) => along(palette(), (v - lo) / room) };
}

/** The colour scale above the chart, with its ends and its name. */
function scaleBar(spec, { lo, hi, rgb }, width, ink) {
    const ends = [number(lo), number(hi)];
    const from = 10 + widthOf(ends[0]) + 6;
    const steps = 48;
    const long = Math.min(220, width - from - widthOf(ends[1]) - 24);
    const bar = Array.from({ length: steps }, (_, i) =>
        svg('rect', {
            x: from + (i * long) / steps,
            y: 24,
            width: long / steps + 0.5,
            height: 12,
            fill: css(rgb(lo + (i / (steps - 1)) * (hi - lo))),
        }),
    );
    return [
        label(cut(spec.legend, width - 16), 10, 14),
        label(ends[0], 10, 34, { fill: ink.muted }),
        ...bar,
        label(ends[1], from + long + 6, 34, { fill: ink.muted }),
    ];
}

/** The card of the cell under the pointer, or of the one the arrow keys have come to. */
function pointing(chart, spec, { rows, columns, rowText, columnText, at, line, side, tall, left, top, ink }) {
    const ring = (stroke, width) =>
        svg('rect', { width: side, height: tall, fill: 'none', stroke, 'stroke-width': width });
    const mark = svg('g', { visibility: 'hidden', 'data-hover': '' }, ring(ink.paper, 4), ring(ink.ink, 2)); // seen on any colour
    chart.append(mark);
    let now = [-1, 0];
    const read = (r, c, event) => {
        now = [r, c];
        const cell = spec.cells.get(`${rows[r]}|${columns[c]}`);
        const [x, y] = at(r, c);
        mark.setAttribute('transform', `translate(${x - 0.5} ${y - 0.5})`);
        mark.setAttribute('visibility', 'visible');
        const head = `${spec.rows.label} ${rowText(rows[r])}, ${spec.columns.label} ${columnText(columns[c])}`;
        const lines = cell ? cell.card() : [['', 'not measured']];
        showCard(
            event ?? chart,
            x + side,
            el(
                'div',
                {},
                el('strong', {}, head),
                el(
                    'table',
                    {},
                    lines.map(([name, text]) => el('tr', {}, el('td', {}, name), el('td', { class: 'number' }, text))),
                ),
            ),
            y,
        );
        if (!event) announce(`${head}: ${lines.map((line) => line.join(' ')).join('; ')}`);
    };
    const away = () => {
        mark.setAttribute('visibility', 'hidden');
        hideCard();
    };
    chart.addEventListener('pointermove', (event) => {
        const box = chart.getBoundingClientRect();
        const c = Math.floor((event.clientX - box.left - left) / side);
        const r = line(Math.floor((event.clientY - box.top - top) / tall)); // its own inverse
        if (r < 0 || c < 0 || r >= rows.length || c >= columns.length) return away();
        return read(r, c, event);
    });
    chart.addEventListener('pointerleave', away);
    chart.addEventListener('blur', away);
    chart.addEventListener('keydown', (event) => {
        const up = spec.rows.named ? -1 : 1;
        const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [up, 0], ArrowDown: [-up, 0] }[event.key];
        if (event.key === 'Escape') away();
        if (!move) return;
        event.preventDefault();
        const within = (v, n) => Math.min(n - 1, Math.max(0, v));
        read(within(now[0] + move[0], rows.length), within(now[1] + move[1], columns.length));
    });
}
