import dataclasses
from typing import Any

import pytest

from cpsc.config import DistillConfig, GeneratorConfig
from cpsc.errors import ConfigError
from cpsc.methods import METHODS, config_class
from cpsc.methods.cpsc import CpscConfig
from cpsc.presets import fitting, preset
from cpsc.schedule import generator_lr, student_lr
from tests.support.configs import config_of, laid


def test_the_paper_preset_changes_nothing() -> None:
    assert preset("paper", num_classes=10) == {}


@pytest.mark.parametrize(("num_classes", "l2"), [(10, "log_mse"), (99, "log_mse"), (100, "mse"), (199, "mse")])
def test_the_reference_preset_switches_on_all_published_deviations_and_picks_the_l2_form(num_classes: int, l2: str) -> None:
    assert preset("reference", num_classes=num_classes) == {
        "generator": {"optimizer": "fresh", "decay_lr": False},
        "cpsc": {
            "label_input": "probs",
            "l2": l2,
            "l2_detach_teacher": True,
            "contrast": "two_view",
            "contrast_base_temperature": 0.07,
            "adapter_renormalise": False,
            "adapter_train": False,
        },
    }


@pytest.mark.parametrize(
    ("num_classes", "batch"), [(10, 512), (100, 512), (199, 512), (200, 256), (999, 256), (1000, 64), (1001, 64)]
)
@pytest.mark.parametrize("name", ["paper", "reference"])
def test_cpscs_batch_is_the_papers_for_cifar_tiny_imagenet_and_imagenet(name: str, num_classes: int, batch: int) -> None:
    config = config_of({}, name=name, num_classes=num_classes)
    assert config.schedule.batch_size == batch
    assert (config.schedule.generator_steps, config.schedule.student_steps, config.schedule.iterations) == (6, 5, 50)


def test_a_users_own_batch_goes_over_the_datasets() -> None:
    own = {"schedule": {"batch_size": 96}}
    assert config_of(own, name="paper", num_classes=200).schedule.batch_size == 96
    assert config_of(own, {"schedule.batch_size": 48}, name="paper", num_classes=200).schedule.batch_size == 48


@pytest.mark.parametrize(
    ("num_classes", "steps", "batch", "turns", "lr"), [(10, 30, 400, 2, 0.2), (100, 40, 400, 2, 0.2), (200, 60, 200, 4, 0.1)]
)
def test_nayer_has_the_settings_of_its_scripts_by_dataset(num_classes: int, steps: int, batch: int, turns: int, lr: float) -> None:
    config = config_of({"method": "nayer"}, num_classes=num_classes)
    schedule = config.schedule
    assert (schedule.generator_steps, schedule.batch_size, schedule.generator_turns, config.student.lr) == (steps, batch, turns, lr)
    assert (schedule.generator_warmup_epochs, schedule.generator_warmup_turns) == (20, 10 if num_classes < 200 else 20)


@pytest.mark.parametrize("method", [method for method in METHODS if method not in ("cpsc", "nayer")])
def test_no_other_preset_has_a_batch_that_hangs_on_the_dataset(method: str) -> None:
    for name in METHODS[method].PRESETS:
        batches = {preset(name, method=method, num_classes=classes)["schedule"]["batch_size"] for classes in (10, 100, 200, 1000)}
        assert len(batches) == 1


@pytest.mark.parametrize(("epoch", "factor"), [(1, 1.0), (99, 1.0), (100, 0.1), (199, 0.1), (200, 0.01), (500, 0.01)])
def test_dfads_rates_fall_with_the_epochs_100_and_200_before_which_its_code_steps_its_schedulers(epoch: int, factor: float) -> None:
    config = config_of({"method": "dfad"}, name="original")
    assert student_lr(config.student, epoch=epoch, epochs=500) == pytest.approx(0.1 * factor)
    assert generator_lr(config.generator, epoch=epoch, epochs=500) == pytest.approx(1e-3 * factor)


