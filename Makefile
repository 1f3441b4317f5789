# Every target installs what it needs first, so one command on a fresh clone is enough.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# What was installed is noted in a file each: `make demo` takes a fifth of the packages that the tests take
CORE_INSTALLED := $(VENV)/.installed-core
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.installed-docs

# Networks this small are several times faster on one thread.
export OMP_NUM_THREADS := 1
# The tests start the command line often, and without its bytecode it is compiled anew each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-slow test-oldest bench lint format type commit-checks docs play clean
.DEFAULT_GOAL := test
.NOTPARALLEL:

install: $(INSTALLED)

# torch alone and first: by its pin pip takes a CPU wheel where it is offered one, and nothing later replaces it.
$(CORE_INSTALLED): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "sb3_attnmem needs Python >= 3.10, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)" >&2; \
		echo "Name another one, e.g.: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -c constraints.txt torch
	$(RUN) -m pip install -c constraints.txt -e ".[plots]"
	touch $@

$(INSTALLED): $(CORE_INSTALLED)
	$(RUN) -m pip install -c constraints.txt -e ".[zoo,export,transfer,distributed,ray,memory-tasks,tests]"
	touch $@

demo: $(CORE_INSTALLED)
	$(RUN) examples/quickstart.py

# Whole files to a worker: what a file sets up is set up once.
test: install
	$(RUN) -m pytest -n 2 --dist loadfile

test-slow: install
	$(RUN) -m pytest -n 2 -m slow

# With the oldest versions that setup.py allows, in an environment of their own; wants uv (pip install uv)
test-oldest:
	uv venv --clear .venv-oldest
	uv pip install --python .venv-oldest --resolution lowest-direct --torch-backend cpu \
		-e ".[plots,zoo,export,transfer,distributed,ray,memory-tasks,tests]"
	.venv-oldest/bin/python -m pytest -n 2 --dist loadfile

bench: install
	$(RUN) benchmarks/throughput.py

lint: install
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

format: install
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

type: install
	$(RUN) -m mypy

commit-checks: lint type test docs

# A warning is an error. What is optional and not installed is left unimported (docs/conf.py).
docs: $(DOCS_INSTALLED)
	$(RUN) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

# The pages with an agent that plays in them (docs/play.md): fetches onnxruntime's web build once
play:
	$(PYTHON) docs/fetch_onnxruntime.py
	$(MAKE) docs

$(DOCS_INSTALLED): $(INSTALLED)
	$(RUN) -m pip install -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
