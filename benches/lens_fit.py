"""Fitting a tuned lens: our recipe against the reference recipe, scored on the same held-out text by the same script.

    pip install -r fixtures/requirements.txt && pip install --no-deps tuned-lens==0.2.0
    python benches/lens_fit.py fixtures/gpt2-alice-8l TEXT... --heldout TEXT... [--binary target/release/layerscope]

First the reference (benches/reference_fit.py) at --steps and --tokens-per-step, then `layerscope lens fit` at each of
--budgets tokens, one after the other on the same threads. Both lenses are scored on --heldout by reference_fit.py
(the package's own lens and torch). Seconds are wall time of the fits: of the reference without its scoring, of ours the
whole command (loading, reading, hashing, held-out validation included). Prints a table and one line of JSON, with the
smallest budget that reaches the reference's mean KL and the ratios there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    args = arguments()
    common = [str(args.model), *map(str, args.text), "--heldout", *map(str, args.heldout), "--threads", str(args.threads)]
    recipe = ["--optimizer", args.optimizer, "--lr-scale", str(args.lr_scale), "--steps", str(args.steps),
              "--tokens-per-step", str(args.tokens_per_step), "--score-at", "0"]
    theirs = reference([*common, *recipe])
    start, end = theirs["curve"][0], theirs["curve"][-1]
    seconds = theirs["seconds"]["fit"]
    print(f"logit lens{mean(start):37.4f}")
    print(f"reference ({args.optimizer}){theirs['tokens']:12} tokens{mean(end):10.4f}{seconds:10.1f} s", flush=True)
    runs = [ours(args, common, budget) for budget in args.budgets]
    reached = next((run for run in runs if run["kl"] <= mean(end)), None)
    ratios = reached and {"tokens": theirs["tokens"] / reached["tokens"], "seconds": seconds / reached["seconds"]}
    print(json.dumps({"reference": {"tokens": theirs["tokens"], "kl": mean(end), "layers": end["kl_by_layer"], "seconds": seconds},
                      "ours": runs, "reached_at": reached and reached["tokens"], "ratios": ratios}))


def ours(args, common, budget):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lens"
        command = [args.binary, "lens", "fit", "--kind", "tuned", "--model", args.model, "--data", *args.text, "--tokens",
                   budget, "--seq-len", "256", "--threads", args.threads, "--out", out, "--quiet", *args.options.split()]
        start = time.perf_counter()
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        scored = reference([*common, "--steps", "0", "--lens", str(out)])["curve"][-1]
    print(f"ours{budget:25} tokens{mean(scored):10.4f}{seconds:10.1f} s", flush=True)
    return {"tokens": budget, "kl": mean(scored), "layers": scored["kl_by_layer"], "seconds": seconds}


def reference(words):
    run = subprocess.run([sys.executable, str(HERE / "reference_fit.py"), *words], check=True, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def mean(scored):
    return scored["kl"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", nargs="+", type=Path)
    parser.add_argument("--heldout", nargs="+", type=Path, required=True)
    parser.add_argument("--optimizer", choices=["sgd", "adam", "muon"], default="sgd")
    parser.add_argument("--lr-scale", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--tokens-per-step", type=int, default=4096)
    parser.add_argument("--budgets", type=int, nargs="+", default=[32768, 65536, 131072, 262144])
    parser.add_argument("--binary", default=str(HERE.parent / "target/release/layerscope"))
    parser.add_argument("--options", default="", help="more options of `lens fit`")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
