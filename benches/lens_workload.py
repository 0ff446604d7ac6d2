"""What lens_eval.py and transfer.py share: states to read, the package's lenses over them, taking turns, ratios.

Both scripts take

    --workload gpt2-small|FOLDER   random states and weights of GPT-2 small's shape (12 x 768 x 50257), or the states of a
                                   Hugging Face model on --text
    --ours CMD                     a command that times our side and ends its stdout with one line of JSON,
                                   {"seconds": x, "rows": n}, optionally with "cpu" and with "metrics" as the script has them.
                                   `{inputs}` in CMD becomes the path of a safetensors file with the same numbers:
                                   states [L, batch, seq, d] (layers 0 to L-1), final [batch, seq, d] (before the final
                                   norm), ids [batch, seq] i64, unembed [vocab, d], norm.weight [d], norm.bias [d] (layer
                                   norm only), layer.{i}.weight [d, d], layer.{i}.bias [d]; all but ids f32; metadata
                                   `norm` (layer or rms) and `eps`

and print one line of JSON. Contestants take turns, after one warm-up each; medians over --rounds. `seconds` is wall time
and `cpu` processor time of one call; CMD gets OMP_NUM_THREADS, MKL_NUM_THREADS and RAYON_NUM_THREADS, and no GLIBC_TUNABLES
of --keep-memory.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel
from tuned_lens.model_surgery import get_final_norm
from tuned_lens.nn.lenses import LogitLens, TunedLens, TunedLensConfig
from tuned_lens.nn.unembed import Unembed

DTYPES, TILE = {"f32": torch.float32, "bf16": torch.bfloat16}, 4096
KEEP = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=4294967296"
STORIES = Path(__file__).resolve().parent.parent / "fixtures/stories.jsonl"


def arguments(doc, rows):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="gpt2-small")
    parser.add_argument("--text", type=Path, default=STORIES, help=".txt, or .jsonl with a column text")
    parser.add_argument("--rows", type=int, default=rows, help="tokens of a call")
    parser.add_argument("--seq-len", type=int, default=256, help="tokens of a sequence, of a model's workload")
    parser.add_argument("--lens", type=Path, help="folder with params.safetensors; random translators without it")
    parser.add_argument("--lenses", default="logit,tuned")
    parser.add_argument("--floors", default="f32,bf16", help="precisions of the bare products (bf16 is slow without AMX)")
    parser.add_argument("--ours", help="see benches/lens_workload.py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--keep-memory", action="store_true", help="help the package: glibc keeps large blocks it frees")
    args = parser.parse_args()
    if args.keep_memory and os.environ.get("GLIBC_TUNABLES") != KEEP:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "GLIBC_TUNABLES": KEEP})
    args.lenses, args.floors = args.lenses.split(","), [name for name in args.floors.split(",") if name]
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    return args


class Workload:
    """States [L][batch, seq, d], the final state [batch, seq, d] before the norm, ids [batch, seq], and the lenses."""

    def __init__(self, args):
        make = random_states if args.workload == "gpt2-small" else model_states
        model, self.states, self.final, self.ids = make(args)
        unembed, (layers, *_, d) = Unembed(model), self.states.shape
        config = TunedLensConfig(base_model_name_or_path=args.workload, d_model=d, num_hidden_layers=layers)
        self.tuned = TunedLens(unembed, config)
        for translator in self.tuned:
            translator.weight.normal_(std=0.3 / d**0.5)
            translator.bias.normal_(std=0.3)
        if args.lens:
            from safetensors.torch import load_file
            params = load_file(args.lens / "params.safetensors")
            self.tuned.layer_translators.load_state_dict({k.removeprefix("layer."): v for k, v in params.items()})
        self.lenses = {"logit": LogitLens(unembed), "tuned": self.tuned}
        self.lenses = {name: self.lenses[name] for name in args.lenses}
        self.unembed, self.rows = unembed, self.ids.numel()

    def save(self, path):
        norm = self.unembed.final_norm
        eps = getattr(norm, "eps", None) or norm.variance_epsilon
        tensors = {"states": self.states, "final": self.final, "ids": self.ids, "norm.weight": norm.weight}
        tensors |= {"unembed": self.unembed.unembedding.weight}
        if getattr(norm, "bias", None) is not None:
            tensors["norm.bias"] = norm.bias
        tensors |= {f"layer.{name}": value for name, value in self.tuned.layer_translators.state_dict().items()}
        metadata = {"norm": "layer" if "norm.bias" in tensors else "rms", "eps": repr(eps)}
        save_file({name: value.detach().clone().contiguous() for name, value in tensors.items()}, path, metadata)

    def floors(self, products, maps, names):
        return {f"floor_{name}": self.floor(products, maps, DTYPES[name]) for name in names}

    def floor(self, products, maps, dtype):
        """A call's matrix products and nothing else: `products` by the head, `maps` by a translator. The head in tiles of
        TILE tokens, which is faster than in one piece."""
        tiles = [tile.T for tile in self.unembed.unembedding.weight.to(dtype).split(TILE)]
        states, d = self.final.view(self.rows, -1).to(dtype), self.final.shape[-1]
        translator, moved = torch.randn(d, d).to(dtype), torch.empty_like(states)
        logits = {tile.shape[1]: torch.empty(self.rows, tile.shape[1], dtype=dtype) for tile in tiles}

        def run():
            for tile in tiles * products:
                torch.mm(states, tile, out=logits[tile.shape[1]])
            for _ in range(maps):
                torch.mm(states, translator, out=moved)

        return run


def random_states(args):
    """Logits with a standard deviation near 3, so that some predictions are sharp."""
    model = GPT2LMHeadModel(GPT2Config(n_layer=1)).eval()
    model.lm_head.weight.mul_(5)  # tied with the embedding
    model.transformer.ln_f.weight.add_(0.1 * torch.randn(768))
    model.transformer.ln_f.bias.add_(0.1 * torch.randn(768))
    final = torch.randn(1, args.rows, 768)
    noise = torch.linspace(2, 0.2, 12).view(12, 1, 1, 1)
    return model, final + noise * torch.randn(12, 1, args.rows, 768), final, torch.randint(50257, (1, args.rows))


def model_states(args):
    model = AutoModelForCausalLM.from_pretrained(args.workload, dtype=torch.float32).eval()
    text = args.text.read_text(encoding="utf-8")
    if args.text.suffix == ".jsonl":
        text = "\n\n".join(json.loads(line)["text"] for line in text.splitlines()[: args.rows // 20 + 10])
    ids = AutoTokenizer.from_pretrained(args.workload)(text, add_special_tokens=False, verbose=False)["input_ids"]
    sequences, width = args.rows // args.seq_len, args.seq_len - 1
    if sequences == 0 or len(ids) < sequences * width:
        sys.exit(f"{args.text} and --rows {args.rows} do not fill sequences of {args.seq_len} tokens")
    bos = model.config.bos_token_id or 0
    ids = torch.tensor([[bos, *ids[i * width : (i + 1) * width]] for i in range(sequences)])
    kept = {}
    hook = get_final_norm(model).register_forward_pre_hook(lambda _, inputs: kept.update(final=inputs[0]))
    hidden = model.base_model(ids, output_hidden_states=True, use_cache=False).hidden_states
    hook.remove()
    return model, torch.stack(hidden[:-1]), kept["final"], ids


def race(name, args, work, reference, floors):
    """Lets the contestants take turns and prints the line of JSON. `reference()` returns its metrics."""
    found = {"reference": [], **{kind: [] for kind in floors}, **({"ours": []} if args.ours else {})}
    metrics = {}
    with tempfile.TemporaryDirectory(prefix="layerscope-bench-") as folder:
        inputs = Path(folder) / "inputs.safetensors"
        if args.ours and "{inputs}" in args.ours:
            work.save(inputs)
        for turn in range(args.rounds + 1):
            for kind in found:
                took = ours(args, inputs) if kind == "ours" else timed(reference if kind == "reference" else floors[kind])
                metrics[kind] = took.pop("result", None)
                if turn > 0:
                    found[kind].append({k: v / took.get("rows", work.rows) for k, v in took.items() if k != "rows"})
        print(f"{name}: {args.rounds} rounds, {args.threads} threads", file=sys.stderr)
    per_row = {kind: {key: statistics.median(t[key] for t in times) for key in times[0]} for kind, times in found.items()}
    layers, *_, d = work.states.shape
    line = {
        "bench": name, "workload": args.workload, "layers": layers, "d_model": d, "threads": args.threads,
        "vocab": work.unembed.unembedding.weight.shape[0], "rows": work.rows, "rounds": args.rounds, "lenses": args.lenses,
        "keep_memory": args.keep_memory,
        "ms_per_row": {kind: {key: round(1e3 * v, 4) for key, v in times.items()} for kind, times in per_row.items()},
        "ratios": ratios(per_row, "seconds"), "ratios_cpu": ratios(per_row, "cpu"),
    }
    if metrics.get("ours"):
        line["largest_difference"] = difference(metrics["reference"], metrics["ours"])
    print(json.dumps(line))


def ratios(per_row, key):
    found = {kind: times[key] for kind, times in per_row.items() if key in times}
    pairs = [(kind, "ours") for kind in found if kind != "ours" and "ours" in found]
    pairs += [("reference", kind) for kind in found if kind.startswith("floor")]
    return {f"{a} / {b}": round(found[a] / found[b], 3) for a, b in pairs}


def timed(call):
    cpu, started = time.process_time(), time.perf_counter()
    result = call()
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "result": result}


def ours(args, inputs):
    threads = {f"{pool}_NUM_THREADS": str(args.threads) for pool in ("OMP", "MKL", "RAYON")}
    command = [word.replace("{inputs}", str(inputs)) for word in shlex.split(args.ours)]
    own = {name: value for name, value in os.environ.items() if value != KEEP}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**own, **threads})
    if done.returncode != 0:
        sys.exit(f"--ours ended with {done.returncode}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    cpu = {"cpu": said["cpu"]} if "cpu" in said else {}
    return {"seconds": said["seconds"], **cpu, "rows": said["rows"], "result": said.get("metrics")}


def difference(theirs, ours):
    """Largest absolute difference of every number of `ours` from the reference's, by path."""
    if isinstance(theirs, dict):
        return {key: difference(theirs[key], ours[key]) for key in ours}
    return float((torch.tensor(theirs) - torch.tensor(ours)).abs().max())
