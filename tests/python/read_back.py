"""Reads a run back with pyarrow, polars, numpy and safetensors and compares them with each other and with the manifest.

usage: read_back.py RUN        an export, or a folder with metrics.parquet; exit 1 and a line on stderr if anything differs; libraries that are missing are named and skipped
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np


def library(name: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: skipped", file=sys.stderr)
        return None


def check(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"read_back: {message}")


def act_of(path: Path, layout: dict, width: int) -> dict:
    """Every reader's view of one file, as {reader: array [rows, width]}."""
    found = {}
    if layout["format"] == "npy":
        found["numpy"] = np.load(path, allow_pickle=False, mmap_mode="r")
    elif layout["format"] == "safetensors":
        if st := library("safetensors.numpy"):
            found["safetensors"] = bf16(path, width) if layout["dtype"] == "bf16" else st.load_file(path)["act"]
    elif layout["format"] == "arrow":
        if ipc := library("pyarrow.ipc"):
            table = ipc.open_file(library("pyarrow").memory_map(str(path))).read_all()
            found["pyarrow"] = table["act"].combine_chunks().values.to_numpy().reshape(-1, width)
        if pl := library("polars"):
            found["polars"] = pl.read_ipc(path)["act"].to_numpy()
    else:
        if pq := library("pyarrow.parquet"):
            table = pq.ParquetFile(path).read()
            check(str(table.schema.field("act").type).startswith("fixed_size_list"), f"{path}: {table.schema}")
            found["pyarrow"] = table["act"].combine_chunks().values.to_numpy().reshape(-1, width)
        if pl := library("polars"):
            found["polars"] = pl.read_parquet(path, hive_partitioning=False)["act"].to_numpy()
    return found


def bf16(path: Path, width: int) -> np.ndarray:
    """bf16, which numpy lacks, as f32: its 16 bits are the upper half; the crate's own header says where they are."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    act = json.loads(whole[8 : 8 + length])["act"]
    check(act["dtype"] == "BF16", f"{path}: act is {act['dtype']}")
    begin, end = (8 + length + place for place in act["data_offsets"])
    bits = np.frombuffer(whole[begin:end], "<u2").astype("<u4") << 16
    return bits.view("<f4").reshape(-1, width)


METRICS = {
    "subject": "string", "kind": "string", "hook": "string", "layer": "int32", "source_layer": "int32", "horizon": "int32",
    "metric": "string", "unit": "string", "estimate": "double", "lower": "double", "upper": "double", "n": "int64", "n_clusters": "int64",
    "n_eff": "double", "reason": "string",
    # The parts of a subject and of a kind, null where the row has none.
    "of": "string", "rung": "string", "less": "string", "direction": "string", "direction_number": "int32", "strength": "double",
    "correction": "string", "schedule": "string", "skipped_block": "int32", "step": "int32", "position": "int32", "token": "string",
    "trained_on": "string", "tested_on": "string", "prompt": "int32", "variant": "string", "share": "double", "head": "int32",
    "component": "string", "neuron": "int32",
}


def check_metrics(path: Path) -> None:
    """The contract's columns, the same rows for both readers, no NaN, intervals in order."""
    pq, pl = library("pyarrow.parquet"), library("polars")
    if pq:
        table = pq.ParquetFile(path).read()
        types = {field.name: str(field.type) for field in table.schema}
        check(types == METRICS and list(types) == list(METRICS), f"{path}: {types}")
        for name in ["estimate", "lower", "upper"]:
            check(bool(np.isfinite(table[name].drop_null().to_numpy()).all()), f"{path}: {name} has numbers that are not finite")
        bounds = [table[name].to_pylist() for name in ["lower", "upper"]]
        check(all((a is None) == (b is None) and (a is None or a <= b) for a, b in zip(*bounds)), f"{path}: interval out of order")
    if pl:
        frame = pl.read_parquet(path)
        check(frame.columns == list(METRICS), f"{path}: polars sees {frame.columns}")
        check(not pq or frame.to_dicts() == table.to_pylist(), f"{path}: polars and pyarrow differ")
    print(f"{path}: read back")


def main(root: Path) -> None:
    if (root / "metrics.parquet").exists():
        check_metrics(root / "metrics.parquet")
    if not (root / "manifest.json").exists() or not json.loads((root / "manifest.json").read_text())["layout"]:
        check((root / "metrics.parquet").exists(), f"{root} holds neither an export nor metrics.parquet")
        return
    manifest = json.loads((root / "manifest.json").read_text())
    check(manifest["status"] == "complete", f"status is {manifest['status']}")
    layout, rows = manifest["layout"], manifest["counts"]["rows"]
    n_shards = -(-rows // layout["shard_rows"])
    pq, pl = library("pyarrow.parquet"), library("polars")
    readers = set()
    for shard in range(n_shards):
        expected = min(layout["shard_rows"], rows - shard * layout["shard_rows"])
        tokens = root / f"tokens/shard={shard}.parquet"
        if pq:
            table = pq.ParquetFile(tokens).read()
            check(table.column_names[:5] == ["row_id", "doc_id", "pos", "token_id", "token"], f"{tokens}: {table.column_names}")
            ids = table["row_id"].to_numpy()
            check((ids == shard * layout["shard_rows"] + np.arange(expected)).all(), f"{tokens}: row_id")
        if pl:
            check(pl.read_parquet(tokens, hive_partitioning=False).height == expected, f"{tokens}: polars sees other rows")
        for column in layout["columns"]:
            path = root / f"acts/hook={column['hook']}/layer={column['layer']}/shard={shard}.{layout['format']}"
            views = act_of(path, layout, column["width"])
            for name, act in views.items():
                check(act.shape == (expected, column["width"]), f"{path}: {name} sees {act.shape}")
                # Parquet has no bf16: f32 of which the lower half is zero.
                dtype = {"f32": np.float32, "f16": np.float16, "bf16": np.float32}[layout["dtype"]]
                check(act.dtype == dtype, f"{path}: {name} sees {act.dtype}")
                check(layout["dtype"] != "bf16" or not (np.ascontiguousarray(act).view("<u4") & 0xFFFF).any(), f"{path}: no bf16")
                check(bool(np.isfinite(act).all()), f"{path}: {name} sees numbers that are not finite")
                check(act.tobytes() == next(iter(views.values())).tobytes(), f"{path}: {name} differs")
                readers.add(name)
    if layout["format"] == "parquet" and pl:
        scan = pl.scan_parquet(root / "acts", hive_partitioning=True)
        by_layer = scan.group_by("hook", "layer").len().collect()
        check(by_layer["len"].to_list() == [rows] * len(layout["columns"]), f"hive scan sees {by_layer}")
    print(f"{root}: {rows} rows of {len(layout['columns'])} columns read back by {', '.join(sorted(readers))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
