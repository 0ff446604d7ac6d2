//! Does one lens serve every layer of this model? The numbers, in words.

use std::fmt::Write as _;

use layerscope_lenses::LayerIndex;

use crate::{
    lenses::Rung,
    results::{
        run::{MetricRow, Parts, RowKind, Subject},
        statistics::Estimate,
    },
};

use crate::results::statistics::spearman;

/// Documents, of both halves together, below which there is no verdict: with fewer the score has moved by a fifth of
/// itself.
const FEWEST_DOCUMENTS: u64 = 20;

/// How well one shared lens does.
#[derive(Debug, Clone)]
pub struct Sharing {
    /// Its name, with its rung where the folder has several.
    pub subject: Subject,
    /// Score `G` over all layers: 0 is as good as a lens per layer, 1 no better than a constant prediction.
    pub score: Estimate,
    /// `G` per layer.
    pub layers: Vec<Estimate>,
    /// `G` of the rotated control, and the sharing index `1 - gap / gap of the control`.
    pub control: Option<(Estimate, Estimate)>,
}

impl Sharing {
    /// Rows of `metrics.parquet`, kind `sharing`: of every layer, and at the last one over all.
    pub fn rows(&self, hook: &str, layers: &[LayerIndex]) -> Vec<MetricRow> {
        let last = layers.last().copied().unwrap_or(LayerIndex(0));
        let each = layers.iter().zip(&self.layers).map(|(layer, e)| ("sharing", *layer, *e));
        let all = [("sharing_all_layers", last, self.score)];
        let control = self.control.iter().flat_map(|(control, index)| {
            [("sharing_all_layers_rotated", last, *control), ("sharing_index", last, *index)]
        });
        let row = |(metric, layer, e): (&str, LayerIndex, Estimate)| MetricRow {
            subject: self.subject.clone(),
            kind: RowKind::Sharing,
            hook: hook.into(),
            layer: layer.0 as i32,
            ..MetricRow::of(metric, "ratio", e)
        };
        each.chain(all).chain(control).filter(|(_, _, e)| e.estimate.is_finite()).map(row).collect()
    }
}

