# Everything starts from a machine with Python and make: each goal makes .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One thread for each test process, or the processes wait for each other.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
WORKERS ?= 2

.PHONY: help demo test test-all lint format bench clean

help:
	@echo 'make demo      the whole path on real handwritten digits, pictures in demo/'
	@echo 'make test      lint, types, and every test that takes seconds'
	@echo 'make test-all  the slow tests too'
	@echo 'make lint      style and types alone'
	@echo 'make format    puts the style right'
	@echo 'make bench     the benchmarks of benchmarks/'

$(STAMP): pyproject.toml setup.py constraints.txt $(wildcard src/vqkit/*/*.[ch] src/vqkit/*/*/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]'
	touch $@

$(PEERS): $(STAMP) benchmarks/requirements.txt
	$(PIP) -r benchmarks/requirements.txt
	touch $@

demo: $(STAMP)
	$(BIN)/vqkit demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: lint
	$(THREADS) $(BIN)/pytest -q -n $(WORKERS) -m 'not slow'

test-all: lint
	$(THREADS) $(BIN)/pytest -q -n $(WORKERS)

bench: $(PEERS)
	for file in benchmarks/bench_*.py; do $(BIN)/python "$$file" || exit 1; done

clean:
	rm -rf $(VENV)
