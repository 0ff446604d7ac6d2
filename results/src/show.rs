//! Text of somebody else's, shown safely.

use std::fmt::Write as _;

use unicode_normalization_alignments::char::is_combining_mark;

use crate::inert::is_invisible;

/// Makes bytes of text visible and harmless: space `·`, newline `⏎`, tab `⇥`, carriage return `␍`, other control,
/// zero-width, bidirectional and odd space characters `\u{…}`, bytes that are not whole UTF-8 `\xE2`. A combining
/// mark with nothing to sit on gets a dotted circle.
pub fn show(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        // A mark may sit on the character before it, if that one is shown as itself.
        let mut base = false;
        for c in chunk.valid().chars() {
            base = push(&mut shown, c, base);
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02X}");
        }
    }
    shown
}

/// Appends one character; true if it was shown as itself.
fn push(shown: &mut String, c: char, base: bool) -> bool {
    let symbol = match c {
        ' ' => '·',
        '\n' => '⏎',
        '\t' => '⇥',
        '\r' => '␍',
        _ if is_hidden(c) || (!base && is_variation(c)) => {
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            return false;
        }
        _ => {
            if !base && is_mark(c) {
                shown.push('◌');
            }
            shown.push(c);
            return true;
        }
    };
    shown.push(symbol);
    false
}

fn is_variation(c: char) -> bool {
    matches!(c, '\u{FE00}'..='\u{FE0F}')
}

/// Characters that show nothing, look like another or act on their neighbours.
fn is_hidden(c: char) -> bool {
    is_invisible(c)
        || c.is_whitespace()
        || matches!(c,
            '\u{AD}' | '\u{34F}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
            | '\u{2800}' | '\u{3164}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{E000}'..='\u{F8FF}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{10FFFF}')
}

/// Combining marks, by the table that `tokenizers` strips accents with.
fn is_mark(c: char) -> bool {
    is_combining_mark(c)
}
