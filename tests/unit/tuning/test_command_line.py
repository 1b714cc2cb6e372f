"""What the command line says of itself, and to a shell and to scripts: help, version, completion, lists, plans."""

import json
import re
from pathlib import Path

import pytest
import typer
import yaml

from tests.support.command_line import call_cli
from tests.support.events import made
from tests.support.studies import ROOT, tiny_study, write_study
from tuning import cli
from tuning.launch import Journal
from tuning.launch.events import AttemptStart, LaunchEnd, LaunchStart
from tuning.launch.folder import STUDY_FILE


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a launch that was interrupted."""
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / STUDY_FILE).write_text(yaml.safe_dump(tiny_study()))
    journal = Journal(folder)
    for event in (made(LaunchStart, study="name: tiny\n"), made(AttemptStart), made(LaunchEnd, status="KILLED")):
        journal.append(event)
    return folder.parent


def test_without_a_verb_it_shows_the_verbs(tmp_path: Path) -> None:
    done = call_cli(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == call_cli("--help", cwd=tmp_path).stdout
    assert "sweep" in done.stdout


def test_every_verb_has_a_row_on_its_page() -> None:
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    rows = {verb for line in page.splitlines() if line.startswith("| `") for verb in re.findall(r"`([\w-]+)`", line.split("|")[1])}
    assert rows >= set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


def test_it_says_its_version(tmp_path: Path) -> None:
    done = call_cli("--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    program, version = done.stdout.split()
    assert program == "cpsc-tune"
    assert version[0].isdigit()


def completed(cwd: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """What bash is told where the last of `words` is being typed."""
    monkeypatch.setenv("_CPSC_TUNE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["cpsc-tune", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    return call_cli(cwd=cwd).stdout.split()


def test_a_shell_completes_verbs_studies_and_launches(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = runs.parent
    assert completed(here, monkeypatch, "re") == ["resume", "report", "replay"]
    assert completed(here, monkeypatch, "sweep", "digits") == ["digits", "digits_vit"]
    assert completed(here, monkeypatch, "report", "ti") == ["tiny"]
    assert completed(here, monkeypatch, "resume", "") == ["tiny"]
    assert completed(here, monkeypatch, "sweep", "--dry") == ["--dry-run"]


def test_launches_are_listed_for_a_person_and_for_a_script(runs: Path) -> None:
    said = call_cli("list", cwd=runs.parent)
    assert said.returncode == 0, said.stderr
    assert "interrupted" in said.stdout.splitlines()[1]
    (found,) = json.loads(call_cli("list", "tiny", "--json", cwd=runs.parent).stdout)
    assert (found["launch"], found["study"], found["state"]) == ("tiny", "tiny", "interrupted")
    assert call_cli("list", cwd=runs).stdout == "no launches; start one with: cpsc-tune sweep STUDY\n"


def test_a_plan_is_printed_for_a_script(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study.yaml", tiny_study())
    done = call_cli("sweep", path, "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["estimate"]["minutes"] > 0
    assert plan["cost"]["num_trials"] == 4


def test_a_plan_is_made_of_a_launchs_own_study(runs: Path) -> None:
    done = call_cli("sweep", "tiny", "--dry-run", "--set", "search.num_trials=7", cwd=runs.parent)
    assert done.returncode == 0, done.stderr
    assert "# 7 trials of up to 3 epochs" in done.stdout
    assert "# about " in done.stdout
