"""Runs in the files of other tools, opened by those tools: datasets, and SAELens' own checks of a cache.

vllm-lens and Neuronpedia are asked where they are installed (neither is here: vllm-lens is on no index, and Neuronpedia's library
only sends); what they take is compared with their layout in any case.
"""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch

import layerscope as ls

TOKENS = 700


@pytest.fixture(scope="module", params=["f32", "f16", "bf16"])
def acts(
    request: pytest.FixtureRequest, model: ls.Model, stories: Path, tmp_path_factory: pytest.TempPathFactory
) -> ls.Activations:
    """Two hooks, in several shards and windows."""
    format_: Any = "safetensors" if request.param == "bf16" else "arrow"
    return model.export(
        stories, hooks=["resid_pre", "mlp_out"], layers=[3, 8], tokens=TOKENS, seq_len=64, shard_mb=1, format=format_,
        act_dtype=request.param, out=tmp_path_factory.mktemp("acts") / request.param,
    )  # fmt: skip


def test_a_dataset_has_every_row(acts: ls.Activations, tmp_path: Path) -> None:
    rows = datasets.load_from_disk(str(acts.to("hf", out=tmp_path / "hf")))
    assert len(rows) == len(acts) == TOKENS
    assert list(rows.features)[:5] == ["row_id", "doc_id", "pos", "token_id", "token"]
    for name in ("row_id", "doc_id", "pos", "token_id", "token"):
        assert rows[name][:] == acts.tokens[name].to_pylist()
    kept = "float16" if acts.act_dtype == "f16" else "float32"
    for column in acts.columns:
        feature = rows.features[column["point"]]
        assert (feature.feature.dtype, feature.length) == (kept, column["width"])
        got = rows.with_format("numpy")[column["point"]][:]
        assert np.array_equal(np.asarray(got), acts[column["point"]])
    # What people do with it next.
    assert rows.filter(lambda row: row["pos"] > 0).num_rows < TOKENS
    assert rows.select_columns(["pos"]).shuffle(seed=0)[0]["pos"] >= 0


@pytest.mark.parametrize("context", [64, 16])
def test_a_cache_is_what_saelens_asks_of_one(acts: ls.Activations, tmp_path: Path, context: int) -> None:
    out = acts.to("saelens", context=context, out=tmp_path / "cache")
    # `ActivationsStore.load_cached_activation_dataset` does these steps and checks.
    cache = datasets.load_from_disk(str(out))
    assert isinstance(cache, datasets.Dataset)
    tokens = acts.tokens
    places = np.stack([tokens["doc_id"].to_numpy(), tokens["pos"].to_numpy()], 1)
    starts = [
        row
        for row in range(len(places))
        if places[row, 1] % 64 % context == 0
        and places[row, 1] % 64 + context <= 64
        and row + context <= len(places)
        and places[row + context - 1].tolist() == [places[row, 0], places[row, 1] + context - 1]
    ]
    assert len(cache) == len(starts) > 3
    for column in acts.columns:
        hook, width = column["point"], column["width"]
        assert cache.features[hook].shape == (context, width)
        cache.set_format(type="torch", columns=[hook, "token_ids"], device="cpu", dtype=torch.float32)
        got, rows = cache[: len(cache)], acts[hook]
        assert got[hook].shape == (len(starts), context, width)
        assert got["token_ids"].shape == (len(starts), context)
        for at, start in enumerate(starts):
            assert np.array_equal(got[hook][at].numpy(), rows[start : start + context].astype(np.float32))
            assert got["token_ids"][at].tolist() == tokens["token_id"][start : start + context].to_pylist()


def test_a_cache_of_our_own_comes_back(acts: ls.Activations, model: ls.Model, tmp_path: Path) -> None:
    out = acts.to("saelens", context=32, layers=[3], out=tmp_path / "cache")
    # A window's second half was run behind its first, which a context does not say.
    back = model.import_(out, format="saelens", check=1, tolerance=0.03)
    assert {column["point"] for column in back.columns} == {"blocks.3.hook_resid_pre", "blocks.3.hook_mlp_out"}


def decoded(encoded: dict[str, Any]) -> torch.Tensor:
    """By the description of vllm-lens' `serialize_tensor`: base64 of zstd, bf16 as int16."""
    dtype = np.dtype(encoded["dtype"])
    size = int(np.prod(encoded["shape"])) * dtype.itemsize
    raw = pa.decompress(base64.b64decode(encoded["data"]), decompressed_size=size, codec="zstd", asbytes=True)
    tensor = torch.from_numpy(np.frombuffer(raw, dtype).reshape(encoded["shape"]).copy())
    return tensor.view(torch.bfloat16) if encoded["original_dtype"] == "torch.bfloat16" else tensor


