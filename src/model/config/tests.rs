//! What a config.json may hold, beside the comparisons with transformers.

use serde_json::{Value, json};

use super::{Config, RopeKeys, RopeKinds};
use crate::model::{RopeScaling, RopeSpec};

fn config(values: &Value) -> Config {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), values.to_string()).unwrap();
    Config::read(dir.path()).unwrap()
}

#[test]
fn keys_of_a_wrong_type_are_refused_by_name() {
    let of = |key: &str, value: Value| config(&json!({ "model_type": "gemma2", key: value }));
    let refused = |config: &Config| config.check_types(&["initializer_range"]).unwrap_err().to_string();
    let message = refused(&of("num_hidden_layers", json!("two")));
    assert!(message.contains("`num_hidden_layers`") && message.contains("a whole number"), "{message}");
    assert!(of("num_hidden_layers", json!(2)).check_types(&[]).is_ok());
    // A null is harmless where it is said to be, and nowhere else.
    assert!(of("initializer_range", Value::Null).check_types(&["initializer_range"]).is_ok());
    assert!(refused(&of("num_hidden_layers", Value::Null)).contains("`num_hidden_layers`"));
    assert!(refused(&of("initializer_range", json!("small"))).contains("`initializer_range`"));
}

#[test]
fn ten_thousand_layers_are_the_most() {
    let layers = |n: u64| config(&json!({ "model_type": "gpt2", "n_layer": n })).layers("n_layer");
    assert_eq!(layers(10_000).unwrap(), 10_000);
    for n in [10_001, 4_000_000] {
        let message = layers(n).unwrap_err().to_string();
        assert!(message.contains(&format!("`n_layer` is {n}, more than 10000")), "{message}");
    }
}

/// The rotation of heads of 8 under `parameters`.
fn rope(parameters: &Value, keys: RopeKeys) -> Result<RopeSpec, String> {
    let both = json!({ "model_type": "llama", "max_position_embeddings": 64, "rope_parameters": parameters });
    config(&both).rope(8, keys).map_err(|e| e.to_string())
}

fn of_kinds(kinds: RopeKinds) -> RopeKeys {
    RopeKeys { kinds, ..RopeKeys::USUAL }
}

#[test]
fn a_family_reads_the_kinds_of_rotation_that_it_takes() {
    let mrope = json!({ "rope_type": "mrope", "mrope_section": [1, 1, 2] });
    assert_eq!(rope(&mrope, of_kinds(RopeKinds::AllAndMrope)).unwrap().scaling, RopeScaling::None);
    assert!(rope(&mrope, RopeKeys::USUAL).unwrap_err().contains("mrope"));
    let long = |kind: &str| {
        json!({
            "rope_type": kind, "short_factor": [1.0, 1.0, 1.0, 1.0], "long_factor": [2.0, 2.0, 2.0, 2.0],
            "original_max_position_embeddings": 32, "factor": 2.0,
        })
    };
    let phi3 = of_kinds(RopeKinds::LongRope);
    for kind in ["su", "yarn", "longrope"] {
        assert!(matches!(rope(&long(kind), phi3).unwrap().scaling, RopeScaling::LongRope { .. }), "{kind}");
    }
    for kind in ["linear", "dynamic", "llama3"] {
        let message = rope(&long(kind), phi3).unwrap_err();
        assert!(message.contains(kind) && message.ends_with("supported: default, longrope"), "{message}");
    }
}

/// With base θ and context c a pair that turns n times is `8 ln(c / 2πn) / (2 ln θ)` of the way.
#[test]
fn ramps_of_yarn_are_kept_within_the_head() {
    let ramp = |theta: f64, context: u64, more: Value| {
        let mut parameters = json!({
            "rope_type": "yarn", "rope_theta": theta, "factor": 4.0, "original_max_position_embeddings": context,
        });
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        match rope(&parameters, RopeKeys::USUAL).unwrap().scaling {
            RopeScaling::Yarn { ramp, .. } => ramp,
            other => panic!("{other:?}"),
        }
    };
    // 8 ln(4096 / 64π) / (2 ln 10,000) = 1.31 and 8 ln(4096 / 2π) / (2 ln 10,000) = 2.81.
    assert_eq!(ramp(10_000.0, 4096, json!({})), [1.0, 3.0]);
    // Zero turns are none at all, as in transformers.
    assert_eq!(ramp(10_000.0, 4096, json!({ "beta_fast": 0, "beta_slow": 0.0 })), [1.0, 3.0]);
    // 26.8 and 32.8 are beyond the 8 dimensions.
    assert_eq!(ramp(10.0, 1_000_000_000, json!({})), [26.0, 7.0]);
    // 7.49 and 13.5 are the same once they are within the head: a step instead of a ramp.
    assert_eq!(ramp(10.0, 15_000, json!({})), [7.0, 7.001]);
}

#[test]
fn what_a_rotation_cannot_be_is_refused() {
    for theta in [json!(0), json!(0.0), json!(-10_000.0), json!("large")] {
        let message = rope(&json!({ "rope_theta": theta }), RopeKeys::USUAL).unwrap_err();
        assert!(message.contains("rope_theta") && message.contains("a positive number"), "{message}");
    }
    // A family that rotates whole heads, and scaled frequencies of half a head: in the object, or at the top.
    let linear = |more: Value| {
        let mut parameters = json!({ "rope_type": "linear", "factor": 2.0 });
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parameters
    };
    let message = rope(&linear(json!({ "partial_rotary_factor": 0.5 })), RopeKeys::USUAL).unwrap_err();
    assert!(message.contains("`partial_rotary_factor` = 0.5: this family rotates whole heads"), "{message}");
    assert!(rope(&linear(json!({ "partial_rotary_factor": 1.0 })), RopeKeys::USUAL).is_ok());
    assert!(rope(&linear(json!({})), RopeKeys::USUAL).is_ok());
    let top = json!({
        "model_type": "llama", "max_position_embeddings": 64, "partial_rotary_factor": 0.5,
        "rope_parameters": linear(json!({})),
    });
    let message = config(&top).rope(8, RopeKeys::USUAL).unwrap_err().to_string();
    assert!(message.contains("this family rotates whole heads"), "{message}");
    // In an object per layer type transformers looks for `truncate` in another place.
    let yarn = json!({ "rope_type": "yarn", "factor": 4.0, "truncate": false });
    let by_type = json!({ "full_attention": yarn, "sliding_attention": { "rope_type": "default" } });
    let both =
        json!({ "model_type": "gemma3_text", "max_position_embeddings": 64, "rope_parameters": by_type });
    let message = config(&both).ropes_by_type(8, [RopeKeys::USUAL; 2]).unwrap_err().to_string();
    assert!(message.contains("rope_parameters.full_attention.truncate = false"), "{message}");
    assert!(rope(&yarn, RopeKeys::USUAL).is_ok());
}
