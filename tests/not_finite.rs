//! Models whose numbers leave the range of their type: every command stops, with the layer or tensor and the document
//! or prompt in its one line, and nothing that it leaves holds a NaN.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::cli::{Ended, end, layerscope, path, rewrite, tiny, words};

/// A copy of the tiny GPT-2 (two blocks, f32) with the values of some tensors changed.
fn model(change: impl Fn(&str, usize, f32) -> f32) -> tempfile::TempDir {
    let dir = tiny("gpt2");
    let file = dir.path().join("model.safetensors");
    rewrite(&file.clone(), &file, |tensors| {
        for (name, (_, _, bytes)) in tensors.iter_mut() {
            for (i, value) in bytes.chunks_exact_mut(4).enumerate() {
                let old = f32::from_le_bytes([value[0], value[1], value[2], value[3]]);
                value.copy_from_slice(&change(name, i, old).to_le_bytes());
            }
        }
    });
    dir
}

/// Data, labels and lenses of the model as it is.
fn prepared(dir: &Path) {
    let line = |doc: usize| {
        let words: Vec<String> =
            (0..9 + doc % 5).map(|i| format!("w{}", (doc * 7 + i * i * 3 + 1) % 61)).collect();
        (words.join(" "), ["x", "y"][doc % 2])
    };
    let rows: Vec<_> = (0..24).map(line).collect();
    let json = |(text, _): &(String, &str)| serde_json::json!({ "text": text }).to_string();
    std::fs::write(dir.join("d.jsonl"), rows.iter().map(json).collect::<Vec<_>>().join("\n")).unwrap();
    let csv: Vec<String> = rows.iter().map(|(text, label)| format!("{text},{label}")).collect();
    std::fs::write(dir.join("l.csv"), format!("text,label\n{}\n", csv.join("\n"))).unwrap();
    std::fs::copy(dir.join("l.csv"), dir.join("m.csv")).unwrap();
    let pair = |i: usize| serde_json::json!({ "positive": rows[i].0, "negative": rows[i + 1].0 }).to_string();
    std::fs::write(dir.join("p.jsonl"), (0..6).map(pair).collect::<Vec<_>>().join("\n")).unwrap();
    let good = tiny("gpt2");
    for extra in [
        "lens fit --kind linear --data D/d.jsonl --out D/linear",
        "lens fit --kind tuned --step-tokens 64 --data D/d.jsonl --out D/tuned",
        "lens fit --kind future --horizons 2 --data D/d.jsonl --out D/future",
        "lens fit --kind future-prompt --horizons 2 --prompt-tokens 2 --contexts 12 --batch 6 --epochs 1 --data D/d.jsonl --out D/soft",
        "probe sweep --layers 1,2 --seeds 1 --mdl 0 --probe lda --data D/l.csv --out D/sweep",
    ] {
        let ended = run(good.path(), dir, extra);
        assert_eq!(ended.code, Some(0), "{extra}: {}", ended.err);
    }
}

/// `D` stands for the folder.
fn run(model: &Path, dir: &Path, command: &str) -> Ended {
    let here = |word: String| word.replace("D/", &format!("{}/", path(dir)));
    let mut all = layerscope();
    all.args(words(command).into_iter().map(here)).arg("--quiet").arg("--model").arg(model);
    end(&mut all)
}

