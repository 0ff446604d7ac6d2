//! At the last layer the logit lens is the model.

use layerscope::{
    hook::{BlockHook, HookPoint},
    lens::trajectory::trajectories,
    lenses::{LayerIndex, Lens, LogitLens},
};

use super::{decoders, everything, families, ids, relative, silent, tolerance, trained};

#[test]
fn the_unembedding_of_the_last_layer_is_the_model() {
    for (name, model) in families().into_iter().chain(trained()) {
        let ids = ids(&model, 2, 11);
        let pass = everything(&model, &ids, &mut ());
        let last = &pass[&HookPoint::Block(model.spec().n_layers, BlockHook::ResidPre)];
        let read = model.unembed().logits(last).unwrap();
        assert!(relative(&read, &silent(&model, &ids)) < tolerance(&model), "{name}");
        assert!(relative(&read, &pass[&HookPoint::Logits]) < tolerance(&model), "{name}");
    }
}

#[test]
fn the_logit_lens_at_the_last_layer_has_no_error() {
    for (name, model) in decoders().into_iter().chain(trained()) {
        let ids = Vec::<i64>::try_from(ids(&model, 1, 20).view(-1)).unwrap();
        let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
        let lenses: [Box<dyn Lens>; 1] = [Box::new(LogitLens)];
        let layers: Vec<_> = (0..=model.spec().n_layers).map(LayerIndex).collect();
        let read = trajectories(&model, &lenses, &ids, &layers, 3).unwrap();
        assert_eq!((read.len(), read[0].readings.len()), (1, layers.len()));
        let (last, earlier) = read[0].readings.split_last().unwrap();
        assert!(last.kl.iter().all(|kl| kl.abs() < 1e-12), "{name}: {:?}", last.kl);
        assert!(last.rank_of_final.iter().all(|rank| *rank == 0), "{name}");
        assert!(
            last.top_probs.iter().zip(&last.prob_of_final).all(|(top, own)| (top[0] - own).abs() < 1e-15),
            "{name}"
        );
        assert!(
            earlier.iter().flat_map(|r| &r.kl).all(|kl| *kl > 1e-9),
            "{name}: an early layer is the output"
        );
        assert!(
            last.ce.split_last().unwrap().1.iter().all(Option::is_some) && last.ce[19].is_none(),
            "{name}"
        );
    }
}
