"""Every value of the study file's schema, given as each other kind of value: all are refused, by their path."""

import copy
import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

from cpsc.data import DatasetConfig
from cpsc.data.dataset import Normalisation
from cpsc.errors import ConfigError
from cpsc.methods import config_class
from cpsc.probe import ProbeConfig
from cpsc.published import PublishedConfig
from cpsc.teacher_training import TeacherRecipe
from tuning.study.base_config import parameter_paths
from tuning.study.config import StudyFile, resolve_study
from tuning.study.nested_keys import set_path
from tuning.study.search_space import FIXED_PATHS, REPEATED_PATH

Raw = dict[str, Any]
STUDY: Raw = {
    "name": "small",
    "config": {
        "dataset": {"name": "parquet", "path": "images", "mean": [0.5] * 3, "std": [0.5] * 3},
        "teacher": {"path": "teacher.pt"},
    },
}
ROOTS: dict[str, tuple[type, Raw]] = {
    "": (StudyFile, {}),
    "config": (config_class("cpsc"), {}),
    "config.probe": (ProbeConfig, {}),
    "config.dataset": (DatasetConfig, {}),
    "config.teacher": (TeacherRecipe, {"teacher": {"arch": "wrn_10_1"}}),
    "config.teacher ": (PublishedConfig, {}),
    "config.teacher.normalisation": (Normalisation, {"teacher": {"path": "t.pt", "normalisation": {"mean": [0.5], "std": [0.5]}}}),
}
"""Where a settings class stands in the file, and what of ``config`` makes it stand there."""
NOT_NUMBERS = [True, False, "1", "1e-3", "x", "", "nan", [1], {}, math.nan, math.inf, -math.inf]
FRACTIONS = [1.5, 2.0, 1e300]
OTHERS: dict[Any, list[Any]] = {
    float: NOT_NUMBERS,
    int: [*NOT_NUMBERS, *FRACTIONS],
    bool: [0, 1, 1.0, "no", "yes", "true", "", [], {}],
    str: [True, False, 0, 1.5, ["x"], {"x": 1}],
}


