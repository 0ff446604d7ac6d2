//! What to run and what to read: windows for the model, and for every label the rows that its state is made from.

use super::error::LabelledError;
use super::label::LabelValues;
use super::positions::LabelPositions;
use super::set::{LabelledSet, one_line};
use super::share::Share;
use super::skipped::Skipped;
use crate::sources::text::{Segment, Tokenizer, Window};
use rayon::prelude::*;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

/// One state to read, with what belongs to it. Its label is in [`Plan::labels`], at the item's own place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The window, by its place in [`Plan::windows`].
    pub window: u32,
    /// The text, by its place in [`LabelledSet::texts`].
    pub text: u32,
    /// Positions in the window, never none: the state is the mean over them, and of one it is the state itself.
    pub rows: Range<u32>,
    /// The label's place in [`LabelledSet::targets`].
    pub target: u32,
    /// The group: what a split keeps together and a bootstrap draws.
    pub group: u32,
    /// The type for a control task, by its place in [`Plan::words`]: the word, the span's text, or for `all` the
    /// token. A text as a whole has none.
    pub word: Option<u32>,
}

/// What to run and what to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One window for every text with an item, in the order of the texts. BOS is in front as the tokenizer's policy has
    /// it, and rows count from it, as `pos` does in an export.
    pub windows: Vec<Window>,
    /// In the order of windows, then of targets, then of rows.
    pub items: Vec<Item>,
    /// A label per item, over the set's vocabulary.
    pub labels: LabelValues,
    /// The types that items have.
    pub words: Vec<String>,
    /// What the items are read from.
    pub positions: LabelPositions,
    /// What is not read as it stands.
    pub skipped: Skipped,
}

impl Plan {
    /// Plans to read every label of `set` at `positions`, with windows of at most `context` tokens, BOS included.
    ///
    /// # Errors
    /// Positions that the set does not have, a tokenizer that fails, a context without room, or labels that no longer
    /// differ once the items that cannot be read are left out.
    pub fn new(
        set: &LabelledSet,
        tokenizer: &Tokenizer,
        positions: LabelPositions,
        context: usize,
    ) -> Result<Self, LabelledError> {
        let positions = LabelPositions::resolve(Some(positions), set.unit)?;
        if context < 2 {
            return Err(LabelledError::NoRoom { context });
        }
        let share = |text| Share::new(set, text, tokenizer, positions, context);
        let shares: Vec<_> = (0..set.texts.len()).into_par_iter().map(share).collect::<Result<_, _>>()?;
        let mut plan = Self {
            windows: Vec::new(),
            items: Vec::new(),
            labels: LabelValues::Numbers(Vec::new()),
            words: Vec::new(),
            positions,
            skipped: Skipped::default(),
        };
        let mut words = HashMap::new();
        for (text, share) in shares.into_iter().enumerate() {
            plan.skipped.note(set, text, &share);
            plan.add(set, text, share, &mut words);
        }
        if plan.items.is_empty() {
            return Err(LabelledError::NothingPlanned { left_out: one_line(&plan.skipped) });
        }
        let targets: Vec<_> = plan.items.iter().map(|item| item.target).collect();
        plan.labels = set.labels.select(&targets);
        plan.labels.check_differ(" where they can be read")?;
        Ok(plan)
    }

    fn add(&mut self, set: &LabelledSet, text: usize, share: Share, words: &mut HashMap<String, u32>) {
        if share.items.is_empty() {
            return;
        }
        let len = share.ids.len() as u32;
        let segment = Segment {
            doc_id: set.texts[text].doc_id,
            doc_pos: 0,
            doc_len: len,
            offset: 0,
            len,
            ..Segment::default()
        };
        let (window, group) = (self.windows.len() as u32, set.texts[text].group);
        self.windows.push(Window { ids: share.ids, segments: vec![segment] });
        for (target, rows, form) in share.items {
            let word = form.map(|form| {
                *words.entry(form).or_insert_with_key(|form| {
                    self.words.push(form.clone());
                    self.words.len() as u32 - 1
                })
            });
            self.items.push(Item { window, text: text as u32, rows, target: target as u32, group, word });
        }
    }

    /// Gives the items other classes: those of the old class c have the new class `to[c]`, or go, and with them windows
    /// that have no other. Numbers stay as they are.
    pub fn regroup(&mut self, to: &[Option<u32>], names: &[String]) {
        let LabelValues::Classes { y, .. } = &self.labels else { return };
        let new: Vec<Option<u32>> = y.iter().map(|class| to[*class as usize]).collect();
        let mut place = vec![None; self.windows.len()];
        let mut kept = 0;
        for (item, _) in self.items.iter().zip(&new).filter(|(_, class)| class.is_some()) {
            place[item.window as usize].get_or_insert_with(|| {
                kept += 1;
                kept - 1
            });
        }
        let mut windows = place.iter();
        self.windows.retain(|_| windows.next().is_some_and(Option::is_some));
        let mut classes = new.iter();
        self.items.retain(|_| classes.next().is_some_and(Option::is_some));
        for item in &mut self.items {
            item.window = place[item.window as usize].unwrap_or(item.window);
        }
        self.labels = LabelValues::Classes { y: new.into_iter().flatten().collect(), names: names.to_vec() };
    }

