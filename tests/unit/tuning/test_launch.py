"""A launch's folder: made, found again where it was made, and fetched where the driver's machine is a new one."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cpsc.errors import ConfigError
from tests.support.events import made
from tuning.launch import Journal
from tuning.launch.events import AttemptStart, LaunchEnd, LaunchStart
from tuning.launch.launch import new_launch, open_launch, records_copy
from tuning.study import Study
from tuning.study.config import resolve_study

START = made(LaunchStart)
SECRET = "http://user:hidden@127.0.0.1:5000"


def begun(study: Study) -> str:
    """A launch that was begun, and is driven no more."""
    with new_launch(study, START) as name:
        return name


def test_names_are_not_taken_twice_here_or_in_the_storage(raw: dict[str, Any], tmp_path: Path) -> None:
    study = resolve_study(raw | {"storage": str(tmp_path / "shared"), "local": str(tmp_path / "local")})
    assert begun(study) == "small"
    assert begun(study) == "small-2"
    elsewhere = resolve_study(raw | {"storage": str(tmp_path / "shared"), "local": str(tmp_path / "other")})
    assert begun(elsewhere) == "small-3"


def test_a_study_with_one_root_needs_no_copy(raw: dict[str, Any], tmp_path: Path) -> None:
    assert records_copy(resolve_study(raw | {"storage": str(tmp_path)})) is None
    assert records_copy(resolve_study(raw | {"storage": tmp_path.as_uri()})) is None
    assert records_copy(resolve_study(raw | {"storage": str(tmp_path), "local": str(tmp_path / "local")})) is not None


def test_a_root_that_was_moved_is_found_where_it_is(raw: dict[str, Any], tmp_path: Path) -> None:
    begun(resolve_study(raw | {"storage": str(tmp_path / "old")}))
    (tmp_path / "old").rename(tmp_path / "new")
    study = open_launch(str(tmp_path / "new"), "small", [])
    assert (study.storage, study.local) == (str(tmp_path / "new"), tmp_path / "new")


def test_a_storage_apart_from_the_records_stays_where_it_is(raw: dict[str, Any], tmp_path: Path) -> None:
    begun(resolve_study(raw | {"storage": str(tmp_path / "shared"), "local": str(tmp_path / "local")}))
    study = open_launch(str(tmp_path / "local"), "small", ["search.num_trials=99"])
    assert (study.storage, study.local) == (str(tmp_path / "shared"), tmp_path / "local")
    assert study.search.num_trials == 99


def test_records_are_fetched_from_the_storage_where_the_local_ones_are_behind(raw: dict[str, Any], tmp_path: Path) -> None:
    shared, local = tmp_path / "shared", tmp_path / "local"
    written = resolve_study(raw | {"storage": str(shared), "local": str(local), "tracking": {"uri": SECRET}})
    begun(written)
    for event in (START, made(AttemptStart)):
        Journal(shared / "small").append(event)
    study = open_launch(shared.as_uri(), "small", [])
    assert (study.storage, study.local) == (str(shared), local)
    assert list(Journal(local / "small").events()) == [START, made(AttemptStart)]
    assert study.tracking.uri == SECRET, "the local study file, with its password, is kept"

    Journal(local / "small").append(made(LaunchEnd))
    open_launch(shared.as_uri(), "small", [])
    assert len(list(Journal(local / "small").events())) == 3, "records that are ahead are kept"


def test_the_storages_copy_of_a_study_holds_no_password_and_the_local_one_is_private(raw: dict[str, Any], tmp_path: Path) -> None:
    study = resolve_study(raw | {"storage": str(tmp_path / "shared"), "local": "runs", "tracking": {"uri": SECRET}})
    begun(resolve_study(dict(study.source) | {"local": str(tmp_path / "local")}))
    assert "hidden" not in (tmp_path / "shared" / "small" / "study.yaml").read_text()
    private = tmp_path / "local" / "small" / "study.yaml"
    assert yaml.safe_load(private.read_text())["tracking"]["uri"] == SECRET
    assert private.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["../elsewhere", "", ".hidden", "a/b", "a\nb"])
def test_names_cannot_leave_the_folder(name: str, tmp_path: Path) -> None:
    for storage in (str(tmp_path), tmp_path.as_uri()):
        with pytest.raises(ConfigError, match="is not a launch's name"):
            open_launch(storage, name, [])


def test_an_unknown_launch_is_named_with_those_that_exist(raw: dict[str, Any], tmp_path: Path) -> None:
    begun(resolve_study(raw | {"storage": str(tmp_path)}))
    for storage in (str(tmp_path), tmp_path.as_uri()):
        with pytest.raises(ConfigError, match=r"launch 'absent': not found in .*, launches there: small"):
            open_launch(storage, "absent", [])