def test_responses_of_vllm_lens(acts: ls.Activations, tmp_path: Path) -> None:
    files = sorted(acts.to("vllm-lens", out=tmp_path / "out").iterdir())
    kept = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[acts.act_dtype]
    row = 0
    for file in files:
        response = json.loads(file.read_text())
        stream = decoded(response["activations"]["residual_stream"])
        if importlib.util.find_spec("vllm_lens") is not None:
            peer = importlib.import_module("vllm_lens")
            assert torch.equal(peer.decode_activations(response)["residual_stream"], stream)
        ids = response["choices"][0]["prompt_token_ids"]
        assert (stream.dtype, stream.shape) == (kept, (2, len(ids), 128))
        assert ids == acts.tokens["token_id"][row : row + len(ids)].to_pylist()
        for place, layer in enumerate([3, 8]):
            wanted = acts["resid_pre", layer][row : row + len(ids)]
            assert np.array_equal(stream[place].float().numpy(), wanted.astype(np.float32))
        row += len(ids)
    assert row == TOKENS


def test_a_vector_is_what_neuronpedia_takes(model: ls.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = model.probe(
        "fixtures/probes/statements.csv", group="pair", probe=["mean-diff"], layers=[4], seeds=1, out=tmp_path / "sweep"
    )
    probe = sweep.best()
    (file,) = probe.to("neuronpedia", model_id="alice", out=tmp_path / "out").iterdir()
    body = json.loads(file.read_text())
    assert np.allclose(body["vector"], probe.direction, rtol=1e-7, atol=0)
    assert len(body["vector"]) == model.d_model
    monkeypatch.setenv("NEURONPEDIA_API_KEY", "none")
    requests = pytest.importorskip("neuronpedia.requests.vector_request")
    sent: list[dict[str, Any]] = []

    def send(self: object, method: str, uri: str, json: dict[str, Any]) -> None:
        sent.append(json)
        raise ConnectionError

    monkeypatch.setattr(requests.VectorRequest, "send_request", send)
    with pytest.raises(ConnectionError):
        requests.VectorRequest().new(body["vectorLabel"], "alice", 4, body["hookType"], body["vector"])
    assert sent == [body]


def test_a_view_is_what_logitlenskit_shows(model: ls.Model, tmp_path: Path) -> None:
    view = model.view("The Queen of", top_k=3)
    whole = json.loads(view.to("logitlenskit", out=tmp_path / "kit.json").read_text())
    assert (whole["meta"]["version"], whole["input"]) == (2, view.tokens)
    saved = model.run("view", text=["The Queen of"], lens=["logit"], top_k=3, out=tmp_path / "saved")
    (file,) = saved.to("logitlenskit").iterdir()
    cut = json.loads(file.read_text())
    assert (cut["layers"], cut["input"]) == (whole["layers"], whole["input"])
    # What its widget reads of every cell: the trajectory of each of its tokens.
    for data in (whole, cut):
        for layer in data["topk"]:
            for tops, followed in zip(layer, data["tracked"], strict=True):
                assert tops
                assert all(len(followed[token]) == len(data["layers"]) for token in tops)


def test_bf16_is_read_as_the_same_numbers(model: ls.Model, stories: Path) -> None:
    plain = model.export(stories, layers=[3], tokens=300)
    for format_ in ("safetensors", "parquet"):
        half = model.export(stories, layers=[3], tokens=300, act_dtype="bf16", format=format_)
        wanted = plain[3].torch().bfloat16()
        assert torch.equal(half[3].torch(), wanted.float())
        assert half.act_dtype == "bf16"
    with pytest.raises(ls.UsageError, match="arrow has no bf16; choose safetensors, or parquet"):
        model.export(stories, layers=[3], tokens=300, act_dtype="bf16")


def test_lenses_are_measured_on_an_export(model: ls.Model, stories: Path) -> None:
    states = model.export(stories, tokens=600)
    text = model.evaluate(stories, tokens=600, layers=[2, 6], replicates=20)
    again = model.evaluate(activations=states, layers=[2, 6], replicates=20)
    assert len(text.rows()) == len(again.rows()) > 20
    for a, b in zip(text.rows(), again.rows(), strict=True):
        assert (a["metric"], a["layer"], a["unit"]) == (b["metric"], b["layer"], b["unit"])
        assert abs(a["estimate"] - b["estimate"]) <= 1e-4 * max(1, abs(a["estimate"]))


def test_what_comes_back_is_an_export_again(model: ls.Model, stories: Path) -> None:
    states = model.export(stories, layers=[3, 8], tokens=600, seq_len=64)
    # A file per window; each is a document of its own then.
    back = model.import_(states.to("vllm-lens"), format="vllm_lens")
    assert [column["point"] for column in back.columns] == ["blocks.3.hook_resid_pre", "blocks.8.hook_resid_pre"]
    assert np.array_equal(np.asarray(back[3]), np.asarray(states[3]))
    kl = []
    for acts in (states, back):
        rows = model.evaluate(activations=acts, layers=[3], replicates=20).rows()
        kl += [row["estimate"] for row in rows if (row["metric"], row["unit"], row["layer"]) == ("kl", "nats", 3)]
    assert len(kl) == 2
    assert abs(kl[0] - kl[1]) < 1e-6 * kl[0]
    with pytest.raises(ls.UsageError, match="no activations of hook resid_pre, layer 4"):
        model.evaluate(activations=states, layers=[4])
