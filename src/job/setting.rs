//! How messages spell the name of a setting.
//!
//! A library's error says `layers`, the command line's `--layers`, from the same message: whoever talks to people
//! chooses the spelling once, and a [`Setting`] in a message follows it.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

/// Set by the command line.
static FLAGS: AtomicBool = AtomicBool::new(false);

/// From now on, settings are spelled as options of the command line in every message of this process.
pub fn spell_as_flags() {
    FLAGS.store(true, Ordering::Relaxed);
}

/// From now on, settings are spelled as fields again: whoever gives a worker its jobs writes fields.
pub fn spell_as_fields() {
    FLAGS.store(false, Ordering::Relaxed);
}

/// The name of a job's field, for a message: `layers`, or `--layers` on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting(pub &'static str);

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = self;
        if FLAGS.load(Ordering::Relaxed) {
            write!(f, "--{}", name.replace('_', "-"))
        } else {
            f.write_str(name)
        }
    }
}

/// `--readout exact`, or `readout = exact`: a setting and a value it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetTo<V>(pub &'static str, pub V);

impl<V: fmt::Display> fmt::Display for SetTo<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, value) = self;
        let between = if FLAGS.load(Ordering::Relaxed) { " " } else { " = " };
        write!(f, "{}{between}{value}", Setting(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_names_fields() {
        assert_eq!(Setting("seq_len").to_string(), "seq_len");
        assert_eq!(SetTo("readout", "exact").to_string(), "readout = exact");
    }
}
