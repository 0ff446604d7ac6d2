//! Writes the place of libtorch into the binary (rpath), so that it runs without environment variables.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo:rustc-env=LAYERSCOPE_LIBTORCH_LIB={lib}");
    }
}
