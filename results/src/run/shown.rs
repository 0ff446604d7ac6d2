//! A number with its interval, as text.

use layerscope_probes::interval::FEW;

use super::MetricRow;

/// What [`with_interval`] means, for the title of a table.
pub const LEGEND: &str = "± half of the 95 % interval; * fewer than 30 effective clusters";

/// `1.234 ±0.012`, half the width of the interval; `1.000 [0.820, 1.000]` where it is not the same to both sides; with
/// an asterisk where it rests on little. Three places, or as many as show that the width is not 0.
pub fn with_interval(row: &MetricRow) -> String {
    let Some((lower, upper)) = row.lower.zip(row.upper) else { return format!("{:.3}", row.estimate) };
    let mark = if row.n_eff > 0.0 && row.n_eff < FEW { "*" } else { "" };
    // Three places are printed: a difference that they do not show makes no two-sided interval.
    let lopsided = ((upper - row.estimate) - (row.estimate - lower)).abs() >= 0.001;
    let half = (upper - lower) / 2.0;
    if lopsided {
        format!("{:.3} [{lower:.3}, {upper:.3}]{mark}", row.estimate)
    } else {
        let places = if half < 0.0005 { (-half.log10()).ceil().clamp(3.0, 12.0) as usize } else { 3 };
        format!("{:.places$} ±{half:.places$}{mark}", row.estimate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{Estimate, Interval};

    #[test]
    fn a_narrow_interval_is_not_shown_as_none() {
        let shown = |estimate: f64, lower: f64, upper: f64| {
            let interval = Ok(Interval { lower, upper });
            with_interval(&MetricRow::of(
                "kl",
                "nats",
                Estimate { estimate, interval, n: 9, n_clusters: 9, n_eff: 40.0 },
            ))
        };
        assert_eq!(shown(0.5, 0.4, 0.6), "0.500 ±0.100");
        assert_eq!(shown(0.5, 0.4, 0.5), "0.500 [0.400, 0.500]");
        assert_eq!(shown(0.5, 0.4996, 0.5004), "0.5000 ±0.0004");
        assert_eq!(shown(-1e-7, -3e-7, 1e-7), "-0.0000001 ±0.0000002");
    }
}
