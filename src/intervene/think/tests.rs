use std::{ops::ControlFlow, path::Path};

use layerscope_lenses::{LogitLens, Precision, Readout};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::{
    intervene::generate::{Prompt, Settings, generate},
    model::{Model, Weights},
    results::statistics::Intervals,
};

const TINY: [&str; 11] = [
    "gpt2",
    "llama",
    "gpt-neox",
    "gptj",
    "gemma2",
    "gemma3",
    "opt",
    "bloom",
    "qwen3",
    "mistral-sliding",
    "phi",
];
const STEPS: usize = 3;
const NEW: usize = 5;

fn model(name: &str) -> Model {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let dir = if name.contains("alice") { fixtures.join(name) } else { fixtures.join("families").join(name) };
    Model::load(&dir, Kind::Double, Device::Cpu, |_, _| ()).unwrap()
}

/// The prompt of `fixtures/think/make.py`, and another.
fn ids(rows: i64) -> Tensor {
    let row = |r: i64| (0..6).map(move |i| ((7 + 4 * r) * i + 3 + 11 * r) % 61);
    Tensor::from_slice(&(0..rows).flat_map(row).collect::<Vec<i64>>()).view([rows, 6])
}

fn largest(difference: &Tensor) -> f64 {
    difference.abs().max().double_value(&[])
}

fn tokens(model: &Model, ids: &Tensor, vectors: &Tensor, new: usize) -> Vec<Vec<u32>> {
    let said = answers(model, ids, vectors, &Settings::greedy(new)).unwrap();
    said.into_iter().map(|said| said.tokens).collect()
}

/// Thoughts, first prediction and answers of thirteen models and three ways against transformers' `inputs_embeds` with
/// `past_key_values`, in f64; with a cache and without.
#[test]
fn thoughts_are_those_of_transformers() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/think/golden.safetensors");
    let golden = Weights::open_file(&file, Kind::Double).unwrap();
    for name in ["gpt2-alice-8l", "llama-alice-6l"].into_iter().chain(TINY) {
        let model = model(name);
        let n_layers = model.spec().n_layers;
        for (way, layer, decay) in [("last", n_layers, 1.0), ("middle", 1, 1.0), ("decay", n_layers, 0.7)] {
            let take = |key: &str| golden.take_any(&format!("{name}.{way}.{key}"));
            let feedback = Feedback { decay, ..Feedback::new(STEPS, layer, n_layers) };
            let expected = take("thoughts").unwrap();
            for cache in [true, false] {
                let found = rollout(&model, &ids(2), &feedback, cache).unwrap();
                let got = found.thoughts.select(0, 0);
                let error = largest(&(&got - &expected)) / largest(&expected);
                assert!(error < 1e-9, "{name} {way}: {error:e}");
                if let Ok(logits) = take("logits") {
                    let got =
                        model.unembed().logits(&found.ends.select(0, 0).select(0, STEPS as i64)).unwrap();
                    assert!(largest(&(&got - &logits)) < 1e-9 * largest(&logits), "{name} {way}");
                }
                let settings = Settings { cache, ..Settings::greedy(NEW) };
                let said = answers(&model, &ids(2), &found.thoughts, &settings).unwrap();
                let want = Vec::<f64>::try_from(take("tokens").unwrap().to_kind(Kind::Double)).unwrap();
                let want: Vec<u32> = want.into_iter().map(|id| id as u32).collect();
                assert_eq!(said[0].tokens, want, "{name} {way} {cache}");
            }
        }
    }
}

/// No thoughts is plain generation; a token's own embedding in a thought's place is that token.
#[test]
fn tokens_are_thoughts_that_are_embeddings() {
    for name in TINY {
        let model = model(name);
        let vocab = model.spec().vocab;
        let prompts: Vec<Prompt> = (0..2)
            .map(|row| {
                let ids = Vec::<i64>::try_from(ids(2).select(0, row)).unwrap();
                Prompt { index: row as usize, ids: ids.into_iter().map(|id| id as u32).collect() }
            })
            .collect();
        let go_on = &mut |_| ControlFlow::Continue(());
        let plain = generate(&model, &prompts, &Settings::greedy(STEPS + NEW), &mut (), go_on).unwrap();
        let none = rollout(&model, &ids(2), &Feedback::new(0, 1, model.spec().n_layers), true).unwrap();
        assert_eq!(none.thoughts.size()[1], 0);
        let embeddings = Embeddings::of(&model, vocab).unwrap();
        let first: Vec<i64> =
            plain.iter().flat_map(|g| &g.tokens[..STEPS]).map(|id| i64::from(*id)).collect();
        let vectors = embeddings.lookup(&Tensor::from_slice(&first).view([2, -1])).unwrap();
        let straight = tokens(&model, &ids(2), &none.thoughts, STEPS + NEW);
        let after = tokens(&model, &ids(2), &vectors, NEW);
        for (row, plain) in plain.iter().enumerate() {
            assert_eq!(straight[row], plain.tokens, "{name}");
            assert_eq!(after[row], plain.tokens[STEPS..], "{name}");
        }
    }
}

