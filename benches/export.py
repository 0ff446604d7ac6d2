"""Activation export: layerscope against the usual Python ways, taking turns in one run.

    make build && python3 benches/export.py [--part job|write|memory]... [--threads 2] [--rounds 3] [--scale 1]

job     text -> tokens -> every residual layer -> Parquet (f32), one process each, from start to end
write   the last step alone: rows in memory -> Parquet, by examples/store_throughput.rs and store_pyarrow.py
memory  peak resident memory of the whole job at 50 k, 200 k and 1 M tokens (the texts are repeated)

The Python ways run transformers (sdpa, `output_hidden_states`, no head), torch -> numpy -> a pyarrow FixedSizeList,
zstd 1 and BYTE_STREAM_SPLIT as ours. `loop` takes one document at a time and writes when it has them all, as most
scripts do. `batched` is the careful way: windows of equal length run together, rows are written as they come.
`start` is a Python way's import and model loading (ours is not told apart, and counts in full "after start").
All three write the same rows in the same order, which is checked first. Needs fixtures/requirements.txt.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIXTURES, STORIES = ROOT / "fixtures", ROOT / "fixtures/stories.jsonl"
WAYS = ["ours", "batched", "loop"]
BATCH_TOKENS, CHUNK_TOKENS = 2048, 16384


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--part", action="append", choices=["job", "write", "memory"], help="default: all three")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/layerscope")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the numbers of tokens")
    args = parser.parse_args()
    if args.worker:
        return work(args.worker, args.threads)
    parts = {"job": job, "write": write, "memory": memory}
    for name in args.part or parts:
        with tempfile.TemporaryDirectory(prefix="layerscope-bench-") as folder:
            parts[name](args, Path(folder))


def job(args, folder):
    """The whole job on the small trained model and on a random model of GPT-2 small's shape."""
    small = folder / "gpt2-small-random"
    run([sys.executable, __file__, "--worker", "make", str(small)], args.threads)
    sizes = [int(n * args.scale) for n in (50_000, 10_000)]
    print("| model | tokens | way | wall s | CPU s | start s | ours is faster: wall | wall after start | CPU |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model, tokens in zip((FIXTURES / "gpt2-alice-8l", small), sizes, strict=True):
        found = {way: [] for way in WAYS}
        for turn in range(args.rounds):
            for way in WAYS[turn % 3 :] + WAYS[: turn % 3]:
                found[way].append(export(way, model, STORIES, tokens, folder / way, args))
            if turn == 0:
                run([sys.executable, __file__, "--worker", "same", *(str(folder / way) for way in WAYS)], 1)
        middle = {way: {k: statistics.median(f[k] for f in found[way]) for k in found[way][0]} for way in WAYS}
        for way in WAYS:
            print(job_row(model.name, tokens, way, middle), flush=True)


def job_row(model, tokens, way, middle):
    ours, m = middle["ours"], middle[way]
    ratios = "1 | 1 | 1"
    if way != "ours":
        after = (m["wall"] - m["start"]) / (ours["wall"] - ours["start"])
        ratios = f"{m['wall'] / ours['wall']:.1f}x | {after:.1f}x | {m['cpu'] / ours['cpu']:.1f}x"
    return f"| {model} | {tokens} | {way} | {m['wall']:.1f} | {m['cpu']:.1f} | {m['start']:.1f} | {ratios} |"


def memory(args, folder):
    """Peak resident memory; one round, for it hardly varies."""
    data = folder / "many.jsonl"
    data.write_text(STORIES.read_text(encoding="utf-8") * 4, encoding="utf-8")
    print("| tokens | " + " | ".join(f"{way} MiB | {way} s" for way in WAYS) + " |")
    print("|---" * 7 + "|")
    for tokens in (int(n * args.scale) for n in (50_000, 200_000, 1_000_000)):
        cells = []
        for way in WAYS:
            found = export(way, FIXTURES / "llama-alice-6l", data, tokens, folder / way, args)
            cells.append(f"{found['peak_mib']:.0f} | {found['wall']:.0f}")
        print(f"| {tokens} | {' | '.join(cells)} |", flush=True)


def export(way, model, data, tokens, out, args):
    """One export by one of the three ways in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, __file__, "--threads", str(args.threads), "--worker", way, model, data, tokens, out]
    if way == "ours":
        command = [args.binary, "export", "--quiet", "--model", model, "--data", data, "--tokens", tokens]
        command += ["--threads", args.threads, "--out", out, "--device", "cpu"]
    found = run(list(map(str, command)), args.threads)
    start = re.search(r"started after ([\d.]+)", found.pop("text"))
    return found | {"start": float(start[1]) if start else 0.0}


def run(command, threads):
    """Runs a command; wall and core seconds, peak resident MiB, and what it printed."""
    many = {name: str(threads) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")}
    environment = os.environ | many | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begin
        output.seek(0)
        text = output.read()
    if child.returncode:
        sys.exit(f"{' '.join(command)}: exit {child.returncode}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = usage.ru_maxrss / unit
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_mib": peak, "text": text}


def write(args, folder):
    """Rows in memory to Parquet, ours and pyarrow's turn about."""
    rows = str(int(40_000 * args.scale))
    ours = [str(p) for p in ("cargo", "run", "--quiet", "--release", "--example", "store_throughput", "--", folder, rows)]
    theirs = [sys.executable, str(ROOT / "benches/store_pyarrow.py"), str(folder), str(args.threads)]
    # `put` is the copy out of the tensor, which pyarrow does not need; it counts as ours.
    line = re.compile(r"^(\S+) +(f\d+) (?:put +\d+ \( *(\d+)\) +)?write +\d+ \( *(\d+)\)", re.M)
    found = {}
    for _ in range(args.rounds):
        text = run([*ours, "768", "2", "parquet"], args.threads)["text"]
        run([*ours, "768", "2", "npy"], args.threads)  # the numbers that the peer reads
        text += run(theirs, args.threads)["text"]
        for name, dtype, put, rate in line.findall(text):
            seconds = 1 / float(rate) + (1 / float(put) if put else 0.0)
            found.setdefault((dtype, name), []).append(1 / seconds)
    print("| act dtype | ours MB/s per core | pyarrow MB/s per core | ratio |\n|---|---|---|---|")
    for dtype in ("f32", "f16"):
        mine, peer = (statistics.median(found[dtype, name]) for name in ("parquet", "pyarrow"))
        print(f"| {dtype} | {mine:.0f} | {peer:.0f} | {mine / peer:.1f}x |")


def work(words, threads):
    """A child process: `make`, `same`, or one of the Python ways."""
    began = time.perf_counter()
    if words[0] == "make":
        return make(Path(words[1]))
    if words[0] == "same":
        return same(*map(Path, words[1:]))
    way, model, data, tokens, out = words
    exporter = Peer(Path(model), Path(out), threads)
    print(f"started after {time.perf_counter() - began:.2f}")
    (exporter.loop if way == "loop" else exporter.batched)(windows(Path(model), Path(data), int(tokens)))


def windows(model, data, limit):
    """(doc_id, first pos, ids) as layerscope cuts them: BOS first, pieces of the context length, `limit` tokens."""
    from tokenizers import Tokenizer

    config = json.loads((model / "config.json").read_text())
    context = config.get("n_positions") or config["max_position_embeddings"]
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    with data.open(encoding="utf-8") as lines:
        for doc, line in enumerate(lines):
            text = json.loads(line)["text"]
            ids = [config["bos_token_id"], *tokenizer.encode(text, add_special_tokens=False).ids][:limit]
            limit -= len(ids)
            for start in range(0, len(ids), context):
                yield doc, start, ids[start : start + context]
            if limit == 0:
                return


class Peer:
    """transformers -> numpy -> pyarrow."""

    def __init__(self, model, out, threads):
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.torch, self.out = torch, out
        torch.set_num_threads(threads)
        self.model = AutoModel.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa").eval()
        out.mkdir(parents=True)
        # transformers norms the last hidden state, so the stream leaving the last block is taken at the norm.
        norm = getattr(self.model, "ln_f", None) or self.model.norm
        norm.register_forward_pre_hook(lambda _, args: setattr(self, "last", args[0]))

    def states(self, batch):
        """`[windows, seq]` ids to a list of numpy arrays `[windows, seq, d_model]`, layers 0..=L."""
        with self.torch.inference_mode():
            ids = self.torch.tensor(batch)
            hidden = self.model(ids, output_hidden_states=True, use_cache=False).hidden_states
            return [h.numpy() for h in (*hidden[:-1], self.last)]

    def loop(self, cut):
        import numpy as np

        cut = list(cut)
        states = [self.states([ids]) for _, _, ids in cut]
        for layer in range(len(states[0])):
            act = np.concatenate([s[layer][0] for s in states])
            with self.writer(layer, act.shape[1]) as writer:
                writer.write_table(self.table(cut, act, 0), row_group_size=(16 << 20) // (4 * act.shape[1]))

    def batched(self, cut):
        writers, first_row, chunk, size = [], 0, [], 0
        for window in (*cut, None):
            if window is None or size + len(window[2]) > CHUNK_TOKENS:
                acts = self.chunk(chunk)
                writers = writers or [self.writer(layer, act.shape[1]) for layer, act in enumerate(acts)]
                for writer, act in zip(writers, acts, strict=True):
                    writer.write_table(self.table(chunk, act, first_row))
                first_row, chunk, size = first_row + len(acts[0]), [], 0
            if window is not None:
                chunk.append(window)
                size += len(window[2])
        for writer in writers:
            writer.close()

    def chunk(self, chunk):
        """Every layer's rows `[tokens, d_model]` of some windows, those of one length together."""
        import numpy as np

        by_length, found = {}, [None] * len(chunk)
        for i, (_, _, ids) in enumerate(chunk):
            by_length.setdefault(len(ids), []).append(i)
        for length, all_of_it in by_length.items():
            step = max(1, BATCH_TOKENS // length)
            for members in (all_of_it[i : i + step] for i in range(0, len(all_of_it), step)):
                states = self.states([chunk[i][2] for i in members])
                for b, i in enumerate(members):
                    found[i] = [layer[b] for layer in states]
        return [np.concatenate([f[layer] for f in found]) for layer in range(len(found[0]))]

    def table(self, cut, act, first_row):
        import numpy as np
        import pyarrow as pa

        doc = np.concatenate([np.full(len(ids), doc, np.uint64) for doc, _, ids in cut])
        pos = np.concatenate([np.arange(start, start + len(ids), dtype=np.uint32) for _, start, ids in cut])
        token = np.concatenate([np.array(ids, np.uint32) for _, _, ids in cut])
        row = np.arange(first_row, first_row + len(doc), dtype=np.uint64)
        act = pa.FixedSizeListArray.from_arrays(pa.array(act.reshape(-1)), act.shape[1])
        return pa.table({"row_id": row, "doc_id": doc, "pos": pos, "token_id": token, "act": act})

    def writer(self, layer, width):
        import pyarrow as pa
        import pyarrow.parquet as pq

        ids = [("row_id", pa.uint64()), ("doc_id", pa.uint64()), ("pos", pa.uint32()), ("token_id", pa.uint32())]
        return pq.ParquetWriter(
            self.out / f"layer={layer}.parquet",
            pa.schema([*ids, ("act", pa.list_(pa.float32(), width))]),
            compression="zstd",
            compression_level=1,
            use_dictionary=["token_id"],
            column_encoding={"act.list.element": "BYTE_STREAM_SPLIT"},
            write_statistics=["row_id", "doc_id", "pos", "token_id"],
        )


def same(ours, *theirs):
    """Exits with a message unless every way wrote the same rows."""
    import numpy as np
    import pyarrow.parquet as pq

    for layer in range(len(list(theirs[0].glob("layer=*.parquet")))):
        tables = [pq.read_table(ours / f"acts/hook=resid_pre/layer={layer}", partitioning=None)]
        tables += [pq.ParquetFile(folder / f"layer={layer}.parquet").read() for folder in theirs]
        acts = [t["act"].combine_chunks().flatten().to_numpy() for t in tables]
        for table, act in zip(tables, acts, strict=True):
            for name in ("row_id", "doc_id", "pos", "token_id"):
                if not np.array_equal(table[name].to_numpy(), tables[0][name].to_numpy()):
                    sys.exit(f"layer {layer}: `{name}` differs")
            error = np.abs(act - acts[0]).max() / np.abs(acts[0]).max()
            if not error < 1e-3:  # this model amplifies f32 rounding, see docs/verify.md
                sys.exit(f"layer {layer}: activations differ by {error:.1e} of the largest")


def make(folder):
    """A random model of GPT-2 small's shape with the fixture's tokenizer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    shutil.copy(FIXTURES / "gpt2-alice-8l/tokenizer.json", folder)


if __name__ == "__main__":
    main()