    /// The items of a window, as places in [`items`](Self::items).
    pub fn items_of(&self, window: u32) -> Range<usize> {
        let before = |bound: u32| self.items.partition_point(|item| item.window < bound);
        before(window)..before(window + 1)
    }
}

/// A few lines for people.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = || self.windows.iter().map(|window| window.ids.len());
        let (tokens, longest) = (lengths().sum::<usize>(), lengths().max().unwrap_or(0));
        let (items, windows, positions) = (self.items.len(), self.windows.len(), self.positions);
        let texts = if windows == 1 { "text" } else { "texts" };
        write!(
            f,
            "{:<10} {items} at position {positions} of {windows} {texts}, {tokens} tokens (longest {longest})",
            "items"
        )?;
        write!(f, "{}", self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::labelled::set::tests::open;
    use crate::sources::labelled::{LabelledOptions, Noted};
    use crate::sources::text::BosPolicy;
    use std::path::Path;

    fn gpt2(policy: BosPolicy) -> Tokenizer {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gpt2-alice-8l");
        Tokenizer::load(&dir, policy).expect("the fixture loads")
    }

    fn set(csv: &str) -> LabelledSet {
        let span_columns = csv.starts_with("text,label,start").then(|| ("start".into(), "end".into()));
        open("a.csv", csv, &LabelledOptions { span_columns, ..Default::default() }).unwrap()
    }

    fn rows(plan: &Plan) -> Vec<(u32, Range<u32>)> {
        plan.items.iter().map(|item| (item.window, item.rows.clone())).collect()
    }

    const TEXTS: &str = "text,label\nAlice was beginning,0\n\" the  end\",1\n";

    #[test]
    fn positions_of_a_text_with_and_without_bos() {
        let set = set(TEXTS);
        for (policy, bos) in [(BosPolicy::Always, 1), (BosPolicy::Never, 0)] {
            let tokenizer = gpt2(policy);
            let n = tokenizer.encode_content(&set.texts[0].text).unwrap().len() as u32;
            let m = tokenizer.encode_content(&set.texts[1].text).unwrap().len() as u32;
            let at = |positions| rows(&Plan::new(&set, &tokenizer, positions, 64).unwrap());
            assert_eq!(at(LabelPositions::First), [(0, bos..bos + 1), (1, bos..bos + 1)]);
            assert_eq!(at(LabelPositions::Last), [(0, bos + n - 1..bos + n), (1, bos + m - 1..bos + m)]);
            assert_eq!(at(LabelPositions::Mean), [(0, bos..bos + n), (1, bos..bos + m)]);
            let all: Vec<_> = (bos..bos + n).map(|i| (0, i..i + 1)).collect();
            assert_eq!(at(LabelPositions::All)[..n as usize], all);
            let plan = Plan::new(&set, &tokenizer, LabelPositions::All, 64).unwrap();
            assert_eq!(plan.items_of(1), n as usize..(n + m) as usize);
            for (window, text) in plan.windows.iter().zip(&set.texts) {
                assert_eq!(window.ids, tokenizer.encode(&text.text).unwrap());
            }
            let last = plan.items.last().unwrap();
            let raw = tokenizer.piece(*plan.windows[1].ids.last().unwrap()).raw;
            assert_eq!(plan.words[last.word.unwrap() as usize], raw);
            assert_eq!(plan.labels.len(), (n + m) as usize);
        }
    }

    #[test]
    fn pieces_of_a_span() {
        let set = set("text,label,start,end\nsaid Queen Alicezzq now,0,5,19\nsaid Alicezzq,1,0,4\n");
        let tokenizer = gpt2(BosPolicy::Always);
        let ids = tokenizer.encode_content("said Queen Alicezzq").unwrap();
        let (first, behind) =
            (tokenizer.encode_content("said").unwrap().len() as u32 + 1, ids.len() as u32 + 1);
        let at = |positions| rows(&Plan::new(&set, &tokenizer, positions, 64).unwrap())[0].1.clone();
        assert_eq!(at(LabelPositions::FirstPiece), first..first + 1);
        assert_eq!(at(LabelPositions::LastPiece), behind - 1..behind);
        assert_eq!(at(LabelPositions::MeanPiece), first..behind);
        assert!(behind - first > 2, "the made-up name has several pieces");
        let plan = Plan::new(&set, &tokenizer, LabelPositions::LastPiece, 64).unwrap();
        assert_eq!(plan.words, ["Queen Alicezzq", "said"]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let long = "word ".repeat(20);
        let set = set(&format!("text,label\na b,0\n{long},1\nc d,1\n"));
        let tokenizer = gpt2(BosPolicy::Always);
        let plan = Plan::new(&set, &tokenizer, LabelPositions::Last, 8).unwrap();
        assert_eq!((plan.windows.len(), plan.items.len()), (2, 2));
        assert_eq!(plan.windows[1].segments[0].doc_id, 2);
        let beyond = Noted { count: 1, first: Some("a.csv:3".into()) };
        assert_eq!((&plan.skipped.beyond, &plan.skipped.cut), (&beyond, &beyond));
        assert!(plan.to_string().contains("\nskipped    1 beyond the context (first a.csv:3)"), "{plan}");
        let plan = Plan::new(&set, &tokenizer, LabelPositions::Mean, 8).unwrap();
        assert_eq!(rows(&plan)[1], (1, 1..8));
        assert_eq!((plan.skipped.beyond.count, plan.skipped.cut.count), (0, 1));
        assert!(plan.windows.iter().all(|window| window.ids.len() <= 8));
        let error = Plan::new(&set, &tokenizer, LabelPositions::Last, 1).unwrap_err().to_string();
        assert_eq!(error, "a context of 1 tokens has no room for a text");
        let error = Plan::new(&set, &tokenizer, LabelPositions::LastPiece, 8).unwrap_err().to_string();
        assert!(error.starts_with("positions last-piece need spans"), "{error}");
    }

    #[test]
    fn labels_that_no_longer_differ() {
        let long = "word ".repeat(20);
        let set = set(&format!("text,label\na b,0\n{long},1\nc d,0\n"));
        let error =
            Plan::new(&set, &gpt2(BosPolicy::Always), LabelPositions::Last, 8).unwrap_err().to_string();
        assert_eq!(
            error,
            "all 2 labels are \"0\" where they can be read: a probe needs at least two classes"
        );
    }

    #[test]
    fn items_of_other_classes_and_windows_without_any() {
        let set = set("text,label\na b,x\nc d,y\ne f,z\ng h,x\n");
        let mut plan = Plan::new(&set, &gpt2(BosPolicy::Always), LabelPositions::All, 64).unwrap();
        let whole = plan.clone();
        // y goes, x and z change places.
        plan.regroup(&[Some(1), None, Some(0)], &["z".into(), "x".into()]);
        let docs: Vec<u64> = plan.windows.iter().map(|window| window.segments[0].doc_id).collect();
        assert_eq!(docs, [0, 2, 3]);
        assert_eq!(plan.items.len(), whole.items.len() - whole.items_of(1).len());
        let LabelValues::Classes { y, names } = &plan.labels else { panic!("classes") };
        for (window, class) in [(0, 1), (1, 0), (2, 1)] {
            let items = plan.items_of(window);
            assert!(!items.is_empty() && y[items].iter().all(|y| *y == class));
        }
        assert_eq!((names.join(""), y.len()), ("zx".into(), plan.items.len()));
        assert_eq!(plan.items.last().unwrap().text, 3);
    }

    #[test]
    fn words_that_share_a_token() {
        let word = |n, form, tag| format!("{n}\t{form}\t_\t{tag}\t_\t_\t_\t_\t_\tSpaceAfter=No\n");
        let text = word(1, "do", "AUX") + &word(2, "n't", "PART") + &word(3, "!", "PUNCT");
        let set = open("a.conllu", &text, &LabelledOptions::default()).unwrap();
        let tokenizer = gpt2(BosPolicy::Always);
        let plan = Plan::new(&set, &tokenizer, LabelPositions::FirstPiece, 64).unwrap();
        let first: Vec<_> = rows(&plan).into_iter().map(|(_, rows)| rows.start).collect();
        assert_eq!((first[0], first[1]), (1, plan.items[1].rows.start));
        let tokens = tokenizer.encode_placed("don't!", 64).unwrap();
        let shares = tokens.iter().all(|token| token.start != 2);
        assert_eq!(plan.skipped.shared.count, u64::from(shares));
    }

    #[test]
    fn threads_do_not_matter() {
        let set = set(TEXTS);
        let tokenizer = gpt2(BosPolicy::Auto);
        let plan = || Plan::new(&set, &tokenizer, LabelPositions::All, 64).unwrap();
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(plan), plan());
    }

    /// `fixtures/probes/statements.csv`: both orders of a pair have the same tokens, and the last one is the frame's.
    #[test]
    fn statements_cannot_be_told_apart_by_their_tokens() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/probes/statements.csv");
        let options = LabelledOptions { group_column: Some("pair".into()), ..Default::default() };
        let set = LabelledSet::open(&[path], &options).unwrap();
        let plan = Plan::new(&set, &gpt2(BosPolicy::Always), LabelPositions::Last, 64).unwrap();
        assert_eq!((plan.items.len(), set.groups.len()), (560, 28));
        let LabelValues::Classes { y, .. } = &plan.labels else { panic!("classes") };
        for (two, y) in plan.windows.chunks(2).zip(y.chunks(2)) {
            let bag = |window: &Window| {
                let mut ids = window.ids.clone();
                ids.sort_unstable();
                ids
            };
            assert_eq!((bag(&two[0]), two[0].ids.last()), (bag(&two[1]), two[1].ids.last()));
            assert_ne!(y[0], y[1]);
        }
    }
}
