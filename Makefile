# make demo: pictures from the bundled network, plain and Skip-Tuned.   make test: everything that CI checks.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format clean

demo: .venv/.ready
	$(BIN)/python demo.py

test: .venv/.ready-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --cov --cov-report=term

lint: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .coverage .mypy_cache .pytest_cache .ruff_cache

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; use make PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt $(PIP_ARGS) .
	touch $@

.venv/.ready-dev: .venv/.ready
	$(BIN)/python -m pip install --quiet -c constraints.txt $(PIP_ARGS) '.[dev]'
	# A judge for the tests; with its dependencies it would bring torchvision, which is not needed.
	$(BIN)/python -m pip install --quiet --no-deps $(PIP_ARGS) torch-fidelity==0.4.0
	touch $@