const COMMANDS: [&str; 37] = [
    "view --text T",
    "view --text T --json",
    "view --text T --layers 2",
    "view --text w1 --text T --html D/o/page.html",
    "view --text T --out D/o/view",
    "view --text T --logitlenskit D/o/kit.json",
    "view --text T --lens D/linear --other-unembedding",
    "view --text T --lens D/soft --other-unembedding",
    "export --data D/d.jsonl --hooks resid_pre --out D/o/export",
    "attention --ablate zero --data D/d.jsonl --out D/o/attention",
    "attention --ablate mean --prompt T --out D/o/attention2",
    "generate --text T --max-new-tokens 3",
    "generate --text T --max-new-tokens 3 --temperature 1",
    "lens fit --kind tuned --step-tokens 64 --data D/d.jsonl --out D/o/tuned",
    "lens fit --kind shared --step-tokens 64 --data D/d.jsonl --out D/o/shared",
    "lens fit --kind linear --data D/d.jsonl --out D/o/linear",
    "lens fit --kind future --data D/d.jsonl --out D/o/future",
    "lens fit --kind future-prompt --horizons 2 --prompt-tokens 2 --contexts 12 --batch 6 --epochs 1 --data D/d.jsonl --out D/o/soft",
    "lens fit --kind jacobian --n-prompts 4 --skip-first 1 --data D/d.jsonl --out D/o/jacobian",
    "lens eval --lens logit --data D/d.jsonl --out D/o/eval",
    "lens eval --lens D/linear --other-unembedding --data D/d.jsonl --out D/o/eval2",
    "lens transfer --lens D/tuned --other-unembedding --data D/d.jsonl --out D/o/transfer",
    "lens causal --layers 1,2 --directions 2 --basis-tokens 20 --replicates 10 --data D/d.jsonl --out D/o/causal",
    "future --lens D/future --other-unembedding --contexts 12 --data D/d.jsonl --out D/o/later",
    "patch --source T --steps 2 --out D/o/patch",
    "trace --clean T --corrupted U",
    "trace --clean T --subject w4 --samples 2 --out D/o/trace",
    "steer --pairs D/p.jsonl --layers 1 --strengths 1 --random 2 --data D/d.jsonl --out D/o/steer",
    "think --text T --steps 2 --max-new-tokens 2",
    "think --text T --steps 2 --max-new-tokens 2 --lens logit --out D/o/think",
    "schedule --schedule 1,0 --data D/d.jsonl --out D/o/schedule",
    "probe sweep --seeds 1 --mdl 0 --data D/l.csv --out D/o/sweep",
    "probe sweep --seeds 1 --stream --probe lda --data D/l.csv --out D/o/stream",
    "probe law --data D/d.jsonl --out D/o/law",
    "probe law --norm none --data D/d.jsonl --out D/o/law2",
    "probe apply --probe D/sweep --data D/l.csv --out D/o/apply",
    "probe transfer --layers 1,2 --data D/l.csv D/m.csv --out D/o/sets",
];

/// A command's words, with the prompts, of several words, as one each.
fn ended((name, model): (&str, &Path), dir: &Path, command: &str) -> Ended {
    let here = |word: &str| match word {
        "T" => "w1 w4 w9 w16 w25".to_owned(),
        "U" => "w1 w5 w9 w16 w25".to_owned(),
        _ => word.replace("D/o/", &format!("D/o/{name}-")).replace("D/", &format!("{}/", path(dir))),
    };
    let mut all = layerscope();
    all.args(command.split(' ').map(here)).args(["--quiet", "--threads", "1", "--model"]).arg(model);
    end(&mut all)
}

#[test]
fn every_command_stops_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    prepared(dir.path());
    std::fs::create_dir(dir.path().join("o")).unwrap();
    let huge = model(|_, _, x| (f64::from(x) * 1e38).clamp(-3e38, 3e38) as f32);
    // The last block's output alone overflows, at some positions.
    let late = model(|name, _, x| {
        if name.ends_with("h.1.mlp.c_proj.weight") {
            (f64::from(x) * 6e38).clamp(-3e38, 3e38) as f32
        } else {
            x
        }
    });
    let nan = model(|name, i, x| if name.ends_with("h.1.mlp.c_fc.weight") && i == 77 { f32::NAN } else { x });
    // A weight that is NaN is refused where weights are read, in one place for all commands: some of them will do.
    let models = [("huge", &huge, 1), ("late", &late, 1), ("nan", &nan, 5)];
    let of = |(name, model, step)| COMMANDS.iter().step_by(step).map(move |command| (name, model, *command));
    let all: Vec<(&str, &tempfile::TempDir, &str)> = models.into_iter().flat_map(of).collect();
    let wrong: Vec<String> = all
        .par_iter()
        .filter_map(|(name, model, command)| {
            let ended = ended((name, model.path()), dir.path(), command);
            let lines = ended.err.lines().filter(|line| !line.starts_with("warning: ")).count();
            let says = |words: &[&str]| words.iter().any(|word| ended.err.contains(word));
            let what = says(&["not finite", "NaN", "inf at"]);
            let place = says(&["blocks.", "layer ", "tensor `", "the logits of", "thought "]);
            let text = *name == "nan" || says(&["document", "prompt", "position", "text "]);
            let good =
                ended.code == Some(1) && lines == 1 && what && place && text && !ended.out.contains("NaN");
            (!good).then(|| format!("{name}: {command}: {ended:?}"))
        })
        .collect();
    let info = ended(("huge", huge.path()), dir.path(), "info");
    assert_eq!(info.code, Some(0), "{info:?}: no weight is read");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    let left: Vec<PathBuf> = crate::cli::files(&dir.path().join("o")).into_keys().collect();
    let done = |file: &&PathBuf| {
        let ext = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        matches!(ext, "html" | "parquet") || file.ends_with("kit.json")
    };
    let shown: Vec<_> = left.iter().filter(done).collect();
    assert!(shown.is_empty(), "left behind: {shown:?}");
}
