//! What metrics are called in titles and on axes, and what a figure rests on.

use super::Run;
use crate::{
    run::{Manifest, MetricRow},
    words::plural,
};

/// Title and axis label of the metrics that have words of their own; empty for others.
fn known(name: &str) -> (&'static str, &'static str) {
    match name {
        "ce" => ("Cross-entropy of the true token", "cross-entropy"),
        "kl" => ("KL(model ‖ lens)", "KL(model ‖ lens)"),
        "kl_native" => ("KL(own lens ‖ lens)", "KL(own lens ‖ lens)"),
        "marginal_kl" => {
            ("KL of mean predictions: is the lens biased on average?", "KL(mean model ‖ mean lens)")
        }
        "entropy" => ("Entropy of the prediction", "entropy"),
        "agreement" => ("Agreement: the likeliest token is the model's", "agreement"),
        "accuracy" => ("Accuracy: the likeliest token is the true one", "accuracy"),
        "rank" => ("Mean rank of the true token (0 is first)", "rank of the true token"),
        "surprisal" => ("How surprised the model is by the lens's likeliest token", "surprisal"),
        "decided" => ("Share of predictions that no later layer changes", "decided"),
        "penalty_state" => (
            "Penalty for not using the state's own translator, CE[i,\u{a0}j]\u{a0}−\u{a0}CE[j,\u{a0}j]",
            "penalty",
        ),
        "penalty_lens" => {
            ("Penalty for reading another layer's state, CE[i,\u{a0}j]\u{a0}−\u{a0}CE[i,\u{a0}i]", "penalty")
        }
        "cka" => ("Linear CKA of layers (blind to rotation)", "CKA"),
        "covariance_cosine" => ("Similarity of the layers' covariances", "cosine of covariances"),
        "cosine" => ("Cosine of centred states", "cosine"),
        "attention_entropy" => ("Entropy of attention", "entropy of attention"),
        "attention_entropy_normalised" => {
            ("Entropy of attention over its most", "entropy of attention / ln(keys)")
        }
        "distance" => ("How far back heads look", "mean distance, tokens"),
        "sink" => ("Attention on the first token", "attention on the first token"),
        "learned_sink" => ("Attention on the learned sink", "attention on the learned sink"),
        "previous_token" => ("Attention on the token before", "attention on the token before"),
        "duplicate_token" => ("Attention on earlier places of the same token", "attention on the same token"),
        "induction" => ("Attention on what followed the same token", "induction score"),
        "ce_increase" => ("Cross-entropy without each head, less the model's", "rise of loss"),
        "procrustes_distance" => {
            ("Distance of layers after the best rotation (0 to 2)", "Procrustes distance")
        }
        "macro_f1" => ("Macro-F1", "macro-F1"),
        "auroc" => ("Area under the ROC curve", "AUROC"),
        "nll" => ("Negative log-likelihood of the labels", "NLL"),
        "ece" => ("Calibration error (15 bins)", "ECE"),
        "ece_debiased" => ("Calibration error less what chance adds", "ECE, debiased"),
        "brier" => ("Brier score of the probabilities", "Brier score"),
        "r2" => ("Explained variance on the test part", "R²"),
        "selectivity" => ("Selectivity: accuracy less that of the control task", "selectivity"),
        "compression_less_shuffled" => (
            "Compression of the labels less that of shuffled ones",
            "compression less that of shuffled labels",
        ),
        "compression" => ("Compression of the labels (1: nothing learnt)", "uniform code / online code"),
        _ => ("", ""),
    }
}

/// Title and axis label of a metric.
pub(super) fn metric(name: &str, unit: &str) -> (String, String) {
    let (title, label) = match (known(name), name.rsplit_once("_at_")) {
        (("", ""), Some(("agreement", k))) => (
            format!("Share of positions with the model's token among the lens's first {k}"),
            format!("agreement at {k}"),
        ),
        (("", ""), Some(("precision", k))) => (
            format!("Share of positions with the true token among the lens's first {k}"),
            format!("precision at {k}"),
        ),
        (("", ""), _) => (name.replace('_', " "), name.replace('_', " ")),
        ((title, label), _) => (title.to_owned(), label.to_owned()),
    };
    let label = match unit {
        "nats" => format!("{label}, nats"),
        "share" if !["cka", "covariance_cosine", "cosine", "r2"].contains(&name) => {
            format!("{label} (share)")
        }
        _ => label,
    };
    (title, label)
}

