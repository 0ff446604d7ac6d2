"""Writes the reference activations of a model folder and a text, for `layerscope verify`.

    python scripts/reference.py --model DIR --text "Alice was" --out reference.safetensors
    layerscope verify --model DIR --reference reference.safetensors

The folder holds config.json, tokenizer.json and safetensors weights. The model runs in f32 with transformers' eager
attention, whatever the weights' type. No special token is added but the one `--bos-id` names, so the token ids are
exactly what the file's `input_ids` says. Needs the versions in fixtures/requirements.txt.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer
from transformers.utils import logging

import hf_reference

# A pattern is [head, seq, seq] for every layer: long texts make large files.
DEFAULT_TOKENS = 64


def main() -> None:
    args = arguments()
    for needed in ("config.json", "tokenizer.json"):
        if not (args.model / needed).is_file():
            sys.exit(f"{args.model}: no {needed}")
    logging.disable_progress_bar()
    text = args.text if args.file is None else args.file.read_text(encoding="utf-8")
    ids = token_ids(args.model / "tokenizer.json", text, args.bos_id, args.tokens)
    model = hf_reference.load(args.model)
    check_range(ids, model.config)
    # Every hook of the families that say where they keep their modules; streams and logits of all others.
    known = model.config.model_type in hf_reference.NAMES
    found = (hf_reference.references if known else hf_reference.streams)(model, torch.tensor([ids]))
    hf_reference.save(args.out, found, "scripts/reference.py")
    print(f"{args.out}: {len(ids)} tokens, {len(found)} tensors", file=sys.stderr)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="model folder")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", metavar="STR", help="the text itself")
    source.add_argument("--file", type=Path, metavar="F", help="a UTF-8 text file")
    parser.add_argument(
        "--tokens", type=int, default=DEFAULT_TOKENS, metavar="N", help="use the first N tokens (default: %(default)s)"
    )
    parser.add_argument("--bos-id", type=int, metavar="ID", help="token id to put first, counted in N")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the safetensors file to write")
    args = parser.parse_args()
    if args.tokens < 1:
        parser.error("--tokens must be at least 1")
    return args


def token_ids(tokenizer: Path, text: str, bos_id: int | None, limit: int) -> list[int]:
    """The first `limit` ids of the text, after `bos_id` where one is given."""
    ids = Tokenizer.from_file(str(tokenizer)).encode(text, add_special_tokens=False).ids
    ids = ([] if bos_id is None else [bos_id]) + ids
    if not ids:
        sys.exit("the text has no tokens")
    return ids[:limit]


def check_range(ids: list[int], config: object) -> None:
    """Exits when the ids are not what the model can take."""
    context = config.max_position_embeddings if hasattr(config, "max_position_embeddings") else len(ids)
    if len(ids) > context:
        sys.exit(f"{len(ids)} tokens do not fit the model's context of {context}, see --tokens")
    if max(ids) >= config.get_text_config().vocab_size or min(ids) < 0:
        sys.exit(f"token ids {min(ids)} to {max(ids)} lie outside the vocabulary of {config.get_text_config().vocab_size}")


if __name__ == "__main__":
    main()
