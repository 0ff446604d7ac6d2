//! Means over a text.

use serde_json::json;

use super::{Attribute, Attributed, Quantity, TargetToken, file, over_again, rows, token, told, write};
use crate::{
    attribution::{Attribution, AttributionError, Mean, Means, Targets, attribute, components, likeliest},
    job::{AllWindows, Cluster, JobError, Session, Source, Watch, claimed, counts},
    model::Model,
    results::run::{Claim, Found, RunDir, read_metrics},
    sources::text::{Batch, WindowOptions, each_batch},
};

/// The rows of a batch whose logits are taken apart.
struct Rows {
    /// Counted window after window.
    places: Vec<i64>,
    /// The token that follows each; none where all tokens count.
    labels: Option<Vec<i64>>,
    docs: Vec<u64>,
    pos: Vec<u32>,
    /// Per row, its window's place in the text.
    windows: Vec<u64>,
}

/// What the target is, at every row alike or row by row.
#[derive(Clone, Copy)]
enum Wanted {
    Label,
    Likeliest,
    Token(i64),
}

/// One pass over a text.
struct Pass<'a> {
    model: &'a Model,
    vocab: usize,
    wanted: Wanted,
    quantity: Quantity,
    foil: Option<i64>,
    /// The mean of all logits, where that is taken off.
    mean: Option<Targets>,
}

impl Attribute {
    /// Means over the tokens of the text.
    pub(super) fn corpus(&self, session: &Session, watch: &dyn Watch) -> Result<Attributed, JobError> {
        let source = Source::open(session, &self.text, watch)?;
        let (answer, foil) =
            (token(&source.tokenizer, self.answer.as_ref())?, token(&source.tokenizer, self.foil.as_ref())?);
        session.announce(watch);
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, watch)?;
        watch.note(&format!("documents: {}", text.lead));
        let (n_layers, quantity, soft_cap) = (session.spec.n_layers, self.quantity(), session.spec.logit_cap);
        let found = |rows| Attributed { rows, asked: None, n_layers, quantity, soft_cap };
        let claim = self.claim_of_text(&source, &text, &options, watch)?;
        if let (Some(claim), Some(out)) = (&claim, &self.out)
            && claim.found() == Found::Complete
        {
            watch.note(&format!("{} is complete already", out.display()));
            return Ok(found(read_metrics(out)?));
        }
        let wanted = match (answer, self.target.unwrap_or_default()) {
            (Some(id), _) => Wanted::Token(id),
            (None, TargetToken::Label) => Wanted::Label,
            (None, TargetToken::Top1) => Wanted::Likeliest,
        };
        let model = session.load(watch)?;
        let mean = (quantity == Quantity::LessMean).then(|| Targets::mean(model.unembed(), source.vocab()));
        let pass = Pass { model, vocab: source.vocab(), wanted, quantity, foil, mean: mean.transpose()? };
        let means = self.means(&pass, session, &text, watch)?;
        let all = rows::of_means(&means, quantity, n_layers);
        if let Some(claim) = claim {
            write(claim, &all, counts(text.stats, 0), |dir| file::of_means(dir, &means))?;
        }
        Ok(found(all))
    }

    fn means(
        &self,
        pass: &Pass<'_>,
        session: &Session,
        text: &AllWindows,
        watch: &dyn Watch,
    ) -> Result<Vec<Mean>, JobError> {
        let intervals = self.cluster.of(self.intervals.policy(self.seed));
        let mut means = Means::new(components(&session.spec, false), session.spec.n_layers, intervals)?;
        let stage = watch.begin("attributing", "tokens", Some(text.stats.tokens));
        each_batch(&text.windows, session.batch_tokens(self.batch_tokens), &stage, |batch| {
            let rows = Rows::of(&batch, matches!(pass.wanted, Wanted::Label));
            if rows.places.is_empty() {
                return Ok(());
            }
            let found = pass.attribute(&batch, &rows).map_err(|error| told(error, |row| rows.name(row)))?;
            let clusters = if self.cluster == Cluster::Window { &rows.windows } else { &rows.docs };
            Ok::<_, JobError>(means.add(&found, clusters)?)
        })
        .map_err(over_again)?;
        drop(stage);
        let all = means.finish();
        if all.is_empty() {
            return Err(JobError::usage("no token of the text follows another in its window"));
        }
        Ok(all)
    }

    fn claim_of_text(
        &self,
        source: &Source<'_>,
        text: &AllWindows,
        options: &WindowOptions,
        watch: &dyn Watch,
    ) -> Result<Option<Claim>, JobError> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = source.manifest(self, (&text.lead, self.text.pack), self.seed, watch)?;
        manifest.config = json!({
            "target": self.answer.is_none().then(|| self.target.unwrap_or_default()), "answer": self.answer, "foil": self.foil,
            "less_mean": self.less_mean, "cluster": self.cluster, "intervals": self.intervals.config(), "vocab": source.vocab(),
            "tokens": self.text.tokens, "seq_len": options.seq_len, "pack": options.pack, "text_column": self.text.text_column,
            "batch_tokens": self.batch_tokens,
        });
        Ok(Some(claimed(RunDir::claim(out, manifest, self.force)?, watch)))
    }
}

impl Pass<'_> {
    fn attribute(&self, batch: &Batch<'_>, rows: &Rows) -> Result<Attribution, AttributionError> {
        let _no_grad = tch::no_grad_guard();
        let (ids, unembed, n) = (batch.ids(), self.model.unembed(), rows.places.len());
        let tokens = match (self.wanted, &rows.labels) {
            (Wanted::Label, Some(labels)) => labels.clone(),
            (Wanted::Token(id), _) => vec![id; n],
            _ => likeliest(self.model, &ids, &rows.places, self.vocab)?,
        };
        let mut targets = Targets::tokens(unembed, &tokens)?;
        if let (Quantity::Difference, Some(foil)) = (self.quantity, self.foil) {
            targets = targets.less(&Targets::tokens(unembed, &[foil])?.repeated(n)?)?;
        }
        if let Some(mean) = &self.mean {
            targets = targets.less(&mean.repeated(n)?)?;
        }
        attribute(self.model, &ids, &rows.places, &targets, false)
    }
}

impl Rows {
    /// Every row of a batch, or, with `labels`, those that a token of their document follows.
    fn of(batch: &Batch<'_>, labels: bool) -> Self {
        let (mut rows, mut start) = (
            Self {
                places: vec![],
                labels: labels.then(Vec::new),
                docs: vec![],
                pos: vec![],
                windows: vec![],
            },
            0,
        );
        for (place, window) in batch.places.iter().zip(&batch.windows) {
            for segment in &window.segments {
                let last = if labels { segment.len.saturating_sub(1) } else { segment.len };
                for i in 0..last {
                    let at = segment.offset + i;
                    rows.places.push(start + i64::from(at));
                    rows.docs.push(segment.doc_id);
                    rows.pos.push(segment.doc_pos + i);
                    rows.windows.push(*place as u64);
                    if let Some(labels) = &mut rows.labels {
                        labels.push(i64::from(window.ids[at as usize + 1]));
                    }
                }
            }
            start += window.ids.len() as i64;
        }
        rows
    }

    fn name(&self, row: usize) -> String {
        format!("document {}, position {}", self.docs[row], self.pos[row])
    }
}
