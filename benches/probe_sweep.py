"""Probe sweep, all layers x a grid of λ: scikit-learn against ours at an equal objective, in one run.

    pip install -r fixtures/requirements.txt
    cargo build --release -p layerscope-probes --example probe_speed
    python benches/probe_sweep.py                                   # 12 layers x 4000 rows x 768, 17 λ, two classes
    python benches/probe_sweep.py --classes 12 --rows 8000
    python benches/probe_sweep.py --workload fixtures/gpt2-alice-8l --classes 12

`random` are rows of GPT-2 small's width whose spectrum falls as that of activations (eigenvalue i as 1 / i), with labels
that a noisy plane gives. A folder is a Hugging Face model: its states on --text, each labelled with the class of the next
token (the --classes - 1 most frequent ones and the rest).

Both sides z-score the rows by layer and fit every λ from the largest on, each warm-started from the one before. λ is the
penalty on the sum of losses (C = 1 / λ). The peer is LogisticRegression(lbfgs) on the same f32 rows or on f64, and
Ridge(solver="cholesky") on one-hot labels. --threads layers at a time on both sides, each on one thread.

Equal objective: the objective of every fit is computed here in f64 from its coefficients. The peer gets the loosest tol
of 1e-4, 1e-5, .. with which every λ of the first and last layer is within --within of the best known, ours the loosest
tolerance of 1e-6, 1e-7, ..; the table says by how much each side misses the best in the timed run. `gemm` is the matrix
products that our logistic fits need, alone. Contestants take turns; medians over --rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

for pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{pool}_NUM_THREADS", "1")

import numpy as np
from joblib import Parallel, delayed
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

ROOT = Path(__file__).resolve().parent.parent


def main():
    args = arguments()
    x, y = random_states(args) if args.workload == "random" else model_states(args)
    args.layers, args.rows, args.width = x.shape
    args.columns = 1 if args.classes == 2 else args.classes
    with tempfile.TemporaryDirectory(prefix="layerscope-bench-") as folder:
        folder = Path(folder)
        x.astype("<f4").tofile(folder / "x")
        y.astype("<u4").tofile(folder / "y")
        line = {"bench": "probe_sweep", "workload": args.workload, "layers": args.layers, "rows": args.rows,
                "width": args.width, "classes": args.classes, "l2": args.l2, "threads": args.threads, "rounds": args.rounds}
        with Parallel(n_jobs=args.threads) as pool:
            line["logistic"] = logistic(args, x, y, folder, pool)
            line["ridge"] = ridge(args, x, y, folder, pool)
    print(json.dumps(line))


def logistic(args, x, y, folder, pool):
    ends = [0, args.layers - 1]
    exact = np.stack([objectives(args, x[i], y, peer_logistic(args, np.float64, 1e-9, x[i], y)[1]) for i in ends])
    ours_tol, found = None, None
    for ours_tol in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10):
        found = all_objectives(args, x, y, ours(args, folder, "logistic", ours_tol, 1)[1])
        if worst(found[ends], np.minimum(exact, found[ends])) <= args.within:
            break
    best = np.minimum(exact, found[ends])
    peers = {}
    for dtype in (np.float32, np.float64):
        for tol in 10.0 ** -np.arange(4, 10):
            coef = [peer_logistic(args, dtype, tol, x[i], y)[1] for i in ends]
            misses = worst(np.stack([objectives(args, x[i], y, c) for i, c in zip(ends, coef)]), best)
            if misses <= args.within:
                peers[f"sklearn_{np.dtype(dtype).name}"] = (dtype, tol)
                break
        print(f"{np.dtype(dtype).name}: tol {tol:.0e} misses the best by {misses:.1e}", file=sys.stderr, flush=True)
    runs = {name: lambda dtype=dtype, tol=tol: timed(args, pool, peer_logistic, dtype, tol, x, y)
            for name, (dtype, tol) in peers.items()}
    runs["ours"] = lambda: ours(args, folder, "logistic", ours_tol, 1)
    runs["gemm"] = lambda: ours(args, folder, "gemm", ours_tol, 1)
    seconds, coefs = turns(args, runs)
    reached = {name: all_objectives(args, x, y, c) for name, c in coefs.items() if name != "gemm"}
    best = np.min([*reached.values()], axis=0)
    best[ends] = np.minimum(best[ends], exact)
    return {"seconds": seconds, "ratios": {name: round(s / seconds["ours"], 2) for name, s in seconds.items()},
            "tol": {"ours": ours_tol, **{name: tol for name, (_, tol) in peers.items()}},
            "worst_relative_excess": {name: worst(o, best) for name, o in reached.items()}}


def ridge(args, x, y, folder, pool):
    runs = {"sklearn_float64": lambda: timed(args, pool, peer_ridge, np.float64, 0, x, y),
            "ours": lambda: ours(args, folder, "ridge", 1, 1)}
    seconds, coefs = turns(args, runs)
    a, b = (coefs[name][..., :-1] for name in ("ours", "sklearn_float64"))
    difference = np.abs(a - b).max((2, 3)) / np.abs(b).max((2, 3))
    return {"seconds": seconds, "ratios": {name: round(s / seconds["ours"], 2) for name, s in seconds.items()},
            "largest_relative_difference": float(difference.max())}


def turns(args, runs):
    times, coefs = {name: [] for name in runs}, {}
    for turn in range(args.rounds + 1):
        for name, run in runs.items():
            seconds, coefs[name] = run()
            if turn > 0 or args.rounds == 0:
                times[name].append(seconds)
    return {name: round(statistics.median(t), 4) for name, t in times.items()}, coefs


def timed(args, pool, fit, dtype, tol, x, y):
    start = time.perf_counter()
    found = pool(delayed(fit)(args, dtype, tol, layer, y) for layer in x) if args.threads > 1 else [
        fit(args, dtype, tol, layer, y) for layer in x]
    seconds = time.perf_counter() - start
    return seconds, np.stack([coef for _, coef in found])


def standardise(x, dtype):
    mean, scale = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    return ((x - mean) / scale).astype(dtype), mean, scale


def peer_logistic(args, dtype, tol, x, y):
    """Coefficients on raw rows [l2, k, d + 1]."""
    z, mean, scale = standardise(x, dtype)
    model = LogisticRegression(solver="lbfgs", tol=tol, max_iter=20_000, warm_start=True)
    coef = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for l2 in sorted(args.l2, reverse=True):
            model.set_params(C=1 / l2).fit(z, y)
            coef[l2] = raw(model.coef_, model.intercept_, mean, scale)
    return None, np.stack([coef[l2] for l2 in args.l2])


def peer_ridge(args, dtype, _tol, x, y):
    z, mean, scale = standardise(x, dtype)
    target = np.eye(args.classes)[y]
    models = [Ridge(alpha=l2, solver="cholesky").fit(z, target) for l2 in args.l2]
    return None, np.stack([raw(m.coef_, m.intercept_, mean, scale) for m in models])


def raw(coef, bias, mean, scale):
    coef = coef.astype(np.float64) / scale
    return np.concatenate([coef, (bias - coef @ mean)[:, None]], 1)


def all_objectives(args, x, y, coef):
    return np.stack([objectives(args, layer, y, c) for layer, c in zip(x, coef)])


def objectives(args, x, y, coef):
    """Of coefficients on raw rows [l2, k, d + 1], in f64 on the z-scores: [l2]."""
    z, mean, scale = standardise(x, np.float64)
    found = []
    for l2, c in zip(args.l2, coef):
        w, b = c[:, :-1] * scale, c[:, -1] + c[:, :-1] @ mean
        values = z @ w.T + b
        values = np.concatenate([np.zeros((len(y), 1)), values], 1) if args.columns == 1 else values
        losses = logsumexp(values, axis=1) - values[np.arange(len(y)), y]
        found.append(losses.sum() + l2 / 2 * (w**2).sum())
    return np.array(found)


def worst(found, best):
    return float((found / best - 1).max())


def ours(args, folder, kind, tolerance, rounds):
    numbers = [args.layers, args.rows, args.width, args.classes, kind, tolerance, args.threads, rounds, *args.l2]
    command = [args.binary, folder, *numbers]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{args.binary} ended with {done.returncode}")
    said = json.loads(done.stdout)
    k = args.classes if kind == "ridge" else args.columns
    coef = np.fromfile(folder / "coef", "<f8")
    print(f"{kind}: {said['seconds']:.3f} s, passes {said['passes']}", file=sys.stderr, flush=True)
    return said["seconds"], coef.reshape(args.layers, len(args.l2), k, args.width + 1) if kind != "gemm" else None


def random_states(args):
    rng = np.random.default_rng(0)
    d, layers = args.width, args.layers
    spectrum = 1 / np.sqrt(np.arange(1, d + 1))
    x = np.empty((layers, args.rows, d), np.float32)
    hidden = rng.standard_normal((args.rows, d))
    for i in range(layers):
        rotation, _ = np.linalg.qr(rng.standard_normal((d, d)))
        mixed = 0.7 * hidden + 0.7 * rng.standard_normal((args.rows, d))
        x[i] = mixed * spectrum @ rotation * 10 ** rng.normal(0, 0.3, d) + rng.standard_normal(d)
    values = hidden[:, :50] @ rng.standard_normal((50, args.classes)) / 7 + 0.5 * rng.standard_normal((args.rows, args.classes))
    return x, values.argmax(1)


def model_states(args):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(args.workload, dtype=torch.float32).eval()
    text = args.text.read_text(encoding="utf-8")
    if args.text.suffix == ".jsonl":
        text = "\n\n".join(json.loads(line)["text"] for line in text.splitlines())
    ids = AutoTokenizer.from_pretrained(args.workload)(text, add_special_tokens=False, verbose=False)["input_ids"]
    length = 128
    count = min(-(-args.rows // (length - 1)), len(ids) // length)
    ids = torch.tensor(ids[: count * length]).view(count, length)
    with torch.no_grad():
        hidden = torch.cat([torch.stack(model(part, output_hidden_states=True).hidden_states[:-1]) for part in ids.split(16)], 1)
    x = hidden[:, :, :-1].flatten(1, 2)[:, : args.rows].numpy()
    following = ids[:, 1:].flatten()[: args.rows].numpy()
    x = x[np.linspace(0, len(x) - 1, min(args.layers, len(x))).astype(int)]
    frequent = np.argsort(-np.bincount(following), kind="stable")[: args.classes - 1]
    rank = np.full(following.max() + 1, args.classes - 1)
    rank[frequent] = np.arange(args.classes - 1)
    return x, rank[following]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="random")
    parser.add_argument("--text", type=Path, default=ROOT / "fixtures/stories.jsonl")
    parser.add_argument("--layers", type=int, default=12, help="of random states, or so many of a model's")
    parser.add_argument("--width", type=int, default=768, help="of random states")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--l2", type=float, nargs="+", default=[float(f"{v:.6g}") for v in 10 ** np.linspace(-4, 4, 17)])
    parser.add_argument("--within", type=float, default=1e-6, help="relative excess over the best objective that is equal")
    parser.add_argument("--binary", default=str(ROOT / "target/release/examples/probe_speed"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
