//! Puts a state of one prompt into another by hand, and looks what the model says then.
//!
//! ```sh
//! cargo run --release --example patch -- fixtures/gpt2-alice-8l "She took the hat, and then" "He took the hat, and then"
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)] // this is what it is for

use layerscope::{
    hook::{Capture, HookPoint, Selection, Tap, from_fn},
    job::{JobError, ModelSettings, Session},
    model::{Model, hook_points},
};
use tch::{Kind, Tensor};

fn main() -> Result<(), JobError> {
    let mut args = std::env::args().skip(1);
    let [model, from, into] = std::array::from_fn(|_| args.next());
    let [Some(model), Some(from), Some(into)] = [model, from, into] else {
        return Err(JobError::usage("give MODEL SOURCE TARGET"));
    };
    let session = Session::open(&ModelSettings::new(model), &())?;
    let (model, tokenizer) = (session.load(&())?, session.tokenizer(&())?);
    let encode = |text: &str| -> Result<Tensor, JobError> {
        let ids: Vec<i64> = tokenizer.encode(text)?.into_iter().map(i64::from).collect();
        Ok(Tensor::from_slice(&ids).unsqueeze(0))
    };
    let (source, target) = (encode(&from)?, encode(&into)?);
    if source.size() != target.size() {
        return Err(JobError::usage("both prompts must have the same number of tokens"));
    }
    let changed = source.ne_tensor(&target).get(0).nonzero();
    if changed.size()[0] == 0 {
        return Err(JobError::usage("the prompts are the same"));
    }
    let position = changed.int64_value(&[0, 0]);
    let everywhere = Selection::new(&["resid_pre"], None, &hook_points(model.spec()))?;
    let mut kept = Capture::new(everywhere).run_on();
    let clean = next_token(model, &source, &mut kept)?;
    println!("source: {}", tokenizer.piece(clean).shown);
    for layer in 0..session.spec.n_layers {
        let point = HookPoint::resid_pre(layer);
        let state = kept.get(point).map(Tensor::shallow_clone).unwrap_or_default();
        // A function as a tap: at one point it gives the target the source's state where the prompts begin to differ.
        let mut patch = from_fn(|at, value| {
            if at != point {
                return value;
            }
            let patched = value.copy();
            patched.narrow(1, position, 1).copy_(&state.narrow(1, position, 1));
            patched
        });
        let said = next_token(model, &target, &mut patch)?;
        println!("layer {layer}: {}", tokenizer.piece(said).shown);
    }
    Ok(())
}

/// The likeliest token after the last one.
fn next_token(model: &Model, ids: &Tensor, tap: &mut dyn Tap) -> Result<u32, JobError> {
    let logits = model.forward(ids, tap)?.ok_or_else(|| JobError::failed("the tap ended the pass"))?;
    Ok(logits.get(0).get(-1).to_kind(Kind::Float).argmax(-1, false).int64_value(&[]) as u32)
}
