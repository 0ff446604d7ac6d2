//! The transplant: one state into one position of a prompt, and what leaves the network after it.

use tch::{Device, Kind, TchError, Tensor};

use super::FutureError;
use crate::{
    hook::{BlockHook, HookPoint, Tap, TapError},
    model::{Model, ModelError},
    sources::text::Tokenizer,
};

/// The paper's four prompts, the trailing quotation mark or bracket included.
pub const PAPER_PROMPTS: [&str; 4] = [
    "Hello! Could you please tell me more about \"",
    "The multi-tokens present here are \"",
    "The concepts in this hidden state listed are: (",
    "<|endoftext|> This state is describing about the following concept:",
];

/// What stands before the fed tokens; a state goes into its last position.
#[derive(Debug)]
pub enum Prompt {
    /// Token ids `[M]`, i64.
    Words(Tensor),
    /// Input embeddings `[M, d_model]`, before positions are added.
    Soft(Tensor),
}

impl Prompt {
    /// A text in the model's tokens, BOS as its tokenizer puts it.
    ///
    /// # Errors
    /// When the text cannot be encoded or has no tokens.
    pub fn words(text: &str, tokenizer: &Tokenizer) -> Result<Self, FutureError> {
        let ids: Vec<i64> = tokenizer.encode(text)?.into_iter().map(i64::from).collect();
        if ids.is_empty() {
            return Err(FutureError::EmptyPrompt { prompt: text.to_owned() });
        }
        Ok(Self::Words(Tensor::from_slice(&ids)))
    }

    /// Tokens, M.
    pub fn tokens(&self) -> i64 {
        match self {
            Self::Words(t) | Self::Soft(t) => t.size()[0],
        }
    }

    /// Ids of the prompt for `rows` rows, `[rows, M]`; of a soft one any, since a tap replaces what they embed to.
    fn ids(&self, rows: i64) -> Tensor {
        match self {
            Self::Words(ids) => ids.unsqueeze(0).expand([rows, -1], false),
            Self::Soft(p) => Tensor::zeros([rows, p.size()[0]], (Kind::Int64, Device::Cpu)),
        }
    }
}

/// Whether a prompt of `tokens` tokens and `horizons` fit the model's context.
///
/// # Errors
/// [`FutureError::NoRoom`].
pub fn fits(tokens: usize, horizons: usize, context: usize) -> Result<(), FutureError> {
    let fed = horizons.saturating_sub(1);
    if tokens + fed > context { Err(FutureError::NoRoom { prompt: tokens, fed, context }) } else { Ok(()) }
}

/// Runs `prompt` and `fed [rows, N]` (i64) with `state [rows, d_model]` in place of the stream entering block `layer`
/// at the prompt's last position (none: nothing is replaced). Returns what leaves the last block from that position on,
/// `[rows, N + 1, d_model]`.
///
/// Differentiable in a soft prompt and in the state where the thread records gradients.
///
/// # Errors
/// When shapes or the layer do not fit the model.
pub fn transplant(
    model: &Model,
    prompt: &Prompt,
    layer: usize,
    state: Option<&Tensor>,
    fed: &Tensor,
) -> Result<Tensor, FutureError> {
    transplant_at(model, prompt, &[prompt.tokens() - 1], layer, state, fed)
}

/// As [`transplant`], with the state at every one of `places` (below M) in place of the prompt's last position.
///
/// # Errors
/// As [`transplant`].
pub fn transplant_at(
    model: &Model,
    prompt: &Prompt,
    places: &[i64],
    layer: usize,
    state: Option<&Tensor>,
    fed: &Tensor,
) -> Result<Tensor, FutureError> {
    let (rows, last) = (fed.size()[0], model.spec().n_layers);
    if layer > last {
        return Err(FutureError::NoLayer { layer, last });
    }
    let ids = Tensor::f_cat(&[prompt.ids(rows), fed.to_device(Device::Cpu)], 1)?;
    let mut tap = Transplant { prompt, places, layer, last, state, out: None };
    let _none = model.forward_recorded(&ids, &mut tap)?;
    Ok(tap.out.ok_or_else(|| ModelError::Input("the last layer was not computed".into()))?)
}

struct Transplant<'a> {
    prompt: &'a Prompt,
    places: &'a [i64],
    layer: usize,
    last: usize,
    state: Option<&'a Tensor>,
    out: Option<Tensor>,
}

impl Tap for Transplant<'_> {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        let refused = |error: TchError| TapError::edit(point, &error);
        match (point, self.prompt) {
            (HookPoint::Embed, Prompt::Soft(p)) => front(p, &value).map_err(refused),
            (HookPoint::Block(layer, _), _) => {
                let value = match self.state.filter(|_| layer == self.layer) {
                    Some(state) => put(state, self.places, &value).map_err(refused)?,
                    None => value,
                };
                if layer == self.last {
                    let at = self.prompt.tokens() - 1;
                    self.out = Some(value.narrow(1, at, value.size()[1] - at));
                }
                Ok(value)
            }
            _ => Ok(value),
        }
    }

    fn wants(&self, point: HookPoint) -> bool {
        match point {
            HookPoint::Embed => matches!(self.prompt, Prompt::Soft(_)),
            HookPoint::Block(layer, BlockHook::ResidPre) => layer == self.layer || layer == self.last,
            _ => false,
        }
    }

    fn stop_after(&self) -> Option<HookPoint> {
        Some(HookPoint::resid_pre(self.last))
    }
}

/// `value [rows, seq, d]` with the prompt's vectors in front; what does not fit is left for the decoder to refuse.
fn front(prompt: &Tensor, value: &Tensor) -> Result<Tensor, TchError> {
    let (size, m) = (value.size(), prompt.size()[0]);
    let wide = prompt.to_kind(value.kind()).to_device(value.device()).unsqueeze(0);
    let wide = wide.expand([size[0], -1, -1], false);
    Tensor::f_cat(&[&wide, &value.f_narrow(1, m, size[1] - m)?], 1)
}

/// `value [rows, seq, d]` with `state [rows, d]` at `places`.
fn put(state: &Tensor, places: &[i64], value: &Tensor) -> Result<Tensor, TchError> {
    let state = state.to_kind(value.kind()).to_device(value.device()).unsqueeze(1);
    let index = Tensor::from_slice(places).to_device(value.device());
    let wide = state.expand([state.size()[0], places.len() as i64, -1], false);
    value.f_index_copy(1, &index, &wide)
}
