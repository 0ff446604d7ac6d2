//! Cell colours: viridis, as the terminal can.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use layerscope::results::figure::{Colour, palette::viridis};

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// When stdout is a terminal that can, and `NO_COLOR` is not set
    Auto,
    /// Also into a pipe
    Always,
    /// Numbers instead of colours
    Never,
}

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColorDepth {
    None,
    Indexed,
    True,
}

impl ColorDepth {
    /// From `--color`, `NO_COLOR`, `COLORTERM` and `TERM`.
    pub(crate) fn detect(when: ColorWhen) -> Self {
        let var = |name: &str| std::env::var(name).unwrap_or_default();
        let (term, colorterm) = (var("TERM"), var("COLORTERM"));
        let off = match when {
            ColorWhen::Never => true,
            ColorWhen::Always => false,
            ColorWhen::Auto => {
                !var("NO_COLOR").is_empty() || term == "dumb" || !std::io::stdout().is_terminal()
            }
        };
        Self::of(off, &term, &colorterm, when == ColorWhen::Always)
    }

    fn of(off: bool, term: &str, colorterm: &str, always: bool) -> Self {
        if off {
            Self::None
        } else if ["truecolor", "24bit"].contains(&colorterm) || term.ends_with("-direct") {
            Self::True
        } else if always || term.contains("256color") {
            Self::Indexed
        } else {
            Self::None
        }
    }

    /// `text` on the colour of `x` in 0..=1, with black or white letters, whichever reads better.
    pub(crate) fn paint(self, text: &str, x: f64) -> String {
        let Colour(r, g, b) = viridis(x);
        let luminance = 0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b);
        let letters = if luminance > 110.0 { 16 } else { 231 };
        match self {
            Self::None => text.to_owned(),
            Self::True => format!("\x1b[38;5;{letters};48;2;{r};{g};{b}m{text}\x1b[0m"),
            Self::Indexed => {
                let level = |v: u8| (u16::from(v) * 5 + 127) / 255;
                let index = 16 + 36 * level(r) + 6 * level(g) + level(b);
                format!("\x1b[38;5;{letters};48;5;{index}m{text}\x1b[0m")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_follows_the_terminal() {
        assert_eq!(ColorDepth::of(false, "xterm-256color", "truecolor", false), ColorDepth::True);
        assert_eq!(ColorDepth::of(false, "screen-256color", "", false), ColorDepth::Indexed);
        assert_eq!(ColorDepth::of(false, "vt100", "", false), ColorDepth::None);
        assert_eq!(ColorDepth::of(false, "", "", true), ColorDepth::Indexed);
        assert_eq!(ColorDepth::of(true, "xterm-256color", "truecolor", false), ColorDepth::None);
    }

    #[test]
    fn ends_of_the_scale() {
        assert_eq!((viridis(-1.0), viridis(1.0)), (Colour(68, 1, 84), Colour(253, 231, 37)));
        assert!(ColorDepth::True.paint("x", 1.0).starts_with("\x1b[38;5;16;48;2;253;231;37mx"));
        assert!(ColorDepth::Indexed.paint("x", 0.0).starts_with("\x1b[38;5;231;48;5;"));
    }
}
