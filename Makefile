# make demo: install and watch a search from end to end.   make test: install and run the tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Threads that wait for each other sleep: spinning makes training forty times slower on a shared core.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: install demo test lint bench bench-search clean

install: $(STAMP)

$(STAMP): pyproject.toml deploy/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "nichemerge needs Python 3.11: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint deploy/constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint deploy/constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/nichemerge demo $(ARGS)

test: install lint
	$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/nichemerge bench $(ARGS)

bench-search: install
	$(BIN)/nichemerge bench optimizers $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info
