"""What a study may be called, and how deep its folder may lie."""

from pathlib import Path
from typing import Any

import pytest
from mlflow.store.db.utils import create_sqlalchemy_engine

from cpsc.errors import ConfigError
from tests.support.studies import tiny_study
from tuning.launch.launch import open_launch
from tuning.sqlite import sqlite_uri
from tuning.study.config import resolve_study
from tuning.study.names import MAX_PATH_BYTES, MAX_STUDY_NAME, check_study_name


@pytest.mark.parametrize(
    "name",
    [
        *("teachers", "Probes", "mlflow.db", "MLFLOW.DB", "mlflow.db-journal", "mlflow.db.part", "mlflow-artifacts", "optuna.db"),
        *("driver.lock", "journal.jsonl", "study.yaml", "a.part", "b.LOCK", "Default"),
    ],
)
def test_a_name_of_the_storages_own_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^name: '{name}' is reserved for files of the storage or of MLflow"):
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
    with pytest.raises(ConfigError, match=f"^launch '{launch}': not found in"):
        open_launch(str(tmp_path), launch, [])


def test_a_folder_whose_name_no_file_system_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^storage: .* is not a path \(a name in it has 256 bytes, at most 255 are possible\)"):
        resolve_study(tiny_study() | {"storage": f"/tmp/{'ü' * 128}/runs"})


@pytest.mark.parametrize(
    ("uri", "folder"), [("file:///tmp/a%20b", "/tmp/a b"), ("file://localhost/tmp/ü", "/tmp/ü"), ("/tmp/a%20b", "/tmp/a%20b")]
)
def test_a_files_uri_is_decoded_and_a_path_is_not(uri: str, folder: str) -> None:
    study = resolve_study(tiny_study() | {"storage": uri})
    assert (study.storage, str(study.local)) == (folder, folder)


@pytest.mark.parametrize("uri", ["file://host/runs", "file:///runs?a=b", "file:///runs#a", "file://runs", "file://[x"])
def test_a_files_uri_that_names_no_folder_here_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a folder on this machine, write it as a plain path$"):
        resolve_study(tiny_study() | {"storage": uri})


@pytest.mark.parametrize("name", ["plain", "with space", "a%20b", "100%", "q?x=1", "h#", "'\"", "ü", "a;b&c", "back\\slash", "c:d"])
def test_a_database_lies_where_its_address_says_and_makes_no_other_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    file = tmp_path / name / "mlflow.db"
    engine = create_sqlalchemy_engine(sqlite_uri(file))
    with engine.connect() as connection:
        connection.exec_driver_sql("create table made (it)")
    engine.dispose()
    assert file.is_file()
    assert [found.name for found in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("key", ["storage", "local"])
def test_a_folder_too_deep_for_sqlite_is_refused(tmp_path: Path, key: str) -> None:
    def study(length: int) -> dict[str, Any]:
        folder = str(tmp_path) + "/" + "/".join(["x" * 99] * 9)
        return tiny_study() | {"storage": str(tmp_path), key: folder[: length - len("/tiny")].rstrip("/")}

    resolve_study(study(MAX_PATH_BYTES))
    with pytest.raises(ConfigError, match=rf"^local: .*/tiny is too long \({MAX_PATH_BYTES + 1} bytes\), at most {MAX_PATH_BYTES}"):
        resolve_study(study(MAX_PATH_BYTES + 1))
