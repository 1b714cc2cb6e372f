"""Distances on a space's own scale, and curves of the nearest recorded trials."""

import math
from typing import Any

import pytest

from cpsc.errors import ConfigError
from tests.support.curves import drawn_record
from tuning.simulation.distance import SpaceDistances
from tuning.simulation.leave_one_out import lookup_quality
from tuning.simulation.lookup import CurveLookup
from tuning.simulation.record import METRICS, SECONDS, Record, RecordedCurves
from tuning.study.config import resolve_study
from tuning.study.distributions import Distribution
from tuning.study.nested_keys import Point

SPACE = {
    "weight": Distribution("loguniform", (0.01, 1.0)),
    "rate": Distribution("uniform", (2.0, 6.0)),
    "steps": Distribution("randint", (1, 6)),
    "kind": Distribution("choice", ("a", "b", 1, True, None)),
    "size": Distribution("quniform", (0.0, 10.0, 0.5), when={"kind": ("a",)}),
}
POINT = {"weight": 0.1, "rate": 4.0, "steps": 3, "kind": "b"}


def distance(one: Point, other: Point) -> float:
    (found,) = SpaceDistances(SPACE, [one]).to(other)
    assert found == SpaceDistances(SPACE, [other]).to(one)[0]
    return float(found)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.0),
        ({"weight": 0.01}, 0.5),
        ({"weight": 1.0}, 0.5),
        ({"rate": 5.0}, 0.25),
        ({"steps": 5}, 0.5),
        ({"kind": None}, 1.0),
        ({"rate": 6.0, "steps": 1}, math.sqrt(0.5)),
        ({"kind": "a", "size": 2.0}, math.sqrt(2)),
    ],
)
def test_a_distance_is_what_the_ranges_make_of_it(changes: dict[str, Any], expected: float) -> None:
    assert distance(POINT, POINT | changes) == pytest.approx(expected)


def test_options_are_told_apart_by_their_kind_too() -> None:
    assert distance(POINT | {"kind": 1}, POINT | {"kind": True}) == 1.0


def test_a_parameter_that_both_have_counts_by_its_value() -> None:
    assert distance(POINT | {"kind": "a", "size": 0.0}, POINT | {"kind": "a", "size": 5.0}) == pytest.approx(0.5)


def curves(number: int, rate: float, *scores: float, diverged: bool = False) -> RecordedCurves:
    values: dict[str, list[float | None]] = {metric: [None] * len(scores) for metric in METRICS}
    values |= {"probe_agreement": list(scores), "test_accuracy": list(scores), SECONDS: [1.0] * len(scores)}
    return RecordedCurves(number=number, point={"rate": rate}, diverged=diverged, values=values)


RATE = {"rate": SPACE["rate"]}


def record_of(*trials: RecordedCurves) -> Record:
    return Record(launch="drawn", objective="probe_agreement", epochs=2, space={}, config={}, trials=trials)


RECORD = record_of(curves(0, 2.0, 0.1, 0.2), curves(1, 3.0, 0.3, 0.6), curves(2, 6.0, 0.9, 0.8))


def test_the_nearest_trial_answers_and_of_equally_near_ones_the_first() -> None:
    lookup = CurveLookup(RECORD, RATE)
    assert [lookup({"rate": rate}).number for rate in (2.0, 2.4, 2.5, 2.6, 4.5, 4.6)] == [0, 0, 0, 1, 1, 2]


def test_neighbours_are_averaged_by_the_inverse_of_their_distance() -> None:
    found = CurveLookup(RECORD, RATE, neighbours=2)({"rate": 2.75})
    assert found.number == 1
    assert found.values["probe_agreement"] == pytest.approx([0.1 * 0.25 + 0.3 * 0.75, 0.2 * 0.25 + 0.6 * 0.75])
    assert found.values["probe_kl"] == [None, None]


def test_a_trial_at_the_point_itself_answers_alone() -> None:
    assert CurveLookup(RECORD, RATE, neighbours=3)({"rate": 3.0}) is RECORD.trials[1]


def test_one_that_diverged_answers_alone_or_not_at_all() -> None:
    record = record_of(curves(0, 2.0, 0.4, diverged=True), *RECORD.trials[1:])
    lookup = CurveLookup(record, RATE, neighbours=2)
    assert lookup({"rate": 2.1}).diverged
    assert lookup({"rate": 2.9}).values["probe_agreement"] == pytest.approx([0.3, 0.6])


@pytest.mark.parametrize("neighbours", [0, 4])
def test_as_many_neighbours_as_there_are_trials_at_most(neighbours: int) -> None:
    with pytest.raises(ConfigError, match=r"--neighbours: must be in 1\.\.3"):
        CurveLookup(RECORD, RATE, neighbours=neighbours)


def test_a_trial_is_foretold_by_the_others_alone() -> None:
    lookup = CurveLookup(RECORD, RATE)
    assert [lookup(trial.point, without=index).number for index, trial in enumerate(RECORD.trials)] == [1, 0, 1]
    quality = lookup_quality(RECORD, RATE, neighbours=1)
    assert quality.result == quality.test_accuracy == pytest.approx(0.0)
    assert quality.error == pytest.approx(0.4)


def test_more_trials_foretell_better(raw: dict[str, Any]) -> None:
    study = resolve_study(raw)
    few, many = (lookup_quality(drawn_record(study, count), study.space, neighbours=1) for count in (20, 400))
    assert few.result is not None
    assert many.result is not None
    assert many.result > max(few.result, 0.6)
    assert many.error < few.error
