"""Our lenses on states of a transformers model: the program's numbers, and gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import layerscope as ls

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXT = "Alice was beginning to get very tired of sitting by her sister on the bank"
# On the bundled model both sides compute in f32 and add in other orders: over d_model = 128 terms a logit of around 10 is off
# by a few 1e-6, and its logarithm of the softmax as much; numbers larger than 1 are off relative to their size. SmolLM2 has
# single states hundreds of times the others, so that transformers' own pass in f32 is up to 2e-5 from its pass in f64: there
# the program, in f32, is held to transformers in f64, from which it was at most 5e-6.
TOLERANCE = 1e-5


class Bench:
    """A model in both worlds, and its lenses."""

    def __init__(self, folder: Path, data: Path, out: Path, layers: list[int], tokens: int, dtype: Any) -> None:
        self.layers = layers
        self.model = ls.Model(folder, dtype="f32", progress=False)
        self.hf = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        few: dict[str, Any] = {"layers": layers, "tokens": tokens}
        self.lenses: dict[str, ls.Lens] = {
            "tuned": self.model.fit(data, kind="tuned", out=out / "tuned", **few),
            "linear": self.model.fit(data, kind="linear", out=out / "linear", **few),
            "shared": self.model.fit(data, kind="shared", rung=["affine", "gain"], out=out / "shared", **few),
            "jacobian": self.model.fit(
                data, kind="jacobian", n_prompts=1, seq_len=16, skip_first=4, out=out / "jacobian", **few
            ),
            "future": self.model.fit(data, kind="future", horizons=2, out=out / "future", **few),
        }

    def view(self, lens: Any) -> tuple[Any, list[dict[str, Any]]]:
        """Token ids, and per lens what the program reads."""
        view = self.model.view(TEXT, lens=lens, layers=[*self.layers, self.model.n_layers], top_k=3)
        ids = torch.tensor([[token["id"] for token in view.prompts[0]["tokens"]]])
        return ids, view.prompts[0]["lenses"]


@pytest.fixture(scope="module", params=["bundled", "smollm2"])
def bench(
    request: pytest.FixtureRequest, folder: Path, stories: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """The bundled model, and SmolLM2-135M where LAYERSCOPE_SMOLLM2 names its folder."""
    out = tmp_path_factory.mktemp(request.param)
    if request.param == "bundled":
        one = Bench(folder, stories, out, [2, 6], 3000, torch.float32)
    elif os.environ.get("LAYERSCOPE_SMOLLM2"):
        one = Bench(Path(os.environ["LAYERSCOPE_SMOLLM2"]), stories, out, [5, 25], 600, torch.float64)
    else:
        pytest.skip("LAYERSCOPE_SMOLLM2 names no folder of SmolLM2-135M")
    yield one
    one.model.close()


def near(own: Any, theirs: list[Any]) -> bool:
    wanted = torch.tensor(theirs, dtype=torch.float64)
    return bool(torch.allclose(own.detach().double(), wanted, rtol=TOLERANCE, atol=TOLERANCE))


@pytest.mark.parametrize("name", ["logit", "tuned", "linear", "shared", "jacobian"])
def test_readings_are_the_programs(bench: Bench, name: str) -> None:
    lens = ls.logit if name == "logit" else bench.lenses[name]
    ids, read = bench.view(lens)
    with ls.trace(bench.hf, layers=bench.layers) as states, torch.no_grad():
        bench.hf(ids)
    compared = 0
    for one in read:
        rung = one["lens"].split(":")[1] if ":" in one["lens"] else None
        if rung == "rotated-affine":
            continue
        reading = lens.read(states, bench.hf, rung=rung)
        for layer in one["layers"]:
            at, cells = layer["layer"], layer["positions"]
            column = {key: [cell[key] for cell in cells] for key in ("kl", "entropy", "ce", "rank_of_final", "prob")}
            assert near(reading.kl(at)[0], column["kl"]), (one["lens"], at)
            assert near(reading.entropy(at)[0], column["entropy"]), (one["lens"], at)
            assert near(reading.ce(at, ids.roll(-1))[0, :-1], column["ce"][:-1]), (one["lens"], at)
            assert reading.rank(at)[0].tolist() == column["rank_of_final"]
            top, probabilities = reading.top(at, 3)
            assert near(probabilities[0, :, 0], column["prob"])
            assert top[0, :, 0].tolist() == [cell["top"][0]["id"] for cell in cells]
            compared += len(cells)
    assert compared >= 3 * ids.shape[1]


def test_a_future_lens_reads_further_ahead(bench: Bench) -> None:
    ids, _ = bench.view("logit")
    with ls.trace(bench.hf, layers=bench.layers) as states, torch.no_grad():
        bench.hf(ids)
    lens = bench.lenses["future"]
    first, second = (lens.read(states, bench.hf, horizon=k).logits(bench.layers[0]) for k in (1, 2))
    assert first.shape == second.shape == (*ids.shape, bench.hf.config.vocab_size)
    assert not torch.equal(first, second)
    with pytest.raises(ls.UsageError, match=r"horizon\.3"):
        lens.read(states, bench.hf, horizon=3).logits(bench.layers[0])


def test_gradients_flow_to_the_users_own_input(bench: Bench) -> None:
    ids, _ = bench.view("logit")
    layer = bench.layers[0]
    embedded = bench.hf.get_input_embeddings()(ids).detach().requires_grad_()
    lens = bench.lenses["tuned"]

    def loss(inputs: Any) -> Any:
        with ls.trace(bench.hf, layers=[layer]) as states:
            bench.hf(inputs_embeds=inputs)
        return lens.read(states, bench.hf).kl(layer).mean()

    (gradient,) = torch.autograd.grad(loss(embedded), embedded)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    # Along the gradient, the central difference is its squared length. In f32 a loss of around 1 is known to 1e-7, so a
    # change of 2e-3 of it gives the slope to 1e-4; the third derivative adds the square of the step.
    with torch.no_grad():
        step = 1e-3 / gradient.norm() ** 2
        slope = (loss(embedded + step * gradient) - loss(embedded - step * gradient)) / (2 * step)
    assert slope.item() == pytest.approx(gradient.norm().item() ** 2, rel=5e-2)


def test_another_unembedding_is_refused(bench: Bench) -> None:
    lens = bench.lenses["tuned"]
    ids, _ = bench.view("logit")
    with ls.trace(bench.hf, layers=bench.layers) as states, torch.no_grad():
        bench.hf(ids)
        head = bench.hf.get_output_embeddings().weight
        kept = head[0, 0].clone()
        head[0, 0] += 1
        try:
            with pytest.raises(ls.CheckFailed, match="another unembedding"):
                lens.read(states, bench.hf)
            with pytest.raises(ls.CheckFailed, match="other logits than the model"):
                ls.logit.read(states, bench.hf).kl(bench.layers[0])
        finally:
            head[0, 0] = kept


def test_a_trace_says_what_it_has(bench: Bench) -> None:
    with ls.trace(bench.hf, layers=[1]) as states:
        with pytest.raises(ls.UsageError, match="has not run"):
            states[1]
        bench.hf(torch.tensor([[1, 2, 3]]))
    assert states[1].shape[:2] == (1, 3)
    before = states[1]
    bench.hf(torch.tensor([[1, 2]]))
    assert states[1] is before, "a trace that was left sees nothing more"
    with pytest.raises(ls.UsageError, match="was not traced"):
        states[0]
    with pytest.raises(ls.UsageError, match="no layer 99"):
        ls.trace(bench.hf, layers=[99])
