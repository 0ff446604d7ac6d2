// What the reader has chosen, kept in the address: `#at=lenses&lens-0.metric=kl, nats`. A link brings it back.

let chosen = new URLSearchParams(location.hash.slice(1));
const listeners = [];

/** The choice under `key`, or `usual` when there is none (or none of `allowed`). */
function choice(key, usual, allowed) {
    const value = chosen.get(key);
    return value === null || (allowed && !allowed.includes(value)) ? usual : value;
}

/** Keeps a choice; the usual one is not written. */
function choose(key, value, usual) {
    if (value === null || value === usual) chosen.delete(key);
    else chosen.set(key, value);
    const hash = chosen.toString();
    history.replaceState(null, '', hash ? `#${hash}` : location.pathname + location.search);
}

/** Calls `listener` when the address was changed by hand, by a link, or by going back. */
function onAddress(listener) {
    listeners.push(listener);
}

addEventListener('hashchange', () => {
    chosen = new URLSearchParams(location.hash.slice(1));
    listeners.forEach((listener) => listener());
});

/** The values of options: themselves, or the first of `[value, text]`. */
const valuesOf = (options) => options.map((option) => (Array.isArray(option) ? option[0] : option));

/** A labelled select that keeps its choice under `key`. `options`: values, or `[value, text]` pairs. */
function select(key, label, options, usual, changed) {
    const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
    const now = choice(
        key,
        usual,
        pairs.map(([value]) => value),
    );
    const control = el(
        'select',
        {
            'data-key': key,
            onchange: () => {
                choose(key, control.value, usual);
                changed(control.value);
            },
        },
        pairs.map(([value, text]) => el('option', { value, selected: value === now }, text)),
    );
    return el('label', { class: 'control' }, el('span', {}, label), control);
}

/** A button that is on or off, and keeps it under `key`. */
function toggle(key, label, changed) {
    const button = el(
        'button',
        {
            type: 'button',
            'data-key': key,
            'aria-pressed': String(choice(key, '', ['1']) === '1'),
            onclick: () => {
                const on = button.getAttribute('aria-pressed') !== 'true';
                button.setAttribute('aria-pressed', String(on));
                choose(key, on ? '1' : '', '');
                changed(on);
            },
        },
        label,
    );
    return button;
}
