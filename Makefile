# Thin on purpose: what to install is in setup.sh and pyproject.toml, how tools are configured in pyproject.toml.
python := .venv/bin/python
# Generated files are compared with their generator, not formatted.
c_files = $(shell find firmware examples -name gen -prune -o -name '*.[ch]' -print)

FUZZ_RUNS := 200000

.PHONY: help test-arm64 test-camera test-tools setup demo test lint format fuzz bench clean tools test-convert

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: tools ## install what is needed and leave .venv/bin/sdk
	@echo "Ready: .venv/bin/sdk --help"

demo: tools ## classify handwritten digits on an emulated Cortex-M4 and check every bit
	@$(python) examples/digits/demo.py

test: test-tools lint ## run linters and all tests
	@$(python) -m pytest -q -n 2 --dist loadgroup

test-arm64: tools ## run the Linux runtime on an emulated 64-bit Arm core (MODELS="a.tflite b.tflite")
	@./setup.sh --arm64
	@$(python) tests/arm64.py $(MODELS)

test-camera: tools ## run picamera2 on a virtual camera; as root
	@./setup.sh --camera
	@$(python) tests/picamera.py

test-convert: test-tools ## convert by TensorFlow, PyTorch and ONNX too; fetches what is missing (7 GB)
	@MICROLITH_TEST_CONVERT=1 $(python) -m pytest -q tests/test_convert*.py

lint: tools ## check style, types and generated files
	@.venv/bin/ruff check --quiet
	@.venv/bin/ruff format --quiet --check
	@$(python) -m mypy
	@.venv/bin/clang-format --dry-run -Werror $(c_files)
	@$(python) -m sdk.gen --check

format: tools ## rewrite the sources in the project's style
	@.venv/bin/ruff check --quiet --fix-only
	@.venv/bin/ruff format --quiet
	@.venv/bin/clang-format -i $(c_files)

bench: test-tools ## measure the example, and the public models in MODELS=folder, against the committed figures
	@$(python) -m benchmarks.peers $(MODELS)

fuzz: tools ## damage models for an hour or so, with the code's coverage as a guide (FUZZ_RUNS=200000)
	@$(python) -c 'import atheris' 2>/dev/null || $(python) -m pip install --quiet --editable '.[fuzz]'
	@mkdir -p build/fuzz/corpus
	@cd build/fuzz && ../../$(python) ../../tests/fuzz_models.py -runs=$(FUZZ_RUNS) corpus

clean: ## remove everything that make has put into this directory
	@rm -rf .venv build dist .pio .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +

tools:
	@./setup.sh

test-tools:
	@./setup.sh --tests
