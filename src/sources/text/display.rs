//! What a token stands for, shown safely.
//!
//! Byte-level vocabularies spell bytes as letters (`Ġthe`, `Ċ`), sentencepiece ones spell spaces as `▁` and bytes as
//! `<0x0A>`. [`TokenText`] undoes that; text from an untrusted vocabulary cannot move the cursor, reverse the line or
//! hide, because control, zero-width and bidirectional characters are escaped.

use serde_json::Value;
use std::sync::LazyLock;

pub use crate::results::show::show;

/// One token in three forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenText {
    /// The vocabulary's own spelling, like `Ġthe`: nothing is lost, nothing is escaped.
    pub raw: String,
    /// The text it stands for, like ` the`; bytes that are not whole UTF-8 are U+FFFD.
    pub text: String,
    /// [`show`] of its bytes, like `·the`.
    pub shown: String,
}

impl TokenText {
    /// The text; the shown form, with its bytes spelled out, where it is not whole UTF-8.
    pub fn whole(self) -> String {
        if self.text.contains(char::REPLACEMENT_CHARACTER) { self.shown } else { self.text }
    }
}

/// How the vocabulary spells text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// One letter per byte, as GPT-2 began it.
    ByteLevel,
    /// A character for the space, and `<0x0A>` for bytes if `bytes`.
    SentencePiece { space: String, bytes: bool },
    /// As it stands (wordpiece's `##` included).
    Plain,
}

impl Spelling {
    /// Finds the spelling in a parsed `tokenizer.json`: from the decoder, else from what the text goes through first.
    pub(super) fn detect(json: &Value) -> Self {
        let mut steps = Vec::new();
        for stage in ["decoder", "pre_tokenizer", "normalizer"] {
            flatten(&json[stage], &mut steps);
            if let Some(spelling) = Self::of_steps(&steps) {
                return spelling;
            }
        }
        Self::Plain
    }

    fn of_steps(steps: &[&Value]) -> Option<Self> {
        let find = |kind: &str| steps.iter().find(|step| step["type"] == kind);
        if find("ByteLevel").is_some() {
            return Some(Self::ByteLevel);
        }
        let bytes = find("ByteFallback").is_some();
        let metaspace = find("Metaspace").map(|step| step["replacement"].as_str().unwrap_or(META));
        let replace = steps.iter().find(|step| step["type"] == "Replace" && step["content"] == " ");
        let space = metaspace.or_else(|| replace.and_then(|step| step["pattern"]["String"].as_str()));
        let space = space.or_else(|| bytes.then_some(META)).or_else(|| {
            let to_meta = |step: &&&Value| step["type"] == "Replace" && step["content"] == META;
            steps.iter().find(to_meta).map(|_| META)
        })?;
        Some(Self::SentencePiece { space: space.into(), bytes })
    }

    /// The bytes a token of the model's own vocabulary stands for.
    pub(super) fn bytes(&self, raw: &str) -> Vec<u8> {
        match self {
            // A piece with a letter outside the byte alphabet was not spelled by it: it stands for itself.
            Self::ByteLevel => raw.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| raw.into()),
            Self::SentencePiece { space, bytes } => match byte_piece(raw).filter(|_| *bytes) {
                Some(byte) => vec![byte],
                None if space.is_empty() => raw.into(),
                None => raw.replace(space.as_str(), " ").into(),
            },
            Self::Plain => raw.into(),
        }
    }

    /// A token's forms. `added` tokens (`<|endoftext|>`) stand for their own characters.
    pub(super) fn token(&self, raw: String, added: bool) -> TokenText {
        let bytes = if added { raw.clone().into_bytes() } else { self.bytes(&raw) };
        TokenText { text: String::from_utf8_lossy(&bytes).into_owned(), shown: show(&bytes), raw }
    }
}

/// Sentencepiece's character for a space.
const META: &str = "▁";

/// The steps of a stage, out of the `Sequence`s they may be nested in.
pub(super) fn flatten<'a>(stage: &'a Value, steps: &mut Vec<&'a Value>) {
    let nested = ["decoders", "pretokenizers", "normalizers"];
    if let Some(list) = nested.iter().find_map(|key| stage[*key].as_array()) {
        for step in list {
            flatten(step, steps);
        }
    } else if stage.is_object() {
        steps.push(stage);
    }
}

