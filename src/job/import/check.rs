//! Whether the files hold what they say: some documents run again, and compared.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::Import;
use crate::{
    hook::{Capture, HookPoint},
    job::{JobError, Session, Watch},
    model::Model,
    results::words::counted,
    states::foreign::{Document, Foreign, ForeignError},
};

/// Of states in f32, which two programs compute alike to some 1e-5 of their size.
const EXACT: f64 = 1e-3;

/// Of states in f16 or bf16: bf16 rounds each to 0.2 % of its size, and a model that computes in it a few times that.
/// The next layer's states differ by 10 % and more.
const HALF: f64 = 0.03;

/// How far a column agrees with the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// What the column says it is.
    pub point: HookPoint,
    /// `‖theirs - ours‖ / ‖ours‖` over every number of the documents.
    pub error: f64,
    /// The same without each token's mean.
    pub centred: f64,
    /// Which of the model's states theirs are nearest to, and how near.
    pub nearest: (HookPoint, f64),
}

/// Squares of differences and of our own numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    difference: f64,
    centred: f64,
    own: f64,
}

impl Import {
    /// Runs some documents again.
    ///
    /// # Errors
    /// [`JobError::Check`] for a column that differs by more than the tolerance.
    pub(super) fn compare(
        &self,
        foreign: &dyn Foreign,
        session: &Session,
        watch: &dyn Watch,
    ) -> Result<Vec<Agreement>, JobError> {
        let documents = chosen(foreign.lengths(), self.check);
        if documents.is_empty() {
            watch.warn("nothing is compared with the model: the files' word is taken for what they hold");
            return Ok(Vec::new());
        }
        let model = session.load(watch)?;
        let (points, rivals) = (foreign.points(), rivals(model));
        let mut sums = vec![vec![Sums::default(); rivals.len() + 1]; points.len()];
        let stage = watch.begin("comparing", "documents", Some(documents.len() as u64));
        let ended = foreign.each(&|number| documents.contains(&number), &mut |document| {
            stage.go_on()?;
            add(model, &document, points, &rivals, &mut sums)?;
            stage.inc(1);
            Ok(())
        });
        drop(stage);
        ended.map_err(|error| match error {
            ForeignError::Interrupted(_) => JobError::interrupted(error),
            other => JobError::usage(other),
        })?;
        let agreement = points
            .iter()
            .zip(&sums)
            .map(|(point, sums)| agreement(*point, &rivals, sums))
            .collect::<Vec<_>>();
        let tolerance = self.tolerance(foreign.is_half());
        if let Some(failure) = failure(&agreement, tolerance) {
            return Err(JobError::Check(failure));
        }
        let worst = agreement.iter().map(|a| a.error).fold(0.0, f64::max);
        let (n, columns) = (counted(documents.len() as u64, "document"), counted(points.len(), "column"));
        watch.note(&format!("{n} run again: {columns} within {worst:.1e} of the model's"));
        Ok(agreement)
    }

    fn tolerance(&self, half: bool) -> f64 {
        self.tolerance.unwrap_or(if half { HALF } else { EXACT })
    }

    /// What the manifest says about it.
    pub(super) fn verdict(&self, agreement: &[Agreement], half: bool) -> Option<Value> {
        let worst = agreement.iter().map(|a| a.error).reduce(f64::max)?;
        Some(json!({
            "verdict": "pass", "tolerance": self.tolerance(half), "worst": worst, "hooks": agreement.len(),
            "documents": self.check,
        }))
    }
}

/// So many documents with a token, spread over all.
fn chosen(lengths: &[usize], n: usize) -> Vec<usize> {
    let all: Vec<usize> = (0..lengths.len()).filter(|number| lengths[*number] > 0).collect();
    let n = n.min(all.len());
    (0..n).map(|i| all[i * all.len() / n]).collect()
}

/// What states are taken for by mistake: the other layers', and the last one normed.
fn rivals(model: &Model) -> Vec<HookPoint> {
    let layers = (0..=model.spec().n_layers).map(HookPoint::resid_pre);
    layers.chain([HookPoint::FinalNormalized]).collect()
}

/// Adds the squares of a document: of each column first against its own point, then against each rival of its width.
fn add(
    model: &Model,
    document: &Document,
    points: &[HookPoint],
    rivals: &[HookPoint],
    sums: &mut [Vec<Sums>],
) -> Result<(), ForeignError> {
    let ids: Vec<i64> = document.ids.iter().map(|id| i64::from(*id)).collect();
    let mut tap = Capture::new(points.iter().chain(rivals).copied().collect());
    model.forward(&Tensor::from_slice(&ids).f_unsqueeze(0)?, &mut tap)?;
    let own = tap.into_inner();
    let flat = |point: &HookPoint| -> Result<Tensor, tch::TchError> {
        let value = own.get(point).ok_or_else(|| tch::TchError::Torch(format!("{point} was not seen")))?;
        value.f_reshape([ids.len() as i64, -1])?.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Double)
    };
    for ((point, theirs), sums) in points.iter().zip(&document.values).zip(sums) {
        let theirs = theirs.f_to_kind(Kind::Double)?;
        for (point, sums) in [point].into_iter().chain(rivals).zip(sums) {
            let ours = flat(point)?;
            if ours.size() == theirs.size() {
                sums.add(&theirs, &ours)?;
            }
        }
    }
    Ok(())
}

impl Sums {
    fn add(&mut self, theirs: &Tensor, ours: &Tensor) -> Result<(), tch::TchError> {
        let square = |of: &Tensor| f64::try_from(of.f_square()?.f_sum(Kind::Double)?);
        let difference = theirs.f_sub(ours)?;
        let mean = difference.f_mean_dim(&[-1_i64][..], true, Kind::Double)?;
        self.difference += square(&difference)?;
        self.centred += square(&difference.f_sub(&mean)?)?;
        self.own += square(ours)?;
        Ok(())
    }

    fn relative(self, difference: f64) -> f64 {
        // Not-a-number differs, and so does anything from nothing.
        if difference == 0.0 { 0.0 } else { (difference / self.own).sqrt() }
    }
}

fn agreement(point: HookPoint, rivals: &[HookPoint], sums: &[Sums]) -> Agreement {
    let own = sums[0];
    let errors = rivals.iter().zip(&sums[1..]).filter(|(_, sums)| sums.own > 0.0);
    let errors = errors.map(|(rival, sums)| (*rival, sums.relative(sums.difference)));
    let nearest = errors.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((point, f64::INFINITY));
    let (error, centred) = (own.relative(own.difference), own.relative(own.centred));
    Agreement { point, error, centred, nearest }
}

/// Names the first column that differs, and what it may be instead.
fn failure(agreement: &[Agreement], tolerance: f64) -> Option<String> {
    let wrong: Vec<_> = agreement.iter().filter(|a| a.error.is_nan() || a.error > tolerance).collect();
    let first = wrong.first()?;
    let (rival, near) = first.nearest;
    let hint = if rival != first.point && near <= tolerance {
        match rival {
            HookPoint::FinalNormalized => "; it is the last layer's, normed".to_owned(),
            other => format!("; it is the model's {other}"),
        }
    } else if first.centred <= tolerance {
        "; by a constant for each token, as after centring (TransformerLens' compatibility mode)".to_owned()
    } else {
        String::new()
    };
    Some(format!(
        "{} of {} columns differ from the model's; the first is {} by {:.1e} of its size, above {tolerance}{hint}; nothing was written",
        wrong.len(),
        agreement.len(),
        first.point,
        first.error,
    ))
}
