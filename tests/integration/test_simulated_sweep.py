"""A simulated sweep and one through Ray's own loop, one trial at a time on the same curves, write the same journal."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ray.tune import Trainable

from tests.support.curves import drawn_record
from tests.support.studies import tiny_study
from tuning.cluster.ray_compat import without_snapshots
from tuning.cluster.session import RaySession
from tuning.launch import Journal, LaunchHistory
from tuning.launch.events import Epoch, Event, Proposed, TrialEnd
from tuning.outcome import Outcome
from tuning.search.asha import build_scheduler
from tuning.search.first_points import begins_with
from tuning.search.optuna_search import build_search
from tuning.simulation.lookup import CurveLookup
from tuning.simulation.loop import Answer, reported
from tuning.simulation.sweep import simulate_sweep
from tuning.storage import Storage
from tuning.study import Study
from tuning.study.config import resolve_study
from tuning.sweep.recorder import Recorder
from tuning.sweep.tuner import build_tuner

pytestmark = pytest.mark.ray


def trainable_on(answer: Answer, objective: str) -> type[Trainable]:
    """Stands for DistillTrainable; Ray sends the class to its worker with all that it knows."""

    class RecordedTrainable(Trainable):
        def setup(self, config: dict[str, Any], context: object = None) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._curves, self._epoch = answer(new_config["point"]), 0
            return True

        def step(self) -> dict[str, Any]:
            self._epoch += 1
            return reported(self._curves, self._epoch, objective)

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            (Path(checkpoint_dir) / "epoch").write_text(str(self._epoch))

    return RecordedTrainable


def sweep_in_ray(study: Study, answer: Answer, journal: Journal) -> None:
    """As `SweepDriver` does, without what is beside the loop."""
    tuner = build_tuner(
        study,
        None,  # type: ignore[arg-type]
        Storage(study.storage),
        folder="recorded/attempt-000",
        search=build_search(study, LaunchHistory(), journal, begins_with(study)),
        scheduler=build_scheduler(study),
        callbacks=[Recorder(journal, LaunchHistory(), study.base, epochs=study.config.epochs, shared={})],
        max_concurrent=1,
    )
    with without_snapshots():
        tuner.fit()


def told(events: Iterator[Event] | list[Event]) -> list[tuple[Any, ...]]:
    """What was proposed, reported and decided, in its order."""
    found: list[tuple[Any, ...]] = []
    for event in events:
        match event:
            case Proposed():
                found.append(("proposed", event.number, dict(event.point)))
            case Epoch():
                found.append(("epoch", event.number, event.epoch, dict(event.metrics)))
            case TrialEnd():
                found.append(("end", event.number, event.outcome, event.epoch))
    return found


def test_both_propose_the_same_points_and_end_the_same_trials(tmp_path: Path) -> None:
    raw = tiny_study() | {"storage": str(tmp_path / "runs"), "search": {"num_trials": 10, "startup_trials": 3}}
    study = resolve_study(raw)
    record = drawn_record(study, 30)
    first = record.trials[0]
    short = {metric: values[:2] for metric, values in first.values.items()}
    record = replace(record, trials=[replace(first, diverged=True, values=short), *record.trials[1:]])
    answer = CurveLookup(record, study.space)
    journal = Journal(tmp_path)
    trainable = trainable_on(answer, study.objective)
    with mock.patch("tuning.sweep.tuner.DistillTrainable", trainable), RaySession(None) as session:
        session.start()
        sweep_in_ray(study, answer, journal)
    simulated = told(simulate_sweep(study, answer, workers=1))
    assert told(journal.events()) == simulated
    outcomes = {what[2] for what in simulated if what[0] == "end"}
    assert outcomes >= {Outcome.COMPLETED, Outcome.PRUNED}, "or nothing was decided"
