"""A study and its teacher: what is switched off or refused for what the teacher does not have, and in which words."""

from pathlib import Path
from typing import Any

import pytest

from cpsc.data.dataset import Normalisation
from cpsc.errors import ConfigError
from cpsc.models import build_model
from cpsc.norms import NormSurvey
from cpsc.teacher import Teacher
from tuning.study import Study, build_config, load_study
from tuning.study.config import resolve_study
from tuning.study.teacher_fit import check_students, fitted, switched_off

Raw = dict[str, Any]
pytestmark = pytest.mark.slow  # teachers are fitted to studies
NONE = NormSurvey(compared=(), left_out={}, others={"GroupNorm": 5})
SOME = NormSurvey(compared=("bn",), left_out={"aux": "does not run"}, others={})


def refusal(study: Study) -> str:
    with pytest.raises(ConfigError) as caught:
        fitted(study, NONE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_teacher_with_batch_norms_changes_nothing(raw: Raw) -> None:
    study = resolve_study(raw)
    assert fitted(study, SOME) is study
    assert switched_off(study, SOME) == ()


def test_both_terms_are_switched_off_and_nothing_else(raw: Raw) -> None:
    study = resolve_study(raw)
    run = fitted(study, NONE)
    before, after = study.config, run.config
    assert (before.weights.batch_statistics, after.weights.batch_statistics) == (1.0, 0.0)
    assert {name for name, weight in vars(after.weights).items() if weight != getattr(before.weights, name)} == {"batch_statistics"}
    assert (study.probe.terms, run.probe.terms) == (
        ("label", "batch_statistics", "total_variation", "image_norm"),
        ("label", "total_variation", "image_norm"),
    )
    assert run.source == study.source
    assert fitted(run, NONE) == run
    assert switched_off(study, NONE) == ("weights.batch_statistics", "probe.batch_statistics")


def test_they_are_switched_off_wherever_the_file_sets_them(raw: Raw) -> None:
    raw["config"] |= {
        "weights": {"batch_statistics": 3.0},
        "by_method": {"dfq": {"weights": {"batch_statistics": 2.0, "balance": 7.0}}},
    }
    raw["space"] = {"method": {"choice": ["cpsc", "dfq"]}}
    raw["config"]["epochs"] = 4
    run = fitted(resolve_study(raw), NONE)
    for method in ("cpsc", "dfq"):
        assert build_config(run.base, {"method": method}).weights.batch_statistics == 0
    assert build_config(run.base, {"method": "dfq"}).weights.balance == 7.0


def test_what_the_file_does_not_use_is_not_said_to_be_switched_off(raw: Raw) -> None:
    raw["config"] |= {"weights": {"batch_statistics": 0}, "probe": {"batch_statistics": 0}}
    assert switched_off(resolve_study(raw), NONE) == ()
    raw["config"]["probe"] = {}
    assert switched_off(resolve_study(raw), NONE) == ("probe.batch_statistics",)


@pytest.mark.parametrize("spec", [{"uniform": [0.1, 2]}, {"choice": [0, 1]}])
def test_a_search_over_a_term_that_has_no_effect_is_refused(raw: Raw, spec: Raw) -> None:
    raw["space"]["weights.batch_statistics"] = spec
    found = refusal(resolve_study(raw))
    assert found == (
        "space.weights.batch_statistics: has no effect, because the teacher has no batch norm with statistics to compare "
        "(5 GroupNorm); leave it out of space and start, or pass --set space.weights.batch_statistics=null"
    )


@pytest.mark.parametrize("file", ["adi", "cifar10", "cmi", "cpsc", "dfq", "digits"])
def test_one_setting_takes_the_term_out_of_a_study_that_searches_it(file: str) -> None:
    path = Path(__file__).parents[3] / "search_spaces" / f"{file}.yaml"
    assert "weights.batch_statistics" in load_study(path).space
    study = load_study(path, ["space.weights.batch_statistics=null"])
    assert not any("weights.batch_statistics" in place for place in (study.space, *study.start))
    if file == "cmi":
        assert refusal(study).startswith("config.weights.contrast: must be 0 and not searched with method cmi")
        study = load_study(
            path, [f"space.weights.{name}=null" for name in ("batch_statistics", "contrast")] + ["weights.contrast=0"]
        )
    assert fitted(study, NONE).config.weights.batch_statistics == 0


def test_a_generator_that_would_learn_nothing_is_refused_also_in_a_corner_of_the_space(raw: Raw) -> None:
    raw["config"]["weights"] = {"adversarial": 0, "label": 0, "contrast": 0}
    raw["space"] = {"student.lr": {"uniform": [0.02, 0.3]}}
    assert "not all 0 in the generator's loss: it would learn nothing" in refusal(resolve_study(raw))
    raw["config"]["weights"] = {"adversarial": 0, "label": 0}
    raw["space"] = {"weights.contrast": {"choice": [0, 1]}}
    found = refusal(resolve_study(raw))
    assert found.startswith("space.weights.contrast: choice(0, 1) has a value that is not allowed")
    assert "weights.batch_statistics does not count, because the teacher has no batch norm" in found


def test_a_probe_set_that_would_be_made_by_nothing_is_refused(raw: Raw) -> None:
    raw["config"]["probe"] = {"label": 0, "total_variation": 0, "image_norm": 0}
    assert refusal(resolve_study(raw)).startswith("config.probe: label, total_variation or image_norm must be > 0")


@pytest.mark.parametrize(
    ("changes", "space", "is_refused"),
    [
        ({}, {"student.lr": {"uniform": [0.02, 0.3]}}, True),
        ({"weights": {"contrast": 0}}, {"student.lr": {"uniform": [0.02, 0.3]}}, False),
        ({"weights": {"contrast": 0}}, {"weights.contrast": {"choice": [0, 1]}}, True),
    ],
)
def test_cmis_contrast_which_compares_batch_norms_is_refused_until_it_is_0(
    raw: Raw, changes: Raw, space: Raw, is_refused: bool
) -> None:
    raw["config"] |= {"method": "cmi"} | changes
    study = resolve_study(raw | {"space": space})
    if is_refused:
        assert refusal(study).startswith(
            "config.weights.contrast: must be 0 and not searched with method cmi, whose term compares the inputs of batch norms"
        )
    else:
        assert fitted(study, NONE).config.weights.batch_statistics == 0


def test_a_student_cannot_begin_with_weights_that_its_teacher_does_not_have(raw: Raw) -> None:
    raw["config"]["student"] = {"arch": "wrn_10_2", "initial": "selected", "warmup_epochs": 1}
    study = resolve_study(raw)
    check_students(study, untrained("wrn_16_2"))
    with pytest.raises(ConfigError, match=r"^config\.student\.initial must be 'random' .* the teacher has \["):
        check_students(study, untrained("wrn_10_1"))
    raw["config"]["student"]["initial"] = "random"
    check_students(resolve_study(raw), untrained("wrn_10_1"))


def test_a_student_that_cannot_be_made_of_its_teacher_is_refused_before_anything_starts(raw: Raw) -> None:
    raw["config"]["student"] = {"arch": "wrn_10_2", "initial": "reconstructed", "hints": 1, "warmup_epochs": 1}
    check_students(resolve_study(raw), untrained("wrn_16_2"))
    with pytest.raises(ConfigError, match=r"^config\.student\.initial must not be 'reconstructed' .* the teacher has no block1"):
        check_students(resolve_study(raw), untrained("wrn_10_1"))


def untrained(arch: str) -> Teacher:
    network = build_model(arch, num_classes=10, channels=1)
    return Teacher(
        arch=arch,
        class_names=tuple("0123456789"),
        channels=1,
        image_size=8,
        normalisation=Normalisation(mean=(0.5,), std=(0.5,)),
        dataset="digits",
        test_accuracy=None,
        state=network.state_dict(),
    )
