use super::{Interval, NoInterval, Spread};

/// The interval of a share p of `n` rows: Wilson's (1927, J. Am. Stat. Assoc. 22), with as many rows as would give p
/// this spread if they were independent, `n* = p (1 - p) / v`, and Student's t for the normal quantile (Korn & Graubard
/// 1998, Survey Methodology 24; Dean & Pagano 2015, J. Surv. Stat. Methodol. 3).
///
/// n* is at least `n_eff` (rows of a cluster all alike) and at most `n`. Where all clusters agree the data say nothing
/// of it, and the least is taken: ten documents without an error still leave an error in the eleventh.
///
/// It is used for whatever lies in 0..1, such as AUROC and F1, whose spread the jackknife knows as well.
///
/// # Errors
/// [`NoInterval::Undefined`] for a p outside 0..1.
pub fn share(p: f64, spread: Spread, n: f64) -> Result<Interval, NoInterval> {
    // A share is a quotient of sums, whose rounding may leave it just outside.
    if !(-1e-9..=1.0 + 1e-9).contains(&p) {
        return Err(NoInterval::Undefined);
    }
    let p = p.clamp(0.0, 1.0);
    let (least, most) = (spread.n_eff.min(n), n);
    let alike = p * (1.0 - p) / spread.variance;
    let rows = if spread.variance == 0.0 || alike == 0.0 { least } else { alike.clamp(least, most) };
    let t = super::student(spread.n_eff - 1.0);
    let scale = 1.0 + t * t / rows;
    let middle = (p + t * t / (2.0 * rows)) / scale;
    let half = t * (p * (1.0 - p) / rows + t * t / (4.0 * rows * rows)).sqrt() / scale;
    // The ends at 0 and 1 are exact but for rounding.
    Interval::around(middle, half)
        .map(|i| Interval { lower: i.lower.clamp(0.0, p), upper: i.upper.clamp(p, 1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 independent rows, all right, 20 clusters: p = 1, n* = 20, t(19) = 2.093024, t² = 4.380750: lower end 1/(1 +
    /// t²/20) = .820319.
    #[test]
    fn all_right_leaves_room_for_errors() {
        let spread = Spread { variance: 0.0, n_eff: 20.0 };
        let got = share(1.0, spread, 20.0).unwrap();
        assert!((got.lower - 0.820_319).abs() < 1e-6, "{got:?}");
        assert_eq!(got.upper, 1.0);
        let none = share(0.0, spread, 20.0).unwrap();
        assert!((none.upper - 0.179_681).abs() < 1e-6 && none.lower == 0.0);
        // As many rows in as few clusters: no wider, no narrower.
        assert_eq!(share(1.0, spread, 2000.0).unwrap(), got);
    }

    /// With very many clusters and rows that are independent it is Wilson's with z, that of statsmodels.
    #[test]
    fn independent_rows_give_wilson() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../../fixtures/score/expected.json")).unwrap();
        for case in golden["wilson"].as_array().unwrap() {
            let [k, n, lower, upper]: [f64; 4] = serde_json::from_value(case.clone()).unwrap();
            let p = k / n;
            // Clusters without number, but no more rows than there are: t is z, n* is n.
            let got = share(p, Spread { variance: p * (1.0 - p) / n, n_eff: 1e12 }, n).unwrap();
            assert!((got.lower - lower).abs() < 1e-9 && (got.upper - upper).abs() < 1e-9, "{case}: {got:?}");
        }
    }

    #[test]
    fn rows_are_held_between_clusters_and_themselves() {
        let of = |variance: f64| share(0.5, Spread { variance, n_eff: 10.0 }, 100.0).unwrap();
        assert_eq!(of(1.0), of(0.25 / 10.0));
        assert_eq!(of(1e-9), of(0.25 / 100.0));
        assert!(share(1.5, Spread { variance: 1.0, n_eff: 10.0 }, 10.0).is_err());
        assert!(share(f64::NAN, Spread { variance: 1.0, n_eff: 10.0 }, 10.0).is_err());
    }
}
