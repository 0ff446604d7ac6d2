use std::path::Path;

use super::*;
use crate::{
    intervene::future::{Prompt, transplant_at},
    model::Weights,
};

const HOOKS: [BlockHook; 3] = [BlockHook::ResidPre, BlockHook::AttnOut, BlockHook::MlpOut];
const FAMILIES: [&str; 5] = ["gpt2", "llama", "gpt-neox", "gemma2", "opt"];

fn model(family: &str) -> Model {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(family);
    Model::load(&dir, Kind::Double, Device::Cpu, |_, _| ()).unwrap()
}

fn experiment(model: &Model, direction: Direction) -> Experiment<'_> {
    let ids = |third: i64| Tensor::from_slice(&[3i64, 14, third, 9, 26, 5]).view([1, 6]);
    Experiment {
        model,
        vocab: model.spec().vocab,
        clean: ids(15),
        corrupted: ids(35),
        noise: None,
        direction,
        answer: None,
        foil: None,
        batch_tokens: 30, // five rows at once, so that batches are cut
    }
}

fn close(got: &[f64], want: &[f64], tolerance: f64, what: &str) {
    for (a, b) in got.iter().zip(want) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}: {got:?} {want:?}");
    }
}

/// Every layer, position and hook of five families against transformers with hooks (`fixtures/patch/make.py`), both
/// ways.
#[test]
fn heat_maps_are_those_of_transformers() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/patch/golden.safetensors");
    let golden = Weights::open_file(&file, Kind::Double).unwrap();
    for family in FAMILIES {
        let model = model(family);
        let n_layers = model.spec().n_layers;
        let numbers = |name: &str| {
            let tensor = golden.take_any(&format!("{family}.{name}")).unwrap();
            Vec::<f64>::try_from(tensor.contiguous().view([-1])).unwrap()
        };
        for (direction, name) in [(Direction::Denoise, "denoise"), (Direction::Noise, "noise")] {
            let experiment = experiment(&model, direction);
            let levels = experiment.levels(&HOOKS).unwrap();
            close(&[levels.clean, levels.corrupted].concat(), &numbers("levels"), 1e-8, family);
            for hook in HOOKS {
                let layers: Vec<usize> = (0..=n_layers).collect();
                let map = experiment.map(&levels, hook, &layers, 1, &Underway::unwatched()).unwrap();
                let got: Vec<f64> = map.layers.iter().flat_map(|(_, v)| v.concat()).collect();
                let want = numbers(&format!("{name}.{}", hook.short_name()));
                assert_eq!(got.len(), want.len(), "{family} {name} {hook:?}");
                close(&got, &want, 1e-8, &format!("{family} {name} {hook:?}"));
            }
        }
        // The primitive across layers, with and without a mapping.
        let run = experiment(&model, Direction::Noise);
        let levels = run.levels(&[BlockHook::ResidPre]).unwrap();
        let prompt = Prompt::Words(run.clean.view([-1]));
        let none = Tensor::zeros([1, 0], (Kind::Int64, Device::Cpu));
        let state = |layer| levels.donors[&HookPoint::Block(layer, BlockHook::ResidPre)].select(1, 5);
        let logits = |layer, state: &Tensor| {
            let out = transplant_at(&model, &prompt, &[1], layer, Some(state), &none).unwrap();
            Vec::<f64>::try_from(model.unembed().logits(&out).unwrap().view([-1])).unwrap()
        };
        let scope: Vec<f64> = (0..=n_layers).flat_map(|l| logits(l, &state(l))).collect();
        close(&scope, &numbers("scope"), 1e-8, family);
        let mapped: Vec<f64> = (0..n_layers).flat_map(|l| logits(l + 1, &(state(l) * 2.0))).collect();
        close(&mapped, &numbers("mapped"), 1e-8, family);
    }
}

