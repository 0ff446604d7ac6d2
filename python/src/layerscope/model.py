"""A model: every command of the program as a method, on weights that are loaded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from . import _hf
from ._files import scratch
from ._settings import job as as_job
from ._settings import listed, model_name, whole
from ._worker import Worker
from .acts import Activations
from .lens import Lens, LogitLens
from .results import Answer, Evaluation, Probe, Run, Sweep, View

if TYPE_CHECKING:
    from os import PathLike

    Paths = str | PathLike[str] | Sequence[str | PathLike[str]]
    Lenses = str | PathLike[str] | LogitLens | Sequence[str | PathLike[str] | LogitLens]
    Layers = int | str | Iterable[int]

__all__ = ["Model", "open_run"]

RESULTS: dict[str, type[Run]] = {
    "export": Activations,
    "import": Activations,
    "lens fit": Lens,
    "lens eval": Evaluation,
    "probe sweep": Sweep,
}


class Model:
    """A model folder, a hub id, or a transformers model (its folder is used), and a worker that keeps it loaded.

    Weights are read by the first command that needs them. `dtype` is `auto` (f32 on the CPU, the checkpoint's own on
    CUDA), `f32`, `bf16` or `f16`; `bos` says whether documents begin with BOS (`auto`, `always`, `never`). `progress` shows
    bars by tqdm where that is installed; a function in its place takes every event of the worker.

    >>> model = Model("fixtures/gpt2-alice-8l")
    >>> model.n_layers, model.d_model
    (8, 128)
    """

    def __init__(
        self,
        model: str | PathLike[str] | Any,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: Literal["auto", "f32", "bf16", "f16"] = "auto",
        threads: int | None = None,
        bos: Literal["auto", "always", "never"] = "auto",
        progress: bool | Callable[[dict[str, Any]], object] = True,
    ) -> None:
        if _hf.is_model(model):
            model = _hf.source(model)
        given = {"revision": revision, "threads": threads}
        self.settings: dict[str, Any] = {
            "model": model_name(model),
            "device": device,
            "dtype": dtype,
            "bos": bos,
            **{name: value for name, value in given.items() if value is not None},
        }
        self._worker = Worker(progress)

    def __repr__(self) -> str:
        return f"Model({self.settings['model']!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.settings, self._worker.progress)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker and frees its memory. The next command starts another."""
        self._worker.close()

    def run(self, command: str, /, **settings: Any) -> Any:
        """Runs any command of the program: `run("lens transfer", data=["held.jsonl"], lens=["tuned"], out="transfer")`.

        Settings have the names of the command's options with underscores (`layerscope COMMAND --help`), `layers` may be
        numbers. Gives the result of the run folder, or what the program says where it writes none. Unknown settings are
        refused.

        >>> Model("fixtures/gpt2-alice-8l").run("info")["family"]
        'gpt2'
        """
        done = self._worker.run(command, {**self.settings, **as_job(settings)})
        out = done["out"]
        if out is None:
            return done["result"] if not isinstance(done["result"], dict) else Answer(done["result"])
        return RESULTS.get(command, Run)(out, done["result"])

    @cached_property
    def info(self) -> dict[str, Any]:
        """What the model is: sizes, family, BOS, hook names, device and number type. Reads no weights."""
        return dict(self.run("info"))

    @property
    def n_layers(self) -> int:
        """Number of blocks L; the residual stream has layers 0 to L."""
        return int(self.info["n_layers"])

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.info["d_model"])

    @property
    def hooks(self) -> list[str]:
        """Every hook point, by its TransformerLens name."""
        return list(self.info["hooks"])

    def export(
        self,
        data: Paths,
        *,
        hooks: str | Sequence[str] = "resid_pre",
        layers: Layers | None = None,
        tokens: float | None = None,
        out: str | PathLike[str] | None = None,
        format: Literal["arrow", "parquet", "npy", "safetensors"] = "arrow",
        **settings: Any,
    ) -> Activations:
        """Writes what hooks see of a corpus: `acts[3]` is then `[rows, d_model]`, mapped from the files.

        `hooks` are names, short names (`resid_pre`: every layer) or globs; `tokens` stops after so many. Stopped and
        called again, it goes on where it was.
        """
        found: Activations = self._into(
            "export",
            out,
            data=listed(data),
            hooks=listed(hooks),
            layers=layers,
            tokens=whole(tokens),
            format=format,
            **settings,
        )
        return found

    def import_(
        self,
        source: str | PathLike[str],
        *,
        format: Literal["transformer_lens", "transformers", "saelens", "vllm", "vllm_lens", "npy"],
        layers: Layers | None = None,
        check: int = 8,
        out: str | PathLike[str] | None = None,
        **settings: Any,
    ) -> Activations:
        """Takes in activations that another program kept of this model: a file, or a folder of files.

        `check` documents are run again and compared; a column that is not what its name says (another layer's, normed,
        centred) raises `CheckFailed`, and nothing is written.

        >>> Model("fixtures/gpt2-alice-8l").import_("fixtures/import/tl.pt", format="transformer_lens")["resid_pre", 2].shape[1]
        128
        """
        maker = {"transformer_lens": "tl", "transformers": "hf", "vllm_lens": "vllm-lens"}.get(format, format)
        found: Activations = self._into(
            "import", out, source=str(source), layers=layers, check=check, format="arrow", **{"as": maker}, **settings
        )
        return found

    def fit(
        self,
        data: Paths | None = None,
        *,
        kind: Literal["tuned", "shared", "linear", "future", "future-vocab", "future-prompt", "jacobian"] = "tuned",
        layers: Layers | None = None,
        tokens: float | None = None,
        out: str | PathLike[str] | None = None,
        **settings: Any,
    ) -> Lens:
        """Fits a lens on a text (or on `activations=`, an export). Ctrl-C leaves a checkpoint; call again to go on."""
        found: Lens = self._into(
            "lens fit", out, data=listed(data), kind=kind, layers=layers, tokens=whole(tokens), **settings
        )
        return found

    def evaluate(
        self,
        data: Paths | None = None,
        *,
        lens: Lenses = "logit",
        layers: Layers | None = None,
        tokens: float | None = None,
        out: str | PathLike[str] | None = None,
        **settings: Any,
    ) -> Evaluation:
        """CE, KL(model ‖ lens), agreement by lens and layer (nats, shares), with intervals over documents.

        `activations=`, an export of the layers and of the last one, stands for the text and its forward passes.
        """
        found: Evaluation = self._into(
            "lens eval", out, data=listed(data), lens=listed(lens), layers=layers, tokens=whole(tokens), **settings
        )
        return found

    def transfer(
        self, data: Paths | None = None, *, lens: Lenses, out: str | PathLike[str] | None = None, **settings: Any
    ) -> Run:
        """How the translator of every layer reads the states of every other: the matrix, geometry, corrections.

        `activations=` as in `evaluate`.
        """
        found: Run = self._into("lens transfer", out, data=listed(data), lens=listed(lens), **settings)
        return found

    def causal(self, data: Paths, *, lens: Lenses = (), out: str | PathLike[str] | None = None, **settings: Any) -> Run:
        """Whether the model goes by the directions that a lens goes by."""
        found: Run = self._into("lens causal", out, data=listed(data), lens=listed(lens), **settings)
        return found

    def view(
        self,
        text: str | Sequence[str],
        *,
        lens: Lenses = "logit",
        layers: Layers | None = None,
        top_k: int = 10,
        **settings: Any,
    ) -> View:
        """What lenses read at every layer and token of prompts. The last value of a notebook's cell shows the page.

        >>> view = Model("fixtures/gpt2-alice-8l", progress=False).view("The old man looked at", layers=[0, 8])
        >>> [token for token, probability in view.top(layer=8)[-1][:2]]
        [' him', ' me']
        """
        job = as_job({"text": listed(text), "lens": listed(lens), "layers": layers, "top_k": top_k, **settings})
        return View(self, job, dict(self.run("view", **job)))

    def probe(
        self,
        data: Paths,
        *,
        group: str | None = None,
        layers: Layers | None = None,
        out: str | PathLike[str] | None = None,
        **settings: Any,
    ) -> Sweep:
        """Probes of labelled data at every layer, with baselines, control tasks and intervals.

        `group` is the column whose rows stay on one side of every split (`group_column`).
        """
        found: Sweep = self._into("probe sweep", out, data=listed(data), group_column=group, layers=layers, **settings)
        return found

    def steer(
        self,
        direction: Probe | Run | str | PathLike[str] | Sequence[Any],
        *,
        toward: str | None = None,
        away: str | None = None,
        data: Paths | None = None,
        layers: Layers | None = None,
        out: str | PathLike[str] | None = None,
        **settings: Any,
    ) -> Run:
        """Adds a direction to the residual stream and measures what becomes of the prediction, beside random ones.

        A `Probe` is pushed along its weights at its layer. Without `data` the texts of the probe's own sweep are run,
        which flatters it: give neutral text for a measurement.
        """
        if data is None and isinstance(direction, Probe):
            own = Sweep(direction.path.parents[1]).settings
            data = own["data"]
            settings.setdefault("text_column", own.get("text_column"))
        found: Run = self._into(
            "steer",
            out,
            direction=listed(direction),
            toward=toward,
            away=away,
            data=listed(data),
            layers=layers,
            **settings,
        )
        return found

    def generate(self, text: str | Sequence[str], *, max_new_tokens: int | None = None, **settings: Any) -> Any:
        """Continues prompts, greedily or sampled, also under edits: `["generated"]`, `["prompts"]`."""
        return self.run("generate", text=listed(text), max_new_tokens=max_new_tokens, **settings)

    def patch(self, source: str | None = None, **settings: Any) -> Any:
        """States of one prompt put into another (Patchscopes): `["answers"]`."""
        return self.run("patch", source=source, **settings)

    def trace(self, clean: str | None = None, **settings: Any) -> Any:
        """Activation patching and causal tracing: effects by hook, layer and position."""
        return self.run("trace", clean=clean, **settings)

    def attribute(self, prompt: str | None = None, *, data: Paths | None = None, **settings: Any) -> Any:
        """What every head, MLP and bias brought to a logit: `["components"]` of a prompt, `["rows"]` of a text."""
        return self.run("attribute", prompt=prompt, data=listed(data), **settings)

    def think(self, text: str | Sequence[str] = (), **settings: Any) -> Any:
        """Hidden states fed back as input embeddings (Coconut)."""
        return self.run("think", text=listed(text), **settings)

    def schedule(self, data: Paths, *, out: str | PathLike[str] | None = None, **settings: Any) -> Run:
        """The model's blocks in another order, compared with the model as it is."""
        found: Run = self._into("schedule", out, data=listed(data), **settings)
        return found

    def attention(self, data: Paths = (), *, out: str | PathLike[str] | None = None, **settings: Any) -> Run:
        """What attention heads look at over a text, a `prompt` or `repeated_random` tokens; the loss without them (`ablate`)."""
        found: Run = self._into("attention", out, data=listed(data), **settings)
        return found

    def future(self, data: Paths, *, lens: Lenses = (), out: str | PathLike[str] | None = None, **settings: Any) -> Run:
        """Later tokens read off single states: lenses, fixed and learned prompts, controls."""
        found: Run = self._into("future", out, data=listed(data), lens=listed(lens), **settings)
        return found

    def verify(self, reference: str | PathLike[str], **settings: Any) -> Any:
        """Compares every activation with a reference that somebody else computed; raises `CheckFailed`."""
        return self.run("verify", reference=reference, **settings)

    def _into(self, command: str, out: str | PathLike[str] | None, **settings: Any) -> Any:
        return self.run(command, out=scratch(command) if out is None else out, **settings)


def _again(settings: dict[str, Any], progress: Any) -> Model:
    given = {name: value for name, value in settings.items() if name != "model"}
    return Model(settings["model"], progress=progress, **given)


def import_(source: str | PathLike[str], *, model: Model, **settings: Any) -> Activations:
    """`model.import_(source, …)`: activations that another program kept, as an export.

    >>> acts = import_("fixtures/import/saelens", format="saelens", model=Model("fixtures/gpt2-alice-8l"))
    >>> acts["blocks.4.hook_resid_pre"].shape
    (48, 128)
    """
    return model.import_(source, **settings)


def open_run(path: str | PathLike[str]) -> Any:
    """A result from its folder: `Activations`, `Lens`, `Evaluation`, `Sweep` or `Run`, by its manifest."""
    run = Run(path)
    if not (run.path / "manifest.json").is_file() and (run.path / "config.json").is_file():
        return Lens(path)
    return RESULTS.get(str(run.manifest["kind"]), Run)(path)
