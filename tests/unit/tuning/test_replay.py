"""What a replay runs: the recorded settings, what was changed on purpose, and how far."""

import io
from typing import Any

import pytest
from rich.console import Console

from cpsc.errors import ConfigError
from cpsc.methods import effective_settings
from tests.support.records import recorded_trial
from tests.unit.tuning.conftest import Write
from tuning.display import Display
from tuning.outcome import Outcome
from tuning.replay.replay import Changes, as_launched, last_epoch, recorded_point
from tuning.study import Study, build_config, load_study
from tuning.study.nested_keys import flatten
from tuning.study.yaml_loader import to_plain

POINT = {"weights.contrast": 0.5, "student.lr": 0.1, "schedule.student_steps": 2, "cpsc.contrast": "two_view"}


@pytest.fixture
def study(raw: dict[str, Any], write: Write) -> Study:
    return load_study(write(raw))


def listening() -> tuple[Display, io.StringIO]:
    text = io.StringIO()
    return Display(console=Console(file=text, width=500)), text


def settings_of(study: Study, **changes: Any) -> dict[str, Any]:
    """All that a run of `POINT` records, with `changes`."""
    return dict(flatten(to_plain(effective_settings(build_config(study.base, POINT))))) | changes


def test_it_is_said_if_the_earlier_points_of_a_launch_are_lost(study: Study, raw: dict[str, Any], write: Write) -> None:
    display, text = listening()
    assert as_launched(study, recorded_trial(), display) == study
    assert not text.getvalue()
    learning = load_study(write(raw | {"transfer": ["old"]}))
    assert as_launched(learning, recorded_trial(), display) == learning
    assert "is neither in" in text.getvalue()
    assert "exam scores may differ" in text.getvalue()


def test_parameters_of_the_trial_are_told_from_the_rest_of_the_study() -> None:
    changes = Changes.parse(["weights.l2=2", "config.epochs=4", "resources.cpus=2", "config.dataset.path=x", "probe.seed=1"])
    assert changes.point == {"weights.l2": 2, "epochs": 4}
    assert changes.study == ["resources.cpus=2", "config.dataset.path=x", "probe.seed=1"]


def test_only_what_the_numbers_depend_on_is_a_change() -> None:
    changes = Changes.parse(
        ["weights.contrast=0.5", "weights.l2=2", "storage=elsewhere", "tracking.uri=http://x", "resources.cpus=2"]
    )
    assert changes.effective({"weights.contrast": 0.5, "weights.l2": 1.0}) == ["weights.l2 1.0 -> 2", "resources.cpus=2"]


def test_a_whole_number_is_the_same_however_it_is_written() -> None:
    assert Changes.parse(["weights.l2=1"]).effective({"weights.l2": 1.0}) == []


def test_a_setting_without_a_recorded_value_is_a_change() -> None:
    assert Changes.parse(["weights.l2=2"]).effective({}) == ["weights.l2 not recorded -> 2"]


@pytest.mark.parametrize(
    ("outcome", "first", "wanted", "expected"),
    [
        (Outcome.COMPLETED, 1, None, 3),
        (Outcome.PRUNED, 1, None, 3),
        (Outcome.DIVERGED, 1, None, 3),
        (Outcome.FAILED, 1, None, 4),
        (None, 1, None, 3),
        (Outcome.PRUNED, 1, 7, 7),
        (Outcome.PRUNED, 1, 2, 2),
        (Outcome.PRUNED, 4, None, 9),
        (Outcome.PRUNED, 3, None, 3),
    ],
)
def test_a_replay_ends_where_the_record_does_unless_told_otherwise(
    outcome: Outcome | None, first: int, wanted: int | None, expected: int
) -> None:
    assert last_epoch(recorded_trial(outcome=outcome), first=first, num_epochs=9, wanted=wanted) == expected


def test_a_changed_number_of_epochs_is_the_end() -> None:
    assert last_epoch(recorded_trial(), first=1, num_epochs=20, wanted=None, is_extended=True) == 20
    assert last_epoch(recorded_trial(), first=1, num_epochs=2, wanted=None) == 2


def test_more_epochs_than_the_trial_has_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--epochs: the trial has 9 epochs, got 10; for more: --set epochs=10"):
        last_epoch(recorded_trial(), first=1, num_epochs=9, wanted=10)


@pytest.mark.parametrize(("first", "wanted"), [(10, None), (4, 3)])
def test_a_checkpoint_of_the_end_leaves_nothing_to_run(first: int, wanted: int | None) -> None:
    with pytest.raises(ConfigError, match=f"checkpoint is of epoch {first - 1}, so nothing is left"):
        last_epoch(recorded_trial(), first=first, num_epochs=9, wanted=wanted)


def test_a_record_of_this_study_needs_nothing_laid_over_it(study: Study) -> None:
    display, text = listening()
    assert recorded_point(recorded_trial(point=POINT, settings=settings_of(study)), study, display) == POINT
    assert text.getvalue() == ""


def test_the_recorded_value_is_used_where_the_study_now_gives_another(study: Study) -> None:
    display, text = listening()
    trial = recorded_trial(point=POINT, settings=settings_of(study, epochs=12, **{"weights.l2": 3.0}))
    point = recorded_point(trial, study, display)
    config = build_config(study.base, point)
    assert (config.epochs, config.weights.l2, config.weights.contrast) == (12, 3.0, 0.5)
    assert "epochs: recorded 12, but the study file gives 9; the recorded value is used" in text.getvalue()


def test_a_setting_that_the_record_does_not_know_is_told(study: Study) -> None:
    display, text = listening()
    settings = settings_of(study)
    del settings["diverged_above"]
    recorded_point(recorded_trial(point=POINT, settings=settings), study, display)
    assert "not recorded, so this version's values are used: diverged_above" in text.getvalue()
