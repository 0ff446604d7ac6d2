#!/usr/bin/env bash
# Everything that has to hold of the package: lints, types, tests, and the wheel in a fresh environment beside another torch.
# The program of the checkout must be built (make build). Packages, torch 2.13 among them, are fetched once into
# LAYERSCOPE_CACHE; LAYERSCOPE_SMOLLM2 names a folder of SmolLM2-135M where there is one.
set -eu -o pipefail
cd "$(dirname "$0")"

python="${PYTHON:-python3}"
name="python-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-$(cksum < requirements.txt | cut -d ' ' -f 1)"
env="${LAYERSCOPE_CACHE:-$PWD/../.venv}/$name"
if [ ! -e "$env/.done" ]; then
    "$python" -m venv --clear "$env"
    "$env/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
    touch "$env/.done"
fi

# The native module, where tests of the checkout find it (the wheel has its own), and the library's numbers that they compare with.
cargo clippy --release --quiet --manifest-path native/Cargo.toml -- -D warnings
cargo build --release --quiet --manifest-path native/Cargo.toml
trap 'rm -f src/layerscope/_probes.abi3.so' EXIT
cp "${CARGO_TARGET_DIR:-native/target}/release/lib_probes.so" src/layerscope/_probes.abi3.so
cargo build --release --quiet --manifest-path ../Cargo.toml -p layerscope-probes --example fitted_bits

"$env/bin/ruff" check .
"$env/bin/ruff" format --check .
"$env/bin/mypy"
"$env/bin/python" -m pytest -p no:cacheprovider
"$env/bin/python" tests/fresh_venv.py --packages "$env"
