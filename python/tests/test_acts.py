"""Exports as arrays and frames."""

from __future__ import annotations

import importlib.util
import json
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import layerscope as ls

TOKENS = 1200


@pytest.fixture(scope="module", params=["arrow", "parquet", "npy", "safetensors"])
def acts(
    request: pytest.FixtureRequest, model: ls.Model, stories: Path, tmp_path_factory: pytest.TempPathFactory
) -> ls.Activations:
    """Two hooks, in several shards."""
    return model.export(
        stories,
        hooks=["resid_pre", "mlp_out"],
        layers=[0, 3],
        tokens=TOKENS,
        format=request.param,
        shard_mb=1,
        out=tmp_path_factory.mktemp("acts") / request.param,
    )


@pytest.fixture(scope="module")
def wanted(model: ls.Model, stories: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray[Any, Any]:
    """The same states in one piece, as another reader has them."""
    out = tmp_path_factory.mktemp("wanted") / "npy"
    model.export(stories, layers=[3], tokens=TOKENS, format="npy", out=out)
    found: np.ndarray[Any, Any] = np.load(out / "acts/hook=resid_pre/layer=3/shard=0.npy")
    return found


def test_rows_by_layer_and_name(acts: ls.Activations, wanted: np.ndarray[Any, Any]) -> None:
    rows = acts[3]
    assert rows.shape == wanted.shape == (TOKENS, 128)
    assert len(acts) == TOKENS
    assert np.array_equal(rows, wanted)
    assert np.array_equal(acts["blocks.3.hook_resid_pre"], wanted)
    assert np.array_equal(acts["resid_pre", 3], wanted)
    assert not np.array_equal(acts["blocks.3.hook_mlp_out"], wanted)
    assert np.array_equal(rows + 1, wanted + 1)
    assert acts.tokens["row_id"].to_pylist() == list(range(TOKENS))


@pytest.mark.parametrize("key", [0, -1, 700, slice(10, 20), slice(500, 1100), slice(None), slice(5, 5), slice(0, 50, 7),
                                 [3, 1, 1150], np.arange(TOKENS) % 3 == 0, (slice(2, 900), 4), (5, slice(1, 3))])  # fmt: skip
def test_any_index_is_numpys(acts: ls.Activations, wanted: np.ndarray[Any, Any], key: Any) -> None:
    assert len(acts[3].pieces) > 1 or acts.format == "parquet"
    assert np.array_equal(acts[3][key], wanted[key])


def test_rows_that_are_not_there(acts: ls.Activations) -> None:
    with pytest.raises(IndexError, match="row 1200 of 1200"):
        acts[3][TOKENS]
    with pytest.raises(KeyError, match=r"blocks\.0\.hook_resid_pre"):
        acts[5]


def test_batches_have_every_row_once(acts: ls.Activations, wanted: np.ndarray[Any, Any]) -> None:
    seen: list[int] = []
    for x, ids in acts.loader(3, batch=500, shuffle=7):
        assert np.array_equal(x, wanted[ids])
        seen.extend(ids)
    assert seen != sorted(seen)
    assert sorted(seen) == list(range(TOKENS))
    again = [ids for _, ids in acts.loader(3, batch=500, shuffle=7)]
    assert np.array_equal(np.concatenate(again), seen)
    assert np.array_equal(np.concatenate([x for x, _ in acts.loader(3, batch=500)]), wanted)


def test_frames(acts: ls.Activations, wanted: np.ndarray[Any, Any]) -> None:
    if acts.format not in ("arrow", "parquet"):
        with pytest.raises(ls.UsageError, match="not " + acts.format):
            acts.frame()
        return
    table = acts.arrow(3)
    assert np.array_equal(np.stack(table["act"].to_numpy()), wanted)
    if importlib.util.find_spec("polars"):
        import polars as pl

        own = acts.frame().filter(pl.col("layer") == 3, pl.col("hook") == "resid_pre").sort("row_id").collect()
        assert np.array_equal(own["act"].to_numpy(), wanted)
        assert acts.frame("blocks.3.hook_mlp_out").collect().height == TOKENS
    if importlib.util.find_spec("pandas"):
        assert np.array_equal(np.stack(acts.pandas(3)["act"].to_numpy()), wanted)
    if importlib.util.find_spec("datasets"):
        assert np.array_equal(np.array(acts.hf(3)[:5]["act"], np.float32), wanted[:5])


def test_arrow_is_mapped_and_not_copied(model: ls.Model, stories: Path, tmp_path: Path) -> None:
    acts = model.export(stories, layers=[3], tokens=TOKENS, out=tmp_path / "acts")
    rows = np.asarray(acts[3])
    base: Any = rows
    while getattr(base, "base", None) is not None:
        if isinstance(base, np.memmap):
            break
        base = base.base
    assert isinstance(base, np.memmap)
    before = (tmp_path / "acts/acts/hook=resid_pre/layer=3/shard=0.arrow").read_bytes()
    rows[:] = 0  # torch takes no array that cannot be written; the file must not notice
    assert (tmp_path / "acts/acts/hook=resid_pre/layer=3/shard=0.arrow").read_bytes() == before
    assert np.asarray(acts[3]).any()


def test_an_export_opens_again(acts: ls.Activations) -> None:
    again = ls.open(acts.path)
    assert isinstance(again, ls.Activations)
    assert np.array_equal(again[0], acts[0])
    assert pickle.loads(pickle.dumps(acts)).path == acts.path


def test_torch_takes_rows(acts: ls.Activations, wanted: np.ndarray[Any, Any]) -> None:
    torch = pytest.importorskip("torch")
    assert torch.equal(acts[3].torch(), torch.from_numpy(wanted))
    x, _ = next(acts.loader(3, batch=10, torch=True))
    assert x.shape == (10, 128)


def test_a_layer_of_100_mb_is_mapped_in_2_ms(tmp_path: Path) -> None:
    """As the program writes it: record batches of 16 MB. The best of many, since others may be at work here."""
    rows, width, batch = 6250, 4096, 1024
    folder = tmp_path / "acts/hook=resid_pre/layer=3"
    folder.mkdir(parents=True)
    column = {"hook": "resid_pre", "point": "blocks.3.hook_resid_pre", "layer": 3, "width": width}
    layout = {"columns": [column], "dtype": "f32", "format": "arrow"}
    manifest = {"kind": "export", "status": "complete", "layout": layout, "counts": {"rows": rows}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    values = np.arange(batch * width, dtype=np.float32)
    schema = pa.schema([("row_id", pa.uint64()), ("act", pa.list_(pa.float32(), width))])
    with pa.OSFile(str(folder / "shard=0.arrow"), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for begin in range(0, rows, batch):
            own = min(batch, rows - begin)
            act = pa.FixedSizeListArray.from_arrays(pa.array(values[: own * width]), width)
            writer.write(pa.record_batch([pa.array(np.arange(begin, begin + own, dtype=np.uint64)), act], schema))
    acts = ls.open(tmp_path)
    assert acts[3].shape == (rows, width)
    assert acts[3][batch + 1, 0] == width

    def seconds() -> float:
        begun = time.perf_counter()
        assert len(acts[3].pieces) == 7
        return time.perf_counter() - begun

    assert min(seconds() for _ in range(20)) < 2e-3


def test_what_others_kept_is_taken_in_and_checked(model: ls.Model, folder: Path, tmp_path: Path) -> None:
    source = folder.parent / "import" / "saelens"
    acts = ls.import_(source, format="saelens", model=model, out=tmp_path / "acts")
    assert acts["blocks.4.hook_resid_pre"].shape == (48, 128)
    again: ls.Activations = ls.open(tmp_path / "acts")
    assert np.array_equal(np.asarray(again[4]), np.asarray(acts["resid_pre", 4]))
    # The states of layer 4 are not those of layer 3.
    renamed = tmp_path / "map.json"
    renamed.write_text(json.dumps({"blocks.4.hook_resid_pre": "blocks.3.hook_resid_pre"}))
    with pytest.raises(ls.CheckFailed, match=r"blocks\.4\.hook_resid_pre"):
        model.import_(source, format="saelens", map=str(renamed), out=tmp_path / "wrong")
    assert not (tmp_path / "wrong" / "acts").exists()
