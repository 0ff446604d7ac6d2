//! Blocks in another order.

use std::ops::ControlFlow;

use layerscope::{
    hook::{BlockHook, Capture, HookPoint, Selection},
    intervene::edits::{EditSpec, Edits},
    intervene::generate::{Prompt, Settings, generate},
    model::{Combine, Model, Schedule, Step, hook_points},
};
use tch::Tensor;

use super::{Every, decoders, identical, ids, relative, silent, tolerance, trained};

fn along(model: &Model, ids: &Tensor, steps: Vec<Step>) -> Tensor {
    let schedule = Schedule::new(steps, model.spec().n_layers).unwrap();
    model.forward_along(ids, &schedule, None, &mut ()).unwrap().unwrap()
}

fn blocks(list: impl IntoIterator<Item = usize>) -> Vec<Step> {
    list.into_iter().map(Step::Block).collect()
}

#[test]
fn the_models_own_order_is_the_model() {
    for (name, model) in decoders().into_iter().chain(trained()) {
        let (ids, n) = (ids(&model, 2, 11), model.spec().n_layers);
        let own = silent(&model, &ids);
        assert!(identical(&along(&model, &ids, blocks(0..n)), &own), "{name}");
        // One block beside nothing is that block.
        let alone = |combine| (0..n).map(|i| Step::Parallel(vec![i], combine)).collect();
        assert!(identical(&along(&model, &ids, alone(Combine::Mean)), &own), "{name}");
        assert!(relative(&along(&model, &ids, alone(Combine::Sum)), &own) < tolerance(&model), "{name}");
        // A block beside itself: the mean of equals is the one.
        let twice = (0..n).map(|i| Step::Parallel(vec![i, i], Combine::Mean)).collect();
        assert!(relative(&along(&model, &ids, twice), &own) < tolerance(&model), "{name}");
        assert!(!identical(&along(&model, &ids, blocks((0..n).rev())), &own), "{name}");
    }
}

#[test]
fn a_skipped_block_adds_nothing() {
    for (name, model) in decoders().into_iter().chain(trained()) {
        let (ids, n) = (ids(&model, 2, 11), model.spec().n_layers);
        for block in 0..n {
            let skipped = along(&model, &ids, blocks((0..n).filter(|i| *i != block)));
            let zero = format!("blocks.{block}.hook_*_out:zero").parse::<EditSpec>().unwrap();
            let edits = Edits::new(vec![zero.resolve(model.spec()).unwrap()], 0);
            let zeroed = model.forward(&ids, &mut edits.tap()).unwrap().unwrap();
            assert!(identical(&skipped, &zeroed), "{name} block {block}");
        }
    }
}

#[test]
fn side_by_side_blocks_read_one_stream() {
    for (name, model) in decoders() {
        let ids = ids(&model, 2, 7);
        let streams: Selection = [1, 0]
            .iter()
            .flat_map(|&i| {
                [HookPoint::Block(i, BlockHook::ResidPre), HookPoint::Block(i, BlockHook::ResidPost)]
            })
            .chain([HookPoint::Block(model.spec().n_layers, BlockHook::ResidPre)])
            .collect();
        for combine in [Combine::Mean, Combine::Sum] {
            let schedule =
                Schedule::new(vec![Step::Parallel(vec![1, 0], combine)], model.spec().n_layers).unwrap();
            let mut capture = Capture::new(streams.clone());
            assert!(model.forward_along(&ids, &schedule, None, &mut capture).unwrap().is_none());
            let at = |i, hook| capture.get(HookPoint::Block(i, hook)).unwrap();
            let input = at(0, BlockHook::ResidPre);
            assert!(identical(input, at(1, BlockHook::ResidPre)), "{name}");
            let [a, b] = [0, 1].map(|i| at(i, BlockHook::ResidPost));
            let expected = if combine == Combine::Mean { (a + b) / 2.0 } else { a + b - input };
            let end = at(model.spec().n_layers, BlockHook::ResidPre);
            assert!(relative(end, &expected) < tolerance(&model), "{name} {combine:?}");
        }
    }
}

#[test]
fn hooks_fire_with_the_blocks_own_numbers() {
    let (_, model) = decoders().into_iter().find(|(name, _)| name == "gpt2-scaled").unwrap();
    let schedule = Schedule::new(blocks([2, 0, 2]), 3).unwrap();
    let mut fired = Vec::new();
    let mut tap = Every::new(|point, value: Tensor| {
        fired.push(point);
        value
    });
    let _logits = model.forward_along(&ids(&model, 1, 4), &schedule, None, &mut tap).unwrap().unwrap();
    let points = hook_points(model.spec());
    let of = |block: usize| {
        points.iter().filter(move |p| matches!(p, HookPoint::Block(i, _) if *i == block)).copied()
    };
    let ends = |p: &&HookPoint| !matches!(p, HookPoint::Block(0..3, _));
    let (start, end): (Vec<_>, Vec<_>) =
        points.iter().filter(ends).partition(|p| **p < HookPoint::Block(0, BlockHook::ResidPre));
    let expected: Vec<HookPoint> = start
        .into_iter()
        .copied()
        .chain(of(2))
        .chain(of(0))
        .chain(of(2))
        .chain(end.into_iter().copied())
        .collect();
    assert_eq!(fired, expected);
}

#[test]
fn a_cache_follows_any_schedule() {
    for (name, model) in decoders() {
        let prompt: Vec<u32> = Vec::<i64>::try_from(ids(&model, 1, 5).view(-1))
            .unwrap()
            .into_iter()
            .map(|id| id as u32)
            .collect();
        let steps =
            vec![Step::Block(1), Step::Parallel(vec![0, 1], Combine::Mean), Step::Block(1), Step::Block(0)];
        let schedule = Schedule::new(steps, model.spec().n_layers).unwrap();
        let said = |cache| {
            let settings = Settings {
                cache,
                schedule: Some(schedule.clone()),
                keep_logits: true,
                ..Settings::greedy(8)
            };
            let prompts = [Prompt { index: 0, ids: prompt.clone() }];
            generate(&model, &prompts, &settings, &mut (), &mut |_| ControlFlow::Continue(()))
                .unwrap()
                .remove(0)
        };
        let (with, without) = (said(true), said(false));
        assert_eq!(with.tokens, without.tokens, "{name}");
        assert!(relative(&with.logits.unwrap(), &without.logits.unwrap()) < tolerance(&model), "{name}");
    }
}

#[test]
fn schedules_of_other_models_are_refused() {
    let (_, model) = decoders().remove(0);
    let n = model.spec().n_layers;
    let says = |steps, n| Schedule::new(steps, n).unwrap_err().to_string();
    assert_eq!(
        says(blocks([0, n]), n),
        format!("schedule: no block {n}; this model's blocks are 0 to {}", n - 1)
    );
    assert!(says(vec![Step::Parallel(vec![], Combine::Sum)], n).contains("without a block"));
    let other = Schedule::identity(n + 1);
    let error = model.forward_along(&ids(&model, 1, 3), &other, None, &mut ()).unwrap_err().to_string();
    assert_eq!(error, format!("a schedule for {} blocks; this model has {n}", n + 1));
}
