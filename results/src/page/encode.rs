//! Numbers and texts as they stand in the page.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use half::f16;
use serde_json::{Value, json};

/// f64, little endian; NaN where there is none (a number of a run is always finite).
pub(super) fn doubles(values: impl Iterator<Item = Option<f64>>) -> Value {
    pack("f64", values.flat_map(|x| x.unwrap_or(f64::NAN).to_le_bytes()))
}

/// f32; NaN where there is none.
pub(super) fn singles(values: impl Iterator<Item = Option<f64>>) -> Value {
    pack("f32", values.flat_map(|x| x.map_or(f32::NAN, |x| x as f32).to_le_bytes()))
}

/// f16: three digits, from 6e-8 to 65504.
pub(super) fn halves(values: impl Iterator<Item = f64>) -> Value {
    pack("f16", values.flat_map(|x| f16::from_f64(x).to_le_bytes()))
}

/// As small as they fit: u16, else u32.
pub(super) fn indices(values: &[u32]) -> Value {
    if values.iter().all(|x| u16::try_from(*x).is_ok()) {
        pack("u16", values.iter().flat_map(|x| (*x as u16).to_le_bytes()))
    } else {
        pack("u32", values.iter().flat_map(|x| x.to_le_bytes()))
    }
}

/// i32; -1 … are themselves, [`i32::MIN`] where there is none.
pub(super) fn integers(values: impl Iterator<Item = Option<i32>>) -> Value {
    pack("i32", values.flat_map(|x| x.unwrap_or(i32::MIN).to_le_bytes()))
}

fn pack(kind: &str, bytes: impl Iterator<Item = u8>) -> Value {
    json!([kind, STANDARD.encode(bytes.collect::<Vec<u8>>())])
}

/// JSON that can stand inside a `<script>`: no `<`, so that nothing in it ends the element or begins a comment, and no
/// line separators.
pub(super) fn json(value: &Value) -> String {
    let text = value.to_string();
    let mut safe = String::with_capacity(text.len() + text.len() / 64);
    for c in text.chars() {
        match c {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            c => safe.push(c),
        }
    }
    safe
}

/// Text that can stand between tags.
pub(super) fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_by_hand() {
        assert_eq!(doubles([Some(1.0)].into_iter()), json!(["f64", "AAAAAAAA8D8="])); // 3FF0…
        assert_eq!(halves([1.0, 0.5].into_iter()), json!(["f16", "ADwAOA=="])); // 3C00 3800
        assert_eq!(indices(&[1, 258]), json!(["u16", "AQACAQ=="]));
        assert_eq!(indices(&[65_536]), json!(["u32", "AAABAA=="]));
        assert_eq!(integers([Some(-1), None].into_iter()), json!(["i32", "/////wAAAIA="]));
    }

    #[test]
    fn json_cannot_end_a_script() {
        let value = json!({ "</script><!--": "\u{2028}]]>&<script>" });
        let text = json(&value);
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert_eq!(html("<b a=\"&\">"), "&lt;b a=&quot;&amp;&quot;&gt;");
    }
}
