//! With a cache and without one a model says the same; an edit of the prompt stays and is made once.

use std::ops::ControlFlow;

use layerscope::{
    hook::{BlockHook, Capture, Edit, HookPoint, Selection, StopAfter, Tap},
    intervene::edits::{Change, EditPositions, EditSpec, Edits, PlacedEdit},
    intervene::generate::{
        GenerateError, Generated, Prompt, Sampling, Settings, TapSteps, generate, measure,
    },
    model::{Cache, Model, hook_points},
};
use tch::{Device, Kind, Tensor};

use super::{assert_same, decoders, everything, ids, relative, rms, tolerance, trained};

const NEW: usize = 4;

fn prompts(model: &Model, batch: usize, seq: usize) -> Vec<Prompt> {
    let flat = Vec::<i64>::try_from(ids(model, batch, seq).view(-1)).unwrap();
    let rows = flat.chunks(seq).map(|row| row.iter().map(|id| *id as u32).collect());
    rows.enumerate().map(|(index, ids)| Prompt { index, ids }).collect()
}

fn run(model: &Model, prompts: &[Prompt], settings: &Settings, tap: &mut dyn Tap) -> Vec<Generated> {
    generate(model, prompts, settings, tap, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn greedy(cache: bool, tap_steps: TapSteps) -> Settings {
    Settings { cache, tap_steps, keep_logits: true, ..Settings::greedy(NEW) }
}

/// The same tokens, from logits that differ by rounding.
fn assert_agree(what: &str, a: &[Generated], b: &[Generated], tolerance: f64) {
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.tokens, b.tokens, "{what}");
        let error = relative(a.logits.as_ref().unwrap(), b.logits.as_ref().unwrap());
        assert!(error < tolerance, "{what}: {error:e}");
    }
}

#[test]
fn a_cache_changes_no_token() {
    for (name, model) in decoders().into_iter().chain(trained()) {
        let prompts = prompts(&model, 2, 5);
        let [with, without] =
            [true, false].map(|c| run(&model, &prompts, &greedy(c, TapSteps::Prompt), &mut ()));
        assert!(with.iter().all(|g| g.tokens.len() == NEW && !g.ended), "{name}");
        assert_agree(&name, &with, &without, tolerance(&model));
        // Sampled too; and a row alone draws as it does in a batch.
        let sampling = Sampling { temperature: 1.3, top_k: Some(20), top_p: Some(0.95), seed: 4 };
        let drawn = |cache, prompts: &[Prompt]| {
            let settings = Settings { sampling, ..greedy(cache, TapSteps::Prompt) };
            run(&model, prompts, &settings, &mut ()).into_iter().map(|g| g.tokens).collect::<Vec<_>>()
        };
        let both = drawn(true, &prompts);
        assert_eq!(both, drawn(false, &prompts), "{name}");
        assert_eq!(both[1..], drawn(true, &prompts[1..]), "{name}");
    }
}

#[test]
fn a_sequence_in_pieces_is_the_sequence() {
    for (name, model) in decoders() {
        let ids = ids(&model, 2, 13);
        if !model.spec().rotates_alike(4, 13) {
            // Keys of the shorter text are of no use in the longer one.
            let mut cache = Cache::new();
            model.forward_cached(&ids.narrow(1, 0, 4), &mut cache, &mut ()).unwrap();
            let refused = model.forward_cached(&ids.narrow(1, 4, 9), &mut cache, &mut ()).unwrap_err();
            assert!(
                refused.to_string().contains("a cache of 4 tokens cannot grow to 13"),
                "{name}: {refused}"
            );
            continue;
        }
        let whole = everything(&model, &ids, &mut ());
        let all: Selection = hook_points(model.spec()).into_iter().collect();
        let mut cache = Cache::new();
        for (start, len) in [(0, 4), (4, 1), (5, 6), (11, 2)] {
            let mut capture = Capture::new(all.clone()).run_on();
            model.forward_cached(&ids.narrow(1, start, len), &mut cache, &mut capture).unwrap();
            assert_eq!(cache.positions(), (start + len) as usize);
            let expected = whole.iter().map(|(point, value)| {
                let square = matches!(point, HookPoint::Block(_, BlockHook::AttnScores | BlockHook::Pattern));
                let dim = if square { 2 } else { 1 };
                let part = value.narrow(dim, start, len);
                (*point, if square { part.narrow(3, 0, start + len) } else { part })
            });
            assert_same(
                &format!("{name} from {start}"),
                &capture.into_inner(),
                &expected.collect(),
                tolerance(&model),
            );
        }
        // Nobody watches: the fused attention. A pass that was ended or forgotten leaves nothing.
        let mut cache = Cache::new();
        model.forward_cached(&ids.narrow(1, 0, 7), &mut cache, &mut ()).unwrap();
        let stop = HookPoint::Block(0, BlockHook::ResidPost);
        model.forward_cached(&ids.narrow(1, 2, 5), &mut cache, &mut StopAfter(stop)).unwrap();
        cache.truncate(5);
        let rest = model.forward_cached(&ids.narrow(1, 5, 8), &mut cache, &mut ()).unwrap().unwrap();
        let error = relative(&rest, &whole[&HookPoint::Logits].narrow(1, 5, 8));
        assert!(error < tolerance(&model), "{name}: {error:e}");
    }
}

