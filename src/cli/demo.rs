mod changes;

use std::path::{Path, PathBuf};

use clap::{Args, Parser};
use layerscope::{
    job::bundled,
    results::words::{counted, human},
    states::store::ActivationStore,
};

use super::{Cli, args::OutputArgs, exit::Failure, output::Output, run};

/// Tokens that the demo's lenses are fitted on.
const TOKENS: &str = "40000";

const PROMPT: &str =
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do";

/// Take the tour on the bundled model: a logit-lens table, an export, fitted lenses, probes, changes to the model, and a report; a few minutes
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Folder to write
    #[arg(long, default_value = "out/demo", value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl Demo {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let path = |name: &str| self.out.join(name).display().to_string();
        bundled::write(&self.out)?;
        output.note(format!(
            "The bundled model and 1000 short texts sampled from it are in {}.\n",
            self.out.display()
        ));
        let (model, reference) = (path("model"), path("reference.safetensors"));
        output.note(
            "1. Is it the model? Every activation against what transformers computed from the same files.\n",
        );
        self.step(&[
            "verify",
            "--model",
            &model,
            "--reference",
            &reference,
            "--out",
            &path("verify"),
            "--force",
        ])?;
        output.note("\n2. What does the model think at each layer? The logit lens reads every layer as if it were the last.");
        output
            .note("   Read it from the bottom: early layers guess badly, later ones settle on the output.\n");
        self.step(&["view", "--model", &model, "--text", PROMPT])?;
        output.note("\n3. Every layer's residual stream over a corpus, as Parquet.\n");
        let (export, data) = (path("export"), path("stories.jsonl"));
        self.step(&["export", "--model", &model, "--data", &data, "--tokens", "50000", "--out", &export])?;
        summary(Path::new(&export), output)?;
        self.lenses(&model)?;
        self.probes(&model)?;
        self.changes(&model)?;
        self.report(&model)?;
        output.note("\nNext, on a model of yours:");
        output.note("  layerscope info --model DIR-OR-HUB-ID");
        output.note("  layerscope view --model DIR-OR-HUB-ID --text \"The Eiffel Tower is in\" --metric kl");
        output.note("  layerscope lens fit --model DIR-OR-HUB-ID --data TEXT.jsonl --kind tuned --out LENS");
        Ok(())
    }

    /// Who is the subject of a sentence, layer by layer, and the law of next-token prediction.
    fn probes(&self, model: &str) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let path = |name: &str| self.out.join(name).display().to_string();
        output.note("\n7. At which layer does the model know who did it to whom? Probes for the subject of a sentence, split by");
        output.note("   pairs of sentences that have the same words.\n");
        let (statements, probes, law) = (path("statements.csv"), path("probes"), path("law"));
        self.step(&[
            "probe",
            "sweep",
            "--model",
            model,
            "--data",
            &statements,
            "--group-column",
            "pair",
            "--probe",
            "logistic",
            "--out",
            &probes,
        ])?;
        output.note(
            "\n8. Does what is left unsaid about the next token shrink by the same factor at every layer?\n",
        );
        let held_out = path("held-out.jsonl");
        self.step(&[
            "probe", "law", "--model", model, "--data", &held_out, "--tokens", "20000", "--out", &law,
        ])
    }

    /// Everything on one page.
    fn report(&self, model: &str) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let path = |name: &str| self.out.join(name).display().to_string();
        output.note("\n10. A prompt under three lenses, and everything so far on one page.\n");
        let (tuned, future, prompt) = (path("tuned"), path("future"), path("prompt"));
        self.step(&[
            "view", "--model", model, "--text", PROMPT, "--lens", "logit", "--lens", &tuned, "--lens",
            &future, "--out", &prompt,
        ])?;
        let runs = ["verify", "prompt", "eval", "transfer", "probes", "law"].into_iter().chain(changes::RUNS);
        let runs: Vec<String> = runs.map(path).collect();
        let report = path("report");
        let words = ["report"].into_iter().chain(runs.iter().map(String::as_str));
        self.step(&words.chain(["--out", &report, "--force"]).collect::<Vec<_>>())?;
        output.note(format!("\nOpen {} in a browser.", path("report/report.html")));
        Ok(())
    }

    /// Fits a tuned, a shared and a future lens, evaluates them, and asks whether one lens serves every layer.
    fn lenses(&self, model: &str) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let path = |name: &str| self.out.join(name).display().to_string();
        let (data, held_out) = (path("fit.jsonl"), path("held-out.jsonl"));
        let (data, held_out) = (data.as_str(), held_out.as_str());
        let (tuned, shared, future) = (path("tuned"), path("shared"), path("future"));
        output.note(
            "\n4. Lenses that are fitted: one translator per layer (tuned), one for all layers (shared), and",
        );
        output.note("   translators that read what comes several tokens later (future).\n");
        let fit = |kind: &str, out: &str, more: &[&str]| {
            let mut words = vec![
                "lens", "fit", "--model", model, "--data", data, "--kind", kind, "--out", out, "--tokens",
                TOKENS,
            ];
            words.extend(more);
            self.step(&words)
        };
        fit("tuned", &tuned, &[])?;
        fit("shared", &shared, &[])?;
        fit("future", &future, &[])?;
        output
            .note("\n5. How good are they, layer by layer? Lower KL is closer to what the model will say.\n");
        let eval = path("eval");
        self.step(&[
            "lens", "eval", "--model", model, "--data", held_out, "--tokens", "20000", "--lens", "logit",
            "--lens", &tuned, "--lens", &shared, "--lens", &future, "--out", &eval,
        ])?;
        output.note(
            "\n6. Does one lens serve every layer of this model? Every translator reads every layer.\n",
        );
        let transfer = path("transfer");
        self.step(&[
            "lens", "transfer", "--model", model, "--data", held_out, "--tokens", "16000", "--lens", &tuned,
            "--lens", &shared, "--out", &transfer,
        ])?;
        output.note("(The texts were sampled from this model: fine for a tour, not for claims.)");
        Ok(())
    }

    /// Runs another command as if it had been typed.
    fn step(&self, words: &[&str]) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        output.note(format!("$ layerscope {}", words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ")));
        let flags = [(self.output.json, "--json"), (self.output.quiet, "--quiet")];
        let flags = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag);
        let argv = ["layerscope"].into_iter().chain(words.iter().copied()).chain(flags);
        run(Cli::try_parse_from(argv).map_err(Failure::usage)?.command)
    }
}

fn quote(word: &str) -> String {
    if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() }
}

/// Reads the export back and says how the residual stream grows.
fn summary(dir: &Path, output: Output) -> Result<(), Failure> {
    let store = ActivationStore::open(dir)?;
    output.print(&format!(
        "read back: {}; the residual stream's typical length by layer",
        counted(store.n_rows(), "row")
    ))?;
    let lengths = store.root_mean_squares()?;
    let lengths: Vec<String> =
        lengths.iter().map(|(layer, length)| format!("{layer}: {length:.1}")).collect();
    output.print(&format!("  {}", lengths.join("  ")))?;
    let bytes = store.n_rows() * store.columns().iter().map(|c| c.width * 4).sum::<usize>();
    output.note(format!("({} of activations)", human(bytes as u64, "B")));
    Ok(())
}
