# Two commands do everything: `make sweep` and `make test`. Each makes .venv and installs what it needs first.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11,$(shell $(p) -c '$(SUPPORTED)' 2>/dev/null && echo $(p))))
BIN := .venv/bin
STUDY ?= search_spaces/digits.yaml
TWO_FILES_AT_A_TIME := -n 2 --dist loadfile --no-loadscope-reorder
FAST := tests/unit -m "not ray and not slow"

.PHONY: sweep ui test test-all test-fast coverage lint bench docs clean

sweep: .venv/installed ## run the main job: a blind search on digits
	$(BIN)/cpsc-tune sweep $(STUDY)

ui: .venv/installed ## MLflow's UI on what the sweep wrote
	$(BIN)/cpsc-tune ui $(STUDY)

test: .venv/installed-dev lint ## what must pass before a change lands
	$(BIN)/python -m pytest $(TWO_FILES_AT_A_TIME) -m "not long"

test-all: .venv/installed-dev lint ## the same, and tests of a minute and more: a cluster, S3, PostgreSQL, a server and a disk that fail, compiled networks, the notebooks
	$(BIN)/python -m pytest $(TWO_FILES_AT_A_TIME)

test-fast: .venv/installed-dev ## while you work: the unit tests that start no process and are brief
	$(BIN)/python -m pytest $(TWO_FILES_AT_A_TIME) $(FAST)

# Not in `make test`: on Python 3.11 tests of losses, distiller and spaces take 39 % more CPU time with it.
coverage: .venv/installed-dev ## the same tests, and the lines that none of them reaches
	$(BIN)/python -m pytest $(TWO_FILES_AT_A_TIME) $(FAST) --cov=cpsc --cov=tuning --cov-report=term-missing:skip-covered

bench: .venv/installed-dev ## what docs/speed.md says, about an hour; ratios are taken within one run
	$(BIN)/python -m tests.benchmarks.step
	$(BIN)/python -m tests.benchmarks.turnround
	$(BIN)/python -m tests.benchmarks.search_speed
	$(BIN)/python -m tests.benchmarks.driver
	$(BIN)/python -m tests.benchmarks.stock_ray
	$(BIN)/python -m tests.benchmarks.report

docs: .venv/installed-dev ## the documentation as a site, build/docs/index.html
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
