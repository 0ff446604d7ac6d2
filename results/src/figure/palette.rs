//! Colours that a reader who does not see red from green can tell apart, and that survive grey print.

#![allow(clippy::unreadable_literal)] // colours are written as everywhere else

use super::scene::Colour;

/// Viridis (Smith & van der Walt 2015) at 33 points: dark violet, blue, green, yellow.
const VIRIDIS: [u32; 33] = [
    0x440154, 0x470d60, 0x48186a, 0x482374, 0x472d7b, 0x453681, 0x424086, 0x3f4989, 0x3b528b, 0x375a8d,
    0x33638d, 0x2f6a8e, 0x2c728e, 0x297a8e, 0x26818e, 0x23898e, 0x21908c, 0x1f988b, 0x1f9f88, 0x21a685,
    0x28ae80, 0x31b57b, 0x3ebc74, 0x4cc26c, 0x5dc963, 0x6ece58, 0x82d34c, 0x96d83f, 0xabdc32, 0xc0df24,
    0xd5e21a, 0xeae51a, 0xfde725,
];

/// Blue, white, orange: each arm grows darker away from the middle.
const DIVERGING: [u32; 9] =
    [0x08306b, 0x2166ac, 0x67a9cf, 0xc0dcee, 0xffffff, 0xfdd9a8, 0xf1963c, 0xb85c0a, 0x5e2a04];

/// Okabe & Ito (2008) without yellow, which is too bright for a line on paper, and without black, which is the model's.
const OKABE_ITO: [u32; 6] = [0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9];

/// Lengths of dashes and gaps, in pixels.
const DASHES: [&[f64]; 4] = [&[], &[7.0, 3.0], &[2.0, 2.5], &[9.0, 2.5, 2.0, 2.5]];

/// A point's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Wedge,
}

/// How a line is told from others: no two of the first sixty are alike, nor any two neighbours in one of the three.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineStyle {
    /// Okabe-Ito.
    pub colour: Colour,
    /// Dashes and gaps; empty for a solid line.
    pub dash: &'static [f64],
    /// Drawn at the ticks of the axis.
    pub marker: Marker,
}

/// The style of the `i`-th line.
pub fn line(i: usize) -> LineStyle {
    const MARKERS: [Marker; 5] =
        [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Wedge];
    LineStyle { colour: hex(OKABE_ITO[i % 6]), dash: DASHES[i % 4], marker: MARKERS[i % 5] }
}

/// Dashes of the `i`-th level, a value that is the same at every layer.
pub fn level_dash(i: usize) -> &'static [f64] {
    const LEVELS: [&[f64]; 4] = [&[5.0, 3.0], &[1.5, 2.5], &[10.0, 3.0], &[6.0, 2.0, 1.5, 2.0]];
    LEVELS[i % 4]
}

/// Viridis at `x` in 0..=1.
pub fn viridis(x: f64) -> Colour {
    between(&VIRIDIS, x)
}

/// Blue to orange at `x` in 0..=1, white at 0.5: for signed values, 0 in the middle.
pub fn diverging(x: f64) -> Colour {
    between(&DIVERGING, x)
}

/// Linear between equally spaced stops.
fn between(stops: &[u32], x: f64) -> Colour {
    let last = stops.len() - 1;
    let place = if x.is_finite() { x.clamp(0.0, 1.0) * last as f64 } else { 0.0 };
    let first = (place as usize).min(last - 1);
    let (Colour(r, g, b), Colour(s, h, c)) = (hex(stops[first]), hex(stops[first + 1]));
    let mix =
        |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * (place - first as f64)).round() as u8;
    Colour(mix(r, s), mix(g, h), mix(b, c))
}

fn hex(rgb: u32) -> Colour {
    let [_, r, g, b] = rgb.to_be_bytes();
    Colour(r, g, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminances(of: fn(f64) -> Colour) -> Vec<f64> {
        (0..=200).map(|i| of(f64::from(i) / 200.0).luminance()).collect()
    }

    #[test]
    fn viridis_grows_brighter_all_the_way() {
        assert!(luminances(viridis).windows(2).all(|w| w[0] <= w[1]));
        // Matplotlib's table has (68, 1, 84) first, (33, 145, 140) at 128 and (253, 231, 37) last.
        assert_eq!((viridis(0.0), viridis(1.0)), (Colour(68, 1, 84), Colour(253, 231, 37)));
        let Colour(r, g, b) = viridis(128.0 / 255.0);
        assert!(r.abs_diff(33) <= 2 && g.abs_diff(145) <= 2 && b.abs_diff(140) <= 2);
    }

    #[test]
    fn the_arms_of_the_diverging_map_darken_from_white() {
        let all = luminances(diverging);
        assert!(all[..=100].windows(2).all(|w| w[0] < w[1]) && all[100..].windows(2).all(|w| w[0] > w[1]));
        assert_eq!(diverging(0.5), Colour::PAPER);
        // Equal distances from 0 weigh alike, nearly.
        assert!((0..=100).all(|i| (all[i] - all[200 - i]).abs() < 0.12));
    }

    #[test]
    fn lines_differ_in_more_than_hue_and_stand_out_from_paper() {
        let key = |i: usize| (line(i).colour, line(i).dash, line(i).marker);
        for i in 0..60 {
            assert!((0..i).all(|j| key(i) != key(j)), "{i}");
            assert!(line(i).dash != line(i + 1).dash && line(i).marker != line(i + 1).marker, "{i}");
            // Half of WCAG's 3:1 for graphics at the least; sky blue and orange are the bright ones of the set.
            assert!(1.05 / (line(i).colour.luminance() + 0.05) > 2.0, "{i}");
        }
    }

    #[test]
    fn letters_can_be_read_on_every_colour() {
        for of in [viridis, diverging] {
            for i in 0..=100 {
                let ground = of(f64::from(i) / 100.0);
                let (a, b) = (ground.luminance() + 0.05, ground.letters().luminance() + 0.05);
                assert!(a.max(b) / a.min(b) >= 4.5, "{ground:?}");
            }
        }
    }
}
