"""What a list of launches says of each, whatever became of it."""

from pathlib import Path

import pytest

from tests.support.events import made
from tests.support.studies import tiny_study, write_study
from tuning.launch import DriverLock, Journal
from tuning.launch.events import AttemptStart, Epoch, LaunchEnd, LaunchStart, Proposed, TrialEnd, TrialStart
from tuning.launch.folder import STUDY_FILE
from tuning.outcome import Outcome
from tuning.results.launch_list import find_overviews, overview_figures, overview_table, overviews

PARAMS = {"objective": "probe_agreement", "epochs": "2", "num_trials": "4"}


def begin(runs: Path, name: str, *, study: str = "tiny", time: float = 1.0) -> Journal:
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / STUDY_FILE).write_text(f"name: {study}\n")
    journal = Journal(folder)
    journal.append(made(LaunchStart, time=time, params=PARAMS, study=f"name: {study}\n"))
    journal.append(made(AttemptStart, time=time))
    return journal


def run_trial(journal: Journal, number: int, outcome: Outcome | None, score: float = 0.5) -> None:
    journal.append(made(Proposed, number=number))
    journal.append(made(TrialStart, number=number))
    metrics = {"probe_agreement": score, "probe_kl": 1.0, "best_epoch": 1.0}
    journal.append(made(Epoch, number=number, epoch=1, metrics=metrics, time=5.0))
    if outcome is not None:
        journal.append(made(TrialEnd, number=number, outcome=outcome, epoch=1, time=6.0))


@pytest.mark.parametrize(
    ("status", "metrics", "state"),
    [
        ("FINISHED", {"elapsed_s": 1.0}, "finished"),
        ("KILLED", {"elapsed_s": 1.0}, "interrupted"),
        ("KILLED", {}, "dead"),  # noted by a later sweep
        ("FAILED", {"elapsed_s": 1.0}, "failed"),
        (None, {}, "dead"),
    ],
)
def test_the_state_is_what_the_last_driver_has_said(
    tmp_path: Path, status: str | None, metrics: dict[str, float], state: str
) -> None:
    journal = begin(tmp_path, "tiny")
    run_trial(journal, 0, Outcome.COMPLETED, 0.25)
    run_trial(journal, 1, Outcome.PRUNED, 0.75)
    run_trial(journal, 2, Outcome.INTERRUPTED)
    if status is not None:
        journal.append(made(LaunchEnd, status=status, metrics=metrics, time=9.0))
    (found,) = overviews(str(tmp_path))
    assert (found.launch, found.study, found.state) == ("tiny", "tiny", state)
    assert (found.num_done, found.num_running, found.num_trials) == (2, 0, 4)
    assert (found.best, found.objective) == (0.75, "probe_agreement")
    assert found.last_sign == (9.0 if status else 6.0)
    assert ("cpsc-tune resume LAUNCH" in overview_table([found])) is (state != "finished")


def test_a_launch_runs_while_its_driver_lives_and_is_resumed_as_another_attempt(tmp_path: Path) -> None:
    journal = begin(tmp_path, "tiny")
    journal.append(made(LaunchEnd, status="KILLED", metrics={"elapsed_s": 1.0}))
    journal.append(made(AttemptStart, attempt=1))
    run_trial(journal, 0, None)
    with DriverLock(tmp_path / "tiny"):
        (found,) = overviews(str(tmp_path))
    assert (found.state, found.num_done, found.num_running) == ("running", 0, 1)
    (found,) = overviews(str(tmp_path))
    assert (found.state, found.num_running) == ("dead", 0), "what an earlier attempt has said does not count"


def test_a_table_has_a_row_a_launch_the_latest_first(tmp_path: Path) -> None:
    for name, time in (("old", 1.0), ("new", 2.0)):
        begin(tmp_path, name, time=time).append(made(LaunchEnd, time=time))
    headings, new, old = overview_table(overviews(str(tmp_path))).splitlines()
    assert headings.split()[:4] == ["launch", "study", "state", "trials"]
    assert new.split()[:7] == ["new", "tiny", "finished", "0", "of", "4", "-"]
    assert old.startswith("old ")
    assert overview_table([]) == "no launches; start one with: cpsc-tune sweep STUDY"


def test_a_damaged_launch_hides_no_other(tmp_path: Path) -> None:
    begin(tmp_path, "sound")
    begin(tmp_path, "damaged").path.write_text("not json\n")
    begin(tmp_path, "headless").path.write_text('{"kind": "attempt_start", "time": 1.0, "attempt": 0}\n')
    states = {found.launch: (found.state, found.remark) for found in overviews(str(tmp_path))}
    assert states["sound"][0] == "dead"
    assert states["damaged"][0] == "unreadable"
    assert "journal.jsonl line 1: not a record" in states["damaged"][1]
    assert states["headless"] == ("unreadable", "journal.jsonl lacks records that a launch has")
    assert "unreadable: " in overview_table(overviews(str(tmp_path)))


def test_launches_of_a_study_or_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_study(tmp_path / "mine.yaml", tiny_study())
    for name, study in (("tiny", "tiny"), ("tiny-2", "tiny"), ("other", "other")):
        begin(tmp_path / "runs", name, study=study)
        write_study(tmp_path / "runs" / name / STUDY_FILE, tiny_study() | {"name": study})
    assert [found.launch for found in find_overviews("runs", file)] == ["tiny", "tiny-2"]
    assert [found.launch for found in find_overviews("runs", Path("tiny-2"))] == ["tiny-2"]
    assert len(find_overviews("runs")) == 3


def test_a_storage_by_uri_is_listed_from_its_copies(tmp_path: Path) -> None:
    begin(tmp_path, "ended").append(made(LaunchEnd))
    begin(tmp_path, "open")
    states = {found.launch: found.state for found in overviews(tmp_path.as_uri())}
    assert states == {"ended": "finished", "open": "running"}, "whether its driver lives is known on its machine alone"


def test_figures_are_plain(tmp_path: Path) -> None:
    begin(tmp_path, "tiny")
    (found,) = overviews(str(tmp_path))
    assert overview_figures(found)["state"] == "dead"
