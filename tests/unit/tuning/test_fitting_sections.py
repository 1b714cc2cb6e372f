"""Defaults of teacher and probe set beside what a study says, and that a launch goes on with those it began with."""

from typing import Any

import pytest

from cpsc.errors import ConfigError
from tuning.study.config import load_recorded_study, load_study, resolve_study
from tuning.study.yaml_loader import dump_yaml, to_plain

Raw = dict[str, Any]


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 1), (2, 1), (4, 1), (5, 5), (200, 5)])
def test_a_short_recipe_has_a_warm_up_that_it_holds(raw: Raw, epochs: int, warmup: int) -> None:
    raw["config"]["teacher"] = {"arch": "wrn_10_1", "epochs": epochs}
    recipe = resolve_study(raw).teacher.recipe
    assert recipe is not None
    assert recipe.warmup_epochs == warmup


def test_a_warm_up_that_is_said_is_refused_where_it_does_not_fit(raw: Raw) -> None:
    raw["config"]["teacher"] = {"arch": "wrn_10_1", "epochs": 2, "warmup_epochs": 3}
    with pytest.raises(ConfigError, match=r"^config\.teacher\.warmup_epochs must be <= epochs \(2\), got 3$"):
        resolve_study(raw)


@pytest.mark.parametrize(
    ("said", "num_images", "batch_size"),
    [
        ({}, 1000, 250),
        ({"num_images": 500}, 500, 250),
        ({"num_images": 40}, 40, 40),
        ({"num_images": 600}, 600, 200),
        ({"batch_size": 300}, 1200, 300),
        ({"batch_size": 100}, 1000, 100),
        ({"num_images": 60, "batch_size": 20}, 60, 20),
    ],
)
def test_a_size_of_the_probe_set_brings_the_other_with_it(raw: Raw, said: Raw, num_images: int, batch_size: int) -> None:
    raw["config"]["probe"] = said
    probe = resolve_study(raw).probe
    assert (probe.num_images, probe.batch_size) == (num_images, batch_size)


@pytest.mark.parametrize("said", [{"num_images": 997}, {"num_images": 60, "batch_size": 25}])
def test_sizes_that_no_sensible_batch_fits_are_refused(raw: Raw, said: Raw) -> None:
    raw["config"]["probe"] = said
    with pytest.raises(ConfigError, match=r"num_images must be a multiple of probe\.batch_size"):
        resolve_study(raw)


@pytest.mark.parametrize(("classes", "sizes"), [(200, (1000, 250)), (345, (1035, 345)), (1000, (1000, 1000)), (3000, (3000, 3000))])
def test_an_unsaid_batch_of_the_probe_set_holds_every_class(raw: Raw, classes: int, sizes: tuple[int, int]) -> None:
    raw["config"] |= {"teacher": {"path": "net.pt"}, "dataset": None, "num_classes": classes}
    probe = resolve_study(raw).probe
    assert (probe.num_images, probe.batch_size) == sizes


def test_a_launch_goes_on_with_the_probe_set_that_it_began_with(raw: Raw, tmp_path: Any) -> None:
    raw["config"] |= {"teacher": {"path": "net.pt"}, "dataset": None, "num_classes": 1000}
    earlier, recorded = tmp_path / "earlier.yaml", tmp_path / "recorded.yaml"
    earlier.write_text(dump_yaml(raw))
    assert load_recorded_study(earlier, []).probe.batch_size == 250, "a version before this had no other default"
    study = load_study(earlier)
    recorded.write_text(dump_yaml(to_plain(study.source)))
    assert load_recorded_study(recorded, []).probe == study.probe


def test_what_a_study_says_is_recorded_as_it_is(raw: Raw) -> None:
    raw["config"] |= {"probe": {"num_images": 40}, "teacher": {"arch": "wrn_10_1", "epochs": 2}}
    assert resolve_study(raw).source == raw
