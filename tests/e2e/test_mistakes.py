"""Every mistake of a user is one line naming what, where and the rule, with exit status 2, before Ray starts."""

from pathlib import Path

import pytest

from tests.support.command_line import call_cli, run_cli
from tests.support.malformed import IN_PROCESSES, Case, call_in_process, cases, run_case, sound_teacher, study_of_a_bundle
from tests.support.studies import tiny_study, write_study

CASES = {case.name: case for case in cases()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_mistake_is_one_line_and_status_2(case: Case, tmp_path: Path) -> None:
    assert run_case(case, tmp_path / "case") == []


@pytest.mark.parametrize("name", IN_PROCESSES)
def test_the_process_itself_exits_with_2_and_no_traceback(name: str, tmp_path: Path) -> None:
    assert run_case(CASES[name], tmp_path / "case", call_in_process) == []


def test_a_weak_teacher_is_used_when_forced(tmp_path: Path) -> None:
    sound_teacher().save(tmp_path / "teacher.pt")
    study = study_of_a_bundle()
    study["config"]["teacher"]["min_accuracy"] = 0.999
    done = call_cli("teacher", write_study(tmp_path / "study.yaml", study), "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_an_absent_study_leaves_nothing_behind(tmp_path: Path) -> None:
    done = call_cli("sweep", tmp_path / "absent.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [f"error: {tmp_path / 'absent.yaml'}: cannot be read (No such file or directory)"]
    assert not any(tmp_path.iterdir())


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run_cli("--debug", "sweep", tmp_path / "absent.yaml", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_help_is_no_mistake(tmp_path: Path) -> None:
    done = run_cli("sweep", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--dry-run" in done.stdout


def test_a_dry_run_starts_and_writes_nothing(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study.yaml", tiny_study())
    done = call_cli("sweep", path, "--dry-run", "--set", "weights.label=0.25", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "label: 0.25" in done.stdout
    assert "4 trials of up to 3 epochs" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["study.yaml"]
