//! What heads are measured on: a text, one prompt, or random tokens said twice.

use super::Attention;
use crate::{
    attention::{Repeated, copied_tokens, next_tokens, repeated},
    job::{AllWindows, JobError, SetTo, Setting, Source, Watch, bos_line, read_stdin},
    sources::text::{BosPolicy, Segment, TextStats, Tokenizer, Window, WindowOptions, excerpt},
};

/// Longest window where none is asked for: a pattern grows with its square.
const LONGEST: usize = 1024;

impl Attention {
    /// The windows, each of one document, and how they were cut.
    pub(super) fn texts(
        &self,
        source: &Source<'_>,
        watch: &dyn Watch,
    ) -> Result<(AllWindows, WindowOptions), JobError> {
        let whole = |windows: Vec<Window>, lead: String| {
            let tokens = windows.iter().map(|w| w.ids.len() as u64).sum();
            let (documents, of) = (windows.len() as u64, windows.len() as u64);
            let stats = TextStats { documents, tokens, windows: of, ..TextStats::default() };
            let seq_len = windows.iter().map(|w| w.ids.len()).max().unwrap_or(0);
            let options = WindowOptions { seq_len, max_tokens: None, pack: false };
            (AllWindows { windows, stats, lead }, options)
        };
        let begin = source.tokenizer.bos().reason.clone();
        if let Some(prompt) = &self.prompt {
            let window = prompt_window(prompt, source)?;
            return Ok(whole(vec![window], begin));
        }
        if let Some(length) = self.repeated_random {
            let (windows, begin) = self.random(length.get(), source)?;
            return Ok(whole(windows, format!("random tokens said twice; {begin}")));
        }
        let mut text = self.text.clone();
        if text.seq_len.is_none() && source.session.spec.n_ctx > LONGEST {
            text.seq_len = Some(LONGEST);
            let (longest, context) = (SetTo("seq_len", LONGEST), source.session.spec.n_ctx);
            watch.note(&format!("{longest}, unless more of the context of {context} is asked for"));
        }
        let options = source.window_options(&text)?;
        Ok((source.windows(&options, watch)?, options))
    }

    /// Per token of each window, the token to be predicted there.
    pub(super) fn next(&self, windows: &[&Window]) -> Vec<Vec<i64>> {
        let next = |window: &&Window| match self.repeated_random {
            Some(length) => copied_tokens(window, length.get()),
            None => next_tokens(window),
        };
        windows.iter().map(next).collect()
    }

    /// The texts, and what they begin with and why.
    fn random(&self, length: usize, source: &Source<'_>) -> Result<(Vec<Window>, String), JobError> {
        let of = Repeated { length, texts: self.seeds.get(), seed: self.seed };
        let (begin, why) = begin(source);
        let all = begin.len() + 2 * length;
        let context = source.session.spec.n_ctx;
        if all > context {
            let line = format!("said twice these are {all} tokens, the model's context is {context}");
            return Err(JobError::setting("repeated_random", line));
        }
        let windows = repeated(of, &source.tokenizer, source.vocab(), &begin)
            .map_err(|e| JobError::usage(e).at(&SetTo("repeated_random", length).to_string()))?;
        Ok((windows, why))
    }
}

/// What random tokens stand behind: BOS as documents have it, and where these have none, the BOS that the model's files
/// name, for otherwise the first random token would serve as one. `never` leaves it out.
fn begin(source: &Source<'_>) -> (Vec<u32>, String) {
    let (own, session) = (source.tokenizer.bos(), source.session);
    if !own.prefix.is_empty() || session.settings.bos != BosPolicy::Auto {
        return (own.prefix.clone(), own.reason.clone());
    }
    match Tokenizer::load_for(session.path(), BosPolicy::Always, false) {
        Ok(with) => {
            let bos = with.bos();
            (
                bos.prefix.clone(),
                format!("BOS {} in front, which documents of this model do not have", bos_line(bos)),
            )
        }
        Err(_) => (Vec::new(), own.reason.clone()), // there is none
    }
}

fn prompt_window(prompt: &str, source: &Source<'_>) -> Result<Window, JobError> {
    let text = if prompt == "-" { read_stdin()? } else { prompt.to_owned() };
    let ids = source.tokenizer.encode(&text)?;
    let (n, context) = (ids.len(), source.session.spec.n_ctx);
    if text.is_empty() || n == 0 {
        return Err(JobError::usage(format!("{} gives no tokens", Setting("prompt"))));
    }
    if n > context {
        let prompt = SetTo("prompt", excerpt(&text));
        return Err(JobError::usage(format!("{prompt} gives {n} tokens, the model's context is {context}")));
    }
    let len = n as u32;
    Ok(Window { ids, segments: vec![Segment { doc_len: len, len, ..Segment::default() }] })
}
