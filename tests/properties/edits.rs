//! What a tap returns is what the rest of the network uses: no more, no less.

use layerscope::{
    hook::{BlockHook, Edit, HookPoint},
    model::hook_points,
};
use tch::{Kind, Tensor};

use super::{Every, decoders, everything, families, identical, ids, relative, rms, silent, tolerance};

/// Deterministic noise like `value`.
fn noise(value: &Tensor) -> Tensor {
    let waves = Tensor::arange(value.numel() as i64, (value.kind(), value.device())) * 1.7;
    waves.sin().view(value.size().as_slice())
}

#[test]
fn an_identity_edit_changes_nothing() {
    for (name, model) in families() {
        let ids = ids(&model, 2, 11);
        let logits = silent(&model, &ids);
        for point in hook_points(model.spec()) {
            let mut edit = Edit::at(point, |value: Tensor| value);
            let error = relative(&model.forward(&ids, &mut edit).unwrap().unwrap(), &logits);
            assert!(error < tolerance(&model), "{name} {point}: {error:e}");
        }
        let mut all = Every::new(|_, value| value);
        let error = relative(&model.forward(&ids, &mut all).unwrap().unwrap(), &logits);
        assert!(error < tolerance(&model), "{name}: {error:e}");
    }
}

#[test]
fn an_edit_at_any_point_reaches_the_logits() {
    for (name, model) in families() {
        let ids = ids(&model, 2, 11);
        let logits = silent(&model, &ids);
        for point in hook_points(model.spec()) {
            let mut edit = Edit::at(point, |value: Tensor| &value * 1.5 + noise(&value) * rms(&value));
            let error = relative(&model.forward(&ids, &mut edit).unwrap().unwrap(), &logits);
            assert!(error > 1e-4, "{name}: nobody sees an edit at {point} ({error:e})");
        }
    }
}

#[test]
fn an_edit_reaches_later_layers_and_positions_only() {
    const AT: i64 = 5;
    for (name, model) in decoders() {
        let ids = ids(&model, 1, 11);
        let before = everything(&model, &ids, &mut ());
        let n_layers = model.spec().n_layers;
        for layer in 0..=n_layers {
            let point = HookPoint::Block(layer, BlockHook::ResidPre);
            let mut edit = Edit::at(point, |value: Tensor| {
                let edited = value.copy();
                let mut place = edited.narrow(1, AT, 1);
                place += noise(&place) * rms(&place);
                edited
            });
            let after = everything(&model, &ids, &mut edit);
            for (p, old) in &before {
                let new = &after[p];
                let what = format!("{name}, edit at layer {layer}: {p}");
                if p.is_before(point) {
                    assert!(identical(new, old), "{what}");
                    continue;
                }
                let square = matches!(p, HookPoint::Block(_, BlockHook::AttnScores | BlockHook::Pattern));
                let dim = if square { 2 } else { 1 };
                let early = relative(&new.narrow(dim, 0, AT), &old.narrow(dim, 0, AT));
                assert!(early < tolerance(&model), "{what}, before position {AT}: {early:e}");
                if matches!(p, HookPoint::Block(_, BlockHook::ResidPre)) || *p == HookPoint::Logits {
                    let own = relative(&new.narrow(1, AT, 1), &old.narrow(1, AT, 1));
                    assert!(own > 1e-3, "{what}, position {AT}: {own:e}");
                }
            }
            // Attention carries the edit on, unless no block is left.
            let late = |pass: &super::Pass| pass[&HookPoint::Logits].narrow(1, AT + 1, 2);
            let moved = relative(&late(&after), &late(&before));
            assert_eq!(
                moved > tolerance(&model),
                layer < n_layers,
                "{name}, edit at layer {layer}: {moved:e}"
            );
        }
    }
}

#[test]
fn an_edit_must_keep_shape_and_type() {
    for (name, model) in families() {
        let ids = ids(&model, 2, 6);
        for point in hook_points(model.spec()) {
            let edits: [fn(Tensor) -> Tensor; 3] =
                [|v| v.unsqueeze(0), |v| v.narrow(1, 0, 1), |v| v.to_kind(Kind::Int64)];
            for (i, change) in edits.into_iter().enumerate() {
                let outcome = model.forward(&ids, &mut Edit::at(point, change));
                let message = outcome.expect_err(&format!("{name} {point} {i}")).to_string();
                assert!(message.contains(&point.to_string()), "{name} {point} {i}: {message}");
            }
        }
    }
}
