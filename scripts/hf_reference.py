"""Reference activations of a Hugging Face language model, causal or masked, under TransformerLens hook names.

Shared by `scripts/reference.py` (any model folder) and `fixtures/families/make.py` (the tiny random models of the
parity tests). `NAMES` says where each family keeps its modules; everything else is the same for all of them.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMaskedLM, PreTrainedModel

# The tensors of a multimodal model that its text half needs, under all names that checkpoints have them.
TEXT_HALF = re.compile(r"(^|\.)(language_model|text_model)\.|^lm_head|^model\.(layers|embed_tokens|norm)\b")
# Largest |resid_pre + attn_out + mlp_out - resid_post| allowed, relative to the residual stream's largest value.
SUM_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Names:
    """Module paths of one family: the first two from the model, the others from a block."""

    blocks: str
    final_norm: str
    out_proj: str
    down_proj: str
    # Whose output is added to the residual stream; the projections themselves unless a post-norm follows.
    attn_out: str | None = None
    mlp_out: str | None = None
    # Attention and MLP read the same residual stream (no hook_resid_mid).
    parallel: Callable[[object], bool] = lambda config: False
    # Of an encoder: the norm of its masked-language-model head, from the model.
    head_norm: str | None = None
    # Norms of the stream itself, from a block: after attention has been added, after the MLP has.
    stream_norms: tuple[str, str] | None = None


def _llama(**extra: object) -> Names:
    return Names("model.layers", "model.norm", "self_attn.o_proj", "mlp.down_proj", **extra)


def _post_normed() -> Names:
    return _llama(attn_out="post_attention_layernorm", mlp_out="post_feedforward_layernorm")


def _bert(model: str, head_norm: str) -> Names:
    return Names(
        f"{model}.encoder.layer",
        "",
        "attention.output.dense",
        "output.dense",
        head_norm=head_norm,
        stream_norms=("attention.output.LayerNorm", "output.LayerNorm"),
    )


NAMES: dict[str, Names] = {
    "bert": _bert("bert", "cls.predictions.transform.LayerNorm"),
    "roberta": _bert("roberta", "lm_head.layer_norm"),
    "xlm-roberta": _bert("roberta", "lm_head.layer_norm"),
    "camembert": _bert("roberta", "lm_head.layer_norm"),
    "distilbert": Names(
        "distilbert.transformer.layer",
        "",
        "attention.out_lin",
        "ffn.lin2",
        head_norm="vocab_layer_norm",
        stream_norms=("sa_layer_norm", "output_layer_norm"),
    ),
    "modernbert": Names("model.layers", "model.final_norm", "attn.Wo", "mlp.Wo", head_norm="head.norm"),
    "esm": Names(
        "esm.encoder.layer",
        "esm.encoder.emb_layer_norm_after",
        "attention.output.dense",
        "output.dense",
        head_norm="lm_head.layer_norm",
    ),
    "gpt2": Names("transformer.h", "transformer.ln_f", "attn.c_proj", "mlp.c_proj"),
    "gpt_neo": Names("transformer.h", "transformer.ln_f", "attn.attention.out_proj", "mlp.c_proj"),
    "gpt_neox": Names(
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        "attention.dense",
        "mlp.dense_4h_to_h",
        parallel=lambda config: config.use_parallel_residual,
    ),
    "gptj": Names("transformer.h", "transformer.ln_f", "attn.out_proj", "mlp.fc_out", parallel=lambda config: True),
    "opt": Names("model.decoder.layers", "model.decoder.final_layer_norm", "self_attn.out_proj", "fc2"),
    "bloom": Names("transformer.h", "transformer.ln_f", "self_attention.dense", "mlp.dense_4h_to_h"),
    "llama": _llama(),
    "mistral": _llama(),
    "qwen2": _llama(),
    "qwen3": _llama(),
    "gemma": _llama(),
    "gemma2": _post_normed(),
    "gemma3_text": _post_normed(),
    "phi": Names("model.layers", "model.final_layernorm", "self_attn.dense", "mlp.fc2", parallel=lambda config: True),
    "phi3": _llama(),
    "starcoder2": Names("model.layers", "model.norm", "self_attn.o_proj", "mlp.c_proj"),
    "falcon": Names(
        "transformer.h",
        "transformer.ln_f",
        "self_attention.dense",
        "mlp.dense_4h_to_h",
        parallel=lambda config: config.new_decoder_architecture or config.parallel_attn,
    ),
}


def names_of(config: object) -> Names:
    """The module names of a model's family; exits with a message for a family that is not listed."""
    if config.model_type not in NAMES:
        raise SystemExit(f"unknown family {config.model_type!r}, known: {', '.join(sorted(NAMES))}")
    return NAMES[config.model_type]