#[test]
fn a_cache_knows_its_limits() {
    let (_, model) = decoders().into_iter().find(|(name, _)| name == "bloom").unwrap();
    let ids = ids(&model, 2, 40);
    let mut cache = Cache::new();
    model.forward_cached(&ids, &mut cache, &mut ()).unwrap();
    let mut says = |ids: &Tensor| model.forward_cached(ids, &mut cache, &mut ()).unwrap_err().to_string();
    assert_eq!(says(&ids.narrow(0, 0, 1)), "1 rows cannot follow the 2 rows of the cache");
    let n_ctx = model.spec().n_ctx as i64;
    let long = ids.repeat([1, 60]).narrow(1, 0, n_ctx - 39);
    assert!(says(&long).contains(&format!("{} after 40 tokens do not fit a context of", n_ctx - 39)));
}

#[test]
fn an_edited_prompt_stays_edited() {
    for (name, model) in decoders() {
        let prompts = prompts(&model, 2, 5);
        let plain = run(&model, &prompts, &greedy(true, TapSteps::Prompt), &mut ());
        let of_one_block = |p: &HookPoint| !matches!(p, HookPoint::Block(i, _) if *i > 0);
        for point in hook_points(model.spec()).into_iter().filter(of_one_block) {
            let both =
                matches!(point, HookPoint::Block(_, BlockHook::ResidPre | BlockHook::Pattern | BlockHook::Z));
            for steps in if both { vec![TapSteps::Prompt, TapSteps::All] } else { vec![TapSteps::Prompt] } {
                let said = |cache| {
                    let mut passes = 0;
                    let mut edit = Edit::at(point, |value: Tensor| {
                        passes += 1;
                        // Not by one factor, which a norm of queries takes out again.
                        let steps = Tensor::arange(*value.size().last().unwrap(), (Kind::Int64, Device::Cpu));
                        let factors: Tensor = ((steps + 1) * 0.7).sin().abs() * 3.0 + 1.0;
                        value * factors.to_kind(Kind::Float)
                    });
                    let said = run(&model, &prompts, &greedy(cache, steps), &mut edit);
                    (said, passes)
                };
                let ((with, passes), (without, _)) = (said(true), said(false));
                assert_agree(&format!("{name} {point} {steps:?}"), &with, &without, tolerance(&model));
                assert_eq!(passes, if steps == TapSteps::All { NEW } else { 1 }, "{name} {point}");
                // At the logits an edit of the prompt reaches the first token only.
                let moved = relative(with[0].logits.as_ref().unwrap(), plain[0].logits.as_ref().unwrap());
                assert!(moved > tolerance(&model), "{name} {point}: {moved:e}");
            }
        }
    }
}

fn placed(spec: &str, model: &Model) -> PlacedEdit {
    spec.parse::<EditSpec>().unwrap().resolve(model.spec()).unwrap()
}

