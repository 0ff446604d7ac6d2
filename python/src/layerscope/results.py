"""Results: what a job found, lazy over its run folder."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import _worker
from ._files import read_json, read_table, scratch
from .errors import UsageError

if TYPE_CHECKING:
    from os import PathLike

    from .model import Model

__all__ = ["Answer", "Evaluation", "Figure", "Probe", "Run", "Sweep", "View"]

_SHOWN_ROWS = 20


class Figure:
    """A figure of a report: shows itself in a notebook. `svg` is its source, `csv` the path of its numbers."""

    def __init__(self, svg: Path, title: str) -> None:
        self.path, self.title = svg, title
        self.svg = svg.read_text(encoding="utf-8")
        self.csv = svg.with_suffix(".csv")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Figure({self.title!r}, {str(self.path)!r})"


class Run:
    """A run folder and what is in it. Nothing is read before it is asked for; it pickles as its path."""

    def __init__(self, path: str | PathLike[str], answer: Any = None) -> None:
        self.path = Path(path).absolute()
        self.answer = answer
        """What the program said beside the folder, as in its `--json`."""

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self.path), self.answer)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """`manifest.json`: the command, its settings, hashes of everything that was read, the seed."""
        return dict(read_json(self.path / "manifest.json"))

    @property
    def settings(self) -> dict[str, Any]:
        """The job that made the run, as `Model.run` takes it."""
        return dict(self.manifest.get("request") or {})

    @cached_property
    def metrics(self) -> Any:
        """`metrics.parquet`: `subject`, `kind`, `hook`, `layer`, `metric`, `unit`, `estimate`, `lower`, `upper`, `n` …

        A polars frame where polars is installed, else a pandas frame. Logarithms are natural (`unit` says
        `nats`); `lower` and `upper` are a 95 % interval over documents.
        """
        path = self.path / "metrics.parquet"
        if not path.is_file():
            raise UsageError(f"{path}: this run has no metrics")
        return read_table(path)

    def rows(self) -> list[dict[str, Any]]:
        """The metrics as plain dictionaries, whatever frames are installed."""
        from pyarrow import parquet

        path = self.path / "metrics.parquet"
        return [] if not path.is_file() else parquet.read_table(path, partitioning=None).to_pylist()

    @cached_property
    def _drawn(self) -> tuple[Path, dict[str, Any]]:
        out = scratch("report")
        done = _worker.shared().run("report", {"runs": [str(self.path)], "out": str(out)})
        return out, {figure["name"]: figure["title"] for figure in done["result"]["figures"]}

    @property
    def figures(self) -> list[str]:
        """The names that `plot` knows."""
        return list(self._drawn[1])

    def plot(self, name: str | None = None) -> Figure:
        """A figure of this run: of the metric `name` (`"kl"`), or by its whole name; by default the first."""
        out, titles = self._drawn
        if not titles:
            raise UsageError(f"{self.path}: there are no figures of this run")
        if name is None:
            name = next(iter(titles))
        words = [figure for figure in titles if name == figure or name in figure.split("-")]
        if not words:
            raise UsageError(f"no figure {name!r}; there are {', '.join(titles)}")
        return Figure(out / "figures" / f"{words[0]}.svg", titles[words[0]])

    def report(self, out: str | PathLike[str], *, force: bool = False) -> Path:
        """Writes the offline page, all figures (SVG, PNG, CSV) and tables (CSV, Markdown, LaTeX); the page's path."""
        _worker.shared().run("report", {"runs": [str(self.path)], "out": str(out), "force": force})
        return Path(out).absolute() / "report.html"

    def to(
        self,
        tool: Literal["hf", "saelens", "vllm-lens", "logitlenskit", "neuronpedia"],
        *,
        out: str | PathLike[str] | None = None,
        **settings: Any,
    ) -> Path:
        """Writes the run in the files of another tool, without a model; the path that it opens.

        Activations become a dataset (`hf`, for `datasets.load_from_disk`), SAELens' cache (`saelens`, `context=` tokens a
        row) or vllm-lens' responses; a saved view logitlenskit's JSON; probes Neuronpedia's vectors (`model_id=`).
        `layers=` chooses some.

        >>> from layerscope import Model
        >>> acts = Model("fixtures/gpt2-alice-8l").export("fixtures/stories.jsonl", layers=[3], tokens=100)
        >>> sorted(path.name for path in acts.to("saelens", context=16).iterdir() if path.suffix != ".json")
        ['data-00000-of-00001.arrow']
        """
        return _converted(str(self.path), tool, out, settings)

    def _repr_html_(self) -> str:
        rows = self.rows()
        title = f"<b>{html.escape(self.manifest.get('kind', ''))}</b> <code>{html.escape(str(self.path))}</code>"
        if not rows:
            return title
        names = ("subject", "hook", "layer", "metric", "estimate", "lower", "upper", "unit")
        head = "".join(f"<th>{name}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(row[name])}</td>" for name in names) + "</tr>" for row in rows[:_SHOWN_ROWS]
        )
        more = "" if len(rows) <= _SHOWN_ROWS else f"<p>{len(rows) - _SHOWN_ROWS} more rows: <code>.metrics</code></p>"
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def _converted(source: str, tool: str, out: str | PathLike[str] | None, settings: dict[str, Any]) -> Path:
    from ._settings import job as as_job

    folder = scratch("converted") if out is None else Path(out)
    job = as_job({"source": source, "to": tool, "out": str(folder), **settings})
    _worker.shared().run("convert", job)
    names = {"vllm-lens": "responses", "logitlenskit": "logitlenskit", "neuronpedia": "vectors"}
    return folder.absolute() / names.get(tool, "")