def load(folder: Path) -> PreTrainedModel:
    """The folder's model in f32 with eager attention; exits when weights are missing or of another shape.

    Tensors that no module reads (mask buffers of old checkpoints) are left alone.
    """
    model, info = auto(AutoConfig.from_pretrained(folder, local_files_only=True)).from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager", experts_implementation="eager",
        local_files_only=True,
        output_loading_info=True,
    )
    model.headless = is_headless(model, info["missing_keys"])
    if model.headless:
        info["missing_keys"] = set()
    for problem in ("missing_keys", "mismatched_keys"):
        if info[problem]:
            raise SystemExit(f"{folder}: {problem}: {sorted(map(str, info[problem]))}")
    return model.eval()


def is_headless(model: PreTrainedModel, missing: set[str]) -> bool:
    """Whether an encoder was stored without its masked-language-model head, of which nothing is compared then."""
    names = NAMES.get(model.config.model_type)
    if not (names and names.head_norm and missing):
        return False
    base = f"{model.base_model_prefix}."
    return all(not key.startswith(base) for key in missing)


def auto(config: object) -> type:
    """Who builds a model of this config: a multimodal one has its text half inside, an encoder fills masks."""
    if config.model_type in NAMES and NAMES[config.model_type].head_norm:
        return AutoModelForMaskedLM
    return AutoModelForImageTextToText if hasattr(config, "text_config") else AutoModelForCausalLM


def unapplied_scale(model: PreTrainedModel) -> float | None:
    """The factor on logits that a multimodal class leaves out, although its text half was trained with it.

    Aya Vision and Command A Vision call the head themselves since 4.52, without Cohere's `logit_scale`.
    """
    text = getattr(model.config, "text_config", None)
    return getattr(text, "logit_scale", None)


def exact(folder: Path) -> PreTrainedModel:
    """The model in f64 from end to end: built anew, since transformers keeps rotary frequencies in f32 otherwise.

    To be built and run inside `Float64`, with f64 as the default type. Its weights take no gradient.
    """
    loaded = load(folder)
    model = type(loaded)._from_config(loaded.config, attn_implementation="eager", experts_implementation="eager", dtype=torch.float64)
    model.load_state_dict(loaded.state_dict())
    return model.eval().requires_grad_(False)


