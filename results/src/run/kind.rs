//! What the subject of a row is.

use std::{fmt, str::FromStr};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What the subject of a row of `metrics.parquet` is: the column `kind`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RowKind { $($(#[$doc])* $variant,)* }

        impl RowKind {
            /// Every kind there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The kind as it stands in files.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    /// The model as it is.
    Model = "model",
    /// What looks at no hidden state: unigram, bigram, the majority, a constant.
    Baseline = "baseline",
    /// One subject less another, or a layer less the one before.
    Difference = "difference",
    /// The logit lens.
    Logit = "logit",
    /// A tuned lens.
    Tuned = "tuned",
    /// A lens that all layers share.
    Shared = "shared",
    /// A linear lens.
    Linear = "linear",
    /// A Jacobian lens.
    Jacobian = "jacobian",
    /// A future lens.
    Future = "future",
    /// A linear map straight to the logits of a later token.
    FutureVocab = "future-vocab",
    /// A fixed prompt into which states are put.
    FutureFixed = "future-fixed",
    /// A learned prompt into which states are put.
    FuturePrompt = "future-prompt",
    /// A lens that reads a thought.
    Lens = "lens",
    /// A layer's translator on a layer's states.
    Transfer = "transfer",
    /// The same on states made to look like those of the translator's layer.
    TransferCorrected = "transfer-corrected",
    /// Another lens on the same states as a transfer.
    Reader = "reader",
    /// The sharing score of a lens.
    Sharing = "sharing",
    /// How alike layers are.
    Geometry = "geometry",
    /// A probe on its own test part.
    Probe = "probe",
    /// A saved probe on other data.
    Applied = "applied",
    /// The probe of one set on the test part of a set.
    Generalisation = "generalisation",
    /// The probe of one layer on the states of a layer.
    ProbeTransfer = "probe-transfer",
    /// A target of the law of next-token prediction.
    Law = "law",
    /// A direction that is pushed along.
    Steer = "steer",
    /// A random direction of the same length: the control.
    SteerRandom = "steer-random",
    /// A vector learnt to make the model say a sentence.
    SteerSentence = "steer-sentence",
    /// Pairs of which a direction is made.
    SteerPairs = "steer-pairs",
    /// A position whose state is put into another run.
    Patch = "patch",
    /// A position whose state is restored in a run with noise.
    Trace = "trace",
    /// A prompt into which a state is put.
    Patchscope = "patchscope",
    /// A schedule of blocks at the last layer.
    Schedule = "schedule",
    /// What an attention head looks at.
    Head = "head",
    /// The model without some attention heads.
    HeadAblation = "head-ablation",
    /// A thought fed back.
    Thought = "thought",
    /// What a thought is replaced with.
    Replacement = "replacement",
    /// A subspace of the embeddings.
    Space = "space",
    /// Random subspaces of as many dimensions.
    SpaceRandom = "space-random",
    /// A component of the network that writes to the stream; together they are the logit.
    Attribution = "attribution",
    /// Several components together: a block's attention, what was written before a layer.
    AttributionSum = "attribution-sum",
    /// A part of a component: a neuron of an MLP.
    AttributionPart = "attribution-part",
    /// A generated text.
    Generate = "generate",
    /// The comparison with a reference.
    Parity = "parity",
}

impl RowKind {
    /// Whether it is a lens (of `lens eval` or `future`), rather than the model, a baseline or a difference.
    pub fn is_read(self) -> bool {
        !matches!(self, Self::Model | Self::Baseline | Self::Difference)
    }

    /// Whether it looks at no lens: the model as it is, and what has no hidden state.
    pub fn is_level(self) -> bool {
        matches!(self, Self::Model | Self::Baseline)
    }
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl serde::Serialize for RowKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for RowKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("the kind `{text}` is not known to this version"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_unlike_each_other() {
        for kind in RowKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
        }
        let error = "probes".parse::<RowKind>().unwrap_err();
        assert_eq!(error, "the kind `probes` is not known to this version");
    }
}
