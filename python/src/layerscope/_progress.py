"""What a job says while it runs: bars by tqdm where that is installed, notes to `logging`, warnings as warnings."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any, Protocol

from .errors import LayerscopeWarning

__all__ = ["Reporter"]

_LOG = logging.getLogger("layerscope")


class _Bar(Protocol):
    n: float

    def refresh(self) -> object: ...
    def set_postfix_str(self, s: str = ...) -> object: ...
    def close(self) -> object: ...


def _callers_level() -> int:
    """How far up the first caller outside this package is, so that a warning names the user's own line."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "layerscope":
        level, frame = level + 1, frame.f_back
    return level


class Reporter:
    """Takes the events of one job."""

    def __init__(self, progress: bool | Callable[[dict[str, Any]], object]) -> None:
        self._bars: dict[int, _Bar] = {}
        self._tqdm: Any = None
        self._listener = progress if callable(progress) else None
        if progress is True:
            with contextlib.suppress(ImportError):
                self._tqdm = importlib.import_module("tqdm.auto").tqdm

    def take(self, event: dict[str, Any]) -> None:
        """One event of the worker."""
        if self._listener is not None:
            self._listener(event)
        kind = event["event"]
        if kind == "note":
            _LOG.info(event["line"])
        elif kind == "warning":
            warnings.warn(event["line"], LayerscopeWarning, stacklevel=_callers_level())
        elif kind == "stage":
            self._begin(event)
        elif kind == "progress":
            self._move(event)
        elif kind == "stage_end":
            self._end(event["stage"])

    def _begin(self, event: dict[str, Any]) -> None:
        if self._tqdm is not None:
            self._bars[event["stage"]] = self._tqdm(
                total=event["total"],
                desc=event["what"],
                unit=f" {event['unit']}",
                leave=False,
                unit_scale=True,
                delay=0.5,
            )

    def _move(self, event: dict[str, Any]) -> None:
        bar = self._bars.get(event["stage"])
        if bar is not None:
            bar.n = event["done"]
            if event["word"]:
                bar.set_postfix_str(event["word"])
            bar.refresh()

    def _end(self, stage: int) -> None:
        bar = self._bars.pop(stage, None)
        if bar is not None:
            bar.close()

    def close(self) -> None:
        """Takes away the bars of a job that ended in the middle of a stage."""
        for stage in list(self._bars):
            self._end(stage)
