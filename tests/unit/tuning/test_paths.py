"""Files that a study names beside its teacher: absolute once it is read, and looked at before its trials begin."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cpsc.errors import ConfigError
from tests.support.studies import tiny_study, write_study
from tests.unit.tuning.test_class_count import teacher_of
from tuning.display import Display
from tuning.study import Study, build_config, load_study
from tuning.study.config import resolve_study
from tuning.study.paths import from_folder
from tuning.trial import prepare

OWN = {"noisy_layer": {"class_inputs": "file", "file": "rows.pt"}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study_of(config: dict[str, Any], **file: Any) -> Study:
    teacher_of(3).save(Path("teacher.pt"))
    parts = {"teacher": {"path": "teacher.pt"}, "probe": {"num_images": 6, "batch_size": 6, "steps": 1}}
    return resolve_study({"name": "own", "config": {**parts, "precision": "fp32", **config}, "storage": "kept", **file})


def named_in(study: Study, **point: Any) -> str | None:
    config = build_config(study.base, point)
    file: str | None = vars(config)["noisy_layer"].file
    return file


def test_a_relative_path_is_one_from_the_working_directory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = [study_of({"method": "nayer", **OWN}), study_of({"by_method": {"nayer": OWN}, "method": "nayer"})]
    monkeypatch.chdir("/")
    assert [named_in(study) for study in studies] == [str(here / "rows.pt")] * 2
    assert studies[0].source["config"]["noisy_layer"] == OWN["noisy_layer"], "recorded as it was written"


@pytest.mark.parametrize(
    ("config", "space", "told"),
    [
        (
            {"method": "nayer", **OWN},
            {"noisy_layer.file": {"choice": ["a.pt", "b.pt"]}},
            "space.noisy_layer.file: a file cannot be searched",
        ),
        (
            {"method": "nayer", "noisy_layer": {"file": "s3://bucket/a.pt"}},
            {},
            "config.noisy_layer.file: 's3://bucket/a.pt' is not a path",
        ),
        ({"method": "nayer", "noisy_layer": {"class_inputs": "file"}}, {}, "config.noisy_layer.file must be the path of a file"),
    ],
)
def test_what_is_no_path_of_the_studys_is_refused(config: dict[str, Any], space: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{told}"):
        study_of(config, space=space)


@pytest.mark.parametrize("place", ["studies", "."])
def test_a_path_in_a_file_means_its_folder_wherever_the_study_is_run_from(
    place: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here / "studies"
    folder.mkdir()
    content = tiny_study()
    del content["config"]["dataset"]
    content["config"]["teacher"] = {"path": "weights/teacher.pt"}
    file = write_study(folder / "mine.yaml", content)
    monkeypatch.chdir(here / place)
    teacher = load_study(file).teacher
    assert Path(str(teacher.path)).absolute() == folder / "weights" / "teacher.pt"
    assert load_study(file, ["teacher.path=weights/teacher.pt"]).teacher.path == "weights/teacher.pt", "typed where the user is"


def test_a_file_that_the_working_directory_alone_has_is_taken_from_there(here: Path) -> None:
    (here / "studies").mkdir()
    (here / "teacher.pt").touch()
    content = tiny_study()
    del content["config"]["dataset"]
    content["config"]["teacher"] = {"path": "teacher.pt"}
    file = write_study(here / "studies" / "mine.yaml", content)
    assert load_study(file).teacher.path == "teacher.pt"
    (here / "studies" / "teacher.pt").touch()
    assert load_study(file).teacher.path == "studies/teacher.pt"


def test_what_is_no_relative_path_stays_and_records_stay_where_the_user_is(here: Path) -> None:
    config = {"teacher": {"path": "s3://bucket/a.pt"}, "dataset": {"name": "cifar10", "path": "/data"}, "by_method": {"nayer": OWN}}
    content = {"config": config, "storage": "runs", "measure": {"inception_weights": "~/inception.pt"}}
    moved = from_folder(content, here / "studies")
    assert moved["config"]["by_method"]["nayer"]["noisy_layer"]["file"] == "studies/rows.pt"
    assert content["config"]["by_method"]["nayer"] == OWN, "the content itself is not touched"
    del moved["config"]["by_method"], config["by_method"]
    assert moved == content


@pytest.mark.slow
@pytest.mark.parametrize("start", [[], [{"noisy_layer.class_inputs": "one_hot"}, {"noisy_layer.class_inputs": "file"}]])
def test_the_file_is_looked_at_before_anything_is_made(start: list[dict[str, Any]], here: Path) -> None:
    own = OWN["noisy_layer"] if not start else {"file": "rows.pt"}
    space = {"space": {"noisy_layer.class_inputs": {"choice": ["one_hot", "file"]}}, "start": start} if start else {}
    study = study_of({"method": "nayer", "noisy_layer": own}, **space)
    with pytest.raises(ConfigError, match=r"^config\.noisy_layer\.file: /.*rows\.pt: no such file$"):
        prepare(study, Display(quiet=True))
    torch.save(torch.eye(4), here / "rows.pt")
    with pytest.raises(ConfigError, match=r"^config\.noisy_layer\.file: .*: must be \[3, d\], a row for each class of the teacher"):
        prepare(study, Display(quiet=True))
    assert not list(here.rglob("probes/*"))
    prepare(study, Display(quiet=True), force=True)
    torch.save(torch.eye(3), here / "rows.pt")
    prepare(study, Display(quiet=True))
