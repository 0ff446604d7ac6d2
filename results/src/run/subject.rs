//! Whose number a row is: a text for people, and what it is made of in columns of its own.

use std::{fmt, ops::Deref};

/// What a subject is made of. Its `Display` is the column `subject`; the parts have columns of their own.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Parts {
    /// A lens, a probe, a baseline, `model`: a name alone.
    #[default]
    Name,
    /// `LENS:RUNG`, one of the lenses of a shared folder.
    Rung {
        /// The folder's name.
        of: String,
        /// How much of it is a layer's own: `affine`, `rank-8` …
        rung: String,
    },
    /// `A less B`: a paired difference.
    Less {
        /// The minuend.
        of: String,
        /// The subtrahend.
        less: String,
    },
    /// `LENS@DIRECTION`: a lens, or the model, without a direction.
    Without {
        /// The lens, or `model`.
        of: String,
        /// The direction; of a set's mean the set.
        direction: Direction,
    },
    /// `DIRECTION@+0.5`: a push along a direction.
    Pushed {
        /// The direction's name.
        of: String,
        /// In mean lengths of the layer's stream.
        strength: f64,
    },
    /// `random-mean@+0.5`: all random directions of a length together.
    RandomMean {
        /// In mean lengths of the layer's stream, to both sides.
        strength: f64,
    },
    /// `SENTENCE-random`: a random vector as long as the one that was learnt.
    RandomTwin {
        /// What was learnt.
        of: String,
    },
    /// `LENS+CORRECTION`: a lens on corrected states.
    Corrected {
        /// The lens.
        of: String,
        /// What is done to the states.
        correction: String,
    },
    /// `SCHEDULE|LENS`: a lens under a schedule; the logit lens goes without saying.
    Scheduled {
        /// The lens; none for the logit lens.
        of: Option<String>,
        /// The schedule.
        schedule: String,
        /// The block that it leaves out, where it does nothing else.
        skipped: Option<usize>,
    },
    /// `thought@2`: at one thought; `zero@2+`: and what follows is thought anew.
    Step {
        /// A thought, a lens on it, or what replaces it.
        of: String,
        /// Which thought, from 1.
        step: usize,
        /// Whether later ones are thought anew.
        anew: bool,
    },
    /// `3:cat`: a position of a prompt.
    Token {
        /// Its place, from 0.
        position: usize,
        /// Its text.
        token: String,
    },
    /// `H5`, an attention head of the row's layer; `H5:zero`: the model without it.
    Head {
        /// Its number, from 0.
        head: usize,
        /// What stands in its place; none: the head itself.
        without: Option<String>,
    },
    /// `PROBE:SET` and `PROBE:A>B`: a probe of one set, on its own test part or on another's.
    Set {
        /// The estimator.
        of: String,
        /// The set that it was fitted on.
        trained_on: String,
        /// The set that it is tested on, where that is said.
        tested_on: Option<String>,
    },
    /// `next:shared`, `soft:shuffled`, `fixed:2:mean`: a variant, most often a control.
    Variant {
        /// What it is a variant of.
        of: String,
        /// Which of several fixed prompts.
        prompt: Option<usize>,
        /// The control or variant; none of a prompt as it is.
        variant: Option<String>,
    },
    /// `head:5`, `mlp`: a part of the network, the layer standing apart.
    Component {
        /// `embed`, `head`, `mlp`, `neuron` …
        component: String,
        /// Which head.
        head: Option<usize>,
        /// Which neuron.
        neuron: Option<usize>,
    },
    /// `components-90`: a subspace that holds a share of the embeddings' variance.
    Share {
        /// `components`, or `random` for as many random dimensions.
        of: String,
        /// Between 0 and 1.
        share: f64,
    },
}

/// A direction that is removed: one of a set, or the set's mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direction {
    /// The set: `pca`, `random`, a lens's causal basis.
    pub set: String,
    /// Which of the set, from 1; none: the mean over the set.
    pub number: Option<usize>,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{}-{number}", self.set),
            None => f.write_str(&self.set),
        }
    }
}

/// What the random directions are called together.
pub const TOGETHER: &str = "random-mean";

/// What the causal basis of a lens is called. `@` stands between subject and direction, `:` between a file and a tensor
/// in it.
pub fn basis_name(lens: &str) -> String {
    format!("{}.cbe", lens.replace(['@', ':'], "_"))
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => Ok(()),
            Self::Rung { of, rung } => write!(f, "{of}:{rung}"),
            Self::Less { of, less } => write!(f, "{of} less {less}"),
            Self::Without { of, direction } => write!(f, "{of}@{direction}"),
            Self::Pushed { of, strength } => write!(f, "{of}@{strength:+}"),
            Self::RandomMean { strength } => write!(f, "{TOGETHER}@{strength:+}"),
            Self::RandomTwin { of } => write!(f, "{of}-random"),
            Self::Corrected { of, correction } => write!(f, "{of}+{correction}"),
            Self::Scheduled { of: Some(lens), schedule, .. } => write!(f, "{schedule}|{lens}"),
            Self::Scheduled { of: None, schedule, .. } => f.write_str(schedule),
            Self::Step { of, step, anew } => write!(f, "{of}@{step}{}", if *anew { "+" } else { "" }),
            Self::Token { position, token } => write!(f, "{position}:{token}"),
            Self::Head { head, without } => {
                write!(f, "H{head}")?;
                without.iter().try_for_each(|change| write!(f, ":{change}"))
            }
            Self::Set { of, trained_on, tested_on: None } => write!(f, "{of}:{trained_on}"),
            Self::Set { of, trained_on, tested_on: Some(on) } => write!(f, "{of}:{trained_on}>{on}"),
            Self::Variant { of, prompt, variant } => {
                f.write_str(of)?;
                prompt.iter().try_for_each(|number| write!(f, ":{number}"))?;
                variant.iter().try_for_each(|variant| write!(f, ":{variant}"))
            }
            Self::Component { component, head, neuron } => {
                f.write_str(component)?;
                head.iter().chain(neuron).try_for_each(|number| write!(f, ":{number}"))
            }
            Self::Share { of, share } => write!(f, "{of}-{}", share * 100.0),
        }
    }
}

/// Whose number a row is. It reads like its text (`&str`), which is made from its parts and cannot be another.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Subject {
    text: String,
    parts: Parts,
}

impl Subject {
    /// The text, the column `subject`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it is made of.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }
}

impl From<Parts> for Subject {
    fn from(parts: Parts) -> Self {
        Self { text: parts.to_string(), parts }
    }
}

impl From<&str> for Subject {
    fn from(name: &str) -> Self {
        Self { text: name.to_owned(), parts: Parts::Name }
    }
}

impl From<String> for Subject {
    fn from(text: String) -> Self {
        Self { text, parts: Parts::Name }
    }
}

impl Deref for Subject {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl PartialEq<str> for Subject {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl PartialEq<&str> for Subject {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

impl PartialEq<String> for Subject {
    fn eq(&self, other: &String) -> bool {
        self.text == *other
    }
}

impl serde::Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
