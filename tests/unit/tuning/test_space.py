"""Paths, ranges, starting points, and how a point becomes a config."""

import copy
from typing import Any

import pytest
from ray.tune.search.sample import Categorical, Float, Integer

from cpsc.errors import ConfigError
from cpsc.methods import config_class
from tuning.study import build_config
from tuning.study.base_config import BaseConfig, check_path, parameter_paths
from tuning.study.distributions import Distribution, to_tune
from tuning.study.nested_keys import copy_nested, flatten, merge, set_path
from tuning.study.search_space import parse_space
from tuning.study.start_points import grid_points, parse_start

OWN: dict[str, Any] = {"epochs": 9, "student": {"arch": "wrn_10_1", "warmup_epochs": 1}}
BASE = BaseConfig(own=OWN)


def refusal(space: dict[str, Any], base: BaseConfig = BASE) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_space(space, base)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_point_is_laid_over_the_base_and_the_base_stays_as_it_was() -> None:
    base = BaseConfig(own={"epochs": 9, "student": {"warmup_epochs": 1}, "weights": {"kl": 2.0}})
    before = copy.deepcopy(base)
    config = build_config(base, {"weights.contrast": 0.5, "student.lr": 0.25, "cpsc.l2": "mse"})
    assert (config.weights.contrast, config.student.lr, config.cpsc.l2) == (0.5, 0.25, "mse")
    assert (config.weights.kl, config.epochs) == (2.0, 9)
    assert base == before


def test_a_point_wins_over_the_base() -> None:
    assert build_config(BaseConfig(own={"student": {"lr": 0.1}}), {"student.lr": 0.2}).student.lr == 0.2


def test_an_empty_base_and_point_are_the_published_config() -> None:
    assert build_config(BaseConfig(own={}), {}) == config_class("cpsc")()


def test_a_point_below_a_plain_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^weights\.kl: weights is a single value, it has no parameters of its own$"):
        build_config(BaseConfig(own={"weights": 3}), {"weights.kl": 1.0})


def test_a_point_that_breaks_a_rule_names_path_rule_and_value() -> None:
    with pytest.raises(ConfigError, match=r"^config\.student\.momentum must be in \[0, 1\), got 1\.5$"):
        build_config(BASE, {"student.momentum": 1.5})


def test_parameters_are_the_leaves_of_the_config() -> None:
    known = parameter_paths()
    assert known["weights.contrast"] == 0.7
    assert known["contrast_temperature"] == 0.07
    assert known["student.lr"] == 0.1
    assert "weights" not in known
    assert "student" not in known


def test_flatten_and_set_path_undo_each_other() -> None:
    nested = {"a": 1, "b": {"c": 2, "d": {"e": [3]}}}
    rebuilt: dict[str, Any] = {}
    for path, value in flatten(nested):
        set_path(rebuilt, path, value)
    assert dict(flatten(nested)) == {"a": 1, "b.c": 2, "b.d.e": [3]}
    assert rebuilt == nested


