//! What the model thinks at each layer: the likeliest next token by layer, for the last word of a prompt.
//!
//! ```sh
//! cargo run --release --example view_prompt -- fixtures/gpt2-alice-8l "Alice was beginning to get very"
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)] // this is what it is for

use layerscope::{
    job::{JobError, ModelSettings, Session},
    lens::trajectory::PromptStates,
    lenses::LayerIndex,
};

fn main() -> Result<(), JobError> {
    let mut args = std::env::args().skip(1);
    let (model, prompt) = args.next().zip(args.next()).ok_or_else(|| JobError::usage("give MODEL PROMPT"))?;
    let session = Session::open(&ModelSettings::new(model), &())?;
    let tokenizer = session.tokenizer(&())?;
    let ids = tokenizer.encode(&prompt)?;
    let layers: Vec<LayerIndex> = (0..=session.spec.n_layers).map(LayerIndex).collect();
    let states = PromptStates::run(session.load(&())?, &ids, &layers)?;
    let logit_lens = session.lens("logit", &())?;
    let read = states.read(logit_lens[0].as_ref(), &layers, 1)?;
    let last = ids.len() - 1;
    for (layer, readings) in layers.iter().zip(&read.readings).rev() {
        let (token, probability) = (readings.top_ids[last][0], readings.top_probs[last][0]);
        println!("layer {:>2}: {:<12} {probability:.2}", layer.0, tokenizer.piece(token as u32).shown);
    }
    println!("settled from layer {}", read.depth()[last].0);
    Ok(())
}
