"""transformers models: where their weights lie, and the parts that a lens needs of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from ._files import safetensors
from .errors import UsageError

__all__ = ["blocks", "final_norm", "folder", "is_model", "logits_of", "source"]

_NORMS = (
    "ln_f",
    "norm",
    "final_layer_norm",
    "norm_f",
    "final_layernorm",
    "final_norm",
    "ln_out",
    "norm_final",
    "layer_norm",
)


def is_model(value: Any) -> bool:
    """Whether this is a transformers model; transformers is not imported for the question."""
    return hasattr(value, "config") and hasattr(value, "state_dict") and hasattr(value, "name_or_path")


def folder(model: Any) -> Path:
    """The folder with the weights of a transformers model."""
    name = str(model.name_or_path)
    if name and Path(name).is_dir():
        return Path(name)
    from huggingface_hub import try_to_load_from_cache

    found = (
        try_to_load_from_cache(name, "config.json", revision=getattr(model.config, "_commit_hash", None))
        if name
        else None
    )
    if not isinstance(found, str):
        raise UsageError(
            f"the model's name_or_path is {name!r}: no such folder, and not in the hub cache; save it first"
        )
    return Path(found).parent


def source(model: Any) -> Path:
    """The folder of a transformers model, refused where the model in memory is not what lies there.

    Every parameter is compared with the one of its name in the files, in the number type of the model in memory.
    """
    import torch

    place = folder(model)
    files = sorted(place.glob("*.safetensors"))
    if not files:
        raise UsageError(f"{place}: no .safetensors are here; save the model with `save_pretrained` first")
    own = dict(itertools.chain(model.named_parameters(), model.named_buffers()))
    prefix = f"{model.base_model_prefix}."
    same = 0
    for name, array in itertools.chain.from_iterable(safetensors(file) for file in files):
        tensor = own.get(name, own.get(prefix + name, own.get(name.removeprefix(prefix))))
        if tensor is None or tuple(tensor.shape) != array.shape:
            continue
        stored = torch.from_numpy(np.ascontiguousarray(array))
        if array.dtype == np.uint16:
            stored = stored.view(torch.bfloat16)
        if not torch.equal(stored.to(tensor.dtype), tensor.detach().cpu()):
            raise UsageError(
                f"{place}: {name} is another one than in the model: its weights were changed; save it first"
            )
        same += 1
    if same == 0:
        raise UsageError(f"{place}: the files there hold none of the model's parameters")
    return place


def blocks(model: Any) -> Any:
    """The list of a model's blocks."""
    import torch

    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    lists = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == config.num_hidden_layers
    ]
    if not lists:
        raise UsageError(f"{type(model).__name__}: no list of {config.num_hidden_layers} blocks was found")
    return lists[0]


def final_norm(model: Any) -> Any:
    """The norm between the last block and the head; it stands beside the blocks."""
    stack = blocks(model)
    for module in model.modules():
        children = dict(module.named_children())
        if any(child is stack for child in children.values()):
            norms = [children[name] for name in _NORMS if children.get(name) is not None]
            if norms:
                return norms[0]
    raise UsageError(f"{type(model).__name__}: no final norm was found beside the blocks")


def logits_of(model: Any, normed: Any) -> Any:
    """The head's logits of normed states, as the model itself would make them: scaled, then capped."""
    import torch

    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    head = model.get_output_embeddings()
    if head is None:
        raise UsageError(f"{type(model).__name__} has no head: give a model for causal language modelling")
    logits = head(normed.to(head.weight.dtype))
    if getattr(config, "logit_scale", None) is not None:
        logits = logits * config.logit_scale
    if getattr(config, "logits_scaling", None) is not None:
        logits = logits / config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)
