//! The rows of `metrics.parquet`, each with its interval.

use layerscope_probes::{Decay, Estimate, NoInterval};

use super::{
    Control, LawRow, Residuals, SETS,
    decay::{Sample, decay, less_shuffled},
    measure::Over,
};
use crate::results::run::{MetricRow, Parts, RowKind, Subject};

/// A number of a decay, by its name, with the least and the most that it can be.
type Number = (&'static str, fn(&Decay) -> f64, [f64; 2]);

const ABOVE: [f64; 2] = [0.0, f64::INFINITY];

const DECAY: [Number; 5] = [
    ("rho", |d| d.rho, ABOVE),
    ("ratio", |d| d.ratio, ABOVE),
    ("slope", |d| d.slope, [f64::NEG_INFINITY, f64::INFINITY]),
    ("r2", |d| d.r2, [0.0, 1.0]),
    ("pearson", |d| d.pearson, [-1.0, 1.0]),
];

impl Sample {
    /// Behind the name of a number.
    fn suffix(self) -> &'static str {
        match self {
            Self::InSample => "",
            Self::HeldOut => "_held_out",
            Self::CrossValidated => "_cross_validated",
        }
    }

    fn over(self) -> Over {
        match self {
            Self::InSample => Over::Fit,
            Self::HeldOut => Over::Both,
            Self::CrossValidated => Over::All,
        }
    }
}

impl Residuals {
    /// Every number; a target without a decay has none of that.
    pub fn metrics(&self) -> Vec<MetricRow> {
        let mut out = Vec::new();
        for row in &self.rows {
            let own = Subject::from(row.control.name());
            let same = |rows: &[LawRow]| {
                rows.iter().find(|r| (r.layer, r.control) == (row.layer, row.control)).copied()
            };
            let mut put = |subject: &Subject, metric: &str, over: Over, of: fn(&LawRow) -> f64| {
                let value = |rows: &[LawRow]| same(rows).map_or(f64::NAN, |r| of(&r));
                out.extend(
                    self.number(row.control, over, &value)
                        .map(|number| law(subject, row.layer, metric, number)),
                );
            };
            let shared = Parts::Variant {
                of: row.control.name().into(),
                prompt: None,
                variant: Some("shared".into()),
            };
            let shared = Subject::from(shared);
            put(&own, "pr", Over::Fit, |r| r.in_sample);
            put(&own, "pr_adjusted", Over::Fit, |r| r.adjusted);
            put(&own, "pr_held_out", Over::Both, |r| r.held_out);
            put(&own, "pr_cross_validated", Over::All, |r| r.cross_validated);
            put(&shared, "pr_held_out", Over::Both, |r| r.shared);
        }
        let last = self.rows.iter().map(|r| r.layer).max().unwrap_or(0);
        for control in SETS.iter().flat_map(|set| set.iter().copied()) {
            for (of, (metric, number, range)) in
                Sample::ALL.iter().flat_map(|of| DECAY.iter().map(move |n| (*of, *n)))
            {
                let value =
                    |rows: &[LawRow]| decay(rows, control, of).map_or(f64::NAN, |found| number(&found));
                let metric = format!("law_{metric}{}", of.suffix());
                let within = |n: Estimate| Estimate { interval: n.interval.map(|i| i.within(range)), ..n };
                let number = self.number(control, of.over(), &value).map(within);
                out.extend(number.map(|n| law(&control.name().into(), last, &metric, n)));
            }
        }
        for of in Sample::ALL {
            let metric = format!("law_rho_less_shuffled{}", of.suffix());
            out.extend(self.less_shuffled(of).map(|n| law(&Control::Next.name().into(), last, &metric, n)));
        }
        out
    }

    /// `less_shuffled` with its interval, where both have a decay.
    pub fn less_shuffled(&self, of: Sample) -> Option<Estimate> {
        let value = |rows: &[LawRow]| less_shuffled(rows, of).unwrap_or(f64::NAN);
        self.number(Control::Next, of.over(), &value)
    }

    /// The factor a layer of a target, with its interval.
    pub fn rho(&self, control: Control, of: Sample) -> Option<Estimate> {
        let value = |rows: &[LawRow]| decay(rows, control, of).map_or(f64::NAN, |found| found.rho);
        self.number(control, of.over(), &value)
    }

    /// A function of the residuals with its interval; none where it has no value.
    fn number(&self, control: Control, over: Over, f: &dyn Fn(&[LawRow]) -> f64) -> Option<Estimate> {
        let estimate = f(&self.rows);
        let n = self.rows.iter().find(|r| r.control == control).map_or([0, 0], |r| r.n);
        let docs = self.documents.map(|docs| docs as u64);
        let (n, n_clusters) = match over {
            Over::Fit => (n[0], docs[0]),
            Over::Both => (n[1], docs[1]),
            Over::All => (n[0] + n[1], docs[0] + docs[1]),
        };
        let interval = self.interval(over, estimate, f);
        let n_eff = match interval {
            Err(NoInterval::FewClusters { n_eff }) => n_eff,
            _ => self.n_eff(over),
        };
        estimate.is_finite().then_some(Estimate { estimate, interval, n, n_clusters, n_eff })
    }
}

fn law(subject: &Subject, layer: usize, metric: &str, number: Estimate) -> MetricRow {
    MetricRow {
        subject: subject.clone(),
        kind: RowKind::Law,
        hook: "resid_pre".into(),
        layer: layer as i32,
        ..MetricRow::of(metric, "share", number)
    }
}
