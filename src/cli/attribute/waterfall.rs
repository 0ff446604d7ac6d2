//! A prompt's logit: what is there before the first block, then what every block brought, to the logit itself.

use std::fmt::Write as _;

use layerscope::{
    attribution::{Attribution, Component},
    job::attribute::{Accumulated, Asked, Attribute, Attributed, Says, Token},
};

use super::quantity;
use crate::cli::table::Table;

/// The waterfall, and the heads and neurons that brought most.
pub(super) fn tables(job: &Attribute, found: &Attributed, asked: &Asked) -> String {
    let token = &asked.tokens[asked.position].text.shown;
    let foil = asked.foil.as_ref().map(|foil| format!("{:?}", foil.text.shown));
    let what = quantity(found, &format!("{:?}", asked.answer.text.shown), foil.as_deref());
    let mut text = format!(
        "{what}, behind {token:?} (position {}): {:.3}\n{}",
        asked.position,
        asked.whole.logits[0],
        waterfall(&asked.whole, job.accumulated)
    );
    for (kind, all) in [("head", &asked.whole), ("neuron", &asked.parts)] {
        let own = |component: Component| component.name() == kind;
        let says: Vec<&(Component, Says)> =
            asked.says.iter().filter(|(component, _)| own(*component)).collect();
        if !says.is_empty() {
            let _ = write!(text, "\n{kind}s that brought most, to either side\n{}", listed(kind, &says, all));
        }
    }
    text.trim_end().to_owned()
}

/// Biases behind the last block come first: they are there whatever the blocks do.
fn waterfall(whole: &Attribution, how: Accumulated) -> Table {
    let sums = match how {
        Accumulated::Frozen => whole.so_far(0),
        Accumulated::Lens => whole.stopped(0).to_vec(),
    };
    let title = if how == Accumulated::Frozen { "so far" } else { "lens" };
    let mut table = Table::new(["layer", "outside", "attn", "mlp", title]);
    let parts: Vec<(&Component, f64)> = whole.components.iter().zip(whole.row(0).iter().copied()).collect();
    let outside = |constant: bool| {
        parts.iter().filter(move |(c, _)| c.block().is_none() && c.is_constant() == constant)
    };
    let mut sum = 0.0;
    let n = outside(false).count();
    for (i, (component, value)) in outside(true).map(|p| (n, p)).chain(outside(false).enumerate()) {
        sum += value;
        let shown = match how {
            Accumulated::Frozen => format!("{sum:.3}"),
            Accumulated::Lens if i + 1 == n => format!("{:.3}", sums[0]),
            Accumulated::Lens => String::new(),
        };
        table.row([component.name(), &format!("{value:+.3}"), "", "", &shown]);
    }
    for block in 0..whole.n_layers {
        let of = |wanted: fn(Component) -> bool| -> f64 {
            parts
                .iter()
                .filter(|(c, _)| c.block() == Some(block) && wanted(**c))
                .map(|(_, value)| value)
                .sum()
        };
        table.row([
            block.to_string(),
            String::new(),
            format!("{:+.3}", of(Component::is_attention)),
            format!("{:+.3}", of(Component::is_mlp)),
            format!("{:.3}", sums[block + 1]),
        ]);
    }
    table
}

/// A line each, with what they brought to the answer and to the foil where these are compared, and what they say.
fn listed(kind: &str, says: &[&(Component, Says)], all: &Attribution) -> Table {
    let more = ["answer", "foil"].into_iter().take(all.rows() - 1);
    let words = says.iter().any(|(_, says)| !says.raised.is_empty());
    let words = ["raises", "lowers"].into_iter().filter(|_| words);
    let mut table = Table::new(["layer", kind, "brought"].into_iter().chain(more).chain(words));
    let spelled = |all: &[(Token, f64)]| {
        all.iter().map(|(token, _)| token.text.shown.as_str()).collect::<Vec<_>>().join(" ")
    };
    for (component, says) in says {
        let number = component.head().or_else(|| component.neuron());
        let values =
            (0..all.rows()).filter_map(|row| all.of(row, *component)).map(|value| format!("{value:+.3}"));
        let name = [component.block(), number].map(|n| n.map_or_else(String::new, |n| n.to_string()));
        table.row(name.into_iter().chain(values).chain([spelled(&says.raised), spelled(&says.lowered)]));
    }
    table
}
