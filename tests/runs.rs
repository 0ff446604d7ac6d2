//! A small run of every kind, made by a tiny model in a moment: what the tests of damage and of kills break.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use tempfile::TempDir;

use crate::cli::{end, files, gpt2, layerscope, path, tiny};
use crate::lens_cli::stories;

const PROMPT: &str = "w1 w2 w3 w4 w5";
/// Of the same length.
const OTHER: &str = "w1 w9 w3 w4 w5";
const REPORT: (&str, &str) = ("report $RUN --out $OUT", "metrics.parquet");
const THROUGH: (&str, &str) = (
    "lens eval --model $MODEL --data $TEXTS --tokens 200 --lens $RUN --replicates 50 --no-marginals --threads 1 --out $OUT",
    "config.json params.safetensors",
);
const AHEAD: (&str, &str) = (
    "future --model $MODEL --data $TEXTS --tokens 600 --lens $RUN --no-fixed --contexts 20 --horizons 2 --replicates 50 \
     --threads 1 --out $OUT",
    "config.json params.safetensors",
);
const AGAIN: (&str, &str) = (
    "lens fit --activations $RUN --model $MODEL --kind linear --threads 1 --out $OUT",
    "shards/0.done tokens/shard=0.parquet acts/hook=resid_pre/layer=1/shard=0.$ENDING",
);
const APPLY: (&str, &str) = (
    "probe apply --model $MODEL --probe $RUN --data $LABELS --group-column pair --out $OUT",
    "probes/mean-diff.resid_pre.0.json probes/logistic.resid_pre.2.safetensors",
);
const PUSH: (&str, &str) = (
    "steer --model $MODEL --data $TEXTS --tokens 100 --direction $RUN/directions.safetensors:pca --layers 1 --random 1 \
     --toward w3 --away w4 --threads 1 --out $OUT",
    "directions.safetensors",
);
const EDIT: (&str, &str) = (
    "generate --model $MODEL --text $PROMPT --max-new-tokens 2 --out $OUT \
     --edit blocks.1.hook_resid_pre@last:add=$RUN/directions.safetensors:pca.1",
    "directions.safetensors",
);
/// Name, command (all but `--out`), and the commands that read the run, each with files that it cannot do without.
const KINDS: [(&str, &str, &[(&str, &str)]); 33] = [
    ("export", "export $MODEL_TEXTS --tokens 300 --layers 0,1,2", &[AGAIN]),
    ("export-npy", "export $MODEL_TEXTS --tokens 300 --layers 0,1,2 --format npy", &[AGAIN]),
    ("fit-tuned", "lens fit $MODEL_TEXTS --tokens 600 --kind tuned", &[THROUGH]),
    ("fit-shared", "lens fit $MODEL_TEXTS --tokens 600 --kind shared", &[THROUGH]),
    ("fit-linear", "lens fit $MODEL_TEXTS --tokens 600 --kind linear", &[THROUGH]),
    ("fit-future", "lens fit $MODEL_TEXTS --tokens 600 --kind future --horizons 2", &[THROUGH]),
    (
        "fit-future-refined",
        "lens fit $MODEL_TEXTS --tokens 600 --kind future --horizons 2 --refine --checkpoint-seconds 0",
        &[THROUGH],
    ),
    ("fit-vocab", "lens fit $MODEL_TEXTS --tokens 600 --kind future-vocab --horizons 2", &[AHEAD]),
    (
        "fit-prompt",
        "lens fit $MODEL_TEXTS --tokens 600 --kind future-prompt --horizons 2 --contexts 16 --prompt-tokens 2 --layers 1,2",
        &[AHEAD],
    ),
    (
        "fit-jacobian",
        "lens fit $MODEL_TEXTS --tokens 600 --kind jacobian --n-prompts 6 --seq-len 16 --skip-first 2 --checkpoint-seconds 0",
        &[THROUGH],
    ),
    (
        "eval",
        "lens eval $MODEL_TEXTS --tokens 200 --lens logit --lens $TUNED --replicates 50 --per-token",
        &[REPORT],
    ),
    ("transfer", "lens transfer $MODEL_TEXTS --tokens 200 --lens $TUNED", &[REPORT]),
    ("causal", "lens causal $MODEL_TEXTS --tokens 200 --lens $TUNED --layers 1 --directions 4", &[REPORT]),
    (
        "sweep",
        "probe sweep --model $MODEL --data $LABELS --group-column pair --seeds 1 --mdl 0 --l2 1,100 --layers 0,2 \
         --probe logistic,mean-diff --replicates 50",
        &[REPORT, APPLY],
    ),
    ("apply", "probe apply --model $MODEL --probe $SWEEP --data $LABELS --group-column pair", &[REPORT]),
    (
        "probe-transfer",
        "probe transfer --model $MODEL --data $LABELS $MORE --group-column pair --layers 0,2",
        &[REPORT],
    ),
    ("law", "probe law --model $GPT2 --data $STORIES --tokens 800", &[REPORT]),
    ("attention", "attention $MODEL_TEXTS --tokens 200 --ablate mean --layers 1 --replicates 50", &[REPORT]),
    (
        "attention-prompt",
        "attention --model $MODEL --prompt $PROMPT --save pattern",
        &[("report $RUN --out $OUT", "metrics.parquet patterns.parquet")],
    ),
    ("schedule", "schedule $MODEL_TEXTS --tokens 200 --deletions --replicates 50", &[REPORT]),
    (
        "steer",
        "steer $MODEL_TEXTS --tokens 100 --pairs $PAIRS --toward w3 --away w4 --layers 1 --random 2",
        &[REPORT, PUSH, EDIT],
    ),
    ("trace", "trace --model $MODEL --clean $PROMPT --corrupted $OTHER --answer w6 --foil w7", &[REPORT]),
    ("attribute", "attribute --model $MODEL --prompt $PROMPT --answer w6 --foil w7 --neurons 3", &[REPORT]),
    ("attribute-text", "attribute $MODEL_TEXTS --tokens 200", &[REPORT]),
    ("patch", "patch --model $MODEL --source $PROMPT --target $PROMPT --placeholder w3", &[REPORT]),
    ("generate", "generate --model $MODEL --text $PROMPT --max-new-tokens 4", &[REPORT]),
    ("think", "think --model $MODEL --text $PROMPT --steps 2 --max-new-tokens 2", &[REPORT]),
    ("think-space", "think space $MODEL_TEXTS --tokens 200 --replicates 50", &[REPORT]),
    (
        "future",
        "future $MODEL_TEXTS --tokens 600 --contexts 20 --horizons 2 --replicates 50 --no-fixed --lens logit",
        &[REPORT],
    ),
    (
        "view",
        "view --model $MODEL --text $PROMPT --lens logit --lens $TUNED",
        &[("report $RUN --out $OUT", "trajectory.parquet")],
    ),
    ("verify", "verify --model $TINY --reference $TINY/reference.safetensors", &[REPORT]),
    ("report", "report $SPACE", &[]),
    ("report-two", "report $SPACE $SWEEP", &[]),
];

