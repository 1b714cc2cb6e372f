"""A record of curves: to a file and back, and from a launch whose trials ran to their end."""

from pathlib import Path
from typing import Any

import pytest

from cpsc.errors import ConfigError
from tests.support.curves import curves_at, drawn_record
from tests.support.events import made
from tests.support.studies import ROOT
from tuning.launch import Journal
from tuning.launch.events import LaunchStart, TrialEnd
from tuning.launch.launch import new_launch
from tuning.outcome import Outcome
from tuning.simulation.fitting import check_fit, differences
from tuning.simulation.lookup import CurveLookup
from tuning.simulation.record import SECONDS, Record, RecordedCurves
from tuning.simulation.recording import record_launch
from tuning.simulation.sweep import simulate_sweep
from tuning.study import Study, load_study
from tuning.study.config import resolve_study
from tuning.study.nested_keys import Point

Raw = dict[str, Any]


@pytest.fixture
def study(raw: Raw, tmp_path: Path) -> Study:
    search = {"num_trials": 5, "sampler": "random"}
    return resolve_study(raw | {"search": search, "prune": {"scheduler": "none"}, "storage": str(tmp_path / "runs")})


def launched(study: Study, answer: Any) -> Journal:
    """A launch on disk, simulated."""
    params = {"objective": study.objective, "epochs": str(study.config.epochs)}
    with new_launch(study, made(LaunchStart, params=params)) as name:
        journal = Journal(study.local / name)
    journal.path.write_bytes(b"")
    simulate_sweep(study, answer, workers=2, log=journal)
    return journal


def test_a_record_is_the_same_from_its_file(study: Study, tmp_path: Path) -> None:
    record = drawn_record(study, 6)
    record.save(tmp_path / "record.parquet")
    assert Record.load(tmp_path / "record.parquet") == record


def test_a_launch_is_recorded_as_it_ran(study: Study) -> None:
    launched(study, lambda point: curves_at(study, point))
    record, left_out = record_launch(str(study.local), study.name)
    assert left_out == 0
    assert [trial.number for trial in record.trials] == list(range(5))
    assert record.trials == [curves_at(study, trial.point, number=trial.number) for trial in record.trials]
    check_fit(study, record)
    assert differences(study, record) == []


def test_the_same_search_on_its_record_finds_its_launch(study: Study) -> None:
    """Each point is in the record, and answers for itself."""
    journal = launched(study, lambda point: curves_at(study, point))
    record, _ = record_launch(str(study.local), study.name)
    assert simulate_sweep(study, CurveLookup(record, study.space), workers=2) == list(journal.events())


def test_an_epoch_that_diverged_took_as_long_as_others(study: Study) -> None:
    def answer(point: Point) -> RecordedCurves:
        found = curves_at(study, point)
        if point["student.lr"] < 0.2:
            return found
        cut = {metric: values[:3] for metric, values in found.values.items()}
        return RecordedCurves(number=0, point=point, diverged=True, values=cut)

    launched(study, answer)
    record, _ = record_launch(str(study.local), study.name)
    odd = [trial for trial in record.trials if trial.diverged]
    assert 0 < len(odd) < 5
    assert all(trial.num_epochs == 3 and trial.values[study.objective][-1] == 0.0 for trial in odd)
    known = [value for trial in record.trials for value in trial.values[SECONDS][: 2 if trial.diverged else None] if value]
    assert odd[0].values[SECONDS][-1] == pytest.approx(sum(known) / len(known))
    assert odd[0].best_epoch(study.objective) is None


def test_a_trial_without_an_end_of_its_own_is_left_out_and_counted(study: Study) -> None:
    journal = launched(study, lambda point: curves_at(study, point))
    events = list(journal.events())
    journal.path.write_bytes(b"")
    for event in events:
        if isinstance(event, TrialEnd) and event.number == 2:
            event = made(TrialEnd, **vars(event) | {"outcome": Outcome.FAILED})
        journal.append(event)
    record, left_out = record_launch(str(study.local), study.name)
    assert ([trial.number for trial in record.trials], left_out) == ([0, 1, 3, 4], 1)


def test_a_launch_that_has_pruned_is_no_record(raw: Raw, tmp_path: Path) -> None:
    search = {"num_trials": 12, "sampler": "random"}
    study = resolve_study(raw | {"search": search, "storage": str(tmp_path / "runs")})
    launched(study, lambda point: curves_at(study, point))
    with pytest.raises(ConfigError, match=r"launch small: trial \d+ was pruned.*--set prune.scheduler=none"):
        record_launch(str(study.local), study.name)


def test_settings_that_differ_are_named(raw: Raw, study: Study) -> None:
    other = resolve_study(raw | {"config": raw["config"] | {"examiners": {"epochs": 3}}})
    assert differences(other, drawn_record(study, 3)) == ["examiners.epochs"]


def test_the_record_in_the_repository_is_one_of_the_digits_study() -> None:
    study = load_study(ROOT / "search_spaces" / "digits.yaml")
    record = Record.load(ROOT / "tests" / "recorded" / "digits.parquet")
    check_fit(study, record)
    assert len(record.trials) == 200
    assert differences(study, record) == []
