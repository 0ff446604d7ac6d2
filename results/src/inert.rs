//! What somebody else wrote, made safe to show: characters that draw on a terminal, turn a line around or show nothing.

/// Characters that act on what shows them: controls, line and paragraph separators, and those that turn the direction
/// of a line.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters that [act](acts), have no width, or are none: XML could not hold the last ones.
pub fn is_invisible(c: char) -> bool {
    acts(c)
        || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// What acts, spelled out as in Rust (`\u{1b}`), but for the characters that are `kept`.
pub fn spelled(text: &str, kept: &[char]) -> String {
    let letter = |c: char| {
        if acts(c) && !kept.contains(&c) { c.escape_unicode().to_string() } else { c.to_string() }
    };
    text.chars().map(letter).collect()
}

/// `�` in place of what `hidden` names.
pub fn blotted(text: &str, hidden: fn(char) -> bool) -> String {
    text.chars().map(|c| if hidden(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_draws_on_the_terminal() {
        assert_eq!(
            spelled("a\n\u{1b}[31m\u{202e}漢👩\u{200d}👧", &['\n']),
            "a\n\\u{1b}[31m\\u{202e}漢👩\u{200d}👧"
        );
        assert_eq!(blotted("a\nb\u{2066}é", acts), "a�b�é");
        assert_eq!(blotted("a\u{200b}\u{feff}b", is_invisible), "a��b");
        assert!(('\0'..='\u{ffff}').filter(|c| acts(*c)).all(is_invisible));
    }
}