class Evaluation(Run):
    """Numbers of lenses by layer, with intervals over documents."""


class Probe:
    """One fitted probe of a sweep, at one layer."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.facts: dict[str, Any] = read_json(path.with_suffix(".json"))

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Probe({self.path.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    def to(
        self, tool: Literal["neuronpedia"] = "neuronpedia", *, out: str | PathLike[str] | None = None, **settings: Any
    ) -> Path:
        """Its direction as Neuronpedia takes vectors: a folder with a JSON file, the body of `POST /api/vector/new`."""
        return _converted(str(self.path), tool, out, settings)

    @property
    def layer(self) -> int:
        """The layer whose states it reads."""
        return int(self.facts["layer"])

    @property
    def tensors(self) -> dict[str, Any]:
        """Its arrays by name; `facts["reads"]` says how they are used."""
        from ._files import safetensors

        return dict(safetensors(self.path))

    @property
    def direction(self) -> Any:
        """Its weights `[d_model]`: of two classes towards the second; of more classes `[classes, d_model]`."""
        weight = self.tensors["weight"]
        if weight.ndim == 2 and weight.shape[0] == 2:
            return weight[1] - weight[0]
        return weight[0] if weight.ndim == 2 and weight.shape[0] == 1 else weight


class Sweep(Run):
    """Probes at every layer, with baselines, controls and intervals."""

    def best(self, probe: str | None = None, hook: str | None = None) -> Probe:
        """The probe at the layer that validation rows chose, where it was chosen, else the best on test rows."""
        rows = [row for row in self.rows() if row["kind"] == "probe" and hook in (None, row["hook"])]
        rows = [row for row in rows if probe in (None, row["subject"])]
        chosen = [row for row in rows if row["metric"] in ("nested_accuracy", "nested_r2")]
        if not chosen:
            chosen = [row for row in rows if row["metric"] in ("accuracy", "r2")]
        kept = [(row["estimate"], self._file(row)) for row in chosen]
        kept = [(estimate, path) for estimate, path in kept if path.is_file()]
        if not kept:
            raise UsageError(f"{self.path}: no saved probe {probe or ''} is here")
        return Probe(max(kept, key=lambda one: one[0])[1])

    def probe(self, name: str, layer: int, hook: str = "resid_pre") -> Probe:
        """A probe by its estimator's name (`"logistic"`), hook and layer."""
        path = self._file({"subject": name, "hook": hook, "layer": layer})
        if not path.is_file():
            raise UsageError(f"{self.path}: no probe {name} of {hook} at layer {layer} is here")
        return Probe(path)

    def _file(self, row: Mapping[str, Any]) -> Path:
        return self.path / "probes" / f"{row['subject']}.{row['hook']}.{row['layer']}.safetensors"


class Answer(dict[str, Any]):
    """What a command said that was not asked to write a folder: the object of its `--json`."""


class View:
    """What lenses read at every layer and token of prompts. In a notebook it is the interactive page."""

    def __init__(self, model: Model, settings: dict[str, Any], answer: dict[str, Any]) -> None:
        self._model, self._settings, self.answer = model, settings, answer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._model, self._settings, self.answer)

    def __repr__(self) -> str:
        lenses = [lens["lens"] for lens in self.prompts[0].get("lenses", [])]
        return f"View({[prompt['text'] for prompt in self.prompts]!r}, lens={lenses!r})"

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """Per prompt its `tokens`, and its `lenses` by layer and position; logarithms in nats, ranks from 0."""
        return list(self.answer["prompts"])

    @property
    def tokens(self) -> list[str]:
        """The first prompt's tokens."""
        return [token["token"] for token in self.prompts[0]["tokens"]]

    def cells(self) -> Iterator[dict[str, Any]]:
        """One dictionary per prompt, lens, layer and position."""
        for number, prompt in enumerate(self.prompts):
            for lens in prompt["lenses"]:
                for layer in lens["layers"]:
                    for cell in layer["positions"]:
                        yield {"prompt": number, "lens": lens["lens"], "layer": layer["layer"], **cell}

    def top(self, layer: int, lens: str | None = None, prompt: int = 0, k: int = 5) -> list[list[tuple[str, float]]]:
        """The likeliest tokens at a layer: per position up to `k` pairs of token and probability."""
        found = [cell for cell in self.cells() if (cell["prompt"], cell["layer"]) == (prompt, layer)]
        name = lens or (found[0]["lens"] if found else None)
        own = [cell for cell in found if cell["lens"] == name]
        if not own:
            raise UsageError(f"nothing was read at layer {layer} of prompt {prompt} by {lens or 'a lens'}")
        return [[(one["token"], one["prob"]) for one in cell["top"][:k]] for cell in own]

    def page(self, path: str | PathLike[str] | None = None, *, force: bool = False) -> Path:
        """Writes the interactive page, one offline file; its path."""
        target = Path(path) if path is not None else scratch("view.html")
        self._model.run("view", **self._settings, html=target, force=force)
        return target.absolute()

    def to(
        self,
        tool: Literal["logitlenskit"] = "logitlenskit",
        *,
        out: str | PathLike[str] | None = None,
        force: bool = False,
    ) -> Path:
        """Writes the JSON that logitlenskit's widget shows, of one prompt and one lens; its path."""
        target = Path(out) if out is not None else scratch("view.json")
        self._model.run("view", **self._settings, force=force, **{tool: target})
        return target.absolute()

    @cached_property
    def _page(self) -> str:
        return self.page().read_text(encoding="utf-8")

    def _repr_html_(self) -> str:
        source = html.escape(self._page, quote=True)
        return f'<iframe srcdoc="{source}" style="width:100%;height:640px;border:0" sandbox="allow-scripts"></iframe>'
