# The way from a fresh clone to a running program; `make help` lists it. Rust, a C++ compiler and Python 3 with pip
# are needed, libtorch is found or fetched by scripts/bootstrap.py. Build, tests and demo share the release profile,
# so that every dependency is compiled once.

PYTHON ?= python3
BINARY := target/release/layerscope

# Puts libtorch in the environment of a cargo command. The bootstrap has already looked at LIBTORCH_USE_PYTORCH,
# which torch-sys would otherwise prefer to LIBTORCH.
with_libtorch = LIBTORCH="$$($(PYTHON) scripts/bootstrap.py)" && export LIBTORCH && unset LIBTORCH_USE_PYTORCH &&

.DEFAULT_GOAL := help
.PHONY: help setup build demo pictures notebooks test numerics browser fmt lint docs clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

setup: ## find libtorch 2.11.0, or fetch it once into .libtorch/
	@echo "libtorch: $$($(PYTHON) scripts/bootstrap.py)"

build: ## compile target/release/layerscope
	@echo "==> cargo build --release"
	@$(with_libtorch) cargo build --release
	@built="$$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/layerscope"; \
	if [ ! "$$built" -ef $(BINARY) ]; then mkdir -p target/release && cp "$$built" $(BINARY).tmp && mv $(BINARY).tmp $(BINARY); fi

demo: build ## build, then the tour on the bundled model, into out/demo
	@echo "==> $(BINARY) demo --out out/demo"
	@$(BINARY) demo --out out/demo

pictures: demo ## the README's pictures, from the demo's report
	@cp out/demo/report/figures/prompt-prompt-1-tuned.svg docs/prompt.svg
	@cp out/demo/report/figures/eval-lens-kl.svg docs/lenses.svg
	@cp out/demo/report/figures/trace-patch-resid_pre-logit_diff.svg docs/trace.svg

notebooks: build ## build, then run the notebooks from an environment of their own: they must show what is committed
	@echo "==> $(PYTHON) notebooks/execute.py"
	@LAYERSCOPE=$(CURDIR)/$(BINARY) $(PYTHON) notebooks/execute.py

test: ## run every test (no Python)
	@echo "==> cargo test --release --workspace --no-fail-fast"
	@$(with_libtorch) cargo test --release --workspace --no-fail-fast

# Another processor adds in another order. ATen, MKL and oneDNN take AVX2 kernels where they are told to, so that a machine
# with AVX-512 can run what one without it would; what may depend on it is run on one thread and on two.
older_processor = ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2
numeric_tests = cargo test --release --workspace --no-fail-fast --lib && \
  cargo test --release --no-fail-fast --test tests -- properties parity golden text_numbers per_token package_lens prompt_traces cached_fit

numerics: ## the tests of numbers again with AVX2 kernels, on one thread and on two
	@echo "==> $(older_processor), OMP_NUM_THREADS=1 and 2: $(numeric_tests)"
	@$(with_libtorch) for threads in 1 2; do \
	  export OMP_NUM_THREADS=$$threads $(older_processor) && $(numeric_tests) || exit 1; done

browser: ## drive the offline page in headless Chromium, on the demo's runs (make demo first)
	@mkdir -p out/browser
	@$(BINARY) view --quiet --model out/demo/model --lens logit --lens out/demo/tuned --lens out/demo/future \
	  --text "The old man looked at her for a moment, and then he said that she was" \
	  --text "Alice was <script>alert(1)</script> of שלום עולם and 漢字かな" --html out/browser/prompts.html
	@echo "==> scripts/browser_test.sh out/browser/prompts.html out/demo/report/report.html"
	@bash scripts/browser_test.sh out/browser/prompts.html out/demo/report/report.html

fmt: ## format the Rust code
	@echo "==> cargo fmt --all"
	@cargo fmt --all

lint: ## clippy, with warnings as errors
	@echo "==> cargo clippy --release --workspace --all-targets -- -D warnings"
	@$(with_libtorch) cargo clippy --release --workspace --all-targets -- -D warnings

docs: ## API documentation, with warnings as errors
	@echo "==> cargo doc --release --workspace --no-deps"
	@$(with_libtorch) RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

clean: ## remove what was built; .libtorch/ stays
	@echo "==> rm -rf target out"
	@rm -rf target out
