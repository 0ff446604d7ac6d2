//! A scene played to the two backends of plotters.
//!
//! Both are given four units per pixel, for plotters counts in whole ones: the SVG scales them back in its `viewBox`,
//! the PNG is averaged from four by four to two by two dots per pixel, which smooths every edge.

use std::fmt::Write as _;

use plotters::{
    backend::{BitMapBackend, DrawingBackend, SVGBackend},
    style::{
        Color as _, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    font,
    scene::{Align, Bounds, Colour, Mark, Scene, Text},
};

/// Units of a backend per pixel.
const FINE: f64 = 4.0;
/// Dots of the PNG per pixel.
const DOTS: u32 = 2;
/// More pixels on a side than this are refused.
const LARGEST: f64 = 8000.0;

/// A figure could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// The scene is empty or larger than what anyone can look at.
    #[error("a figure of {width:.0} by {height:.0} pixels cannot be drawn")]
    #[allow(missing_docs)]
    Size { width: f64, height: f64 },
    /// Plotters refused.
    #[error("cannot draw: {0}")]
    Backend(String),
    /// The PNG cannot be encoded.
    #[error("cannot encode a PNG: {0}")]
    Png(#[from] png::EncodingError),
}

/// Who draws letters.
#[derive(Clone, Copy)]
enum Letters {
    /// The backend, by the font's name.
    Named,
    /// We, by the outlines of the embedded font: plotters' own letters lack their side bearings.
    Outlines,
}

/// The scene as a standalone SVG. `title` is what a screen reader says.
///
/// # Errors
/// [`FigureError`].
pub fn svg(scene: &Scene, title: &str) -> Result<String, FigureError> {
    let (width, height) = size(scene)?;
    let mut text = String::new();
    play(scene, SVGBackend::with_string(&mut text, (width, height)), Letters::Named)?;
    // Plotters opens with its own element, which knows no scale and no title.
    let body = text.split_once(">\n").map_or("", |(_, body)| body);
    let (w, h) = (scene.width.ceil(), scene.height.ceil());
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n"
    );
    let _ = writeln!(out, "<title>{}</title>", escape(&font::clean(title)));
    out.push_str(body);
    Ok(out)
}

/// The scene as a PNG of two dots per pixel.
///
/// # Errors
/// [`FigureError`].
pub fn png(scene: &Scene) -> Result<Vec<u8>, FigureError> {
    let (width, height) = size(scene)?;
    let mut fine = vec![0xff; width as usize * height as usize * 3];
    play(scene, BitMapBackend::with_buffer(&mut fine, (width, height)), Letters::Outlines)?;
    let step = FINE as u32 / DOTS;
    let (w, h) = (width / step, height / step);
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, w, h);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Best);
    encoder.set_adaptive_filter(png::AdaptiveFilterType::Adaptive);
    let dpi = Some(png::PixelDimensions {
        xppu: 96 * DOTS * 10_000 / 254,
        yppu: 96 * DOTS * 10_000 / 254,
        unit: png::Unit::Meter,
    });
    encoder.set_pixel_dims(dpi);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&average(&fine, width as usize, step as usize))?;
    writer.finish()?;
    Ok(out)
}

fn size(scene: &Scene) -> Result<(u32, u32), FigureError> {
    let (width, height) = (scene.width.ceil(), scene.height.ceil());
    let fine = |x: f64| (1.0..=LARGEST).contains(&x).then_some((x * FINE) as u32);
    fine(width).zip(fine(height)).ok_or(FigureError::Size { width, height })
}

/// Means of squares of `step` by `step` dots, RGB.
fn average(fine: &[u8], width: usize, step: usize) -> Vec<u8> {
    let row = width * 3;
    let mut out = Vec::with_capacity(fine.len() / (step * step));
    for rows in fine.chunks_exact(row * step) {
        for x in 0..width / step {
            for channel in 0..3 {
                let dot = |i: usize| u32::from(rows[(i / step) * row + (x * step + i % step) * 3 + channel]);
                let n = (step * step) as u32;
                out.push(((0..step * step).map(dot).sum::<u32>() / n) as u8);
            }
        }
    }
    out
}

