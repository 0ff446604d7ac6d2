"""Forward pass with every residual captured: layerscope against transformers, side by side in one run.

    python benches/forward.py [--threads 2] [--rounds 7] [--shapes gpt2,llama] [--batches 1x1024,8x128] [--modes states,logits]

Makes random weights, starts one long-lived process per contestant (transformers eager, transformers sdpa, layerscope,
and the bare matrix products as the floor), and lets them take turns, one pass at a time, so that a noisy machine is
noisy for all of them. Prints a Markdown table of medians. Needs fixtures/requirements.txt and a built libtorch
(`make build` once); builds benches/forward.rs itself. See docs/benchmarks.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTESTANTS = ["eager", "sdpa", "ours", "floor"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", nargs=2, metavar=("KIND", "DIR"), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shapes", default="gpt2,llama")
    parser.add_argument("--modes", default="states,logits")
    parser.add_argument("--batches", default="1x1024,8x128,4x512")
    args = parser.parse_args()
    if args.worker:
        return worker(*args.worker, args.threads)
    batches = [tuple(map(int, batch.split("x"))) for batch in args.batches.split(",")]
    binary = build()
    modes = args.modes.split(",")
    print("| model | batch x seq | keeps | eager s (CPU) | sdpa s (CPU) | ours s (CPU) | bare GEMMs s (CPU) "
          "| best peer / ours | in CPU time | floor / ours in CPU time | peak MiB best peer | ours |")
    print("|---" * 12 + "|")
    for shape in args.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            race(shape, Path(folder), binary, batches, modes, args.rounds, args.threads)


def build():
    """Builds benches/forward.rs in the profile everything else uses and returns its path."""
    command = ["cargo", "build", "--release", "--bench", "forward", "--message-format=json-render-diagnostics"]
    out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in out.splitlines()]
    return [m["executable"] for m in messages if m.get("target", {}).get("name") == "forward" and m.get("executable")][-1]


def race(shape, folder, binary, batches, modes, rounds, threads):
    make_model(shape, folder)
    start = {
        kind: [binary, str(folder), str(threads)] if kind == "ours" else
        [sys.executable, __file__, "--threads", str(threads), "--worker", kind, str(folder)]
        for kind in CONTESTANTS
    }
    runners = {kind: Runner(command, threads) for kind, command in start.items()}
    loads = ", ".join(f"{kind} {r.loaded['seconds']:.2f} s ({r.loaded['peak_mib']:.0f} MiB)"
                      for kind, r in runners.items() if kind != "floor")
    print(f"load {shape}: {loads}", file=sys.stderr)
    print(f"agreement {shape}: {agreement(runners, folder):.1e} of the largest value", file=sys.stderr)
    for batch, seq in batches:
        for mode in modes:
            times = {kind: [] for kind in CONTESTANTS}
            for round_ in range(rounds + 1):
                for kind in CONTESTANTS[round_ % 4:] + CONTESTANTS[:round_ % 4]:
                    answer = runners[kind].ask(f"{batch} {seq} {mode}")
                    if round_ > 0:
                        times[kind].append(answer)
            print(row(shape, f"{batch}x{seq}", mode, times), flush=True)
    for runner in runners.values():
        runner.close()


def row(shape, batch, mode, times):
    wall, cpu, peak, faults = ({kind: statistics.median(t[key] for t in times[kind]) for kind in CONTESTANTS}
                               for key in ("seconds", "cpu", "peak_mib", "faults"))
    best = min(("eager", "sdpa"), key=wall.get)
    print(f"page faults of {shape} {batch} {mode}: {faults}", file=sys.stderr)
    cells = " | ".join(f"{wall[kind]:.2f} ({cpu[kind]:.2f})" for kind in CONTESTANTS)
    return (f"| {shape} | {batch} | {mode} | {cells} | {wall[best] / wall['ours']:.2f}x "
            f"| {cpu[best] / cpu['ours']:.2f}x | {cpu['floor'] / cpu['ours']:.2f} | {peak[best]:.0f} | {peak['ours']:.0f} |")


def agreement(runners, folder):
    """Largest difference of any hidden state or logit from transformers', relative to the state's largest value."""
    from safetensors.torch import load_file
    states = {}
    for kind in ("eager", "sdpa", "ours"):
        runners[kind].ask(f"2 64 logits {folder / kind}.states")
        states[kind] = load_file(folder / f"{kind}.states")
    worst = 0.0
    for name, want in states["eager"].items():
        for kind in ("sdpa", "ours"):
            worst = max(worst, float((states[kind][name] - want).abs().max() / want.abs().max()))
    if worst > 1e-4:
        sys.exit(f"the contestants disagree: {worst:.1e}; nothing to compare")
    return worst


class Runner:
    """A contestant's process."""

    def __init__(self, command, threads):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
        self.loaded = json.loads(self.process.stdout.readline())

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def config(shape):
    from transformers import GPT2Config, LlamaConfig
    if shape == "gpt2":
        return GPT2Config()
    return LlamaConfig(vocab_size=32000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=14,
                       num_attention_heads=16, num_key_value_heads=4, max_position_embeddings=2048)


