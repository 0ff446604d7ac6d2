//! CoNLL-U: sentences of words in ten columns, as <https://universaldependencies.org/format.html> has it.

use super::error::LabelledError;
use crate::sources::text::TextError;
use crate::sources::text::reader::BOM;
use std::io::BufRead;

/// A word: what annotation belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) form: String,
    pub(super) upos: String,
    pub(super) xpos: String,
    pub(super) feats: String,
    pub(super) deprel: String,
    pub(super) misc: String,
}

/// A piece of the surface: a word, or a multiword token with its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// File and line.
    pub(super) place: String,
    pub(super) form: String,
    pub(super) space_after: bool,
    pub(super) words: Vec<Word>,
}

/// A sentence. Empty nodes (`8.1`) are not in it: they have no surface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sentence {
    /// File and first line of tokens.
    pub(super) place: String,
    /// The `# newdoc id` that it stands under; the line where the document has no id.
    pub(super) document: Option<String>,
    /// `# text`, or the forms joined as `SpaceAfter` says.
    pub(super) text: String,
    pub(super) tokens: Vec<Token>,
}

/// A streaming reader of sentences. It ends after the first error.
pub(super) struct Sentences<R> {
    name: String,
    input: R,
    line: u64,
    offset: u64,
    document: Option<String>,
    ended: bool,
}

/// The sentence being read.
#[derive(Default)]
struct Open {
    text: Option<String>,
    tokens: Vec<Token>,
    /// Number of the last word.
    words: usize,
    /// Last word of the multiword token being read.
    until: usize,
}

impl<R: BufRead> Sentences<R> {
    pub(super) fn new(name: String, input: R) -> Self {
        Self { name, input, line: 0, offset: 0, document: None, ended: false }
    }

    /// The next line without its end; nothing at the end of the file.
    fn next_line(&mut self) -> Result<Option<String>, LabelledError> {
        let mut bytes = Vec::new();
        let read =
            self.input.read_until(b'\n', &mut bytes).map_err(|source| TextError::io(&self.name, source))?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        let from = if self.line == 1 && bytes.starts_with(BOM) { BOM.len() } else { 0 };
        let line = std::str::from_utf8(&bytes[from..]).map_err(|error| TextError::InvalidUtf8 {
            place: self.place(),
            offset: self.offset + (from + error.valid_up_to()) as u64,
            within: "file",
        })?;
        self.offset += read as u64;
        Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()))
    }

    fn place(&self) -> String {
        format!("{}:{}", self.name, self.line)
    }

    fn advance(&mut self) -> Result<Option<Sentence>, LabelledError> {
        let mut open = Open::default();
        loop {
            let line = self.next_line()?;
            match line.as_deref() {
                Some(line) if line.starts_with('#') => self.comment(line, &mut open),
                Some(line) if !line.trim().is_empty() => {
                    open.token(line, self.place()).map_err(|message| self.bad(message))?;
                }
                _ if open.tokens.is_empty() && line.is_some() => open = Open::default(),
                _ => return open.finish(self.document.clone()).map_err(|message| self.bad(message)),
            }
        }
    }

    fn comment(&mut self, line: &str, open: &mut Open) {
        let (key, value) = line[1..].split_once('=').unwrap_or((&line[1..], ""));
        match (key.trim(), value.trim()) {
            ("newdoc", _) => self.document = Some(self.place()),
            ("newdoc id", id) => self.document = Some(id.to_owned()),
            ("text", text) => open.text = Some(text.to_owned()),
            _ => {}
        }
    }

    fn bad(&self, message: String) -> LabelledError {
        LabelledError::Conllu { place: self.place(), message }
    }
}

impl<R: BufRead> Iterator for Sentences<R> {
    type Item = Result<Sentence, LabelledError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let sentence = self.advance().transpose();
        self.ended = !matches!(sentence, Some(Ok(_)));
        sentence
    }
}

impl Open {
    fn token(&mut self, line: &str, place: String) -> Result<(), String> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, form, _, upos, xpos, feats, _, deprel, _, misc] = fields[..] else {
            return Err(format!("expected 10 columns with tabs between, got {}", fields.len()));
        };
        if form.trim().is_empty() {
            return Err(format!("token {id:?} has no form"));
        }
        let surface = |words| Token {
            place,
            form: form.into(),
            space_after: !misc.split('|').any(|entry| entry == "SpaceAfter=No"),
            words,
        };
        let next = self.words + 1;
        match numbers(id).ok_or_else(|| format!("{id:?} is no token number"))? {
            Number::Empty => {}
            Number::Range(first, last) if first == next && last > first && self.words >= self.until => {
                self.until = last;
                self.tokens.push(surface(Vec::new()));
            }
            Number::Word(n) if n == next => {
                let [form, upos, xpos, feats, deprel, misc] =
                    [form, upos, xpos, feats, deprel, misc].map(str::to_owned);
                let word = Word { form, upos, xpos, feats, deprel, misc };
                self.words = n;
                match self.tokens.last_mut().filter(|_| n <= self.until) {
                    Some(token) => token.words.push(word),
                    None => self.tokens.push(surface(vec![word])),
                }
            }
            _ => return Err(format!("token {id:?} out of order, the next word is {next}")),
        }
        Ok(())
    }

    fn finish(self, document: Option<String>) -> Result<Option<Sentence>, String> {
        let Some(first) = self.tokens.first() else { return Ok(None) };
        if self.words < self.until {
            return Err(format!("the sentence ends inside a multiword token, before word {}", self.until));
        }
        let place = first.place.clone();
        let text = self.text.filter(|text| !text.is_empty()).unwrap_or_else(|| joined(&self.tokens));
        Ok(Some(Sentence { place, document, text, tokens: self.tokens }))
    }
}

