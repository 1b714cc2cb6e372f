"""TensorBoard's event files against the journal that they are made from: curves, hyperparameters, attempts, a disk that fails."""

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import made
from tuning.launch import Journal, follower
from tuning.launch.events import AttemptStart, Epoch, Event, LaunchStart, Proposed, TrialEnd, TrialStart
from tuning.outcome import Outcome
from tuning.report.tensorboard_files import write_event_files
from tuning.results import launch_from_journal
from tuning.results.trial_record import CURVES
from tuning.study import Study
from tuning.study.config import resolve_study
from tuning.tracking.event_files import EventFileWriter, writing_event_files

tensorboard = pytest.importorskip("tensorboard", reason="the extra dev has the reader: pip install 'cpsc-tune[dev]'")
POINT = {"weights.contrast": 0.5, "student.lr": 0.1, "schedule.student_steps": 2, "cpsc.contrast": "two_view"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "pause_after", lambda work_s: 0.02)


@pytest.fixture
def study(raw: dict[str, Any], tmp_path: Path) -> Study:
    raw["space"]["compile"] = {"choice": [True, False]}
    raw["space"]["student.warmup_epochs"] = {"choice": [1, 2]}
    return resolve_study(raw | {"storage": str(tmp_path), "tracking": {"tensorboard": True}})


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def epoch(number: int, passed: int, value: float) -> Epoch:
    metrics = {"best_probe_agreement": value, "probe_agreement": value, "probe_kl": 1 / passed, "student/kl": 1 / passed}
    return made(Epoch, time=100.0 * number + passed, number=number, epoch=passed, metrics=metrics)


def trial(number: int, outcome: Outcome | None, *values: float, **about: Any) -> list[Event]:
    point = POINT | {"compile": number % 2 == 0, "student.warmup_epochs": 1} | about.pop("point", {})
    events: list[Event] = [
        made(Proposed, number=number, point=point, **about),
        made(TrialStart, time=100.0 * number, number=number, point=point, **about),
        *(epoch(number, passed, value) for passed, value in enumerate(values, start=1)),
    ]
    end = made(TrialEnd, time=100.0 * number + 50, number=number, outcome=outcome or Outcome.FAILED, epoch=len(values))
    return events if outcome is None else [*events, end]


BEGUN: list[Event] = [made(LaunchStart, time=1.0), made(AttemptStart, time=1.0)]
STORY: list[Event] = [*BEGUN, *trial(0, Outcome.COMPLETED, 0.25, 0.5), *trial(1, Outcome.DIVERGED, 0.125), *trial(2, None, 0.75)]


def write_once(journal: Journal, study: Study, *events: Event) -> None:
    """An attempt that appends `events` and ends."""
    with writing_event_files(journal, study) as writers:
        assert len(writers) == 1
        for event in events:
            journal.append(event)


def curves(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """By metric, step, value and moment of every point that TensorBoard reads in `folder`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    return {tag: [(point.step, point.value, point.wall_time) for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def hparams(folder: Path, tag: str) -> Any:
    """What the HPARAMS tab reads under `tag` in `folder`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    read = EventAccumulator(str(folder))
    read.Reload()
    content = read.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content
    return getattr(metadata, f"parse_{tag}_plugin_data")(content)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("events.out.tfevents.*"))


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_every_epoch_is_a_point_at_its_own_moment(journal: Journal, study: Study, tmp_path: Path) -> None:
    write_once(journal, study, *STORY)
    folder = tmp_path / "tensorboard"
    told = curves(folder / "trial-000")
    assert told.keys() == {"best_probe_agreement", "probe_agreement", "probe_kl", "student/kl"}
    assert told["best_probe_agreement"] == [(1, 0.25, 1.0), (2, 0.5, 2.0)]
    assert told["student/kl"] == [(1, 1.0, 1.0), (2, 0.5, 2.0)]
    assert curves(folder / "trial-002")["best_probe_agreement"] == [(1, 0.75, 201.0)]


