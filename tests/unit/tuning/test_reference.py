"""A study file, a packaged study's name, a launch's name and its folder: each stands for whatever a verb wants."""

from pathlib import Path

import pytest
import yaml

from cpsc.errors import ConfigError
from tests.support.events import made
from tests.support.studies import tiny_study, write_study
from tuning.launch import Journal
from tuning.launch.events import AttemptStart, LaunchStart
from tuning.launch.folder import STUDY_FILE
from tuning.launch.reference import RUNS, find_launch, find_trial_of_launch, launch_of, load_study, study_file
from tuning.study.packaged_studies import FOLDER


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def begin(folder: Path, *, time: float = 1.0, study: str = "tiny") -> Path:
    """A launch that was begun in `folder`."""
    folder.mkdir(parents=True)
    content = yaml.safe_dump(tiny_study() | {"name": study})
    (folder / STUDY_FILE).write_text(content)
    journal = Journal(folder)
    journal.append(made(LaunchStart, time=time, study=f"name: {study}\n"))
    journal.append(made(AttemptStart, time=time))
    return folder


def test_a_study_stays_what_it_is(here: Path) -> None:
    write_study(here / "mine.yaml", tiny_study())
    assert study_file(Path("mine.yaml")) == Path("mine.yaml")
    assert study_file(Path("absent.yaml")) == Path("absent.yaml")
    assert study_file(Path("digits")) == FOLDER / "digits.yaml"
    assert launch_of(Path("mine.yaml")) is None


@pytest.mark.parametrize("named", ["tiny", "runs/tiny", "./runs/tiny", "runs/tiny/", "runs/tiny/study.yaml"])
def test_a_launch_stands_for_the_study_it_has_kept(here: Path, named: str) -> None:
    begin(here / RUNS / "tiny")
    file = study_file(Path(named))
    assert file.samefile(here / RUNS / "tiny" / STUDY_FILE)
    assert launch_of(file) == "tiny"
    study = load_study(file, ["search.num_trials=2"])
    assert (study.search.num_trials, study.local) == (2, here / RUNS)


def test_within_its_folder_a_launch_is_a_dot(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begin(here / RUNS / "tiny"))
    assert launch_of(study_file(Path())) == "tiny"


def test_a_launch_that_was_moved_is_where_it_lies_now(here: Path) -> None:
    begin(here / "elsewhere" / "tiny")
    study = load_study(study_file(Path("elsewhere/tiny")))
    assert (study.local, study.storage) == (here / "elsewhere", str(here / "elsewhere"))


def test_a_name_of_two_things_is_refused_with_what_tells_them_apart(here: Path) -> None:
    begin(here / RUNS / "digits")
    with pytest.raises(ConfigError, match=r"^digits: is both a packaged study and a launch; write runs/digits to mean the launch"):
        study_file(Path("digits"))
    assert launch_of(study_file(Path("runs/digits"))) == "digits"
    assert find_launch("digits") == (RUNS, "digits"), "a verb of launches wants no study"


def test_an_unknown_name_is_told_with_what_was_looked_in(here: Path) -> None:
    begin(here / RUNS / "tiny-2")
    with pytest.raises(ConfigError) as caught:
        study_file(Path("tinny-2"))
    where = f"neither a file, nor a packaged study, nor a launch in {here / RUNS}, did you mean tiny-2? "
    assert str(caught.value) == f"tinny-2: {where}list them with: cpsc-tune studies, cpsc-tune list"


@pytest.mark.parametrize(
    ("named", "says"), [("./runs", "name one of the launches in it: tiny"), ("./empty", "it lacks study.yaml")]
)
def test_a_folder_that_is_no_launch_is_refused(here: Path, named: str, says: str) -> None:
    begin(here / RUNS / "tiny")
    (here / "empty").mkdir()
    with pytest.raises(ConfigError, match=rf"is a folder, but not that of a launch.*{says}"):
        study_file(Path(named).absolute())


@pytest.mark.parametrize(
    ("named", "storage", "found"),
    [
        ("tiny", "runs", ("runs", "tiny")),
        ("nothing", "runs", ("runs", "nothing")),  # whoever opens it says what there is
        ("tiny", "s3://bucket/folder", ("s3://bucket/folder", "tiny")),
        ("s3://bucket/folder/tiny", "runs", ("s3://bucket/folder", "tiny")),
        ("s3://bucket/folder/tiny?region=x", "runs", ("s3://bucket/folder?region=x", "tiny")),
    ],
)
def test_a_launch_by_its_name_or_uri(here: Path, named: str, storage: str, found: tuple[str, str]) -> None:
    begin(here / RUNS / "tiny")
    assert find_launch(named, storage) == found


def test_a_launch_by_its_folder_and_by_its_study(here: Path) -> None:
    write_study(here / "mine.yaml", tiny_study())
    begin(here / RUNS / "tiny", time=1.0)
    begin(here / RUNS / "tiny-2", time=3.0)
    begin(here / RUNS / "tiny-3", time=2.0, study="tiny-3")
    begin(here / "far" / "tiny-7")
    runs = str(here / RUNS)
    assert find_launch("runs/tiny") == find_launch("runs/tiny/study.yaml") == (runs, "tiny")
    assert find_launch(str(Path("runs/tiny").absolute())) == (runs, "tiny")
    assert find_launch("mine.yaml") == (runs, "tiny-2"), "the latest of that study"
    assert find_launch("mine.yaml", "far") == (str(here / "far"), "tiny-7")
    assert find_trial_of_launch("mine.yaml:3") == (runs, "tiny-2:3")
    assert find_trial_of_launch("tiny:3", "far") == ("far", "tiny:3")
    assert find_trial_of_launch("0" * 32) == (RUNS, "0" * 32)


def test_a_study_without_a_launch_is_told_how_to_begin_one(here: Path) -> None:
    write_study(here / "mine.yaml", tiny_study())
    with pytest.raises(ConfigError, match=r"^mine\.yaml: study tiny has no launch in .*runs; start one with: cpsc-tune sweep mine"):
        find_launch("mine.yaml")
