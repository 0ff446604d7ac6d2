//! A token's activations depend on the tokens before it and on nothing else.

use layerscope::{hook::HookPoint, model::Model};
use tch::Tensor;

use super::{Pass, assert_same, decoders, everything, families, ids, relative, silent, tolerance, trained};

fn cut(pass: Pass, by: impl Fn(HookPoint, &Tensor) -> Tensor) -> Pass {
    pass.into_iter().map(|(point, value)| (point, by(point, &value))).collect()
}

fn batch_does_not_matter(name: &str, model: &Model, batch: i64, seq: i64) {
    let ids = ids(model, batch as usize, seq as usize);
    let (together, logits) = (everything(model, &ids, &mut ()), silent(model, &ids));
    for row in [0, batch - 1] {
        let alone_ids = ids.narrow(0, row, 1);
        let of_row = together.iter().map(|(p, t)| (*p, t.narrow(0, row, 1))).collect();
        assert_same(name, &everything(model, &alone_ids, &mut ()), &of_row, tolerance(model));
        // The same without a watcher, which takes the fused attention.
        let error = relative(&silent(model, &alone_ids), &logits.narrow(0, row, 1));
        assert!(error < tolerance(model), "{name} row {row}: {error:e}");
    }
}

#[test]
fn a_window_alone_is_the_window_in_a_batch() {
    for (name, model) in &families() {
        batch_does_not_matter(name, model, 5, 11);
    }
    for (name, model) in &trained() {
        batch_does_not_matter(name, model, 3, 40);
    }
}

fn later_tokens_do_not_matter(name: &str, model: &Model, seq: i64) {
    let ids = ids(model, 2, seq as usize);
    let (whole, logits) = (everything(model, &ids, &mut ()), silent(model, &ids));
    // But for texts that are rotated by their length.
    let alike = |k: &i64| model.spec().rotates_alike(*k as usize, seq as usize);
    for k in [1, seq / 2, seq - 1].into_iter().filter(alike) {
        let start = cut(everything(model, &ids, &mut ()), |point, t| {
            let is_square = t.dim() == 4 && whole[&point].size()[2..] == [seq, seq];
            if is_square { t.narrow(2, 0, k).narrow(3, 0, k) } else { t.narrow(1, 0, k) }
        });
        let ids = ids.narrow(1, 0, k);
        assert_same(
            &format!("{name}, first {k}"),
            &everything(model, &ids, &mut ()),
            &start,
            tolerance(model),
        );
        let error = relative(&silent(model, &ids), &logits.narrow(1, 0, k));
        assert!(error < tolerance(model), "{name}, first {k}: {error:e}");
    }
}

#[test]
fn a_cut_window_has_the_same_start() {
    for (name, model) in &decoders() {
        later_tokens_do_not_matter(name, model, 13);
    }
    for (name, model) in &trained() {
        later_tokens_do_not_matter(name, model, 41);
    }
}

#[test]
fn threads_do_not_matter() {
    for (name, model) in &families().into_iter().chain(trained()).collect::<Vec<_>>() {
        let ids = ids(model, 2, model.spec().n_ctx.min(50));
        let before = tch::get_num_threads();
        let run = |threads| {
            tch::set_num_threads(threads);
            (everything(model, &ids, &mut ()), silent(model, &ids))
        };
        let ((one, logits), (two, logits_two)) = (run(1), run(2));
        tch::set_num_threads(before);
        assert_same(name, &one, &two, tolerance(model));
        assert!(relative(&logits, &logits_two) < tolerance(model), "{name}");
    }
}
