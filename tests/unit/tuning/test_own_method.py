"""A study of a method of the user's own: what it brings along is set, searched, recorded and refused as all else is."""

from typing import Any

import pytest

from cpsc.errors import ConfigError
from cpsc.methods import effective_settings
from tests.unit.cpsc.ninth_method import DoubtConfig
from tests.unit.tuning.conftest import Write
from tuning.replay.replay import Changes
from tuning.study.base_config import build_config, parameter_paths, users_methods
from tuning.study.config import load_study, resolve_study
from tuning.study.nested_keys import flatten

NINTH = "tests.unit.cpsc.ninth_method:Doubt"
OWN_SPACE = {"weights.doubt": {"loguniform": [0.1, 10]}, "doubting.temperature": {"uniform": [1, 8]}}


@pytest.fixture
def own(raw: dict[str, Any]) -> dict[str, Any]:
    raw["config"]["method"] = NINTH
    raw["space"] = dict(OWN_SPACE)
    return raw


@pytest.fixture
def both(raw: dict[str, Any]) -> dict[str, Any]:
    raw["space"] = {"method": {"choice": ["cpsc", NINTH]}}
    raw["space"] |= {path: spec | {"when": {"method": NINTH}} for path, spec in OWN_SPACE.items()}
    raw["space"]["weights.contrast"] = {"loguniform": [0.05, 5], "when": {"method": "cpsc"}}
    return raw


def test_its_preset_lies_under_the_studys_settings(own: dict[str, Any]) -> None:
    own["config"] |= {"doubting": {"temperature": 3.0}, "weights": {"one_hot": 0.25}}
    config = resolve_study(own).config
    assert (config.method, config.section(DoubtConfig).temperature) == (NINTH, 3.0)
    assert {term: weight for term, weight in vars(config.weights).items() if weight} == {"kl": 1, "one_hot": 0.25, "doubt": 0.5}


def test_its_term_and_its_section_are_searched(own: dict[str, Any]) -> None:
    study = resolve_study(own | {"start": [{"weights.doubt": 2.0}]})
    assert study.space.keys() == OWN_SPACE.keys()
    assert study.first_point == {"weights.doubt": 2.0, "doubting.temperature": 2.0}
    said = dict(flatten(effective_settings(build_config(study.base, study.first_point))))
    assert (said["weights.doubt"], said["doubting.temperature"]) == (2.0, 2.0)


def test_beside_another_method_they_have_a_condition(both: dict[str, Any]) -> None:
    both["start"] = [{"method": "cpsc", "weights.contrast": 0.5}, {"method": NINTH, "weights.doubt": 1.5}]
    points = resolve_study(both).start
    assert points == [
        {"method": "cpsc", "weights.contrast": 0.5},
        {"method": NINTH, "weights.doubt": 1.5, "doubting.temperature": 2.0},
    ]
    del both["space"]["weights.doubt"]["when"]
    with pytest.raises(
        ConfigError, match=r"^space\.weights\.doubt: .* has a value that is not allowed: config\.weights\.doubt: unknown key"
    ):
        resolve_study(both)


def test_a_grid_runs_it_beside_another(both: dict[str, Any]) -> None:
    both["space"] = {
        "method": {"choice": ["cpsc", NINTH]},
        "doubting.temperature": {"choice": [1.0, 4.0], "when": {"method": NINTH}},
    }
    both["search"] = {"sampler": "grid"}
    points = resolve_study(both).start
    assert points == [{"method": "cpsc"}, *({"method": NINTH, "doubting.temperature": value} for value in (1.0, 4.0))]
    del both["space"]["doubting.temperature"]["when"]
    with pytest.raises(ConfigError, match=r"grid's point .* is not allowed: config\.doubting: unknown key"):
        resolve_study(both)


def test_settings_by_method_and_assignments_reach_it(own: dict[str, Any], write: Write) -> None:
    own["config"]["by_method"] = {NINTH: {"doubting": {"temperature": 5.0}}}
    own["space"] = {"weights.one_hot": {"uniform": [0, 1]}}
    study = load_study(write(own), ["weights.doubt=0.75"])
    assert study.config.weights["doubt"] == 0.75
    assert study.config.section(DoubtConfig).temperature == 5.0
    changed = load_study(write(own), [f"method={NINTH}", "doubting.temperature=6"])
    assert changed.config.section(DoubtConfig).temperature == 6.0


MISTAKES = [
    ({"doubting": {"temprature": 3}}, "config.doubting.temprature: unknown key, did you mean temperature?"),
    ({"doubting": {"temperature": "3"}}, "config.doubting.temperature: input should be a valid number, got '3'"),
    ({"weights": {"doubt": True}}, "config.weights.doubt: input should be a valid number, got True"),
    ({"weights": {"dobt": 1.0}}, "config.weights.dobt: unknown key, did you mean doubt?"),
    ({"weights": {"l2": 1.0}}, f"config.weights.l2 must be 0 for method {NINTH}, which has no such term, got 1.0"),
    ({"preset": "papr"}, f"config.preset 'papr': unknown for method {NINTH}, use one of original"),
    ({"method": "nowhere:Mine"}, "config.method nowhere:Mine: there is no module nowhere"),
    (
        {"by_method": {"nowhere:Mine": {"epochs": 2}}},
        "method nowhere:Mine: there is no module nowhere",
    ),
    ({"by_method": {NINTH: {"weights": {"dobt": 1}}}}, f"config.by_method.{NINTH}.weights.dobt: unknown parameter, did you mean"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_in_what_it_brings_is_told_by_its_path(own: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    own["config"] |= changes
    with pytest.raises(ConfigError) as caught:
        resolve_study(own)
    assert str(caught.value).startswith(message)


def test_what_it_brings_is_no_parameter_of_a_study_without_it(raw: dict[str, Any]) -> None:
    raw["space"]["weights.doubt"] = {"uniform": [0, 1]}
    with pytest.raises(ConfigError, match=r"^space\.weights\.doubt: unknown parameter"):
        resolve_study(raw)
    assert "weights.doubt" not in parameter_paths()
    assert "weights.doubt" in parameter_paths((NINTH,))


@pytest.mark.parametrize("malformed", [None, 3, [], {"method": {"choice": 3}}, {"method": 3}])
def test_users_methods_are_found_in_whatever_a_file_holds(malformed: Any) -> None:
    assert users_methods(malformed, malformed) == set()
    assert users_methods({"method": NINTH, "by_method": malformed}, malformed) == {NINTH}
    assert users_methods({"by_method": {NINTH: {}, "cpsc": {}}}, {"method": {"choice": ["a:B", "dafl"]}}) == {NINTH, "a:B"}


def test_a_replay_tells_its_searched_parameters_from_the_studys_settings() -> None:
    changes = Changes.parse(["weights.doubt=2", "resources.cpus=2"], searched=["weights.doubt"])
    assert changes == Changes(point={"weights.doubt": 2}, study=["resources.cpus=2"])
