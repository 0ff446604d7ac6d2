"""States of the user's own transformers model, by forward hooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import _hf
from .errors import UsageError

__all__ = ["Trace", "trace"]


class Trace:
    """What `trace` saw: `trace[3]` is the residual stream entering block 3, `[batch, seq, d_model]`, in its graph.

    Layer L is what leaves the last block, before the final norm. Every forward pass replaces what the last one left.
    """

    def __init__(self, model: Any, layers: Iterable[int] | None) -> None:
        stack = _hf.blocks(model)
        self.n_layers = len(stack)
        self.layers = sorted(set(range(self.n_layers + 1) if layers is None else layers))
        unknown = [layer for layer in self.layers if not 0 <= layer <= self.n_layers]
        if unknown:
            raise UsageError(f"layers: no layer {unknown[0]}; this model's layers are 0 to {self.n_layers}")
        self._model, self._stack = model, stack
        self._states: dict[int, Any] = {}
        self.logits: Any = None
        """The model's own logits of the last pass, where it gave some."""
        self._hooks: list[Any] = []

    def __enter__(self) -> Trace:
        for layer in {*self.layers, self.n_layers}:
            if layer < self.n_layers:
                hook = self._stack[layer].register_forward_pre_hook(self._entering(layer), with_kwargs=True)
            else:
                hook = self._stack[-1].register_forward_hook(self._leaving)
            self._hooks.append(hook)
        self._hooks.append(self._model.register_forward_hook(self._spoken))
        return self

    def __exit__(self, *_error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _entering(self, layer: int) -> Any:
        def keep(_block: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._states[layer] = arguments[0] if arguments else named["hidden_states"]

        return keep

    def _leaving(self, _block: Any, _arguments: Any, output: Any) -> None:
        self._states[self.n_layers] = output[0] if isinstance(output, tuple) else output

    def _spoken(self, _model: Any, _arguments: Any, output: Any) -> None:
        self.logits = getattr(output, "logits", None)

    def __getitem__(self, layer: int) -> Any:
        if layer not in self._states:
            problem = "the model has not run under this trace" if not self._states else f"layer {layer} was not traced"
            raise UsageError(f"{problem}; traced layers are {self.layers}")
        return self._states[layer]

    def __repr__(self) -> str:
        return f"Trace(layers={self.layers}, ran={bool(self._states)})"


def trace(model: Any, layers: Iterable[int] | None = None) -> Trace:
    """A context in which the passes of a transformers model leave their residual streams.

    `layers` are 0 to L (by default all); the states stay in the autograd graph of the pass.
    """
    return Trace(model, layers)