/// Every named edit at the first block's stream, heads and pattern.
#[test]
fn named_edits_in_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("v.safetensors");
    for (family, (name, model)) in decoders().into_iter().enumerate() {
        let (d, d_head) = (model.spec().d_model as i64, model.spec().d_head as i64);
        let wave = |n: i64| Tensor::arange(n, (Kind::Float, Device::Cpu)).sin();
        Tensor::write_safetensors(&[("d", wave(d)), ("head", wave(d_head))], &file).unwrap();
        let prompts = prompts(&model, 3, 5);
        let path = file.to_str().unwrap();
        let specs = [
            "blocks.1.hook_resid_pre@1,-1:zero".to_owned(),
            "blocks.1.hook_resid_pre@-2:mean".to_owned(),
            "blocks.1.hook_resid_pre@last:resample".to_owned(),
            "resid_pre@0..3:scale=0.5".to_owned(),
            "blocks.1.hook_resid_pre:clip=1.5".to_owned(),
            format!("blocks.1.hook_resid_pre@last:add={path}:d*-0.5"),
            format!("blocks.1.hook_resid_pre@2,6:replace={path}:d"),
            format!("resid_pre:project-out={path}:d"),
            format!("blocks.0.attn.hook_z#1@last:replace={path}:head"),
            "blocks.0.attn.hook_v:resample".to_owned(),
            "blocks.0.attn.hook_pattern#0@last:scale=0.5".to_owned(),
        ];
        // Half of the families in each way: every edit is seen in both.
        let steps = if family % 2 == 0 { TapSteps::All } else { TapSteps::Prompt };
        for spec in specs {
            if spec.contains("hook_z#1") && model.spec().n_heads < 2 {
                continue;
            }
            let edits = Edits::new(vec![placed(&spec, &model)], 1);
            let said = |cache| run(&model, &prompts, &greedy(cache, steps), &mut edits.tap());
            assert_agree(&format!("{name} {spec} {steps:?}"), &said(true), &said(false), tolerance(&model));
        }
    }
}

#[test]
fn an_edit_touches_what_it_covers() {
    let (_, model) = decoders().into_iter().find(|(name, _)| name == "llama").unwrap();
    let ids = ids(&model, 3, 6);
    let before = everything(&model, &ids, &mut ());
    let seen = |point: HookPoint, spec: &str| {
        let edits = Edits::new(vec![placed(spec, &model)], 0);
        let after = everything(&model, &ids, &mut edits.tap());
        (before[&point].copy(), after[&point].copy())
    };
    let stream = HookPoint::Block(1, BlockHook::ResidPre);
    let (old, new) = seen(stream, "blocks.1.hook_resid_pre@1,-1:zero");
    for position in 0..6 {
        let (old, new) = (old.select(1, position), new.select(1, position));
        let touched = position == 1 || position == 5;
        assert_eq!(new.equal(&old), !touched);
        assert_eq!(new.abs().max().double_value(&[]) == 0.0, touched);
    }
    let (old, new) = seen(stream, "blocks.1.hook_resid_pre@2:mean");
    let mean = old.mean_dim([0, 1].as_slice(), false, Kind::Float);
    assert!(relative(&new.select(1, 2), &mean.expand_as(&new.select(1, 2))) < 1e-6);
    assert!(new.select(1, 3).equal(&old.select(1, 3)));
    let (old, new) = seen(stream, "blocks.1.hook_resid_pre@2:resample");
    for row in 0..3 {
        let got = new.select(0, row).select(0, 2);
        let donor: Vec<i64> = (0..3).filter(|r| got.equal(&old.select(0, *r).select(0, 2))).collect();
        assert!(donor.len() == 1 && donor[0] != row, "row {row} got {donor:?}");
    }
    let heads = HookPoint::Block(0, BlockHook::Z);
    let (old, new) = seen(heads, "blocks.0.attn.hook_z#2@3:scale=2");
    let kept = (&new - &old).abs();
    assert!(
        (kept.select(1, 3).select(1, 2) - old.select(1, 3).select(1, 2).abs()).abs().max().double_value(&[])
            < 1e-6
    );
    let all = kept.sum(Kind::Float).double_value(&[]);
    assert!((all - kept.select(1, 3).select(1, 2).sum(Kind::Float).double_value(&[])).abs() < 1e-6);
    // A state onto itself changes nothing.
    let own = before[&stream].select(0, 0).select(0, 5);
    let edit = PlacedEdit {
        points: [stream].into_iter().collect(),
        heads: None,
        positions: EditPositions::List(vec![-1]),
        change: Change::Replace(own),
    };
    let edits = Edits::new(vec![edit], 0);
    let first = ids.narrow(0, 0, 1);
    let after = model.forward(&first, &mut edits.tap()).unwrap().unwrap();
    assert!(relative(&after, &before[&HookPoint::Logits].narrow(0, 0, 1)) < tolerance(&model));
}

