//! Every hook point exists, fires once, in order, and can end the pass.

use layerscope::{
    hook::{BlockHook, Capture, HookPoint, Selection},
    model::{Model, hook_points, width},
};
use tch::{Kind, Tensor};

use super::{Every, everything, families, identical, ids, relative, silent, tolerance, trained};

fn shape(model: &Model, point: HookPoint, batch: i64, seq: i64) -> Vec<i64> {
    match width(model.spec(), point) {
        Some(width) => [batch, seq].into_iter().chain(width.iter().map(|&n| n as i64)).collect(),
        None => vec![batch, model.spec().n_heads as i64, seq, seq],
    }
}

#[test]
fn every_point_fires_once_in_order_with_its_shape() {
    for (name, model) in families().into_iter().chain(trained()) {
        let mut fired = Vec::new();
        let mut tap = Every::new(|point, value: Tensor| {
            assert_eq!(value.size(), shape(&model, point, 2, 7), "{name} {point}");
            fired.push(point);
            value
        });
        let _logits = model.forward(&ids(&model, 2, 7), &mut tap).unwrap().unwrap();
        assert_eq!(fired, hook_points(model.spec()), "{name}");
        assert!(fired.is_sorted(), "{name}");
    }
}

/// Where the decoder asks whether to go on.
fn ends(point: HookPoint) -> bool {
    use BlockHook::{AttnOut, ResidMid, ResidPost, ResidPre};
    match point {
        HookPoint::Block(_, hook) => [ResidPre, AttnOut, ResidMid, ResidPost].contains(&hook),
        other => [HookPoint::FinalNormalized, HookPoint::HeadNormalized].contains(&other),
    }
}

#[test]
fn stopping_ends_the_pass_and_changes_no_value() {
    for (name, model) in families() {
        let (ids, points) = (ids(&model, 2, 7), hook_points(model.spec()));
        let whole = everything(&model, &ids, &mut ());
        for (i, &stop) in points.iter().enumerate() {
            let mut fired = Vec::new();
            let mut tap = Every::new(|point, value| {
                fired.push(point);
                value
            });
            tap.stop = Some(stop);
            let logits = model.forward(&ids, &mut tap).unwrap();
            assert_eq!(logits.is_some(), stop == HookPoint::Logits, "{name} {stop}");
            // Inside attention and MLP the pass goes on to the next place where it can end.
            let last = (i..points.len()).find(|&j| ends(points[j])).unwrap_or(points.len() - 1);
            let last = if stop == HookPoint::Embed && points[1] == HookPoint::PosEmbed { 1 } else { last };
            assert!(fired.len() > i && fired.len() <= last + 1, "{name} {stop}: {}", fired.last().unwrap());
            assert_eq!(fired, points[..fired.len()], "{name} {stop}");

            let mut capture = Capture::new([stop].into_iter().collect::<Selection>());
            model.forward(&ids, &mut capture).unwrap();
            let error = relative(capture.get(stop).unwrap(), &whole[&stop]);
            assert!(error < tolerance(&model), "{name} {stop}: {error:e}");
        }
    }
}

#[test]
fn what_was_captured_belongs_to_the_one_who_captured_it() {
    for (name, model) in families() {
        let ids = ids(&model, 2, 7);
        let mut seen = Vec::new();
        let mut tap = Every::new(|point, value: Tensor| {
            let flat = value.to_kind(Kind::Double).flatten(0, -1);
            seen.push((point, Vec::<f64>::try_from(flat).unwrap()));
            value
        });
        let before = model.forward(&ids, &mut tap).unwrap().unwrap();
        let captured = everything(&model, &ids, &mut ());
        for (point, values) in seen {
            // Nothing later in the pass wrote into the copy.
            let kept = captured[&point].to_kind(Kind::Double).flatten(0, -1);
            assert_eq!(Vec::<f64>::try_from(kept).unwrap(), values, "{name} {point}");
        }
        for mut tensor in captured.into_values() {
            let _zeroed = tensor.zero_();
        }
        assert!(identical(&everything(&model, &ids, &mut ())[&HookPoint::Logits], &before), "{name}");
        assert!(relative(&silent(&model, &ids), &before) < tolerance(&model), "{name}");
    }
}
