// Axes: scales, ticks, and room for their labels.

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
const SIZE = 12;
const pen = document.createElement('canvas').getContext('2d');

/** Width of `text` in pixels. */
function widthOf(text, size = SIZE) {
    pen.font = `${size}px ${FONT}`;
    return pen.measureText(text).width;
}

/** Text in a chart. */
function label(text, x, y, properties = {}) {
    return svg('text', { x, y, fill: theme().ink, 'font-size': SIZE, 'font-family': FONT, ...properties }, text);
}

/** An empty chart that can be pointed at and read with the arrow keys; `what` is what they read. */
function emptyChart(title, what, width, height) {
    return svg('svg', {
        width,
        height,
        role: 'group',
        'aria-roledescription': 'chart',
        tabindex: 0,
        class: 'chart',
        'aria-label': `${title}. Arrow keys read the ${what}; a table is below the chart’s switch.`,
    });
}

/** Round numbers that cover lo..hi, about `count` of them. */
function niceTicks(lo, hi, count) {
    const raw = (hi - lo) / Math.max(1, count);
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.999);
    const first = Math.floor(lo / step + 1e-9);
    const last = Math.ceil(hi / step - 1e-9);
    return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** A scale from values to pixels with its ticks. `log` needs values above zero. */
function scale(values, [from, to], { log = false, zero = false, count = 5, limits = null } = {}) {
    const known = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
    let [lo, hi] = known.length ? [Math.min(...known), Math.max(...known)] : [log ? 1e-3 : 0, 1];
    if (zero && !log) [lo, hi] = [Math.min(0, lo), Math.max(0, hi)];
    if (lo === hi)
        [lo, hi] = log ? [lo / 2, hi * 2] : [lo - (Math.abs(lo) * 0.1 || 0.5), hi + (Math.abs(hi) * 0.1 || 0.5)];
    let ticks = log ? logTicks(lo, hi) : niceTicks(lo, hi, count);
    if (log) {
        [lo, hi] = [lo / 1.08, hi * 1.08];
        if (ticks.filter((t) => t >= lo && t <= hi).length < 3) ticks = niceTicks(lo, hi, count);
    } else [lo, hi] = [Math.min(lo, ticks[0]), Math.max(hi, ticks.at(-1))];
    if (limits) [lo, hi] = [Math.max(lo, limits[0]), Math.min(hi, limits[1])];
    const place = log ? Math.log10 : (v) => v;
    const at = (v) =>
        from + ((place(Math.max(v, log ? lo : -Infinity)) - place(lo)) / (place(hi) - place(lo))) * (to - from);
    return { at, ticks: ticks.filter((t) => t >= lo && t <= hi), lo, hi };
}

/** Powers of ten, or 1-2-5 where there are few. */
function logTicks(lo, hi) {
    const [a, b] = [Math.floor(Math.log10(lo)), Math.ceil(Math.log10(hi))];
    const powers = Array.from({ length: b - a + 1 }, (_, i) => a + i);
    if (hi / lo > 1000) {
        const step = Math.ceil(powers.length / 7);
        return powers.filter((p) => (p - a) % step === 0).map((p) => 10 ** p);
    }
    const all = powers.flatMap((p) => [1, 2, 5].map((f) => Number((f * 10 ** p).toPrecision(3))));
    const first = all.findLastIndex((t) => t <= lo * 1.0001);
    const last = all.findIndex((t) => t >= hi * 0.9999);
    return all.slice(Math.max(0, first), last < 0 ? undefined : last + 1);
}

/** Those of `labels` that can stand side by side, `room` pixels each; the last always can. */
function thinned(items, width, room) {
    const step = Math.max(1, Math.ceil((items.length * room) / Math.max(1, width)));
    const nice = [1, 2, 4, 5, 8, 10, 16, 20, 40, 50, 100].find((s) => s >= step) ?? step;
    const kept = items.filter((_, i) => i % nice === 0);
    const last = items.at(-1);
    if (kept.at(-1) !== last) {
        if ((items.length - 1) % nice < nice * 0.6 && kept.length > 1) kept.pop();
        kept.push(last);
    }
    return kept;
}

/** Breaks `names` into lines of legend items no wider than `width`; gives each its place, and the height. */
function flow(names, width, swatch = 34) {
    let [x, y] = [0, 0];
    const places = names.map((name) => {
        const own = swatch + widthOf(name) + 18;
        if (x > 0 && x + own > width) [x, y] = [0, y + 20];
        const place = { x, y, width: own };
        x += own;
        return place;
    });
    return { places, height: names.length ? y + 20 : 0 };
}

/** `text` cut so that it is no wider than `width`. */
function cut(text, width, size = SIZE) {
    if (widthOf(text, size) <= width) return text;
    const letters = [...text];
    while (letters.length > 1 && widthOf(`${letters.join('')}…`, size) > width) letters.pop();
    return `${letters.join('')}…`;
}
