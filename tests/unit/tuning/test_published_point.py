"""Published values of what is searched: by the method, within the ranges, and first of all points where they are a prior."""

from typing import Any

import pytest

from cpsc.errors import ConfigError
from cpsc.methods import METHODS
from tests.unit.tuning.conftest import Write
from tuning.search.first_points import first_points
from tuning.study import build_config, load_study
from tuning.study.base_config import BaseConfig
from tuning.study.config import resolve_study
from tuning.study.published_point import published_point, published_values
from tuning.study.search_space import parse_space
from tuning.sweep.examiners import begins_with
from tuning.trial.examiners import examiners_folder

Raw = dict[str, Any]
PRIOR = {"search": {"sampler": "prior"}}
OWN: Raw = {"epochs": 9, "student": {"arch": "wrn_10_1", "warmup_epochs": 1}}


def values(space: Raw, method: str | None = None, **own: Any) -> Raw:
    base = BaseConfig(own=OWN | own)
    return published_values(base, parse_space(space, base), method)


def test_what_the_config_says_is_published_and_the_methods_values_else() -> None:
    space = {"weights.l2": {"loguniform": [0.1, 100]}, "contrast_temperature": {"uniform": [0.01, 1]}}
    config = build_config(BaseConfig(own=OWN), {})
    assert values(space) == {"weights.l2": config.weights.l2, "contrast_temperature": config.contrast_temperature}
    assert values(space, weights={"l2": 3.0})["weights.l2"] == 3.0


def test_a_value_beyond_the_range_is_at_its_nearer_end_and_one_between_steps_at_the_next() -> None:
    assert values({"weights.l2": {"loguniform": [0.1, 2]}}, weights={"l2": 3.0}) == {"weights.l2": 2}
    assert values({"weights.l2": {"loguniform": [0.1, 2]}}, weights={"l2": 0.0}) == {"weights.l2": 0.1}
    assert values({"weights.l2": {"quniform": [0, 2, 0.5]}}, weights={"l2": 1.3}) == {"weights.l2": 1.5}


def test_a_value_that_is_none_of_the_options_or_no_number_is_left_out() -> None:
    assert values({"weights.l2": {"choice": [1, 2]}}, weights={"l2": 3.0}) == {}
    assert values({"weights.l2": {"choice": [1, 2]}}, weights={"l2": 2.0}) == {"weights.l2": 2}
    assert values({"student.clip_norm": {"loguniform": [0.1, 10]}}) == {}


def test_each_method_has_its_own_values() -> None:
    one, other = list(METHODS)[:2]
    space = {"method": {"choice": [one, other]}, "generator.lr": {"loguniform": [1e-6, 1]}}
    by_method = {name: build_config(BaseConfig(own=OWN), {"method": name}).generator.lr for name in (one, other)}
    assert by_method[one] != by_method[other]
    assert {name: values(space, name)["generator.lr"] for name in (one, other)} == by_method
    assert values(space, other)["method"] == other


def test_the_published_point_has_a_conditional_parameter_where_it_exists() -> None:
    one, other = list(METHODS)[:2]
    for default in (one, other):
        base = BaseConfig(own=OWN | {"method": default})
        space = {"generator.lr": {"loguniform": [1e-4, 1e-2], "when": {"method": other}}, "method": {"choice": [one, other]}}
        point = published_point(base, parse_space(space, base))
        assert point["method"] == default
        assert ("generator.lr" in point) is (default == other)


def test_where_nothing_is_published_the_point_has_the_first_option_or_the_middle() -> None:
    base = BaseConfig(own=OWN)
    space = parse_space({"student.clip_norm": {"loguniform": [0.1, 10]}, "student.lr": {"choice": [0.03, 0.07]}}, base)
    assert published_point(base, space) == {"student.clip_norm": pytest.approx(1.0), "student.lr": 0.03}


def test_a_prior_begins_with_the_published_point_unless_it_is_listed(raw: Raw) -> None:
    alone = resolve_study(raw | PRIOR)
    assert alone.start == resolve_study(raw | {"start": [{}]}).start
    before = resolve_study(raw | PRIOR | {"start": [{"student.lr": 0.2}]})
    assert before.start == [*alone.start, *resolve_study(raw | {"start": [{"student.lr": 0.2}]}).start]
    listed = [{"student.lr": 0.2}, {}]
    assert resolve_study(raw | PRIOR | {"start": listed}).start == resolve_study(raw | {"start": listed}).start
    assert resolve_study(raw).start == []


def test_examiners_of_a_prior_begin_with_the_published_point_and_are_kept_apart(raw: Raw, assets: Any) -> None:
    with_examiners = raw | {"objective": "exam_score"}
    study = resolve_study(with_examiners | PRIOR)
    points = begins_with(study)
    assert (len(points), points[0]) == (4, study.start[0])
    assert points[1:] == first_points(resolve_study(with_examiners), 3)
    assert examiners_folder(study, assets.teacher) != examiners_folder(resolve_study(with_examiners), assets.teacher)


@pytest.mark.parametrize(("confidence", "deviation"), [("low", 0.5), ("medium", 0.25), ("high", 0.125), (0.03, 0.03), (1, 1)])
def test_confidence_is_said_by_name_or_as_a_deviation(raw: Raw, write: Write, confidence: Any, deviation: float) -> None:
    study = load_study(write(raw | {"search": {"sampler": "prior", "prior": {"confidence": confidence}}}))
    assert study.search.prior_deviation == deviation
    assert resolve_study(raw | PRIOR).search.prior_deviation == 0.25


@pytest.mark.parametrize("confidence", ["hihg", True, 0, 1.5, None, [0.1], "0.1", float("nan")])
def test_another_confidence_is_refused(raw: Raw, confidence: Any) -> None:
    with pytest.raises(ConfigError, match=r"^study\.search\.prior\.confidence: must be low, medium, high, or a standard deviation"):
        resolve_study(raw | {"search": {"sampler": "prior", "prior": {"confidence": confidence}}})


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_another_sampler_has_no_prior(raw: Raw, sampler: str) -> None:
    with pytest.raises(ConfigError, match=rf"^search\.prior: only sampler prior uses it, got sampler {sampler}; "):
        resolve_study(raw | {"search": {"sampler": sampler, "prior": {"confidence": "low"}}})
