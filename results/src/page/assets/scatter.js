// Points between two logarithmic axes, a broken line where both numbers are one, a card for the nearest point.

/**
 * `spec`: { title, x: label, y: label, series: [{name, points: [[x, y]]}], all: every number the axes have to show, hidden, onToggle }.
 */
function scatterChart(spec, width) {
    const ink = theme();
    const legend = flow(
        spec.series.map((one) => one.name),
        width - 16,
    );
    const top = legend.height + 24;
    const side = Math.min(420, width - 110);
    const height = top + side + 44;
    const y = scale(spec.all, [top + side, top], { log: true });
    const left = 16 + Math.max(...y.ticks.map((t) => widthOf(number(t)))) + 8;
    const x = scale(spec.all, [left, left + side], { log: true });
    const chart = emptyChart(spec.title, 'points', width, height);
    for (const tick of y.ticks) {
        chart.append(svg('line', { x1: left, x2: left + side, y1: y.at(tick), y2: y.at(tick), stroke: ink.grid }));
        chart.append(label(number(tick), left - 6, y.at(tick) + 4, { 'text-anchor': 'end', fill: ink.muted }));
    }
    const room = Math.max(...x.ticks.map((t) => widthOf(number(t)))) + 10;
    for (const tick of thinned(x.ticks, side, room)) {
        const at = x.at(tick);
        chart.append(svg('line', { x1: at, x2: at, y1: top, y2: top + side, stroke: ink.grid }));
        chart.append(label(number(tick), at, top + side + 18, { 'text-anchor': 'middle', fill: ink.muted }));
    }
    chart.append(label(spec.x, left + side / 2, height - 7, { 'text-anchor': 'middle' }));
    chart.append(label(cut(spec.y, width - 20), 8, top - 10));
    const [lo, hi] = [Math.max(x.lo, y.lo), Math.min(x.hi, y.hi)];
    chart.append(
        svg('line', {
            x1: x.at(lo),
            y1: y.at(lo),
            x2: x.at(hi),
            y2: y.at(hi),
            stroke: ink.muted,
            'stroke-dasharray': '5 4',
        }),
    );
    const places = [];
    spec.series.forEach((one, i) => {
        if (spec.hidden.has(one.name)) return;
        const { colour, marker } = styleOf(i);
        for (const point of one.points) {
            const at = [x.at(point[0]), y.at(point[1])];
            places.push({ at, point, name: one.name });
            chart.append(svg('g', { fill: colour, stroke: colour }, MARKERS[marker](...at)));
        }
    });
    chart.append(legendNode(spec.series, legend, spec));
    nearest(chart, spec, places, ink);
    return chart;
}

/** The card of the point nearest to the pointer, or of the one the arrow keys have come to, from left to right. */
function nearest(chart, spec, places, ink) {
    places.sort((a, b) => a.at[0] - b.at[0]);
    const ring = svg('circle', { r: 7, fill: 'none', stroke: ink.ink, visibility: 'hidden', 'data-hover': '' });
    chart.append(ring);
    let now = -1;
    const read = (i, event) => {
        if (!places[i]) return;
        now = i;
        const { at, point, name } = places[i];
        ring.setAttribute('cx', at[0]);
        ring.setAttribute('cy', at[1]);
        ring.setAttribute('visibility', 'visible');
        const rows = [
            [spec.x, number(point[0])],
            [spec.y, number(point[1])],
        ];
        const lines = rows.map(([what, text]) =>
            el('tr', {}, el('td', {}, what), el('td', { class: 'number' }, text)),
        );
        showCard(event ?? chart, at[0], el('div', {}, el('strong', {}, name), el('table', {}, lines)), at[1]);
        if (!event) announce(`${name}: ${rows.map((row) => row.join(' ')).join('; ')}`);
    };
    const away = () => {
        ring.setAttribute('visibility', 'hidden');
        hideCard();
    };
    chart.addEventListener('pointermove', (event) => {
        const box = chart.getBoundingClientRect();
        const gaps = places.map(({ at }) => Math.hypot(event.clientX - box.left - at[0], event.clientY - box.top - at[1]));
        read(gaps.indexOf(Math.min(...gaps)), event);
    });
    chart.addEventListener('pointerleave', away);
    chart.addEventListener('blur', away);
    chart.addEventListener('keydown', (event) => {
        const move = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 1, ArrowDown: -1 }[event.key];
        if (event.key === 'Escape') away();
        if (!move || event.target !== chart) return;
        event.preventDefault();
        read(Math.min(places.length - 1, Math.max(0, now + move)));
    });
}