def blocks(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The model's blocks."""
    return model.get_submodule(names_of(model.config).blocks)


def first(value: object) -> torch.Tensor:
    """What a module gives, or the first of several: some blocks give tuples."""
    return value[0] if isinstance(value, tuple) else value


class Float64(TorchFunctionMode):
    """Turns every request for f32 into one for f64.

    transformers upcasts softmax, norms and rotary angles "to f32" by name, which would *round* an f64 model there.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        return func(*args, **kwargs)


def references_f64(model: PreTrainedModel, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Residual streams and logits of the f32 model `model`, computed in f64 from end to end."""
    found = _in_f64(model, lambda exact: references(exact, input_ids))
    kept = {k: v for k, v in found.items() if k in ("input_ids", "logits") or k.endswith("hook_resid_pre")}
    return {k: v if k == "input_ids" else v.double() for k, v in kept.items()}


def _in_f64(model: PreTrainedModel, found: Callable[[PreTrainedModel], dict]) -> dict[str, torch.Tensor]:
    """What `found` says of the f32 model `model` built anew in f64."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with Float64():
            # Built anew, so that rotary frequencies and position tables are f64 too, not f32 widened.
            exact = type(model)._from_config(model.config, attn_implementation="eager", experts_implementation="eager", dtype=torch.float64)
            # ESM keeps its rotary frequencies in the file, rounded to f32.
            kept = {k: v for k, v in model.state_dict().items() if not k.endswith("inv_freq")}
            exact.load_state_dict(model.state_dict() | {k: v for k, v in exact.state_dict().items() if k not in kept})
            return found(exact.eval())
    finally:
        torch.set_default_dtype(default)


def streams_f64(model: PreTrainedModel, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """`streams` of the f32 model `model`, computed in f64 from end to end."""
    found = _in_f64(model, lambda exact: streams(exact, input_ids))
    return {k: v if k == "input_ids" else v.double() for k, v in found.items()}


def streams(model: PreTrainedModel, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Residual streams and logits, for a model of any family: what its own `hidden_states` say, and what its last norm reads."""
    if names := NAMES.get(model.config.model_type):
        if names.head_norm:
            found = references(model, input_ids)
            return {k: v for k, v in found.items() if k in ("input_ids", "logits") or k.endswith("hook_resid_pre")}
    decoder, found = model.get_decoder(), _Recorder()
    norms = [name for name, _ in decoder.named_children() if "norm" in name or name == "ln_f"]
    # A norm that is also used before the blocks is recorded last when it runs last.
    found.input("last", decoder.get_submodule(norms[-1]))
    with torch.no_grad(), found:
        out = model(input_ids, output_hidden_states=True, use_cache=False)
    states = [*out.hidden_states[:-1], found.tensors["last"]]
    logits = out.logits
    if scale := unapplied_scale(model):
        logits = logits * scale
    named = {f"blocks.{i}.hook_resid_pre": state.reshape(*input_ids.shape, -1) for i, state in enumerate(states)}
    return {k: v.detach().contiguous() for k, v in (named | {"input_ids": input_ids, "logits": logits}).items()}


def padded(model: PreTrainedModel, input_ids: torch.Tensor, lengths: list[int]) -> dict[str, torch.Tensor]:
    """Last residual stream and logits of texts of these lengths in one padded batch; zeros where there is only padding."""
    names, found = names_of(model.config), _Recorder()
    ids, mask = input_ids.clone(), torch.zeros_like(input_ids)
    for row, length in enumerate(lengths):
        ids[row, length:] = model.config.pad_token_id
        mask[row, :length] = 1
    blocks = model.get_submodule(names.blocks)
    if names.final_norm:
        found.input("last", model.get_submodule(names.final_norm))
    with torch.no_grad(), found:
        out = model(ids, attention_mask=mask, output_hidden_states=True)
    last = found.tensors["last"] if names.final_norm else out.hidden_states[-1]
    real = mask.unsqueeze(-1)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        f"blocks.{len(blocks)}.hook_resid_pre": last * real,
        "logits": out.logits * real,
    }


def references(model: PreTrainedModel, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every reference tensor of one forward pass over `input_ids` `[batch, seq]` (no padding, no mask)."""
    names, found = names_of(model.config), _Recorder()
    blocks = model.get_submodule(names.blocks)
    cached = {} if names.head_norm else {"use_cache": False}
    for i, block in enumerate(blocks):
        out_proj, down_proj = block.get_submodule(names.out_proj), block.get_submodule(names.down_proj)
        found.input(f"blocks.{i}.hook_resid_pre", block)
        found.input(f"blocks.{i}.attn.hook_z", out_proj)
        found.input(f"blocks.{i}.mlp.hook_post", down_proj)
        found.output(f"blocks.{i}.hook_attn_out", block.get_submodule(names.attn_out) if names.attn_out else out_proj)
        found.output(f"blocks.{i}.hook_mlp_out", block.get_submodule(names.mlp_out) if names.mlp_out else down_proj)
        found.handles += _alibi_once(model.config, block)
        if names.stream_norms:
            mid, post = names.stream_norms
            found.input(f"blocks.{i}.hook_resid_mid", block.get_submodule(mid))
            found.input(f"blocks.{i}.hook_resid_post", block.get_submodule(post))
    if names.final_norm:
        final_norm = model.get_submodule(names.final_norm)
        # What leaves the last block: the norm's input. `output_hidden_states` has only its output.
        found.input(f"blocks.{len(blocks)}.hook_resid_pre", final_norm)
        found.output("ln_final.hook_normalized", final_norm)
    if names.head_norm:
        found.output("mlm_head.ln.hook_normalized", model.get_submodule(names.head_norm))
    with torch.no_grad(), found:
        out = model(input_ids, output_hidden_states=True, output_attentions=True, **cached)
    if not names.final_norm:
        found.tensors[f"blocks.{len(blocks)}.hook_resid_pre"] = out.hidden_states[-1]
    result = {k: _as_sequences(k, v, input_ids, model.config) for k, v in found.tensors.items()}
    for i, pattern in enumerate(out.attentions):
        result[f"blocks.{i}.attn.hook_pattern"] = pattern
    if not names.parallel(model.config) and not names.stream_norms:
        for i in range(len(blocks)):
            mid = result[f"blocks.{i}.hook_resid_pre"] + result[f"blocks.{i}.hook_attn_out"]
            result[f"blocks.{i}.hook_resid_mid"] = mid
    result |= {"input_ids": input_ids, "logits": out.logits}
    if getattr(model, "headless", False):
        del result["logits"], result["mlm_head.ln.hook_normalized"]
    _check(result, out.hidden_states, adds_up=not names.stream_norms)
    return {k: v.detach().contiguous() for k, v in result.items()}


def _alibi_once(config: object, block: torch.nn.Module) -> list:
    """Falcon's eager attention adds alibi to the scores although the mask it gets already holds alibi.

    Falcon was trained with alibi once, as under sdpa, which however returns no pattern; so the mask is made plain.
    """
    if config.model_type != "falcon" or not config.alibi:
        return []

    def plain(_, args, kwargs):
        mask = kwargs["attention_mask"]
        lowest = torch.finfo(mask.dtype).min
        return args, kwargs | {"attention_mask": torch.where(mask == lowest, lowest, 0.0)}

    return [block.register_forward_pre_hook(plain, with_kwargs=True)]


class _Recorder:
    """Copies what passes through modules; a context manager, so that no hook outlives the forward pass."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self.handles: list = []

    def input(self, name: str, module: torch.nn.Module) -> None:
        def keep(_, args, kwargs):
            self.tensors[name] = (args[0] if args else kwargs["hidden_states"]).clone()

        self.handles.append(module.register_forward_pre_hook(keep, with_kwargs=True))

    def output(self, name: str, module: torch.nn.Module) -> None:
        def keep(_, args, output):
            # A copy, because Falcon adds the attention's output to the MLP's in place.
            self.tensors[name] = output.clone()

        self.handles.append(module.register_forward_hook(keep))

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *_) -> None:
        for handle in self.handles:
            handle.remove()


