//! The part of the tour that changes the model.

use super::{
    super::{exit::Failure, output::Output},
    Demo,
};

/// The runs that it leaves for the report.
pub(super) const RUNS: [&str; 9] =
    ["generate", "schedule", "trace", "patch", "steer", "later", "think", "space", "causal"];

impl Demo {
    /// Edits, blocks left out, patches, pushes, and what one state knows of later tokens.
    pub(super) fn changes(&self, model: &str) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let path = |name: &str| self.out.join(name).display().to_string();
        let (data, pairs) = (path("held-out.jsonl"), path("pairs.csv"));
        let run = |command: &str, name: &str, words: &str, paths: &[(&str, &str)]| {
            let (out, words) = (path(name), typed(words));
            let mut all: Vec<&str> = command.split(' ').chain(["--model", model]).collect();
            all.extend(paths.iter().flat_map(|(flag, path)| [*flag, *path]));
            all.extend(words.iter().map(String::as_str));
            all.extend(["--out", &out]);
            self.step(&all)
        };
        output.note("\n9. What does the model use of all this? Change it, and see what follows.");
        output.note("   Texts that go on after the state of their last word was wiped out in layer 4:\n");
        let words =
            r#"--text "Alice looked up at the old" --text "Then the king said to the" --max-new-tokens 24"#;
        let edit = "--edit blocks.4.hook_resid_pre@-1:zero";
        run("generate", "generate", &format!("{words} {edit}"), &[])?;
        output.note("\n   Blocks left out, one by one, and the middle ones in another order:\n");
        run("schedule", "schedule", "--tokens 1500 --deletions --painters", &[("--data", &data)])?;
        output.note("\n   Two prompts that differ in one word: which states turn the one into the other? Up to layer 5 the");
        output.note("   word's own, from layer 6 on the last one's: attention in block 5 carries it over.\n");
        let words = r#"--clean "She took the hat, and then" --corrupted "He took the hat, and then""#;
        let answers = r#"--answer " she" --foil " he" --metric logit-diff"#;
        run("trace", "trace", &format!("{words} {answers}"), &[])?;
        output.note("\n   A prompt that repeats what it is given, given the states of another one:\n");
        let words = r#"--source "Alice was beginning to get very tired" --position all --layers 2,4,6,8"#;
        run("patch", "patch", words, &[])?;
        output.note(
            "\n   A direction from pairs of sentences with man and woman in each other's places, beside",
        );
        output.note("   random ones:\n");
        let words = r#"--tokens 1000 --layers 2,4,6,8 --strengths=-0.25,0.25 --toward " she" --away " he""#;
        run("steer", "steer", words, &[("--data", &data), ("--pairs", &pairs)])?;
        output.note("\n   What one state knows of the tokens after the next: by a map, and by prompts that get the state.\n");
        let (fit, linear, soft) = (path("fit.jsonl"), path("future"), path("soft"));
        let shared = "--layers 4,6 --horizons 2 --seq-len 64 --contexts";
        run("lens fit", "soft", &format!("--kind future-prompt {shared} 240"), &[("--data", &fit)])?;
        let paths = [("--data", &*data), ("--lens", &linear), ("--lens", &soft)];
        run("future", "later", &format!("--at drawn {shared} 160"), &paths)?;
        output.note("\n   Hidden states fed back in place of words: what are such thoughts, and does the answer need them?\n");
        let data = [("--data", &*data)];
        run("think", "think", "--prompts 40 --steps 3 --max-new-tokens 8", &data)?;
        run("think space", "space", "--tokens 4000", &data)?;
        output.note("\n   And the lenses themselves: does the model go by what they go by?\n");
        let (words, tuned) = ("--tokens 1500 --layers 2,6 --directions 3 --basis-tokens 256", path("tuned"));
        run("lens causal", "causal", words, &[data[0], ("--lens", &tuned)])
    }
}

/// Words as a shell would take them: split at spaces, but not between double quotes.
fn typed(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (i, part) in line.split('"').enumerate() {
        if i % 2 == 1 {
            words.last_mut().into_iter().for_each(|word| word.push_str(part));
            continue;
        }
        let mut plain = part.split(' ');
        let rest = plain.next().unwrap_or_default();
        words.last_mut().into_iter().for_each(|word| word.push_str(rest));
        words.extend(plain.map(str::to_owned));
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::typed;

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(
            typed(r#"--away " he" --strengths=-1,1  "a b""#),
            ["--away", " he", "--strengths=-1,1", "a b"]
        );
    }
}
