"""The floors of a search's ground, by hand, and one teacher and probe set ruined in each way that is known."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from cpsc.data import digits
from cpsc.ground import DOUBT, Ground, findings, is_surely_above, is_surely_below
from cpsc.ground_survey import survey_ground, variety
from cpsc.probe import ProbeConfig, ProbeSet, synthesise
from cpsc.teacher import Teacher
from cpsc.teacher_training import TeacherRecipe, train_teacher
from tests.support.ruined import PROBES, SOUND, TEACHERS

CPU = torch.device("cpu")
CONFIG = ProbeConfig(num_images=100, batch_size=100, steps=60, batch_statistics=0.1, precision="fp32")


def found(**changes: Any) -> dict[str, bool]:
    """What is found against a ground that is sound but for `changes`, and whether it is fatal."""
    return {finding.name: finding.is_fatal for finding in findings(replace(SOUND, **changes))}


def test_nothing_is_said_of_sound_ground() -> None:
    assert found() == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"label_rate": 0.10}, {"label_rate": True}),
        ({"label_rate": 0.10, "num_images": 20}, {"label_rate": False}),
        ({"label_rate": 0.27}, {"label_rate": False}),
        ({"label_rate": 0.63}, {"label_rate": False}),
        ({"label_rate": 0.65}, {}),
        ({"label_rate": 0.20, "num_classes": 5}, {"label_rate": True}),
        ({"label_rate": 0.45, "num_classes": 2}, {"label_rate": True}),
        ({"label_rate": 0.30, "num_classes": 100}, {"label_rate": False}),
        ({"largest_class": 0.99}, {"class_balance": True}),
        ({"largest_class": 0.99, "num_images": 20}, {"class_balance": False}),
        ({"largest_class": 0.6}, {"class_balance": False}),
        ({"largest_class": 0.6, "num_classes": 2}, {}),
        ({"margin": 0.004}, {"confidence": True}),
        ({"margin": 0.05}, {"confidence": False}),
        ({"margin": 4000.0}, {"confidence": False}),
        ({"variety": 0.3}, {"variety": True}),
        ({"variety": 11.0}, {"variety": False}),
        ({"finite": 0.998}, {"not_finite": True}),
        ({"num_lost": 2}, {"lost_classes": False}),
        ({"num_unasked": 3}, {"unasked_classes": False}),
        ({"at_bounds": 0.84}, {"at_bounds": False}),
        ({"untouched_norms": 1.0}, {"untouched_norms": False}),
        ({"teacher_accuracy": 0.13}, {"teacher_accuracy": False}),
        ({"teacher_accuracy": 0.36, "num_test": 500}, {}),
        ({"teacher_accuracy": None}, {}),
    ],
)
def test_each_figure_has_its_floor(changes: dict[str, Any], expected: dict[str, bool]) -> None:
    assert found(**changes) == expected


def test_a_finding_is_a_line_that_says_figure_floor_meaning_and_what_to_try() -> None:
    (finding,) = findings(replace(SOUND, label_rate=0.2, num_classes=5))
    assert str(finding) == (
        "the teacher gives 20.0 % of 500 probe images the class they were made for (floor 36.0 %, good from 68.0 %, guessing "
        "gives 20.0 %): it does not recognise its own probe set, and agreement there says nothing; try more probe.steps, another "
        "probe.lr or less probe.batch_statistics; else its weights, normalisation and image_size"
    )


def test_the_fatal_ones_come_first() -> None:
    assert list(found(margin=0.001, at_bounds=0.9, num_unasked=1)) == ["confidence", "unasked_classes", "at_bounds"]


def test_a_ground_comes_back_out_of_a_record() -> None:
    for changes in ({}, {"teacher_accuracy": None, "num_test": 0}):
        ground = replace(SOUND, **changes)
        assert Ground.from_params({"epochs": "9"} | ground.to_params()) == ground
    assert Ground.from_params({"epochs": "9", "teacher.digest": "abc"}) is None, "an earlier version wrote none"
    assert Ground.from_params(ground.to_params() | {"ground.margin": "?"}) is None


@pytest.mark.parametrize(("floor", "num"), [(0.28, 20), (0.28, 500), (0.9, 100), (0.5, 37)])
def test_luck_is_below_a_floor_in_fewer_than_one_of_a_thousand_cases(floor: float, num: int) -> None:
    hits = [k for k in range(num + 1) if is_surely_below(k / num, floor, num)]
    assert sum(math.comb(num, k) * floor**k * (1 - floor) ** (num - k) for k in hits) < DOUBT
    assert hits == list(range(len(hits)))
    assert [num - k for k in reversed(range(num + 1)) if is_surely_above(k / num, 1 - floor, num)] == hits


def test_certain_floors_and_shares_are_no_errors() -> None:
    assert is_surely_below(0.5, 1.0, 10)
    assert is_surely_above(0.5, 0.0, 10)
    assert not is_surely_above(1.0, 1.0, 10)
    assert not is_surely_below(0.0, 0.0, 10)


def test_variety_is_the_distance_of_the_nearest_image_in_grey_levels() -> None:
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    images[1], images[2] = 10, 14
    assert variety(images) == pytest.approx(4.0)
    assert variety(images[:1]) == math.inf
    assert variety(torch.full((40, 3, 8, 8), 200, dtype=torch.uint8)) < 0.5


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    """Of some 95 % on digits."""
    recipe = TeacherRecipe(arch="wrn_10_1", epochs=6, batch_size=64, warmup_epochs=1, precision="fp32")
    return train_teacher(recipe, digits.load(), CPU)


@pytest.fixture(scope="module")
def probe(teacher: Teacher) -> ProbeSet:
    return synthesise(teacher, CONFIG, CPU)


def judged(teacher: Teacher, probe: ProbeSet) -> dict[str, bool]:
    return {finding.name: finding.is_fatal for finding in findings(survey_ground(teacher, probe, CPU))}


@pytest.mark.slow
def test_a_good_teacher_and_its_probe_set_are_sound(teacher: Teacher, probe: ProbeSet) -> None:
    assert judged(teacher, probe) == {}


EXPECTED: dict[str, tuple[str, bool]] = {
    "untrained": ("untouched_norms", True),
    "classifier zeroed": ("confidence", True),
    "one class dominates": ("class_balance", True),
    "two classes lost": ("lost_classes", False),
    "batch norms reset": ("untouched_norms", False),
    "batch norms shuffled": ("label_rate", False),
    "logits x1000": ("confidence", False),
    "logits x0.001": ("confidence", True),
    "std a tenth": ("variety", False),
    "std ten times": ("label_rate", False),
    "some classes": ("unasked_classes", False),
    "grey": ("variety", True),
    "one image a class": ("variety", True),
    "black and white": ("at_bounds", False),
}
"""What is said of each at the least, and whether it must be refused, for that or another figure."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEACHERS)
def test_a_teacher_that_is_ruined_is_found_out(kind: str, teacher: Teacher) -> None:
    ruined = TEACHERS[kind](teacher)
    name, is_refused = EXPECTED[kind]
    said = judged(ruined, synthesise(ruined, CONFIG, CPU))
    assert name in said
    assert not is_refused or any(said.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", PROBES)
def test_a_probe_set_that_is_ruined_is_found_out(kind: str, teacher: Teacher, probe: ProbeSet) -> None:
    name, is_refused = EXPECTED[kind]
    said = judged(teacher, PROBES[kind](probe))
    assert name in said
    assert any(said.values()) is is_refused


@pytest.mark.slow
def test_a_probe_set_of_too_few_steps_is_refused(teacher: Teacher) -> None:
    assert judged(teacher, synthesise(teacher, replace(CONFIG, steps=1), CPU))["label_rate"]


@pytest.mark.slow
def test_a_teacher_whose_answers_overflow_is_found_out(teacher: Teacher, probe: ProbeSet) -> None:
    state = {name: tensor * 1e38 if tensor.ndim == 2 else tensor for name, tensor in teacher.state.items()}
    assert judged(replace(teacher, state=state), probe)["not_finite"]
