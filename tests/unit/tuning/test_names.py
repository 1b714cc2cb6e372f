"""What a study may be called, and how deep its folder may lie."""

from pathlib import Path
from typing import Any

import pytest

from cpsc.errors import ConfigError
from tests.conftest import tiny_study
from tuning.config import resolve_study
from tuning.launch import open_launch
from tuning.names import MAX_PATH_BYTES, MAX_STUDY_NAME, check_study_name


@pytest.mark.parametrize(
    "name",
    [
        *("teachers", "Probes", "mlflow.db", "MLFLOW.DB", "mlflow.db-journal", "mlflow.db.part", "mlflow-artifacts", "optuna.db"),
        *("driver.lock", "journal.jsonl", "study.yaml", "a.part", "b.LOCK", "Default"),
    ],
)
def test_a_name_of_the_storages_own_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^name: '{name}' is what the storage's own files, or MLflow's, are called"):
        resolve_study(tiny_study() | {"name": name})


@pytest.mark.parametrize("name", ["x" * 200, "x" * (MAX_STUDY_NAME + 1), ".hidden", "-x", "a b", "a/b", "ü", ""])
def test_a_name_that_is_no_folders_everywhere_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^name: must be letters, digits"):
        resolve_study(tiny_study() | {"name": name})


@pytest.mark.parametrize("name", ["teachers2", "my-teachers", "mlflow", "default", "runs", "x" * MAX_STUDY_NAME])
def test_other_names_are_fine(name: str) -> None:
    check_study_name(name)


def test_a_launch_of_the_longest_name_can_be_named_with_its_number(tmp_path: Path) -> None:
    launch = f"{'x' * MAX_STUDY_NAME}-12345"
    with pytest.raises(ConfigError, match=f"^launch '{launch}': not under"):
        open_launch(str(tmp_path), launch, [])


@pytest.mark.parametrize("key", ["storage", "local"])
def test_a_folder_too_deep_for_sqlite_is_refused(tmp_path: Path, key: str) -> None:
    def study(length: int) -> dict[str, Any]:
        folder = str(tmp_path) + "/" + "/".join(["x" * 99] * 9)
        return tiny_study() | {"storage": str(tmp_path), key: folder[: length - len("/tiny")].rstrip("/")}

    resolve_study(study(MAX_PATH_BYTES))
    with pytest.raises(ConfigError, match=rf"^local: .*/tiny is a path of {MAX_PATH_BYTES + 1} bytes, at most {MAX_PATH_BYTES}"):
        resolve_study(study(MAX_PATH_BYTES + 1))
