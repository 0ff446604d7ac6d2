//! The table of docs/models.md: every family against transformers, measured here.
//!
//! `LAYERSCOPE_MODELS_MD=docs/models.md cargo test --release --test tests models_table` writes it anew.

use std::{collections::BTreeMap, fmt::Write as _, ops::ControlFlow, path::Path};

use layerscope::{
    hook::HookPoint,
    intervene::generate::{Prompt, Settings, generate},
    model::verify::{Difference, verify},
    model::{Model, Weights},
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::{
    cli::fixture,
    parity::{cases, reference},
};

const HEAD: &str = "# Models

Every `model_type` that loads, held against transformers 5.23 (eager attention) on tiny random models: norms, biases and
embeddings drawn away from their defaults, texts longer than every window and, where a rotation is stretched, up to four
times as long as the context it comes from. Made by one command, which fails when a family does not pass:

```
LAYERSCOPE_MODELS_MD=docs/models.md cargo test --release --test tests models_table
```

Errors are the largest over all cases of a family, relative to a token's root mean square plus the number itself (see
[verify.md](verify.md)). *Streams*: every layer's residual stream, f32. *Logits*: f32. *f64*: streams and logits in f64, where
transformers computes in f64 from end to end. *bf16*: the root mean square error of the logits with weights and activations in bf16,
over theirs; it is the rounding of the type. *Cache*: tokens said greedily with a cache that are transformers' own, of all; encoders
say nothing.
Multimodal models are read by their text half; with text alone it is the whole model.

| model_type | cases | streams | logits | f64 | bf16 | cache |
|---|---|---|---|---|---|---|
";

const TAIL: &str = "
Any other `model_type` is refused by name before weights are read: among those that people ask for Gemma 3n and 4 (embeddings per
layer, keys shared between layers), `gpt_oss`, DeepSeek 2 and 3, `phimoe`, GLM 4 MoE and other routers than a softmax, Llama 4, PaliGemma (whose
text half sees both ways), encoders with relative positions (DeBERTa, MPNet) or of pairs of texts, and recurrent models. Within a family, options that are not supported are refused by their key.

## Encoders

`bert`, `roberta`, `xlm-roberta`, `camembert`, `distilbert`, `modernbert` and `esm` see tokens before and behind. Texts run without
padding, one length at a time, and are what they are in a padded batch (under test). Every document, and every window of a long one,
has what the tokenizer's own template puts around a text ([CLS] and [SEP]); token types are those of a first text. The residual
stream of BERT, RoBERTa and DistilBERT is normed itself, after each branch has been added: see [hooks.md](hooks.md).
The transform of the masked-language-model head (map, activation, norm) is part of the way out, as a final norm is, so that a lens
at the last layer is the model.

