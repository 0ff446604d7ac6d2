//! What libtorch, once loaded, says of itself.

use layerscope_results::run::Compute;

#[cfg(target_os = "linux")]
#[test]
fn this_machine_is_told_the_same_twice() {
    let _loaded = tch::Tensor::from_slice(&[1.0]);
    let here = Compute::here(false);
    assert_eq!(here, Compute::here(false));
    assert_eq!(here.libtorch_build.as_ref().map(String::len), Some(16));
    let json = serde_json::to_string(&here).unwrap();
    assert_eq!(serde_json::from_str::<Compute>(&json).unwrap(), here);
}
