# Short names for what is done often. `make` alone lists them.
# Nothing needs to be installed beforehand but Python 3.11 or newer, git and make; no activated environment is used.

PYTHON ?= python3
PY := .venv/bin/python
BIN := .venv/bin
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench model model-folds model-ablation model-explain screenshots wheel-check pins clean

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
	$(PY) benchmarks/explain_speed.py

model: .venv/.stamp-dev ## Train the bundled model again (hours); make model DATA=folder takes real scans too
	$(BIN)/napari-alnct-train train-detector --out runs/bundled $(if $(DATA),--config bundled --data "$(DATA)" \
	  --calibration benchmarks/results/model_calibration.json,--config phantoms)

model-folds: .venv/.stamp-dev ## Train and judge the leave-scans-out folds of the data pack: make model-folds DATA=folder
	@test -n "$(DATA)" || { echo "make model-folds needs the data pack: make model-folds DATA=folder (docs/model-data.md)"; exit 2; }
	for fold in 0 1 2; do $(BIN)/napari-alnct-train train-detector --out runs/folds/fold_$$fold --cases runs/folds/cases \
	  --data "$(DATA)" --config folds --hold-out $$fold/3 || exit; done
	$(PY) benchmarks/model_folds.py --data "$(DATA)"
	$(PY) benchmarks/model_pictures.py --data "$(DATA)"

model-ablation: .venv/.stamp-dev ## What each ingredient buys, one fold, small budget: make model-ablation DATA=folder
	@test -n "$(DATA)" || { echo "make model-ablation needs the data pack: make model-ablation DATA=folder"; exit 2; }
	$(PY) benchmarks/model_ablation.py --data "$(DATA)"

model-explain: .venv/.stamp-dev ## Judge the bundled model's explanations, write EXPLAINABILITY.md: make model-explain [DATA=folder FOLDS=runs/folds]
	$(PY) benchmarks/explainability.py $(if $(DATA),--data "$(DATA)" --folds "$(or $(FOLDS),runs/folds)")

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
