"""Lenses: fitted ones in their folders, and reading of traced states with them in torch."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import _hf
from ._files import read_json, safetensors
from .errors import CheckFailed, UsageError
from .results import Run

if TYPE_CHECKING:
    from .tracing import Trace

__all__ = ["Lens", "LogitLens", "Reading", "logit"]

_ROWS = 4096
_OWN_LOGITS = 1e-3
"""How far the logits that are made here may be from the model's own, relative to the largest: f32 rounds at 1e-6, bf16
models at 4e-3 of *each* logit, but the same operations in the same order; another head is off by its own size."""


class Reading:
    """What a lens says of traced states. All methods give tensors `[batch, seq]` (nats, ranks from 0) in the graph."""

    def __init__(self, lens: LogitLens, states: Trace, model: Any, horizon: int, rung: str | None) -> None:
        self._lens, self._trace, self._model = lens, states, model
        self._horizon, self._rung = horizon, rung
        self._last: Any = None

    def states(self, layer: int) -> Any:
        """The lens's state of the last layer `[batch, seq, d_model]`, before the final norm."""
        return self._lens.translate(self._trace[layer], layer, horizon=self._horizon, rung=self._rung)

    def _read(self, state: Any) -> Any:
        norm = _hf.final_norm(self._model)
        return _hf.logits_of(self._model, norm(state.to(next(norm.parameters(), state).dtype)))

    def logits(self, layer: int) -> Any:
        """The lens's logits `[batch, seq, vocab]`."""
        return self._read(self.states(layer))

    def log_probs(self, layer: int) -> Any:
        """Its log-probabilities `[batch, seq, vocab]`, nats, in f32 (f64 of a model in f64)."""
        return _wide(self.logits(layer)).log_softmax(-1)

    @property
    def model_log_probs(self) -> Any:
        """The model's own log-probabilities, from the traced state of the last layer."""
        if self._last is None:
            logits = self._read(self._trace[self._trace.n_layers])
            self._check_head(logits)
            self._last = _wide(logits).log_softmax(-1)
        return self._last

    def _check_head(self, logits: Any) -> None:
        own = self._trace.logits
        if own is None:
            return
        if own.shape[1] != logits.shape[1]:
            logits = logits[:, -own.shape[1] :]  # a pass with `logits_to_keep`
        off = float((own.float() - logits.float()).detach().abs().max() / own.detach().float().abs().max())
        if not off <= _OWN_LOGITS:
            raise CheckFailed(
                f"{type(self._model).__name__}: final norm and head give other logits than the model ({off:.1e} off):"
                " this family does more between them than is known here"
            )

    def kl(self, layer: int) -> Any:
        """KL(model ‖ lens), nats."""
        model = self.model_log_probs
        return (model.exp() * (model - self.log_probs(layer))).sum(-1)

    def entropy(self, layer: int) -> Any:
        """Entropy of the lens's prediction, nats."""
        said = self.log_probs(layer)
        return -(said.exp() * said).sum(-1)

    def ce(self, layer: int, tokens: Any) -> Any:
        """Cross-entropy of `tokens` `[batch, seq]`, the ones to be predicted at each position, nats."""
        return -self.log_probs(layer).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

    def rank(self, layer: int, tokens: Any = None) -> Any:
        """The rank of `tokens` `[batch, seq]` in the lens's prediction, by default of the model's own first token."""
        wanted = self.model_log_probs.argmax(-1) if tokens is None else tokens
        logits = self.logits(layer)
        return (logits > logits.gather(-1, wanted.unsqueeze(-1))).sum(-1)

    def top(self, layer: int, k: int = 5) -> tuple[Any, Any]:
        """The likeliest tokens: ids and probabilities, `[batch, seq, k]`."""
        found = self.log_probs(layer).topk(k)
        return found.indices, found.values.exp()


class LogitLens:
    """The logit lens: states are read out as they are (nostalgebraist 2020)."""

    def translate(self, state: Any, layer: int, *, horizon: int = 1, rung: str | None = None) -> Any:
        """The state of the last layer that the lens makes of one of `layer`, `[..., d_model]`: here the same."""
        if horizon != 1 or rung is not None:
            raise UsageError("the logit lens has one horizon and no rungs")
        return state

    def _check(self, model: Any) -> None:
        """Nothing was fitted to a model."""

    def read(self, states: Trace, model: Any, *, horizon: int = 1, rung: str | None = None) -> Reading:
        """What this lens says of the states of a transformers model: logits, KL, ranks, differentiable."""
        self._check(model)
        return Reading(self, states, model, horizon, rung)

    def __repr__(self) -> str:
        return "logit"


logit = LogitLens()
"""The logit lens, for `logit.read(trace, model)`."""