def leaves(kind: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value's path below a settings class, with its kind."""
    hints = (
        {name: item.annotation for name, item in kind.model_fields.items()}
        if issubclass(kind, BaseModel)
        else {item.name: typing.get_type_hints(kind)[item.name] for item in dataclasses.fields(kind)}
    )
    for name, hint in hints.items():
        below = f"{path}.{name}".lstrip(".")
        optional = [kind for kind in options(hint) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if optional or (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
            yield from leaves(optional[0] if optional else hint, below)
        else:
            yield below, hint


def options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def wrong_values(hint: Any) -> list[Any]:
    """What is of none of the kinds that `hint` allows."""
    kinds = options(hint)
    missing = [] if type(None) in kinds else [None]
    kind, *others = [kind for kind in kinds if kind is not type(None) and not dataclasses.is_dataclass(kind)]
    if others:
        wrong_too = [{repr(value) for value in wrong_values(other)} for other in others]
        return [value for value in wrong_values(kind) if all(repr(value) in found for found in wrong_too)]
    if typing.get_origin(kind) is Literal:
        return [*OTHERS[str], *missing]
    if typing.get_origin(kind) in (tuple, list):
        item, *_ = typing.get_args(kind)
        item = typing.get_args(item)[0] if typing.get_origin(item) is Annotated else item
        return [[value] for value in [*OTHERS[item], None]] + [True, 1, "1", *missing]
    return [*OTHERS[kind], *missing] if kind in OTHERS else []


LEAVES = [
    (path, hint, setting)
    for root, (kind, setting) in ROOTS.items()
    for path, hint in leaves(kind, root.strip())
    if not (root == "" and path in ("config", "space", "start", "scale", "transfer"))
]


def with_value(path: str, value: Any, setting: Raw) -> Raw:
    raw = copy.deepcopy(STUDY)
    raw["config"] |= copy.deepcopy(setting)
    level = raw
    *parents, leaf = path.split(".")
    for parent in parents:
        level = level.setdefault(parent, {})
    level[leaf] = value
    return raw


@pytest.mark.parametrize(("path", "hint", "setting"), LEAVES, ids=[path for path, _, _ in LEAVES])
def test_a_value_of_another_kind_is_refused_wherever_it_stands(path: str, hint: Any, setting: Raw) -> None:
    wrong = wrong_values(hint)
    assert wrong
    for value in wrong:
        with pytest.raises(ConfigError) as caught:
            resolve_study(with_value(path, value, setting))
        assert path.rpartition(".")[0] in str(caught.value), value


def test_the_walk_reaches_every_class_of_settings() -> None:
    numbers = [path for path, hint, _ in LEAVES if {int, float} & {*options(hint), *typing.get_args(hint)}]
    assert len(numbers) > 80
    assert {"search.num_trials", "prune.reduction_factor", "resources.gpus", "config.weights.kl", "config.cmi.bank_size"} <= {
        *numbers
    }
    assert {"config.probe.lr", "config.teacher.epochs", "config.teacher.channels", "config.dataset.image_size"} <= {*numbers}


HINTS = {path.removeprefix("config."): hint for path, hint in leaves(config_class("cpsc"), "config")}
SEARCHED = [path for path in parameter_paths() if path not in (*FIXED_PATHS, REPEATED_PATH) and "tuple" not in str(HINTS[path])]


@pytest.mark.parametrize("path", SEARCHED)
def test_a_value_of_another_kind_is_refused_among_those_to_search_and_to_start_with(path: str) -> None:
    default = parameter_paths()[path]
    option = {str: "x", bool: not default, int: 2, float: 0.5}.get(type(default), 0.5)
    for value in [value for value in wrong_values(HINTS[path]) if value in (True, 0, 1.5, "1", "no", None)]:
        with pytest.raises(ConfigError, match=r"^space\."):
            resolve_study(STUDY | {"space": {path: {"choice": [default, value]}}})
        with pytest.raises(ConfigError):
            resolve_study(STUDY | {"space": {path: {"choice": [default, option]}}, "start": [{path: value}]})


@pytest.mark.parametrize("path", HINTS)
def test_a_value_of_another_kind_is_refused_among_the_settings_of_one_method(path: str) -> None:
    for value in wrong_values(HINTS[path]):
        nested: Raw = {}
        set_path(nested, path, value)
        if not isinstance(value, float) or math.isfinite(value):  # a kind of number, which a rule may refuse
            with pytest.raises(ConfigError, match=rf"^config\.by_method\.dafl\.{path}"):
                resolve_study(STUDY | {"config": STUDY["config"] | {"by_method": {"dafl": nested}}})


@pytest.mark.parametrize("sampler", ["uniform", "loguniform", "quniform", "randint", "lograndint", "qrandint"])
def test_a_range_takes_numbers_alone(sampler: str) -> None:
    for value in [*NOT_NUMBERS, None, *(FRACTIONS if "int" in sampler else [])]:
        for arguments in ([value, 8, 1], [1, value, 1]):
            spec = {sampler: arguments if sampler.startswith("q") else arguments[:2]}
            with pytest.raises(ConfigError, match=rf"^space\.weights\.l2\.{sampler}: "):
                resolve_study(STUDY | {"space": {"weights.l2": spec}})


def test_fractions_are_no_values_of_a_whole_number() -> None:
    for spec in ({"quniform": [2, 8, 2]}, {"uniform": [2, 8]}, {"loguniform": [2, 8]}):
        with pytest.raises(ConfigError, match="input should be a valid integer"):
            resolve_study(STUDY | {"space": {"student.warmup_epochs": spec}})
    resolve_study(STUDY | {"space": {"student.warmup_epochs": {"qrandint": [2, 8, 2]}}})


@pytest.mark.parametrize("options_", [[1, 1], [1, 1.0], [True, 1], [0.5, 0.5], [0, -0.0]])
def test_an_option_is_listed_once(options_: list[Any]) -> None:
    with pytest.raises(ConfigError, match="twice, or a value equal to it"):
        resolve_study(STUDY | {"space": {"weights.l2": {"choice": options_}}})


@pytest.mark.parametrize("value", [True, "1", None, math.nan, math.inf, [1]])
def test_the_least_accuracy_is_a_number(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"config\.teacher\.min_accuracy"):
        resolve_study(with_value("config.teacher.min_accuracy", value, {}))


def test_a_quoted_number_beyond_floating_point_is_told_with_its_path() -> None:
    with pytest.raises(ConfigError, match=r"^config\.weights\.kl: input should be a valid number, got '1e999'"):
        resolve_study(with_value("config.weights.kl", "1e999", {}))


@pytest.mark.parametrize("quoted", ["1e-3", "5", "no"])
def test_a_quoted_number_is_told_as_the_text_that_it_is(quoted: str) -> None:
    path = "config.compile" if quoted == "no" else "config.weights.kl"
    with pytest.raises(ConfigError, match=rf"got '{quoted}', a text: write it without quotes"):
        resolve_study(with_value(path, quoted, {}))
