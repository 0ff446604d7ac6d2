// Bars from left to right: parts that add up, or numbers with their intervals, a card for the one that is pointed at.

/**
 * `spec`: { title, x: label, series: [{name, place}], bars: [{name, series, from, to, lo, hi}], connected, hidden, onToggle };
 * the place of a series is its colour.
 */
function barChart(spec, width) {
    const ink = theme();
    const legend = flow(
        spec.series.map((one) => one.name),
        width - 16,
    );
    const bars = spec.bars.filter((bar) => !spec.hidden.has(bar.series));
    const [pitch, thick, top] = [17, 11, legend.height + 10];
    const bottom = top + pitch * bars.length + 4;
    const left = 16 + Math.min(200, Math.max(0, ...bars.map((bar) => widthOf(bar.name))));
    const right = width - 70;
    const all = spec.bars.flatMap(({ from, to, lo, hi }) => [from, to, lo ?? to, hi ?? to]);
    const x = scale(all, [left, right], { zero: true });
    const chart = emptyChart(spec.title, 'bars', width, bottom + 44);
    for (const tick of x.ticks) {
        const stroke = tick === 0 ? ink.muted : ink.grid;
        chart.append(svg('line', { x1: x.at(tick), x2: x.at(tick), y1: top, y2: bottom, stroke }));
    }
    const room = Math.max(...x.ticks.map((t) => widthOf(number(t)))) + 10;
    for (const tick of thinned(x.ticks, right - left, room)) {
        chart.append(label(number(tick), x.at(tick), bottom + 16, { 'text-anchor': 'middle', fill: ink.muted }));
    }
    chart.append(label(cut(spec.x, width - 20), (left + right) / 2, bottom + 36, { 'text-anchor': 'middle' }));
    const colours = new Map(spec.series.map((one) => [one.name, styleOf(one.place).colour]));
    bars.forEach((bar, i) => {
        const y = top + (i + 0.5) * pitch + 2;
        const [from, to] = [x.at(bar.from), x.at(bar.to)];
        const fill = colours.get(bar.series);
        chart.append(label(cut(bar.name, 200), left - 8, y + 4, { 'text-anchor': 'end' }));
        chart.append(
            svg('rect', {
                x: Math.min(from, to),
                y: y - thick / 2,
                width: Math.max(1, Math.abs(to - from)),
                height: thick,
                fill,
            }),
        );
        chart.append(
            label(short(bar.to - bar.from), width - 8, y + 4, { 'text-anchor': 'end', fill: ink.muted }),
        );
        const next = bars[i + 1];
        if (spec.connected && next?.from === bar.to) {
            chart.append(svg('line', { x1: to, x2: to, y1: y, y2: y + pitch, stroke: ink.muted }));
        }
        if (bar.lo === null || bar.lo === undefined) return;
        const [lo, hi] = [x.at(bar.lo), x.at(bar.hi)];
        const stroke = ink.ink;
        chart.append(svg('line', { x1: lo, x2: hi, y1: y, y2: y, stroke }));
        for (const end of [lo, hi]) chart.append(svg('line', { x1: end, x2: end, y1: y - 3, y2: y + 3, stroke }));
    });
    const styled = spec.series.map(({ name }) => ({ name, style: { colour: colours.get(name), dash: 'none' } }));
    chart.append(legendNode(styled, legend, spec));
    pointedBar(chart, bars, { top, pitch, left, right }, ink);
    return chart;
}

/** The card of the bar under the pointer, or of the one the arrow keys have come to, from the top down. */
function pointedBar(chart, bars, { top, pitch, left, right }, ink) {
    const ring = svg('rect', { fill: 'none', stroke: ink.ink, visibility: 'hidden', 'data-hover': '' });
    chart.append(ring);
    let now = -1;
    const read = (i, event) => {
        if (!bars[i]) return;
        now = i;
        const { name, from, to, lo, hi } = bars[i];
        const place = { x: left, y: top + i * pitch + 2, width: right - left, height: pitch, visibility: 'visible' };
        for (const [key, value] of Object.entries(place)) ring.setAttribute(key, value);
        const rows = [['value', number(to - from)]];
        if (from !== 0) rows.push(['so far', number(to)]);
        if (lo !== null && lo !== undefined) rows.push(['95 % interval', `${number(lo)} to ${number(hi)}`]);
        const lines = rows.map(([what, text]) =>
            el('tr', {}, el('td', {}, what), el('td', { class: 'number' }, text)),
        );
        showCard(event ?? chart, left, el('div', {}, el('strong', {}, name), el('table', {}, lines)), place.y);
        if (!event) announce(`${name}: ${rows.map((row) => row.join(' ')).join('; ')}`);
    };
    const away = () => {
        ring.setAttribute('visibility', 'hidden');
        hideCard();
    };
    chart.addEventListener('pointermove', (event) => {
        const i = Math.floor((event.clientY - chart.getBoundingClientRect().top - top - 2) / pitch);
        if (bars[i]) read(i, event);
        else away();
    });
    chart.addEventListener('pointerleave', away);
    chart.addEventListener('blur', away);
    chart.addEventListener('keydown', (event) => {
        const move = { ArrowDown: 1, ArrowUp: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (event.key === 'Escape') away();
        if (!move || event.target !== chart) return;
        event.preventDefault();
        read(Math.min(bars.length - 1, Math.max(0, now + move)));
    });
}
