# Two commands do everything: `make sweep` and `make test`. Each creates .venv and installs what it needs first.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11,$(shell $(p) -c '$(SUPPORTED)' 2>/dev/null && echo $(p))))
BIN := .venv/bin
STUDY ?= search_spaces/digits.yaml
TWO_FILES_AT_A_TIME := -n 2 --dist loadfile --no-loadscope-reorder
FAST := tests/unit -m "not ray and not slow"
# Python may keep what it has compiled. Container images often forbid it, and nothing is compiled at installation (below), so every
# process would compile the sources of torch, Ray and MLflow again: 69 instead of 30 s of CPU time for the smallest sweep.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: sweep ui install test test-all test-fast coverage lint bench docs clean

sweep: .venv/installed ## run the main job: a blind search on the digits
	$(BIN)/cpsc-tune sweep $(STUDY)

ui: .venv/installed ## show the sweep's results in MLflow's UI
	$(BIN)/cpsc-tune ui $(STUDY)

install: .venv/installed ## install everything into .venv, and no more

test: .venv/installed-dev lint ## run what must pass before a change is merged
	$(BIN)/python -m pytest $(TWO_FILES_AT_A_TIME) -m "not long"

test-all: .venv/installed-dev lint ## the same, and the slowest tests: a cluster, S3, PostgreSQL, a failing server and disk, compiled networks, the notebooks
	$(BIN)/python -m pytest $(TWO_FILES_AT_A_TIME)

test-fast: .venv/installed-dev ## while you work: only short unit tests that start no process
	$(BIN)/python -m pytest $(TWO_FILES_AT_A_TIME) $(FAST)

# Not part of `make test`: on Python 3.11 the tests of losses, distiller and spaces take 39 % more CPU time with it.
coverage: .venv/installed-dev ## the same tests, and the lines that none of them covers
	$(BIN)/python -m pytest $(TWO_FILES_AT_A_TIME) $(FAST) --cov=cpsc --cov=tuning --cov-report=term-missing:skip-covered

bench: .venv/installed-dev ## measure the figures of docs/speed.md, about an hour; ratios are taken within one run
	$(BIN)/python -m tests.benchmarks.step
	$(BIN)/python -m tests.benchmarks.turnround
	$(BIN)/python -m tests.benchmarks.search_speed
	$(BIN)/python -m tests.benchmarks.driver
	$(BIN)/python -m tests.benchmarks.stock_ray
	$(BIN)/python -m tests.benchmarks.report

docs: .venv/installed-dev ## build the documentation as a website, build/docs/index.html
	$(BIN)/sphinx-build -W --keep-going -b html docs build/docs

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found; name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