@pytest.mark.parametrize(("epoch", "lr"), [(800, 0.1), (801, 0.01), (1600, 0.01), (1601, 1e-3)])
def test_dafls_code_counts_its_epochs_from_0_and_has_800_of_each_before_the_last(epoch: int, lr: float) -> None:
    config = config_of({"method": "dafl"}, name="original")
    assert student_lr(config.student, epoch=epoch, epochs=2000) == pytest.approx(lr)


def test_the_toolboxs_adi_has_each_of_its_forms_and_the_original_none() -> None:
    toolbox, original = (config_of({"method": "adi"}, name=name) for name in ("toolbox", "original"))
    assert (toolbox.switches.disagreement, original.switches.disagreement) == ("unbounded", "jensen_shannon")
    assert (toolbox.switches.total_variation, original.switches.total_variation) == ("mean", "norm")
    assert (toolbox.inversion.clip, toolbox.inversion.clip_noise, original.inversion.clip) == (True, False, False)
    assert (toolbox.inversion.quantise, original.inversion.quantise) == ("truncate", "round")
    assert (toolbox.inversion.jitter, original.inversion.jitter) == (None, 2)
    assert toolbox.switches.image_prior == original.switches.image_prior == "plain"


@pytest.mark.parametrize(("name", "form"), [("original", "warmed"), ("reference", "cold")])
def test_pre_dfkds_published_code_starts_its_spectral_norm_cold(name: str, form: str) -> None:
    assert config_of({"method": "pre_dfkd"}, name=name).generator.spectral_norm == form


def test_changing_what_preset_returns_leaves_the_preset_alone() -> None:
    for method, kind in METHODS.items():
        for name in kind.PRESETS:
            expected = preset(name, method=method, num_classes=100)
            for section in preset(name, method=method, num_classes=100).values():
                if isinstance(section, dict):
                    section["broken"] = True
            assert preset(name, method=method, num_classes=100) == expected


def test_the_reference_preset_differs_from_the_defaults_in_every_value() -> None:
    changes = preset("reference", num_classes=10)
    for section, default in (("generator", GeneratorConfig()), ("cpsc", CpscConfig())):
        assert all(getattr(default, name) != value for name, value in changes[section].items())


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="preset 'papr': unknown for method cpsc, use one of paper, reference"):
        preset("papr", num_classes=10)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="method 'vanilla': unknown, use one of cpsc, pre_dfkd, dafl"):
        preset("original", method="vanilla", num_classes=10)


@pytest.mark.parametrize("method", METHODS)
def test_every_preset_names_settings_that_exist(method: str) -> None:
    for name in METHODS[method].PRESETS:
        for key, value in preset(name, method=method, num_classes=10).items():
            assert key in {field.name for field in dataclasses.fields(config_class(method))}
            if isinstance(value, dict):
                assert value.keys() <= vars(getattr(config_class(method)(), key)).keys()


def weights(method: str, name: str, num_classes: int = 10) -> dict[str, Any]:
    return {term: value for term, value in preset(name, method=method, num_classes=num_classes)["weights"].items() if value}


@pytest.mark.parametrize(
    ("method", "name", "num_classes", "expected"),
    [
        ("pre_dfkd", "original", 100, {"l1": 1, "adversarial": 1, "one_hot": 1, "balance": 5, "activation": 0.1}),
        ("dafl", "original", 10, {"kl": 1, "one_hot": 0.05, "balance": 5, "activation": 0.01}),
        ("dafl", "original", 100, {"kl": 1, "one_hot": 0.5, "balance": 20, "activation": 0.1}),
        ("dafl", "toolbox", 100, {"kl": 1, "one_hot": 1, "balance": 20, "activation": 1e-3}),
        ("zskt", "original", 10, {"kl": 1, "adversarial": 1, "attention": 250}),
        ("zskt", "toolbox", 10, {"kl": 1, "adversarial": 1}),
        ("dfad", "original", 10, {"l1": 1, "adversarial": 1}),
        ("dfq", "toolbox", 10, {"kl": 1, "adversarial": 1, "batch_statistics": 1, "one_hot": 1, "balance": 20}),
        ("cmi", "toolbox", 10, {"kl": 1, "adversarial": 0.5, "batch_statistics": 1, "label": 1, "contrast": 0.8}),
        ("adi", "toolbox", 10, {"kl": 1, "adversarial": 1, "batch_statistics": 10, "label": 1, "total_variation": 1e-3}),
    ],
)
def test_the_weights_are_the_published_ones(method: str, name: str, num_classes: int, expected: dict[str, float]) -> None:
    assert weights(method, name, num_classes) == expected


