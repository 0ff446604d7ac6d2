//! The bar that says what a colour means.

use super::{
    axis::Axis,
    font,
    frame::{LABEL, SMALL},
    scene::{Align, Bounds, Colour, Scene},
};

/// Width of the bar itself.
const WIDE: f64 = 14.0;

/// Room that the bar takes with its labels.
pub(super) fn room(axis: &Axis) -> f64 {
    let widest = axis.ticks.iter().map(|(_, label)| font::width(label, SMALL)).fold(0.0, f64::max);
    WIDE + 7.0 + widest + 6.0 + LABEL * 1.2
}

/// Draws the bar at `x` from `top` to `bottom`, its label running upwards to the right of the numbers.
pub(super) fn draw(
    scene: &mut Scene,
    (x, top, bottom): (f64, f64, f64),
    axis: &Axis,
    label: &str,
    colour: &dyn Fn(f64) -> Colour,
) {
    const STEPS: u32 = 64;
    let step = (bottom - top) / f64::from(STEPS);
    for i in 0..STEPS {
        let share = (f64::from(i) + 0.5) / f64::from(STEPS);
        let y = bottom - f64::from(i) * step;
        // Half a pixel more, so that no seam shows between steps.
        let above = (y - step - 0.5).max(top);
        scene.fill(
            Bounds { left: x, top: above, right: x + WIDE, bottom: y },
            colour(axis.low + share * (axis.high - axis.low)),
            1.0,
        );
    }
    scene.outline(Bounds { left: x, top, right: x + WIDE, bottom }, Colour::SOFT, 0.75);
    for (value, text) in &axis.ticks {
        let Some(at) = axis.place(*value) else { continue };
        let y = bottom - at * (bottom - top);
        scene.path(vec![(x + WIDE, y), (x + WIDE + 4.0, y)], Colour::SOFT, 1.0, &[]);
        scene.text((x + WIDE + 7.0, y + SMALL * 0.36), text, SMALL, Align::Start, Colour::SOFT);
    }
    let middle = f64::midpoint(top, bottom);
    let label = font::fit(label, LABEL, (bottom - top).max(90.0));
    scene.upwards((x + room(axis) - LABEL * 0.2, middle), &label, LABEL, Align::Middle, Colour::INK);
}
