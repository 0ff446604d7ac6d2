//! Brings the CUDA half of libtorch in at run time, so that one binary serves machines with and without a
//! GPU.

#[cfg(target_os = "linux")]
use std::path::PathBuf;
use std::sync::OnceLock;

#[cfg(target_os = "linux")]
const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// Opens the CUDA half of libtorch, which registers its kernels with the CPU half that this binary is linked
/// to. Must come before anything asks libtorch for CUDA, because libtorch remembers its first answer. Later
/// calls repeat the first's.
///
/// # Errors
/// In words: there is none, or it could not be opened and why.
pub fn load_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(open_cuda).clone()
}

#[cfg(target_os = "linux")]
fn open_cuda() -> Result<(), String> {
    let folders = [
        option_env!("LAYERSCOPE_LIBTORCH_LIB").map(PathBuf::from),
        std::env::var_os("LIBTORCH").map(|dir| PathBuf::from(dir).join("lib")),
    ];
    let in_folders = folders.into_iter().flatten().map(|dir| dir.join(CUDA_LIBRARY));
    // The plain name first: the loader then looks where this binary's other libraries came from.
    open_first(std::iter::once(PathBuf::from(CUDA_LIBRARY)).chain(in_folders.filter(|path| path.exists())))
}

#[cfg(target_os = "linux")]
fn open_first(candidates: impl Iterator<Item = PathBuf>) -> Result<(), String> {
    let mut failure = None;
    for path in candidates {
        match open_library(&path) {
            Ok(()) => return Ok(()),
            // "libtorch_cuda.so: cannot open": absent. Anything else is about a file that is there, or about
            // its needs.
            Err(reason) if reason.starts_with(CUDA_LIBRARY) => {}
            Err(reason) => failure = Some(reason),
        }
    }
    Err(failure.map_or_else(
        || "no CUDA libtorch found".into(),
        |reason| format!("CUDA libtorch found, but it does not load: {reason}"),
    ))
}

#[cfg(not(target_os = "linux"))]
fn open_cuda() -> Result<(), String> {
    Err("no CUDA libtorch found".into())
}

#[cfg(target_os = "linux")]
fn open_library(path: &std::path::Path) -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: opening runs the library's initialisers. They are libtorch's own: they add kernels to the
    // dispatcher of the libtorch this binary is linked to, once, before any tensor exists (OnceLock above).
    // RTLD_NOW makes a library of another libtorch version fail here, by an unresolved symbol, and not later
    // in a call.
    #[allow(unsafe_code)]
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    // Never closed: kernels stay registered until the process ends.
    library.map(std::mem::forget).map_err(|error| {
        // The loader's own words are the source; the error itself says only that opening failed.
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_absent_differs_from_one_that_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join(CUDA_LIBRARY);
        std::fs::write(&broken, "not a library").unwrap();
        // The test binary's own search path holds none where libtorch is the CPU one.
        if load_cuda().is_err() {
            let absent = open_first([PathBuf::from(CUDA_LIBRARY)].into_iter()).unwrap_err();
            assert_eq!(absent, "no CUDA libtorch found");
        }
        let error = open_first([broken.clone()].into_iter()).unwrap_err();
        assert!(error.contains("does not load") && error.contains(broken.to_str().unwrap()), "{error}");
    }
}
