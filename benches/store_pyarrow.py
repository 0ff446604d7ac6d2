"""The peer of examples/store_throughput.rs: the same numbers through numpy and pyarrow, same encodings.

usage: store_pyarrow.py DIR THREADS      (DIR as left by store_throughput)
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

root, threads = Path(sys.argv[1]), int(sys.argv[2])
pa.set_cpu_count(threads)
out = root / "peer"
out.mkdir(exist_ok=True)
layers = 2


def write(act: np.ndarray, layer: int) -> None:
    n, d = act.shape
    row = np.arange(n, dtype=np.uint64)
    table = pa.table(
        {
            "row_id": row,
            "doc_id": row // 500,
            "pos": (row % 500).astype(np.uint32),
            "token_id": (row * 7919 % 50257).astype(np.uint32),
            "act": pa.FixedSizeListArray.from_arrays(pa.array(act.reshape(-1)), d),
        }
    )
    pq.write_table(
        table,
        out / f"layer={layer}.parquet",
        compression="zstd",
        compression_level=1,
        use_dictionary=["token_id"],
        column_encoding={"act.list.element": "BYTE_STREAM_SPLIT", "row_id": "DELTA_BINARY_PACKED"},
        write_statistics=["row_id", "doc_id", "pos", "token_id"],
        row_group_size=(16 << 20) // (d * act.itemsize),
    )


for dtype in ("f32", "f16"):
    act = np.load(root / f"npy-{dtype}/acts/hook=resid_pre/layer=0/shard=0.npy")
    seconds, core = [], []
    for _ in range(3):
        start, start_core = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda layer: write(act, layer), range(layers)))
        seconds.append(time.perf_counter() - start)
        core.append(time.process_time() - start_core)
    disk = sum(p.stat().st_size for p in out.glob("*.parquet"))
    raw = act.nbytes * layers
    start, start_core = time.perf_counter(), time.process_time()
    for layer in range(layers):
        pq.read_table(out / f"layer={layer}.parquet", columns=["act"], use_threads=threads > 1)
    read, read_core = time.perf_counter() - start, time.process_time() - start_core
    print(
        f"pyarrow      {dtype} write {raw / 1e6 / median(seconds):5.0f} ({raw / 1e6 / median(core):5.0f})  "
        f"read {raw / 1e6 / read:5.0f} ({raw / 1e6 / read_core:5.0f})  MB/s (per core)  {100 * disk / raw:5.1f} % of raw"
    )
