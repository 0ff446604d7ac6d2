"""Lens evaluation: the tuned-lens package's maths against the bare matrix products and against ours, in one run.

    pip install -r fixtures/requirements.txt && pip install --no-deps tuned-lens==0.2.0
    python benches/lens_eval.py                                          # 12 x 768 x 50257, 512 rows a call
    python benches/lens_eval.py --workload fixtures/gpt2-alice-8l --ours 'target/release/examples/NAME {inputs}'

One call reads every layer of --rows tokens by the logit lens and by the tuned lens: ce, entropy, KL(model || lens), as
scripts/eval_loop.py of the package does (its lenses, its log_softmax, exp and sums; f32), with the product and softmax of
the final state. `floor` is the same matrix products without anything else, into buffers that exist. metrics:
{lens: {ce, entropy, kl: [mean by layer]}}, nats. The rest is in benches/lens_workload.py.
"""

import torch
from tuned_lens.utils import shift_labels, shift_preds

from lens_workload import Workload, arguments, race


def main():
    args = arguments(__doc__, rows=512)
    work = Workload(args)
    layers, lenses = len(work.states), len(work.lenses)
    maps = layers * ("tuned" in work.lenses)
    floors = work.floors(1 + layers * lenses, maps, args.floors)
    race("lens_eval", args, work, lambda: evaluate(work), floors)


def evaluate(work):
    final_lps = work.unembed(work.final).log_softmax(dim=-1)
    final_probs = final_lps.exp()
    labels = shift_labels(work.ids, 1)
    metrics = {name: {"ce": [], "entropy": [], "kl": []} for name in work.lenses}
    for layer, hidden in enumerate(work.states):
        for name, lens in work.lenses.items():
            lens_lps = lens(hidden, idx=layer).log_softmax(dim=-1)
            lens_probs = lens_lps.exp()
            metrics[name]["ce"].append(ce(lens_lps, labels, reduction="none").mean().item())
            metrics[name]["entropy"].append(torch.sum(-lens_probs * lens_lps, dim=-1).mean().item())
            metrics[name]["kl"].append(torch.sum(final_probs * (final_lps - lens_lps), dim=-1).mean().item())
    ce(final_lps, labels, reduction="none").mean()
    torch.sum(-final_probs * final_lps, dim=-1).mean()
    return metrics


def ce(lps, labels, **reduction):
    return torch.nn.functional.cross_entropy(shift_preds(lps, 1).flatten(0, 1), labels.flatten(), **reduction)


if __name__ == "__main__":
    main()
