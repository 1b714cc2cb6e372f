"""A study by its name: which file is meant, what is said where none is, and that every verb of a study takes one."""

import sys
from pathlib import Path

import pytest

from cpsc.errors import ConfigError
from tuning import cli, command_line, load_study
from tuning.display import Display
from tuning.report.loading import read_named
from tuning.study import user_code
from tuning.study.packaged_studies import FOLDER, find_study, list_studies, packaged_files, studies_table

VERBS = ("teacher", "probe", "trial", "sweep", "report", "export", "ui")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; what a verb makes importable is importable in its test only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(user_code, "_FOLDERS", [])
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """The line that the command line ends with, on a mistake."""
    monkeypatch.setattr(sys, "argv", ["cpsc-tune", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == command_line.USAGE_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_names_are_those_of_the_files_without_the_scales() -> None:
    assert packaged_files().keys() >= {"digits", "methods", "ablations/losses"}
    assert {path.parent.name for path in packaged_files().values()} == {"search_spaces", "ablations", "own_teacher"}


@pytest.mark.parametrize("name", ["digits", "ablations/losses"])
def test_a_name_means_the_packaged_study(name: str) -> None:
    assert find_study(Path(name)) == FOLDER / f"{name}.yaml"


def test_a_file_of_that_name_comes_before_the_packaged_study_and_a_folder_does_not(elsewhere: Path) -> None:
    (elsewhere / "digits").mkdir()
    assert find_study(Path("digits")) == FOLDER / "digits.yaml"
    (elsewhere / "cmi").write_text("name: mine")
    assert find_study(Path("cmi")) == Path("cmi")


@pytest.mark.parametrize("path", ["digits.yaml", "search_spaces/digits.yaml", "../digits", "/nowhere/digits", "n" * 300])
def test_a_path_stays_a_path_whether_there_is_a_file_or_not(path: str) -> None:
    assert find_study(Path(path)) == Path(path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("digts", "did you mean digits? "),
        ("ablations/loses", "did you mean ablations/losses? "),
        ("embedding", "did you mean ablations/embedding? "),
        ("scales/digits", "did you mean digits? "),
        ("xyzzy", ""),
    ],
)
def test_an_unknown_name_is_told_with_the_one_that_was_meant(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_study(Path(name))
    assert str(caught.value) == f"{name}: neither a file nor a packaged study, {hint}list them with: cpsc-tune studies"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_of_a_study_takes_names(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    output = ["--output", "student"] if verb == "export" else []
    assert "did you mean digits?" in refusal(capsys, monkeypatch, verb, "digts", *output)
    line = refusal(capsys, monkeypatch, verb, "digits", "--set", "no_such_parameter=1", *output)
    assert line.startswith(f"error: {FOLDER / 'digits.yaml'}: --set.no_such_parameter")
    assert not any(elsewhere.iterdir())


def test_a_comparison_takes_names(elsewhere: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"digts: neither a file, nor a packaged study, nor a launch in .*runs, did you mean digits"
    ):
        read_named(["digts", "digits"], [], Display(quiet=True))
    with pytest.raises(ConfigError, match="holds no MLflow store yet"):
        read_named(["digits@one", "digits@another"], [], Display(quiet=True))


def test_python_takes_names_and_keeps_records_in_the_working_directory(elsewhere: Path) -> None:
    study = load_study("digits")
    assert study.name == "digits-cpsc"
    assert study.local == elsewhere / "runs"


def test_the_list_says_method_and_purpose_of_each() -> None:
    studies = {study.name: study for study in list_studies()}
    assert studies.keys() == packaged_files().keys()
    assert studies["dafl"].method == "dafl"
    assert studies["methods"].method == "10 methods"
    assert all(study.about.endswith(".") and not study.about.startswith("#") for study in studies.values())


def test_the_list_is_a_line_a_study(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["cpsc-tune", "studies"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(packaged_files())
    assert studies_table([]) == ""
