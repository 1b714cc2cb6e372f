"""The Optuna study on disk: in step with the journal, continued or written anew, and never in the sweep's way."""

import contextlib
import json
import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from tests.support.events import made
from tuning.launch import Journal, LaunchHistory, follower
from tuning.launch.events import (
    AttemptStart,
    CheckpointSaved,
    Epoch,
    Event,
    LaunchEnd,
    LaunchStart,
    Proposed,
    TrialEnd,
    TrialStart,
    to_record,
)
from tuning.outcome import Outcome
from tuning.search import StudyMirror, mirroring
from tuning.search import optuna_mirror as study_mirror
from tuning.search.optuna_search import build_search
from tuning.search.optuna_space import to_optuna
from tuning.study.config import resolve_study

pytestmark = pytest.mark.slow  # Optuna's studies on SQLite, read by Optuna's own plots
METRIC = "best_probe_agreement"
NAME = "small"
SPACE: dict[str, BaseDistribution] = {
    "weights.contrast": FloatDistribution(0.05, 5, log=True),
    "student.lr": FloatDistribution(0.02, 0.3),
    "schedule.student_steps": IntDistribution(1, 5),
    "cpsc.contrast": CategoricalDistribution(["teacher_anchor", "two_view"]),
}
NOON = 1_700_000_000.0


def point(number: int) -> dict[str, Any]:
    return {
        "weights.contrast": 0.1 + 0.3 * number,
        "student.lr": 0.02 + 0.01 * number,
        "schedule.student_steps": 1 + number % 5,
        "cpsc.contrast": ("teacher_anchor", "two_view")[number % 2],
    }


def proposed(number: int, at: float = NOON) -> Event:
    return made(Proposed, time=at, number=number, point=point(number))


def start(number: int) -> Event:
    return made(TrialStart, time=NOON + 1, number=number, point=point(number))


def epoch(number: int, epoch: int, value: float) -> Event:
    return made(Epoch, time=NOON + 2, number=number, epoch=epoch, metrics={METRIC: value, "probe_kl": 9.0})


def end(number: int, outcome: Outcome, at: float = NOON + 60) -> Event:
    return made(TrialEnd, time=at, number=number, outcome=outcome)


LAUNCH_START = made(LaunchStart, time=NOON)
STORY: list[Event] = [
    LAUNCH_START,
    made(AttemptStart, time=NOON),
    proposed(0),
    proposed(1),
    proposed(2),
    start(1),
    start(0),
    epoch(1, 1, 0.2),
    epoch(0, 1, 0.3),
    made(CheckpointSaved, time=NOON),
    end(1, Outcome.PRUNED),
    start(2),
    epoch(2, 1, 0.0),
    end(2, Outcome.DIVERGED),
    epoch(0, 2, 0.5),
    proposed(3),
    start(3),
    end(3, Outcome.FAILED),
    end(0, Outcome.INTERRUPTED),
    made(LaunchEnd, time=NOON, status="KILLED", metrics={}),
    made(AttemptStart, time=NOON, attempt=1),
    start(0),
    proposed(4),
    epoch(0, 3, 0.7),
    end(0, Outcome.COMPLETED),
]
"""Two attempts of a launch: trials that overlap, each end that there is, and trial 4 under way."""

Seen = tuple[int, TrialState, float | None, dict[int, float], dict[str, Any], str]
TOLD: list[Seen] = [
    (0, TrialState.COMPLETE, 0.7, {1: 0.3, 2: 0.5, 3: 0.7}, point(0), "completed"),
    (1, TrialState.PRUNED, 0.2, {1: 0.2}, point(1), "pruned"),
    (2, TrialState.COMPLETE, 0.0, {1: 0.0}, point(2), "diverged"),
    (3, TrialState.FAIL, None, {}, point(3), "failed"),
    (4, TrialState.RUNNING, None, {}, point(4), "running"),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "pause_after", lambda work_s: 0.02)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "optuna.db"


def new_mirror(journal: Journal) -> StudyMirror:
    return StudyMirror(journal, study_name=NAME, space=SPACE, metric=METRIC)