def test_merge_goes_level_by_level_and_changes_neither_side() -> None:
    under, over = {"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}, "b": {"z": 4}}
    kept = copy.deepcopy((under, over))
    merged = merge(under, over)
    assert merged == {"a": {"x": 1, "y": 3}, "b": {"z": 4}}
    merged["b"]["z"] = 5
    assert over["b"] == {"z": 4}, "a level that only one side has is a copy, too"
    assert (under, over) == kept


def test_a_copy_can_be_written_without_touching_the_original() -> None:
    nested = {"a": {"b": 1}}
    copy_nested(nested)["a"]["b"] = 2
    assert nested == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("path", "meant"),
    [("weights.contrst", "weights.contrast"), ("contrast_temprature", "contrast_temperature"), ("momentum", "student.momentum")],
)
def test_an_unknown_path_is_answered_with_the_nearest(path: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_path(path, where="space")
    assert str(caught.value) == f"space.{path}: unknown parameter, did you mean {meant}?"


def test_an_unknown_path_without_a_neighbour_lists_some_parameters() -> None:
    with pytest.raises(ConfigError, match=r"^space\.zzz: unknown parameter, parameters are method, epochs"):
        check_path("zzz", where="space")


def test_every_parameter_is_a_known_path() -> None:
    for path in parameter_paths():
        check_path(path, where="space")


def test_valid_ranges_are_kept_as_written() -> None:
    space = parse_space(
        {
            "weights.contrast": {"loguniform": [0.05, 5]},
            "weights.l2": {"quniform": [0, 2, 0.5]},
            "schedule.student_steps": {"randint": [1, 6]},
            "schedule.batch_size": {"lograndint": [2, 64]},
            "generator.width": {"qrandint": [8, 64, 8]},
            "cpsc.contrast_base_temperature": {"choice": [None, 0.07]},
        },
        BASE,
    )
    assert space["weights.contrast"] == Distribution("loguniform", (0.05, 5))
    assert space["weights.l2"] == Distribution("quniform", (0, 2, 0.5))
    assert space["generator.width"] == Distribution("qrandint", (8, 64, 8))
    assert space["cpsc.contrast_base_temperature"] == Distribution("choice", (None, 0.07))
    assert [str(space[path]) for path in ("schedule.student_steps", "schedule.batch_size")] == [
        "randint(1, 6)",
        "lograndint(2, 64)",
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"loguniformm": [0.1, 1]}, "space.weights.contrast: unknown sampling function 'loguniformm', did you mean loguniform?"),
        ({"zzz": [0.1, 1]}, "space.weights.contrast: unknown sampling function 'zzz', use one of uniform, loguniform,"),
        ({"uniform": [2, 1]}, "space.weights.contrast.uniform: lower must be below upper, got [2, 1]"),
        ({"uniform": [1, 1]}, "space.weights.contrast.uniform: lower must be below upper, got [1, 1]"),
        ({"loguniform": [0, 1]}, "space.weights.contrast.loguniform: lower must be > 0 on a logarithmic scale, got 0"),
        ({"lograndint": [0, 5]}, "space.weights.contrast.lograndint: lower must be > 0 on a logarithmic scale, got 0"),
        ({"uniform": [1]}, "space.weights.contrast.uniform: takes 2 numbers, got [1]"),
        ({"uniform": [1, 2, 3]}, "space.weights.contrast.uniform: takes 2 numbers, got [1, 2, 3]"),
        ({"quniform": [1, 2]}, "space.weights.contrast.quniform: takes 3 numbers, got [1, 2]"),
        ({"quniform": [0, 1, 0]}, "space.weights.contrast.quniform: the step must be > 0 and at most 1, got 0"),
        ({"quniform": [0, 1, 2]}, "space.weights.contrast.quniform: the step must be > 0 and at most 1, got 2"),
        ({"uniform": [True, 2]}, "space.weights.contrast.uniform: takes finite numbers, got True"),
        ({"uniform": ["0.1", 2]}, "space.weights.contrast.uniform: takes finite numbers, got '0.1'"),
        ({"uniform": [float("nan"), 2]}, "space.weights.contrast.uniform: takes finite numbers, got nan"),
        ({"uniform": [0, float("inf")]}, "space.weights.contrast.uniform: takes finite numbers, got inf"),
        ({"uniform": [None, 1]}, "space.weights.contrast.uniform: takes finite numbers, got None"),
        ({"randint": [1.0, 2]}, "space.weights.contrast.randint: takes integers, got 1.0"),
        ({"choice": [1]}, "space.weights.contrast.choice: must list at least two plain values, got [1]"),
        ({"choice": []}, "space.weights.contrast.choice: must list at least two plain values, got []"),
        ({"choice": [1, [2]]}, "space.weights.contrast.choice: must list at least two plain values, got [1, [2]]"),
        ({"choice": [1, {"uniform": [1, 2]}]}, "space.weights.contrast.choice: must list at least two plain values"),
        ({"uniform": 1}, "space.weights.contrast.uniform: must be a list, got 1"),
        ({"uniform": {"lower": 1}}, "space.weights.contrast.uniform: must be a list, got {'lower': 1}"),
        (0.5, "space.weights.contrast: must be one sampling function and its arguments, e.g. {loguniform: [0.01, 10]}, got 0.5"),
        ([0.1, 1], "space.weights.contrast: must be one sampling function and its arguments"),
        ({}, "space.weights.contrast: must be one sampling function and its arguments"),
        ({"uniform": [0, 1], "choice": [1, 2]}, "space.weights.contrast: must be one sampling function and its arguments"),
        ({3: [0, 1]}, "space.weights.contrast: unknown sampling function 3"),
    ],
)
def test_a_malformed_range_is_refused_by_path_rule_and_value(spec: Any, message: str) -> None:
    assert refusal({"weights.contrast": spec}).startswith(message)


