//! `info`.

use std::fmt::Write as _;

use clap::Args;
use layerscope::{
    job::{
        Job as _, Session, bos_line,
        info::{Info, Known, hook_shapes, positions, residual, windows},
        kind_name,
    },
    results::words::{counted, human},
};

use super::{args::OutputArgs, exit::Failure, output::Output};

/// Say what a model is, without reading its weights: sizes, BOS, hook points
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    job: Info,
    #[command(flatten)]
    output: OutputArgs,
}

impl InfoArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let known = self.job.run(&output)?;
        output.print(&text(&known))?;
        output.result(known.json())?;
        Ok(())
    }
}

/// How weights are stored where they are quantised, and what is missing of them or not read; nothing where all is
/// usual.
fn tensors(known: &Known) -> String {
    let (session, tensors) = (&known.session, &known.tensors);
    let mut parts = Vec::new();
    if session.quantised {
        let types = session.stored_as.iter().map(|(name, n)| format!("{} of {name}", n.tensors));
        parts.push(format!("{}, made into floats when they are read", types.collect::<Vec<_>>().join(", ")));
    }
    if let Some(first) = tensors.faults.first() {
        let more = tensors.faults.len() - 1;
        parts.push(if more > 0 { format!("{first}, and {more} more like it") } else { first.clone() });
    }
    if tensors.other_senses > 0 {
        parts.push(format!("{} of vision or audio, which are not read", tensors.other_senses));
    }
    parts.join("; ")
}

fn experts(session: &Session) -> String {
    let Some(experts) = session.spec.experts else { return String::new() };
    let sparse = session.spec.layers.iter().filter(|layer| layer.sparse).count();
    let shared =
        experts.d_shared.map_or_else(String::new, |width| format!(", one of {width} for all tokens"));
    format!(
        "{} of {} × {} for each token{shared}; in {sparse} of {}",
        experts.top_k,
        experts.n,
        experts.d_expert,
        counted(session.spec.n_layers, "layer")
    )
}

fn text(known: &Known) -> String {
    let (session, tokenizer) = (&known.session, &known.tokenizer);
    let s = &session.spec;
    let heads = match s.n_kv_heads {
        kv if kv == s.n_heads => format!("{} × {}", s.n_heads, s.d_head),
        kv => format!("{} × {} over {kv} key-value heads", s.n_heads, s.d_head),
    };
    let stored = session.stored.map_or("?", kind_name);
    let head = if s.tied { "tied to the embedding" } else { "its own matrix" };
    let (tokens, bos) = match tokenizer {
        Ok(tokenizer) => (counted(tokenizer.vocab_size(), "token"), bos_line(tokenizer.bos())),
        Err(error) => ("no tokenizer".to_owned(), error.to_string()),
    };
    let rows = [
        ("model", session.name()),
        ("path", session.path().display().to_string()),
        ("family", s.family.to_owned()),
        ("parameters", format!("{} stored as {stored}", human(session.parameters, ""))),
        ("tensors", tensors(known)),
        ("layers", format!("{0} blocks: residual stream at layers 0 to {0}", s.n_layers)),
        ("d_model", s.d_model.to_string()),
        ("heads", heads),
        ("d_mlp", format!("{}{}", s.d_mlp, if s.names.mlp.gated() { ", gated" } else { "" })),
        ("experts", experts(session)),
        ("vocabulary", format!("{}, {tokens}; head {head}", counted(s.vocab, "row"))),
        ("context", s.n_ctx.to_string()),
        ("positions", positions(s.positions).to_owned()),
        ("residual", residual(s.residual).to_owned()),
        ("windows", windows(session)),
        ("BOS", bos),
        (
            "device",
            format!(
                "{}, {}, {}",
                session.device_note,
                kind_name(session.kind),
                counted(session.threads, "thread")
            ),
        ),
    ];
    let mut text = String::new();
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        let _infallible = writeln!(text, "{name:<11} {value}");
    }
    text.push_str("hooks       shape after [batch, seq]\n");
    for (name, shape) in hook_shapes(session) {
        let _infallible = writeln!(text, "  {name:<38} {shape}");
    }
    text.truncate(text.trim_end().len());
    text
}
