"""Does what docs/adding-a-lens.md says in a copy of the tree, and builds and tests the lens there.

The page's blocks go where the page says; the two arms that "the compiler asks for" are added. So the page cannot go stale: where an
anchor is gone, or the code does not compile, this fails. Usage: `python3 scripts/adding_a_lens.py` (CI runs it; about two minutes).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "out" / "adding-a-lens"

# Where the blocks of the page go, by their first line: the file, and the line that they come before (None: the end of the file).
PLACES = {
    "use std::collections::BTreeMap;": ("lenses/src/shift.rs", None),
    "    /// The last layer's mean in place of the layer's own": (
        "src/lens/artifact/config.rs",
        "    /// Closed-form regression of a later layer\n    Linear,",
    ),
    '            Self::Shift => "shift",': ("src/lens/artifact/config.rs", '            Self::Linear => "linear",'),
    "            LensKind::Shift => Self::Shift,": (
        "src/lens/artifact/config.rs",
        "            LensKind::Linear => Self::Linear,",
    ),
    "    /// The mean-shift lens.": ("results/src/run/kind.rs", "    /// A linear lens.\n"),
    "            LensKind::Shift => {\n                let d": (
        "src/lens/artifact/lenses.rs",
        "            LensKind::Linear => {",
    ),
    "        LensKind::Shift => {\n            let moments": (
        "src/job/lens/fit/targets.rs",
        "        LensKind::Linear => {",
    ),
    "/// `A = 0`, `b = μ_L - μ_l` of every layer.": ("src/job/lens/fit/targets.rs", None),
}

# Blocks that stand in the place of a line.
INSTEAD = {
    "                    LensKind::Tuned | LensKind::Linear | LensKind::Shift": (
        "src/job/lens/fit/folder.rs",
        '                    LensKind::Tuned | LensKind::Linear => format!("layer.{layer}"),\n',
    ),
    "                if self.kind != LensKind::Shift {": (
        "src/job/lens/fit/folder.rs",
        '                tensors.insert(format!("{prefix}.weight"), map.weight);\n',
    ),
}

# What is left to the reader: lines that the page gives in its text, and the arms that the compiler asks for.
EDITS = [
    ("lenses/src/lib.rs", "mod shared;\n", "mod shared;\nmod shift;\npub use shift::ShiftLens;\n"),
    ("src/lens/artifact/lenses.rs", "LinearLens, TunedLens,", "LinearLens, ShiftLens, TunedLens,"),
    ("src/job/lens/fit/targets.rs", "use tch::Tensor;\n", "use tch::{Kind, Tensor};\n"),
    ("src/job/lens/fit/targets.rs", "CrossMoments, FutureFit,", "CrossMoments, FutureFit, LinearFit,"),
    (
        "src/job/lens/fit/folder.rs",
        "LensKind::Tuned | LensKind::Shared | LensKind::Linear | LensKind::Jacobian => vec![1]",
        "LensKind::Tuned | LensKind::Shared | LensKind::Linear | LensKind::Jacobian | LensKind::Shift => vec![1]",
    ),
    (
        "src/job/lens/fit/plan.rs",
        "LensKind::Linear | LensKind::FutureVocab | LensKind::FuturePrompt | LensKind::Jacobian => false",
        "LensKind::Linear | LensKind::Shift | LensKind::FutureVocab | LensKind::FuturePrompt | LensKind::Jacobian => false",
    ),
]


def copy() -> None:
    """The tracked and new files of the tree, without those that nobody builds."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    shutil.rmtree(COPY, ignore_errors=True)
    for name in listed.stdout.splitlines():
        if name.startswith(("fixtures/", "notebooks/", "fuzz/", "python/")) or not (ROOT / name).is_file():
            continue
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, COPY / name)
    (COPY / "fixtures").symlink_to(ROOT / "fixtures")


def replace(name: str, old: str, new: str) -> None:
    """`old`, which must stand in the file once, becomes `new`."""
    path = COPY / name
    text = path.read_text()
    if text.count(old) != 1:
        sys.exit(f"{name} has {text.count(old)} times: {old!r}")
    path.write_text(text.replace(old, new))


def place(block: str) -> None:
    """Puts a block where the page says."""
    for start, (name, line) in INSTEAD.items():
        if block.startswith(start):
            return replace(name, line, block)
    for start, (name, before) in PLACES.items():
        if block.startswith(start):
            if before is not None:
                return replace(name, before, block + before)
            path = COPY / name
            path.write_text((path.read_text() + "\n" if path.exists() else "") + block)
            return None
    return sys.exit(f"docs/adding-a-lens.md has a block that has no place: {block.splitlines()[0]!r}")


def main() -> None:
    """Copies, edits, builds, tests."""
    copy()
    page = (ROOT / "docs" / "adding-a-lens.md").read_text()
    blocks = re.findall(r"```rust\n(.*?)```", page, re.S)
    for block in blocks:
        place(block)
    if len(blocks) != len(PLACES) + len(INSTEAD):
        sys.exit(f"docs/adding-a-lens.md has {len(blocks)} blocks of Rust, not {len(PLACES) + len(INSTEAD)}")
    for edit in EDITS:
        replace(*edit)
    env = {"CARGO_TARGET_DIR": str(ROOT / "target")} | os.environ
    for command in (
        ["cargo", "test", "--release", "--offline", "-p", "layerscope-lenses", "shift"],
        ["cargo", "check", "--release", "--offline", "-p", "layerscope"],
    ):
        subprocess.run(command, cwd=COPY, env=env, check=True)
    print("docs/adding-a-lens.md builds, and its lens passes its tests")


if __name__ == "__main__":
    main()
