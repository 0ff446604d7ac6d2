// Making elements. Text only ever enters the document as text nodes and attribute values.

/** An element: `el('p', { class: 'note', onclick: f }, 'text', child)`. */
function el(tag, properties = {}, ...children) {
    return fill(document.createElement(tag), properties, children);
}

/** The same for SVG. */
function svg(tag, properties = {}, ...children) {
    return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), properties, children);
}

function fill(node, properties, children) {
    for (const [name, value] of Object.entries(properties)) {
        if (value === null || value === undefined || value === false) continue;
        if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
        else node.setAttribute(name, value === true ? '' : value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return node;
}

/** A token, isolated so that its direction does not turn what stands around it. */
function tokenNode(text) {
    return el('bdi', { class: 'token' }, text === '' ? '∅' : text);
}

/** For places where only plain text can stand: isolated by first-strong marks. */
const isolated = (text) => `\u2068${text}\u2069`;

/** A number for people: four digits, never `-0`, exponents for the very small. */
function number(x) {
    if (x === null || x === undefined || Number.isNaN(x)) return '–';
    if (x === 0) return '0';
    if (!Number.isFinite(x)) return x > 0 ? '∞' : '−∞';
    const size = Math.abs(x);
    const text =
        size < 1e-4 || size >= 1e7
            ? x.toExponential(2)
            : size >= 1000
              ? Math.round(x).toLocaleString('en').replace(/,/g, '\u202f')
              : String(Number(x.toPrecision(4)));
    return text.replace('-', '−');
}

/** A probability for people. */
function percent(p) {
    if (p === null || Number.isNaN(p)) return '–';
    if (p > 0 && p < 0.0001) return '< 0.01 %';
    if (p === 0) return '0 %';
    const x = 100 * p;
    return `${x >= 99.95 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2)} %`;
}

/** `0.53 [0.50, 0.56]`. */
function withInterval({ estimate, lower, upper }) {
    if (lower === null || lower === undefined) return number(estimate);
    const wide = Math.abs(upper - lower);
    const digits = wide > 0 ? 1 - Math.floor(Math.log10(wide)) : 3; // two digits of the interval's width
    const text = (x) =>
        digits > 6 || Math.abs(x) >= 1e6 ? number(x) : x.toFixed(Math.max(0, digits)).replace('-', '−');
    return `${text(estimate)} [${text(lower)}, ${text(upper)}]`;
}

/** An HTML table with a caption for those who do not see it in its place. */
function tableNode({ head, rows }, caption) {
    const cell = (value) => {
        if (value instanceof Node) return el('td', {}, value);
        if (typeof value === 'number') return el('td', { class: 'number', title: String(value) }, number(value));
        return el('td', {}, value === null || value === undefined ? '–' : tokenNode(String(value)));
    };
    return el(
        'table',
        {},
        el('caption', { class: 'unseen' }, caption),
        el(
            'thead',
            {},
            el(
                'tr',
                {},
                head.map((name, i) =>
                    el('th', { scope: 'col', class: typeof rows[0]?.[i] === 'number' ? 'number' : null }, name),
                ),
            ),
        ),
        el(
            'tbody',
            {},
            rows.map((row) => el('tr', {}, row.map(cell))),
        ),
    );
}

/** Says something to screen readers. */
function announce(text) {
    document.getElementById('live').textContent = text;
}
