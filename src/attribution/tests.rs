use std::path::{Path, PathBuf};

use tch::{Device, IndexOp as _, Kind, Tensor};

use super::*;
use crate::{
    hook::{BlockHook, Capture, Edit, HookPoint},
    model::{Config, Model, NormPlacement, ResidualKind, Weights, spec},
    results::statistics::Intervals,
};

const IDS: [i64; 6] = [3, 14, 15, 9, 26, 5];

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(family)
}

fn load(family: &str, kind: Kind) -> Model {
    Model::load(&folder(family), kind, Device::Cpu, |_, _| ()).unwrap()
}

fn ids() -> Tensor {
    Tensor::from_slice(&IDS).view([1, -1])
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).contiguous().view([-1])).unwrap()
}

/// Every model that there is a tiny one of.
fn families() -> Vec<String> {
    let entries = folder("").read_dir().unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("config.json").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Of every position of two texts the next token's logit, and the same less another's: what [`attribute`] checks by
/// itself, and against the model's own output behind the soft cap.
fn adds_up(model: &Model, neurons: bool, tolerance: f64) {
    let spec = model.spec();
    let texts = Tensor::from_slice(&[IDS, [1, 2, 3, 5, 8, 13]].concat()).view([2, 6]);
    let rows: Vec<i64> = (0..12).collect();
    let said: Vec<i64> = rows.iter().map(|row| (7 * row + 4) % spec.vocab as i64).collect();
    let others: Vec<i64> = rows.iter().map(|row| (5 * row + 1) % spec.vocab as i64).collect();
    let of = |ids: &[i64]| Targets::tokens(model.unembed(), ids).unwrap();
    let found = attribute(model, &texts, &rows, &of(&said), neurons).unwrap();
    let less = attribute(model, &texts, &rows, &of(&said).less(&of(&others)).unwrap(), neurons).unwrap();
    let other = attribute(model, &texts, &rows, &of(&others), neurons).unwrap();
    let logits = model.forward(&texts, &mut ()).unwrap().unwrap().flatten(0, 1).to_kind(Kind::Double);
    let capped = |x: f64| model.unembed().soft_cap().map_or(x, |cap| cap * (x / cap).tanh());
    for (row, token) in said.iter().enumerate() {
        let sum: f64 = found.row(row).iter().sum();
        let own = logits.double_value(&[row as i64, *token]);
        let close = |a: f64, b: f64| {
            assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{}: {a} {b}", spec.family);
        };
        close(capped(sum), own);
        close(*found.so_far(row).last().unwrap(), found.logits[row]);
        close(*found.stopped(row).last().unwrap(), found.logits[row]);
        // What is linear in the logits is linear part by part.
        for ((a, b), c) in found.row(row).iter().zip(other.row(row)).zip(less.row(row)) {
            close(a - b, *c);
        }
    }
}

/// f32: a sum of some hundred parts is off by some 1e-6 of their size, whatever the order; [`attribute`] allows 1e-4.
#[test]
fn every_family_adds_up() {
    tch::set_num_threads(1); // the models are too small to share
    let (mut seen, mut refused) = (Vec::new(), 0);
    for family in families() {
        let model = load(&family, Kind::Float);
        let sparse = model.spec().layers.iter().any(|layer| layer.sparse);
        if model.spec().encoder.is_some() {
            let targets = Targets::tokens(model.unembed(), &[]).unwrap();
            let error = attribute(&model, &ids(), &[], &targets, false).unwrap_err();
            assert!(error.to_string().contains("encoder"), "{family}: {error}");
            refused += 1;
            continue;
        }
        adds_up(&model, false, 1e-4);
        adds_up(&load(&family, Kind::Double), !sparse, 1e-9);
        seen.push(model.spec().clone());
    }
    assert!(seen.len() > 100 && refused > 5, "{} {refused}", seen.len());
    // Whatever makes the sum another one is among them.
    let any = |what: &str, of: &dyn Fn(&crate::model::Spec) -> bool| assert!(seen.iter().any(of), "{what}");
    any("parallel", &|s| s.residual == ResidualKind::Parallel);
    any("parallel with one norm", &|s| s.residual == ResidualKind::ParallelSharedNorm);
    any("grouped heads", &|s| s.n_kv_heads < s.n_heads);
    any("norms behind branches alone", &|s| s.norms == NormPlacement::After);
    any("norms at both ends", &|s| s.norms == NormPlacement::Both);
    any("weights minus one", &|s| s.norm.plus_one);
    any("an offset", &|s| s.norm.bias && s.norm.weight);
    any("a norm without weights", &|s| !s.norm.weight);
    any("soft cap", &|s| s.logit_cap.is_some());
    any("normed embeddings", &|s| s.embed_norm);
    any("embedded positions", &|s| s.positions.are_embedded());
    any("a factor on branches", &|s| s.residual_scale.is_some());
    any("a factor on logits", &|s| s.logit_scale.is_some());
    any("a head's bias", &|s| s.bias.head);
    any("experts", &|s| s.layers.iter().any(|layer| layer.sparse));
}

/// Heads, MLPs, biases and neurons of four families against transformers (`fixtures/attribution/make.py`).
#[test]
fn parts_are_those_of_transformers() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/attribution/golden.safetensors");
    let golden = Weights::open_file(&file, Kind::Double).unwrap();
    for family in ["gpt2", "llama", "gpt-neox", "gemma2"] {
        let model = load(family, Kind::Double);
        let of = |name: &str| golden.take_any(&format!("{family}.{name}")).unwrap();
        let tokens: Vec<i64> = Vec::try_from(of("tokens").to_kind(Kind::Int64)).unwrap();
        assert_eq!(likeliest(&model, &ids(), &[5], model.spec().vocab).unwrap(), tokens[..1], "{family}");
        let one = |id: i64| Targets::tokens(model.unembed(), &[id]).unwrap();
        let targets = [one(tokens[0]), one(tokens[0]).less(&one(tokens[1])).unwrap()];
        let targets = Targets::concat(&targets).unwrap();
        let found = attribute(&model, &ids(), &[5, 5], &targets, false).unwrap();
        let want = numbers(&of("parts").transpose(0, 1));
        let got = [found.row(0), found.row(1)].concat();
        assert_eq!(got.len(), want.len(), "{family}: {:?}", found.components);
        let close = |got: &[f64], want: &[f64], what: &str| {
            for (a, b) in got.iter().zip(want) {
                assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{family} {what}: {got:?} {want:?}");
            }
        };
        close(&got, &want, "parts");
        close(&found.logits[..1], &numbers(&of("logits"))[..1], "logit");
        let fine = attribute(&model, &ids(), &[5, 5], &targets, true).unwrap();
        let of_mlps = fine.components.iter().zip(fine.row(1)).filter(|(c, _)| c.is_mlp());
        let neurons: Vec<f64> = of_mlps.map(|(_, value)| *value).collect();
        let want = numbers(&of("neurons"));
        assert_eq!(neurons.len(), want.len(), "{family}");
        close(&neurons, &want, "neurons");
        // Whole MLPs are the sums of their parts.
        let whole = fine.whole();
        assert_eq!(whole.components, found.components);
        close(whole.row(0), found.row(0), "whole");
    }
}

