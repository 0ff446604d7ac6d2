//! Ticks that people would have chosen.

/// A range of values with its ticks.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Lower end.
    pub low: f64,
    /// Upper end, above `low`.
    pub high: f64,
    /// Equal distances are equal ratios.
    pub log: bool,
    /// Values with their labels, ascending.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Covers `low` to `high` with about `n` ticks at multiples of 1, 2 or 5 times a power of ten, the ends among them.
    pub fn linear(low: f64, high: f64, n: usize) -> Self {
        let (low, high) = widened(low, high);
        let step = nice_step((high - low) / n.max(1) as f64);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let digits = digits(step);
        let value = |k: f64| if k == 0.0 { 0.0 } else { k * step };
        let ticks = (0..=(last - first) as usize).map(|i| {
            let v = value(first + i as f64);
            (v, minus(&format!("{v:.digits$}")))
        });
        Self { low: value(first), high: value(last), log: false, ticks: ticks.collect() }
    }

    /// The range itself, with about `n` ticks inside: for a colour bar.
    pub fn within(low: f64, high: f64, n: usize) -> Self {
        let (low, high) = widened(low, high);
        let whole = Self::linear(low, high, n);
        let slack = (high - low) * 1e-9;
        let inside = |(v, _): &(f64, String)| *v >= low - slack && *v <= high + slack;
        Self { low, high, log: false, ticks: whole.ticks.into_iter().filter(inside).collect() }
    }

    /// Covers positive values on a logarithmic scale: ticks at 1, 2 and 5 times powers of ten, at powers alone where
    /// those are many.
    pub fn logarithmic(low: f64, high: f64) -> Self {
        let low = if low > 0.0 && low.is_finite() { low } else { 1e-3 };
        let high = if high.is_finite() && high > low { high } else { low * 10.0 };
        let all = |steps: &[f64]| -> Vec<f64> {
            let (first, last) = (low.log10().floor() as i32 - 1, high.log10().ceil() as i32 + 1);
            (first..=last).flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e))).collect()
        };
        let mut values = all(&[1.0, 2.0, 5.0]);
        if (high / low).log10() > 3.0 {
            values = all(&[1.0]);
        }
        if (high / low).log10() < 0.6 {
            values = all(&[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        }
        let below = values.iter().copied().rfind(|v| *v <= low * (1.0 + 1e-9)).unwrap_or(low);
        let above = values.iter().copied().find(|v| *v >= high * (1.0 - 1e-9)).unwrap_or(high);
        values.retain(|v| *v >= below && *v <= above);
        let ticks = values.into_iter().map(|v| (v, plain(v)));
        Self { low: below, high: above, log: true, ticks: ticks.collect() }
    }

    /// Where `value` lies: 0 at the lower end, 1 at the upper one; none where a logarithm has no place for it.
    pub fn place(&self, value: f64) -> Option<f64> {
        let at = if self.log {
            (value > 0.0).then(|| (value / self.low).ln() / (self.high / self.low).ln())?
        } else {
            (value - self.low) / (self.high - self.low)
        };
        at.is_finite().then_some(at)
    }
}

