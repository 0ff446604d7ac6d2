"""Results over their run folders."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import layerscope as ls
from layerscope import _hf


@pytest.fixture(scope="module")
def tuned(model: ls.Model, stories: Path, tmp_path_factory: pytest.TempPathFactory) -> ls.Lens:
    return model.fit(stories, kind="tuned", layers=[3, 7], tokens=3000, out=tmp_path_factory.mktemp("lens") / "tuned")


@pytest.fixture(scope="module")
def evaluation(model: ls.Model, stories: Path, tuned: ls.Lens) -> ls.Evaluation:
    return model.evaluate(stories, lens=["logit", tuned], layers=[3, 8], tokens=2000, replicates=50)


def test_a_view(model: ls.Model, tuned: ls.Lens) -> None:
    view = model.view("Alice was beginning to get", lens=["logit", tuned], layers=[3, 8])
    assert view.tokens[1:4] == ["Al", "ice", " was"]
    top = view.top(layer=8, k=2)
    assert len(top) == len(view.tokens)
    assert top[-1][0][1] >= top[-1][1][1] > 0
    assert view.top(3, lens="tuned") != view.top(3, lens="logit")
    with pytest.raises(ls.UsageError, match="layer 5"):
        view.top(5)
    assert "iframe" in view._repr_html_()
    again = pickle.loads(pickle.dumps(view))
    assert again.answer == view.answer


def test_an_attribution(model: ls.Model) -> None:
    found = model.attribute("Alice was beginning to get very")
    parts = [part["attribution"] for part in found["components"]]
    assert abs(sum(parts) - found["logits"][0]) < 1e-4 * max(1, abs(found["logits"][0]))
    assert {part["component"] for part in found["components"]} >= {"embed", "pos_embed", "head", "mlp", "norm_bias"}


def test_an_evaluation(evaluation: ls.Evaluation) -> None:
    rows = evaluation.rows()
    kl = {(row["subject"], row["layer"]): row["estimate"] for row in rows if row["metric"] == "kl"}
    assert kl["tuned", 3] < kl["logit", 3]
    assert len(evaluation.metrics) == len(rows)
    assert "<table>" in evaluation._repr_html_()
    again = ls.open(evaluation.path)
    assert isinstance(again, ls.Evaluation)
    assert again.manifest["kind"] == "lens eval"
    assert pickle.loads(pickle.dumps(evaluation)).rows() == rows


def test_figures_and_report(evaluation: ls.Evaluation, tmp_path: Path) -> None:
    figure = evaluation.plot("kl")
    assert "<svg" in figure._repr_svg_()
    assert figure.csv.is_file()
    with pytest.raises(ls.UsageError, match="no figure"):
        evaluation.plot("no such metric")
    page = evaluation.report(tmp_path / "report")
    assert page.read_text(encoding="utf-8").startswith("<!")


def test_a_lens(tuned: ls.Lens) -> None:
    assert (tuned.kind, tuned.layers, tuned.name if hasattr(tuned, "name") else tuned.path.name) == (
        "tuned", [3, 7], "tuned",
    )  # fmt: skip
    assert len(tuned.losses) > 0
    assert isinstance(ls.open(tuned.path), ls.Lens)


def test_a_sweep_and_a_push(model: ls.Model) -> None:
    sweep = model.probe(
        "fixtures/probes/statements.csv", group="pair", probe=["mean-diff"], layers=[0, 8], seeds=1, mdl=0,
        control_draws=1, replicates=50,
    )  # fmt: skip
    best = sweep.best()
    assert best.layer in (0, 8)
    assert best.direction.shape == (128,)
    assert sweep.probe("mean-diff", 8).layer == 8
    assert pickle.loads(pickle.dumps(best)).layer == best.layer
    with pytest.raises(ls.UsageError, match="no probe"):
        sweep.probe("lda", 8)
    steered = model.steer(best, toward=" woman", away=" man", random=1, strengths=[-0.5, 0.5], tokens=300)
    slopes = [row for row in steered.rows() if row["metric"] == "response_slope"]
    assert slopes and all(np.isfinite(row["estimate"]) for row in slopes)


def test_words_of_the_model(model: ls.Model) -> None:
    said = model.generate("Alice was", max_new_tokens=3)
    assert said["generated"].startswith(" ")
    assert len(said["token_ids"]) == 3
    patched = model.patch("Alice was", layers=[8], steps=2)
    assert {answer["layer"] for answer in patched["answers"]} == {8}
    traced = model.trace(
        "She took the hat, and then", corrupted="He took the hat, and then", layers=[0, 4], hook=["resid_pre"]
    )
    assert traced
    assert model.verify("fixtures/gpt2-alice-8l/reference.safetensors")["verdict"] == "pass"


def test_what_the_page_says_beside_other_packages(model: ls.Model, stories: Path) -> None:
    theirs = model.evaluate(stories, lens="fixtures/lenses/package-gpt2-alice", tokens=200, layers=[3], replicates=20)
    assert {row["subject"] for row in theirs.rows()} >= {"package-gpt2-alice"}
    assert "blocks.3.hook_resid_pre" in model.hooks
    plain = model.generate("Alice was", max_new_tokens=2)["generated"]
    zeroed = model.generate("Alice was", max_new_tokens=2, edit=["blocks.5.hook_resid_pre:zero"], edit_steps="all")
    assert zeroed["generated"] != plain


def test_runs_without_a_folder_go_to_a_temporary_one(model: ls.Model, stories: Path) -> None:
    first, second = (model.schedule(stories, schedule=["skip:3"], tokens=100, layers=[8]) for _ in range(2))
    assert first.path != second.path
    assert first.rows()


def test_heads_of_a_text_a_prompt_and_random_tokens(model: ls.Model, stories: Path) -> None:
    heads = model.attention(stories, tokens=200, layers=[2]).rows()
    assert {row["head"] for row in heads} == {0, 1, 2, 3}
    assert model.attention(prompt="Alice said that Alice said", layers=[0]).rows()
    without = model.attention(repeated_random=8, seeds=6, ablate="zero", heads=["1.0"], layers=[1]).rows()
    assert "ce_increase" in {row["metric"] for row in without}


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ls.UsageError, match="no such file"):
        ls.open(tmp_path)


def test_a_transformers_model_is_its_folder(folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    hf = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert _hf.source(hf) == folder
    model = ls.Model(hf, progress=False)
    assert model.settings["model"] == str(folder)
    with torch.no_grad():
        hf.transformer.h[2].mlp.c_fc.weight[0, 0] += 1
    with pytest.raises(ls.UsageError, match=r"h\.2\.mlp\.c_fc\.weight .* changed"):
        ls.Model(hf)
    hf.name_or_path = ""
    with pytest.raises(ls.UsageError, match="save it first"):
        ls.Model(hf)
