//! A lens saved by the tuned-lens package (fixtures/lenses) reads here what it reads there.

use layerscope::{
    hook::{BlockHook, Capture, HookPoint},
    lens::artifact::{LensFolder, LensKind, check, load, unembed_sha256},
    lenses::LayerIndex,
    model::{Model, Weights},
};
use tch::{Device, Kind};

use super::properties::fixture;

#[test]
fn a_lens_of_the_package_gives_the_same_logits() {
    let folder = fixture("lenses/package-gpt2-alice");
    let model = Model::load(&fixture("gpt2-alice-8l"), Kind::Float, Device::Cpu, |_, _| ()).unwrap();
    let expected = Weights::open_file(&folder.join("expected.safetensors"), Kind::Float).unwrap();
    let (n, d) = (model.spec().n_layers, model.spec().d_model);

    let config = LensFolder::read(&folder).unwrap().config;
    assert_eq!((config.kind, &config.unembed_sha256), (LensKind::Tuned, &None));
    let note = check(&config, &unembed_sha256(model.unembed()).unwrap(), d, n).unwrap();
    assert!(note.unwrap().contains("no hash"));

    let lens = &load(&folder, "package", Device::Cpu).unwrap()[0];
    let point = |i| HookPoint::Block(i, BlockHook::ResidPre);
    let mut capture = Capture::new((0..n).map(point).collect());
    let ids = expected.take_any("ids").unwrap();
    model.forward(&ids.unsqueeze(0), &mut capture).unwrap();
    let mut spread: f64 = 0.0;
    for i in 0..n {
        let state = capture.get(point(i)).unwrap().get(0);
        let logits = model.unembed().logits(&lens.transform(LayerIndex(i), &state).unwrap()).unwrap();
        let want = expected.take_any(&format!("layer.{i}")).unwrap();
        assert_eq!(logits.size(), want.size());
        let error = (&logits - &want).abs().max().double_value(&[]);
        println!("layer {i}: largest difference {error:.1e}");
        assert!(error < 1e-4, "layer {i}: {error:e}");
        let plain = model.unembed().logits(&state).unwrap();
        spread = spread.max((plain - want).abs().max().double_value(&[]));
    }
    assert!(spread > 1.0, "the translators of the fixture must matter, they move logits by {spread}");
}
