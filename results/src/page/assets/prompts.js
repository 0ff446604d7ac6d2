// The prediction trajectory: prompts layer by layer, with cards, pinned tokens and a comparison.

const STRIDES = ['auto', '1', '2', '3', '4', '6', '8', '10'];

class Trajectory {
    constructor() {
        this.prompts = DATA.prompts.map((raw) => new Prompt(raw));
        this.grids = ['a', 'b'].map((side) => new Grid(`grid-${side}`, this.events(side)));
        this.controls = el('div', { class: 'controls' });
        this.legend = el('div', { class: 'legend' });
        this.heads = [el('h4', {}), el('h4', {})];
        this.second = el('div', { class: 'second', hidden: true }, this.heads[1], this.grids[1].node);
        this.cell = el('div', { class: 'picked', 'aria-live': 'off' });
        this.pinned = el('div', { class: 'plot' });
        this.pinBox = el('div', { class: 'pins' });
        this.follow();
        this.node = section(
            'trajectory',
            'A prompt, layer by layer',
            el(
                'p',
                {},
                'Each cell is the token that the lens reads at that layer (first layer at the bottom, the model’s own output on top) after the prompt has been read up to the token below. Bright cells are certain, or near to the model. ',
                'Bold with an underline: the model’s own final token. A star: the true next token. Point at a cell, or move with the arrow keys, to see its ten likeliest tokens; click or press Enter to pin its token and follow it through the layers. ',
            ),
            el(
                'p',
                { class: 'not' },
                el('strong', {}, 'It does not show: '),
                'why the model says so, or that a layer “thinks” in words: a lens finds words in every vector, also where there are none. One prompt is an example, not evidence.',
            ),
            this.controls,
            this.legend,
            this.heads[0],
            this.grids[0].node,
            this.second,
            el('div', { class: 'beneath' }, this.cell, el('div', {}, this.pinBox, this.pinned)),
        );
        this.build();
    }

    /** Controls for what there is. */
    build() {
        const change = () => {
            this.build();
            this.redraw();
        };
        const key = (name) => `t.${name}`;
        const names = this.prompts.map((p, i) => [String(i), p.name]);
        const prompt = this.prompts[Number(choice(key('prompt'), '0', valuesOf(names)))];
        const lens = choice(key('lens'), prompt.names[0], prompt.names);
        const horizons = prompt.horizons(lens);
        const others = this.prompts
            .flatMap((p, i) => p.names.map((l) => [`${i}|${l}`, p === prompt ? l : `${p.name}: ${l}`]))
            .filter(([v]) => v !== `${this.prompts.indexOf(prompt)}|${lens}`);
        const controls = [
            names.length > 1 && select(key('prompt'), 'Prompt', names, '0', change),
            select(key('lens'), 'Lens', prompt.names, prompt.names[0], change),
            horizons.length > 1 &&
                select(
                    key('horizon'),
                    'Horizon',
                    [['all', 'all, side by side'], ...horizons.map((h) => [String(h), `${h} ahead`])],
                    'all',
                    change,
                ),
            select(
                key('metric'),
                'Colour',
                Object.entries(CELLS).map(([v, m]) => [v, m.text]),
                'prob',
                change,
            ),
            select(
                key('stride'),
                'Layers',
                STRIDES.map((s) => [s, s === 'auto' ? 'as many as fit' : s === '1' ? 'every one' : `every ${s}`]),
                'auto',
                change,
            ),
            others.length && select(key('with'), 'Compare with', [['', 'nothing'], ...others], '', change),
            select('palette', 'Palette', Object.keys(MAPS), 'viridis', () => {
                change();
                redrawFigures();
            }),
            exportButtons(
                'trajectory',
                () => this.picture(),
                () => this.table(),
            ),
        ];
        this.controls.replaceChildren(...controls.filter(Boolean));
    }

    /** What is chosen now. */
    chosen() {
        const prompt = this.prompts[Number(choice('t.prompt', '0', Object.keys(this.prompts)))];
        const lens = choice('t.lens', prompt.names[0], prompt.names);
        const horizon = choice('t.horizon', 'all');
        const metric = choice('t.metric', 'prob', Object.keys(CELLS));
        const [other, otherLens] = choice('t.with', '').split(/\|(.*)/s);
        const beside = this.prompts[Number(other)];
        const second =
            other !== '' && beside?.names.includes(otherLens) ? new Reading(beside, otherLens, horizon) : null;
        return { prompt, metric, readings: [new Reading(prompt, lens, horizon), second].filter(Boolean) };
    }

    redraw() {
        const { metric, readings } = this.chosen();
        this.now = { metric, readings };
        this.look = new Look(metric, readings);
        this.second.hidden = readings.length < 2;
        readings.forEach((reading, i) => {
            const rows = this.rowsOf(reading);
            const wide = reading.traces.length > 1 ? Math.max(68, 50 * reading.traces.length) : 68;
            this.heads[i].replaceChildren(tokenNode(reading.prompt.name), ` · ${reading.title}`);
            this.grids[i].show(reading, rows, wide, this.look.of(reading));
        });
        this.legend.replaceChildren(...this.look.legend(() => this.redraw()));
        this.drawPins();
        const [layer, pos] = choice('t.cell', '').split(',').map(Number);
        if (choice('t.cell', '') !== '' && layer < readings[0].layers.length && pos < readings[0].main.n) {
            this.grids[0].moveTo(layer, pos, false);
            this.drawCell(0, layer, pos);
        } else this.cell.replaceChildren(el('p', { class: 'note' }, 'No cell chosen.'));
    }

    /** Places of the layers to show: every n-th counted back from the last. */
    rowsOf(reading) {
        const asked = choice('t.stride', 'auto', STRIDES);
        const n = reading.layers.length;
        const step = asked === 'auto' ? Math.max(1, Math.ceil(n / 28)) : Number(asked);
        return Array.from({ length: n }, (_, i) => n - 1 - i)
            .filter((_, i) => i % step === 0)
            .reverse();
    }

    events(side) {
        const i = side === 'a' ? 0 : 1;
        return {
            hover: (layer, pos, event) => showCard(event, 0, cardOf(this.now.readings[i], layer, pos)),
            leave: hideCard,
            focus: (layer, pos) => {
                if (i === 0) choose('t.cell', `${layer},${pos}`, '');
                this.drawCell(i, layer, pos);
            },
            press: (layer, pos) => {
                if (i === 0) choose('t.cell', `${layer},${pos}`, '');
                this.pin(this.now.readings[i], pos, this.now.readings[i].main.token(layer, pos));
                this.drawCell(i, layer, pos);
            },
        };
    }

    /** The chosen cell in full; its tokens are buttons that pin them. Beside it the same place in the other grid. */
    drawCell(i, layer, pos) {
        const reading = this.now.readings[i];
        const pin = (token) => this.pin(reading, pos, token);
        const cards = [cardOf(reading, layer, pos, pin)];
        const other = this.now.readings[1 - i];
        const place = other ? other.layers.indexOf(reading.layers[layer]) : -1;
        if (place >= 0 && pos < other.main.n) cards.push(cardOf(other, place, pos));
        this.cell.replaceChildren(...cards);
        announce(this.look.of(reading)(layer, pos).label);
    }
}