class Lens(Run, LogitLens):
    """A fitted lens in its folder."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """What the folder says of it: `kind`, `site`, `layers`, `horizons`, `d_model`, `n_layers`, hashes, `details`."""
        whole = read_json(self.path / "config.json")
        own = dict(whole.get("layerscope") or {})
        if not own:
            raise UsageError(
                f"{self.path}: a lens of the tuned-lens package; read it there, or evaluate it with `evaluate`"
            )
        return {**own, "d_model": whole["d_model"], "n_layers": whole["num_hidden_layers"]}

    @property
    def kind(self) -> str:
        """`tuned`, `shared`, `linear`, `future`, `future-vocab`, `future-prompt` or `jacobian`."""
        return str(self.config["kind"])

    @property
    def layers(self) -> list[int]:
        """The layers that it reads; the last one, which needs no lens, is read too."""
        return list(self.config["layers"])

    @property
    def losses(self) -> Any:
        """`fit.parquet`: held-out loss by `step`, `target`, `horizon` and `layer`, nats."""
        from ._files import read_table

        return read_table(self.path / "fit.parquet")

    @cached_property
    def _maps(self) -> dict[str, Any]:
        import torch

        return {name: torch.from_numpy(array) for name, array in safetensors(self.path / "params.safetensors")}

    def _map(self, layer: int, horizon: int, rung: str | None) -> tuple[Any, Any]:
        names = [f"layer.{layer}"]
        if self.kind == "future":
            names = [f"layer.{layer}.horizon.{horizon}"]
        elif self.kind == "shared":
            rungs = sorted({name.split(".layer.")[0] for name in self._maps})
            if rung is None and "affine" not in rungs:
                raise UsageError(f"{self.path}: choose a rung of {', '.join(rungs)}")
            names = [f"{rung or 'affine'}.layer.{layer}"]
        elif self.kind not in ("tuned", "linear"):
            raise UsageError(f"{self.path}: a {self.kind} lens is no map of states; `evaluate` and `future` read it")
        elif horizon != 1 or rung is not None:
            raise UsageError(f"{self.path}: a {self.kind} lens has one horizon and no rungs")
        if f"{names[0]}.weight" not in self._maps:
            raise UsageError(f"{self.path}: the lens has no map {names[0]}; its layers are {self.layers}")
        return self._maps[f"{names[0]}.weight"], self._maps[f"{names[0]}.bias"]

    def jacobian(self, layer: int) -> Any:
        """`J [d_model, d_model]` of a Jacobian lens, f32: rows are dimensions of the layer it carries states to."""
        if self.kind != "jacobian":
            raise UsageError(f"{self.path}: a {self.kind} lens, which has no Jacobians")
        if layer not in self.layers:
            raise UsageError(f"{self.path}: the lens has no Jacobian of layer {layer}; its layers are {self.layers}")
        return self._maps[f"layer.{layer}.jacobian"]

    def translate(self, state: Any, layer: int, *, horizon: int = 1, rung: str | None = None) -> Any:
        """The state of the last layer that the lens makes of one of `layer`: `h + A h + b` `[..., d_model]`, of a Jacobian
        lens `J h`, in f32 (f64 of a state in f64)."""
        if layer == self.config["n_layers"] and self.kind != "future":
            return state
        if self.kind == "jacobian":
            if horizon != 1 or rung is not None:
                raise UsageError(f"{self.path}: a jacobian lens has one horizon and no rungs")
            h = _wide(state)
            return h @ self.jacobian(layer).to(h).T
        weight, bias = self._map(layer, horizon, rung)
        h = _wide(state)
        return h + h @ weight.to(h).T + bias.to(h)

    def _check(self, model: Any) -> None:
        if self.config["site"] != "resid_pre":
            raise UsageError(f"{self.path}: the lens reads {self.config['site']}, a trace has resid_pre")
        expected = self.config["unembed_sha256"]
        if expected is not None and expected not in _unembed_sha256(model):
            raise CheckFailed(
                f"{self.path}: the lens was fitted to another unembedding than this model's ({self.config['model']['name']})"
            )

    def __repr__(self) -> str:
        return f"Lens({str(self.path)!r})"


def _wide(tensor: Any) -> Any:
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _unembed_sha256(model: Any) -> set[str]:
    """The hash that the program makes of head and final norm; where a family's norm multiplies by 1 + weight, of that too."""
    head, norm = model.get_output_embeddings(), _hf.final_norm(model)
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    shifted = None if weight is None else weight.detach().float() + 1
    rest = [getattr(head, "bias", None)]
    return {_hash([head.weight, one, bias, *rest]) for one in (weight, shifted)}


def _hash(parts: list[Any]) -> str:
    import torch

    digest = hashlib.sha256()
    for part in parts:
        if part is None:
            digest.update(b"\xff")
            continue
        digest.update(bytes([part.ndim]) + b"".join(int(n).to_bytes(8, "little") for n in part.shape))
        for begin in range(0, part.shape[0], _ROWS):
            rows = part[begin : begin + _ROWS].detach().to("cpu", torch.bfloat16).contiguous()
            digest.update(rows.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
