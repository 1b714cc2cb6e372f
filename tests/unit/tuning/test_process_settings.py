"""What this package tells the libraries by variables and log levels is gone once it is done."""

import logging
import os
import subprocess
import sys

import pytest

from tuning.process_settings import environment_kept, log_levels, unless_set, variables, yielding_threads
from tuning.tracking.client import using_mlflow
from tuning.trial.busy_machine import busy_remark


def test_variables_are_as_before_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPSC_KEPT", "mine")
    monkeypatch.delenv("CPSC_NEW", raising=False)
    with variables({"CPSC_KEPT": "theirs", "CPSC_NEW": "1"}):
        assert (os.environ["CPSC_KEPT"], os.environ["CPSC_NEW"]) == ("theirs", "1")
    assert os.environ["CPSC_KEPT"] == "mine"
    assert "CPSC_NEW" not in os.environ


def test_whatever_a_library_sets_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPSC_KEPT", "mine")
    monkeypatch.setenv("CPSC_GONE", "mine")
    before = dict(os.environ)
    with environment_kept():
        os.environ |= {"CPSC_KEPT": "theirs", "CPSC_NEW": "1"}
        del os.environ["CPSC_GONE"]
    assert dict(os.environ) == before


def test_what_the_user_has_set_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPSC_KEPT", "mine")
    assert unless_set({"CPSC_KEPT": "theirs", "CPSC_NEW": "1"}) == {"CPSC_NEW": "1"}


def test_threads_yield_on_a_busy_machine_alone_and_only_where_the_user_has_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    processors = os.cpu_count() or 1
    for load, expected in ((0.9 * processors, {}), (1.1 * processors, {"OMP_WAIT_POLICY": "passive"})):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert yielding_threads() == expected
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert yielding_threads() == {}


@pytest.mark.slow
def test_the_command_line_can_say_how_threads_wait_for_nothing_it_begins_with_has_loaded_them() -> None:
    code = "import sys, tuning.cli; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's OpenMP, with which PyTorch is built for Linux")
@pytest.mark.parametrize(("load", "sleep"), [(0.0, False), (99.0, True)])
def test_a_program_that_imports_the_package_gets_threads_that_yield_and_keeps_its_environment(load: float, sleep: bool) -> None:
    code = (
        f"import os; os.getloadavg = lambda: ({load} * os.cpu_count(), 0.0, 0.0)\n"
        "from tuning import load_study\n"
        "assert 'OMP_WAIT_POLICY' not in os.environ"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | {"OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True, check=True
    )
    assert ("GOMP_SPINCOUNT = '0'" in done.stderr) == sleep, done.stderr


def test_a_long_computation_on_several_threads_is_preceded_by_a_remark_where_the_machine_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0 * (os.cpu_count() or 1), 0.0, 0.0))
    assert "3.0 processes for each" in busy_remark(2)
    assert "OMP_NUM_THREADS=1" in busy_remark(2)
    assert busy_remark(1) == ""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert busy_remark(2) == ""


def test_log_levels_are_as_before_after_the_block() -> None:
    logging.getLogger("cpsc-test").setLevel(logging.INFO)
    with log_levels({"cpsc-test": logging.ERROR}):
        assert logging.getLogger("cpsc-test").level == logging.ERROR
    assert logging.getLogger("cpsc-test").level == logging.INFO


def test_mlflow_is_used_with_limits_and_left_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    before = logging.getLogger("mlflow").level
    with using_mlflow():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
        assert logging.getLogger("mlflow").level == logging.WARNING
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    assert logging.getLogger("mlflow").level == before


IMPORTED = """
import importlib, logging, os, pkgutil
import mlflow, optuna, ray.tune
names = ("", "mlflow", "mlflow.store.db.utils", "optuna", "ray", "ray.tune", "ray.autoscaler", "tuning", "cpsc")
def state():
    return dict(os.environ), {name: logging.getLogger(name).level for name in names}, mlflow.get_tracking_uri()
before = state()
import cpsc, tuning
for package in (cpsc, tuning):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
after = state()
assert after == before, [pair for pair in zip(after, before) if pair[0] != pair[1]]
"""


@pytest.mark.slow
def test_importing_everything_changes_neither_variables_nor_log_levels() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]
