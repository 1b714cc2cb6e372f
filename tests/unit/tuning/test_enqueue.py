"""Points that people add to a launch: proposed next, once, also after a kill; refused where they cannot be run."""

from pathlib import Path
from typing import Any

import pytest

from cpsc.errors import ConfigError
from tests.support.events import made
from tests.unit.tuning.conftest import Write
from tuning import cli
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.enqueued import EnqueuedPoints
from tuning.launch.events import AttemptStart, Epoch, LaunchStart, Proposed, Rejected, TrialEnd, TrialStart
from tuning.launch.launch import new_launch
from tuning.outcome import Outcome
from tuning.search.optuna_search import StudySearch, build_search
from tuning.study import Study, load_study
from tuning.study.config import resolve_study
from tuning.sweep.enqueue import enqueue_point
from tuning.trial import Assets
from tuning.trial.limits import limits_of
from tuning.trial.model_cost import student_cost

Raw = dict[str, Any]
RATE = "student.lr"


@pytest.fixture
def study(raw: Raw, write: Write, tmp_path: Path) -> Study:
    search = {"num_trials": 5, "sampler": "random"}
    return load_study(write(raw | {"space": {RATE: {"uniform": [0.02, 0.3]}}, "search": search, "storage": str(tmp_path / "runs")}))


@pytest.fixture
def launch(study: Study) -> str:
    with new_launch(study, made(LaunchStart, params={"objective": study.objective, "epochs": "9"})) as name:
        pass
    journal = Journal(study.local / name)
    journal.append(made(AttemptStart))
    return name


def searching(study: Study, launch: str) -> StudySearch:
    journal = Journal(study.local / launch)
    history = replay_events(journal.events(), metric=study.metric)
    return build_search(study, history, journal, [{RATE: 0.25}, {RATE: 0.26}], enqueued=EnqueuedPoints(journal.path.parent))


def proposed(search: StudySearch, trial_id: str) -> float:
    config = search.suggest(trial_id)
    assert isinstance(config, dict)
    search.on_trial_complete(trial_id, {search.metric: 0.5, "epoch": 9, "diverged": False})
    return float(config["point"][RATE])


def test_a_point_is_proposed_next_before_those_that_the_study_begins_with(study: Study, launch: str) -> None:
    search = searching(study, launch)
    assert proposed(search, "a") == 0.25
    said = enqueue_point(str(study.local), launch, {RATE: 0.111})
    assert said.startswith(f"{launch}: student.lr 0.111 will be proposed next, by the running sweep or by: cpsc-tune resume ")
    assert "after 1 waiting ones" in enqueue_point(str(study.local), launch, {RATE: 0.112})
    assert [proposed(search, name) for name in "bcd"] == [0.111, 0.112, 0.26]
    told = [event.enqueued for event in Journal(study.local / launch).events() if isinstance(event, Proposed)]
    assert told == [None, 0, 1, None]


def test_a_resumed_search_proposes_each_point_once_and_goes_on_with_its_own(study: Study, launch: str) -> None:
    for rate in (0.111, 0.112):
        enqueue_point(str(study.local), launch, {RATE: rate})
    assert searching(study, launch).suggest("a") is not None
    again = searching(study, launch)
    assert [proposed(again, name) for name in "abc"] == [0.111, 0.112, 0.25]


def test_a_point_beyond_the_limits_is_rejected_once(raw: Raw, assets: Assets, tmp_path: Path) -> None:
    cheap = student_cost(assets.teacher, "wrn_10_1")["student.macs"]
    space = {"student.arch": {"choice": ["wrn_10_1", "wrn_16_2"]}}
    study = resolve_study(raw | {"space": space, "search": {"limits": {"student.macs": cheap}}})
    EnqueuedPoints(tmp_path).add({"student.arch": "wrn_16_2"})
    journal = Journal(tmp_path)
    search = build_search(study, LaunchHistory(), journal, [], limits_of(study, assets.teacher), EnqueuedPoints(tmp_path))
    config = search.suggest("a")
    assert isinstance(config, dict)
    assert config["point"] == {"student.arch": "wrn_10_1"}
    first = next(event for event in journal.events() if isinstance(event, Rejected))
    assert (first.enqueued, first.point) == (0, {"student.arch": "wrn_16_2"})
    events = [made(LaunchStart), made(AttemptStart), *journal.events()]
    assert replay_events(events, metric=study.metric).num_enqueued == 1