#[test]
fn misfits_are_named() {
    let (_, model) = decoders().into_iter().find(|(name, _)| name == "falcon-7b").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("v.safetensors");
    let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
    let nan = ones(&[model.spec().d_model as i64]) * f64::NAN;
    Tensor::write_safetensors(&[("two", ones(&[2])), ("same", ones(&[2, 24])), ("nan", nan)], &file).unwrap();
    let d = model.spec().d_model;
    let path = file.to_str().unwrap();
    for (spec, says) in [
        ("resid_pree:zero".to_owned(), "did you mean `resid_pre`?".to_owned()),
        ("resid_mid:zero".to_owned(), "parallel residual".to_owned()),
        ("blocks.0.attn.hook_attn_scores:zero".to_owned(), "edit hook_pattern".to_owned()),
        ("pattern:mean".to_owned(), "zero, scale and resample only".to_owned()),
        ("resid_pre#1:zero".to_owned(), "blocks.0.hook_resid_pre has no heads".to_owned()),
        ("blocks.0.attn.hook_k#1:zero".to_owned(), "has no head 1, it has 1".to_owned()),
        ("resid_pre:add=/nonexistent.safetensors".to_owned(), "/nonexistent.safetensors".to_owned()),
        (format!("resid_pre:add={path}"), "name one as FILE:KEY; there are nan, same, two".to_owned()),
        (format!("resid_pre:add={path}:x"), "no tensor `x`; there are nan, same, two".to_owned()),
        (format!("resid_pre:add={path}:two"), format!("expected a vector of shape [{d}], got [2]")),
        (format!("resid_pre:replace={path}:nan"), "NaN or infinite".to_owned()),
        (format!("z:project-out={path}:two"), "expected directions".to_owned()),
    ] {
        let error = spec.parse::<EditSpec>().unwrap().resolve(model.spec()).unwrap_err().to_string();
        assert!(error.contains(&says) && error.contains(&spec), "{error}");
    }
    let edits = Edits::new(vec![placed("resid_pre:resample", &model)], 0);
    let error = model.forward(&ids(&model, 1, 4), &mut edits.tap()).unwrap_err().to_string();
    assert!(error.contains("a batch of one row"), "{error}");
}

#[test]
fn directions_that_depend_on_each_other_are_refused() {
    let (_, model) = decoders().into_iter().find(|(name, _)| name == "gpt2").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("v.safetensors");
    let d = model.spec().d_model as i64;
    let two = Tensor::ones([2, d], (Kind::Float, Device::Cpu));
    let zero = Tensor::zeros([d], (Kind::Float, Device::Cpu));
    Tensor::write_safetensors(&[("two", two), ("zero", zero)], &file).unwrap();
    for (key, says) in [("two", "the directions are not independent"), ("zero", "the direction is zero")] {
        let spec: EditSpec = format!("resid_pre:project-out={}:{key}", file.display()).parse().unwrap();
        let error = spec.resolve(model.spec()).unwrap_err().to_string();
        assert!(error.ends_with(says), "{error}");
    }
}

