use std::fmt::Write as _;

use clap::Args;
use layerscope::{
    hook::HookPoint,
    model::{Positions, ResidualKind, hook_points, width},
    text::{TextError, Tokenizer},
    words::counted,
};
use serde_json::{Value, json};

use super::{
    args::{CommonArgs, ModelArgs},
    exit::Failure,
    output::{Output, human, shown},
    session::{Session, bos_line, kind_name},
};

/// Say what a model is, without reading its weights: sizes, BOS, hook points
#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl Info {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let session = Session::open(&self.model, output)?;
        let tokenizer = session.tokenizer(&self.model);
        output.print(&text(&session, &tokenizer))?;
        output.result(object(&session, &tokenizer))?;
        Ok(())
    }
}

fn text(session: &Session, tokenizer: &Result<Tokenizer, TextError>) -> String {
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
        ("layers", format!("{0} blocks: residual stream at layers 0 to {0}", s.n_layers)),
        ("d_model", s.d_model.to_string()),
        ("heads", heads),
        ("d_mlp", format!("{}{}", s.d_mlp, if s.names.mlp.gated() { ", gated" } else { "" })),
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
    for (name, value) in rows {
        let _infallible = writeln!(text, "{name:<11} {value}");
    }
    text.push_str("hooks       shape after [batch, seq]\n");
    for (name, shape) in hooks(session) {
        let _infallible = writeln!(text, "  {name:<38} {shape}");
    }
    text.truncate(text.trim_end().len());
    text
}

/// Every hook once, block hooks as `blocks.{0..n}.name`, with the shape of one token's value.
fn hooks(session: &Session) -> Vec<(String, String)> {
    let s = &session.spec;
    let mut list: Vec<(String, String)> = Vec::new();
    for point in hook_points(s) {
        let shape =
            width(s, point).map_or("[batch, head, query, key]".to_owned(), |shape| format!("{shape:?}"));
        match point {
            HookPoint::Block(0, hook) => {
                let last = if hook.short_name() == "resid_pre" { s.n_layers } else { s.n_layers - 1 };
                list.push((format!("blocks.{{0..{last}}}.{}", hook.name()), shape));
            }
            HookPoint::Block(..) => {}
            other => list.push((other.to_string(), shape)),
        }
    }
    list
}

fn positions(positions: Positions) -> &'static str {
    match positions {
        Positions::Learned { .. } => "learned",
        Positions::Sinusoidal { .. } => "sinusoidal",
        Positions::Rotary => "rotary",
        Positions::Alibi(_) => "alibi",
    }
}

fn residual(kind: ResidualKind) -> &'static str {
    match kind {
        ResidualKind::Sequential => "sequential",
        ResidualKind::Parallel => "parallel (no resid_mid)",
        ResidualKind::ParallelSharedNorm => "parallel, one norm (no resid_mid)",
    }
}

fn windows(session: &Session) -> String {
    let sliding: Vec<_> = session.spec.layers.iter().filter_map(|l| l.window).collect();
    match sliding.first() {
        None => "full attention".to_owned(),
        Some(w) => format!(
            "{} in {} of {}",
            counted(*w, "token"),
            sliding.len(),
            counted(session.spec.n_layers, "layer")
        ),
    }
}

fn object(session: &Session, tokenizer: &Result<Tokenizer, TextError>) -> Value {
    let s = &session.spec;
    let tokenizer = tokenizer.as_ref().ok();
    let bos = tokenizer.map(Tokenizer::bos);
    json!({
        "model": session.name(),
        "path": shown(session.path()),
        "revision": session.dir.revision,
        "family": s.family,
        "parameters": session.parameters,
        "stored_dtype": session.stored.map(kind_name),
        "n_layers": s.n_layers,
        "d_model": s.d_model,
        "n_heads": s.n_heads,
        "n_kv_heads": s.n_kv_heads,
        "d_head": s.d_head,
        "d_mlp": s.d_mlp,
        "vocab": s.vocab,
        "tokenizer_vocab": tokenizer.map(Tokenizer::vocab_size),
        "n_ctx": s.n_ctx,
        "positions": positions(s.positions),
        "residual": residual(s.residual),
        "windows": s.layers.iter().map(|l| l.window).collect::<Vec<_>>(),
        "tied": s.tied,
        "bos": bos.map(|b| json!({ "id": b.id, "token": b.token, "reason": b.reason })),
        "device": session.device_note,
        "dtype": kind_name(session.kind),
        "threads": session.threads,
        "hooks": hook_points(s).iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
