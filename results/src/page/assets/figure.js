// A figure: heading, controls, chart or table, what it shows and what it does not, ways to save it.

const figures = [];
let serial = 0;

/**
 * `about`: { id, title, run, shows, not, hide, controls: [{key, label, options, usual}], draw(values) }. `draw` gets the chosen
 * values by key and gives { lines | scatter | matrix | bars: spec, table: {head, rows}, note }, and where they change with the values a title and
 * what is shown.
 */
function figure(about) {
    const name = (key) => `${about.id}.${key}`;
    const place = el('div', { class: 'plot' });
    const note = el('p', { class: 'note', hidden: true });
    const controls = el('div', { class: 'controls' });
    const heading = `h-${(serial += 1)}`;
    const title = document.createTextNode(about.title);
    const words = caption(about);
    const box = el(
        'figure',
        { class: 'figure', id: about.id, 'aria-labelledby': heading },
        el('h3', { id: heading }, title, el('bdi', { class: 'kind' }, about.run.name)),
        controls,
        place,
        note,
        words,
    );
    const usual = (about.hide ?? []).join('\u001f');
    const hidden = () => new Set(choice(name('hide'), usual).split('\u001f').filter(Boolean));
    const values = () => {
        const value = ({ key, options, usual }) => [key, choice(name(key), usual, valuesOf(options))];
        return Object.fromEntries(about.controls.map(value));
    };
    let last = null;
    const redraw = () => {
        const result = about.draw(values());
        const spec = result.lines ?? result.scatter ?? result.bars ?? result.matrix;
        const width = Math.max(280, Math.min(900, place.clientWidth || 720));
        if (!result.matrix) {
            spec.hidden = hidden();
            spec.onToggle = (line) => {
                const now = hidden();
                if (!now.delete(line)) now.add(line);
                choose(name('hide'), [...now].join('\u001f'), usual);
                redraw();
                focusEntry(place, line);
            };
        }
        const draw = drawerOf(result);
        const chart = draw(spec, width);
        last = { chart, table: result.table };
        if (result.title) title.data = result.title;
        if (result.shows) words.querySelector('p').textContent = result.shows;
        const asTable = choice(name('as'), 'chart') === 'table';
        place.replaceChildren(
            asTable
                ? el(
                      'div',
                      { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `${about.title}, table` },
                      tableNode(result.table, about.title),
                  )
                : chart,
        );
        note.textContent = result.note ?? '';
        note.hidden = !result.note;
    };
    const drawn = () => {
        if (!last) redraw();
        return last;
    };
    const build = () => {
        controls.replaceChildren(
            ...about.controls
                .filter((c) => c.options.length > 1)
                .map((c) => select(name(c.key), c.label, c.options, c.usual, redraw)),
            select(name('as'), 'View', ['chart', 'table'], 'chart', redraw),
            exportButtons(
                about.id,
                () => drawn().chart,
                () => drawn().table,
            ),
        );
    };
    build();
    figures.push({ redraw, build, box, place });
    return box;
}

/** What draws a chart of the result's kind. */
function drawerOf({ lines, scatter, bars }) {
    if (lines) return lineChart;
    if (scatter) return scatterChart;
    return bars ? barChart : matrixChart;
}

/** Gives the focus back to the legend's entry after a redraw. */
function focusEntry(place, line) {
    [...place.querySelectorAll('.entry')].find((entry) => entry.dataset.line === line)?.focus();
}

/** What a figure shows and what it does not; in full once, folded where the same was said above. */
const said = new Set();
function caption({ shows, not }) {
    const text = [el('p', {}, shows), el('p', { class: 'not' }, el('strong', {}, 'It does not show: '), not)];
    const again = said.has(shows);
    said.add(shows);
    return el(
        'figcaption',
        {},
        again ? el('details', {}, el('summary', {}, 'What this shows, and what not'), text) : text,
    );
}

/** Draws every figure anew: after a change of theme, width or address. Those out of sight wait until they are near. */
const near = new IntersectionObserver(
    (entries) => {
        for (const entry of entries.filter((e) => e.isIntersecting)) {
            near.unobserve(entry.target);
            figures.find((f) => f.box === entry.target)?.redraw();
        }
    },
    { rootMargin: '600px' },
);

