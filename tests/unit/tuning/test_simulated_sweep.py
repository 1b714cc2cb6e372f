"""A simulated sweep: who is told what and when, on a virtual clock; the same each time; i-epoch's pauses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.curves import curves_at, drawn_record
from tuning.launch import Journal, replay_events
from tuning.launch.events import Epoch, Event, Proposed, Transferred, TrialEnd
from tuning.outcome import Outcome
from tuning.results import launch_from_journal
from tuning.simulation.best_after import BestAfter
from tuning.simulation.lookup import CurveLookup
from tuning.simulation.loop import reported
from tuning.simulation.record import SECONDS, RecordedCurves
from tuning.simulation.sweep import simulate_sweep
from tuning.study import Study
from tuning.study.config import resolve_study
from tuning.study.nested_keys import Point

Raw = dict[str, Any]
HEIGHTS = {0.02: 0.9, 0.03: 0.2, 0.04: 0.8, 0.05: 0.1, 0.06: 0.7}
"""By learning rate, the score that a trial rises to."""


@pytest.fixture
def study(raw: Raw) -> Study:
    """Of five listed trials of four epochs each, nothing pruned."""
    raw["config"] |= {"epochs": 4}
    start = [{"student.lr": rate} for rate in HEIGHTS]
    search = {"num_trials": len(start), "sampler": "random"}
    return resolve_study(raw | {"start": start, "search": search, "prune": {"scheduler": "none"}})


def by_height(point: Point, *, seconds: float = 2.0, diverges_after: int = 4) -> RecordedCurves:
    epochs = range(1, diverges_after + 1)
    values: dict[str, list[float | None]] = {"probe_agreement": [HEIGHTS[point["student.lr"]] * epoch / 4 for epoch in epochs]}
    values |= {SECONDS: [seconds for _ in epochs], "test_accuracy": [0.5 for _ in epochs]}
    return RecordedCurves(number=0, point=point, diverged=diverges_after < 4, values=values)


def epochs_of(events: list[Event]) -> list[tuple[float, int, int]]:
    """When which trial ended which epoch."""
    return [(event.time, event.number, event.epoch) for event in events if isinstance(event, Epoch)]


def ends_of(events: list[Event]) -> dict[int, tuple[Outcome, int]]:
    return {event.number: (event.outcome, event.epoch) for event in events if isinstance(event, TrialEnd)}


def test_one_worker_runs_trials_one_after_another(study: Study) -> None:
    events = simulate_sweep(study, by_height, workers=1)
    assert epochs_of(events) == [(2.0 * (4 * number + epoch), number, epoch) for number in range(5) for epoch in range(1, 5)]
    assert ends_of(events) == dict.fromkeys(range(5), (Outcome.COMPLETED, 4))


def test_the_worker_that_is_free_first_takes_the_next_trial(study: Study) -> None:
    slow = HEIGHTS.keys() - {0.02}
    events = simulate_sweep(study, lambda point: by_height(point, seconds=3.0 if point["student.lr"] in slow else 1.0), workers=2)
    proposed = [(event.time, event.number) for event in events if isinstance(event, Proposed)]
    assert proposed == [(0.0, 0), (0.0, 1), (4.0, 2), (12.0, 3), (16.0, 4)]
    assert events[-1].time == 28.0


def test_a_sweep_leaves_the_journal_of_a_sweep(study: Study, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    events = simulate_sweep(study, by_height, workers=2, log=journal)
    assert list(journal.events()) == events
    history = replay_events(events, metric=study.metric)
    assert (history.num_epochs, history.remarks, history.elapsed_s) == (20, [], 24.0)
    launch = launch_from_journal(events, "simulated")
    assert launch.chosen is not None
    assert (launch.chosen.number, launch.chosen.best_epoch("probe_agreement")) == (0, 4)


def test_asha_ends_a_trial_at_the_epoch_at_which_others_were_better(raw: Raw, study: Study) -> None:
    raw |= {"start": study.start, "search": {"num_trials": 5, "sampler": "random"}}
    pruning = resolve_study(raw | {"prune": {"grace_epochs": 1, "reduction_factor": 2}})
    assert ends_of(simulate_sweep(pruning, by_height, workers=1)) == {
        0: (Outcome.COMPLETED, 4),
        1: (Outcome.PRUNED, 1),
        2: (Outcome.PRUNED, 2),
        3: (Outcome.PRUNED, 1),
        4: (Outcome.PRUNED, 2),
    }


def test_an_epoch_budget_lets_trials_that_run_end(raw: Raw, study: Study) -> None:
    raw |= {"start": study.start, "prune": {"scheduler": "none"}}
    short = resolve_study(raw | {"search": {"num_trials": 5, "sampler": "random", "epoch_budget": 5}})
    assert ends_of(simulate_sweep(short, by_height, workers=1)) == {0: (Outcome.COMPLETED, 4), 1: (Outcome.COMPLETED, 4)}


def test_a_trial_that_diverges_ends_with_the_worst_score_and_is_nobodys_choice(study: Study) -> None:
    events = simulate_sweep(
        study, lambda point: by_height(point, diverges_after=2 if point["student.lr"] == 0.02 else 4), workers=1
    )
    assert ends_of(events)[0] == (Outcome.DIVERGED, 2)
    last = [event.metrics for event in events if isinstance(event, Epoch) and event.number == 0][-1]
    assert last == {"probe_agreement": 0.0, "best_probe_agreement": 0.0, "epoch": 2.0}
    chosen = launch_from_journal(events, "simulated").chosen
    assert chosen is not None
    assert chosen.number == 2


def test_the_search_looks_at_the_running_best() -> None:
    values: dict[str, list[float | None]] = {"probe_agreement": [0.5, 0.3, 0.6], SECONDS: [1.0] * 3, "probe_kl": [None] * 3}
    curves = RecordedCurves(number=0, point={}, diverged=False, values=values)
    results = [reported(curves, epoch, "probe_agreement") for epoch in (1, 2, 3)]
    assert [result["best_probe_agreement"] for result in results] == [0.5, 0.5, 0.6]
    assert [result["done"] for result in results] == [False, False, True]
    assert "probe_kl" not in results[0]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_seed_gives_the_same_sweep_and_another_seed_another(raw: Raw, sampler: str, workers: int) -> None:
    def sweep(seed: int) -> list[Event]:
        search = {"num_trials": 12, "startup_trials": 4, "sampler": sampler, "seed": seed}
        study = resolve_study(raw | {"search": search})
        return simulate_sweep(study, CurveLookup(drawn_record(study, 20), study.space), workers=workers)

    assert sweep(1) == sweep(1)
    assert sweep(1) != sweep(2)


def test_the_searcher_learns_from_what_the_record_says(raw: Raw) -> None:
    study = resolve_study(raw | {"search": {"num_trials": 60, "startup_trials": 10}, "prune": {"scheduler": "none"}})
    events = simulate_sweep(study, lambda point: curves_at(study, point), workers=1)
    scores = [trial.at_best("probe_agreement", "probe_agreement") for trial in launch_from_journal(events, "simulated").trials]
    by_number = dict(zip((trial.number for trial in launch_from_journal(events, "simulated").trials), scores, strict=True))
    early, late = ([by_number[number] or 0.0 for number in numbers] for numbers in (range(10), range(50, 60)))
    assert sum(late) > sum(early)


def test_the_best_after_two_epochs_go_on_and_the_others_are_pruned(study: Study) -> None:
    events = simulate_sweep(study, by_height, workers=1, scheduler=BestAfter(2, metric=study.metric, top=2))
    assert ends_of(events) == {
        0: (Outcome.COMPLETED, 4),
        1: (Outcome.PRUNED, 2),
        2: (Outcome.COMPLETED, 4),
        3: (Outcome.PRUNED, 2),
        4: (Outcome.PRUNED, 2),
    }
    later = [(number, epoch) for _, number, epoch in epochs_of(events)[10:]]
    assert later == [(0, 3), (0, 4), (2, 3), (2, 4)], "the best first, once all have run two epochs"
    assert replay_events(events, metric=study.metric).remarks == []


def test_the_searcher_hears_of_a_paused_trial_that_it_was_pruned(study: Study, raw: Raw) -> None:
    told = simulate_sweep(study, by_height, workers=2, scheduler=BestAfter(1, metric=study.metric, top=9))
    assert {outcome for outcome, _ in ends_of(told).values()} == {Outcome.COMPLETED}, "fewer trials than may go on"
    search = {"num_trials": 30, "startup_trials": 5}
    learning = resolve_study(raw | {"search": search, "prune": {"scheduler": "none"}})
    events = simulate_sweep(
        learning, lambda point: curves_at(learning, point), workers=1, scheduler=BestAfter(1, metric=study.metric)
    )
    points = [event.point for event in events if isinstance(event, Proposed)]
    first = [curves_at(learning, point).values["probe_agreement"][0] or 0.0 for point in points]
    assert sum(first[-5:]) > sum(first[:5]), "TPE models what the first epoch said"


def test_what_an_earlier_search_found_comes_after_the_listed_points(study: Study) -> None:
    scores = {0.02: 0.2, 0.03: 0.9, 0.05: 0.6, 0.04: 0.4}
    told = Transferred(time=0.0, points=[{"student.lr": rate} for rate in scores], scores=list(scores.values()), sources=["a"] * 4)
    listed = replace(study, start=[{"student.lr": 0.06}])
    proposed = [
        event.point["student.lr"] for event in simulate_sweep(listed, nearest, workers=1, told=told) if isinstance(event, Proposed)
    ]
    assert proposed[:4] == [0.06, 0.03, 0.05, 0.04]


def nearest(point: Point) -> RecordedCurves:
    return by_height({"student.lr": min(HEIGHTS, key=lambda rate: abs(rate - point["student.lr"]))})
