"""Writes what transformers' config classes say of their keys: type, whether null is allowed, default, other names.

    python scripts/config_classes.py            rewrite src/model/families/classes.json
    python scripts/config_classes.py --check    exit 1 when the installed transformers says otherwise

`src/model/config.rs` reads a model's config.json against this table, so that a missing key has the class's default and a
value of a wrong type is refused. A new family goes into `FAMILIES`. Needs the versions in fixtures/requirements.txt.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import types
import typing
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from transformers import CONFIG_MAPPING, configuration_utils  # noqa: E402

OUT = Path(__file__).resolve().parents[1] / "src/model/families/classes.json"
FAMILIES = (
    "apertus", "arcee", "bert", "biogpt", "bloom", "camembert", "codegen", "cohere", "cohere2", "cwm", "distilbert",
    "ernie4_5", "esm", "exaone4",
    "falcon", "flex_olmo", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "glm4v_text", "gpt2",
    "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "granite", "granitemoe", "helium", "hunyuan_v1_dense",
    "hyperclovax", "internlm3", "iquestcoder", "jais2", "llama", "ministral", "ministral3", "mistral",
    "mixtral", "modernbert", "mpt", "nanochat", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "persimmon", "phi",
    "phi3", "qwen2", "qwen2_5_vl_text", "qwen2_moe", "qwen2_vl_text", "qwen3", "qwen3_moe", "qwen3_vl_text",
    "roberta", "seed_oss", "smollm3", "stablelm", "starcoder2", "vaultgemma", "xglm", "xlm-roberta",
)  # fmt: skip
# From Python's types to JSON's, as the table names them.
NAMES = {bool: "bool", int: "int", float: "number", str: "text", list: "list", tuple: "list", dict: "object"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    args = parser.parse_args()
    text = table()
    if not args.check:
        OUT.write_text(text)
    elif OUT.read_text() != text:
        sys.exit(f"{OUT} is not what the installed transformers says")


def table() -> str:
    """One line per key: `"name": [types, default]`."""
    families = []
    for family in FAMILIES:
        cls = CONFIG_MAPPING[family]
        keys = {f.name: [types_of(f.type), default_of(f)] for f in dataclasses.fields(cls)}
        lines = [f'      {json.dumps(name)}: {json.dumps(entry)}' for name, entry in sorted(keys.items())]
        aliases = json.dumps(dict(sorted(cls.attribute_map.items())))
        families.append(f'  "{family}": {{\n    "aliases": {aliases},\n    "keys": {{\n' + ",\n".join(lines) + "\n    }\n  }")
    return "{\n" + ",\n".join(families) + "\n}\n"


def types_of(annotation: object) -> list[str]:
    """The JSON types a key may have; a number may be whole."""
    if isinstance(annotation, str):
        # The base class's annotations are not evaluated.
        annotation = eval(annotation, vars(configuration_utils) | {"torch": torch})  # noqa: S307
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        found = [name for part in typing.get_args(annotation) for name in types_of(part)]
    elif typing.get_origin(annotation) is typing.Literal:
        found = ["text"]
    else:
        plain = typing.get_origin(annotation) or annotation
        if plain in (None, type(None)):
            found = ["null"]
        elif plain in NAMES:
            found = [NAMES[plain]]
        elif isinstance(plain, type) and issubclass(plain, dict) or typing.is_typeddict(plain):
            found = ["object"]
        else:
            # torch.dtype, which no JSON file holds.
            found = []
    return sorted(set(found) - ({"int"} if "number" in found else set()))


def default_of(field: dataclasses.Field) -> object:
    """The value of a missing key."""
    return None if field.default is dataclasses.MISSING else field.default


if __name__ == "__main__":
    main()