@pytest.mark.parametrize(
    ("path", "spec", "rule"),
    [
        ("student.momentum", {"uniform": [0.5, 1.5]}, "config.student.momentum must be in [0, 1), got 1.5"),
        ("student.lr", {"uniform": [0, 0.1]}, "config.student.lr must be > 0, got 0"),
        ("weights.contrast", {"uniform": [-1, 1]}, "config.weights.contrast must be >= 0, got -1"),
        ("student.warmup_epochs", {"randint": [0, 11]}, "config.student.warmup_epochs must be <= epochs (9), got 10"),
        ("generator.width", {"choice": [64, 63]}, "config.generator.width must be even and >= 2, got 63"),
        ("cpsc.l2", {"choice": ["mse", "l1"]}, "config.cpsc.l2: input should be 'log_norm', 'log_mse' or 'mse', got 'l1'"),
        ("student.arch", {"uniform": [0, 1]}, "config.student.arch: input should be a valid string, got 0"),
        ("schedule.batch_size", {"randint": [1, 64]}, "config.schedule.batch_size must be >= 2 (batch norm), got 1"),
    ],
)
def test_a_range_whose_edge_breaks_a_rule_of_the_config_is_refused(path: str, spec: dict[str, Any], rule: str) -> None:
    message = refusal({path: spec})
    assert message.startswith(f"space.{path}: {next(iter(spec))}(")
    assert "not allowed" in message
    assert rule in message


def test_the_exclusive_upper_edge_of_randint_is_not_itself_a_value() -> None:
    parse_space({"student.warmup_epochs": {"randint": [0, 10]}}, BASE)  # 9 is the highest it draws and the last allowed


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("epochs", "budget that pruning divides"),
        ("seed", "that would tune luck"),
        ("diverged_above", "which trials count as diverged"),
    ],
)
def test_the_budget_the_seed_and_the_limit_of_divergence_cannot_be_searched(path: str, reason: str) -> None:
    message = refusal({path: {"randint": [1, 5]}})
    assert message.startswith(f"space.{path}: cannot be searched, ")
    assert reason in message


def test_a_choice_of_more_options_than_any_search_tells_apart_is_refused() -> None:
    parse_space({"weights.l2": {"choice": list(range(1, 101))}}, BASE)
    assert "choice: must list at most 100 values, got 101" in refusal({"weights.l2": {"choice": list(range(1, 102))}})


def test_a_value_that_is_a_whole_file_is_shown_in_part() -> None:
    assert len(refusal({"weights.l2": {"uniform": ["x" * 10_000, 1]}})) < 300


def test_a_section_is_not_a_parameter() -> None:
    assert refusal({"weights": {"uniform": [0, 1]}}).startswith("space.weights: unknown parameter")


@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("student.warmup_epochs", {"uniform": [0, 2]}),
        ("student.warmup_epochs", {"quniform": [0, 4, 0.5]}),
        ("schedule.student_steps", {"loguniform": [1, 4]}),
        ("generator.decay_lr", {"uniform": [0, 1]}),
    ],
)
def test_a_continuous_range_of_a_whole_numbered_parameter_is_refused(path: str, spec: dict[str, Any]) -> None:
    """Both edges are whole, but a trial would draw a fraction in between and end the sweep."""
    assert path in refusal({path: spec})