def make_model(shape, folder):
    import torch
    from transformers import AutoModelForCausalLM
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(shape))
    for parameter in model.parameters():  # biases and norms away from 0 and 1
        parameter.data += 0.01 * torch.randn_like(parameter)
    model.save_pretrained(folder)


def worker(kind, folder, threads):
    import torch
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    started = time.perf_counter()
    run, vocab = floor(folder) if kind == "floor" else peer(kind, folder)
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_mib": peak_mib()}), flush=True)
    for line in sys.stdin:
        batch, seq, mode, *file = line.split()
        ids = ((torch.arange(int(batch) * int(seq)) * 7919 + 13) % vocab).view(int(batch), int(seq))
        Path("/proc/self/clear_refs").write_text("5")
        cpu, faults = usage()
        started = time.perf_counter()
        with torch.inference_mode():
            states = run(ids, mode)
        seconds = time.perf_counter() - started
        cpu_after, faults_after = usage()
        if file:
            from safetensors.torch import save_file
            save_file({name: x.contiguous() for name, x in states.items()}, file[0])
        del states
        print(json.dumps({"seconds": seconds, "cpu": cpu_after - cpu, "faults": faults_after - faults,
                          "peak_mib": peak_mib()}), flush=True)


def peer(attention, folder):
    """transformers with every hidden state; the last one, which it norms, is left out of the comparison."""
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention, dtype="float32").eval()

    def run(ids, mode):
        head = {} if mode == "states" else {"logits": None}
        net = model.base_model if mode == "states" else model
        out = net(ids, output_hidden_states=True, use_cache=False)
        states = {f"resid_pre.{i}": x for i, x in enumerate(out.hidden_states[:-1])}
        return states | {name: out[name] for name in head}

    return run, model.config.vocab_size


def floor(folder):
    """The matrix products of one pass and nothing else: each layer's own weights, one output buffer per product."""
    import torch
    from transformers import AutoConfig
    cfg = AutoConfig.from_pretrained(folder)
    d, layers = cfg.hidden_size, cfg.num_hidden_layers
    if cfg.model_type == "gpt2":
        maps = [(d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)]
    else:
        kv = cfg.num_key_value_heads * d // cfg.num_attention_heads
        maps = [(d, d + 2 * kv), (d, d), (d, 2 * cfg.intermediate_size), (cfg.intermediate_size, d)]
    weights = [[torch.randn(n_out, n_in) * 0.02 for n_in, n_out in maps] for _ in range(layers)]
    head = torch.randn(cfg.vocab_size, d)
    kept = {}  # inputs and outputs outlive the pass, so that no page is touched for the first time in it

    def matrix(what, rows, columns):
        if (what, rows, columns) not in kept:
            kept[what, rows, columns] = torch.randn(rows, columns)
        return kept[what, rows, columns]

    def product(rows, weight):
        torch.mm(matrix("in", rows, weight.shape[1]), weight.T, out=matrix("out", rows, weight.shape[0]))

    def run(ids, mode):
        for weight in [w for layer in weights for w in layer] + ([head] if mode == "logits" else []):
            product(ids.numel(), weight)
        return {}

    return run, cfg.vocab_size


def usage():
    """Seconds of processor time and minor page faults of this process so far."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100, int(fields[7])


def peak_mib():
    """Largest resident size since the last reset."""
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
