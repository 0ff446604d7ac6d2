//! `generate`: a prompt goes on, also under edits.

mod args;
mod job;
mod say;

use std::{
    io::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::anyhow;
pub(crate) use args::Generate;
use layerscope::{
    intervene::edits::EditSpec,
    intervene::generate::{Generated, Measured, Prompt, Said, generate, measure, metric_rows, same_length},
    model::Model,
    results::run::{
        Claim, Counts, METRICS, Manifest, MetricRow, RunDir, RunError, write_atomic, write_metrics,
    },
    results::statistics::Intervals,
    sources::text::Tokenizer,
};
pub(crate) use say::continuation;
use serde_json::{Value, json};

use self::{job::Job, say::Voice};
use super::{
    exit::Failure,
    inputs::hashes,
    interrupt::on_interrupt,
    output::Output,
    session::{Session, bos_line},
    table::Table,
};

/// The prompts and what became of them, one JSON object a line.
const GENERATED: &str = "generated.jsonl";
/// The same of `think`.
pub(in crate::cli) const THOUGHTS: &str = "thoughts.jsonl";
impl Generate {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let specs: Vec<EditSpec> =
            self.edit.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(Failure::usage)?;
        let session = Session::open(&self.model, output)?;
        let tokenizer = session.tokenizer(&self.model)?;
        let job = self.job(specs, &session, &tokenizer)?;
        session.announce(output);
        output.note(format!("BOS: {}", bos_line(tokenizer.bos())));
        if !job.edits.is_empty() && !self.edits_all() {
            output.note("edits reach the prompt's tokens only; --edit-steps all makes them at every generated one too");
        }
        let claim = self.claim(&job, &session, &tokenizer, output)?;
        let model = session.load(output)?;
        let said = Self::say(&job, &model, &tokenizer, output)?;
        let changed = !job.edits.is_empty() || job.settings.schedule.is_some();
        if !(changed || output.is_json() || claim.is_some()) {
            return Ok(()); // the text is all that was asked for
        }
        let measured = job.prompts.iter().zip(&said).map(|(prompt, said)| measure(&model, prompt, said));
        let measured = measured.collect::<Result<Vec<_>, _>>()?;
        let intervals = Intervals::default();
        let rows = metric_rows(&measured, changed, session.spec.n_layers, intervals)?;
        if let (Some(claim), Some(out)) = (claim, &self.out) {
            write_texts(claim, (out, GENERATED), &rows, &job.lines(&said, &tokenizer)?)?;
            output.wrote(out, "every number, by step");
        }
        if changed {
            output.note(moved(&measured).trim_end());
        }
        output.result(job.result(&session, &said, &measured, &tokenizer, self.out.as_deref())?)?;
        Ok(())
    }

    /// Continues every prompt, those of one length together, and tells it as it goes.
    fn say(
        job: &Job,
        model: &Model,
        tokenizer: &Tokenizer,
        output: Output,
    ) -> Result<Vec<Generated>, Failure> {
        let stop = on_interrupt()?;
        let mut said: Vec<Option<Generated>> = job.prompts.iter().map(|_| None).collect();
        let mut voice = Voice::new(tokenizer, &job.prompts, &job.settings.stop, output);
        let ids: Vec<Vec<u32>> = job.prompts.iter().map(|prompt| prompt.ids.clone()).collect();
        for group in same_length(&ids) {
            let prompts: Vec<Prompt> = group.iter().map(|i| job.prompts[*i].clone()).collect();
            let mut failed = None;
            let mut watch = |token: Said| {
                failed = voice.hear(token).err();
                let go_on = failed.is_none() && !stop.load(Ordering::Relaxed);
                if go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            let outcome = generate(model, &prompts, &job.settings, &mut job.edits.tap(), &mut watch)?;
            if let Some(failed) = failed {
                return Err(failed);
            }
            for (i, generated) in group.into_iter().zip(outcome) {
                said[i] = Some(generated);
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::interrupted(anyhow!("interrupted; repeat the command to start over")));
            }
        }
        voice.end()?;
        Ok(said.into_iter().flatten().collect())
    }

    fn claim(
        &self,
        job: &Job,
        session: &Session,
        tokenizer: &Tokenizer,
        output: Output,
    ) -> Result<Option<Claim>, Failure> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest: Manifest = session.manifest("generate", tokenizer, self.model.bos, output)?;
        manifest.seed = self.common.seed;
        let mut files: Vec<PathBuf> = job.specs.iter().filter_map(|s| s.file()).map(Path::to_owned).collect();
        files.dedup();
        let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        manifest.data = hashes(&files, &names)?;
        let (settings, sampling) = (&job.settings, job.settings.sampling);
        manifest.config = json!({
            "model_name": session.name(),
            "n_layers": session.spec.n_layers,
            "text": job.texts,
            "max_new_tokens": settings.max_new_tokens,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "stop": settings.stop,
            "edits": job.specs.iter().map(EditSpec::text).collect::<Vec<_>>(),
            "edit_steps": if self.edits_all() { "all" } else { "prompt" },
            "schedule": settings.schedule.as_ref().map(ToString::to_string),
        });
        Ok(Some(output.claimed(RunDir::claim(out, manifest, self.force)?)))
    }
}

/// How far edits and schedule move every prompt's predictions.
fn moved(measured: &[Measured]) -> String {
    let mut table = Table::new(["prompt", "tokens", "mean KL, nats", "largest", "at new token"]);
    for (i, m) in measured.iter().enumerate() {
        let mean = m.kl.iter().sum::<f64>() / m.kl.len().max(1) as f64;
        let most = m.kl.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let (at, most) = most.map_or((0, 0.0), |(at, kl)| (at + 1, *kl));
        let cells = [(i + 1).to_string(), m.kl.len().to_string(), format!("{mean:.4}"), format!("{most:.4}")];
        table.row(cells.into_iter().chain([at.to_string()]));
    }
    format!("KL(model left alone ‖ model as it ran), along the new tokens\n{table}")
}

/// Writes a run of texts: metrics.parquet, and a line per prompt into `name`.
pub(in crate::cli) fn write_texts(
    claim: Claim,
    (out, name): (&Path, &str),
    rows: &[MetricRow],
    lines: &[Value],
) -> Result<(), Failure> {
    let dir = claim.begin(&|p| [METRICS, GENERATED, THOUGHTS].iter().any(|own| p == Path::new(own)))?;
    let path = out.join(name);
    write_atomic(&path, |file| {
        let write = |line: &Value| writeln!(file, "{line}").map_err(|e| RunError::io("write", &path, e));
        lines.iter().try_for_each(write)
    })?;
    write_metrics(out, rows)?;
    let tokens =
        |key: &str| lines.iter().filter_map(|l| l[key].as_array()).map(Vec::len).sum::<usize>() as u64;
    let counts = Counts {
        documents: lines.len() as u64,
        tokens: tokens("prompt_ids") + tokens("token_ids"),
        rows: rows.len() as u64,
        ..Counts::default()
    };
    dir.finish(counts, None)?;
    Ok(())
}
