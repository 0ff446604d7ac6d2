//! Labelled words of `.conllu`: which column is the label, and where every word stands in its sentence.

use super::conllu::{Sentence, Sentences, Token, Word};
use super::dropped::{Dropped, Raw, RawText};
use super::error::LabelledError;
use super::set::{LabelledOptions, Referent};
use crate::sources::text::TextError;
use crate::sources::text::reader::open;
use std::collections::BTreeSet;
use std::io::BufReader;
use std::ops::Range;
use std::path::Path;

/// What labels a word.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Upos,
    Xpos,
    Deprel,
    /// A key of FEATS, or of MISC.
    Feature(String),
}

/// Reads a file's sentences onto `raw`, each with its labelled words.
pub(super) fn read(path: &Path, options: &LabelledOptions, raw: &mut Raw) -> Result<(), LabelledError> {
    refuse(path, options)?;
    let column = options.label_column.as_deref().unwrap_or("UPOS");
    let name = path.display().to_string();
    let mut reader = Reader {
        key: Key::of(column),
        column,
        strict: options.strict,
        dropped: &mut raw.dropped,
        keys: BTreeSet::new(),
        found: false,
    };
    let before = raw.documents;
    for sentence in Sentences::new(name.clone(), BufReader::new(open(path)?)) {
        let text = reader.text(sentence?, raw.documents)?;
        raw.documents += 1;
        raw.texts.extend(text);
    }
    if !reader.found && raw.documents > before && matches!(reader.key, Key::Feature(_)) {
        let present = ["UPOS", "XPOS", "DEPREL"].map(str::to_owned).into_iter().chain(reader.keys).collect();
        return Err(TextError::NoColumn { place: name, column: column.into(), present }.into());
    }
    Ok(())
}

fn refuse(path: &Path, options: &LabelledOptions) -> Result<(), LabelledError> {
    let given = [
        (options.text_column.is_some(), "a text column"),
        (options.group_column.is_some(), "a group column"),
        (options.span_columns.is_some(), "a start and an end column"),
    ];
    match given.into_iter().find(|(given, _)| *given) {
        Some((_, option)) => Err(LabelledError::NotForConllu { path: path.into(), option }),
        None => Ok(()),
    }
}

impl Key {
    fn of(column: &str) -> Self {
        match column.to_ascii_lowercase().as_str() {
            "upos" => Self::Upos,
            "xpos" => Self::Xpos,
            "deprel" => Self::Deprel,
            _ => Self::Feature(column.into()),
        }
    }

    /// The word's label, unless it is `_`.
    fn label<'a>(&self, word: &'a Word) -> Option<&'a str> {
        let label = match self {
            Self::Upos => &word.upos,
            Self::Xpos => &word.xpos,
            Self::Deprel => &word.deprel,
            Self::Feature(key) => pairs(word).find(|(name, _)| name == key)?.1,
        };
        Some(label).filter(|label| !matches!(*label, "" | "_"))
    }
}

/// The `Key=Value` pairs of FEATS, then of MISC.
fn pairs(word: &Word) -> impl Iterator<Item = (&str, &str)> {
    word.feats.split('|').chain(word.misc.split('|')).filter_map(|pair| pair.split_once('='))
}

struct Reader<'a> {
    key: Key,
    column: &'a str,
    strict: bool,
    dropped: &'a mut Dropped,
    /// Keys of FEATS and MISC met, until one is the key asked for.
    keys: BTreeSet<String>,
    found: bool,
}