function redrawFigures({ controls = false, all = false } = {}) {
    for (const one of figures) {
        if (controls) one.build();
        near.unobserve(one.box);
        if (all) one.redraw();
        else {
            one.place.style.minHeight = `${one.place.offsetHeight || 320}px`;
            near.observe(one.box);
        }
    }
}

/** The card beside the pointer, or beside a place (x, y) inside a node. */
function showCard(anchor, x, content, y = 40) {
    const card = document.getElementById('card');
    card.replaceChildren(content);
    card.hidden = false;
    let [left, top] = [anchor.clientX, anchor.clientY];
    if (anchor instanceof Node) {
        const box = anchor.getBoundingClientRect();
        [left, top] = [box.left + x, Math.max(box.top, 0) + y];
    }
    const [width, height] = [card.offsetWidth, card.offsetHeight];
    const over = left + 16 + width > innerWidth;
    card.style.left = `${Math.max(4, over ? left - width - 12 : left + 16)}px`;
    card.style.top = `${Math.max(4, Math.min(innerHeight - height - 4, top + 14))}px`;
}

function hideCard() {
    document.getElementById('card').hidden = true;
}

/** Whether a chart's values need a log scale to be told apart: `auto` looks at them. */
function logScale(asked, rows) {
    const values = rows.map((row) => row.estimate);
    if (asked !== 'auto') return asked === 'log' && values.every((v) => v > 0);
    return values.every((v) => v > 0) && Math.max(...values) > 20 * Math.min(...values);
}
const SCALE = { key: 'scale', label: 'Scale', options: ['auto', 'linear', 'log'], usual: 'auto' };

/** A choice between the hooks that were read. */
const hookControl = (rows) => ({ key: 'hook', label: 'Hook', options: distinct(rows, 'hook'), usual: rows[0].hook });

/** Ends that a metric cannot pass; none where it can. */
const limitsOf = (metric) =>
    /^(accuracy|agreement|precision|decided|auroc|macro_f1|ece(,|$)|selectivity)/.test(metric)
        ? [metric.startsWith('selectivity') ? -1 : 0, 1]
        : null;

/** Options for every `[metric, unit]` of the rows, with what they mean. */
function measures(rows) {
    const seen = new Map(rows.map((row) => [measure(row), row]));
    return [...seen].map(([key, row]) => [
        key,
        `${METRICS[row.metric] ?? row.metric.replaceAll('_', ' ')} (${row.unit})`,
    ]);
}

/** Metrics in words. */
const METRICS = {
    kl: 'KL(model ‖ lens)',
    ce: 'cross-entropy of the true token',
    entropy: 'entropy of the prediction',
    agreement: 'agreement: likeliest token is the model’s',
    agreement_at_5: 'agreement at 5: model’s token among 5',
    agreement_at_10: 'agreement at 10: model’s token among 10',
    accuracy: 'accuracy',
    rank: 'rank of the true token',
    surprisal: 'surprisal of the lens’s first token',
    precision_at_1: 'true token first',
    precision_at_5: 'true token among 5',
    precision_at_10: 'true token among 10',
    marginal_kl: 'bias: KL of the mean distributions',
    decided: 'share of tokens decided by this layer',
    kl_native: 'KL from the state’s own lens',
    penalty_state: 'penalty to the state’s own lens',
    penalty_lens: 'penalty to the lens’s own state',
    macro_f1: 'macro F1',
    auroc: 'area under the ROC curve',
    nll: 'negative log-likelihood',
    ece: 'calibration error',
    ece_debiased: 'calibration error, debiased',
    ece_calibrated: 'calibration error of a calibrated probe',
    brier: 'Brier score',
    brier_reliability: 'Brier score: reliability',
    brier_resolution: 'Brier score: resolution',
    brier_uncertainty: 'Brier score: uncertainty',
    r2: 'R²',
    compression: 'compression (online code)',
    compression_less_shuffled: 'compression less that of shuffled labels',
    pr_held_out: 'residual, held out',
    pr_cross_validated: 'residual, every document held out once',
    pr: 'residual, in-sample',
    pr_adjusted: 'residual, adjusted',
    cka: 'CKA',
    cosine: 'cosine of centred states',
    covariance_cosine: 'cosine of covariances',
    procrustes_distance: 'Procrustes distance',
};
