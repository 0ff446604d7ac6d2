"""Both directions between layerscope's lens folders and the tuned-lens package.

    cargo run --release --example random_lens -- fixtures/gpt2-alice-8l LENSDIR
    python tests/python/tuned_lens_package.py fixtures/gpt2-alice-8l LENSDIR      exit 1 and a line on stderr if anything differs

Ours to theirs: LENSDIR holds a lens folder and `logits.safetensors`, what layerscope reads with it; the package loads the
folder and must read the same. Theirs to ours: what the package saves of that lens holds the same tensors, and the committed
fixture (fixtures/lenses, which the Rust tests read) is still what this package makes of its own file.

Needs fixtures/requirements.txt and `pip install --no-deps tuned-lens==0.2.0`; no stubs: `tuned_lens.nn.lenses` imports only
torch, transformers and huggingface_hub.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from tuned_lens.nn.lenses import TunedLens

FIXTURE = Path(__file__).parents[2] / "fixtures" / "lenses" / "package-gpt2-alice"
TOLERANCE = 1e-4


def check(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"tuned_lens_package: {message}")


def largest_difference(model, folder: Path, expected: dict) -> float:
    """Loads `folder` with the package and compares its logits, layer by layer."""
    lens = TunedLens.from_model_and_pretrained(model, lens_resource_id=str(folder))
    check(len(lens) == model.config.num_hidden_layers, f"{folder}: {len(lens)} translators")
    with torch.no_grad():
        hidden = model(expected["ids"].long()[None], output_hidden_states=True).hidden_states
        errors = [(lens(hidden[i], i)[0] - expected[f"layer.{i}"]).abs().max().item() for i in range(len(lens))]
    return max(errors)


def main() -> None:
    check(len(sys.argv) == 3, "usage: tuned_lens_package.py MODEL LENSDIR")
    model_dir, ours = Path(sys.argv[1]), Path(sys.argv[2])
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()

    state = torch.load(ours / "params.pt", weights_only=True)
    layers = range(model.config.num_hidden_layers)
    check(list(state) == [f"{i}.{part}" for i in layers for part in ("weight", "bias")], f"keys {list(state)}")
    safe = load_file(ours / "params.safetensors")
    for key, tensor in state.items():
        check(tensor.dtype == torch.float32 and tensor.device.type == "cpu", f"{key}: {tensor.dtype} {tensor.device}")
        check(torch.equal(tensor, safe[f"layer.{key}"]), f"{key} differs between params.pt and params.safetensors")

    error = largest_difference(model, ours, load_file(ours / "logits.safetensors"))
    print(f"ours read by the package: largest difference of logits {error:.1e}")
    check(error < TOLERANCE, f"logits differ by {error}")
    error = largest_difference(model, FIXTURE, load_file(FIXTURE / "expected.safetensors"))
    print(f"the committed fixture:    largest difference of logits {error:.1e}")
    check(error < TOLERANCE, f"the fixture's logits differ by {error}")

    with tempfile.TemporaryDirectory() as saved:
        TunedLens.from_model_and_pretrained(model, lens_resource_id=str(ours)).save(saved)
        again = torch.load(Path(saved) / "params.pt", weights_only=True)
        check(list(again) == list(state) and all(torch.equal(again[k], state[k]) for k in state), "saving changed it")
        config = json.loads((Path(saved) / "config.json").read_text())
        check(set(config) < set(json.loads((ours / "config.json").read_text())), f"unknown keys in {config}")


main()