impl Reader<'_> {
    /// A sentence with its labelled words, if it has any.
    fn text(&mut self, sentence: Sentence, doc_id: u64) -> Result<Option<RawText>, LabelledError> {
        let spans = match locate(&sentence.text, &sentence.tokens) {
            Ok(spans) => spans,
            Err(lost) => {
                self.dropped.unaligned.add(|| format!("{}: {:?}", lost.place, lost.form));
                return Ok(None);
            }
        };
        let mut targets = Vec::new();
        for (token, span) in sentence.tokens.iter().zip(spans) {
            let Some(parts) = split(&sentence.text, span, &token.words) else {
                self.dropped.contracted.count += token.words.len() as u64 - 1;
                self.dropped.contracted.add(|| format!("{}: {:?}", token.place, token.form));
                continue;
            };
            for (word, span) in token.words.iter().zip(parts) {
                if let Some(label) = self.label(word, token)? {
                    let target = Referent { span: Some(span), form: Some(word.form.clone()) };
                    targets.push((target, label));
                }
            }
        }
        let Sentence { place, text, document: group, .. } = sentence;
        Ok((!targets.is_empty()).then_some(RawText { doc_id, place, text, chat: false, group, targets }))
    }

    /// The word's label; none where it has none, which is noted.
    fn label(&mut self, word: &Word, token: &Token) -> Result<Option<String>, LabelledError> {
        let label = self.key.label(word).map(str::to_owned);
        let place = || format!("{}: {:?}", token.place, word.form);
        let feature = matches!(self.key, Key::Feature(_));
        if feature && !self.found {
            self.keys.extend(pairs(word).map(|(name, _)| name.to_owned()));
        }
        match &label {
            Some(_) => self.found = true,
            None if feature => self.dropped.without_key.add(place),
            None if self.strict => {
                return Err(LabelledError::MissingLabel { place: place(), column: self.column.into() });
            }
            None => self.dropped.unlabelled.add(place),
        }
        Ok(label)
    }
}

/// The bytes of every token in the text, in order with nothing but space between; or the first token not there.
fn locate<'a>(text: &str, tokens: &'a [Token]) -> Result<Vec<Range<usize>>, &'a Token> {
    let mut at = 0;
    let mut place = |token: &'a Token| {
        let rest = text[at..].trim_start();
        let start = text.len() - rest.len();
        at = start + prefix(rest, &token.form, |a, b| a == b).ok_or(token)?;
        Ok(start..at)
    };
    tokens.iter().map(&mut place).collect()
}

/// The bytes of a token's words, where they spell it one after the other, in whatever case.
fn split(text: &str, token: Range<usize>, words: &[Word]) -> Option<Vec<Range<usize>>> {
    if words.len() == 1 {
        return Some(vec![token]);
    }
    let mut at = token.start;
    let mut parts = Vec::with_capacity(words.len());
    for word in words {
        let same = |a: char, b: char| a == b || a.to_lowercase().eq(b.to_lowercase());
        let len = prefix(&text[at..token.end], &word.form, same)?;
        parts.push(at..at + len);
        at += len;
    }
    (at == token.end).then_some(parts)
}