/// No tokens after one row.
fn no_tokens() -> Tensor {
    Tensor::zeros([1, 0], (Kind::Int64, Device::Cpu))
}

fn thinkers(model: &Model, rollout: &Rollout, new: usize) -> Vec<Thinker> {
    let rows = rollout.thoughts.size()[0];
    let embeddings = Embeddings::of(model, model.spec().vocab).unwrap();
    let layer = model.spec().n_layers;
    let thoughts = read(model, &embeddings, (rollout, layer), &[], 1).unwrap();
    let said = tokens(model, &ids(rows), &rollout.thoughts, new);
    let plain = tokens(model, &ids(rows), &rollout.thoughts.narrow(1, 0, 0), STEPS);
    let one = |row: usize| Thinker {
        prompt: row,
        ids: Vec::<i64>::try_from(ids(rows).get(row as i64))
            .unwrap()
            .into_iter()
            .map(|id| id as u32)
            .collect(),
        here: thoughts[row].iter().map(|t| t.greedy.0).collect(),
        plain: plain[row].clone(),
        answer: said[row].clone(),
    };
    (0..rows as usize).map(one).collect()
}

/// Thoughts that are given are gone on from as if they had been thought.
#[test]
fn a_chain_goes_on_from_its_own_thoughts() {
    for name in ["gpt2", "llama", "gemma3"] {
        let model = model(name);
        let feedback = Feedback::new(STEPS, 1, model.spec().n_layers);
        let whole = rollout(&model, &ids(2), &feedback, true).unwrap();
        for given in 0..=STEPS as i64 {
            for cache in [true, false] {
                let start = whole.thoughts.narrow(1, 0, given);
                let again = rollout_from(&model, &ids(2), &start, &feedback, cache).unwrap();
                for (a, b) in [
                    (&again.thoughts, &whole.thoughts),
                    (&again.states, &whole.states),
                    (&again.ends, &whole.ends),
                ] {
                    assert_eq!(a.size(), b.size(), "{name} {given}");
                    assert!(largest(&(a - b)) < 1e-10 * largest(b), "{name} {given}");
                }
            }
        }
    }
}

