// How cells look: a metric's colour scale, its legend, and what a screen reader says of a cell.

class Look {
    constructor(metric, readings) {
        this.metric = metric;
        this.ends = Look.endsOf(metric, readings);
        this.colours = steps(palette());
    }

    /** The two ends of the colour scale, over all that is shown, or as the reader set the dark one. */
    static endsOf(metric, readings) {
        const [of, asked] = choice('t.end', '').split(':');
        if (of === metric && Number(asked) > 0) return [Number(asked), 0];
        let most = 0;
        for (const trace of metric === 'prob' ? [] : readings.flatMap((reading) => reading.traces)) {
            for (const value of trace[metric]) if (value > most) most = value; // NaN is never more
        }
        return CELLS[metric].ends([most]);
    }

    colour(value) {
        return this.colours[Math.round(255 * Math.min(1, Math.max(0, between(this.metric, this.ends, value))))];
    }

    /** The cells of a reading: text, colours, class, and words. */
    of(reading) {
        const { prompt } = reading;
        return (layer, pos) => {
            const value = reading.value(this.metric, layer, pos);
            const known = Number.isFinite(value);
            const { hit, agrees } = reading.marks(layer, pos);
            const text = reading.text(layer, pos);
            const where = `layer ${prompt.layerName(reading.layers[layer])}, after token ${pos}`;
            const words = [
                `${where} ${isolated(prompt.text(prompt.tokens[pos]))}: ${isolated(text)}`,
                known ? CELLS[this.metric].write(value) : 'not known',
                hit && 'the true token',
                agrees && 'the model’s token',
            ];
            return {
                ...(known ? this.colour(value) : { back: 'transparent', front: 'inherit' }),
                text: hit ? `*${text}` : text,
                className: `cell${agrees ? ' agrees' : ''}${known ? '' : ' unknown'}`,
                label: words.filter(Boolean).join(', '),
            };
        };
    }

    /** The scale with its ends; the dark one can be set, but for probabilities. */
    legend(changed) {
        const { text, write } = CELLS[this.metric];
        const bar = el('span', { class: 'bar', 'aria-hidden': 'true' });
        for (let i = 0; i < 32; i++) {
            const step = el('i', {});
            step.style.backgroundColor = this.colours[Math.round((i / 31) * 255)].back;
            bar.append(step);
        }
        const parts = [
            el('span', {}, text),
            el('span', {}, write(this.ends[0])),
            bar,
            el('span', {}, write(this.ends[1])),
        ];
        return this.metric === 'prob' ? parts : [...parts, this.darkEnd(changed)];
    }

    darkEnd(changed) {
        const value = Number(this.ends[0].toPrecision(4));
        const input = el('input', { type: 'number', min: 0, step: 'any', 'data-key': 't.end', value });
        input.addEventListener('change', () => {
            choose('t.end', Number(input.value) > 0 ? `${this.metric}:${input.value}` : '', '');
            changed();
        });
        return el('label', {}, 'dark end ', input);
    }
}