/// Bytes of `text` that `form` is the start of. One kind of space is as good as another.
fn prefix(text: &str, form: &str, same: impl Fn(char, char) -> bool) -> Option<usize> {
    let mut chars = text.char_indices();
    for wanted in form.chars() {
        let (_, found) = chars.next()?;
        if !(same(found, wanted) || found.is_whitespace() && wanted.is_whitespace()) {
            return None;
        }
    }
    Some(chars.next().map_or(text.len(), |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::labelled::set::tests::open;
    use crate::sources::labelled::{LabelValues, LabelledSet, Unit};

    fn line(id: &str, form: &str, upos: &str, feats: &str) -> String {
        format!("{id}\t{form}\t_\t{upos}\tX\t{feats}\t_\tdep\t_\tNote=1\n")
    }

    /// (form, text of its span, label) of every target.
    fn read(set: &LabelledSet) -> Vec<(String, String, String)> {
        let LabelValues::Classes { y, names } = &set.labels else { panic!("classes") };
        let one = |(i, target): (usize, &'_ Referent)| {
            let text = &set.texts[set.text_of(i)].text;
            let span = target.span.clone().unwrap();
            (target.form.clone().unwrap(), text[span].to_owned(), names[y[i] as usize].clone())
        };
        set.targets.iter().enumerate().map(one).collect()
    }

    fn triples(expected: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
        expected.iter().map(|(a, b, c)| ((*a).into(), (*b).into(), (*c).into())).collect()
    }

    fn with(column: &str) -> LabelledOptions {
        LabelledOptions { label_column: Some(column.into()), ..Default::default() }
    }

    fn french() -> String {
        [
            "# newdoc id = d\n# text = Où va l'été\u{A0}? Il parle du 10\u{A0}000, CAN'T\n",
            &line("1", "Où", "ADV", "_"),
            &line("2", "va", "VERB", "Number=Sing"),
            &line("3", "l'", "DET", "Number=Sing"),
            &line("4", "été", "NOUN", "Number=Sing"),
            &line("5", "?", "PUNCT", "_"),
            &line("6", "Il", "PRON", "_"),
            &line("7", "parle", "VERB", "_"),
            &line("8-9", "du", "_", "_"),
            &line("8", "de", "ADP", "_"),
            &line("9", "le", "DET", "Number=Sing"),
            &line("10", "10 000", "NUM", "_"),
            &line("10.1", "x", "NOUN", "Number=Plur"),
            &line("11", ",", "_", "_"),
            &line("12-13", "CAN'T", "_", "_"),
            &line("12", "ca", "AUX", "_"),
            &line("13", "n't", "PART", "_"),
        ]
        .concat()
    }

    #[test]
    fn words_stand_where_their_letters_are() {
        let set = open("a.conllu", &french(), &LabelledOptions::default()).unwrap();
        assert_eq!(set.dropped.contracted.first.as_deref(), Some("a.conllu:10: \"du\""));
        let expected = [
            ("Où", "Où", "ADV"),
            ("va", "va", "VERB"),
            ("l'", "l'", "DET"),
            ("été", "été", "NOUN"),
            ("?", "?", "PUNCT"),
            ("Il", "Il", "PRON"),
            ("parle", "parle", "VERB"),
            ("10 000", "10\u{A0}000", "NUM"),
        ];
        assert_eq!(read(&set)[..8], triples(&expected));
        assert_eq!(read(&set)[8..], triples(&[("ca", "CA", "AUX"), ("n't", "N'T", "PART")]));
        assert_eq!(set.dropped.contracted.count, 2, "de and le");
        assert_eq!(set.dropped.unlabelled.first.as_deref(), Some("a.conllu:15: \",\""));
        assert_eq!((set.unit, &*set.groups[0]), (Unit::Word, "d"));
    }

    #[test]
    fn a_feature_or_misc_key_labels_words_that_have_it() {
        let set = open("a.conllu", &french(), &with("Note")).unwrap();
        assert_eq!(read(&set)[..1], triples(&[("Où", "Où", "1")]));
        let error = open("a.conllu", &french(), &with("Nummber")).unwrap_err();
        let columns = "columns here: \"UPOS\", \"XPOS\", \"DEPREL\", \"Note\", \"Number\"";
        let says = format!("a.conllu: no column \"Nummber\" (did you mean \"Number\"?), {columns}");
        assert_eq!(error, says);
        let set = open("a.conllu", &french(), &with("Number")).unwrap();
        assert_eq!(read(&set).len(), 3);
        assert!(set.dropped.without_key.count > 0 && set.dropped.unlabelled.count == 0);
    }

    #[test]
    fn sentences_that_do_not_hold_their_words_are_named() {
        let good = "# text = a b\n".to_owned() + &line("1", "a", "X", "_") + &line("2", "b", "Y", "_") + "\n";
        let bad = "# text = a c\n".to_owned() + &line("1", "a", "X", "_") + &line("2", "b", "Y", "_");
        let set = open("a.conllu", &(good + &bad), &LabelledOptions::default()).unwrap();
        assert_eq!((set.texts.len(), set.targets.len()), (1, 2));
        assert_eq!(set.dropped.unaligned.count, 1);
        assert_eq!(set.dropped.unaligned.first.as_deref(), Some("a.conllu:7: \"b\""));
    }

    #[test]
    fn options_without_a_meaning_and_strict() {
        let group = LabelledOptions { group_column: Some("g".into()), ..Default::default() };
        let error = open("a.conllu", "", &group).unwrap_err();
        assert!(error.starts_with("a.conllu: a group column does not apply to CoNLL-U"), "{error}");
        let strict = LabelledOptions { strict: true, ..Default::default() };
        let error = open("a.conllu", &french(), &strict).unwrap_err();
        assert_eq!(error, "a.conllu:15: \",\": no \"UPOS\" (--strict asks for a label in every row)");
    }
}