/// A kind of run.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    command: Vec<String>,
    /// Commands that read it, with files that each must read.
    pub(crate) readers: Vec<(Vec<String>, Vec<String>)>,
}

/// A model, texts, labelled texts, and runs that other runs are made from.
pub(crate) struct Bench {
    dir: TempDir,
    names: BTreeMap<&'static str, String>,
    _model: TempDir,
}

impl Kind {
    /// The command that makes the run at `out`.
    pub(crate) fn make(&self, out: &Path) -> Command {
        let mut command = layerscope();
        command.args(&self.command).arg("--quiet").arg("--out").arg(out);
        if self.command[0] != "report" {
            command.args(["--threads", "1"]);
        }
        command
    }

    /// The command of a reader for the run at `run`, with its own results at `out`.
    pub(crate) fn read(reader: &[String], run: &Path, out: &Path) -> Command {
        let mut command = layerscope();
        let word = |word: &String| word.replace("$RUN", &path(run)).replace("$OUT", &path(out));
        command.args(reader.iter().map(word)).arg("--quiet");
        command
    }
}

/// Does something for each, two at a time: processes take a core each.
pub(crate) fn two_at_a_time<T: Sync>(items: &[T], act: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            act(item);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}

/// Every file but the manifest, which quotes the command line.
pub(crate) fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = files(dir);
    all.remove(Path::new("manifest.json")).expect("a manifest");
    all
}

