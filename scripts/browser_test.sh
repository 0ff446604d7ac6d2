#!/usr/bin/env bash
# Drives the offline page in headless Chromium: bash scripts/browser_test.sh PROMPTS.html [REPORT.html] [more options of
# tests/browser/run.py]. Installs what is missing: Chromium from Debian's packages (as root), the Python package that
# talks to it from pip into LAYERSCOPE_CACHE (else .venv/). The test itself needs no network.
set -eu -o pipefail
cd "$(dirname "$0")/.."

find_chromium() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" && return
    done
    return 1
}

if ! find_chromium >/dev/null; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "no Chromium: install it (Debian: apt-get install chromium) and try again" >&2
        exit 1
    fi
    echo "installing chromium"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core
fi

pins=tests/browser/requirements.txt
packages="${LAYERSCOPE_CACHE:-$PWD/.venv}/browser-$(cksum <"$pins" | cut -d ' ' -f 1)"
if [ ! -e "$packages/.done" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$packages" --upgrade -r "$pins"
    touch "$packages/.done"
fi

prompts=$1
shift
report=()
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then
    report=(--report "$1")
    shift
fi
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$packages" python3 tests/browser/run.py --chromium "$(find_chromium)" \
    --prompts "$prompts" "${report[@]}" "$@"