/// Draws every mark in order, on paper.
fn play<B: DrawingBackend>(scene: &Scene, mut to: B, letters: Letters) -> Result<(), FigureError> {
    let paper = Bounds { left: 0.0, top: 0.0, right: scene.width.ceil(), bottom: scene.height.ceil() };
    let ground = Mark::Box { bounds: paper, colour: Colour::PAPER, opacity: 1.0 };
    std::iter::once(&ground).chain(&scene.marks).try_for_each(|mark| draw(mark, &mut to, letters))?;
    to.present().map_err(refused)
}

fn refused(error: impl std::error::Error) -> FigureError {
    FigureError::Backend(error.to_string())
}

fn draw<B: DrawingBackend>(mark: &Mark, to: &mut B, letters: Letters) -> Result<(), FigureError> {
    match mark {
        Mark::Path { points, colour, width, dash } => {
            let stroke_width = unit(*width).max(1) as u32;
            let style = ShapeStyle { color: rgb(*colour).mix(1.0), filled: false, stroke_width };
            let pieces = if dash.is_empty() { vec![points.clone()] } else { dashes(points, dash) };
            let mut pieces = pieces.iter().map(|piece| units(piece)).filter(|piece| piece.len() > 1);
            pieces.try_for_each(|piece| to.draw_path(piece, &style).map_err(refused))
        }
        Mark::Area { points, colour, opacity } => {
            to.fill_polygon(units(points), &rgb(*colour).mix(*opacity)).map_err(refused)
        }
        Mark::Box { bounds, colour, opacity } => {
            let corners = [(bounds.left, bounds.top), (bounds.right, bounds.bottom)];
            let [first, last] = corners.map(|(x, y)| (unit(x), unit(y)));
            to.draw_rect(first, last, &rgb(*colour).mix(*opacity), true).map_err(refused)
        }
        Mark::Dot { x, y, radius, colour } => {
            to.draw_circle((unit(*x), unit(*y)), unit(*radius) as u32, &rgb(*colour), true).map_err(refused)
        }
        Mark::Text(text) => match letters {
            Letters::Named => named(text, to),
            Letters::Outlines => outlines(text, to),
        },
    }
}

/// Plotters' SVG divides sizes by 1.24 and sets the baseline 0.76 em below the top of a text.
fn named<B: DrawingBackend>(text: &Text, to: &mut B) -> Result<(), FigureError> {
    let h_pos = match text.align {
        Align::Start => HPos::Left,
        Align::Middle => HPos::Center,
        Align::End => HPos::Right,
    };
    let font = FontDesc::new(FontFamily::Name(font::FAMILY), text.size * FINE * 1.24, FontStyle::Normal);
    let above = text.size * 0.76;
    let (font, x, y) = if text.upwards {
        (font.transform(FontTransform::Rotate270), text.x - above, text.y)
    } else {
        (font, text.x, text.y - above)
    };
    let style =
        TextStyle { font, color: rgb(text.colour).to_backend_color(), pos: Pos::new(h_pos, VPos::Top) };
    to.draw_text(&text.text, &style, (unit(x), unit(y))).map_err(refused)
}

fn outlines<B: DrawingBackend>(text: &Text, to: &mut B) -> Result<(), FigureError> {
    let before = match text.align {
        Align::Start => 0.0,
        Align::Middle => font::width(&text.text, text.size) / 2.0,
        Align::End => font::width(&text.text, text.size),
    };
    let (x, y) = if text.upwards { (text.x, text.y + before) } else { (text.x - before, text.y) };
    let (x, y) = (unit(x), unit(y));
    let mut outcome = Ok(());
    font::dots(&text.text, text.size * FINE, |right, down, coverage| {
        let at = if text.upwards { (x + down, y - right) } else { (x + right, y + down) };
        let drawn = to.draw_pixel(at, rgb(text.colour).mix(coverage.clamp(0.0, 1.0)).to_backend_color());
        if let (Err(e), Ok(())) = (drawn, &outcome) {
            outcome = Err(refused(e));
        }
    });
    outcome
}