/// Texts of words `w0` … `w60`, drawn by a generator of fixed numbers (Knuth's MMIX).
fn texts(n: usize) -> Vec<String> {
    let mut state = 7_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut text = || {
        let length = 12 + draw(8);
        (0..length).map(|_| format!("w{}", draw(61))).collect::<Vec<_>>().join(" ")
    };
    (0..n).map(|_| text()).collect()
}

fn write_data(dir: &Path) {
    let texts = texts(80);
    let json: Vec<String> = texts.iter().map(|text| format!("{{\"text\": \"{text}\"}}\n")).collect();
    std::fs::write(dir.join("texts.jsonl"), json.concat()).unwrap();
    for (name, n) in [("labels.csv", 80), ("more.csv", 40)] {
        let row = |i: usize| format!("{},{},{}\n", texts[i], ["no", "yes"][i % 2], i / 2);
        let rows: String = (0..n).map(row).collect();
        std::fs::write(dir.join(name), format!("text,label,pair\n{rows}")).unwrap();
    }
    let pairs = "positive,negative\nw1 w2 w3,w1 w2 w4\nw5 w6 w3,w5 w6 w4\nw9 w2 w3,w9 w2 w4\n";
    std::fs::write(dir.join("pairs.csv"), pairs).unwrap();
}

impl Bench {
    pub(crate) fn new() -> Self {
        let (model, dir) = (tiny("llama"), tempfile::tempdir().unwrap());
        write_data(dir.path());
        let at = |name: &str| path(dir.path().join(name));
        let family = path(crate::properties::fixture("families/llama"));
        let names = BTreeMap::from([
            ("$MODEL", path(model.path())),
            ("$TINY", family),
            ("$GPT2", gpt2()),
            ("$STORIES", stories()),
            ("$TEXTS", at("texts.jsonl")),
            ("$LABELS", at("labels.csv")),
            ("$MORE", at("more.csv")),
            ("$PAIRS", at("pairs.csv")),
            ("$TUNED", at("fit-tuned")),
            ("$SWEEP", at("sweep")),
            ("$SPACE", at("think-space")),
            ("$PROMPT", PROMPT.to_owned()),
            ("$OTHER", OTHER.to_owned()),
        ]);
        let bench = Self { dir, names, _model: model };
        for name in ["fit-tuned", "sweep", "think-space"] {
            let ended = end(&mut bench.kind(name).make(&bench.at(name)));
            assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
        }
        bench
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a name in a command stands for.
    pub(crate) fn name(&self, name: &str) -> &str {
        &self.names[name]
    }

    /// Every kind of run that leaves a folder.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        KINDS.iter().map(|(name, ..)| self.kind(name)).collect()
    }

    pub(crate) fn kind(&self, name: &str) -> Kind {
        let (name, command, readers) = KINDS.iter().find(|(own, ..)| *own == name).unwrap();
        let ending = if command.contains("npy") { "npy" } else { "parquet" };
        let files = |files: &str| self.words(&files.replace("$ENDING", ending));
        let readers = readers.iter().map(|(reader, needs)| (self.words(reader), files(needs))).collect();
        Kind { name, command: self.words(command), readers }
    }

    /// The words of a command, names filled in.
    fn words(&self, text: &str) -> Vec<String> {
        let text = text.replace("$MODEL_TEXTS", "--model $MODEL --data $TEXTS");
        let fill = |word: &str| {
            self.names.iter().fold(word.to_owned(), |word, (name, value)| word.replace(name, value))
        };
        text.split_whitespace().map(fill).collect()
    }
}