/// The byte of `<0x0A>`.
fn byte_piece(raw: &str) -> Option<u8> {
    let hex = raw.strip_prefix("<0x")?.strip_suffix('>')?;
    let digits = hex.len() == 2 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    if digits { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// The byte that a letter of GPT-2's byte alphabet spells: printable Latin-1 is itself, the others follow from U+0100.
fn byte_of(letter: char) -> Option<u8> {
    static BYTES: LazyLock<Vec<Option<u8>>> = LazyLock::new(|| {
        let mut table = vec![None; 0x100 + 68];
        let mut next = 0x100;
        for byte in 0..=255_u8 {
            let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
            let letter = if printable { usize::from(byte) } else { next };
            next += usize::from(!printable);
            table[letter] = Some(byte);
        }
        table
    });
    BYTES.get(letter as usize).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_byte_alphabet_is_a_bijection() {
        let spelled: Vec<_> = (0..0x200_u32).filter_map(char::from_u32).filter_map(byte_of).collect();
        let mut bytes = spelled.clone();
        bytes.sort_unstable();
        assert!(bytes.into_iter().eq(0..=255));
        assert_eq!([byte_of('Ġ'), byte_of('Ċ'), byte_of('a'), byte_of('é')], [32, 10, 97, 0xE9].map(Some));
        assert_eq!(byte_of('▁'), None);
    }

    #[test]
    fn byte_level_pieces() {
        let token = |raw: &str, added| Spelling::ByteLevel.token(raw.into(), added);
        assert_eq!(token("Ġthe", false).shown, "·the");
        assert_eq!(token("Ġthe", false).text, " the");
        assert_eq!(token("ĊĊ", false).shown, "⏎⏎");
        assert_eq!(token("âĢ", false).shown, "\\xE2\\x80");
        assert_eq!(token("âĢ", false).text, "\u{FFFD}");
        assert_eq!(token("Ġthe", true).shown, "Ġthe");
        assert_eq!(token("a▁", false).shown, "a▁");
    }

    #[test]
    fn sentencepiece_pieces() {
        let spelling = Spelling::SentencePiece { space: META.into(), bytes: true };
        let token = |raw: &str, added| spelling.token(raw.into(), added);
        assert_eq!(token("▁the", false).shown, "·the");
        assert_eq!(token("<0x0A>", false).shown, "⏎");
        assert_eq!(token("<0xE2>", false).shown, "\\xE2");
        assert_eq!(token("<0x0A>", true).shown, "<0x0A>");
        assert_eq!(token("<0x+1>", false).text, "<0x+1>");
        assert_eq!(token("<0x0AB>", false).shown, "<0x0AB>");
    }

    #[test]
    fn nothing_hides_or_moves_the_cursor() {
        assert_eq!(show(" \n\t\r".as_bytes()), "·⏎⇥␍");
        assert_eq!(show("\u{1b}[31m\u{0}".as_bytes()), "\\u{1b}[31m\\u{0}");
        assert_eq!(show("a\u{202E}b\u{200B}\u{A0}".as_bytes()), "a\\u{202e}b\\u{200b}\\u{a0}");
        assert_eq!(show("\u{301}e\u{301} \u{301}".as_bytes()), "◌\u{301}e\u{301}·◌\u{301}");
        assert_eq!(show("❤\u{FE0F}\u{FE0F}".as_bytes()), "❤\u{FE0F}\u{FE0F}");
        assert_eq!(show("\u{FE0F}日本🙂שלום".as_bytes()), "\\u{fe0f}日本🙂שלום");
        assert_eq!(show(b"a\xF0\x9F\x99b"), "a\\xF0\\x9F\\x99b");
    }

    #[test]
    fn the_spelling_is_found_in_any_stage() {
        let sp = |bytes| Spelling::SentencePiece { space: META.into(), bytes };
        let cases = [
            (json!({"decoder": {"type": "ByteLevel"}}), Spelling::ByteLevel),
            (
                json!({"decoder": null, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                    {"type": "Digits"}, {"type": "ByteLevel"}]}}),
                Spelling::ByteLevel,
            ),
            (json!({"decoder": {"type": "Metaspace", "replacement": "▁"}}), sp(false)),
            (
                json!({"decoder": {"type": "Sequence", "decoders": [
                    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                    {"type": "ByteFallback"}, {"type": "Fuse"}]}}),
                sp(true),
            ),
            (json!({"decoder": {"type": "WordPiece", "prefix": "##"}}), Spelling::Plain),
            (json!({}), Spelling::Plain),
        ];
        for (json, expected) in cases {
            assert_eq!(Spelling::detect(&json), expected, "{json}");
        }
    }
}
