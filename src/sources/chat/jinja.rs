//! The interpreter of templates, set as transformers sets its own.

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior,
    syntax::SyntaxConfig,
    value::{Kwargs, Serde, Value, ValueKind},
};

use super::{Clock, methods, python};

/// Steps that a template may take: a chat of a thousand messages takes some hundred thousand.
const FUEL: u64 = 10_000_000;
/// Its name in the interpreter.
const NAME: &str = "chat";

/// One compiled template.
#[derive(Debug)]
pub(super) struct Engine {
    environment: Environment<'static>,
}

impl Engine {
    pub(super) fn new(source: &str, clock: Clock) -> Result<Self, String> {
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(|e| one_line(&e))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(methods::method);
        environment.set_formatter(|out, _, value| out.write_str(&python::str_of(value)).map_err(Error::from));
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: String| {
            clock.format(&format).map_err(|message| Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", to_json);
        environment.add_filter("string", |value: Value| python::str_of(&value));
        // In Python a text is a sequence, so is a dictionary, and in Jinja what is not there at all.
        let sequence = |value: &Value| {
            matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
        };
        environment.add_test("sequence", move |value: Value| sequence(&value));
        environment.add_test("iterable", move |value: Value| {
            sequence(&value) || value.kind() == ValueKind::Iterable
        });
        environment.add_template_owned(NAME, without_generation_tags(source)).map_err(|e| one_line(&e))?;
        Ok(Self { environment })
    }

    /// What the template makes of its variables.
    pub(super) fn render(&self, variables: &serde_json::Value) -> Result<String, String> {
        let template = self.environment.get_template(NAME).map_err(|e| one_line(&e))?;
        template.render(Value::from(Serde(variables))).map_err(|e| one_line(&e))
    }
}

#[allow(clippy::needless_pass_by_value)] // what a filter's arguments are
/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, as transformers has it.
fn to_json(value: Value, ensure_ascii: Option<bool>, options: Kwargs) -> Result<String, Error> {
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.or(ensure_ascii).unwrap_or(false);
    let indent = options.get::<Option<Value>>("indent")?.filter(|value| !value.is_none());
    let indent = indent.map(|value| match value.as_usize() {
        Some(n) => " ".repeat(n.min(100)),
        None => value.as_str().unwrap_or_default().to_owned(),
    });
    let separators = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        Some([items, keys]) => [items.clone(), keys.clone()],
        _ => [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()],
    };
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let json = python::Json { ascii, indent, separators, sort_keys };
    json.dumps(&value).map_err(|message| Error::new(ErrorKind::BadSerialization, message))
}

/// The tags `{% generation %}` mark what the model is trained on and render as what is between them.
fn without_generation_tags(source: &str) -> String {
    let mut rewritten = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(len) = rest[start..].find("%}") else { break };
        let inner = &rest[start + 2..start + len];
        let word = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let other = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            word => word,
        };
        rewritten.push_str(&rest[..start + 2]);
        rewritten.push_str(&if word == other { inner.to_owned() } else { inner.replacen(word, other, 1) });
        rewritten.push_str("%}");
        rest = &rest[start + len + 2..];
    }
    rewritten + rest
}

/// What went wrong, and in which line of the template.
fn one_line(error: &Error) -> String {
    let refusal = match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (ErrorKind::OutOfFuel, _) => "it does not come to an end".into(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let refusal = refusal.split_whitespace().collect::<Vec<_>>().join(" ");
    error.line().map_or(refusal.clone(), |line| format!("{refusal} (line {line})"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let variables = json!({
            "t": true, "n": null, "list": ["a", 1, 2.5, {"k": null}], "text": "a<b>'c' & \u{e9}\n",
            "map": {"z": 1, "a": [], "e": {}},
        });
        Engine::new(source, "2025-01-31".parse().unwrap())?.render(&variables)
    }

    #[test]
    fn values_are_written_as_by_python() {
        for (source, refusal) in [
            ("{{ t }} {{ n }} {{ missing }}|{{ list }}", "True None |['a', 1, 2.5, {'k': None}]"),
            ("{{ map | string }}", "{'z': 1, 'a': [], 'e': {}}"),
            ("{{ text | tojson }}", "\"a<b>'c' & \u{e9}\\n\""),
            ("{{ text | tojson(ensure_ascii=True) }}", "\"a<b>'c' & \\u00e9\\n\""),
            ("{{ map | tojson }}", r#"{"z": 1, "a": [], "e": {}}"#),
            ("{{ map | tojson(sort_keys=True, separators=(',', ':')) }}", r#"{"a":[],"e":{},"z":1}"#),
            ("{{ list | tojson(indent=1) }}", "[\n \"a\",\n 1,\n 2.5,\n {\n  \"k\": null\n }\n]"),
            ("{{ 'x' is sequence }} {{ map is iterable }} {{ 1 is iterable }}", "True True False"),
            (
                "{{ 'a.b.c'.rsplit('.', 1) }} {{ 'abc'.removeprefix('a') }} {{ 'a=b'.partition('=')[2] }}",
                "['a.b', 'c'] bc b",
            ),
            ("{{ list[::-1][0] }} {{ 'abc'[::-1] }} {{ list[-1] }}", "{'k': None} cba {'k': None}"),
            ("{%- generation %}a{% endgeneration -%} b", "ab"),
            ("{{ strftime_now('%d %B %Y') }}", "31 January 2025"),
            (
                "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i > 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
                "02",
            ),
            ("  {% if t %}\n  x\n  {% endif %}\ny\n", "  x\ny"),
        ] {
            assert_eq!(render(source).as_deref(), Ok(refusal), "{source}");
        }
    }

    #[test]
    fn what_a_template_refuses_is_said_in_a_line() {
        for (source, refusal) in [
            ("\n{{ raise_exception('Roles must\nalternate') }}", "Roles must alternate (line 2)"),
            (
                "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
                "it does not come to an end (line 1)",
            ),
            ("{{ 'a'.frobnicate() }}", "unknown method: string has no method named frobnicate (line 1)"),
        ] {
            assert_eq!(render(source).unwrap_err(), refusal);
        }
        assert!(render("{% if %}").unwrap_err().starts_with("syntax error: "));
        assert!(render("{% include '/etc/passwd' %}").is_err());
    }
}
