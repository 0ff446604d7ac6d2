#!/usr/bin/env bash
# Runs every fuzz target for SECONDS (60) in turn; findings are kept under fuzz/artifacts, and the exit code is 1 when there
# are any. Needs cargo-fuzz and a nightly compiler, or RUSTC_BOOTSTRAP=1 for the stable one.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1

LIBTORCH="${LIBTORCH:-$(python3 scripts/bootstrap.py)}" || exit 1
export LIBTORCH LD_LIBRARY_PATH="$LIBTORCH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

seconds=${1:-60}
nightly=()
[ -n "${RUSTC_BOOTSTRAP:-}" ] || nightly=(+nightly)
failed=()
for corpus in fuzz/corpus/*/; do
    target=$(basename "$corpus")
    found=$(mktemp -d) # what is new goes there, so that a run does not grow the committed corpus
    log=$(mktemp)
    cargo "${nightly[@]}" fuzz run --sanitizer none "$target" "$found" "$corpus" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 >"$log" 2>&1 ||
        { failed+=("$target"); tail -n 30 "$log"; }
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
    rm -rf "$found" "$log"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "fuzz: findings of ${failed[*]} in fuzz/artifacts"
    exit 1
fi