Lenses read masked positions: [lenses.md](lenses.md#encoders). A folder without the head (`AutoModel`, sentence-transformers) exports,
is probed and measured; lens commands refuse it by name, and everything that goes on with a text (`generate`, `steer`, …)
refuses every encoder, before weights are read. Settings that make another model of it (`is_decoder`, relative positions) are refused
by their key.

## Weights

`--model` takes a folder, a hub id, or a GGUF file. In a folder the weights are looked for in the order of transformers; a file that
lies about without an index counts where it is whole. Everything is mapped and read one tensor at a time: peak memory stays near one
copy of the model in the type asked for.

| what | read as |
|---|---|
| `model.safetensors`, its shards | F32, F16, BF16, F64 as they are |
| `pytorch_model.bin`, its shards | the same. The pickle goes through a machine that knows how to describe tensors and nothing else; nothing is run. Files from before torch 1.6 are refused |
| `model.fp16.safetensors` and other variants (`fp32`, `bf16`, `fp16`, `non_ema`) | where there is no file without a variant |
| names without prefix (`AutoModel`), a tied head stored without the embedding (`save_model`) | by either name |
| GGUF of `llama`, `qwen2`, `qwen3` | F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, bit for bit as the package `gguf` has it; metadata stand for `config.json` and `tokenizer.json` (byte-level BPE of gpt-2, smollm, starcoder, llama 3 and qwen 2; sentencepiece). IQ and other types, other architectures and split files are refused by name |
| FP8 (`fp8` with blocks as DeepSeek has them or without, `fbgemm_fp8`, compressed-tensors `float-quantized`) | number × scale, in f32 |
| GPTQ of 2, 4 or 8 bits, also with act-order; AWQ of 4 bits (gemm); bitsandbytes of 8 bits | scale × (number - zero point), in f32 |

Weights of few bits become floats when they are read: what is computed is the model that they stand for, not what a kernel would
also round of the activations. The manifest has the counts as `model.stored`, `info` prints them. All else in `quantization_config`
is refused by name.

`info` opens the table of tensors and asks for every tensor as loading does, without reading a number: what is missing or has another
shape is in its line `tensors` (and `--json`), so are the tensors of vision and audio that a text model leaves alone.

## Chats

`generate --chat FILE`, `view --chat FILE` and data with a column `messages` are rendered by the model's own template:
[data.md](data.md#chats).
";

/// The measures of one family: the worst of its cases.
#[derive(Default)]
struct Row {
    cases: usize,
    streams: f64,
    logits: f64,
    exact: f64,
    bf16: f64,
    said: usize,
    same: usize,
}

fn load(case: &Path, kind: Kind) -> Model {
    Model::load(case, kind, Device::Cpu, |_, _| ()).unwrap()
}

fn worst(differences: &[Difference], of: impl Fn(HookPoint) -> bool) -> f64 {
    differences.iter().filter(|d| of(d.point)).map(Difference::relative).fold(0.0, f64::max)
}

/// The root mean square error of the logits in bf16, over that of the logits.
fn rounding(case: &Path) -> f64 {
    let reference = Weights::open_file(&reference(case), Kind::Double).unwrap();
    let (ids, theirs) = (reference.take_any("input_ids").unwrap(), reference.take_any("logits").unwrap());
    let ours = load(case, Kind::BFloat16).forward(&ids, &mut ()).unwrap().unwrap().to_kind(Kind::Double);
    let rms = |t: &Tensor| t.square().mean(Kind::Double).sqrt().double_value(&[]);
    rms(&(ours - &theirs)) / rms(&theirs)
}

fn tokens(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// How many tokens were to be said, and how many were the same up to the first that was not.
fn said(model: &Model, golden: &Value) -> (usize, usize) {
    let theirs = tokens(&golden["new"]);
    let prompt = Prompt { index: 0, ids: tokens(&golden["prompt"]) };
    let settings = Settings::greedy(theirs.len());
    let ours = generate(model, &[prompt], &settings, &mut (), &mut |_| ControlFlow::Continue(())).unwrap();
    let same = ours[0].tokens.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    (theirs.len(), same)
}

fn rows() -> BTreeMap<String, Row> {
    let generated: Value =
        serde_json::from_slice(&std::fs::read(fixture("families").join("generated.json")).unwrap()).unwrap();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for case in cases() {
        let config: Value =
            serde_json::from_slice(&std::fs::read(case.join("config.json")).unwrap()).unwrap();
        let model = load(&case, Kind::Float);
        let single = verify(&model, &reference(&case)).unwrap();
        let exact = case.join("reference_f64.safetensors");
        let double =
            if exact.is_file() { verify(&load(&case, Kind::Double), &exact).unwrap() } else { Vec::new() };
        let golden = generated.get(case.file_name().unwrap().to_str().unwrap());
        // Encoders say nothing.
        assert_eq!(golden.is_some(), model.spec().encoder.is_none(), "{}", case.display());
        let (all, same) = golden.map_or((0, 0), |golden| said(&model, golden));

        let row = rows.entry(config["model_type"].as_str().unwrap().to_owned()).or_default();
        row.cases += 1;
        row.streams = row.streams.max(worst(&single, |point| point != HookPoint::Logits));
        row.logits = row.logits.max(worst(&single, |point| point == HookPoint::Logits));
        row.exact = row.exact.max(worst(&double, |_| true));
        row.bf16 = row.bf16.max(rounding(&case));
        (row.said, row.same) = (row.said + all, row.same + same);
    }
    rows
}

#[test]
fn every_family_is_in_the_table_and_passes() {
    tch::set_num_threads(1); // the models are too small to share
    let rows = rows();
    let mut table = String::from(HEAD);
    for (name, r) in &rows {
        let Row { cases, streams, logits, exact, bf16, said, same } = r;
        let cache = if *said == 0 { "none".to_owned() } else { format!("{same} of {said}") };
        let cells = format!("{cases} | {streams:.0e} | {logits:.0e} | {exact:.0e} | {bf16:.3} | {cache}");
        writeln!(table, "| `{name}` | {cells} |").unwrap();
    }
    writeln!(table, "\n{} model types.", rows.len()).unwrap();
    table.push_str(TAIL);
    print!("{table}");
    // f32 rounding stays below 5e-6 of the scale, and f64's below 1e-14 (BLOOM's GELU has a constant of eight digits).
    let wrong: Vec<_> = rows
        .iter()
        .filter(|(_, r)| !(r.streams < 1e-5 && r.logits < 1e-5 && r.exact < 1e-9 && r.same == r.said))
        .map(|(name, _)| name)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/models.md");
    if let Some(path) = std::env::var_os("LAYERSCOPE_MODELS_MD") {
        std::fs::write(path, &table).unwrap();
    }
    // Figures are of one machine; families and cases are not.
    let kept = std::fs::read_to_string(page).unwrap();
    for (name, row) in &rows {
        assert!(kept.contains(&format!("| `{name}` | {} |", row.cases)), "{name} is not in docs/models.md");
    }
    assert!(kept.contains(&format!("\n{} model types.\n", rows.len())));
}
