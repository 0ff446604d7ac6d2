// Reading a line chart: by pointer, or with the arrow keys.

/** A vertical line at the nearest x with every value there, for pointer and keyboard. */
function crosshair(chart, spec, lines, references, { place, top, bottom, ink }) {
    const rule = svg('line', { y1: top, y2: bottom, stroke: ink.muted, visibility: 'hidden', 'data-hover': '' });
    chart.append(rule);
    let now = -1;
    const read = (i, event) => {
        now = i;
        const value = spec.x.values[i];
        const at = place.get(value);
        rule.setAttribute('x1', at);
        rule.setAttribute('x2', at);
        rule.setAttribute('visibility', 'visible');
        const points = lines
            .map((line) => [line, line.points.find((p) => p.x === value)])
            .filter(([, p]) => p && p.y !== null);
        const rows = [
            ...points.map(([line, p]) => [line, p.y, p.lo, p.hi]),
            ...references.map((r) => [r, r.y, r.lo, r.hi]),
        ];
        const text = (estimate, lower, upper) => withInterval({ estimate, lower, upper });
        const heading = `${spec.x.label} ${(spec.x.text ?? String)(value)}`;
        const all = [...spec.lines, ...spec.references];
        showCard(
            event ?? chart,
            at,
            el(
                'div',
                {},
                el('strong', {}, heading),
                el(
                    'table',
                    {},
                    rows.map(([line, ...numbers]) => {
                        const swatch = el('span', { class: 'swatch' });
                        swatch.style.backgroundColor = (line.style ?? styleOf(all.indexOf(line))).colour;
                        return el(
                            'tr',
                            {},
                            el('td', {}, swatch, tokenNode(line.name)),
                            el('td', { class: 'number' }, text(...numbers)),
                        );
                    }),
                ),
            ),
        );
        if (!event) announce(`${heading}: ${rows.map(([line, ...n]) => `${line.name} ${text(...n)}`).join('; ')}`);
    };
    const away = () => {
        rule.setAttribute('visibility', 'hidden');
        hideCard();
    };
    chart.addEventListener('pointermove', (event) => {
        const x = event.clientX - chart.getBoundingClientRect().left;
        const y = event.clientY - chart.getBoundingClientRect().top;
        if (y < top - 20 || !spec.x.values.length) return away();
        const gaps = spec.x.values.map((value) => Math.abs(place.get(value) - x));
        return read(gaps.indexOf(Math.min(...gaps)), event);
    });
    chart.addEventListener('pointerleave', away);
    chart.addEventListener('blur', away);
    chart.addEventListener('keydown', (event) => {
        const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (event.key === 'Escape') away();
        if (!move || event.target !== chart) return;
        event.preventDefault();
        read(Math.min(spec.x.values.length - 1, Math.max(0, now + move)));
    });
}