def test_an_architecture_that_does_not_exist_is_refused_among_the_options() -> None:
    assert "wrn_11_1" in refusal({"student.arch": {"choice": ["wrn_10_1", "wrn_11_1"]}})


def test_two_ranges_that_only_together_break_a_rule_are_refused() -> None:
    """Each range alone is fine; a trial that draws 0 for both has no student loss."""
    assert "weights" in refusal({"weights.kl": {"choice": [0.0, 1.0]}, "weights.l2": {"choice": [0.0, 1.0]}})


@pytest.mark.parametrize("spec", [{"quniform": [0.1, 1.0, 0.25]}, {"quniform": [0.0, 1.0, 0.3]}])
def test_edges_off_the_grid_are_refused_here_and_not_by_ray(spec: dict[str, Any]) -> None:
    """Ray raises ValueError for them when the sweep starts."""
    assert "quniform" in refusal({"weights.contrast": spec})


def test_an_integer_beyond_floating_point_is_refused() -> None:
    assert "latent_dim" in refusal({"generator.latent_dim": {"randint": [1, 10**400]}})


def start_refusal(points: list[dict[str, Any]], space: dict[str, Distribution], base: BaseConfig = BASE) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_start(points, space, base)
    assert "\n" not in str(caught.value)
    return str(caught.value)


SPACE = {
    "weights.contrast": Distribution("uniform", (0.05, 5)),
    "student.lr": Distribution("uniform", (0.02, 0.3)),
    "schedule.student_steps": Distribution("randint", (1, 6)),
    "cpsc.contrast": Distribution("choice", ("teacher_anchor", "two_view")),
}


def test_a_partial_point_is_completed_from_the_config_and_then_from_the_published_values() -> None:
    points = parse_start([{"weights.contrast": 1.0}, {}], SPACE, BaseConfig(own={**OWN, "student": {**OWN["student"], "lr": 0.2}}))
    assert points[0] == {"weights.contrast": 1.0, "student.lr": 0.2, "schedule.student_steps": 5, "cpsc.contrast": "teacher_anchor"}
    assert points[1] == points[0] | {"weights.contrast": 0.7}


def test_a_published_value_outside_the_range_is_refused_too() -> None:
    narrow = {"student.lr": Distribution("uniform", (0.2, 0.3))}
    assert start_refusal([{}], narrow) == ("start[0].student.lr: 0.1 lies outside uniform(0.2, 0.3), start points must lie inside")


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"weights.contrast": 6.0}, "start[1].weights.contrast: 6.0 lies outside uniform(0.05, 5)"),
        ({"weights.contrast": "1.0"}, "start[1].weights.contrast: '1.0', a text: write it without quotes"),
        ({"weights.contrast": None}, "start[1].weights.contrast: None lies outside"),
        ({"weights.contrast": float("nan")}, "start[1].weights.contrast: nan lies outside"),
        ({"schedule.student_steps": 6}, "start[1].schedule.student_steps: 6 lies outside randint(1, 6)"),
        ({"cpsc.contrast": "other"}, "start[1].cpsc.contrast: 'other' lies outside choice(teacher_anchor, two_view)"),
        ({"weights.label": 0.5}, "start[1].weights.label: is not searched, list it under space or set it under config"),
        ({"weights.contrst": 0.5}, "start[1].weights.contrst: unknown parameter, did you mean weights.contrast?"),
    ],
)
def test_a_wrong_starting_point_is_refused_by_its_place(point: dict[str, Any], message: str) -> None:
    assert start_refusal([{}, point], SPACE).startswith(message)


@pytest.mark.parametrize(("path", "value"), [("schedule.student_steps", 2.5), ("weights.contrast", True)])
def test_a_starting_value_of_the_wrong_type_is_refused(path: str, value: Any) -> None:
    assert start_refusal([{path: value}], SPACE).startswith(f"start[0].{path}: {value!r}")


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (Distribution("uniform", (0.5, 2)), [0.5, 1, 2], [0.4, 2.1, "1", None]),
        (Distribution("randint", (1, 6)), [1, 5], [0, 6]),
        (Distribution("lograndint", (1, 6)), [1, 5], [0, 6]),
        (Distribution("qrandint", (2, 8, 2)), [2, 8], [0, 10]),
        (Distribution("choice", ("a", None)), ["a", None], ["b", 0]),
    ],
)
def test_a_range_knows_what_it_contains(domain: Distribution, inside: list[Any], outside: list[Any]) -> None:
    assert all(domain.contains(value) for value in inside)
    assert not any(domain.contains(value) for value in outside)


