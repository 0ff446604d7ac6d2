"""The reference tuned-lens recipe in torch: fits a lens and prints held-out KL and seconds as JSON.

    pip install -r fixtures/requirements.txt && pip install --no-deps tuned-lens==0.2.0
    python benches/reference_fit.py MODEL TEXT... [--heldout TEXT...] [--steps 250] [--tokens-per-step 16384] [--cache]

MODEL is a Hugging Face folder; TEXT is .txt (one document), .jsonl (column `text`) or .json (a list of strings). BOS goes
in front of every document, documents are cut into windows of at most --seq-len tokens, one forward per window. Held out,
unless --heldout names other files: the last tenth of the documents, or of each document's windows where there are fewer
than ten documents. Windows are shuffled anew every epoch; a step takes exactly --tokens-per-step tokens.

The lens, its maths and its head are the package's `TunedLens` (tuned_lens.nn.lenses imports by itself; the package's
own training script does not start). The loop is that of its train_loop.py: one shared forward per micro-batch, then the
layers one after the other, loss = mean over positions of KL(model || lens), one backward per layer, global clip at 1.0 over
all translators, learning rate linear to 0. f32, unless --autocast asks for the package's bf16. Optimizers:
  sgd   the default of the package: Nesterov, momentum 0.9, lr 0.1 * lr_scale, coupled weight decay 1e-3
  adam  of the package: amsgrad, lr 1e-3 * lr_scale, betas (0.9, 0.999), weight decay 1e-3, no warm-up (it never happens)
  muon  of its pull request 141: matrices by Muon, lr 0.01 * lr_scale, momentum 0.9, Nesterov, weight decay 0.01, update
        scaled by 0.2 sqrt(d); biases by AdamW, lr 0.01 * lr_scale

`--cache` computes every needed state before the clock of the fit starts and keeps them in memory (4 d (L+1) bytes per token).
`--steps 0 --lens DIR` scores a saved lens on the same held-out tokens: params.safetensors with `layer.{i}.weight` and
`layer.{i}.bias`, or the package's params.pt. seconds: `states` is the model's forward without its head, `teacher` the
head's product and softmax, `lens` the layers' loss, backward and the optimizer, `heldout` the scoring, `fit` all but the
scoring, `whole` everything after the text is cut. Measured: on a CPU, glibc returns large blocks at every free; with
GLIBC_TUNABLES=glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=4294967296 the peer is faster.
"""

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from tuned_lens.nn.lenses import TunedLens


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).to(args.device).eval()
    model.requires_grad_(False)
    lens = TunedLens.from_model(model).to(args.device)
    if args.lens:
        load_translators(lens, args.lens)
    train, heldout = split(args)
    random.Random(args.seed).shuffle(heldout)
    heldout = take(iter(heldout), args.heldout_tokens)
    clock, states = Clock(args.device), States(model, args.micro_tokens)
    steps = list(draw(train, args.steps, args.tokens_per_step, args.seed))
    if args.cache:
        with clock("states"):
            states.keep([window for step in steps for window in step])
    held = list(states.rows(heldout))
    curve = fit(lens, steps, states, held, clock, args)
    if args.save:
        lens.save(args.save)
    print(json.dumps({
        "model": str(args.model), "optimizer": args.optimizer, "lr_scale": args.lr_scale, "autocast": args.autocast,
        "cached": args.cache, "threads": args.threads, "seed": args.seed, "steps": args.steps,
        "tokens_per_step": args.tokens_per_step, "tokens": args.steps * args.tokens_per_step,
        "unique_tokens": unique_tokens(steps),
        "train_tokens": sum(map(len, train)), "heldout_tokens": sum(map(len, heldout)),
        "curve": curve, "seconds": {name: round(s, 3) for name, s in clock.total().items()},
    }))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", nargs="+", type=Path)
    parser.add_argument("--heldout", nargs="+", type=Path, default=[])
    parser.add_argument("--heldout-tokens", type=int, default=16384)
    parser.add_argument("--optimizer", choices=["sgd", "adam", "muon"], default="sgd")
    parser.add_argument("--lr-scale", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--tokens-per-step", type=int, default=16384)
    parser.add_argument("--micro-tokens", type=int, default=512, help="tokens of a micro-batch; more are slower on a CPU")
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--bos", type=int, help="id in front of documents (default: the model's; -1 for none)")
    parser.add_argument("--score-at", default="0,10,25,50,100,150,200", help="steps, beside the last")
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--autocast", action="store_true", help="bf16 as in the package")
    parser.add_argument("--lens", type=Path, help="start from (or with --steps 0 score) this lens")
    parser.add_argument("--save", type=Path, help="folder for the lens, in the package's format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


# Text


class Window:
    """Ids of a window, of which the first `used` count."""

    def __init__(self, ids, used=None):
        self.ids, self.used = ids, len(ids) if used is None else used

    def __len__(self):
        return self.used


def split(args):
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    bos = args.bos if args.bos is not None else json.loads((args.model / "config.json").read_text()).get("bos_token_id")
    start = [] if bos in (None, -1) else [bos]

    def cut(paths):
        for text in (text for path in paths for text in documents(path)):
            ids = start + tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            yield [Window(ids[at : at + args.seq_len]) for at in range(0, len(ids), args.seq_len)]

    docs = list(cut(args.text))
    if args.heldout:
        return flat(docs), flat(cut(args.heldout))
    if len(docs) >= 10:
        return flat(docs[: -(len(docs) // 10)]), flat(docs[-(len(docs) // 10) :])
    tails = [max(1, len(doc) // 10) for doc in docs]
    return flat(doc[:-n] for doc, n in zip(docs, tails)), flat(doc[-n:] for doc, n in zip(docs, tails))


def flat(docs):
    return [window for doc in docs for window in doc]


def documents(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line)["text"] for line in text.splitlines() if line.strip()]
    return json.loads(text) if path.suffix == ".json" else [text]


def draw(windows, steps, tokens, seed):
    """The windows of every step, exactly `tokens` tokens each."""
    order = random.Random(seed)

    def endless():
        while True:
            yield from order.sample(windows, len(windows))

    if steps and not windows:
        sys.exit("no training text")
    stream = endless()
    for _ in range(steps):
        yield take(stream, tokens)


def unique_tokens(steps):
    used = defaultdict(int)
    for window in flat(steps):
        used[id(window.ids)] = max(used[id(window.ids)], len(window))
    return sum(used.values())


def take(stream, tokens):
    taken, left = [], tokens
    for window in stream:
        taken.append(Window(window.ids, min(len(window), left)))
        left -= len(taken[-1])
        if left == 0:
            break
    return taken


# States


class States:
    """Residual streams by a frozen model, computed when asked for or kept in memory."""

    def __init__(self, model, micro_tokens):
        self.model, self.micro_tokens, self.kept = model, micro_tokens, {}

    def keep(self, windows):
        for group in self.groups([w for w in {id(w.ids): w for w in windows}.values()]):
            self.kept |= dict(zip((id(w.ids) for w in group), self.forward(group)))

    def rows(self, windows):
        """Micro-batches [L+1, n, d]: layers 0 to L-1, then the last state behind the final norm."""
        for group in self.groups(windows):
            known = all(id(w.ids) in self.kept for w in group)
            states = [self.kept[id(w.ids)] for w in group] if known else self.forward(group)
            yield torch.cat([s[:, : len(w)] for s, w in zip(states, group)], dim=1)

    def groups(self, windows):
        """Windows of similar length together, at most `micro_tokens` tokens with padding."""
        group = []
        for window in sorted(windows, key=lambda w: -len(w.ids)):
            if group and len(group[0].ids) * (len(group) + 1) > self.micro_tokens:
                yield group
                group = []
            group.append(window)
        if group:
            yield group

    @torch.no_grad()
    def forward(self, group):
        longest = len(group[0].ids)  # padding to the right is never seen by a causal model's real tokens
        ids = torch.tensor([w.ids + [0] * (longest - len(w.ids)) for w in group], device=self.model.device)
        states = torch.stack(self.model.base_model(ids, output_hidden_states=True, use_cache=False).hidden_states)
        return [states[:, row, : len(w.ids)] for row, w in enumerate(group)]


# The fit


def fit(lens, steps, states, held, clock, args):
    optimizers = make_optimizers(lens, args)
    at = {int(step) for step in args.score_at.split(",")} | {len(steps)}
    curve = []
    for k in range(len(steps) + 1):
        if k in at:
            with clock("heldout"):
                kl = heldout_kl(lens, held)
            curve.append({"step": k, "tokens": k * args.tokens_per_step, "kl": sum(kl) / len(kl), "kl_by_layer": kl,
                          "lens_seconds": round(clock.seconds["lens"], 3)})
            print(f"step {k}: held-out KL {curve[-1]['kl']:.4f}, lens {clock.seconds['lens']:.1f} s", file=sys.stderr)
        if k < len(steps):
            step(lens, steps[k], states, optimizers, 1 - k / len(steps), clock, args)
    return curve


def step(lens, windows, states, optimizers, rate, clock, args):
    tokens, batches = sum(map(len, windows)), states.rows(windows)
    while True:
        with clock("states"):
            rows = next(batches, None)
        if rows is None:
            break
        with clock("teacher"), torch.no_grad():
            labels = lens.unembed.unembedding(rows[-1]).float().log_softmax(dim=-1)
        with clock("lens"):
            for i, h in enumerate(rows[:-1]):
                with torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.autocast):
                    logits = lens(h, idx=i)
                    loss = torch.sum(labels.exp() * (labels - logits.log_softmax(-1)), dim=-1).mean()
                    scaled_loss = loss * (len(h) / tokens)
                scaled_loss.backward()
    with clock("lens"):
        torch.nn.utils.clip_grad_norm_(lens.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)


def make_optimizers(lens, args):
    params, scale = [p for p in lens.parameters() if p.requires_grad], args.lr_scale
    if args.optimizer == "sgd":
        made = [torch.optim.SGD(params, lr=0.1 * scale, momentum=0.9, nesterov=True, weight_decay=1e-3)]
    elif args.optimizer == "adam":
        made = [torch.optim.Adam(params, lr=1e-3 * scale, betas=(0.9, 0.999), amsgrad=True, weight_decay=1e-3)]
    else:
        matrices, biases = [p for p in params if p.ndim == 2], [p for p in params if p.ndim < 2]
        made = [
            torch.optim.Muon(matrices, lr=0.01 * scale, momentum=0.9, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(biases, lr=0.01 * scale, betas=(0.9, 0.999), weight_decay=0.01),
        ]
    for group in (group for optimizer in made for group in optimizer.param_groups):
        group["initial_lr"] = group["lr"]
    return made


@torch.no_grad()
def heldout_kl(lens, held):
    """Mean KL(model || lens) of every layer, nats."""
    sums, tokens = torch.zeros(len(lens), dtype=torch.float64), sum(rows.shape[1] for rows in held)
    for rows in held:
        log_p = lens.unembed.unembedding(rows[-1]).log_softmax(-1)
        p = log_p.exp()
        for i, h in enumerate(rows[:-1]):
            sums[i] += (p * (log_p - lens(h, idx=i).log_softmax(-1))).sum(-1).double().sum().cpu()
    return (sums / tokens).tolist()


def load_translators(lens, folder):
    if (folder / "params.safetensors").exists():
        from safetensors.torch import load_file
        state = {name.removeprefix("layer."): t for name, t in load_file(folder / "params.safetensors").items()}
    else:
        state = torch.load(folder / "params.pt", map_location="cpu", weights_only=True)
    lens.layer_translators.load_state_dict(state)


class Clock:
    """Seconds by name."""

    def __init__(self, device):
        self.seconds, self.sync = defaultdict(float), torch.cuda.synchronize if "cuda" in device else lambda: None
        self.started = time.perf_counter()

    @contextmanager
    def __call__(self, name):
        started = time.perf_counter()
        yield
        self.sync()
        self.seconds[name] += time.perf_counter() - started

    def total(self):
        fit = sum(seconds for name, seconds in self.seconds.items() if name != "heldout")
        return {**self.seconds, "fit": fit, "whole": time.perf_counter() - self.started}


if __name__ == "__main__":
    main()
