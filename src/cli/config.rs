//! `--config FILE.toml`: long options from a file; what is on the command line wins.

use std::{ffi::OsString, path::Path};

use anyhow::{Context as _, anyhow};
use toml::{Table, Value};

use super::exit::Failure;

/// Adds the options of `--config FILE` that are not given on the command line.
///
/// `tokens = 1000` is `--tokens 1000`, `hooks = ["resid_pre", "attn_out"]` repeats the option, `json = true` is a flag.
pub(crate) fn expand(mut argv: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let Some(file) = take_config(&mut argv) else { return Ok(argv) };
    let path = Path::new(&file);
    let options = read(path).map_err(Failure::usage)?;
    add(&mut argv, options, path)?;
    Ok(argv)
}

/// Adds the options of a file that are not given on the command line.
pub(crate) fn add(argv: &mut Vec<OsString>, options: Table, path: &Path) -> Result<(), Failure> {
    for (key, value) in options {
        let flag = format!("--{}", key.replace('_', "-"));
        let given = |arg: &OsString| {
            arg.to_str()
                .is_some_and(|a| a == flag || a.strip_prefix(&flag).is_some_and(|rest| rest.starts_with('=')))
        };
        if !argv.iter().any(given) {
            let words = words(&flag, &value).ok_or_else(|| {
                Failure::usage(anyhow!(
                    "{}: `{key}` must be a text, number, truth value or a list of them",
                    path.display()
                ))
            })?;
            argv.extend(words.into_iter().map(OsString::from));
        }
    }
    Ok(())
}

/// Removes `--config FILE` or `--config=FILE` and returns the file.
fn take_config(argv: &mut Vec<OsString>) -> Option<OsString> {
    let at = argv
        .iter()
        .position(|a| a.to_str().is_some_and(|a| a == "--config" || a.starts_with("--config=")))?;
    if let Some(file) = argv[at].to_str().and_then(|a| a.strip_prefix("--config=")).map(OsString::from) {
        argv.remove(at);
        return Some(file);
    }
    (at + 1 < argv.len()).then(|| {
        argv.remove(at);
        argv.remove(at)
    })
}

fn read(path: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--config {}", path.display()))?;
    let one_line = |e: toml::de::Error| anyhow!("{}: {}", path.display(), e.message());
    text.parse::<Table>().map_err(one_line)
}

fn words(flag: &str, value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Boolean(true) => Some(vec![flag.to_owned()]),
        Value::Boolean(false) => Some(Vec::new()),
        Value::Array(items) => {
            let each: Option<Vec<_>> = items.iter().map(|item| words(flag, item)).collect();
            each.map(|all| all.into_iter().flatten().collect())
        }
        Value::String(text) => Some(vec![format!("{flag}={text}")]),
        Value::Integer(n) => Some(vec![format!("{flag}={n}")]),
        Value::Float(x) => Some(vec![format!("{flag}={x}")]),
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        std::fs::write(&file, "tokens = 10\nhooks = [\"q\", \"k\"]\njson = true\nquiet = false\nseed = 3")
            .unwrap();
        let argv = ["x", "export", "--tokens", "5", "--config", file.to_str().unwrap()];
        let got = expand(argv.iter().map(OsString::from).collect()).unwrap();
        let got: Vec<_> = got.iter().map(|a| a.to_str().unwrap()).collect();
        assert_eq!(got, ["x", "export", "--tokens", "5", "--hooks=q", "--hooks=k", "--json", "--seed=3"]);
    }
}
