"""The study files that the project ships: each resolves, at every scale, and begins with the published values."""

from dataclasses import asdict
from pathlib import Path

import pytest

from cpsc.methods import METHODS, config_class
from cpsc.presets import preset
from tuning.study import Study, build_config, load_study
from tuning.study.nested_keys import flatten

FOLDER = Path(__file__).parents[3] / "search_spaces"
SCALES = sorted(path.stem for path in (FOLDER / "scales").glob("*.yaml"))
STUDIES = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name != "scales")
ONE_SCALE = ("digits", "digits_vit", "cifar10", "cifar10_methods", "cifar10_reconstructed", "study")
"""Studies that are written for one dataset, or one teacher."""
OF_METHODS = [path for path in STUDIES if path.stem in METHODS]


def at_scale(path: Path, scale: str) -> Study:
    return load_study(path, [f"scale={scale}", *(["dataset.path=somewhere"] if scale != "digits" else [])])


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_resolves_as_it_is(path: Path) -> None:
    assert load_study(path).search.num_trials > 1


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("path", [path for path in STUDIES if path.stem not in ONE_SCALE], ids=lambda path: path.stem)
@pytest.mark.slow
def test_a_study_resolves_at_every_scale_under_a_name_of_its_own(path: Path, scale: str) -> None:
    study = at_scale(path, scale)
    assert study.name == f"{path.stem}-{scale}"
    assert study.dataset is not None
    assert scale.startswith(study.dataset.name)


def test_there_is_a_study_for_each_method() -> None:
    assert {path.stem for path in OF_METHODS} == METHODS.keys()


@pytest.mark.parametrize("path", OF_METHODS, ids=lambda path: path.stem)
def test_the_first_point_holds_the_published_values(path: Path) -> None:
    method = path.stem
    published = dict(flatten(asdict(config_class(method)()))) | dict(flatten(preset(method=method, num_classes=10)))
    study = load_study(path)
    assert study.space.keys() == study.first_point.keys()
    assert all(study.first_point[name] == published[name] for name in study.space)


def test_the_comparison_has_every_method_and_cpsc_with_replay_three_times_at_equal_student_steps() -> None:
    study = load_study(FOLDER / "methods.yaml")
    assert len(study.start) == 33
    kinds = {(point["method"], point.get("replay.kind")) for point in study.start}
    assert kinds == {(method, None) for method in METHODS if method != "cpsc"} | {("cpsc", "none"), ("cpsc", "vae")}
    schedules = [build_config(study.base, point).schedule for point in study.start]
    assert {schedule.iterations * schedule.student_steps for schedule in schedules} == {80}
    assert {schedule.student_batch_size or schedule.batch_size for schedule in schedules} == {64}


def test_memories_are_compared_at_equal_steps() -> None:
    study = load_study(FOLDER / "ablations" / "replay.yaml")
    assert sorted({point["replay.kind"] for point in study.start}) == ["images", "none", "vae"]
    configs = [build_config(study.base, point) for point in study.start]
    assert len(configs) == 9
    assert {(config.replay.every_epochs, config.replay.fraction, config.images_per_epoch) for config in configs} == {
        (1, 0.125, configs[0].images_per_epoch)
    }


def test_the_packaged_comparison_has_each_kind_of_input_three_times() -> None:
    study = load_study(FOLDER / "ablations" / "nayer_inputs.yaml")
    kinds = ["teacher", "pseudo_inverse", "one_hot", "random"]
    assert sorted((point["noisy_layer.class_inputs"], point["seed"]) for point in study.start) == [
        (kind, seed) for kind in sorted(kinds) for seed in range(3)
    ]


def test_each_way_to_draw_by_priority_is_compared_with_uniform_draws_three_times() -> None:
    study = load_study(FOLDER / "ablations" / "priority.yaml")
    drawn = [build_config(study.base, point).inversion for point in study.start]
    ways = {(config.draw, config.priority_exponent, config.importance_exponent) for config in drawn}
    assert ways == {("uniform", 0.6, 0.4)} | {("priority", power, first) for power in (0.3, 0.6, 1.0) for first in (0.4, 1.0)}
    assert len(drawn) == 3 * len(ways)
