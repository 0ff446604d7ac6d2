// A prompt as its lenses read it: numbers out of the typed arrays, by layer, position and token.

/** Metrics of a cell: name, how it is written, and where it lies between dark (0) and bright (1, certain or right). */
const CELLS = {
    prob: { text: 'probability of the cell’s token', write: percent, ends: () => [0, 1], log: false },
    entropy: {
        text: 'entropy of the prediction, nats',
        write: number,
        ends: (all) => [Math.max(1, ...all), 0],
        log: false,
    },
    kl: {
        text: 'KL(model ‖ lens), nats (log scale)',
        write: number,
        ends: (all) => [Math.max(1, ...all), 0],
        log: true,
    },
    rank: {
        text: 'rank of the model’s own token (0 is first; log scale)',
        write: number,
        ends: (all) => [Math.max(10, ...all), 0],
        log: true,
    },
    ce: {
        text: 'cross-entropy of the true token, nats (log scale)',
        write: number,
        ends: (all) => [Math.max(1, ...all), 0],
        log: true,
    },
};

/** Where `value` lies between the ends of a metric's scale. */
function between(metric, [worst, best], value) {
    const place = CELLS[metric].log ? (v) => Math.log1p(v) : (v) => v;
    return (place(value) - place(worst)) / (place(best) - place(worst));
}

/** One lens at one horizon. Layers are places 0 … in `layers`, positions tokens of the prompt. */
class Trace {
    constructor(raw, tokens, nLayers) {
        Object.assign(this, { lens: raw.lens, horizon: raw.horizon, layers: raw.layers, k: raw.k, nLayers });
        this.n = tokens.length;
        this.tokens = tokens;
        for (const name of [
            'top',
            'probs',
            'entropy',
            'kl',
            'ce',
            'rank',
            'rank_of_true',
            'widths',
            'tracked',
            'tracked_probs',
        ]) {
            this[name] = unpack(raw[name]);
        }
        this.firsts = [0];
        for (const width of this.widths) this.firsts.push(this.firsts.at(-1) + width);
    }

    /** The token (place in the vocabulary) that is `rank`-th likeliest, and its probability. */
    token(layer, pos, rank = 0) {
        return this.top[(layer * this.n + pos) * this.k + rank];
    }

    prob(layer, pos, rank = 0) {
        return this.probs[(layer * this.n + pos) * this.k + rank];
    }

    value(metric, layer, pos) {
        return metric === 'prob' ? this.prob(layer, pos) : this[metric][layer * this.n + pos];
    }

    /** The true token that the lens is to predict; undefined past the end. */
    truth(pos) {
        return this.tokens[pos + this.horizon];
    }

    /** The model's own first token there, where it is known: what layer L says `horizon - 1` positions later. */
    final(pos, next) {
        const last = next.layers.indexOf(next.nLayers);
        const at = pos + this.horizon - 1;
        return last < 0 || at >= this.n ? undefined : next.token(last, at);
    }

    /** Probability of a token at every layer: [exact, or null; upper bound where it is null]. */
    path(pos, token) {
        const total = this.firsts.at(-1);
        const column = this.tracked.subarray(this.firsts[pos], this.firsts[pos + 1]).indexOf(token);
        return this.layers.map((_, layer) => {
            if (column >= 0) return this.tracked_probs[layer * total + this.firsts[pos] + column];
            for (let rank = 0; rank < this.k; rank++)
                if (this.token(layer, pos, rank) === token) return this.prob(layer, pos, rank);
            return null;
        });
    }

    /** The first layer from which on the first token stays the last layer's (Baldock et al. 2021). */
    depth(pos) {
        let layer = this.layers.length - 1;
        const last = this.token(layer, pos);
        while (layer > 0 && this.token(layer - 1, pos) === last) layer -= 1;
        return this.layers[layer];
    }
}

/** A prompt with its lenses by name; a future lens has several horizons. */
class Prompt {
    constructor(raw) {
        Object.assign(this, { name: raw.name, model: raw.model, nLayers: raw.n_layers, vocabulary: raw.vocabulary });
        this.ids = unpack(raw.ids);
        this.tokens = Array.from(unpack(raw.tokens));
        this.raw = raw.lenses;
        this.names = [...new Set(raw.lenses.map((lens) => lens.lens))];
        this.decoded = new Map();
    }

    horizons(lens) {
        return this.raw.filter((raw) => raw.lens === lens).map((raw) => raw.horizon);
    }

    trace(lens, horizon) {
        const key = `${lens}|${horizon}`;
        const raw =
            this.raw.find((one) => one.lens === lens && one.horizon === horizon) ??
            this.raw.find((one) => one.lens === lens);
        if (!this.decoded.has(key)) this.decoded.set(key, new Trace(raw, this.tokens, this.nLayers));
        return this.decoded.get(key);
    }

    text(token) {
        return this.vocabulary[token] ?? '';
    }

    layerName(layer) {
        return layer === this.nLayers ? 'output' : String(layer);
    }
}

/** What a grid shows: a lens of a prompt at one horizon, or at all of them side by side in a cell. */
class Reading {
    constructor(prompt, lens, horizon) {
        Object.assign(this, { prompt, lens });
        const all = prompt.horizons(lens);
        const wanted = horizon === 'all' ? all : [all.includes(Number(horizon)) ? Number(horizon) : all[0]];
        this.traces = wanted.map((h) => prompt.trace(lens, h));
        this.main = this.traces[0];
        this.next = this.traces.find((t) => t.horizon === 1) ?? prompt.trace(lens, 1);
    }

    get layers() {
        return this.main.layers;
    }

    /** Traces that have this layer: further horizons have none at the output. */
    at(layer) {
        const name = this.layers[layer];
        return this.traces.map((trace) => [trace, trace.layers.indexOf(name)]).filter(([, place]) => place >= 0);
    }

    text(layer, pos) {
        return this.at(layer)
            .map(([trace, place]) => this.prompt.text(trace.token(place, pos)))
            .join(' ');
    }

    /** Mean over the horizons, as the Future Lens paper colours its table. */
    value(metric, layer, pos) {
        const values = this.at(layer)
            .map(([trace, place]) => trace.value(metric, place, pos))
            .filter((v) => !Number.isNaN(v));
        return values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN;
    }

    /** First token is the true one; is the model's own. */
    marks(layer, pos) {
        const token = this.main.token(layer, pos);
        return { hit: token === this.main.truth(pos), agrees: token === this.main.final(pos, this.next) };
    }

    get title() {
        const ahead =
            this.traces.length > 1
                ? `, ${this.traces.map((t) => t.horizon).join(', ')} tokens ahead`
                : this.main.horizon > 1
                  ? `, ${this.main.horizon} tokens ahead`
                  : '';
        return `${this.lens}${ahead}`;
    }
}
