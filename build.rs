//! Writes the place of libtorch into every binary (rpath), so that programs and tests run without environment
//! variables. Shared by the packages of this workspace that link libtorch.

fn main() {
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo::rustc-env=LAYERSCOPE_LIBTORCH_LIB={lib}");
    }
    // The binary without its symbols is a third of its size. Not by the profile: tests keep theirs for backtraces, and
    // dependencies are compiled once for both.
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    if env("CARGO_PKG_NAME") == "layerscope" && env("CARGO_CFG_TARGET_OS") == "linux" {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
    }
}
