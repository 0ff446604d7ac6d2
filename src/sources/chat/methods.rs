//! Methods of Python's strings and lists that templates use and the interpreter's own set lacks.

use minijinja::{
    Error, ErrorKind, State,
    value::{Value, from_args},
};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Calls `method` of `value`: one of these, or of `minijinja-contrib`'s.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match value.as_str().map(|text| of_text(text, method, args)) {
        Some(Ok(Some(value))) => Ok(value),
        Some(Err(error)) => Err(error),
        _ => unknown_method_callback(state, value, method, args),
    }
}

fn of_text(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (before, after) = text.split_once(separator).map_or((text, None), |(b, a)| (b, Some(a)));
            list([before, if after.is_some() { separator } else { "" }, after.unwrap_or_default()])
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (before, after) = text.rsplit_once(separator).map_or((None, text), |(b, a)| (Some(b), a));
            list([before.unwrap_or_default(), if before.is_some() { separator } else { "" }, after])
        }
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            let most = usize::try_from(most.unwrap_or(-1)).unwrap_or(usize::MAX - 1);
            let mut parts: Vec<&str> = match separator {
                Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
                Some(separator) => text.rsplitn(most + 1, separator).collect(),
                None => text.split_whitespace().rev().collect(),
            };
            parts.reverse();
            list(parts)
        }
        "index" => {
            let (part,): (&str,) = from_args(args)?;
            let at = text
                .find(part)
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
            let zeros = width.min(1000).saturating_sub(text.chars().count());
            Value::from(format!("{sign}{}{digits}", "0".repeat(zeros)))
        }
        "casefold" => Value::from(text.to_lowercase()),
        _ => return Ok(None),
    }))
}

fn list<'a>(parts: impl IntoIterator<Item = &'a str>) -> Value {
    parts.into_iter().map(Value::from).collect()
}
