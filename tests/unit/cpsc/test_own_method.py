"""A method of the user's own, by import path: what its class must be, and that nothing else need know of it."""

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from cpsc import methods
from cpsc.config import DistillConfig
from cpsc.errors import ConfigError
from cpsc.methods import METHODS, NO_TERMS, AbstractMethod, check_method, config_class, effective_settings, method_class
from cpsc.methods.cpsc import Cpsc
from cpsc.presets import preset
from tests.unit.cpsc import ninth_method
from tests.unit.cpsc.ninth_method import Doubt, DoubtConfig

NINTH = "tests.unit.cpsc.ninth_method:Doubt"


def made(**changes: Any) -> DistillConfig:
    kind = config_class(NINTH)
    weights = dataclasses.replace(kind().weights, **(preset(method=NINTH, num_classes=4)["weights"] | changes.pop("weights", {})))
    return kind(method=NINTH, weights=weights, **changes)


def test_a_method_takes_a_file_of_under_forty_lines() -> None:
    assert len(Path(ninth_method.__file__).read_text().splitlines()) < 40


def test_it_is_found_by_its_import_path_and_brings_its_term_and_its_section() -> None:
    assert method_class(NINTH) is Doubt
    config = made(doubting=DoubtConfig(temperature=3.0))
    check_method(config)
    assert isinstance(config, DistillConfig)
    assert (config.weights["doubt"], config.section(DoubtConfig).temperature) == (0.5, 3.0)
    said = effective_settings(config)
    assert said["weights"] == {"kl": 1.0, "one_hot": 1.0, "doubt": 0.5}
    assert said["doubting"] == {"temperature": 3.0}
    assert not {"cpsc", "cmi", "inversion"} & said.keys()


def test_what_it_brings_is_not_there_for_other_methods() -> None:
    ours = config_class("cpsc")
    assert all(config_class(method) is ours for method in METHODS)
    assert not hasattr(ours(), "doubting")
    assert "doubt" not in vars(ours().weights)
    assert config_class(NINTH) is config_class(NINTH)


def test_every_method_brings_names_of_its_own() -> None:
    sections = [(name, kind) for method in METHODS.values() for name, kind in method.SECTIONS.items()]
    assert len(dict(sections)) == len(sections) == len({kind for _, kind in sections})


def test_a_ninth_of_ours_would_be_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "ninth", Doubt)
    methods._ours.cache_clear()
    try:
        kind = config_class("ninth")
        assert kind is config_class("cpsc")  # of which all have the terms and sections of all
        assert (kind().weights["doubt"], kind().section(DoubtConfig)) == (0.0, DoubtConfig())
        config = kind(method="ninth", weights=type(kind().weights)(**preset(method="ninth", num_classes=4)["weights"]))
        check_method(config)
        assert effective_settings(config)["weights"] == {"kl": 1.0, "one_hot": 1.0, "doubt": 0.5}
        with pytest.raises(ConfigError, match=r"^weights\.doubt must be 0 for method cpsc, which has no such term, got 1.0"):
            check_method(kind(weights=dataclasses.replace(kind().weights, doubt=1.0)))
        with pytest.raises(ConfigError, match=r"^doubting\.temperature must be left out for method cpsc, which does not have it"):
            check_method(kind(doubting=DoubtConfig(temperature=3.0)))
    finally:
        methods._ours.cache_clear()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"l2": 1.0}, f"weights.l2 must be 0 for method {NINTH}, which has no such term, got 1.0"),
        ({"doubt": -1.0}, "weights.doubt must be >= 0, got -1.0"),
        ({"kl": 0.0}, f"weights.kl must be > 0 for method {NINTH}: the student would learn nothing"),
        ({"doubt": 0.0, "one_hot": 0.0}, "weights must be not all 0 in the generator's loss: it would learn nothing, got 0.0"),
    ],
)
def test_its_own_terms_obey_the_rules_of_all(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_method(made(weights=weights))
    assert str(caught.value) == message


def test_its_warm_up_leaves_out_what_it_calls_adversarial() -> None:
    method = Doubt(made(), teacher=None, student=None)
    assert method.needs_student
    schedule = dataclasses.replace(DistillConfig().schedule, generator_warmup_epochs=2)
    warming_up = made(weights={"one_hot": 0.0}, schedule=schedule)
    assert method.warmup_weights == {"doubt": 0.0, "one_hot": 1.0}
    with pytest.raises(ConfigError, match=r"generator_warmup_epochs must be 0 if the generator learns from weights\.doubt only"):
        check_method(warming_up)


def test_a_config_of_it_can_travel_to_another_process() -> None:
    config = made(doubting=DoubtConfig(temperature=3.0))
    for module in (pickle, cloudpickle):
        assert module.loads(module.dumps(config)) == config
    assert copy.deepcopy(config) == config
    assert pickle.loads(pickle.dumps(config_class("cmi")(method="cmi"))) == config_class("cmi")(method="cmi")


class WithoutTerms(AbstractMethod):
    PRESETS = {"original": ()}  # noqa: RUF012 - as a user writes it


class WithoutPresets(Doubt):
    PRESETS = {}  # noqa: RUF012 - as a user writes it


class WithOddTerms(Doubt):
    GENERATOR_TERMS = "label"  # a text is a tuple of letters, of which each is a name
    STUDENT_TERMS = ("my term",)


class WithTakenSection(Doubt):
    SECTIONS = {"student": DoubtConfig}  # noqa: RUF012 - as a user writes it


class WithOpenSection(Doubt):
    SECTIONS = {"doubting": dict}  # noqa: RUF012 - as a user writes it


class Child(Cpsc):
    """A method of ours, changed: it has its section, and its own class of everything."""


function = print

REFUSED = [
    (
        "vanilla",
        "method 'vanilla': unknown, use one of cpsc, pre_dfkd, dafl, zskt, dfad, adi, dfq, cmi, nayer, fast_dfkd, or your own as ",
    ),
    ("my method:Mine", "method must have the form package.module:Class, got 'my method:Mine'"),
    (
        "nowhere.at_all:Mine",
        "method nowhere.at_all:Mine: there is no module nowhere: make it importable here and on every node",
    ),
    (f"{__name__}:Absent", "has no 'Absent'"),
    (f"{__name__}:function", "must be a class derived from cpsc.methods.AbstractMethod, got a builtin_function_or_method"),
    (f"{__name__}:Path", "must be a class derived from cpsc.methods.AbstractMethod, got another class"),
    (f"{__name__}:WithoutTerms", "lacks generator_terms, student_terms"),
    (f"{__name__}:WithoutPresets", "must have PRESETS, its default settings"),
    (f"{__name__}:WithOddTerms", "GENERATOR_TERMS and STUDENT_TERMS must be tuples of names, got 'my term' in one"),
    (f"{__name__}:WithTakenSection", "SECTIONS must have names that DistillConfig does not have, got 'student'"),
    (f"{__name__}:WithOpenSection", "SECTIONS must be frozen dataclasses with a default for each field, doubting is not"),
]


@pytest.mark.parametrize(("name", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_no_method_is_refused_in_a_line(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_class(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    if ":" in name:
        assert str(caught.value).startswith(f"method {name}: ") or "must have the form" in message


def test_a_method_of_ours_can_be_built_upon() -> None:
    name = f"{__name__}:Child"
    config = config_class(name)(method=name)
    check_method(config)
    assert NO_TERMS.keys() == vars(config.weights).keys()
