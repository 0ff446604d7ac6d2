// Pinned tokens as lines through the layers, and a trajectory as picture or table.

Object.assign(Trajectory.prototype, {
    /** Pins as `[position, token id]`, as they stand in the address. */
    pins() {
        return choice('t.pins', '')
            .split(',')
            .filter(Boolean)
            .map((text) => text.split(':').map(Number))
            .filter((pair) => pair.length === 2 && pair.every(Number.isInteger));
    },

    /** Adds a token of a position, or takes it away. */
    pin(reading, pos, token) {
        const id = reading.prompt.ids[token];
        const pins = this.pins();
        const old = pins.findIndex(([p, t]) => p === pos && t === id);
        if (old >= 0) pins.splice(old, 1);
        else pins.push([pos, id]);
        choose('t.pins', pins.map((pair) => pair.join(':')).join(','), '');
        this.drawPins();
        announce(old >= 0 ? 'unpinned' : 'pinned');
    },

    drawPins() {
        const { readings } = this.now;
        const { prompt } = readings[0];
        const pins = this.pins();
        const name = ([pos, id]) => {
            const token = prompt.ids.indexOf(id);
            return `${isolated(token < 0 ? `#${id}` : prompt.text(token))} after token ${pos}`;
        };
        const chips = pins.map((pin) =>
            el(
                'button',
                {
                    type: 'button',
                    class: 'chip',
                    title: 'Unpin',
                    onclick: () => this.pin(readings[0], pin[0], prompt.ids.indexOf(pin[1])),
                },
                `${name(pin)} ×`,
            ),
        );
        this.pinBox.replaceChildren(
            el('h4', {}, 'Pinned tokens'),
            pins.length
                ? el(
                      'div',
                      { class: 'chips' },
                      chips,
                      toggle('t.log', 'log scale', () => this.drawPins()),
                  )
                : el('p', { class: 'note' }, 'None yet: click a cell, or a token of the list beside.'),
        );
        if (!pins.length) return this.pinned.replaceChildren();
        const lines = readings.flatMap((reading) =>
            pins.map(([pos, id]) => {
                const token = reading.prompt.ids.indexOf(id);
                const probs =
                    token < 0 || pos >= reading.main.n ? reading.layers.map(() => null) : reading.main.path(pos, token);
                return {
                    name:
                        readings.length > 1
                            ? `${name([pos, id])}, ${reading === readings[0] ? 'above' : 'below'}: ${reading.lens}`
                            : name([pos, id]),
                    points: reading.layers.map((x, i) => ({ x, y: probs[i], lo: null, hi: null })),
                };
            }),
        );
        const spec = {
            title: 'Probability of the pinned tokens by layer',
            hidden: (this.hiddenLines ??= new Set()),
            x: {
                label: 'layer',
                values: [...new Set(readings.flatMap((r) => r.layers))].sort((a, b) => a - b),
                text: (l) => prompt.layerName(l),
            },
            y: {
                label: 'probability',
                zero: choice('t.log', '') !== '1',
                log: choice('t.log', '') === '1',
                limits: [0, 1],
            },
            lines,
            references: [],
            onToggle: (line) => {
                if (!this.hiddenLines.delete(line)) this.hiddenLines.add(line);
                this.drawPins();
                focusEntry(this.pinned, line);
            },
        };
        const gaps = lines.some((line) => line.points.some((p) => p.y === null));
        const chart = lineChart(spec, Math.max(280, Math.min(640, this.pinned.clientWidth || 560)));
        const table = {
            head: ['token', 'layer', 'probability'],
            rows: lines.flatMap((line) => line.points.map((p) => [line.name, p.x, p.y])),
        };
        return this.pinned.replaceChildren(
            chart,
            exportButtons(
                'pinned',
                () => chart,
                () => table,
            ),
            gaps
                ? el('p', { class: 'note' }, 'A gap: the token was not among the likeliest there, and is never first.')
                : '',
        );
    },

    /** The columns in view as a picture of its own. */
    picture() {
        const { readings, metric } = this.now;
        const grid = this.grids[0];
        const [reading, { cell, rows, look }] = [readings[0], grid];
        const first = Math.floor(grid.node.scrollLeft / cell);
        const count = Math.min(grid.n - first, Math.max(1, Math.floor((grid.node.clientWidth - GUTTER) / cell)));
        const ink = theme();
        const [width, height] = [GUTTER + count * cell + 8, 30 + (rows.length + 1) * ROW + 10];
        const picture = svg(
            'svg',
            { width, height, role: 'img' },
            label(`${reading.title}: ${CELLS[metric].text}`, 8, 18),
        );
        const put = (text, x, y, back, front, bold = false) =>
            picture.append(
                svg('rect', { x, y, width: cell - 1, height: ROW - 1, fill: back === 'transparent' ? 'none' : back }),
                label(cut(text, cell - 8), x + 4, y + 16, {
                    fill: front === 'inherit' ? ink.ink : front,
                    'unicode-bidi': 'isolate',
                    ...(bold ? { 'font-weight': 700, 'text-decoration': 'underline' } : {}),
                }),
            );
        [...rows].reverse().forEach((place, r) => {
            picture.append(
                label(reading.prompt.layerName(reading.layers[place]), GUTTER - 8, 30 + r * ROW + 16, {
                    'text-anchor': 'end',
                    fill: ink.muted,
                }),
            );
            for (let c = first; c < first + count; c++) {
                const { text, back, front, className } = look(place, c);
                put(text, GUTTER + (c - first) * cell, 30 + r * ROW, back, front, className.includes('agrees'));
            }
        });
        for (let c = first; c < first + count; c++)
            put(
                reading.prompt.text(reading.prompt.tokens[c]),
                GUTTER + (c - first) * cell,
                30 + rows.length * ROW + 4,
                'none',
                ink.ink,
            );
        return picture;
    },

    /** Every cell of every horizon shown, with all its numbers. */
    table() {
        const head = [
            'prompt',
            'lens',
            'horizon',
            'layer',
            'pos',
            'token',
            'token_id',
            'top_token',
            'top_id',
            'prob',
            'entropy',
            'kl',
            'ce',
            'rank_of_final',
            'rank_of_true',
        ];
        const known = (v) => (Number.isNaN(v) ? null : v);
        const rows = this.now.readings.flatMap(({ prompt, traces }) =>
            traces.flatMap((t) =>
                t.layers.flatMap((layer, l) =>
                    prompt.tokens.map((token, pos) => {
                        const top = t.token(l, pos);
                        const at = l * t.n + pos;
                        return [
                            prompt.name,
                            t.lens,
                            t.horizon,
                            layer,
                            pos,
                            prompt.text(token),
                            prompt.ids[token],
                            prompt.text(top),
                            prompt.ids[top],
                            t.prob(l, pos),
                            ...[t.entropy, t.kl, t.ce, t.rank, t.rank_of_true].map((values) => known(values[at])),
                        ];
                    }),
                ),
            ),
        );
        return { head, rows };
    },

    /** Two grids scroll as one. */
    follow() {
        const [a, b] = this.grids.map((grid) => grid.node);
        const tie = (from, to) =>
            from.addEventListener(
                'scroll',
                () => {
                    if (to.scrollLeft !== from.scrollLeft) to.scrollLeft = from.scrollLeft;
                    if (to.scrollTop !== from.scrollTop) to.scrollTop = from.scrollTop;
                },
                { passive: true },
            );
        tie(a, b);
        tie(b, a);
    },
});