def _as_sequences(name: str, tensor: torch.Tensor, input_ids: torch.Tensor, config: object) -> torch.Tensor:
    """`[batch, seq, …]`, also where the family flattens batch and sequence (OPT's MLP); `z` split into heads."""
    heads = (config.num_attention_heads, -1) if name.endswith("hook_z") else (-1,)
    return tensor.reshape(*input_ids.shape, *heads)


def _check(result: dict[str, torch.Tensor], hidden_states: tuple[torch.Tensor, ...], *, adds_up: bool) -> None:
    """The recorded tensors agree with transformers' own hidden states and add up block by block."""
    layers = len(hidden_states) - 1
    for i in range(layers):
        before, after = result[f"blocks.{i}.hook_resid_pre"], result[f"blocks.{i + 1}.hook_resid_pre"]
        if not torch.equal(before, hidden_states[i]):
            raise SystemExit(f"blocks.{i}.hook_resid_pre is not hidden_states[{i}]")
        if not adds_up:
            mid = before + result[f"blocks.{i}.hook_attn_out"]
            if not torch.allclose(mid, result[f"blocks.{i}.hook_resid_mid"], rtol=0, atol=SUM_TOLERANCE):
                raise SystemExit(f"block {i}: hook_resid_mid is not resid_pre + attn_out")
            continue
        added = before + result[f"blocks.{i}.hook_attn_out"] + result[f"blocks.{i}.hook_mlp_out"]
        error = ((added - after).abs().max() / after.abs().max()).item()
        if not error < SUM_TOLERANCE:
            raise SystemExit(f"block {i}: resid_pre + attn_out + mlp_out misses resid_post by {error:.1e}")
    if "ln_final.hook_normalized" in result and not torch.equal(result["ln_final.hook_normalized"], hidden_states[layers]):
        raise SystemExit(f"ln_final.hook_normalized is not hidden_states[{layers}]")


SAFETENSORS_DTYPES = {torch.int64: "I64", torch.float32: "F32", torch.float64: "F64"}


def save(path: Path, tensors: dict[str, torch.Tensor], made_by: str) -> None:
    """Writes a safetensors file, the same bytes for the same tensors.

    Not `safetensors.torch.save_file`: the order of its metadata keys changes from run to run.
    """
    header: dict[str, object] = {"__metadata__": {"made_by": made_by, "transformers": transformers.__version__}}
    chunks, end = [], 0
    # Widest elements first, so that every tensor is aligned to its own size.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        chunks.append(tensor.cpu().contiguous().numpy().tobytes())
        start, end = end, end + len(chunks[-1])
        dtype = SAFETENSORS_DTYPES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))
