//! The embedded font, and how wide its letters are.
//!
//! `font/DejaVuSans-subset.ttf` is `DejaVu Sans` 2.37 (licence beside it) with the Latin, Greek and Cyrillic letters,
//! arrows and mathematical signs, without hints and kerning, made by fonttools' `pyftsubset`.

use std::sync::LazyLock;

use ab_glyph::{Font as _, FontRef, PxScale, ScaleFont as _};

use crate::inert::{blotted, is_invisible};

/// The subset.
const FILE: &[u8] = include_bytes!("font/DejaVuSans-subset.ttf");
/// What the SVG asks for, in order.
pub(super) const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";
/// Ascent and descent of the font by its em, which `ab_glyph` takes for its size: `(1901 + 483) / 2048`.
const LINE: f64 = 2384.0 / 2048.0;
/// Height of a capital by the em: `1493 / 2048`.
pub(super) const CAPITAL: f64 = 0.729;
/// Depth of `g` by the em.
pub(super) const DEPTH: f64 = 0.21;

/// The font; none if the file were damaged, which a test rules out.
static FONT: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| FontRef::try_from_slice(FILE).ok());

/// The width of `text` in pixels at an em of `size` pixels.
pub fn width(text: &str, size: f64) -> f64 {
    let Some(font) = &*FONT else { return text.chars().count() as f64 * size * 0.6 };
    let scaled = font.as_scaled(PxScale::from((size * LINE) as f32));
    text.chars().map(|c| f64::from(scaled.h_advance(scaled.glyph_id(c)))).sum()
}

/// The dots of `text` at an em of `size` dots, from the start of its baseline: `(right, down, coverage)`.
pub(super) fn dots(text: &str, size: f64, mut dot: impl FnMut(i32, i32, f64)) {
    let Some(font) = &*FONT else { return };
    let scale = PxScale::from((size * LINE) as f32);
    let scaled = font.as_scaled(scale);
    let mut x = 0.0;
    for c in text.chars() {
        let id = scaled.glyph_id(c);
        if let Some(outline) = font.outline_glyph(id.with_scale_and_position(scale, ab_glyph::point(x, 0.0)))
        {
            let corner = outline.px_bounds().min;
            outline.draw(|right, down, coverage| {
                dot(corner.x as i32 + right as i32, corner.y as i32 + down as i32, f64::from(coverage));
            });
        }
        x += scaled.h_advance(id);
    }
}

/// `text`, shortened with `…` until it is no wider than `room` pixels.
pub fn fit(text: &str, size: f64, room: f64) -> String {
    let text = clean(text);
    if width(&text, size) <= room {
        return text;
    }
    let letters: Vec<char> = text.chars().collect();
    let short = |n: usize| letters[..n].iter().collect::<String>() + "…";
    let (mut fits, mut fails) = (0, letters.len());
    while fails - fits > 1 {
        let middle = usize::midpoint(fits, fails);
        if width(&short(middle), size) <= room { fits = middle } else { fails = middle }
    }
    short(fits)
}

/// One line that hides nothing: control, zero-width and bidirectional characters become `�`, which XML could not hold
/// either.
pub fn clean(text: &str) -> String {
    blotted(text, is_invisible)
}

/// `text` in lines no wider than `room` pixels, broken at spaces; at most `most` of them.
pub(super) fn wrap(text: &str, size: f64, room: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let longer = lines.last().map_or_else(|| word.to_owned(), |line| format!("{line} {word}"));
        let fits = width(&longer, size) <= room;
        if fits || (!lines.is_empty() && lines.len() == most) {
            lines.pop();
            lines.push(fit(&longer, size, room));
        } else {
            lines.push(fit(word, size, room));
        }
        if !fits && lines.len() == most && lines.last().is_some_and(|line| line.ends_with('…')) {
            break;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_is_whole_and_has_what_figures_say() {
        let font = FONT.as_ref().unwrap();
        let missing = |c: &char| font.glyph_id(*c).0 == 0;
        let none: Vec<char> =
            "KL(model ‖ lens) − ≥ ≤ ± × · ⏎ … ² ₂ λ μ Ж Ġ Ċ ▁ ␣ �".chars().filter(missing).collect();
        assert!(none.is_empty(), "{none:?}");
    }

    #[test]
    fn widths_by_the_fonts_own_table() {
        // DejaVu Sans: advances of `0` 1303, `i` 569, `m` 1995, of 2048 to the em.
        for (text, units) in [("0", 1303.0), ("i", 569.0), ("mmm", 3.0 * 1995.0)] {
            assert!((width(text, 10.0) - units / 204.8).abs() < 0.02, "{text}: {}", width(text, 10.0));
        }
    }

    #[test]
    fn short_texts_stay_and_long_ones_fit() {
        assert_eq!(fit("layer", 10.0, 100.0), "layer");
        let short = fit(&"x".repeat(10_000), 10.0, 50.0);
        assert!(short.ends_with('…') && width(&short, 10.0) <= 50.0 && short.len() > 8, "{short}");
        assert_eq!(fit("a\nb\u{202e}", 10.0, 100.0), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn lines_break_at_spaces_and_end() {
        let lines = wrap("one two three four", 10.0, width("one two", 10.0), 2);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0], "one two");
        assert!(lines[1].ends_with('…'), "{lines:?}");
        assert!(lines.iter().all(|line| width(line, 10.0) <= width("one two", 10.0)));
    }
}
