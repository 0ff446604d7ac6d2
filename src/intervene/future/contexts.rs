//! Contexts: texts that end in the token T whose state is read, and who gets whose state in a control.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use super::FutureError;
use crate::{
    results::draw::draw,
    sources::text::{
        Format, Segment, TextError, Tokenizer, Window,
        reader::{Columns, DEFAULT_COLUMN, open_file},
    },
};

/// A context is a state of T and what led to it: with BOS alone there is nothing to read.
const LEAST: usize = 2;

/// `count` contexts drawn from `windows` (unpacked), every token but the first of a window as likely as any other;
/// which ones depends on (seed, document, place) only. In reading order.
///
/// # Errors
/// [`FutureError::NoContexts`].
pub fn drawn(windows: &[Window], count: usize, seed: u64) -> Result<Vec<Window>, FutureError> {
    let mut places = Vec::new();
    for (i, window) in windows.iter().enumerate() {
        let Some(segment) = window.segments.first() else { continue };
        let key = |len: usize| draw(seed, segment.doc_id, u64::from(segment.doc_pos) + len as u64);
        places.extend((LEAST..=window.ids.len()).map(|len| (key(len), i, len)));
    }
    places.sort_unstable();
    places.truncate(count);
    places.sort_unstable_by_key(|(_, i, len)| (*i, *len));
    if places.is_empty() {
        return Err(FutureError::NoContexts { least: LEAST });
    }
    Ok(places.into_iter().map(|(_, i, len)| start(&windows[i], len)).collect())
}

/// The first `len` tokens of a window.
fn start(window: &Window, len: usize) -> Window {
    let segments = window.segments.first().map(|s| Segment { len: len as u32, ..*s });
    Window { ids: window.ids[..len].to_vec(), segments: segments.into_iter().collect() }
}

/// Contexts that are whole texts, one per row of a data file: T is the last token. Of a longer one the last `seq_len`
/// tokens are kept, BOS in front of them where the tokenizer puts one.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Data files.
    pub paths: &'a [PathBuf],
    /// Column of the text.
    pub text_column: Option<&'a str>,
    /// Column that names a row's document, for intervals and for the shuffled control; none: every row is its own.
    pub document_column: Option<&'a str>,
    /// Most tokens of a context.
    pub seq_len: usize,
    /// Most contexts.
    pub count: usize,
}

impl Rows<'_> {
    /// Reads them. Rows without text are left out.
    ///
    /// # Errors
    /// When a file or a column cannot be read, or no row has enough tokens.
    pub fn read(&self, tokenizer: &Tokenizer) -> Result<Vec<Window>, FutureError> {
        let columns = Columns {
            text: self.text_column.unwrap_or(DEFAULT_COLUMN).to_owned(),
            others: self.document_column.iter().map(|c| (*c).to_owned()).collect(),
            chats: false,
        };
        let (mut contexts, mut documents) = (Vec::new(), HashMap::new());
        for path in self.paths {
            for row in open_file(path, Format::of(path)?, &columns)? {
                if contexts.len() == self.count {
                    break;
                }
                let row = row?;
                let name = row
                    .cells
                    .first()
                    .and_then(crate::sources::text::reader::RecordCell::name)
                    .unwrap_or(row.place);
                let next = documents.len() as u64;
                let doc = *documents.entry(name).or_insert(next);
                contexts.extend(self.context(tokenizer, &row.text, doc)?);
            }
        }
        if contexts.is_empty() {
            return Err(FutureError::NoContexts { least: LEAST });
        }
        Ok(contexts)
    }

    fn context(&self, tokenizer: &Tokenizer, text: &str, doc_id: u64) -> Result<Option<Window>, TextError> {
        let mut ids = tokenizer.encode(text)?;
        let (all, bos) = (ids.len(), &tokenizer.bos().prefix);
        if all > self.seq_len {
            ids.drain(..all - self.seq_len);
            ids.iter_mut().zip(bos).for_each(|(id, bos)| *id = *bos);
        }
        let len = ids.len() as u32;
        let segment = Segment {
            doc_id,
            doc_pos: all as u32 - len,
            doc_len: all as u32,
            offset: 0,
            len,
            ..Segment::default()
        };
        Ok((ids.len() >= LEAST).then(|| Window { ids, segments: vec![segment] }))
    }
}

/// For every context another one, of another document, each taken once: documents in an order drawn from the seed,
/// their contexts one after the other, and everybody takes from as many places further on as the largest document has
/// contexts.
///
/// # Errors
/// [`FutureError::NoDerangement`] when one document has more than half of the contexts.
pub fn derangement(docs: &[u64], seed: u64) -> Result<Vec<i64>, FutureError> {
    let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
    for doc in docs {
        *sizes.entry(*doc).or_insert(0) += 1;
    }
    let (contexts, largest) = (docs.len(), sizes.values().copied().max().unwrap_or(0));
    if contexts == 0 || 2 * largest > contexts {
        return Err(FutureError::NoDerangement { contexts, largest });
    }
    let mut order: Vec<usize> = (0..contexts).collect();
    order.sort_by_key(|i| (draw(seed, docs[*i], 0), docs[*i], draw(seed, docs[*i], 1 + *i as u64)));
    let mut from = vec![0; contexts];
    for (place, i) in order.iter().enumerate() {
        from[*i] = order[(place + largest) % contexts] as i64;
    }
    Ok(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(doc_id: u64, n: u32) -> Window {
        let segments =
            vec![Segment { doc_id, doc_pos: 0, doc_len: n, offset: 0, len: n, ..Segment::default() }];
        Window { ids: (0..n).collect(), segments }
    }

    #[test]
    fn nobody_gets_a_state_of_its_own_document() {
        let docs: Vec<u64> = [vec![7; 5], vec![1; 4], vec![2; 3], vec![9]].concat();
        for seed in 0..20 {
            let from = derangement(&docs, seed).unwrap();
            assert!(from.iter().enumerate().all(|(i, j)| docs[i] != docs[*j as usize]), "{seed}: {from:?}");
            let mut all = from.clone();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..13), "a permutation");
        }
        assert_ne!(derangement(&docs, 0).unwrap(), derangement(&docs, 1).unwrap());
        assert!(matches!(
            derangement(&[3, 3, 3, 1, 2], 0),
            Err(FutureError::NoDerangement { largest: 3, .. })
        ));
        assert!(matches!(derangement(&[], 0), Err(FutureError::NoDerangement { contexts: 0, .. })));
    }

    #[test]
    fn draws_are_starts_of_windows_and_do_not_depend_on_how_many() {
        let windows = [window(0, 9), window(1, 1), window(2, 6)];
        let some = drawn(&windows, 4, 5).unwrap();
        let all = drawn(&windows, 100, 5).unwrap();
        assert_eq!((some.len(), all.len()), (4, 8 + 5)); // of 9 tokens the last 8, of 1 none, of 6 the last 5
        assert!(some.iter().all(|w| all.contains(w) && w.segments[0].len as usize == w.ids.len()));
        assert!(matches!(drawn(&windows[1..2], 4, 5), Err(FutureError::NoContexts { .. })));
    }
}