/// The mean penalty over pairs of layers at a distance, in CE.
fn at_distance(rows: &[MetricRow], near: bool, penalty: &str) -> Option<f64> {
    let of = |r: &&MetricRow| r.kind == RowKind::Transfer && r.metric == penalty;
    let layers: Vec<i32> = {
        let mut all: Vec<i32> = rows.iter().filter(of).map(|r| r.layer).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let place = |layer: i32| layers.iter().position(|l| *l == layer);
    let distance = |r: &MetricRow| Some(place(r.layer)?.abs_diff(place(r.source_layer?)?));
    let half = layers.len().div_ceil(2);
    let wanted = |d: usize| if near { d == 1 } else { d >= half.max(2) };
    let values: Vec<f64> =
        rows.iter().filter(of).filter(|r| distance(r).is_some_and(wanted)).map(|r| r.estimate).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sentences that the numbers support.
pub fn verdict(rows: &[MetricRow], sharing: &[Sharing], twin: Option<f64>) -> String {
    let mut text = String::new();
    let with = |e: &Estimate| match e.interval {
        Ok(i) => format!("{:.3} [{:.3}, {:.3}]", e.estimate, i.lower, i.upper),
        Err(_) => format!("{:.3}", e.estimate),
    };
    if let (Some(near), Some(far)) =
        (at_distance(rows, true, "penalty_state"), at_distance(rows, false, "penalty_state"))
    {
        let _ = writeln!(
            text,
            "A neighbouring layer's translator costs {near:.3} nats of CE more than the state's own; one from at least half the \
             stack away costs {far:.3}."
        );
    }
    if let Some(floor) = twin {
        let _ = writeln!(
            text,
            "Two fits of the same layer differ by {floor:.4} nats: smaller penalties mean nothing."
        );
    }
    let pairs = penalty_and_cosine(rows);
    if pairs.len() >= 6 {
        let rho = spearman(&pairs);
        let _ = writeln!(
            text,
            "Penalty against similarity of the layers' covariances: Spearman {rho:.2} over {} ordered pairs.",
            pairs.len()
        );
    }
    if !sharing.is_empty() {
        let _ = writeln!(
            text,
            "Sharing scores (0: as good as a lens per layer, 1: no better than a constant prediction):"
        );
    }
    for s in sharing {
        let worst = s.layers.iter().map(|e| e.estimate).fold(f64::NEG_INFINITY, f64::max);
        let _ = writeln!(
            text,
            "  {}: {}; worst layer {worst:.3}{}",
            s.subject,
            with(&s.score),
            s.control
                .as_ref()
                .map_or_else(String::new, |(_, index)| format!("; sharing index {}", with(index)))
        );
    }
    if let Some((control, _)) = sharing.first().and_then(|s| s.control.as_ref()) {
        let _ = writeln!(
            text,
            "  control, one affine lens over states rotated differently in every layer: {}",
            with(control)
        );
    }
    text.push_str(&conclusion(sharing));
    text
}

/// `(penalty_state, covariance cosine)` of every ordered pair of layers.
fn penalty_and_cosine(rows: &[MetricRow]) -> Vec<(f64, f64)> {
    let cosine = |a: i32, b: i32| {
        let same = |r: &&MetricRow| {
            r.metric == "covariance_cosine" && (r.source_layer, r.layer) == (Some(a.min(b)), a.max(b))
        };
        rows.iter().find(same).map(|r| r.estimate)
    };
    let off = |r: &&MetricRow| {
        r.kind == RowKind::Transfer && r.metric == "penalty_state" && r.source_layer != Some(r.layer)
    };
    rows.iter().filter(off).filter_map(|r| Some((r.estimate, cosine(r.layer, r.source_layer?)?))).collect()
}

fn conclusion(sharing: &[Sharing]) -> String {
    // Rungs with a matrix, a bias or moments of each layer's own are not one lens.
    let one_lens = |s: &&Sharing| {
        let rung = match s.subject.parts() {
            Parts::Rung { rung, .. } => rung.parse().ok(),
            _ => None,
        };
        rung.is_none_or(|rung| matches!(rung, Rung::Bias | Rung::Affine))
    };
    let best = sharing.iter().filter(one_lens).min_by(|a, b| a.score.estimate.total_cmp(&b.score.estimate));
    let Some(best) = best else {
        return "Whether one lens serves every layer cannot be said without a shared lens: fit one with `lens fit --kind shared` \
                and pass it with --lens."
            .into();
    };
    let documents = best.score.n_clusters;
    if documents < FEWEST_DOCUMENTS {
        return format!(
            "Verdict: withheld, for {documents} documents, fewer than {FEWEST_DOCUMENTS}, do not tell whether one lens serves every layer."
        );
    }
    let (low, high) = match best.score.interval {
        Ok(interval) => (interval.lower, interval.upper),
        Err(why) => return format!("Verdict: withheld, for the sharing score has no interval: {why}."),
    };
    let answer = if high < 0.1 {
        "Verdict: yes, nearly"
    } else if low > 0.5 {
        "Verdict: no"
    } else {
        "Verdict: in part"
    };
    let more = match &best.control {
        Some((control, _)) if control.estimate > 1.0 => {
            "; the rotated control does worse than a constant, so that its fit has not converged: fit on more tokens before \
             relying on it"
        }
        Some((control, _)) if control.lower().unwrap_or(control.estimate) > high => {
            "; layers share a code, for the rotated control does worse"
        }
        Some(_) => "; but the rotated control does no worse, so that this is no sign of a shared code",
        None => "",
    };
    format!(
        "{answer}: one lens ({}) leaves open {:.0} % of what a lens per layer gains over a constant prediction{more}.",
        best.subject,
        100.0 * best.score.estimate
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::statistics::{Interval, NoInterval};

    fn estimate(x: f64, half: f64) -> Estimate {
        let interval = Ok(Interval { lower: x - half, upper: x + half });
        Estimate { estimate: x, interval, n: 100, n_clusters: 20, n_eff: 10.0 }
    }

    #[test]
    fn words_follow_the_numbers() {
        let sharing = |score: f64, control: f64| {
            let (control, index) = (estimate(control, 0.01), estimate(0.5, 0.1));
            let score = estimate(score, 0.01);
            vec![Sharing {
                subject: "affine".into(),
                score,
                layers: vec![score],
                control: Some((control, index)),
            }]
        };
        let say = |s: &[Sharing]| verdict(&[], s, None);
        assert!(say(&sharing(0.05, 0.4)).contains("Verdict: yes, nearly: one lens (affine) leaves open 5 %"));
        assert!(
            say(&sharing(0.3, 0.6)).contains("Verdict: in part")
                && say(&sharing(0.3, 0.6)).contains("share a code")
        );
        assert!(say(&sharing(0.3, 0.3)).contains("no sign of a shared code"));
        assert!(say(&sharing(0.7, 0.9)).contains("Verdict: no"));
        let few = |n_clusters: u64, interval| {
            let mut few = sharing(0.05, 0.4);
            few[0].score = Estimate { n_clusters, interval, ..few[0].score };
            say(&few)
        };
        let interval = estimate(0.05, 0.01).interval;
        assert!(few(19, interval).ends_with("Verdict: withheld, for 19 documents, fewer than 20, do not tell whether one lens serves every layer."));
        let none = few(20, Err(NoInterval::FewClusters { n_eff: 4.5 }));
        assert!(none.ends_with(
            "Verdict: withheld, for the sharing score has no interval: 4.5 effective clusters, fewer than 5."
        ));
        assert!(!few(19, interval).contains("yes") && few(20, interval).contains("Verdict: yes"));
        let rows = sharing(0.3, 0.6)[0].rows("resid_pre", &[LayerIndex(4)]);
        let shown: Vec<_> = rows.iter().map(|r| (r.metric.as_str(), r.layer, r.estimate)).collect();
        let all = [
            ("sharing", 0.3),
            ("sharing_all_layers", 0.3),
            ("sharing_all_layers_rotated", 0.6),
            ("sharing_index", 0.5),
        ];
        assert_eq!(shown, all.map(|(metric, value)| (metric, 4, value)));
        assert!(say(&[]).contains("cannot be said without a shared lens"));
    }
}
