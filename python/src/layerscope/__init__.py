"""layerscope: what a language model is thinking, layer by layer.

The program does the work, in a process of its own that keeps the model loaded; this package gives it models, texts and
settings, and hands back what it wrote as arrays and frames. See `docs/python.md`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    CheckFailed,
    Failed,
    Fault,
    Interrupted,
    LayerscopeError,
    LayerscopeWarning,
    MissingLibtorch,
    UsageError,
)

if TYPE_CHECKING:
    from .acts import Activations, Rows
    from .lens import Lens, Reading, logit
    from .model import Model, import_
    from .model import open_run as open
    from .results import Answer, Evaluation, Figure, Probe, Run, Sweep, View
    from .tracing import Trace, trace

__version__ = "0.1.0"

__all__ = [
    "Activations",
    "Answer",
    "CheckFailed",
    "Evaluation",
    "Failed",
    "Fault",
    "Figure",
    "Interrupted",
    "LayerscopeError",
    "LayerscopeWarning",
    "Lens",
    "MissingLibtorch",
    "Model",
    "Probe",
    "Reading",
    "Rows",
    "Run",
    "Sweep",
    "Trace",
    "UsageError",
    "View",
    "__version__",
    "import_",
    "logit",
    "open",
    "trace",
]

_PLACES = {
    "Activations": "acts", "Rows": "acts",
    "Lens": "lens", "Reading": "lens", "logit": "lens",
    "Model": "model", "import_": "model", "open": "model",
    "Answer": "results", "Evaluation": "results", "Figure": "results", "Probe": "results", "Run": "results",
    "Sweep": "results", "View": "results",
    "Trace": "tracing", "trace": "tracing",
}  # fmt: skip
"""Read when they are first asked for, so that `layerscope …` in a shell does not wait for numpy."""


_MODULES = {"probes", "stats"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), {"open": "open_run"}.get(name, name))


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
