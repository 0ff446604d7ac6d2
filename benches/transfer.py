"""Transfer matrix: the tuned-lens package's loop against the bare matrix products and against ours, in one run.

    pip install -r fixtures/requirements.txt && pip install --no-deps tuned-lens==0.2.0
    python benches/transfer.py                                           # 12 x 768 x 50257, 64 rows a call
    python benches/transfer.py --workload fixtures/gpt2-alice-8l --rows 512 --ours 'target/release/examples/NAME {inputs}'

One call reads the states of every layer j by every translator i of the tuned lens: ce and KL(lens_j(h_j) || lens_i(h_j)), as
`--layer_transfer` in scripts/eval_loop.py of the package does; --lenses logit,tuned also runs the logit lens through the
loop, as the package does when it evaluates both. `floor` is the same L (L + 1) matrix products for each lens, without
anything else. metrics: {lens: {ce, kl: [[mean at state layer j] of translator i]}}, nats. The rest is in
benches/lens_workload.py.
"""

import sys

import torch
from tuned_lens.utils import shift_labels

from lens_eval import ce
from lens_workload import Workload, arguments, race


def main():
    if not any(word.startswith("--lenses") for word in sys.argv):
        sys.argv += ["--lenses", "tuned"]
    args = arguments(__doc__, rows=64)
    work = Workload(args)
    cells = len(work.states) * (len(work.states) + 1)
    maps = cells * ("tuned" in work.lenses)
    floors = work.floors(cells * len(work.lenses), maps, args.floors)
    race("transfer", args, work, lambda: transfer(work), floors)


def transfer(work):
    layers, labels = range(len(work.states)), shift_labels(work.ids, 1)
    metrics = {name: {"ce": [[0.0] * len(layers) for _ in layers], "kl": [[0.0] * len(layers) for _ in layers]}
               for name in work.lenses}
    for j, hidden in enumerate(work.states):
        for name, lens in work.lenses.items():
            lens_lps = lens(hidden, idx=j).log_softmax(dim=-1)
            lens_probs = lens_lps.exp()
            for i in layers:
                transfer_lps = lens(hidden, idx=i).log_softmax(dim=-1)
                metrics[name]["ce"][i][j] = ce(transfer_lps, labels).item()
                metrics[name]["kl"][i][j] = torch.sum(lens_probs * (lens_lps - transfer_lps), dim=-1).mean().item()
    return metrics


if __name__ == "__main__":
    main()
