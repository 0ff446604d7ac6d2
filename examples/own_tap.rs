//! A tap of one's own: how much each head's output adds to the residual stream, in one pass and without keeping a
//! state.
//!
//! ```sh
//! cargo run --release --example own_tap -- fixtures/gpt2-alice-8l "Alice was beginning to get very tired"
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)] // this is what it is for

use std::collections::BTreeMap;

use layerscope::{
    hook::{BlockHook, HookPoint, Tap, TapError},
    job::{JobError, ModelSettings, Session},
};
use tch::{Kind, Tensor};

/// Mean length of what is written at each point, by layer.
#[derive(Default)]
struct Lengths {
    by_layer: BTreeMap<usize, Vec<(&'static str, f64)>>,
}

impl Tap for Lengths {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        if let HookPoint::Block(layer, hook) = point {
            let mean = value.norm_scalaropt_dim(2, [-1], false).mean(Kind::Double);
            self.by_layer.entry(layer).or_default().push((hook.short_name(), mean.double_value(&[])));
        }
        Ok(value)
    }

    /// Only what is asked for is computed.
    fn wants(&self, point: HookPoint) -> bool {
        matches!(point, HookPoint::Block(_, BlockHook::ResidPre | BlockHook::AttnOut | BlockHook::MlpOut))
    }
}

fn main() -> Result<(), JobError> {
    let mut args = std::env::args().skip(1);
    let (model, prompt) = args.next().zip(args.next()).ok_or_else(|| JobError::usage("give MODEL PROMPT"))?;
    let session = Session::open(&ModelSettings::new(model), &())?;
    let ids: Vec<i64> = session.tokenizer(&())?.encode(&prompt)?.into_iter().map(i64::from).collect();
    let mut lengths = Lengths::default();
    session.load(&())?.forward(&Tensor::from_slice(&ids).unsqueeze(0), &mut lengths)?;
    for (layer, written) in &lengths.by_layer {
        let words: Vec<String> = written.iter().map(|(hook, length)| format!("{hook} {length:.1}")).collect();
        println!("layer {layer}: {}", words.join(", "));
    }
    Ok(())
}