fn unit(x: f64) -> i32 {
    (x * FINE).round() as i32
}

/// Points in units of the backend; plotters cannot take two equal ones in a row.
fn units(points: &[(f64, f64)]) -> Vec<(i32, i32)> {
    let mut out: Vec<(i32, i32)> = points.iter().map(|(x, y)| (unit(*x), unit(*y))).collect();
    out.dedup();
    out
}

fn rgb(Colour(r, g, b): Colour) -> RGBColor {
    RGBColor(r, g, b)
}

/// The pieces of a dashed line; `pattern` has dashes and gaps in turn.
fn dashes(points: &[(f64, f64)], pattern: &[f64]) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = Vec::new();
    let mut piece: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    let (mut place, mut left) = (0, pattern[0]);
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        let length = (x1 - x0).hypot(y1 - y0);
        let at = |s: f64| (x0 + (x1 - x0) * s / length, y0 + (y1 - y0) * s / length);
        let mut gone = 0.0;
        while length - gone > left {
            gone += left;
            piece.push(at(gone));
            if place % 2 == 0 {
                pieces.push(std::mem::take(&mut piece));
            }
            place += 1;
            piece = vec![at(gone)];
            left = pattern[place % pattern.len()];
        }
        left -= length - gone;
        piece.push((x1, y1));
    }
    if place % 2 == 0 {
        pieces.push(piece);
    }
    pieces
}

/// Text for XML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_by_hand() {
        // 10 along, 3 on and 2 off: 0-3, 5-8.
        let pieces = dashes(&[(0.0, 0.0), (10.0, 0.0)], &[3.0, 2.0]);
        let ends: Vec<_> = pieces.iter().map(|p| (p[0].0, p[p.len() - 1].0)).collect();
        assert_eq!(ends, [(0.0, 3.0), (5.0, 8.0)]);
        // Round a corner: the second dash has 2 before it and 1 after.
        let pieces = dashes(&[(0.0, 0.0), (7.0, 0.0), (7.0, 2.0)], &[3.0, 2.0]);
        assert_eq!(pieces[1], [(5.0, 0.0), (7.0, 0.0), (7.0, 1.0)]);
    }

    #[test]
    fn both_files_show_the_same_and_names_stay_inert() {
        let mut scene = Scene { width: 60.0, height: 20.0, marks: Vec::new() };
        scene.text((2.0, 15.0), "<script>\n&", 10.0, Align::Start, Colour::INK);
        scene.fill(Bounds { left: 50.0, top: 0.0, right: 60.0, bottom: 20.0 }, Colour(255, 0, 0), 1.0);
        let file = svg(&scene, "a <b> & c").unwrap();
        assert!(file.contains("<title>a &lt;b&gt; &amp; c</title>"), "{file}");
        assert!(file.contains("&lt;script&gt;\u{fffd}&amp;") && !file.contains("<script"), "{file}");
        assert!(file.contains("viewBox=\"0 0 240 80\"") && file.ends_with("</svg>\n"));
        let bytes = png(&scene).unwrap();
        let mut reader = png::Decoder::new(bytes.as_slice()).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (120, 40));
        let mut dots = vec![0; reader.output_buffer_size()];
        reader.next_frame(&mut dots).unwrap();
        let dot = |x: usize, y: usize| &dots[(y * 120 + x) * 3..][..3];
        assert_eq!((dot(110, 20), dot(90, 1)), (&[255, 0, 0][..], &[255, 255, 255][..]));
        // Letters stand on the baseline: ink in the row above it, none two below the depth of a letter.
        let ink = |y: usize| (0..40).any(|x| dot(x, y)[0] < 128);
        assert!(ink(29) && !ink(38) && !ink(2));
    }

    #[test]
    fn what_nobody_could_look_at_is_refused() {
        for (width, height) in [(0.0, 10.0), (f64::NAN, 10.0), (10.0, 1e6)] {
            let scene = Scene { width, height, marks: Vec::new() };
            assert!(matches!(png(&scene), Err(FigureError::Size { .. })));
        }
    }
}