def mirror_once(journal: Journal, *events: Event) -> None:
    """An attempt that appends `events` and ends."""
    with mirroring(new_mirror(journal)):
        for event in events:
            journal.append(event)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the journal and the file of the whole story."""
    folder = tmp_path_factory.mktemp("told")
    mirror_once(Journal(folder), *STORY)
    return folder


@pytest.fixture
def told(template: Path, journal: Journal) -> Journal:
    """A journal of the whole story, its file beside it."""
    shutil.copytree(template, journal.path.parent, dirs_exist_ok=True)
    return journal


def load(path: Path) -> optuna.Study:
    storage = RDBStorage(f"sqlite:///{path}", skip_compatibility_check=True)  # the check takes most of the time
    return optuna.load_study(study_name=NAME, storage=storage)


def seen(path: Path) -> list[Seen]:
    """What a reader finds in the file."""
    return [
        (trial.number, trial.state, trial.value, trial.intermediate_values, trial.params, trial.user_attrs["outcome"])
        for trial in load(path).trials
    ]


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_file_tells_the_journals_story(journal: Journal, path: Path) -> None:
    mirror_once(journal, *STORY)
    assert seen(path) == TOLD


def test_a_running_trial_can_be_watched(journal: Journal, path: Path) -> None:
    with mirroring(new_mirror(journal)):
        journal.append(LAUNCH_START)
        journal.append(proposed(0))
        assert eventually(path.exists)
        assert eventually(lambda: seen(path) == [(0, TrialState.RUNNING, None, {}, point(0), "running")])
        journal.append(epoch(0, 1, 0.4))
        assert eventually(lambda: load(path).trials[0].intermediate_values == {1: 0.4})
        journal.append(end(0, Outcome.COMPLETED))
        assert eventually(lambda: load(path).trials[0].state is TrialState.COMPLETE)
        assert load(path).best_value == 0.4


def test_a_journal_that_is_read_event_by_event_gives_the_same_file(journal: Journal, path: Path) -> None:
    mirror = new_mirror(journal)
    with mirroring(mirror):
        for event in STORY:
            journal.append(event)
            assert eventually(lambda: mirror._position == journal.path.stat().st_size)
    assert seen(path) == TOLD


def test_an_event_that_is_still_being_written_waits(journal: Journal, path: Path) -> None:
    with mirroring(new_mirror(journal)):
        journal.append(proposed(0))
        with journal.path.open("a") as handle:
            line = json.dumps(to_record(epoch(0, 1, 0.25))) + "\n"
            handle.write(line[:50])
            handle.flush()
            time.sleep(0.2)
            handle.write(line[50:])
    assert load(path).trials[0].intermediate_values == {1: 0.25}


def test_the_mirrors_numbers_are_the_launchs_in_whatever_order_trials_start_and_end(journal: Journal, path: Path) -> None:
    numbers = range(8)
    mirror_once(journal, *map(proposed, numbers), *map(start, reversed(numbers)), epoch(5, 1, 0.5), end(5, Outcome.PRUNED))
    assert [trial.number for trial in load(path).trials] == list(numbers)
    assert [trial.params for trial in load(path).trials] == [point(number) for number in numbers]
    assert load(path).trials[5].state is TrialState.PRUNED


Values = dict[int, float]


@pytest.mark.parametrize(
    ("outcome", "values"),
    [
        (Outcome.COMPLETED, {1: 0.2, 9: 0.7}),
        (Outcome.COMPLETED, {1: 0.6, 9: 0.5}),
        (Outcome.PRUNED, {1: 0.4, 2: 0.3}),
        (Outcome.DIVERGED, {1: 0.5, 2: 0.0}),
        (Outcome.DIVERGED, {1: 0.0}),
        (Outcome.FAILED, {1: 0.5}),
        (Outcome.FAILED, {}),
    ],
)
def test_a_trials_end_is_told_as_the_search_tells_it(
    raw: dict[str, Any], journal: Journal, path: Path, outcome: Outcome, values: Values
) -> None:
    study = resolve_study(raw)
    space = to_optuna(study.space)
    search = build_search(study, LaunchHistory(), journal, study.start)
    with mirroring(StudyMirror(journal, study_name=NAME, space=space, metric=METRIC)):
        search.suggest("a")
        diverged = outcome is Outcome.DIVERGED
        results: list[dict[str, Any]] = [{METRIC: value, "epoch": passed, "diverged": diverged} for passed, value in values.items()]
        for result in results:
            search.on_trial_result("a", result)
            journal.append(epoch(0, result["epoch"], result[METRIC]))
        search.on_trial_complete("a", results[-1] if results else None, error=outcome is Outcome.FAILED)
        journal.append(end(0, outcome))
    (heard,), (mirrored,) = search.study.trials, load(path).trials
    fields = ("number", "state", "value", "params", "distributions", "intermediate_values")
    assert {name: getattr(mirrored, name) for name in fields} == {name: getattr(heard, name) for name in fields}


def test_an_interrupted_trial_stays_running_and_says_why(journal: Journal, path: Path) -> None:
    mirror_once(journal, proposed(0), start(0), epoch(0, 1, 0.3), end(0, Outcome.INTERRUPTED))
    assert seen(path) == [(0, TrialState.RUNNING, None, {1: 0.3}, point(0), "interrupted")]
    mirror_once(journal, start(0))
    assert seen(path) == [(0, TrialState.RUNNING, None, {1: 0.3}, point(0), "running")]


def test_a_dashboard_can_name_the_metric_on_its_axes(told: Journal, path: Path) -> None:
    assert load(path).metric_names == ["best_probe_agreement"]


def test_times_are_the_journals(journal: Journal, path: Path) -> None:
    for event in (proposed(0, at=NOON + 0.25), proposed(1), end(0, Outcome.FAILED, at=NOON + 90.5)):
        journal.append(event)
    mirror_once(journal)
    ended, running = load(path).trials
    assert ended.datetime_start == datetime.fromtimestamp(NOON + 0.25)
    assert ended.datetime_complete == datetime.fromtimestamp(NOON + 90.5)
    assert (running.datetime_start, running.datetime_complete) == (datetime.fromtimestamp(NOON), None)


def test_wherever_an_attempt_was_killed_the_next_goes_on_in_the_same_file(journal: Journal, path: Path) -> None:
    mirror_once(journal)
    inode = path.stat().st_ino
    for event in STORY:
        mirror_once(journal, event)
    assert seen(path) == TOLD
    assert path.stat().st_ino == inode, "a dashboard that has it open goes on reading it"


def test_what_happened_while_no_mirror_ran_is_made_up_for(journal: Journal, path: Path) -> None:
    mirror_once(journal, *STORY[:9])
    for event in STORY[9:]:
        journal.append(event)
    mirror_once(journal)
    assert seen(path) == TOLD


@pytest.mark.parametrize("method", ["set_trial_intermediate_value", "set_trial_user_attr", "set_trial_state_values"])
def test_a_trial_that_was_half_written_is_completed(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    mirror_once(journal, proposed(0))
    with monkeypatch.context() as broken:
        broken.setattr(RDBStorage, method, fail)
        mirror_once(journal, epoch(0, 1, 0.3), end(0, Outcome.PRUNED), proposed(1))
    assert load(path).trials[0].state is TrialState.RUNNING
    mirror_once(journal)
    assert [trial[:4] for trial in seen(path)] == [(0, TrialState.PRUNED, 0.3, {1: 0.3}), (1, TrialState.RUNNING, None, {})]


def test_a_trial_that_has_ended_in_the_file_is_left_alone_and_so_are_a_readers_notes(told: Journal, path: Path) -> None:
    before = load(path).trials[:4]
    load(path).set_user_attr("note", "look at trial 2")
    mirror_once(told, end(4, Outcome.FAILED))
    assert load(path).trials[:4] == before
    assert load(path).user_attrs == {"metric": METRIC, "note": "look at trial 2"}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    path.write_text("no database\n" * 1000)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scramble(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(reversed(content[4096:])))


def ask_for_a_trial(path: Path) -> None:
    load(path).ask()


def enqueue_a_trial(path: Path) -> None:
    load(path).enqueue_trial(point(0))


def tell_a_running_trial(path: Path) -> None:
    load(path).tell(4, 0.9)


def report_an_epoch(path: Path) -> None:
    study = load(path)
    (running,) = (trial for trial in study.trials if trial.state is TrialState.RUNNING)
    optuna.Trial(study, running._trial_id).report(0.9, step=7)


def be_another_launch(path: Path) -> None:
    path.unlink()
    journal = Journal(path.parent / "elsewhere")
    journal.path.parent.mkdir()
    mirror_once(journal, replace(proposed(0), point=point(7)))
    (journal.path.parent / "optuna.db").rename(path)


def half_made(path: Path) -> None:
    """As Optuna leaves it where it is killed while it makes its tables."""
    with sqlite3.connect(path) as connection:
        statements = [text for (text,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")]
    path.unlink()
    with sqlite3.connect(path) as connection:
        for statement in statements[:4]:
            connection.execute(statement)


def lacks_a_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE trial_params")


def is_of_no_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v0.0.0.z'")


@pytest.mark.parametrize("damage", [empty, half_made, lacks_a_table, is_of_no_version])
def test_a_file_that_was_not_made_to_the_end_is_made_whole(told: Journal, path: Path, damage: Callable[[Path], None]) -> None:
    damage(path)
    mirror_once(told)
    assert seen(path) == TOLD
    assert sorted(file.name for file in path.parent.iterdir()) == ["journal.jsonl", "optuna.db"]


@pytest.mark.parametrize("damage", [truncate, overwrite, scramble])
def test_a_damaged_file_is_written_anew(
    told: Journal, path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    damage(path)
    Path(f"{path}-journal").write_bytes(b"of the old file")
    mirror_once(told)
    assert seen(path) == TOLD
    assert warnings_of(caplog) == [f"{path} was damaged or not this launch's, it was rewritten from the journal"]
    assert sorted(file.name for file in path.parent.iterdir()) == ["journal.jsonl", "optuna.db"]


@pytest.mark.parametrize("deed", [ask_for_a_trial, enqueue_a_trial, tell_a_running_trial, report_an_epoch, be_another_launch])
def test_a_file_that_tells_another_story_is_written_anew(told: Journal, path: Path, deed: Callable[[Path], None]) -> None:
    deed(path)
    mirror_once(told)
    assert seen(path) == TOLD


@pytest.mark.parametrize("loss", [Path.unlink, empty])
def test_a_missing_file_is_made_from_the_journal_without_a_word(
    told: Journal, path: Path, caplog: pytest.LogCaptureFixture, loss: Callable[[Path], None]
) -> None:
    loss(path)
    mirror_once(told)
    assert seen(path) == TOLD
    assert warnings_of(caplog) == []


def fail(*arguments: Any, **options: Any) -> None:
    raise StorageInternalError("invalid data, perhaps") from OSError("database or disk is full")


def remove_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


@pytest.mark.parametrize("obstacle", [remove_the_folder, Path.mkdir])
def test_a_mirror_that_cannot_write_says_so_once_and_the_sweep_goes_on(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture, obstacle: Callable[[Path], None]
) -> None:
    obstacle(path)
    mirror = new_mirror(journal)
    with mirroring(mirror):
        assert eventually(lambda: not mirror.is_alive())
    (warning,) = warnings_of(caplog)
    assert warning.startswith(f"{path} is no longer kept up to date, the sweep continues (")
    assert "\n" not in warning


def test_a_mirror_whose_disk_fills_up_stops_with_one_warning_that_gives_the_cause(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = new_mirror(journal)
    with mirroring(mirror):
        journal.append(proposed(0))
        assert eventually(lambda: path.exists() and mirror._trials.keys() == {0} and not mirror._changed)
        with monkeypatch.context() as full:
            full.setattr(RDBStorage, "set_trial_intermediate_value", fail)
            journal.append(epoch(0, 1, 0.5))
            assert eventually(lambda: not mirror.is_alive())
        journal.append(epoch(0, 2, 0.6))
    assert warnings_of(caplog) == [f"{path} is no longer kept up to date, the sweep continues (database or disk is full)"]
    mirror_once(journal)
    assert load(path).trials[0].intermediate_values == {1: 0.5, 2: 0.6}


@pytest.fixture
def lock(path: Path) -> Iterator[Callable[[], sqlite3.Connection]]:
    """Locks the file as a writer does, until the test ends."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield lambda: connection.execute("BEGIN EXCLUSIVE").connection