def test_edges_are_the_extreme_values_that_can_be_drawn() -> None:
    assert Distribution("randint", (1, 6)).edges == (1, 5)
    assert Distribution("lograndint", (1, 6)).edges == (1, 5)
    assert Distribution("qrandint", (2, 8, 2)).edges == (2, 8)
    assert Distribution("uniform", (0.1, 0.2)).edges == (0.1, 0.2)
    assert Distribution("choice", ("a", "b", "c")).edges == ("a", "b", "c")


def test_ranges_become_the_domains_of_the_same_name() -> None:
    domains = to_tune(
        {
            "u": Distribution("uniform", (0.5, 2.0)),
            "l": Distribution("loguniform", (0.01, 10.0)),
            "i": Distribution("randint", (1, 4)),
            "c": Distribution("choice", ("a", "b")),
        }
    )
    assert isinstance(domains["u"], Float)
    assert (domains["u"].lower, domains["u"].upper) == (0.5, 2.0)
    assert isinstance(domains["l"], Float)
    assert type(domains["l"].get_sampler()).__name__ == "_LogUniform"
    assert isinstance(domains["i"], Integer)
    assert isinstance(domains["c"], Categorical)
    assert domains["c"].categories == ["a", "b"]


@pytest.mark.parametrize(
    "domain",
    [
        Distribution("randint", (1, 4)),
        Distribution("lograndint", (1, 4)),
        Distribution("qrandint", (2, 8, 2)),
        Distribution("quniform", (0.0, 1.0, 0.25)),
        Distribution("loguniform", (0.1, 1.0)),
        Distribution("choice", ("a", "b")),
    ],
)
def test_what_ray_draws_lies_inside_the_range_and_reaches_both_edges(domain: Distribution) -> None:
    drawn = to_tune({"x": domain})["x"].sample(size=300, random_state=0)
    assert all(domain.contains(value.item() if hasattr(value, "item") else value) for value in drawn)
    if domain.sampler != "loguniform":
        assert {domain.edges[0], domain.edges[-1]} <= set(drawn)


# Methods, conditions and grids

BY_METHOD = BaseConfig(own={"epochs": 9, "student": {"warmup_epochs": 1}}, by_method={"dafl": {"epochs": 5}})
CONDITIONAL: dict[str, Any] = {
    "weights.contrast": {"uniform": [0.1, 1], "when": {"method": "cpsc"}},
    "weights.one_hot": {"uniform": [0.1, 1], "when": {"method": ["dafl", "pre_dfkd"]}},
    "method": {"choice": ["cpsc", "dafl", "pre_dfkd"]},
}


def test_settings_of_a_method_lie_over_the_others_and_its_preset_under_them() -> None:
    config = build_config(BY_METHOD, {"method": "dafl"})
    assert (config.method, config.epochs, config.weights.balance, config.weights.contrast) == ("dafl", 5, 5.0, 0.0)
    assert config.student.warmup_epochs == 1
    assert build_config(BY_METHOD, {}).epochs == 9


def test_a_named_preset_is_that_of_the_points_method() -> None:
    toolbox = BaseConfig(own={"epochs": 9, "student": {"warmup_epochs": 1}}, preset="toolbox")
    assert build_config(toolbox, {"method": "dafl"}).weights.balance == 20.0
    with pytest.raises(ConfigError, match=r"config.preset 'toolbox': unknown for method cpsc, use one of paper, reference"):
        build_config(toolbox, {})