/// The divisor has to be that of the end: with a component's own the parts do not sum to the logit, not nearly.
#[test]
fn a_divisor_of_its_own_breaks_the_sum() {
    for family in ["gpt2", "llama"] {
        let model = load(family, Kind::Double);
        let n = model.spec().n_layers;
        let blocks =
            (0..n).flat_map(|l| [BlockHook::AttnOut, BlockHook::MlpOut].map(|h| HookPoint::Block(l, h)));
        let points: Vec<HookPoint> = [HookPoint::resid_pre(0)].into_iter().chain(blocks).collect();
        let all = points.iter().copied().chain([HookPoint::resid_pre(n)]).collect();
        let mut capture = Capture::new(all);
        model.forward(&ids(), &mut capture).unwrap();
        let at = |point: HookPoint| capture.get(point).unwrap().i((0, 5));
        let norm = model.unembed().norm().unwrap();
        let end = norm.scale(&at(HookPoint::resid_pre(n))).unwrap();
        let row = model.unembed().weight().i(7);
        let offset = norm.bias().map_or(0.0, |bias| bias.dot(&row).double_value(&[]));
        let sum = |divisor: &dyn Fn(&Tensor) -> Tensor| -> f64 {
            let part = |point: &HookPoint| {
                let normed = norm.with_scale(&at(*point), &divisor(&at(*point))).unwrap();
                normed.dot(&row).double_value(&[]) - offset
            };
            points.iter().map(part).sum::<f64>() + offset
        };
        let targets = Targets::tokens(model.unembed(), &[7]).unwrap();
        let logit = attribute(&model, &ids(), &[5], &targets, false).unwrap().logits[0];
        let frozen = sum(&|_| end.shallow_clone());
        let own = sum(&|part| norm.scale(part).unwrap());
        assert!(
            (frozen - logit).abs() < 1e-10 && (own - logit).abs() > 0.1,
            "{family}: {logit} {frozen} {own}"
        );
    }
}

