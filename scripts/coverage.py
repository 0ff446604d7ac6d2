"""How often the intervals of `lens eval` would hold the truth on real documents: a second implementation, in numpy and scipy.

    layerscope lens eval --model DIR --data TEXT --lens logit --layers 3 --per-token --out RUN
    python scripts/coverage.py RUN                 # needs numpy, scipy and pyarrow

The documents of the run are taken for all there are; samples of a few are drawn from them, again and again. `n:c (w, e)` is: of samples
of n documents that have an interval, the share c holds the mean over all documents; a share w has none; e effective documents on average.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy import stats

FEWEST = 5


def documents(run: Path, subject: str) -> dict[str, np.ndarray]:
    """Sums per document of the first layer read."""
    columns = ["doc_id", "subject", "layer", "kl", "top_id", "final_id", "ce", "rank"]
    table = pq.read_table(run / "tokens.parquet", columns=columns)
    of_lens = np.array(table["subject"].to_pylist()) == subject
    values = {c: table[c].to_numpy(zero_copy_only=False).astype(float) for c in columns if c != "subject"}
    here = of_lens & (values["layer"] == values["layer"][of_lens].min())
    values = {name: column[here] for name, column in values.items()}
    _, doc = np.unique(values["doc_id"], return_inverse=True)
    known = ~np.isnan(values["ce"])

    def total(weights: np.ndarray) -> np.ndarray:
        return np.bincount(doc, weights=np.where(np.isnan(weights), 0.0, weights))

    return {
        "all": total(np.ones_like(known, float)),
        "known": total(known.astype(float)),
        "kl": total(values["kl"]),
        "ce": total(values["ce"]),
        "rank": total(values["rank"]),
        "agreement": total((values["top_id"] == values["final_id"]).astype(float)),
        "precision_at_1": total(known & (values["rank"] == 0)),
        "kl_below_.05": total((values["kl"] < 0.05).astype(float)),
        "kl_above_8": total((values["kl"] > 8).astype(float)),
    }


def interval(sums: np.ndarray, counts: np.ndarray, is_share: bool) -> tuple[float, float, float]:
    """Lower end, upper end, effective documents."""
    docs, n = len(sums), counts.sum()
    n_eff = n**2 / (counts**2).sum()
    if n_eff < FEWEST:
        return np.nan, np.nan, n_eff
    left_out = (sums.sum() - sums) / (n - counts)
    variance = (docs - 1) / docs * ((left_out - left_out.mean()) ** 2).sum()
    mean, t = sums.sum() / n, stats.t.ppf(0.975, n_eff - 1)
    if not is_share:
        return mean - t * variance**0.5, mean + t * variance**0.5, n_eff
    rows = n_eff if variance == 0 else np.clip(mean * (1 - mean) / variance, n_eff, n)
    middle = (mean + t * t / (2 * rows)) / (1 + t * t / rows)
    half = t * (mean * (1 - mean) / rows + t * t / (4 * rows * rows)) ** 0.5 / (1 + t * t / rows)
    return middle - half, middle + half, n_eff


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--subject", default="logit")
    parser.add_argument("--samples", type=int, default=2000)
    args = parser.parse_args()
    of = documents(args.run, args.subject)
    rng = np.random.default_rng(1)
    total = len(of["all"])
    print(f"{total} documents of {of['all'].min():.0f} to {of['all'].max():.0f} tokens, median {np.median(of['all']):.0f}")
    kinds = [("kl", "all"), ("ce", "known"), ("rank", "known")]
    shares = [("agreement", "all"), ("precision_at_1", "known"), ("kl_below_.05", "all"), ("kl_above_8", "all")]
    for is_share, (name, group) in [(False, k) for k in kinds] + [(True, k) for k in shares]:
        truth = of[name].sum() / of[group].sum()
        cells = []
        for n in (8, 10, 15, 20, 50, 200):
            draws = rng.integers(0, total, (args.samples, n))
            found = np.array([interval(of[name][d], of[group][d], is_share) for d in draws])
            given = found[~np.isnan(found[:, 0])]
            holds = ((given[:, 0] <= truth) & (truth <= given[:, 1])).mean() if len(given) else np.nan
            cells.append(f"{n}:{holds:.3f} ({1 - len(given) / args.samples:.2f}, {found[:, 2].mean():.0f})")
        print(f"{name:15} {truth:9.4f}  " + "  ".join(cells))


if __name__ == "__main__":
    main()