@pytest.mark.parametrize(
    ("method", "name", "student_steps"),
    [
        ("cpsc", "paper", 150_000),
        ("pre_dfkd", "original", 144_000),
        ("dafl", "original", 240_000),
        ("zskt", "original", 800_000),
        ("dfad", "original", 125_000),
        ("dfad", "toolbox", 80_000),
        ("dafl", "toolbox", 80_000),
        ("zskt", "toolbox", 80_000),
        ("dfq", "toolbox", 80_000),
        ("adi", "toolbox", 80_000),
        ("cmi", "toolbox", 80_000),
    ],
)
def test_the_schedules_have_the_published_number_of_student_steps(method: str, name: str, student_steps: int) -> None:
    changes = preset(name, method=method, num_classes=10)
    epochs = changes.get("epochs", DistillConfig().epochs)
    schedule = dataclasses.asdict(DistillConfig().schedule) | changes.get("schedule", {})
    assert epochs * schedule["iterations"] * schedule["student_steps"] == student_steps


@pytest.mark.parametrize(
    ("method", "own", "changed"),
    [
        ("cpsc", {"epochs": 9}, {"student": {"warmup_epochs": 1}}),
        ("cpsc", {"epochs": 9, "student": {"lr": 0.2}}, {"student": {"warmup_epochs": 1}}),
        ("cpsc", {"epochs": 10}, {}),  # the published warm-up of ten fits, if barely: a run keeps its numbers
        ("cpsc", {"epochs": 9, "student": {"warmup_epochs": 10}}, {}),  # said, and wrong
        ("nayer", {"epochs": 20}, {"schedule": {"generator_warmup_epochs": 2}}),
        ("nayer", {"epochs": 2}, {"schedule": {"generator_warmup_epochs": 1}}),
        ("nayer", {"epochs": 1}, {"schedule": {"generator_warmup_epochs": 0}}),
        ("nayer", {"epochs": 21}, {}),
        ("cpsc", {"replay": {"kind": "images", "rehearsals": 2}}, {"replay": {"every_epochs": 0}}),
        ("cmi", {"schedule": {"batch_size": 300}}, {"cmi": {"bank_size": 40_800}}),
        ("cmi", {"schedule": {"batch_size": 50_000}}, {"cmi": {"bank_size": 50_000}}),
        ("cmi", {"schedule": {"batch_size": 128}}, {}),
    ],
)
def test_a_default_gives_way_where_it_would_be_refused_and_nowhere_else(
    method: str, own: dict[str, Any], changed: dict[str, Any]
) -> None:
    under = preset(method=method, num_classes=10)
    found = fitting(under, own, method=method)
    expected = {key: dict(value) if isinstance(value, dict) else value for key, value in under.items()}
    for section, values in changed.items():
        expected[section] = {**expected.get(section, {}), **values}
    assert found == expected
    assert under == preset(method=method, num_classes=10), "the preset itself stays as it is"


@pytest.mark.parametrize("epochs", [1, 2, 5, 19, 49])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_a_short_run_of_which_only_its_length_is_said(method: str, epochs: int) -> None:
    for name in METHODS[method].PRESETS:
        own = {"method": method, "epochs": epochs}
        config_of(laid(fitting(preset(name, method=method, num_classes=10), own, method=method), own), name=name)


@pytest.mark.parametrize("wrong", ["many", True, -1, 2.5, None, [3]])
def test_a_wrong_kind_of_value_is_left_to_whoever_refuses_it(wrong: object) -> None:
    for own in ({"epochs": wrong}, {"student": wrong}, {"replay": {"rehearsals": wrong}}, {"schedule": {"batch_size": wrong}}):
        assert fitting({}, own, method="cmi") == {}