/// What nobody wrote is named by its row; what a head is changed to is what it wrote.
#[test]
fn a_sum_that_does_not_hold_is_named() {
    let model = load("llama", Kind::Float);
    let targets = Targets::tokens(model.unembed(), &[7, 8]).unwrap();
    let run = |point: HookPoint, row: i64| {
        let mut edit = Edit::at(point, |value: Tensor| {
            let _ = value.i((0, row)).f_add_scalar_(0.5).unwrap();
            value
        });
        attribute_under(&model, &ids(), (&[2, 5], &targets), false, &mut edit)
    };
    let mid = HookPoint::Block(1, BlockHook::ResidMid);
    assert!(matches!(run(mid, 5), Err(AttributionError::Sum { row: 1, .. })));
    let error = run(mid, 2).unwrap_err();
    assert!(matches!(error, AttributionError::Sum { row: 0, .. }), "{error}");
    assert!(error.to_string().starts_with("the components sum to "), "{error}");
    run(HookPoint::Block(1, BlockHook::Z), 5).unwrap();
    run(HookPoint::Block(0, BlockHook::MlpOut), 2).unwrap();
}

#[test]
fn what_cannot_be_taken_apart_is_named() {
    let refuses = |family: &str, kind: Kind, neurons: bool, says: &str| {
        let model = load(family, kind);
        let targets = Targets::tokens(model.unembed(), &[7]).unwrap();
        let error = attribute(&model, &ids(), &[5], &targets, neurons).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    refuses("mixtral", Kind::Float, true, "mixtral: block 0 has experts in place of an MLP");
    refuses("bert", Kind::Float, false, "bert: an encoder's head");
    refuses("llama", Kind::BFloat16, false, "BFloat16 numbers are too coarse");
    let model = load("llama", Kind::Float);
    assert!(Targets::tokens(model.unembed(), &[61]).unwrap_err().to_string().contains("token id 61"));
    let targets = Targets::tokens(model.unembed(), &[7]).unwrap();
    for rows in [&[6][..], &[-1], &[1, 2]] {
        assert!(matches!(attribute(&model, &ids(), rows, &targets, false), Err(AttributionError::Rows(_))));
    }
    // A stream that is normed itself is no sum.
    let bert = spec(&Config::read(&folder("bert")).unwrap()).unwrap();
    let decoder = crate::model::Spec { encoder: None, ..bert };
    assert!(check_family(&decoder, false).unwrap_err().to_string().contains("normed after every branch"));
}

/// Less the mean of all logits, and the stream read at every layer as the logit lens reads it.
#[test]
fn against_the_mean_and_layer_by_layer() {
    for family in ["gptj", "bloom", "gpt2"] {
        let model = load(family, Kind::Double);
        let (unembed, vocab) = (model.unembed(), 40);
        let target = Targets::tokens(unembed, &[7]).unwrap();
        let mean = Targets::mean(unembed, vocab).unwrap();
        let found = attribute(&model, &ids(), &[3], &target.less(&mean).unwrap(), false).unwrap();
        let logits = model.forward(&ids(), &mut ()).unwrap().unwrap().i((0, 3));
        let of = |logits: &Tensor| {
            logits.double_value(&[7]) - logits.narrow(0, 0, vocab as i64).mean(Kind::Double).double_value(&[])
        };
        assert!((found.logits[0] - of(&logits)).abs() < 1e-10, "{family}");
        let points: Vec<HookPoint> = (0..=model.spec().n_layers).map(HookPoint::resid_pre).collect();
        let mut capture = Capture::new(points.iter().copied().collect());
        model.forward(&ids(), &mut capture).unwrap();
        for (point, stopped) in points.iter().zip(found.stopped(0)) {
            let own = of(&unembed.logits(&capture.get(*point).unwrap().i((0, 3))).unwrap());
            assert!((own - stopped).abs() < 1e-10, "{family} {point}: {own} {stopped}");
        }
    }
}

/// Two documents of three and one token: means are over tokens, intervals over documents.
#[test]
fn means_are_over_tokens() {
    let model = load("gpt2", Kind::Double);
    let targets = Targets::tokens(model.unembed(), &[7, 8, 9, 10]).unwrap();
    let found = attribute(&model, &ids(), &[0, 2, 3, 5], &targets, false).unwrap();
    let n_layers = model.spec().n_layers;
    let mut means = Means::new(found.components.clone(), n_layers, Intervals::default()).unwrap();
    assert!(means.finish().is_empty());
    means.add(&found, &[4, 4, 4, 9]).unwrap();
    let all = means.finish();
    let mean = |of: &dyn Fn(usize) -> f64| (0..4).map(of).sum::<f64>() / 4.0;
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
    for (place, component) in found.components.iter().enumerate() {
        for absolute in [false, true] {
            let wanted = |m: &&Mean| m.of == Of::Component(*component) && m.absolute == absolute;
            let number = all.iter().find(wanted).unwrap().number;
            assert_eq!((number.n, number.n_clusters), (4, 2));
            let value = |row: usize| found.row(row)[place];
            close(number.estimate, mean(&|row| if absolute { value(row).abs() } else { value(row) }));
        }
    }
    let one = |of: Of| all.iter().find(|m| m.of == of && !m.absolute).unwrap().number.estimate;
    let attention = |row: usize| {
        let own = found.components.iter().zip(found.row(row));
        own.filter(|(c, _)| c.is_attention() && c.block() == Some(1)).map(|(_, value)| value).sum()
    };
    close(one(Of::Attention(1)), mean(&attention));
    close(one(Of::SoFar(n_layers)), one(Of::Logit));
    close(one(Of::Stopped(n_layers)), one(Of::Logit));
    close(one(Of::SoFar(1)), mean(&|row| found.so_far(row)[1]));
    close(one(Of::Stopped(1)), mean(&|row| found.stopped(row)[1]));
}

/// What a component says is what it brings to every token, less the mean: of every kind of component in five families.
#[test]
fn words_are_what_is_brought_to_them() {
    for family in ["gpt2", "gemma2", "bloom", "llama-bias", "granite"] {
        let model = load(family, Kind::Double);
        let vocab = model.spec().vocab;
        let tokens: Vec<i64> = (0..vocab as i64).collect();
        let mean = Targets::mean(model.unembed(), vocab).unwrap().repeated(vocab).unwrap();
        let targets = Targets::tokens(model.unembed(), &tokens).unwrap().less(&mean).unwrap();
        for neurons in [false, true] {
            let found = attribute(&model, &ids(), &vec![5; vocab], &targets, neurons).unwrap();
            let wanted: Vec<Component> =
                found.components.iter().step_by(if neurons { 7 } else { 1 }).copied().collect();
            let says = words(&model, (&ids(), 5), &wanted, (vocab, 3)).unwrap();
            for (component, says) in wanted.iter().zip(says) {
                let mut all: Vec<f64> =
                    (0..vocab).map(|token| found.of(token, *component).unwrap()).collect();
                for (token, value) in says.raised.iter().chain(&says.lowered) {
                    let own = all[*token as usize];
                    assert!((own - value).abs() < 1e-9, "{family} {component:?}: {own} {value}");
                }
                all.sort_by(|a, b| b.total_cmp(a));
                let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{family} {component:?}: {a} {b}");
                says.raised.iter().zip(&all).for_each(|(word, value)| close(word.1, *value));
                says.lowered.iter().zip(all.iter().rev()).for_each(|(word, value)| close(word.1, *value));
                assert_eq!((says.raised.len(), says.lowered.len()), (3, 3));
            }
        }
    }
    let model = load("llama", Kind::Double);
    let none = words(&model, (&ids(), 5), &[Component::NormBias], (61, 3)).unwrap_err();
    assert_eq!(none.to_string(), "this model has no norm_bias");
}
