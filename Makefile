# Short names for what is done often. `make` alone lists them.
# Nothing needs to be installed beforehand but Python 3.11 or newer, git and make; no activated environment is used.

PYTHON ?= python3
PY := .venv/bin/python
BIN := .venv/bin
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench model screenshots wheel-check pins clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

.venv/.stamp-demo: pyproject.toml scripts/set_up.py .ci/constraints.txt
	@$(PYTHON) scripts/set_up.py demo
	@touch $@

.venv/.stamp-dev: pyproject.toml scripts/set_up.py .ci/constraints.txt
	@$(PYTHON) scripts/set_up.py dev
	@touch .venv/.stamp-demo $@

setup: .venv/.stamp-dev ## Make .venv with everything that developers need

demo: .venv/.stamp-demo ## Scan to marks on a phantom, or on your scan: make demo SCAN=path.mhd
	@$(PY) examples/demo.py $${SCAN:+"$$SCAN"}

test: .venv/.stamp-dev ## Run the whole test suite (on a virtual display when there is none)
	@$(PY) scripts/with_display.py $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/.stamp-dev ## Lint, format, types, import contracts, plugin manifest
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari_alnct

format: .venv/.stamp-dev ## Bring the code into the house format
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

bench: .venv/.stamp-dev ## Measure speed, memory and what the bundled model finds; JSON in benchmarks/results
	$(PY) benchmarks/scan_to_csv.py
	$(PY) benchmarks/default_model.py
	$(PY) benchmarks/precision.py
	$(PY) benchmarks/froc_speed.py
	$(PY) benchmarks/patch_storage.py
	$(PY) benchmarks/data_loading.py

model: .venv/.stamp-dev ## Train the default model again (hours); make model DATA=folder adds real scans
	$(BIN)/napari-alnct-train train-detector --out runs/default $${DATA:+--data "$$DATA"}

screenshots: .venv/.stamp-dev ## Take the pictures of docs/images again
	$(PY) scripts/with_display.py $(PY) docs/make_screenshots.py

wheel-check: .venv/.stamp-dev ## Build the wheel, try it in a fresh environment beside napari[all]
	$(PY) scripts/with_display.py $(PY) scripts/wheel_check.py

pins: .venv/.stamp-dev ## Write the tested versions of .venv to .ci/constraints.txt
	$(PY) -m pip freeze --exclude-editable | sed 's/+cpu$$//' | grep -v -i -E '^(triton|nvidia-.*|cuda-.*)=' > .ci/constraints.new
	mv .ci/constraints.new .ci/constraints.txt
	touch .venv/.stamp-demo .venv/.stamp-dev

clean: ## Remove .venv, caches and outputs
	rm -rf .venv dist build demo_output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