/// Whether a logarithmic scale shows these losses better: the largest is many times the smallest.
pub(super) fn wants_log(metric: &str, rows: &[MetricRow]) -> bool {
    let loss = ["ce", "kl", "kl_native", "marginal_kl", "rank", "surprisal"].contains(&metric);
    let (low, high) =
        rows.iter().fold((f64::INFINITY, 0f64), |(low, high), r| (low.min(r.estimate), high.max(r.estimate)));
    loss && low > 0.0 && high / low > 8.0
}

/// `gpt2-alice-8l. n = 20,000 tokens, 83 documents. Ribbons: 95 % intervals.`
pub(super) fn caption(run: &Run, rows: &[MetricRow], more: &str) -> String {
    let (items, clusters) = counted(&run.manifest);
    let span = |of: fn(&MetricRow) -> i64| {
        let all = || rows.iter().map(of).filter(|n| *n > 0);
        match (all().min(), all().max()) {
            (Some(low), Some(high)) if low == high => Some((thousands(high), high == 1)),
            (Some(low), Some(high)) => Some((format!("{} to {}", thousands(low), thousands(high)), false)),
            _ => None,
        }
    };
    let model = run
        .manifest
        .model
        .as_ref()
        .map(|m| m.path.trim_end_matches('/').rsplit('/').next().unwrap_or("").to_owned());
    let model =
        model.filter(|m| !["", "model"].contains(&m.as_str())).map_or_else(String::new, |m| format!("{m}. "));
    let several = |(number, one): (String, bool), noun: &str| {
        format!("{number} {}", if one { noun.to_owned() } else { plural(noun) })
    };
    let items = span(|r| r.n).map_or_else(|| plural(items), |n| several(n, items));
    let clusters = span(|r| r.n_clusters).map_or_else(String::new, |n| format!(", {}", several(n, clusters)));
    let n = format!("n = {items}{clusters}.");
    format!("{model}{n} {more}").trim_end().to_owned()
}

/// What is counted, and what intervals resample: nouns in the singular.
pub(crate) fn counted(manifest: &Manifest) -> (&'static str, &'static str) {
    match manifest.kind.as_str() {
        "verify" => ("value", "document"),
        "generate" => ("text", "prompt"),
        "patch" => ("position", "text"),
        "trace" => ("sample", "pair"),
        "attribute"
            if ["prompt", "prompts"]
                .iter()
                .any(|key| manifest.config.get(*key).is_some_and(|v| !v.is_null())) =>
        {
            ("position", "prompt")
        }
        "think" => ("token", "prompt"),
        "lens concepts" => ("position", "prompt"),
        "probe law" => ("token", "document"),
        "attention" if manifest.config.get("repeated_random").is_some() => ("token", "text"),
        kind if kind.starts_with("probe") => ("test item", "group"),
        _ if manifest.config.get("cluster").and_then(|c| c.as_str()) == Some("window") => ("token", "window"),
        _ => ("token", "document"),
    }
}

/// `12,345`
pub(super) fn thousands(n: i64) -> String {
    let digits = n.abs().to_string();
    let parts: Vec<String> =
        digits.as_bytes().rchunks(3).rev().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    format!("{}{}", if n < 0 { "−" } else { "" }, parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_people() {
        assert_eq!(metric("kl", "nats").1, "KL(model ‖ lens), nats");
        assert_eq!(metric("precision_at_5", "share").1, "precision at 5 (share)");
        assert_eq!(metric("new_metric", "ratio"), ("new metric".into(), "new metric".into()));
        assert_eq!(
            ["7", "1,000", "12,345,678"],
            [7, 1000, 12_345_678].map(thousands).each_ref().map(String::as_str)
        );
    }
}