def test_what_is_left_out_is_as_in_the_studys_config(raw: Raw, write: Write, tmp_path: Path) -> None:
    study = load_study(write(raw | {"storage": str(tmp_path / "runs")}))
    with new_launch(study, made(LaunchStart, params={"objective": study.objective, "epochs": "9"})) as name:
        pass
    enqueue_point(str(study.local), name, {RATE: 0.05})
    ((_, point),) = EnqueuedPoints(study.local / name).after(0)
    assert point.keys() == study.space.keys()
    assert point["schedule.student_steps"] == study.config.schedule.student_steps


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ({"student.lrr": 0.1}, r"enqueue.student.lrr: .*did you mean"),
        ({"weights.l2": 0.1}, "enqueue.weights.l2: is not searched"),
        ({RATE: 3.0}, r"enqueue.student.lr: 3.0 lies outside uniform\(0.02, 0.3\)"),
    ],
)
def test_what_is_no_point_of_the_launch_is_refused(study: Study, launch: str, point: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        enqueue_point(str(study.local), launch, point)
    assert not EnqueuedPoints(study.local / launch).after(0)


def test_a_launch_that_has_proposed_all_its_trials_says_how_to_extend_it(study: Study, launch: str) -> None:
    search = searching(study, launch)
    for name in "abcde":
        proposed(search, name)
    with pytest.raises(ConfigError, match=r"has proposed all 5 trials of its budget; extend it: .* --num-trials 6"):
        enqueue_point(str(study.local), launch, {RATE: 0.1})


@pytest.mark.parametrize(
    ("search", "says"),
    [
        (
            {"stop": {"trials_without_gain": 1}},
            "has ended because trials no longer improved; .* --set search.stop.trials_without_gain=null$",
        ),
        (
            {"epoch_budget": 2},
            "has used up its epochs or time; raise search.epoch_budget or search.time_budget_s: .* --set ...$",
        ),
    ],
)
def test_a_launch_that_ended_otherwise_says_what_changes_that(
    raw: Raw, write: Write, tmp_path: Path, search: Raw, says: str
) -> None:
    space = {RATE: {"uniform": [0.02, 0.3]}}
    study = load_study(write(raw | {"space": space, "search": {"num_trials": 5} | search, "storage": str(tmp_path / "runs")}))
    with new_launch(study, made(LaunchStart, params={"objective": study.objective, "epochs": "9"})) as name:
        pass
    journal = Journal(study.local / name)
    journal.append(made(AttemptStart))
    for number in range(2):
        journal.append(made(Proposed, number=number, point={RATE: 0.1}))
        journal.append(made(TrialStart, number=number, point={RATE: 0.1}))
        journal.append(made(Epoch, number=number, epoch=1, metrics={study.metric: 0.5}))
        journal.append(made(TrialEnd, number=number, outcome=Outcome.PRUNED, epoch=1))
    with pytest.raises(ConfigError, match=says):
        enqueue_point(str(study.local), name, {RATE: 0.1})


def test_a_grid_takes_no_point(raw: Raw, write: Write, tmp_path: Path) -> None:
    grid = {"space": {RATE: {"choice": [0.1, 0.2]}}, "search": {"sampler": "grid"}, "storage": str(tmp_path / "runs")}
    study = load_study(write(raw | grid))
    with new_launch(study, made(LaunchStart, params={"objective": study.objective, "epochs": "9"})) as name:
        pass
    with pytest.raises(ConfigError, match="is a grid"):
        enqueue_point(str(study.local), name, {RATE: 0.1})


def test_a_line_that_is_no_point_is_passed_over_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    points = EnqueuedPoints(tmp_path)
    points.add({RATE: 0.1})
    with points.path.open("ab") as file:
        file.write(b'{"student.lr": 0.')
    assert points.after(0) == [(0, {RATE: 0.1})]
    assert caplog.messages == [], "it may be being written"
    points.add({RATE: 0.2})
    for _ in range(2):
        assert points.after(1) == [(2, {RATE: 0.2})]
    assert caplog.messages == [f"{points.path} line 2: not a point, it is skipped"]


@pytest.mark.parametrize("line", [b"[1]", b"7", b"\xff\xfe", b"[" * 100_000, b"{'a': 1}"])
def test_whatever_a_line_holds_the_rest_is_proposed(study: Study, launch: str, line: bytes) -> None:
    search = searching(study, launch)
    with EnqueuedPoints(study.local / launch).path.open("ab") as file:
        file.write(line + b"\n")
    enqueue_point(str(study.local), launch, {RATE: 0.111})
    assert [proposed(search, name) for name in "ab"] == [0.111, 0.25]
    told = [event.enqueued for event in Journal(study.local / launch).events() if isinstance(event, Proposed)]
    assert told == [1, None]
    again = replay_events(Journal(study.local / launch).events(), metric=study.metric)
    assert EnqueuedPoints(study.local / launch).after(again.num_enqueued) == [], "what was proposed is not proposed again"


def test_the_verb(study: Study, launch: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["cpsc-tune", "enqueue", launch, f"{RATE}=0.1", "--storage", str(study.local)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "will be proposed next" in capsys.readouterr().out
