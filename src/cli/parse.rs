//! The command line into a command, and clap's words where it is none.

use std::{
    ffi::{OsStr, OsString},
    process::ExitCode,
};

use anyhow::anyhow;
use clap::{Parser as _, error::ErrorKind};

use super::{Cli, Command, exit::Failure};

/// What the command line was.
pub(super) enum Parsed {
    /// A command.
    Command(Box<Command>),
    /// Help, a version or clap's message, which has been told.
    Answered(ExitCode),
}

/// Parses, and tells what clap has to say.
pub(super) fn parse(argv: &[OsString]) -> Result<Parsed, Failure> {
    let error = match Cli::try_parse_from(argv) {
        Ok(cli) => return Ok(Parsed::Command(Box::new(cli.command))),
        Err(error) => error,
    };
    if error.kind() == ErrorKind::InvalidUtf8 {
        return Err(Failure::usage(not_utf8(argv)));
    }
    let printed = error.print();
    if error.use_stderr() {
        return Ok(Parsed::Answered(ExitCode::from(2))); // a stderr that is closed or full changes nothing
    }
    let named = |e: std::io::Error| std::io::Error::new(e.kind(), format!("stdout: {e}"));
    printed.map_err(named)?;
    Ok(Parsed::Answered(ExitCode::SUCCESS))
}

/// Names the text that is not UTF-8. Paths need not be, so each candidate is tried with all others made whole.
fn not_utf8(argv: &[OsString]) -> anyhow::Error {
    let whole = |word: &OsString| OsString::from(word.to_string_lossy().into_owned());
    let refused = |at: &usize| {
        let words =
            argv.iter().enumerate().map(|(i, word)| if i == *at { word.clone() } else { whole(word) });
        Cli::try_parse_from(words).is_err_and(|e| e.kind() == ErrorKind::InvalidUtf8)
    };
    let broken = (0..argv.len()).filter(|i| argv[*i].to_str().is_none()).find(refused);
    let Some(at) = broken else { return anyhow!("an argument is not UTF-8") };
    let word = argv[at].to_string_lossy();
    let before = at.checked_sub(1).and_then(|i| argv[i].to_str()).filter(|word| word.starts_with('-'));
    let name = match (word.split_once('='), before) {
        (Some((name, _)), _) if name.starts_with("--") => name.to_owned(),
        (_, Some(name)) => name.to_owned(),
        _ => format!("argument {at}"),
    };
    anyhow!("{name}: text must be UTF-8, {} is not", escaped(&argv[at]))
}

/// The bytes of a word with those that are no text spelled out.
fn escaped(word: &OsStr) -> String {
    let bytes = word.as_encoded_bytes();
    let shown = bytes.utf8_chunks().fold(String::new(), |shown, chunk| {
        let shown = shown + chunk.valid();
        chunk.invalid().iter().fold(shown, |shown, byte| format!("{shown}\\x{byte:02x}"))
    });
    format!("\"{shown}\"")
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn the_broken_text_is_named() {
        let words = |list: &[&[u8]]| -> Vec<OsString> {
            list.iter().map(|word| OsString::from_vec(word.to_vec())).collect()
        };
        let says = |list: &[&[u8]]| not_utf8(&words(list)).to_string();
        let line = says(&[b"layerscope", b"view", b"--model", b"m\xff", b"--text", b"a\xfe"]);
        assert_eq!(line, "--text: text must be UTF-8, \"a\\xfe\" is not");
        let line = says(&[b"layerscope", b"view", b"--model=m", b"--text=a\xfe"]);
        assert_eq!(line, "--text: text must be UTF-8, \"--text=a\\xfe\" is not");
    }
}