/// What replaces a thought by itself changes nothing, to the bit; every number against a dense computation.
#[test]
fn effects_are_dense_divergences() {
    let model = model("llama");
    let vocab = model.spec().vocab;
    let found =
        rollout(&model, &ids(3), &Feedback::new(STEPS, model.spec().n_layers, model.spec().n_layers), true)
            .unwrap();
    let thinkers = thinkers(&model, &found, NEW);
    let embeddings = Embeddings::of(&model, vocab).unwrap();
    let readout = Readout::new(model.unembed(), vocab, Precision::Exact, 1).unwrap();
    let replacements = Replacements::new(found.thoughts.unbind(0), 4).unwrap();
    let cases = Case::of(&Replacement::ALL, STEPS);
    assert_eq!(cases.len(), 5 * (STEPS + 1) + 1 + 5 * (STEPS - 1));
    let all: Vec<&Thinker> = thinkers.iter().collect();
    let effects = {
        let feedback = Feedback::new(STEPS, model.spec().n_layers, model.spec().n_layers);
        let mut effects = Effects::new(
            &readout,
            &embeddings,
            (&replacements, feedback),
            cases.clone(),
            Settings::greedy(NEW),
            Intervals::bootstrap(0, 50),
        )
        .unwrap();
        let found = effects.add(&model, &all).unwrap();
        let rows = effects.finish(2);
        let kl = rows.iter().find(|r| r.subject == "zero" && r.metric == "kl").unwrap();
        let mean = found.iter().map(|row| row[0].kl).sum::<f64>() / 3.0;
        assert!((kl.estimate - mean).abs() < 1e-12 && kl.n_clusters == 3 && kl.n_eff == 3.0);
        found
    };
    for (row, thinker) in thinkers.iter().enumerate() {
        let log = |vectors: &Tensor| {
            let fed: Vec<i64> = thinker.answer[..NEW - 1].iter().map(|id| i64::from(*id)).collect();
            let fed = Tensor::from_slice(&fed).view([1, -1]);
            let ends = ends(&model, &ids(3).narrow(0, row as i64, 1), &vectors.unsqueeze(0), &fed).unwrap();
            model.unembed().logits(&ends.select(0, 0)).unwrap().log_softmax(-1, Kind::Double)
        };
        let own = found.thoughts.select(0, row as i64);
        let (p, same) = (log(&own), log(&own.slice_scatter(&own.narrow(0, 1, 1), 0, 1, 2, 1)));
        assert_eq!(largest(&(&p - &same)), 0.0);
        let zeroed = own.slice_scatter(&own.narrow(0, 1, 1).zeros_like(), 0, 1, 2, 1);
        let answer: Vec<i64> = thinker.answer.iter().map(|id| i64::from(*id)).collect();
        let answer = Tensor::from_slice(&answer).view([-1, 1]);
        let tokens: Vec<i64> = thinker.plain.iter().map(|id| i64::from(*id)).collect();
        let tokens = embeddings.lookup(&Tensor::from_slice(&tokens)).unwrap();
        // Zero at the second place, and what the model then thinks by itself.
        let two =
            own.slice_scatter(&own.narrow(0, 1, 1).zeros_like(), 0, 1, 2, 1).narrow(0, 0, 2).unsqueeze(0);
        let at = ends(&model, &ids(3).narrow(0, row as i64, 1), &two, &no_tokens()).unwrap().select(1, 0);
        let third = model.unembed().normalize(&at).unwrap();
        let anew = Tensor::cat(&[two.squeeze_dim(0), third], 0);
        let by_hand = [
            (Case::Anew(Replacement::Zero, 2), anew),
            (Case::All(Replacement::Zero), own.zeros_like()),
            (Case::One(Replacement::Zero, 2), zeroed),
            (Case::All(Replacement::Greedy), tokens),
            (Case::None, own.narrow(0, 0, 0)),
        ];
        for (case, vectors) in by_hand {
            let effect = effects[row].iter().find(|e| e.case == case).unwrap();
            let q = log(&vectors);
            let kl = (p.exp() * (&p - &q)).sum_dim_intlist([-1_i64].as_slice(), false, Kind::Double);
            let kl = Vec::<f64>::try_from(kl).unwrap();
            let more = (p.gather(1, &answer, false) - q.gather(1, &answer, false)).mean(Kind::Double);
            // The readout computes in f32.
            assert!((effect.kl - kl[0]).abs() < 1e-5, "{case:?} {} {}", effect.kl, kl[0]);
            assert!((effect.kl_answer - kl.iter().sum::<f64>() / NEW as f64).abs() < 1e-5, "{case:?}");
            assert!((effect.surprisal_increase - more.double_value(&[])).abs() < 1e-5, "{case:?}");
            let first = q.select(0, 0).argmax(-1, false).int64_value(&[]) == i64::from(thinker.answer[0]);
            assert_eq!(effect.agrees, first, "{case:?}");
            assert_eq!(effect.answer.is_some(), case.is_whole());
        }
    }
}

