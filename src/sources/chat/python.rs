//! Values as Python writes them: `str`, `repr` and `json.dumps`.

use std::fmt::Write as _;

use minijinja::value::{Value, ValueKind};

/// `str(value)`.
pub(super) fn str_of(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() => String::new(),
        None => repr(value),
    }
}

/// `repr(value)`.
fn repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => "Undefined".into(),
        ValueKind::None => "None".into(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.into(),
        ValueKind::Number => number(value),
        ValueKind::String => repr_str(value.as_str().unwrap_or_default()),
        ValueKind::Map => {
            let pairs =
                pairs(value).into_iter().map(|(key, value)| format!("{}: {}", repr(&key), repr(&value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().into_iter().flatten().map(|item| repr(&item));
            let items = items.collect::<Vec<_>>().join(", ");
            if value.is_tuple() { format!("({items})") } else { format!("[{items}]") }
        }
        _ => value.to_string(),
    }
}

/// In single quotes, unless there are some inside and no double ones.
fn repr_str(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut written = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            '\\' => written.push_str("\\\\"),
            c if c == quote => written.extend(['\\', c]),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => drop(write!(written, "\\x{:02x}", c as u32)),
            c => written.push(c),
        }
    }
    written.push(quote);
    written
}

fn pairs(map: &Value) -> Vec<(Value, Value)> {
    let value = |key: Value| {
        let value = map.get_item(&key).unwrap_or_default();
        (key, value)
    };
    map.try_iter().into_iter().flatten().map(value).collect()
}

fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(x) if !value.is_integer() => float(x),
        _ => value.to_string(),
    }
}

/// The shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
fn float(x: f64) -> String {
    if !x.is_finite() {
        return if x.is_nan() {
            "nan"
        } else if x > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .into();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Arguments of `json.dumps`.
#[derive(Debug, Clone)]
pub(super) struct Json {
    pub(super) ascii: bool,
    pub(super) indent: Option<String>,
    /// Between items, and between a key and its value.
    pub(super) separators: [String; 2],
    pub(super) sort_keys: bool,
}

impl Json {
    /// `json.dumps(value)`; a value that is none of JSON's is an error.
    pub(super) fn dumps(&self, value: &Value) -> Result<String, String> {
        let mut written = String::new();
        self.write(&mut written, value, 0)?;
        Ok(written)
    }

    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), String> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&match number(value).as_str() {
                "nan" => "NaN".into(),
                "inf" => "Infinity".into(),
                "-inf" => "-Infinity".into(),
                number => number.to_owned(),
            }),
            ValueKind::String => self.string(out, value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut pairs: Vec<(String, Value)> =
                    pairs(value).into_iter().map(|(key, value)| (key_of(&key), value)).collect();
                if self.sort_keys {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.list(out, ['{', '}'], depth, pairs, |json, out, (key, value)| {
                    json.string(out, &key);
                    out.push_str(&json.separators[1]);
                    json.write(out, &value, depth + 1)
                })?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter().map_err(|e| e.to_string())?.collect();
                let item = |json: &Self, out: &mut String, item: Value| json.write(out, &item, depth + 1);
                self.list(out, ['[', ']'], depth, items, item)?;
            }
            other => return Err(format!("Object of type {other} is not JSON serializable")),
        }
        Ok(())
    }

    fn list<T>(
        &self,
        out: &mut String,
        [open, close]: [char; 2],
        depth: usize,
        items: Vec<T>,
        item: impl Fn(&Self, &mut String, T) -> Result<(), String>,
    ) -> Result<(), String> {
        let new_line = |out: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        let empty = items.is_empty();
        out.push(open);
        for (i, one) in items.into_iter().enumerate() {
            if i > 0 {
                out.push_str(&self.separators[0]);
            }
            new_line(out, depth + 1);
            item(self, out, one)?;
        }
        if !empty {
            new_line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || self.ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A key as JSON has it, which is text.
fn key_of(key: &Value) -> String {
    match key.kind() {
        ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        ValueKind::None => "null".into(),
        _ => number(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python says of the same numbers.
    #[test]
    fn floats() {
        for (x, said) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (-2.5e300, "-2.5e+300"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float(x), said);
        }
    }

    #[test]
    fn texts() {
        for (text, said) in
            [("a", "'a'"), ("it's", "\"it's\""), ("'\"", "'\\'\"'"), ("\n\u{1}é", "'\\n\\x01é'")]
        {
            assert_eq!(repr_str(text), said);
        }
    }
}
