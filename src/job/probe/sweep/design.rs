//! What a sweep fits where, decided before weights are read.

use serde_json::json;

use super::Sweep;
use crate::{
    hook::HookPoint,
    job::{
        JobError, Session, SetTo, Setting, Watch,
        probe::{
            check_made_by,
            labelled::{Labelled, Side},
            manifest,
        },
    },
    probe::{Estimator, ProbeError, Round, Task, exchange, rounds, without_rare},
    probes::{Exchange, shared_texts},
    results::run::Manifest,
    sources::text::Tokenizer,
    states::store::ActivationStore,
};

/// Everything decided before weights are read.
pub(super) struct Design {
    pub(super) labelled: Labelled,
    tokenizer: Tokenizer,
    pub(super) points: Vec<HookPoint>,
    pub(super) rounds: Vec<Round>,
    pub(super) estimators: Vec<Estimator>,
    /// How labels are permuted, where they are.
    exchange: Option<Exchange>,
}

impl Sweep {
    pub(super) fn design(&self, session: &Session, watch: &dyn Watch) -> Result<Design, JobError> {
        let tokenizer = session.tokenizer(watch)?;
        let mut labelled = self.labels.read(&self.data, session, &tokenizer, watch)?;
        let rare =
            without_rare(&labelled.task, self.protocol(), self.rare.rule()).map_err(JobError::usage)?;
        labelled.without(rare, watch);
        let points = self.points.resolve(session)?;
        let rounds = rounds(&labelled.task, self.protocol()).map_err(JobError::usage)?;
        let estimators = self.estimators(&labelled.task)?;
        let exchange = self.exchange(&labelled.task, watch).map_err(JobError::usage)?;
        if let Some(leak) = shared_by_sides(&labelled.sides[0], &rounds, self.labels.grouped()) {
            self.leakage.warn(&leak, watch)?;
        }
        Ok(Design { labelled, tokenizer, points, rounds, estimators, exchange })
    }

    fn estimators(&self, task: &Task) -> Result<Vec<Estimator>, JobError> {
        let k = task.n_classes();
        let paired = self.labels.paired();
        if self.probe.is_empty() {
            return Ok(self.default_estimators(k));
        }
        if let Some(e) = self.probe.iter().find(|e| self.stream && !e.closed_form()) {
            return Err(JobError::setting("stream", format!("{} has no closed form", e.name())));
        }
        match self.probe.iter().find(|e| !e.suits(k, paired)) {
            Some(e) => Err(JobError::usage(format!(
                "{}: it does not fit {}{}",
                SetTo("probe", e.name()),
                k.map_or("numbers".into(), |k| format!("{k} classes")),
                if paired { " of pairs" } else { "" }
            ))),
            None => Ok(self.probe.clone()),
        }
    }

    /// Those that suit labels of `k` classes (none: numbers).
    fn default_estimators(&self, k: Option<usize>) -> Vec<Estimator> {
        let paired = self.labels.paired();
        let [logistic, mean_diff, lda] = [Estimator::Logistic, Estimator::MeanDiff, Estimator::Lda];
        let all =
            if paired { [logistic, Estimator::Ccs, Estimator::Crc] } else { [logistic, mean_diff, lda] };
        let fits = |e: &Estimator| e.suits(k, paired) && (!self.stream || e.closed_form());
        let suits: Vec<Estimator> = all.into_iter().filter(fits).collect();
        if suits.is_empty() { vec![Estimator::Ridge] } else { suits }
    }

    /// The scheme of the permutation test, if there is one, noted with where it cannot say much.
    fn exchange(&self, task: &Task, watch: &dyn Watch) -> Result<Option<Exchange>, ProbeError> {
        if self.permutations == 0 {
            return Ok(None);
        }
        let (exchange, ways) = exchange(task, self.permutations)?;
        watch.note(&format!("permutations: {exchange}"));
        if let Some(ways) = ways {
            watch.warn(&format!(
                "the groups can be given their labels in {ways} ways: no p below {:.2} can be found",
                1.0 / ways
            ));
        }
        Ok(Some(exchange))
    }

    pub(super) fn manifest(
        &self,
        session: &Session,
        design: &Design,
        store: Option<&ActivationStore>,
        watch: &dyn Watch,
    ) -> Result<Manifest, JobError> {
        let mut manifest = manifest(self, (session, &design.tokenizer), (&self.data, self.seed), watch)?;
        if let (Some(store), Some(path)) = (store, &self.activations) {
            check_made_by(store, path, manifest.model.as_ref(), session)?;
        }
        let (protocol, options, extras) = (self.protocol(), self.options(), self.extras());
        let own = [
            ("probes", json!(design.estimators.iter().map(|e| e.name()).collect::<Vec<_>>())),
            ("seeds", json!(protocol.seeds)),
            ("kfold", json!(protocol.kfold)),
            ("l2", json!(options.l2)),
            ("standardise", json!(options.standardise)),
            ("balanced", json!(options.balanced)),
            ("control_draws", json!(extras.draws)),
            ("mdl", json!(extras.mdl)),
            ("permutations", json!(extras.permutations)),
            ("intervals", self.intervals.config()),
            ("bootstrap_seed", json!(self.bootstrap_seed)),
            ("stream", json!(self.stream)),
            ("activations", json!(store.map(|s| s.manifest().job.clone()))),
        ];
        let exchange = design.exchange.map(|exchange| ("exchange", json!(exchange.to_string())));
        let labels = self.labels.config(&design.labelled, &design.points);
        manifest.config = labels.into_iter().chain(own).chain(exchange).collect();
        Ok(manifest)
    }
}

/// Texts on both sides of the first split that are equal or nearly so: what a group column would have kept together.
fn shared_by_sides(side: &Side, rounds: &[Round], grouped: bool) -> Option<String> {
    let round = rounds.first()?;
    let Side { set, plan } = side;
    let texts: Vec<&str> = set.texts.iter().map(|t| t.text.as_str()).collect();
    let of = |rows: &[usize]| -> Vec<usize> {
        let mut texts: Vec<usize> = rows.iter().map(|row| plan.items[*row].text as usize).collect();
        texts.dedup();
        texts
    };
    let (train, validation, test) = (of(&round.train), of(&round.validation), of(&round.test));
    let shared = shared_texts(&texts, &[&train, &validation, &test])?;
    Some(if grouped {
        shared.to_string()
    } else {
        format!("{shared}; {} keeps what belongs together on one side", Setting("group_column"))
    })
}
