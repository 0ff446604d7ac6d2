// Colours: light and dark, sequential maps, categories. Categories also differ in dash and marker.

/** Viridis (Smith & van der Walt 2015) and cividis (Nuñez et al. 2018), both safe for colour-blind readers. */
const MAPS = {
    viridis: ['#440154', '#472c7a', '#3b518b', '#2c718e', '#21908d', '#27ad81', '#5cc863', '#aadc32', '#fde725'],
    cividis: ['#00224e', '#123570', '#3b496c', '#575d6d', '#707173', '#8a8678', '#a59c74', '#c3b369', '#fee838'],
};
/** For signed values, white where they are zero. */
const DIVERGING = ['#2166ac', '#67a9cf', '#d1e5f0', '#f7f7f7', '#fdd8b5', '#ef8a3c', '#b35806'];

/** Okabe & Ito (2008), the dark ones first on white and the light ones first on black. */
const CATEGORIES = {
    light: ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#8a6d00', '#3f8fc4', '#5f5f5f', '#000000'],
    dark: ['#56b4e9', '#e69f00', '#2fc79b', '#e39ac4', '#f0e442', '#ff8a4c', '#c9c9c9', '#ffffff'],
};
const DASHES = ['', '7 3', '2 3', '9 3 2 3', '12 4', '4 4', '1 5', '8 2 2 2 2 2'];

const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

/** The map's colour at x in 0..1 as [r, g, b]. */
function along(map, x) {
    const at = Math.min(1, Math.max(0, x)) * (map.length - 1);
    const i = Math.min(map.length - 2, Math.floor(at));
    const [a, b] = [channels(map[i]), channels(map[i + 1])];
    return a.map((from, c) => Math.round(from + (b[c] - from) * (at - i)));
}

const css = ([r, g, b]) => `rgb(${r}, ${g}, ${b})`;

/** Relative luminance (WCAG). */
function luminance(rgb) {
    const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever reads better on `rgb`. */
const onTop = (rgb) => (luminance(rgb) > 0.179 ? '#000000' : '#ffffff');

/** 256 steps of a map with the colour of letters on it. */
function steps(map) {
    return Array.from({ length: 256 }, (_, i) => {
        const rgb = along(map, i / 255);
        return { back: css(rgb), front: onTop(rgb) };
    });
}

const dark = matchMedia('(prefers-color-scheme: dark)');
let printing = false;

/** `light` or `dark`, as chosen or as the system has it; paper is light. */
function themeName() {
    if (printing) return 'light';
    const asked = choice('theme', '', ['light', 'dark']);
    return asked || (dark.matches ? 'dark' : 'light');
}

/** The colours of lines and letters in charts. */
function theme() {
    const name = themeName();
    return name === 'dark'
        ? { name, paper: '#16191d', ink: '#e6e8ea', muted: '#a3aab2', grid: '#30363d', categories: CATEGORIES.dark }
        : { name, paper: '#ffffff', ink: '#1c1f23', muted: '#5b626a', grid: '#e1e4e8', categories: CATEGORIES.light };
}

/** How the i-th series of a chart is drawn: no two look alike without colour either. */
function styleOf(i) {
    const { categories } = theme();
    const round = Math.floor(i / categories.length);
    return {
        colour: categories[i % categories.length],
        dash: DASHES[(i + round) % DASHES.length],
        marker: (i + 3 * round) % 6,
    };
}

/** The palette the reader chose for cells. */
const palette = () => MAPS[choice('palette', 'viridis', Object.keys(MAPS))];

/** Sets the theme on the document, and calls `redraw` whenever it changes. */
function watchTheme(redraw) {
    const button = document.getElementById('theme');
    const show = () => {
        document.documentElement.dataset.theme = themeName();
        button.textContent = `Theme: ${choice('theme', 'auto', ['light', 'dark'])}`;
    };
    const change = () => {
        show();
        redraw();
    };
    button.addEventListener('click', () => {
        const order = ['auto', 'light', 'dark'];
        choose('theme', order[(order.indexOf(choice('theme', 'auto', order)) + 1) % 3], 'auto');
        change();
    });
    dark.addEventListener('change', change);
    addEventListener('beforeprint', () => {
        printing = true;
        change();
    });
    addEventListener('afterprint', () => {
        printing = false;
        change();
    });
    onAddress(show);
    show();
}
