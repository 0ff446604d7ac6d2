// The inlined data: JSON with base64 typed arrays in it, decoded when first asked for.

const DATA = JSON.parse(document.getElementById('data').textContent);

/** Value of every half-precision pattern. */
const HALVES = Float32Array.from({ length: 1 << 16 }, (_, bits) => {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
});

/** `[type, base64]` as a typed array. */
function unpack([type, text]) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    const arrays = { f64: Float64Array, f32: Float32Array, u16: Uint16Array, u32: Uint32Array, i32: Int32Array };
    if (type !== 'f16') return new arrays[type](bytes.buffer);
    return Float32Array.from(new Uint16Array(bytes.buffer), (bits) => HALVES[bits]);
}

const NONE = -(2 ** 31); // stands for no source layer

/** The rows of a run's metrics.parquet, as objects with the file's column names. */
function rowsOf(run) {
    if (run.rows) return run.rows;
    const m = run.metrics;
    const series = m.series.map(([subject, kind, hook, metric, unit, horizon, n, clusters]) => ({
        subject,
        kind,
        hook,
        metric,
        unit,
        horizon,
        n,
        n_clusters: clusters,
    }));
    const [of, layer, source] = [m.of, m.layer, m.source].map(unpack);
    const [estimate, lower, upper] = [m.estimate, m.lower, m.upper].map(unpack);
    const some = (x) => (Number.isNaN(x) ? null : x);
    run.rows = Array.from(of, (place, i) => ({
        ...series[place],
        layer: layer[i],
        source_layer: source[i] === NONE ? null : source[i],
        estimate: estimate[i],
        lower: some(lower[i]),
        upper: some(upper[i]),
    }));
    run.metrics = null; // the text is no longer needed
    return run.rows;
}

/** Rows whose columns have these values; a list of values means any of them. */
function pick(rows, where) {
    const tests = Object.entries(where);
    const fits = (row, [name, value]) => (Array.isArray(value) ? value.includes(row[name]) : row[name] === value);
    return rows.filter((row) => tests.every((test) => fits(row, test)));
}

/** Different values of a column, in order of appearance. */
const distinct = (rows, name) => [...new Set(rows.map((row) => row[name]))];

/** What is read under a number: `kl` in `nats` is another series than in `bits/byte`. */
const measure = (row) => `${row.metric}, ${row.unit}`;