#[test]
fn replacements_are_what_they_say() {
    use Replacement as R;
    let row = |x: [f64; 4]| Tensor::from_slice(&x).view([2, 2]);
    let all = [row([3.0, 4.0, 0.0, 1.0]), row([1.0, 0.0, 2.0, 3.0])];
    let replacements = Replacements::new(all.iter().map(Tensor::copy).collect(), 9).unwrap();
    let greedy = row([9.0; 4]);
    let values = |case, prompt| {
        Vec::<f64>::try_from(replacements.of(case, prompt, &greedy).unwrap().view([-1])).unwrap()
    };
    assert_eq!(values(Case::All(R::Mean), 0), [2.0, 2.0, 1.0, 2.0]); // (3 + 1) / 2, (4 + 0) / 2 …
    assert_eq!(values(Case::All(R::Other), 0), [1.0, 0.0, 2.0, 3.0]);
    assert_eq!(values(Case::One(R::Other, 2), 1), [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(values(Case::One(R::Zero, 1), 0), [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(values(Case::One(R::Greedy, 2), 0), [3.0, 4.0, 9.0, 9.0]);
    assert!(values(Case::None, 0).is_empty());
    let random = values(Case::All(R::Random), 0);
    let length = |x: &[f64]| (x[0] * x[0] + x[1] * x[1]).sqrt();
    assert!((length(&random[..2]) - 5.0).abs() < 1e-12 && (length(&random[2..]) - 1.0).abs() < 1e-12);
    assert!(random[0] != 3.0 && random == values(Case::All(R::Random), 0));
    assert_eq!(Case::of(&R::ALL, 1).len(), 6); // one thought is all thoughts
    let alone = Replacements::new(vec![all[0].copy()], 9).unwrap();
    let says = |r: R| alone.of(Case::All(r), 0, &greedy).unwrap_err().to_string();
    for (r, name) in [(R::Mean, "`mean`"), (R::Other, "`other`")] {
        assert!(says(r).contains(name) && says(r).contains("at least two, there is 1"), "{}", says(r));
    }
}

/// Length, decay, percentile, cosines by hand.
#[test]
fn readings_by_hand() {
    let model = model("gpt2");
    let (last, vocab) = (model.spec().n_layers, model.spec().vocab);
    let embeddings = Embeddings::of(&model, vocab).unwrap();
    let mean = embeddings.mean_norm();
    let feedback =
        Feedback { rescale: Rescale::To(mean), decay: 0.5, norm: false, ..Feedback::new(2, last, last) };
    let found = rollout(&model, &ids(2), &feedback, true).unwrap();
    let lenses: Vec<Box<dyn layerscope_lenses::Lens>> = vec![Box::new(LogitLens)];
    let thoughts = read(&model, &embeddings, (&found, last), &lenses, 3).unwrap();
    for (row, thoughts) in thoughts.iter().enumerate() {
        assert!(
            (thoughts[0].norm - mean * 0.5).abs() < 1e-9 && (thoughts[1].norm - mean * 0.25).abs() < 1e-9
        );
        for t in thoughts {
            let thought = found.thoughts.get(row as i64).get(t.step as i64 - 1);
            let cosines = embeddings.vectors().matmul(&thought)
                / (thought.norm() * embeddings.vectors().norm_scalaropt_dim(2.0, [-1_i64].as_slice(), false));
            let (id, cosine) = t.nearest[0];
            assert_eq!(cosines.argmax(0, false).int64_value(&[]), i64::from(id));
            assert!((cosines.double_value(&[i64::from(id)]) - cosine).abs() < 1e-12);
            assert!((cosines.double_value(&[i64::from(t.greedy.0)]) - t.greedy.1).abs() < 1e-12);
            // The last layer through the logit lens is what the model says there.
            assert_eq!(t.lenses[0].read.top[0].0, t.greedy.0);
            let shorter = embeddings.vectors().norm_scalaropt_dim(2.0, [-1_i64].as_slice(), false).le(t.norm);
            let share = shorter.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
            assert!((t.percentile - share).abs() < 1e-12);
        }
        assert_eq!(thoughts[0].after.top[0].0, thoughts[1].greedy.0);
        assert!(thoughts[0].previous.is_none() && thoughts[1].previous.is_some());
    }
}

#[test]
fn what_cannot_be_thought_is_named() {
    let model = model("gpt2");
    let last = model.spec().n_layers;
    let says = |feedback: Feedback| rollout(&model, &ids(1), &feedback, true).unwrap_err().to_string();
    assert_eq!(
        says(Feedback::new(1, last + 1, last)),
        format!("no layer {}; this model's layers are 0 to {last}", last + 1)
    );
    let context = model.spec().n_ctx;
    assert!(
        says(Feedback::new(context, last, last))
            .contains(&format!("6 tokens, {context} thoughts and 1 new tokens do not fit"))
    );
    assert_eq!(says(Feedback { decay: 0.0, ..Feedback::new(1, last, last) }), "decay is 0, must be above 0");
    let no_room =
        |prompt, new| matches!(fits(prompt, 3, new, 10), Err(ThinkError::NoRoom { context: 10, .. }));
    assert!(no_room(0, 1) && no_room(5, 4));
    fits(5, 3, 3, 10).unwrap();
}