def test_a_trial_is_seen_while_it_runs(journal: Journal, study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard" / "trial-000"
    with writing_event_files(journal, study):
        for event in (*BEGUN, *trial(0, None, 0.25)):
            journal.append(event)
        assert eventually(lambda: folder.exists() and len(curves(folder).get("student/kl", [])) == 1)
        journal.append(epoch(0, 2, 0.5))
        assert eventually(lambda: len(curves(folder)["student/kl"]) == 2)


def test_a_killed_launch_goes_on_without_a_point_twice(journal: Journal, study: Study, tmp_path: Path) -> None:
    write_once(journal, study, *BEGUN, *trial(0, None, 0.25))
    folder = tmp_path / "tensorboard" / "trial-000"
    (torn,) = files(folder)
    torn.write_bytes(torn.read_bytes()[:-7])  # its writer was killed within a record
    again = made(TrialStart, number=0, point=POINT)
    write_once(journal, study, made(AttemptStart, attempt=1), again, epoch(0, 2, 0.5))
    assert [point[:2] for point in curves(folder)["best_probe_agreement"]] == [(1, 0.25), (2, 0.5)]


def test_an_attempt_that_adds_nothing_to_a_trial_leaves_its_files_alone(journal: Journal, study: Study, tmp_path: Path) -> None:
    write_once(journal, study, *STORY)
    before = files(tmp_path / "tensorboard")
    write_once(journal, study, made(AttemptStart, attempt=1), made(TrialStart, number=2, point=POINT))
    assert files(tmp_path / "tensorboard") == before


def test_whoever_reads_meanwhile_goes_on_reading_after_a_resume(journal: Journal, study: Study, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_once(journal, study, *BEGUN, *trial(0, None, 0.25, 0.5))
    folder = tmp_path / "tensorboard" / "trial-000"
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    write_once(journal, study, made(AttemptStart, attempt=1), made(TrialStart, number=0, point=POINT), epoch(0, 3, 0.75))
    reader.Reload()
    assert [(point.step, point.value) for point in reader.Scalars("best_probe_agreement")] == [(1, 0.25), (2, 0.5), (3, 0.75)]


def test_the_study_is_told_with_domains_and_the_metrics_to_compare_by(journal: Journal, study: Study, tmp_path: Path) -> None:
    write_once(journal, study, *STORY)
    experiment = hparams(tmp_path / "tensorboard", "experiment")
    told = {info.name: info for info in experiment.hparam_infos}
    assert (told["student.lr"].domain_interval.min_value, told["student.lr"].domain_interval.max_value) == (0.02, 0.3)
    steps = told["schedule.student_steps"].domain_interval
    assert (steps.min_value, steps.max_value) == (1, 5), "randint leaves out its upper end"
    options = {name: list(info.domain_discrete.values) for name, info in told.items()}
    assert [option.string_value for option in options["cpsc.contrast"]] == ["teacher_anchor", "two_view"]
    assert [option.bool_value for option in options["compile"]] == [True, False]
    assert [option.number_value for option in options["student.warmup_epochs"]] == [1, 2]
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics == ["best_probe_agreement", "probe_kl", "test_accuracy"]


def test_a_trials_values_and_its_end_are_told(journal: Journal, study: Study, tmp_path: Path) -> None:
    write_once(journal, study, *STORY)
    folder = tmp_path / "tensorboard"
    session = hparams(folder / "trial-001", "session_start_info")
    assert session.hparams["student.lr"].number_value == 0.1
    assert session.hparams["cpsc.contrast"].string_value == "two_view"
    assert session.hparams["compile"].bool_value is False
    assert session.hparams["compile"].WhichOneof("kind") == "bool_value"
    status = {number: hparams(folder / f"trial-00{number}", "session_end_info").status for number in (0, 1)}
    assert status == {0: 1, 1: 2}, "success and failure"
    with pytest.raises(KeyError):
        hparams(folder / "trial-002", "session_end_info")  # it goes on


def test_a_finalists_runs_are_one_group_of_the_same_values(journal: Journal, study: Study, tmp_path: Path) -> None:
    finalists = [trial(number, Outcome.COMPLETED, 0.5, point={"seed": number, "compile": True}, finalist_of=0) for number in (1, 2)]
    write_once(journal, study, *BEGUN, *trial(0, Outcome.COMPLETED, 0.5), *(event for events in finalists for event in events))
    first, second = (hparams(tmp_path / "tensorboard" / f"trial-00{number}", "session_start_info") for number in (1, 2))
    assert first.group_name == second.group_name == "finalist-of-trial-000"
    assert first.hparams == second.hparams
    assert "seed" not in first.hparams


def test_a_folder_that_cannot_be_written_is_said_once_and_the_sweep_goes_on(
    journal: Journal, study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").touch()
    with writing_event_files(journal, study) as (writer,):
        for event in STORY:
            journal.append(event)
        assert eventually(lambda: not writer.is_alive())
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith(f"{tmp_path / 'tensorboard'} is no longer kept up to date, the sweep continues (")


def test_a_disk_that_fills_up_is_said_once_and_the_next_attempt_writes_all(
    journal: Journal, study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboardX import event_file_writer, record_writer

    full = record_writer.RecordWriter("/dev/full")
    with monkeypatch.context() as patched:
        patched.setattr(event_file_writer, "RecordWriter", lambda path: full)
        write_once(journal, study, *STORY)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "No space left on device" in warning
    full._writer.raw.close()  # what it still holds has no place to go to
    write_once(journal, study)
    assert len(curves(tmp_path / "tensorboard" / "trial-000")["student/kl"]) == 2


def test_nothing_is_written_unless_the_study_asks_for_it(journal: Journal, raw: dict[str, Any], tmp_path: Path) -> None:
    with writing_event_files(journal, resolve_study(raw | {"storage": str(tmp_path)})) as writers:
        assert writers == []
    assert not (tmp_path / "tensorboard").exists()


def test_a_recorded_launch_gives_the_files_that_the_sweep_would_have_written(
    journal: Journal, study: Study, tmp_path: Path
) -> None:
    write_once(journal, study, *STORY)
    launch = launch_from_journal(journal.events(), "small")
    for _ in range(2):
        assert write_event_files(launch, study, tmp_path / "report") == tmp_path / "report" / "tensorboard"
    for number in range(3):
        written, exported = (curves(tmp_path / folder / f"trial-00{number}") for folder in ("tensorboard", "report/tensorboard"))
        assert {name: [point[:2] for point in points] for name, points in exported.items()} == {
            name: [point[:2] for point in points] for name, points in written.items() if name in CURVES
        }
    session = hparams(tmp_path / "report" / "tensorboard" / "trial-001", "session_start_info")
    assert session.hparams["student.lr"].number_value == 0.1


def test_a_journal_that_is_read_again_gives_the_same_files(journal: Journal, study: Study, tmp_path: Path) -> None:
    write_once(journal, study, *STORY)
    folder = tmp_path / "tensorboard"
    first = {run.name: curves(run) for run in folder.iterdir() if run.is_dir()}
    shutil.rmtree(folder)
    writer = EventFileWriter(journal, study)
    writer.start()
    writer.close()
    assert {run.name: curves(run) for run in folder.iterdir() if run.is_dir()} == first
