# `make up` starts everything on this machine, `make test` runs all tests, `make quick` those that start no service; each
# sets up what it needs first.
# What is installed into .venv goes by way of uv's shared cache, ~/.cache/uv, which other projects use as well.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13; do command -v $$python && break; done)
BIN := .venv/bin
ARGS ?=

up: .venv/local ; @$(BIN)/pangeo-binder up $(ARGS)
test: .venv/test ; @$(BIN)/python -m pytest $(ARGS)
quick: .venv/test ; @$(BIN)/python -m pytest -m quick $(ARGS)
lint: .venv/test ; @$(BIN)/pre-commit run --all-files && $(BIN)/mypy && $(BIN)/lint-imports
cluster-tools: .venv/test ; @$(BIN)/python -m tests.stack.tools
bench: .venv/test ; @$(BIN)/python -m benchmarks.launch $(ARGS)
pins: .venv/uv ; @$(BIN)/uv pip compile -q --python-version 3.11 --all-extras --no-annotate --no-header --no-emit-index-url pyproject.toml -o constraints.txt
clean: ; rm -rf .venv .state .cache

.venv/uv: ; @test -n '$(PYTHON)' || { echo 'There is no python3.11, python3.12 or python3.13 on PATH; install one, or name yours: make PYTHON=/path/to/python' >&2; exit 1; } && echo 'Making a virtual environment in .venv …' && $(PYTHON) -m venv .venv && $(BIN)/python -m pip install -q -c constraints.txt uv && touch $@
.venv/local: .venv/uv pyproject.toml constraints.txt ; @echo 'Installing what the stack needs …' && $(BIN)/uv pip install -q -p $(BIN)/python -c constraints.txt -e '.[local]' && touch $@
.venv/test: .venv/local ; @echo 'Installing what the tests need …' && $(BIN)/uv pip install -q --compile-bytecode -p $(BIN)/python -c constraints.txt -e '.[local,test,lint]' && touch $@

.PHONY: up test quick lint cluster-tools bench pins clean
