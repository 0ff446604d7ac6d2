#!/usr/bin/env python3
"""Finds libtorch and prints its root folder, the value that LIBTORCH needs.

Looked for in this order:

1. LIBTORCH: a libtorch folder of the right version (holds include/ and lib/);
2. LIBTORCH_USE_PYTORCH=1: the `torch` package of the current Python, of the right version;
3. .libtorch/VERSION in the checkout, or $LAYERSCOPE_CACHE/libtorch/VERSION where that variable is set,
   fetched there once from the torch wheel: its headers and its CPU libraries, about 0.5 GB.

The folder goes to stdout, everything else to stderr. Needs Python 3.8 and pip, nothing more.
"""

import fcntl
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Dict, List, NamedTuple, NoReturn, Optional, Tuple

VERSION = "2.11.0"
CHECKOUT = Path(__file__).resolve().parent.parent
OWN_FOLDER = CHECKOUT / ".libtorch" / VERSION


class Wheel(NamedTuple):
    """One pinned wheel: what to ask pip for, and how to know it arrived whole."""

    requirement: str
    platform: str
    size: int
    sha256: str


# libtorch_cpu of the Linux wheels is linked against two small CUDA libraries, which it loads and never
# calls when there is no GPU; the macOS wheel needs nothing besides itself.
WHEELS: Dict[Tuple[str, str], List[Wheel]] = {
    ("Linux", "x86_64"): [
        Wheel("torch==2.11.0", "manylinux_2_28_x86_64", 530712279,
              "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756"),
        Wheel("nvidia-cuda-runtime==13.0.96", "manylinux2014_x86_64", 2243632,
              "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
        Wheel("nvidia-cuda-cupti==13.0.85", "manylinux_2_25_x86_64", 10715597,
              "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
    ],
    ("Linux", "aarch64"): [
        Wheel("torch==2.11.0", "manylinux_2_28_aarch64", 419731115,
              "f99924682ef0aa6a4ab3b1b76f40dc6e273fca09f367d15a524266db100a723f"),
        Wheel("nvidia-cuda-runtime==13.0.96", "manylinux2014_aarch64", 2261060,
              "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55"),
        Wheel("nvidia-cuda-cupti==13.0.85", "manylinux_2_25_aarch64", 10310827,
              "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151"),
    ],
    ("Darwin", "arm64"): [
        Wheel("torch==2.11.0", "macosx_11_0_arm64", 80606338,
              "4b5866312ee6e52ea625cd211dcb97d6a2cdc1131a5f15cc0d87eec948f6dd34"),
    ],
}

# Parts of the names of libraries that are left out: CUDA itself, and what only Python needs.
UNWANTED_LIBRARIES = ("cuda", "nvrtc", "nvshmem", "python", "shm", "global_deps")
WANTED_CUDA_LIBRARIES = ("libcudart.so.13", "libcupti.so.13")
UNPACKED_BYTES = 650_000_000


def say(message: str) -> None:
    """Tells the user something, on stderr: stdout is for the folder alone."""
    print(f"libtorch: {message}", file=sys.stderr, flush=True)


def fail(message: str) -> NoReturn:
    """Ends with one line on stderr and exit code 1."""
    say(message)
    sys.exit(1)


def check_tools() -> None:
    """Fails in one line when a program that the build needs is missing."""
    needed = {
        "cargo": "cargo (see https://rustup.rs)",
        "cc": "cc, a C compiler and linker (Debian: apt install build-essential; macOS: xcode-select --install)",
        os.environ.get("CXX") or "c++": "a C++ compiler (Debian: apt install g++; macOS: xcode-select --install)",
    }
    missing = [hint for program, hint in needed.items() if shutil.which(program.split()[0]) is None]
    if missing:
        fail("missing: " + ", ".join(missing))


def problem(root: Path, version: Optional[str]) -> Optional[str]:
    """Why `root` cannot serve as libtorch, or None when it can. An unknown version is let through."""
    libraries = [root / "lib" / f"libtorch_cpu.{suffix}" for suffix in ("so", "dylib")]
    if not any(library.is_file() for library in libraries):
        return f"no lib/libtorch_cpu.so (or .dylib) in {root}"
    if not (root / "include" / "torch").is_dir():
        return f"no include/torch in {root}"
    if version is not None and version.split("+")[0] != VERSION:
        return f"expected version {VERSION}, got {version} in {root}"
    return None


def build_version(root: Path) -> Optional[str]:
    """The version that a libtorch folder states about itself, if it does."""
    try:
        return (root / "build-version").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def from_environment(value: str) -> Path:
    """The user's own libtorch folder."""
    root = Path(value).expanduser().absolute()
    trouble = problem(root, build_version(root))
    if trouble:
        fail(f"LIBTORCH={value}: {trouble}")
    return root


def from_python() -> Path:
    """The folder of the Python torch package, asked of the interpreter that torch-sys would ask."""
    python = "python" if "VIRTUAL_ENV" in os.environ else "python3"
    question = "import pathlib, torch; print(pathlib.Path(torch.__file__).parent); print(torch.__version__)"
    answer = subprocess.run([python, "-c", question], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if answer.returncode != 0:
        reason = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        fail(f"LIBTORCH_USE_PYTORCH is set, but {python} cannot import torch: {reason}")
    folder, version = answer.stdout.strip().splitlines()[-2:]
    trouble = problem(Path(folder), version)
    if trouble:
        fail(f"LIBTORCH_USE_PYTORCH is set, but {trouble}")
    return Path(folder)


def cache_root() -> Path:
    """Where a fetched libtorch lives."""
    cache = os.environ.get("LAYERSCOPE_CACHE")
    if cache:
        return Path(cache).expanduser().absolute() / "libtorch" / VERSION
    return OWN_FOLDER


def wheels_for_this_machine() -> List[Wheel]:
    """The pinned wheels of this platform; fails on a platform that has none."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) not in WHEELS:
        fail(f"no libtorch {VERSION} wheel for {system} {machine}; set LIBTORCH to a libtorch folder")
    if system == "Linux" and platform.libc_ver()[0] != "glibc":
        fail(f"the libtorch {VERSION} wheel needs glibc; set LIBTORCH to a libtorch folder built for this system")
    return WHEELS[system, machine]


def check_disk(folder: Path, wheels: List[Wheel]) -> None:
    """Fails before anything is fetched when the disk cannot hold it. pip keeps each wheel twice for a moment."""
    needed = 2 * sum(wheel.size for wheel in wheels) + UNPACKED_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        fail(f"{folder} has {free / 1e9:.1f} GB free, fetching needs {needed / 1e9:.1f} GB")


def watch_download(folder: Path, total: int, done: threading.Event) -> None:
    """Prints how much has arrived in `folder`: a line that moves on a terminal, else a line every ten seconds."""
    terminal = sys.stderr.isatty()
    while not done.wait(0.5 if terminal else 10):
        arrived: Dict[str, int] = {}
        for path in folder.rglob("*.whl"):
            try:
                arrived[path.name] = max(arrived.get(path.name, 0), path.stat().st_size)
            except OSError:
                continue  # pip has just moved it
        text = f"libtorch: {sum(arrived.values()) / 1e6:.0f} of {total / 1e6:.0f} MB"
        print(f"\r{text} " if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
    if terminal:
        print(file=sys.stderr)


def download(wheels: List[Wheel], part: Path) -> List[Path]:
    """Has pip fetch the wheels into `part` and check their hashes."""
    target, scratch, requirements = part / "wheels", part / "tmp", part / "requirements.txt"
    scratch.mkdir()
    requirements.write_text("".join(f"{w.requirement} --hash=sha256:{w.sha256}\n" for w in wheels), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               "--no-cache-dir", "--disable-pip-version-check", "--require-hashes", "--dest", str(target),
               "--python-version", "3.12", "--implementation", "cp", "--abi", "cp312", "-r", str(requirements)]
    for wheel in wheels:
        command += ["--platform", wheel.platform]
    done = threading.Event()
    watcher = threading.Thread(target=watch_download, args=(part, sum(w.size for w in wheels), done), daemon=True)
    watcher.start()
    # /tmp can be small: pip's own temporary files go beside the target.
    pip = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                         env={**os.environ, "TMPDIR": str(scratch)})
    done.set()
    watcher.join()
    if pip.returncode != 0:
        errors = [line for line in pip.stderr.splitlines() if line.strip()] or ["no message"]
        reason = next((line for line in reversed(errors) if line.startswith("ERROR")), errors[-1])
        fail(f"pip could not fetch the wheels: {reason} (without a network, set LIBTORCH to a libtorch {VERSION} folder)")
    return sorted(target.glob("*.whl"))


def destination(member: str) -> Optional[str]:
    """Where a file of a wheel goes in a libtorch folder, or None for what is left out."""
    if member.endswith("/"):
        return None
    if member.startswith("torch/include/"):
        return member[len("torch/"):]
    folder, _, name = member.rpartition("/")
    if folder == "torch/lib" and (".so" in name or name.endswith(".dylib")):
        unwanted = name == "libtorch.so" or any(part in name for part in UNWANTED_LIBRARIES)
        return None if unwanted else f"lib/{name}"
    if folder.startswith("nvidia/") and name in WANTED_CUDA_LIBRARIES:
        return f"lib/{name}"
    return None


def unpack(wheel: Path, root: Path) -> None:
    """Writes the wanted files of one wheel into the libtorch folder `root`."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            place = destination(member)
            if place is None:
                continue
            path = root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def add_links(lib: Path) -> None:
    """Names for the Linux linker: the wheel's own libtorch.so asks for CUDA, and -lgomp needs a plain name."""
    if not (lib / "libtorch_cpu.so").exists():
        return
    for name, target in [("libtorch.so", "libtorch_cpu.so"), ("libgomp.so", "libgomp.so.1")]:
        (lib / name).symlink_to(target)


def fetch(root: Path) -> None:
    """Fetches libtorch into `root`. It appears there whole or not at all."""
    wheels = wheels_for_this_machine()
    if importlib.util.find_spec("pip") is None:
        fail(f"missing: pip for {sys.executable} (Debian: apt install python3-pip)")
    part = root.with_name(f"{root.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed fetch left
    check_disk(root.parent, wheels)
    part.mkdir()
    try:
        say(f"fetching {VERSION} into {root} (once, {sum(w.size for w in wheels) / 1e6:.0f} MB)")
        files = download(wheels, part)
        say("unpacking")
        for file in files:
            unpack(file, part / "root")
        add_links(part / "root" / "lib")
        (part / "root" / "build-version").write_text(VERSION, encoding="utf-8")
        (part / "root").rename(root)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def link_into_checkout(root: Path) -> None:
    """Lets plain `cargo build` find a libtorch that is cached elsewhere: .cargo/config.toml looks in .libtorch."""
    if root != OWN_FOLDER and not os.path.lexists(OWN_FOLDER):
        OWN_FOLDER.parent.mkdir(exist_ok=True)
        OWN_FOLDER.symlink_to(root)


def from_cache() -> Path:
    """The fetched libtorch; fetches it first when it is not there. One process fetches, others wait."""
    root = cache_root()
    if OWN_FOLDER.is_symlink() and not OWN_FOLDER.exists():
        OWN_FOLDER.unlink()  # the cache that it pointed into is gone
    if problem(root, build_version(root)):
        root.parent.mkdir(parents=True, exist_ok=True)
        with open(root.parent / "lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not root.exists():
                fetch(root)
        trouble = problem(root, build_version(root))
        if trouble:
            fail(f"{trouble}; delete {root} to fetch it again")
    link_into_checkout(root)
    return root


def main() -> None:
    """Checks the tools, finds libtorch, prints its folder."""
    if len(sys.argv) > 1:
        print(__doc__.strip(), file=sys.stderr)
        sys.exit(0 if sys.argv[1] in ("-h", "--help") else 2)
    check_tools()
    if os.environ.get("LIBTORCH"):
        root = from_environment(os.environ["LIBTORCH"])
    elif os.environ.get("LIBTORCH_USE_PYTORCH", "0") not in ("", "0"):
        root = from_python()
    else:
        root = from_cache()
    print(root)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted")