fn joined(tokens: &[Token]) -> String {
    let spaced = |token: &Token| token.form.clone() + if token.space_after { " " } else { "" };
    tokens.iter().map(spaced).collect::<String>().trim_end().to_owned()
}

enum Number {
    Word(usize),
    Range(usize, usize),
    Empty,
}

/// `3`, `3-4` or `3.1`.
fn numbers(id: &str) -> Option<Number> {
    if let Some((first, last)) = id.split_once('-') {
        return Some(Number::Range(first.parse().ok()?, last.parse().ok()?));
    }
    if let Some((word, node)) = id.split_once('.') {
        return word.parse::<usize>().ok().zip(node.parse::<usize>().ok()).map(|_| Number::Empty);
    }
    id.parse().ok().map(Number::Word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, form: &str, misc: &str) -> String {
        format!("{id}\t{form}\t_\tX\tY\tF=1\t_\tdep\t_\t{misc}\n")
    }

    fn read(text: &str) -> Result<Vec<Sentence>, String> {
        let sentences = Sentences::new("a.conllu".into(), text.as_bytes());
        sentences.map(|sentence| sentence.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn words_contractions_empty_nodes_and_documents() {
        let text = [
            "\u{FEFF}# newdoc id = d1\r\n# sent_id = 1\r\n# text = I don't.\r\n",
            &line("1", "I", "_"),
            &line("2-3", "don't", "A=b|SpaceAfter=No"),
            &line("2", "do", "_"),
            &line("3", "n't", "_"),
            &line("3.1", "gone", "_"),
            &line("4", ".", "_"),
            "\n\n",
            &line("1", "No", "SpaceAfter=No"),
            &line("2", "text", "_"),
            "\n# newdoc\n",
            &line("1", "End", "_"),
        ]
        .concat();
        let sentences = read(&text).unwrap();
        assert_eq!(
            sentences.iter().map(|s| s.text.as_str()).collect::<Vec<_>>(),
            ["I don't.", "Notext", "End"]
        );
        let documents: Vec<_> = sentences.iter().map(|s| s.document.as_deref().unwrap()).collect();
        assert_eq!(documents, ["d1", "d1", "a.conllu:15"]);
        let forms = |token: &Token| token.words.iter().map(|word| word.form.clone()).collect::<Vec<_>>();
        assert_eq!(forms(&sentences[0].tokens[1]), ["do", "n't"]);
        assert_eq!(sentences[0].tokens.len(), 3);
        assert!(!sentences[0].tokens[1].space_after);
        assert_eq!(sentences[0].place, "a.conllu:4");
    }

    #[test]
    fn malformed_lines_are_named() {
        let one = line("1", "a", "_");
        let cases = [
            ("1\ta\tb\n".to_owned(), "a.conllu:1: bad conllu: expected 10 columns with tabs between, got 3"),
            (
                one.clone() + &line("3", "b", "_"),
                "a.conllu:2: bad conllu: token \"3\" out of order, the next word is 2",
            ),
            (line("x", "b", "_"), "a.conllu:1: bad conllu: \"x\" is no token number"),
            (
                line("1-2", "ab", "_") + &one,
                "a.conllu:2: bad conllu: the sentence ends inside a multiword token, before word 2",
            ),
            (
                line("2-1", "ab", "_"),
                "a.conllu:1: bad conllu: token \"2-1\" out of order, the next word is 1",
            ),
            (line("1", " ", "_"), "a.conllu:1: bad conllu: token \"1\" has no form"),
        ];
        for (text, message) in cases {
            assert_eq!(read(&text).unwrap_err(), message);
        }
        let bytes = [one.as_bytes(), b"\n# \xFF\n"].concat();
        let mut sentences = Sentences::new("a.conllu".into(), &bytes[..]);
        assert!(!sentences.next().unwrap().unwrap().tokens.is_empty());
        let error = sentences.next().unwrap().unwrap_err().to_string();
        assert_eq!(error, format!("a.conllu:3: invalid UTF-8 at byte {} of the file", one.len() + 3));
        assert!(sentences.next().is_none());
        assert!(read("").unwrap().is_empty());
        assert!(read("# text = x\n\n").unwrap().is_empty());
    }
}