/// All positions of the stream at any layer are the other run.
#[test]
fn a_whole_stream_is_the_other_run() {
    for family in FAMILIES {
        let model = model(family);
        for direction in [Direction::Denoise, Direction::Noise] {
            let experiment = experiment(&model, direction);
            let levels = experiment.levels(&HOOKS).unwrap();
            assert_eq!(levels.clean[2], 0.0);
            let want = if direction == Direction::Denoise { levels.clean } else { levels.corrupted };
            for layer in experiment.layers_of(BlockHook::ResidPre) {
                let point = HookPoint::Block(layer, BlockHook::ResidPre);
                let values = experiment.patch(&levels, &[point], &[(0..6).collect(), vec![]]).unwrap();
                close(&values[0], &want, 1e-10, family);
                let other = if direction == Direction::Denoise { levels.corrupted } else { levels.clean };
                close(&values[1], &other, 1e-10, "nothing patched");
            }
            // Before the difference nothing is different: positions 0 and 1 bring nothing back.
            let map = experiment.map(&levels, BlockHook::ResidPre, &[1], 1, &Underway::unwatched()).unwrap();
            let base = if direction == Direction::Denoise { levels.corrupted } else { levels.clean };
            close(&map.layers[0].1[..2].concat(), &[base, base].concat(), 1e-10, family);
        }
    }
}

/// A state into its own place changes nothing, at every hook.
#[test]
fn a_run_into_itself_changes_nothing() {
    let model = model("llama");
    let mut experiment = experiment(&model, Direction::Denoise);
    experiment.corrupted = experiment.clean.copy();
    let levels = experiment.levels(&HOOKS).unwrap();
    assert_ne!(levels.answer, levels.foil);
    for hook in HOOKS {
        let map = experiment.map(&levels, hook, &[0, 1], 3, &Underway::unwatched()).unwrap();
        for value in map.layers.iter().flat_map(|(_, v)| v) {
            close(value, &levels.clean, 1e-10, hook.short_name());
        }
    }
    assert_eq!(levels.effect(0, levels.clean[0]), None, "no difference, no effect");
}

#[test]
fn noise_is_on_the_subject_alone_and_undone_at_the_embeddings() {
    let model = model("gpt2");
    let mut experiment = experiment(&model, Direction::Denoise);
    let drawn = noise(&model, &experiment.clean, &[2, 3], 3.0, 4, 7).unwrap();
    assert_eq!(drawn.size(), [4, 6, model.spec().d_model as i64]);
    let by_place = drawn.abs().sum_dim_intlist([0i64, 2].as_slice(), false, Kind::Double);
    let touched: Vec<f64> = Vec::try_from(by_place).unwrap();
    assert!(touched.iter().enumerate().all(|(p, x)| (*x > 0.0) == (p == 2 || p == 3)), "{touched:?}");
    let outside = noise(&model, &experiment.clean, &[6], 3.0, 1, 7).unwrap_err().to_string();
    assert_eq!(outside, "no position 6; there are 0 to 5");
    experiment.corrupted = experiment.clean.copy();
    experiment.noise = Some(drawn);
    let levels = experiment.levels(&[BlockHook::ResidPre]).unwrap();
    assert!(levels.corrupted[2] > 1e-3, "{levels:?}");
    let point = HookPoint::Block(0, BlockHook::ResidPre);
    let values = experiment.patch(&levels, &[point], &[vec![2, 3], vec![2], vec![4]]).unwrap();
    close(&values[0], &levels.clean, 1e-10, "the subject restored");
    let [both, one, other] = [0, 1, 2].map(|i| levels.effect(2, values[i][2]).unwrap());
    assert!((both - 1.0).abs() < 1e-9 && one < 0.999 && other.abs() < 1e-9, "{both} {one} {other}");
}

#[test]
fn what_does_not_fit_is_named() {
    let model = model("gpt2");
    let mut experiment = experiment(&model, Direction::Denoise);
    experiment.answer = Some(1_000_000);
    assert!(experiment.levels(&HOOKS).unwrap_err().to_string().contains("no token 1000000"));
    experiment.answer = None;
    experiment.corrupted = Tensor::from_slice(&[1i64, 2]).view([1, 2]);
    let message = experiment.levels(&HOOKS).unwrap_err().to_string();
    assert!(message.contains("6 tokens") && message.contains("2;"), "{message}");
}