/// Room for a range that is a point, or no range at all.
fn widened(low: f64, high: f64) -> (f64, f64) {
    match (low.is_finite() && high.is_finite(), high > low) {
        (false, _) => (0.0, 1.0),
        (true, true) => (low, high),
        (true, false) => (low - low.abs().max(1.0) * 0.5, low + low.abs().max(1.0) * 0.5),
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|k| k * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(least)
}

fn digits(step: f64) -> usize {
    (-(step * (1.0 + 1e-9)).log10().floor()).max(0.0) as usize
}

/// A number without needless zeros.
fn plain(v: f64) -> String {
    let text = if (1e-4..1e6).contains(&v) { format!("{v:.6}") } else { return format!("{v:.0e}") };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The sign that is as wide as a plus.
pub(super) fn minus(number: &str) -> String {
    number.replace('-', "−")
}

/// The layers that get a label: multiples of the smallest of 1, 2, 5, 10 … at which labels keep their distance, with
/// the first and the last one always. `layers` ascend; `spacing` is the distance of layer `l` and `l + 1`, and `room`
/// what a label needs, in pixels.
pub fn layer_ticks(layers: &[i32], spacing: f64, room: f64) -> Vec<i32> {
    let (Some(&first), Some(&last)) = (layers.first(), layers.last()) else { return Vec::new() };
    let apart = |a: i32, b: i32| f64::from(b - a) * spacing >= room;
    let steps = [1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000];
    let ticks = |step: i32| {
        let round = |l: &i32| l % step == 0 && apart(first, *l) && apart(*l, last);
        let inner = layers.iter().copied().filter(|l| *l != first && *l != last).filter(round);
        let mut all = vec![first];
        all.extend(inner);
        if last != first {
            all.push(last);
        }
        all
    };
    let fits = |all: &Vec<i32>| all.windows(2).all(|w| apart(w[0], w[1]));
    steps.into_iter().map(ticks).find(fits).unwrap_or_else(|| vec![first])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> String {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_people_would_choose() {
        assert_eq!(labels(&Axis::linear(0.0, 1.0, 5)), "0.0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(labels(&Axis::linear(0.31, 0.74, 5)), "0.3 0.4 0.5 0.6 0.7 0.8");
        assert_eq!(labels(&Axis::linear(-2.1, 3.9, 5)), "−4 −2 0 2 4");
        assert_eq!(labels(&Axis::linear(0.0, 1234.0, 5)), "0 500 1000 1500");
        assert_eq!(labels(&Axis::linear(5.0, 5.0, 5)), "2 3 4 5 6 7 8");
        assert_eq!(labels(&Axis::linear(f64::NAN, 1.0, 2)), "0.0 0.5 1.0");
        assert_eq!(labels(&Axis::logarithmic(0.3, 25.0)), "0.2 0.5 1 2 5 10 20 50");
        assert_eq!(labels(&Axis::logarithmic(0.002, 900.0)), "0.001 0.01 0.1 1 10 100 1000");
        assert_eq!(labels(&Axis::logarithmic(0.81, 0.97)), "0.8 0.9 1");
        assert_eq!(labels(&Axis::within(-0.3, 2.4, 5)), "0 1 2");
    }

    #[test]
    fn axes_cover_what_they_were_asked_to() {
        for i in 1..200 {
            let (low, high) = (f64::from(i).sin() * 100.0, f64::from(i).sin() * 100.0 + 0.37 * f64::from(i));
            let axis = Axis::linear(low, high, 6);
            assert!(axis.low <= low + 1e-6 && axis.high >= high - 1e-6 && axis.ticks.len() <= 9, "{axis:?}");
            let log = Axis::logarithmic(low.abs() + 0.1, low.abs() + 0.1 + high - low);
            assert!(log.place(low.abs() + 0.1).unwrap() >= -1e-9, "{log:?}");
            assert!(log.place(low.abs() + 0.1 + high - low).unwrap() <= 1.0 + 1e-9, "{log:?}");
        }
        assert_eq!(Axis::logarithmic(1.0, 100.0).place(10.0), Some(0.5));
        assert_eq!(Axis::logarithmic(1.0, 100.0).place(0.0), None);
    }

    #[test]
    fn layers_at_round_numbers_and_both_ends() {
        let all = |n: i32| (0..=n).collect::<Vec<_>>();
        assert_eq!(layer_ticks(&all(6), 100.0, 20.0), all(6));
        assert_eq!(layer_ticks(&all(12), 15.0, 20.0), [0, 2, 4, 6, 8, 10, 12]);
        // 80 layers at 8 px: labels need 22 px, so every fifth.
        assert_eq!(layer_ticks(&all(80), 8.0, 22.0), (0..=80).step_by(5).collect::<Vec<_>>());
        // 78 is kept and 75, 3 × 5 px from it, is not.
        assert_eq!(layer_ticks(&all(78), 5.0, 22.0).last_chunk(), Some(&[70, 78]));
        assert_eq!(layer_ticks(&[3, 7, 11], 30.0, 20.0), [3, 7, 11]);
        assert_eq!(layer_ticks(&[4], 30.0, 20.0), [4]);
        assert_eq!(layer_ticks(&[], 30.0, 20.0), Vec::<i32>::new());
        assert_eq!(layer_ticks(&[0, 1], 1.0, 20.0), [0]);
    }
}