#[test]
fn generation_ends_where_it_should() {
    let (_, model) = decoders().into_iter().find(|(name, _)| name == "gpt2").unwrap();
    let prompts = prompts(&model, 2, 5);
    let free = run(&model, &prompts, &greedy(true, TapSteps::Prompt), &mut ());
    // The third token of the first row ends that row alone.
    let end = free[0].tokens[2];
    let first = |tokens: &[u32]| tokens.iter().position(|t| *t == end);
    let settings = Settings { stop: vec![end], ..greedy(true, TapSteps::Prompt) };
    let cut = run(&model, &prompts, &settings, &mut ());
    for (cut, free) in cut.iter().zip(&free) {
        let n = first(&free.tokens).map_or(NEW, |i| i + 1);
        assert_eq!(
            (cut.tokens.as_slice(), cut.ended),
            (&free.tokens[..n], n < NEW || free.tokens.ends_with(&[end]))
        );
    }
    let mut heard = Vec::new();
    let stopped = generate(&model, &prompts[..1], &greedy(true, TapSteps::Prompt), &mut (), &mut |said| {
        heard.push(said.token);
        if heard.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(stopped.unwrap()[0].tokens, free[0].tokens[..4]);
    assert_eq!(heard, free[0].tokens[..4]);
    let says = |prompts: &[Prompt], settings: &Settings, tap: &mut dyn Tap| -> GenerateError {
        generate(&model, prompts, settings, tap, &mut |_| ControlFlow::Continue(())).unwrap_err()
    };
    let n_ctx = model.spec().n_ctx;
    let error = says(&prompts, &Settings::greedy(n_ctx - 3), &mut ()).to_string();
    assert_eq!(
        error,
        format!("5 tokens and {} new ones do not fit the model's context of {n_ctx}", n_ctx - 3)
    );
    let uneven = [prompts[0].clone(), Prompt { index: 4, ids: vec![1] }];
    assert!(says(&uneven, &Settings::greedy(1), &mut ()).to_string().starts_with("prompt 4 has 1 tokens"));
    let mut stop = StopAfter(HookPoint::Embed);
    assert!(matches!(says(&prompts, &Settings::greedy(1), &mut stop), GenerateError::Ended));
    let mut nan = Edit::at(HookPoint::Logits, |v: Tensor| v * f64::NAN);
    assert!(matches!(
        says(&prompts, &Settings::greedy(1), &mut nan),
        GenerateError::NotFinite { prompt: 0, step: 0 }
    ));
}

#[test]
fn measured_against_the_model_left_alone() {
    let (_, model) = decoders().into_iter().find(|(name, _)| name == "llama").unwrap();
    let prompts = prompts(&model, 1, 5);
    let plain = run(&model, &prompts, &greedy(true, TapSteps::Prompt), &mut ()).remove(0);
    let m = measure(&model, &prompts[0], &plain).unwrap();
    // With a cache and without one, logits in f32 differ by `noise`. A log-probability moves by twice that at most, and
    // a KL of equals, which has no slope, by its square.
    let largest = plain.logits.as_ref().unwrap().abs().max().double_value(&[]);
    let noise = tolerance(&model) * (rms(plain.logits.as_ref().unwrap()) + largest);
    assert!(m.kl.len() == NEW && m.kl.iter().all(|kl| kl.abs() < noise * noise), "{:?}", m.kl);
    assert!(m.ce.iter().zip(&m.surprisal).all(|(a, b)| (a - b).abs() < 2.0 * noise));
    let edits = Edits::new(vec![placed("blocks.1.hook_resid_pre@0..4:zero", &model)], 0);
    let edited = run(&model, &prompts, &greedy(true, TapSteps::Prompt), &mut edits.tap()).remove(0);
    let m = measure(&model, &prompts[0], &edited).unwrap();
    // By hand, at the second new token.
    let ids: Vec<i64> = prompts[0].ids.iter().chain(&edited.tokens[..1]).map(|id| i64::from(*id)).collect();
    let alone = model.forward(&Tensor::from_slice(&ids).view([1, -1]), &mut ()).unwrap().unwrap();
    let log = |logits: &Tensor| logits.to_kind(Kind::Double).log_softmax(-1, Kind::Double);
    let p = log(&alone.select(0, 0).select(0, -1));
    let q = log(&edited.logits.as_ref().unwrap().select(0, 1));
    let kl = (p.exp() * (&p - &q)).sum(Kind::Double).double_value(&[]);
    // `p` is of a pass over two tokens less than `measure` makes. d KL / d z_p = p (log p/q - KL), so that its noise is
    // at most twice the largest log-ratio times that of the logits.
    let ratio = (&p - &q).abs().max().double_value(&[]);
    assert!(kl > 100.0 * noise && (m.kl[1] - kl).abs() < 2.0 * ratio * noise, "{kl} {} {noise:e}", m.kl[1]);
    let token = i64::from(edited.tokens[1]);
    assert!((m.surprisal[1] + p.double_value(&[token])).abs() < 2.0 * noise);
    assert!((m.ce[1] + q.double_value(&[token])).abs() < 1e-9); // the same logits, in f64
}
