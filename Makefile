PYTHON ?= python3
BIN := .venv/bin
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
GPU ?= $(firstword $(wildcard /dev/nvidia0) $(shell command -v nvidia-smi))
# The tests start a hundred programs, which would each compile our modules anew where compiled ones are not kept.
PYTEST = env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
INSTALL = $(BIN)/python -m pip install -c constraints.txt $$(cat .venv/pip-args)

.PHONY: help demo test report docs coverage lint format clean

help:
	@echo 'make demo     a picture from the bundled network, plain and Skip-Tuned: out/demo.png; sets .venv up first'
	@echo 'make test     everything that CI checks: lint, types, all tests'
	@echo 'make report   the results as one page to open in a browser: out/report/index.html'
	@echo 'make docs     the documentation as a site, with that page: site/index.html'
	@echo 'make coverage the tests, and the lines that they do not run'
	@echo 'make lint     only lint and types'
	@echo 'make format   put the code in form'
	@echo 'make clean    remove .venv and the caches of tools'
	@echo
	@echo 'make demo PYTHON=python3.12     another Python, 3.11 or newer'
	@echo 'make demo PIP_ARGS="..."        your own arguments for pip, such as the index with the torch that you want'

demo: .venv/.ready
	$(BIN)/python demo.py

test: .venv/.ready-dev lint
	$(PYTEST)

report: .venv/.ready-dev
	$(BIN)/python tables.py show --all --format html --outdir out/report

docs: .venv/.ready-docs report
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo $(CURDIR)/site/index.html

coverage: .venv/.ready-dev
	$(PYTEST) --cov --cov-report=term

lint: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv site .coverage .mypy_cache .pytest_cache .ruff_cache

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; use make PYTHON=...") if sys.version_info < (3, 11) else None'
	@$(MAKE) --no-print-directory pip-args
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[plot]'
	@touch $@

.venv/.ready-dev: .venv/.ready
	$(INSTALL) '.[dev]'
	# A judge for the tests; with its dependencies it would bring torchvision, which is not needed.
	$(INSTALL) --no-deps torch-fidelity==0.4.0
	@touch $@

.venv/.ready-docs: .venv/.ready-dev
	$(INSTALL) '.[docs]'
	@touch $@

# Which torch: says what is about to be fetched, and keeps the arguments for pip that fetch it.
.PHONY: pip-args
pip-args: export ARGS := $(PIP_ARGS)
pip-args:
	@mkdir -p .venv
	@args="$$ARGS"; \
	if [ -n "$$args" ]; then \
	  echo "Setting up .venv; pip gets your arguments: $$args"; \
	elif [ "$$(uname)" != Linux ]; then \
	  echo 'Setting up .venv: some hundred MB to fetch.'; \
	elif [ -n '$(GPU)' ]; then \
	  echo 'Setting up .venv with torch for NVIDIA GPUs ($(GPU) is here): several GB to fetch.'; \
	  echo 'For the CPU only: make clean, then make demo PIP_ARGS="--extra-index-url $(CPU_INDEX)"'; \
	elif $(PYTHON) -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' $(CPU_INDEX)/torch/ 2>/dev/null; then \
	  args='--extra-index-url $(CPU_INDEX)'; \
	  echo 'Setting up .venv with torch for CPUs, since there is no NVIDIA GPU here: some hundred MB to fetch.'; \
	  echo 'For GPUs all the same: make clean, then make demo GPU=yes'; \
	else \
	  echo 'Setting up .venv. There is no NVIDIA GPU here, but $(CPU_INDEX) with torch for CPUs'; \
	  echo 'cannot be reached: torch comes from where pip usually looks. On PyPI that is the one for GPUs, several GB.'; \
	fi; \
	printf '%s\n' "$$args" > .venv/pip-args