def test_a_locked_file_is_not_thrown_away(
    journal: Journal,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    lock: Callable[[], sqlite3.Connection],
) -> None:
    monkeypatch.setattr(study_mirror, "BUSY_S", 0.1)
    mirror_once(journal, *STORY[:-1])
    inode = path.stat().st_ino
    locked = lock()
    mirror_once(journal, STORY[-1])
    assert warnings_of(caplog) == [f"{path} is no longer kept up to date, the sweep continues (database is locked)"]
    locked.rollback()
    mirror_once(journal)
    assert seen(path) == TOLD
    assert path.stat().st_ino == inode


def test_a_stranger_who_adds_trials_meanwhile_ends_the_mirror_and_is_gone_after_the_next(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = new_mirror(journal)
    with mirroring(mirror):
        journal.append(proposed(0))
        assert eventually(lambda: mirror._trials.keys() == {0} and not mirror._changed)
        load(path).enqueue_trial(point(3))
        journal.append(proposed(1))
        assert eventually(lambda: not mirror.is_alive())
    assert warnings_of(caplog)[0].endswith("(trial 1 became number 2, another process adds trials)")
    mirror_once(journal)
    assert [trial[:2] for trial in seen(path)] == [(0, TrialState.RUNNING), (1, TrialState.RUNNING)]


def test_a_gap_in_the_numbers_ends_the_mirror_before_a_trial_gets_a_wrong_one(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror_once(journal, proposed(0))
    mirror_once(journal, proposed(2))
    assert warnings_of(caplog) == [f"{path} is no longer kept up to date, the sweep continues (trial 2 cannot follow 1 trials)"]
    assert [trial[0] for trial in seen(path)] == [0]


def test_an_error_of_the_sweep_passes_through_and_what_came_before_is_written(journal: Journal, path: Path) -> None:
    def sweep() -> None:
        with mirroring(new_mirror(journal)):
            for event in STORY:
                journal.append(event)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep()
    assert seen(path) == TOLD


def test_the_mirror_prints_nothing(told: Journal, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    mirror_once(told)
    assert capfd.readouterr() == ("", "")


def test_reading_while_the_mirror_writes_disturbs_neither(journal: Journal, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mirror_once(journal, LAUNCH_START)
    study = load(path)
    with mirroring(new_mirror(journal)):
        for number in range(4):
            journal.append(proposed(number))
            for passed in range(1, 21):
                journal.append(epoch(number, passed, 0.01 * passed))
                assert len(study.get_trials(deepcopy=False)) <= number + 1
    assert [len(trial.intermediate_values) for trial in load(path).trials] == [20] * 4
    assert warnings_of(caplog) == []


def completed(journal: Journal, count: int) -> None:
    events: list[Event] = []
    for number in range(count):
        epochs = [epoch(number, passed, 0.05 * number * passed) for passed in (1, 2)]
        events += [proposed(number), *epochs, end(number, Outcome.COMPLETED)]
    mirror_once(journal, *events)


def open_as_a_reader(path: Path) -> optuna.Study:
    return optuna.load_study(study_name=NAME, storage=f"sqlite:///{path}")


def test_optunas_tables_and_importances_read_the_file(journal: Journal, path: Path) -> None:
    completed(journal, 8)
    study = open_as_a_reader(path)
    table = study.trials_dataframe()
    assert list(table["state"]) == ["COMPLETE"] * 8
    assert list(table["user_attrs_outcome"]) == ["completed"] * 8
    assert {f"params_{name}" for name in SPACE} <= set(table.columns)
    assert optuna.importance.get_param_importances(study).keys() == SPACE.keys()
    assert study.best_trial.number == 7


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    "plot", ["plot_intermediate_values", "plot_optimization_history", "plot_parallel_coordinate", "plot_param_importances"]
)
def test_optunas_plots_read_the_file(journal: Journal, path: Path, plot: str) -> None:
    matplotlib.use("Agg")
    completed(journal, 6)
    figure = getattr(optuna.visualization.matplotlib, plot)(open_as_a_reader(path)).figure
    matplotlib.pyplot.close(figure)


def test_the_best_trial_is_the_best_of_those_that_completed(journal: Journal, path: Path) -> None:
    mirror_once(
        journal, proposed(0), proposed(1), epoch(0, 1, 0.9), end(0, Outcome.PRUNED), epoch(1, 9, 0.6), end(1, Outcome.COMPLETED)
    )
    assert load(path).best_trial.number == 1


def test_a_file_that_is_still_being_made_is_not_seen(journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for event in STORY:
        journal.append(event)
    seen_while_made = []
    add = RDBStorage.create_new_trial

    def add_and_look(*arguments: Any, **options: Any) -> int:
        seen_while_made.append(path.exists())
        return add(*arguments, **options)

    monkeypatch.setattr(RDBStorage, "create_new_trial", add_and_look)
    mirror_once(journal)
    assert seen_while_made == [False] * 5
    assert seen(path) == TOLD


def test_a_mirror_that_is_not_done_in_time_is_left_behind_with_a_warning(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(RDBStorage, "create_new_trial", lambda *arguments, **options: release.wait(20) and fail())
    journal.append(proposed(0))
    mirror = new_mirror(journal)
    mirror.start()
    mirror.close(deadline_s=0.1)
    assert warnings_of(caplog) == [f"{path} was not finished within 0 s, a resumed sweep completes it"]
    release.set()
    mirror.join()


def test_the_file_is_written_without_waiting_for_the_disk(journal: Journal, path: Path) -> None:
    mirror = new_mirror(journal)
    with contextlib.closing(mirror._open()) as file, file._storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 0
