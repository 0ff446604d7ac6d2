//! Every family against transformers, at every layer and hook of the committed references.

use std::path::{Path, PathBuf};

use layerscope::{
    model::Model,
    verify::{Difference, verify},
};
use tch::{Device, Kind};

fn families() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<_> = families().read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    cases.retain(|path| path.join("config.json").is_file());
    cases.sort();
    cases
}

fn worst(differences: &[Difference]) -> &Difference {
    differences.iter().max_by(|a, b| a.relative().total_cmp(&b.relative())).unwrap()
}

/// f32 rounding stays below 1e-6 of the scale (see fixtures/families/README.md); mixing up two GELUs is 1e-4.
const TOLERANCE: f64 = 1e-5;

#[test]
fn every_family_in_f32() {
    let mut failed = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let model = Model::load(&case, Kind::Float, Device::Cpu, |_, _| ()).unwrap();
        let differences = verify(&model, &case.join("reference.safetensors")).unwrap();
        let worst = worst(&differences);
        println!(
            "{name:24} {:3} hooks  worst {:.1e} at {}",
            differences.len(),
            worst.relative(),
            worst.point
        );
        failed.extend(
            differences
                .iter()
                .filter(|d| !d.passes(TOLERANCE))
                .map(|d| format!("{name} {} {:.2e}", d.point, d.relative())),
        );
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(cases().len(), 33);
}

#[test]
fn one_of_each_family_in_f64() {
    let mut seen = 0;
    for case in cases().into_iter().filter(|c| c.join("reference_f64.safetensors").is_file()) {
        let model = Model::load(&case, Kind::Double, Device::Cpu, |_, _| ()).unwrap();
        let differences = verify(&model, &case.join("reference_f64.safetensors")).unwrap();
        let worst = worst(&differences);
        println!(
            "{:24} worst {:.1e} at {}",
            case.file_name().unwrap().display(),
            worst.relative(),
            worst.point
        );
        // All but BLOOM, whose GELU is written with an 8-digit constant (4e-10), agree to 1e-14.
        assert!(worst.passes(1e-9), "{} {} {:e}", case.display(), worst.point, worst.relative());
        seen += 1;
    }
    assert_eq!(seen, 17);
}