def test_a_parameter_may_exist_for_some_methods_only_and_comes_after_what_it_depends_on() -> None:
    space = parse_space(CONDITIONAL, BY_METHOD)
    assert list(space) == ["method", "weights.contrast", "weights.one_hot"]
    assert space["weights.contrast"].is_active({"method": "cpsc"})
    assert not space["weights.contrast"].is_active({"method": "dafl"})
    assert not space["weights.contrast"].is_active({})
    assert str(space["weights.one_hot"]) == "uniform(0.1, 1) when method in dafl, pre_dfkd"


def test_a_parameter_that_a_searched_method_does_not_have_is_refused_without_its_condition() -> None:
    space = CONDITIONAL | {"weights.contrast": {"uniform": [0.1, 1]}}
    assert "weights.contrast must be 0 for method dafl, which has no such term" in refusal(space, BY_METHOD)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"methd": "cpsc"}, "space.weights.contrast.when.methd: must be a parameter that space lists as a choice"),
        ({"weights.one_hot": 0.5}, "space.weights.contrast.when.weights.one_hot: must be a parameter that space lists as a choice"),
        ({"method": "zskt"}, "space.weights.contrast.when.method: 'zskt' is not one of cpsc, dafl, pre_dfkd"),
        ({}, "space.weights.contrast.when: must be parameters and their values"),
        ("cpsc", "space.weights.contrast.when: must be parameters and their values"),
        ({"method": []}, "space.weights.contrast.when.method: must be a value or a list of values"),
        ({"method": [["cpsc"]]}, "space.weights.contrast.when.method: must be a value or a list of values"),
    ],
)
def test_a_wrong_condition_is_refused_by_its_place(when: Any, message: str) -> None:
    space = CONDITIONAL | {"weights.contrast": {"uniform": [0.1, 1], "when": when}}
    assert refusal(space, BY_METHOD).startswith(message)


def test_a_starting_point_holds_what_exists_beside_its_method() -> None:
    space = parse_space(CONDITIONAL, BY_METHOD)
    start = parse_start([{}, {"method": "dafl", "weights.one_hot": 0.2}], space, BY_METHOD)
    assert start == [{"method": "cpsc", "weights.contrast": 0.7}, {"method": "dafl", "weights.one_hot": 0.2}]
    with pytest.raises(ConfigError, match=r"start\[0\].weights.one_hot: the rest of the point does not meet its condition"):
        parse_start([{"weights.one_hot": 0.2}], space, BY_METHOD)


def grid(raw: dict[str, Any], points: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    return grid_points(points or [], parse_space(raw, BY_METHOD, is_grid=True), BY_METHOD)


def test_a_grid_is_every_combination_that_exists() -> None:
    raw = {
        "method": {"choice": ["cpsc", "dafl"]},
        "replay.kind": {"choice": ["none", "vae"], "when": {"method": "cpsc"}},
        "seed": {"choice": [0, 1]},
    }
    points = grid(raw)
    assert len(points) == 6
    assert {"method": "cpsc", "replay.kind": "vae", "seed": 1} in points
    assert {"method": "dafl", "seed": 0} in points


def test_a_grid_of_listed_points_repeats_them_over_what_none_mentions() -> None:
    raw = {
        "weights.kl": {"choice": [0.0, 1.0]},
        "weights.l2": {"choice": [0.0, 5.0]},
        "seed": {"choice": [0, 1]},
    }
    points = grid(raw, [{"weights.kl": 0.0}, {"weights.l2": 0.0}])
    assert points == [{"weights.kl": kl, "weights.l2": l2, "seed": seed} for kl, l2 in ((0.0, 5.0), (1.0, 0.0)) for seed in (0, 1)]


def test_a_grid_refuses_a_point_that_leaves_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"space: the grid's point .* is not allowed: .*weights.kl"):
        grid({"weights.kl": {"choice": [0.0, 1.0]}, "weights.l2": {"choice": [0.0, 5.0]}})


def test_a_grid_takes_lists_and_a_search_no_seed() -> None:
    with pytest.raises(ConfigError, match=r"space.weights.l2: must be a list with sampler grid"):
        grid({"weights.l2": {"uniform": [0.0, 5.0]}})
    assert refusal({"seed": {"choice": [0, 1]}}).startswith("space.seed: cannot be searched, that would tune luck")
