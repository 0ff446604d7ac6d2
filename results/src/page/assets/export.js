// Taking a chart away: SVG, PNG, CSV.

/** Offers `blob` as a file. */
function download(name, blob) {
    const link = el('a', { href: URL.createObjectURL(blob), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** The chart as a file of its own, on paper of the theme's colour. */
function svgFile(chart) {
    const copy = chart.cloneNode(true);
    copy.querySelectorAll('[data-hover]').forEach((node) => node.remove());
    const size = ['width', 'height'].map((name) => Number(chart.getAttribute(name)));
    copy.setAttribute('viewBox', `0 0 ${size[0]} ${size[1]}`);
    copy.prepend(svg('rect', { width: size[0], height: size[1], fill: theme().paper }));
    const text = new XMLSerializer().serializeToString(copy);
    return { blob: new Blob([text], { type: 'image/svg+xml' }), size };
}

/** The chart as pixels, two for each of its own. */
async function pngFile(chart) {
    const {
        blob,
        size: [width, height],
    } = svgFile(chart);
    const address = URL.createObjectURL(blob);
    try {
        const image = new Image();
        image.src = address;
        await image.decode();
        const canvas = el('canvas', { width: 2 * width, height: 2 * height });
        canvas.getContext('2d').drawImage(image, 0, 0, 2 * width, 2 * height);
        return await new Promise((done) => canvas.toBlob(done, 'image/png'));
    } finally {
        URL.revokeObjectURL(address);
    }
}

/** A table as RFC 4180 text; numbers with every digit they have. */
function csvFile({ head, rows }) {
    const field = (value) => {
        const text = value === null || value === undefined ? '' : String(value);
        return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
    };
    const lines = [head, ...rows].map((row) => row.map(field).join(','));
    return new Blob([`${lines.join('\r\n')}\r\n`], { type: 'text/csv' });
}

/** Buttons that export what `chart()` and `table()` give at that moment. */
function exportButtons(name, chart, table) {
    const button = (text, save) =>
        el('button', { type: 'button', class: 'quiet', 'data-export': text, onclick: save }, text);
    return el(
        'span',
        { class: 'exports', role: 'group', 'aria-label': 'Save' },
        button('SVG', () => download(`${name}.svg`, svgFile(chart()).blob)),
        button('PNG', async () => download(`${name}.png`, await pngFile(chart()))),
        button('CSV', () => download(`${name}.csv`, csvFile(table()))),
    );
}
