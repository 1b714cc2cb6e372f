"""The study file: what is accepted, what is refused and in which words, what overrides do."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cpsc.data.dataset import Normalisation
from cpsc.errors import ConfigError
from cpsc.published import PublishedConfig
from tuning.study import build_config, load_study
from tuning.study.base_config import parameter_paths
from tuning.study.config import StudyFile, resolve_study
from tuning.study.overrides import parse_assignments

Raw = dict[str, Any]
Write = Callable[[Any], Path]


def refusal(raw: Raw) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_study(raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_valid_study_resolves(raw: Raw) -> None:
    study = resolve_study(raw | {"start": [{}, {"weights.contrast": 1.0}]})
    assert study.name == "small"
    assert study.config.epochs == 9
    assert study.config.student.arch == "wrn_10_1"
    assert study.dataset is not None
    assert study.dataset.name == "digits"
    assert study.teacher.path is None
    assert study.teacher.recipe is not None
    assert (study.teacher.recipe.arch, study.teacher.recipe.epochs, study.teacher.min_accuracy) == ("wrn_10_1", 5, 0.0)
    assert list(study.space) == list(raw["space"])
    assert study.start[1]["weights.contrast"] == 1.0
    assert study.first_point == study.start[0]
    assert (study.objective, study.metric) == ("probe_agreement", "best_probe_agreement")
    assert (study.search.sampler, study.search.num_trials, study.prune.scheduler) == ("tpe", 16, "asha")
    assert study.local == Path("runs").absolute()
    assert study.storage == str(study.local)
    assert study.source == raw | {"start": [{}, {"weights.contrast": 1.0}]}


def test_resolving_does_not_change_what_was_read(raw: Raw) -> None:
    before = copy.deepcopy(raw)
    resolve_study(raw)
    assert raw == before


def test_a_study_without_starting_points_has_an_empty_first_point(raw: Raw) -> None:
    assert resolve_study(raw).first_point == {}


def test_the_first_point_is_a_copy(raw: Raw) -> None:
    study = resolve_study(raw | {"start": [{}]})
    study.first_point["student.lr"] = 9.0
    assert study.start[0]["student.lr"] == 0.1


def test_the_objective_names_the_metric(raw: Raw) -> None:
    assert resolve_study(raw | {"objective": "test_accuracy"}).metric == "best_test_accuracy"


def test_a_teacher_of_a_file_needs_no_dataset(raw: Raw) -> None:
    raw["config"] |= {"teacher": {"path": "teacher.pt", "min_accuracy": 0.5}, "dataset": None}
    study = resolve_study(raw)
    assert (study.teacher.path, study.teacher.recipe, study.teacher.min_accuracy) == ("teacher.pt", None, 0.5)
    assert study.teacher.published is None
    assert study.dataset is None


def test_a_file_of_another_program_is_explained_beside_its_path(raw: Raw) -> None:
    said = {"normalisation": "cifar10", "image_size": 32, "class_names": ["cat", "dog"], "weights": "state_dict_ema"}
    raw["config"] |= {"teacher": {"path": "net.pth", "min_accuracy": 0.5} | said}
    teacher = resolve_study(raw).teacher
    assert (teacher.path, teacher.recipe, teacher.min_accuracy) == ("net.pth", None, 0.5)
    names = ("cat", "dog")
    assert teacher.published == PublishedConfig(normalisation="cifar10", image_size=32, class_names=names, weights="state_dict_ema")


def test_a_file_of_the_users_own_network_names_its_factory(raw: Raw) -> None:
    constants = {"mean": [0, 0.5], "std": [1, 0.25]}
    said = {"factory": "not.there:make", "normalisation": constants, "image_size": 32, "channels": 2}
    raw["config"] |= {"teacher": {"path": "net.pth"} | said}
    teacher = resolve_study(raw).teacher
    normalisation = Normalisation(mean=(0.0, 0.5), std=(1.0, 0.25))
    assert teacher.published == PublishedConfig(factory="not.there:make", normalisation=normalisation, image_size=32, channels=2)


def test_a_dataset_is_a_name_or_a_mapping(raw: Raw) -> None:
    raw["config"]["dataset"] = {"name": "cifar10", "path": "data/cifar10"}
    study = resolve_study(raw)
    assert study.dataset is not None
    assert (study.dataset.name, study.dataset.path) == ("cifar10", "data/cifar10")


def test_a_dataset_may_be_at_a_uri_with_a_normalisation_of_its_own(raw: Raw) -> None:
    uri = "s3://bucket/images?endpoint_override=127.0.0.1:9000"
    raw["config"]["dataset"] = {"name": "parquet", "path": uri, "mean": [0, 0.5, 1], "std": [1, 0.5, 0.25], "flip": False}
    dataset = resolve_study(raw).dataset
    assert dataset is not None
    assert dataset.path == uri
    assert dataset.normalisation is not None
    assert (dataset.normalisation.mean, dataset.normalisation.std) == ((0.0, 0.5, 1.0), (1.0, 0.5, 0.25))
    assert dataset.flip is False


@pytest.mark.parametrize(("name", "is_many"), [("cifar10", False), ("cifar100", True), ("tiny_imagenet", True), ("parquet", False)])
def test_a_preset_knows_whether_a_named_dataset_has_many_classes(name: str, is_many: bool, raw: Raw) -> None:
    raw["config"] |= {"dataset": {"name": name, "path": "x"}, "preset": "reference"}
    assert (resolve_study(raw).config.cpsc.l2 == "mse") == is_many


def test_the_storage_is_absolute_and_knows_the_home_folder(raw: Raw, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_study(raw | {"storage": "~/studies"}).local == tmp_path / "studies"


def test_the_reference_preset_lies_under_the_studys_own_settings(raw: Raw) -> None:
    raw["config"] |= {"preset": "reference", "cpsc": {"contrast": "teacher_anchor"}}
    del raw["space"]["cpsc.contrast"]
    config = resolve_study(raw).config
    assert (config.cpsc.label_input, config.cpsc.l2, config.generator.optimizer) == ("probs", "log_mse", "fresh")
    assert config.cpsc.contrast == "teacher_anchor"


def test_points_are_laid_over_the_preset(raw: Raw) -> None:
    raw["config"]["preset"] = "reference"
    study = resolve_study(raw)
    config = build_config(study.base, {"weights.contrast": 0.25})
    assert (config.weights.contrast, config.cpsc.label_input, config.student.arch) == (0.25, "probs", "wrn_10_1")


def test_names_with_inner_dots_dashes_and_digits_are_fine(raw: Raw) -> None:
    assert resolve_study(raw | {"name": "Digits-2.b_1"}).name == "Digits-2.b_1"


CHANGES: list[tuple[str, Raw, list[str]]] = [
    ("unknown top-level key", {"spaces": {}}, ["spaces: unknown key, did you mean space?"]),
    ("unknown search key", {"search": {"sampller": "tpe"}}, ["search.sampller: unknown key, did you mean sampler?"]),
    ("unknown prune key", {"prune": {"grace_epoch": 1}}, ["prune.grace_epoch: unknown key, did you mean grace_epochs?"]),
    ("unknown resource", {"resources": {"gpu": 1}}, ["resources.gpu: unknown key, did you mean gpus?"]),
    ("unknown checkpoint key", {"checkpoint": {"every": 1}}, ["checkpoint.every: unknown key"]),
    ("unknown tracking key", {"tracking": {"url": "x"}}, ["tracking.url: unknown key, did you mean uri?"]),
    (
        "unknown sampler",
        {"search": {"sampler": "gird"}},
        ["search.sampler: input should be 'tpe', 'gp', 'prior', 'random' or 'grid', got 'gird'"],
    ),
    ("no trial", {"search": {"num_trials": 0}}, ["search.num_trials: input should be greater than or equal to 1, got 0"]),
    ("negative seed", {"search": {"seed": -1}}, ["search.seed: input should be greater than or equal to 0, got -1"]),
    ("factor of one", {"prune": {"reduction_factor": 1}}, ["prune.reduction_factor: input should be greater than ", "got 1"]),
    ("grace of none", {"prune": {"grace_epochs": 0}}, ["prune.grace_epochs: input should be greater than or equal to 1, got 0"]),
    ("grace beyond the end", {"prune": {"grace_epochs": 10}}, ["prune.grace_epochs: must be <= config.epochs (9), got 10"]),
    ("no processor", {"resources": {"cpus": 0}}, ["resources.cpus: input should be greater than or equal to 1, got 0"]),
    ("negative gpus", {"resources": {"gpus": -0.5}}, ["resources.gpus: input should be greater than or equal to 0, got -0.5"]),
    (
        "unknown objective",
        {"objective": "accuracy"},
        ["objective: input should be 'exam_score', 'probe_overlap', 'probe_agreement' or 'test_accuracy'"],
    ),
    ("config is a list", {"config": [1]}, ["config: input should be a valid dictionary, got [1]"]),
    ("space is a list", {"space": ["weights.kl"]}, ["space: input should be a valid dictionary, got ['weights.kl']"]),
    ("start is a mapping", {"start": {"student.lr": 0.1}}, ["start: input should be a valid list, got {'student.lr': 0.1}"]),
    ("a start point is a number", {"start": [0.1]}, ["start.0: input should be a valid dictionary, got 0.1"]),
    ("name with a slash", {"name": "a/b"}, ["name: must be letters, digits", "got 'a/b'"]),
    ("name of dots", {"name": ".."}, ["name: must be letters, digits", "got '..'"]),
    ("name with a line break", {"name": "a\n"}, ["name: must be letters, digits", r"got 'a\n'"]),
    ("empty name", {"name": ""}, ["name: must be letters, digits", "got ''"]),
    ("name of digits alone is a number", {"name": 5}, ["name: input should be a valid string, got 5"]),
    (
        "typo in space",
        {"space": {"weights.contrst": {"uniform": [0, 1]}}},
        ["space.weights.contrst: unknown parameter, did you mean"],
    ),
    ("start unsearched", {"start": [{"weights.label": 1}]}, ["start[0].weights.label: is not searched"]),
    ("start outside", {"start": [{"student.lr": 1}]}, ["start[0].student.lr: 1 lies outside uniform(0.02, 0.3)"]),
]


@pytest.mark.parametrize(("change", "parts"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_a_wrong_study_is_refused_by_path_rule_and_value(raw: Raw, change: Raw, parts: list[str]) -> None:
    message = refusal(raw | change)
    assert all(part in message for part in parts), message


CONFIG_CHANGES: list[tuple[str, Raw, list[str]]] = [
    ("unknown key", {"epoch": 3}, ["config.epoch: unknown key, did you mean epochs?"]),
    ("unknown weight", {"weights": {"contrst": 1}}, ["config.weights.contrst: unknown key, did you mean contrast?"]),
    ("unknown student key", {"student": {"lrr": 1}}, ["config.student.lrr: unknown key, did you mean"]),
    ("key that is a number", {"weights": {1: 2}}, ["config.weights.1: keys should be strings, got 1"]),
    ("rule of a section", {"weights": {"kl": -1}}, ["config.weights.kl must be >= 0, got -1"]),
    ("rule across keys", {"student": {"warmup_epochs": 10}}, ["config.student.warmup_epochs must be <= epochs (9), got 10"]),
    ("not a number", {"student": {"lr": "fast"}}, ["config.student.lr: input should be a valid number", "got 'fast'"]),
    ("nan", {"contrast_temperature": math.nan}, ["config.contrast_temperature must be > 0, got nan"]),
    ("section as a number", {"weights": 3}, ["config.weights: ", "got 3"]),
    ("unknown method", {"method": "zksT"}, ["config.method 'zksT': unknown, use one of cpsc, pre_dfkd, dafl, zskt"]),
    ("method of a number", {"method": 3}, ["config.method: must be one of cpsc, pre_dfkd", "got 3"]),
    (
        "term of another method",
        {"weights": {"attention": 250}},
        ["config.weights.attention must be 0 for method cpsc, which has no such term, got 250"],
    ),
    (
        "section of another method",
        {"cmi": {"bank_size": 512}},
        ["config.cmi.bank_size must be left out for method cpsc, which does not have it, got 512"],
    ),
    ("by_method of an unknown one", {"by_method": {"dafi": {}}}, ["config.by_method.dafi: unknown method, use one of"]),
    ("by_method of no mapping", {"by_method": ["dafl"]}, ["config.by_method: must map methods to settings"]),
    (
        "by_method with a typing mistake",
        {"by_method": {"dafl": {"weights": {"klh": 1}}}},
        ["config.by_method.dafl.weights.klh: unknown parameter, did you mean weights.kl?"],
    ),
    ("unknown network", {"student": {"arch": "resnet19", "warmup_epochs": 1}}, ["'resnet19'", "unknown network"]),
    ("unknown preset", {"preset": "papr"}, ["config.preset 'papr': unknown for method cpsc, use one of paper, reference"]),
    ("preset that is no name", {"preset": ["paper"]}, ["config.preset: must be a name, got ['paper']"]),
    ("unknown dataset", {"dataset": "mnist"}, ["config.dataset.name: input should be 'digits', 'cifar10', ", "got 'mnist'"]),
    ("unknown dataset key", {"dataset": {"name": "digits", "folder": "x"}}, ["config.dataset.folder: unknown key"]),
    ("dataset without a name", {"dataset": {}}, ["config.dataset.name: is missing"]),
    ("dataset as a number", {"dataset": 3}, ["config.dataset: ", "got 3"]),
    ("dataset without its folder", {"dataset": "cifar10"}, ["path must name the folder of cifar10: nothing is downloaded"]),
    (
        "dataset key without effect",
        {"dataset": {"name": "cifar100", "path": "x", "image_size": 32}},
        ["config.dataset.image_size must be left out for cifar100, where it has no effect, got 32"],
    ),
    (
        "dataset of images at a URI",
        {"dataset": {"name": "image_folder", "path": "s3://bucket/x"}},
        ["config.dataset.path must be a local folder for image_folder, only Parquet files are read from a URI"],
    ),
    (
        "dataset with half a normalisation",
        {"dataset": {"name": "parquet", "path": "x", "std": [0.2, 0.2, 0.2]}},
        ["config.dataset.mean is missing: mean and std go together"],
    ),
    (
        "dataset with a mean in bytes",
        {"dataset": {"name": "parquet", "path": "x", "mean": [125, 123, 114], "std": [0.2, 0.2, 0.2]}},
        ["config.dataset.mean must be 1 or 3 numbers in [0, 1], one per channel, got (125.0, 123.0, 114.0)"],
    ),
    ("unknown probe key", {"probe": {"stepps": 1}}, ["config.probe.stepps: unknown key, did you mean steps?"]),
    ("probe rule", {"probe": {"steps": 0}}, ["steps must be > 0, got 0"]),
    ("no teacher", {"teacher": None}, ["config.teacher: must name a bundle (path) or a recipe (arch, epochs, ...), got None"]),
    ("empty teacher", {"teacher": {}}, ["config.teacher: must name a bundle (path) or a recipe", "got {}"]),
    ("teacher as a name", {"teacher": "wrn_16_2"}, ["config.teacher: must name a bundle (path) or a recipe", "got 'wrn_16_2'"]),
    ("teacher without arch", {"teacher": {"epochs": 3}}, ["config.teacher.arch: is missing"]),
    (
        "unknown teacher key",
        {"teacher": {"arch": "wrn_10_1", "epoch": 3}},
        ["config.teacher.epoch: unknown key, did you mean epochs?"],
    ),
    ("unknown teacher network", {"teacher": {"arch": "wrn_11_1"}}, ["config.teacher", "'wrn_11_1'", "depth must be 6n + 4"]),
    (
        "teacher rule",
        {"teacher": {"arch": "wrn_10_1", "epochs": 0, "warmup_epochs": 0}},
        ["config.teacher.epochs must be >= 1, got 0"],
    ),
    (
        "two teachers",
        {"teacher": {"path": "t.pt", "arch": "wrn_10_1"}},
        ["path names a trained teacher, so arch must be left out"],
    ),
    (
        "unknown key of a file",
        {"teacher": {"path": "t.pt", "normalization": "cifar10"}},
        ["config.teacher.normalization: unknown key, did you mean normalisation?"],
    ),
    (
        "unknown normalisation",
        {"teacher": {"path": "t.pt", "normalisation": "cifar"}},
        ["config.teacher.normalisation must be one of cifar10, cifar100, tiny_imagenet, imagenet, mnist, half", "got 'cifar'"],
    ),
    (
        "normalisation without deviations",
        {"teacher": {"path": "t.pt", "normalisation": {"mean": [0.5]}}},
        ["config.teacher.normalisation.std: is missing"],
    ),
    (
        "normalisation of unequal lengths",
        {"teacher": {"path": "t.pt", "normalisation": {"mean": [0.5], "std": [0.5, 0.5]}}},
        ["config.teacher.normalisation must be a finite mean and a finite std > 0 for each channel"],
    ),
    (
        "normalisation with a further key",
        {"teacher": {"path": "t.pt", "normalisation": {"mean": [0.5], "std": [0.5], "eps": 1}}},
        ["config.teacher.normalisation: must have the keys mean and std only, got eps"],
    ),
    (
        "normalisation as a list",
        {"teacher": {"path": "t.pt", "normalisation": [0.5]}},
        ["config.teacher.normalisation must be one of", "got [0.5]"],
    ),
    (
        "image size of a file",
        {"teacher": {"path": "t.pt", "image_size": 30}},
        ["config.teacher.image_size must be a multiple of 4 in 4..1024, got 30"],
    ),
    (
        "class names that are numbers",
        {"teacher": {"path": "t.pt", "class_names": [1, 2]}},
        ["config.teacher.class_names.0: input should be a valid string, got 1"],
    ),
    (
        "factory that is no import path",
        {"teacher": {"path": "t.pt", "factory": "mine.py"}},
        ["config.teacher.factory must have the form package.module:function, got 'mine.py'"],
    ),
    (
        "channels without a factory",
        {"teacher": {"path": "t.pt", "channels": 3}},
        ["config.teacher.channels must be left out without a factory: the weights tell them, got 3"],
    ),
    (
        "accuracy above one",
        {"teacher": {"arch": "wrn_10_1", "min_accuracy": 97}},
        ["teacher.min_accuracy: must be in [0, 1], got 97"],
    ),
    (
        "accuracy below zero",
        {"teacher": {"path": "t", "min_accuracy": -0.1}},
        ["teacher.min_accuracy: must be in [0, 1], got -0.1"],
    ),
    ("accuracy nan", {"teacher": {"path": "t", "min_accuracy": math.nan}}, ["teacher.min_accuracy: must be in [0, 1], got nan"]),
    ("accuracy as text", {"teacher": {"path": "t", "min_accuracy": "0.9"}}, ["teacher.min_accuracy: must be in [0, 1], got '0.9'"]),
]


@pytest.mark.parametrize(("change", "parts"), [row[1:] for row in CONFIG_CHANGES], ids=[row[0] for row in CONFIG_CHANGES])
def test_a_wrong_config_is_refused_by_path_rule_and_value(raw: Raw, change: Raw, parts: list[str]) -> None:
    raw["config"] |= change
    message = refusal(raw)
    assert all(part in message for part in parts), message


def test_the_name_and_the_config_are_required() -> None:
    assert refusal({"config": {}}).endswith("name: is missing")
    assert "config: is missing" in refusal({"name": "a"})


def test_further_mistakes_are_counted(raw: Raw) -> None:
    assert refusal(raw | {"a": 1, "b": 2, "c": 3}).endswith("(and 2 more)")


def test_a_recipe_needs_a_dataset(raw: Raw) -> None:
    del raw["config"]["dataset"]
    assert "config.teacher: a recipe needs config.dataset to train on" in refusal(raw)


def test_selecting_on_labels_needs_labels(raw: Raw) -> None:
    raw["config"] |= {"teacher": {"path": "t.pt"}, "dataset": None}
    assert refusal(raw | {"objective": "test_accuracy"}).startswith("objective: test_accuracy needs config.dataset")


def test_without_pruning_the_grace_does_not_matter(raw: Raw) -> None:
    assert resolve_study(raw | {"prune": {"scheduler": "none", "grace_epochs": 99}}).prune.scheduler == "none"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"dataset": {"name": "digits", "path": "x"}}, "config.dataset.path must"),
        ({"probe": {"num_images": 3, "batch_size": 2}}, "config.probe.num_images must"),
        ({"teacher": {"arch": "wrn_10_1", "lr": -1}}, "config.teacher.lr must"),
        ({"student": {"arch": "wrn_11_1", "warmup_epochs": 1}}, "config.student.arch"),
    ],
)
def test_a_rule_names_the_path_as_it_stands_in_the_file(raw: Raw, change: Raw, path: str) -> None:
    raw["config"] |= change
    assert refusal(raw).startswith(path)


@pytest.mark.parametrize(
    "teacher", [{"path": ["t.pt"]}, {"path": 5}, {"path": "t.pt", "min_accuracy": True}, {"path": "t.pt", 1: 2, "arch": "x"}]
)
def test_a_teacher_of_the_wrong_types_is_refused(raw: Raw, teacher: dict[Any, Any]) -> None:
    raw["config"]["teacher"] = teacher
    assert refusal(raw).startswith("config.teacher")


@pytest.mark.parametrize("path", ["epochs", "seed"])
def test_a_number_beyond_floating_point_is_refused(raw: Raw, path: str) -> None:
    raw["config"][path] = 10**400
    assert path in refusal(raw)


def test_a_home_folder_of_nobody_is_refused(raw: Raw) -> None:
    assert "storage" in refusal(raw | {"storage": "~nobody-of-this-name/runs"})


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"search": {"seed": 2**32}}, "search.seed"),  # Optuna's samplers take 32 bits
        ({"prune": {"reduction_factor": 1 + 1e-9}}, "prune.reduction_factor"),  # ASHA would make a billion rungs
        ({"storage": "a\0b"}, "storage"),
    ],
)
def test_a_value_that_would_fail_only_when_the_sweep_starts_is_refused(raw: Raw, change: Raw, path: str) -> None:
    assert path in refusal(raw | change)


# --- files ---


def file_refusal(path: Path, overrides: list[str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_study(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_a_study_file_loads(raw: Raw, write: Write) -> None:
    study = load_study(write(raw))
    assert study.name == "small"
    assert study.source == raw


def test_an_error_names_the_file_path_and_value(raw: Raw, write: Write) -> None:
    raw["space"]["weights.contrst"] = {"uniform": [0, 1]}
    assert file_refusal(write(raw)) == "space.weights.contrst: unknown parameter, did you mean weights.contrast?"


@pytest.mark.parametrize(("text", "kind"), [("- a\n- b\n", "list"), ("", "NoneType"), ("just words", "str"), ("5", "int")])
def test_a_file_that_is_no_mapping_is_refused(write: Write, text: str, kind: str) -> None:
    assert file_refusal(write(text)) == f"must be a mapping with name, config and space, got {kind}"


def test_broken_yaml_is_refused_with_its_line(write: Write) -> None:
    message = file_refusal(write("name: a\nconfig: {\nspace: [}\n"))
    assert message.startswith("line 3 not valid YAML (")


@pytest.mark.parametrize("content", [b"\x80\x81\xff\xfe", b"\x00\x01\x02"])
def test_a_binary_file_is_refused(write: Write, content: bytes) -> None:
    assert file_refusal(write(content)).startswith("not valid YAML (")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert file_refusal(tmp_path / "none.yaml") == "cannot be read (No such file or directory)"
    assert file_refusal(tmp_path) == "cannot be read (Is a directory)"


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.getcwd []", "!!python/name:os.system", "!!python/tuple [1, 2]", "!custom 1"]
)
def test_a_tag_that_would_run_or_build_python_objects_is_refused(write: Write, tag: str) -> None:
    message = file_refusal(write(f"name: a\nconfig: {tag}\n"))
    assert message.startswith("line 2 not valid YAML (could not determine a constructor for the tag")


@pytest.mark.parametrize(
    "text",
    [
        "start: 2024-99-99",
        "start: !!bool perhaps",
        "start: !!int many",
        "start: !!timestamp soon",
        "start: 0b_",
        "start: " + "9" * 5000,
        "[" * 3000,
        "config: &loop {weights: *loop}",
    ],
    ids=["date", "bool tag", "int tag", "timestamp tag", "binary digits", "5000 digits", "nested deeply", "cycle"],
)
@pytest.mark.slow
def test_yaml_whose_values_cannot_be_built_is_refused(write: Write, text: str) -> None:
    assert file_refusal(write(text))


# --- overrides ---


def test_assignments_are_yaml_values() -> None:
    assert parse_assignments(["a.b=1", "c = [1, x]", "d=", "e=k=v", "f=1e-3", "g=1.0e-3"]) == {
        "a.b": 1,
        "c": [1, "x"],
        "d": None,
        "e": "k=v",
        "f": 1e-3,
        "g": 1e-3,
    }


@pytest.mark.parametrize("assignment", ["weights.contrast", "=1", ""])
def test_a_malformed_assignment_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_assignments([assignment])
    assert str(caught.value) == f"--set {assignment}: must be path=value, e.g. weights.contrast=0.5"


@pytest.mark.parametrize("value", ["[1", "{a: b: c}", "!!timestamp 2024-99-99", "!!int many"])
def test_an_assignment_of_invalid_yaml_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="the value is not valid YAML"):
        parse_assignments([f"a={value}"])


def test_overrides_take_paths_of_the_study_and_for_short_of_its_config(raw: Raw, write: Write) -> None:
    assignments = [
        "search.num_trials=3",
        "prune.scheduler=none",
        "name=other",
        "config.epochs=4",
        "student.momentum=0.5",
        "weights.label=2",
        "probe.steps=7",
        "teacher.epochs=6",
        "preset=reference",
        "storage=elsewhere",
    ]
    study = load_study(write(raw), assignments)
    assert (study.search.num_trials, study.prune.scheduler, study.name) == (3, "none", "other")
    assert (study.config.epochs, study.config.student.momentum, study.config.weights.label) == (4, 0.5, 2)
    assert study.teacher.recipe is not None
    assert (study.probe.steps, study.teacher.recipe.epochs) == (7, 6)
    assert study.config.generator.optimizer == "fresh"
    assert study.local.name == "elsewhere"
    assert study.source["config"]["student"]["momentum"] == 0.5


def test_overriding_leaves_the_siblings_alone(raw: Raw, write: Write) -> None:
    study = load_study(write(raw), ["student.momentum=0.5"])
    assert study.config.student.arch == "wrn_10_1"


def test_the_last_of_two_assignments_to_a_path_wins(raw: Raw, write: Write) -> None:
    assert load_study(write(raw), ["epochs=4", "epochs=5"]).config.epochs == 5


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("weights.contrst=1", ["weights.contrst: unknown parameter, did you mean weights.contrast?"]),
        ("zzz=1", ["zzz: unknown parameter, parameters are "]),
        ("search.trials=1", ["search.trials: unknown key, did you mean"]),
        ("epochs=0", ["config.epochs must be > 0, got 0"]),
        ("epochs=many", ["config.epochs: input should be a valid integer", "got 'many'"]),
        ("name.first=a", ["name is a single value, it has no parameters of its own"]),
        ("nonsense", ["--set nonsense: must be path=value"]),
        ("weights.contrast=0.5", ["--set weights.contrast: is searched by this study, remove it from space to set a fixed value"]),
    ],
)
def test_a_wrong_override_is_refused(raw: Raw, write: Write, assignment: str, parts: list[str]) -> None:
    message = file_refusal(write(raw), [assignment])
    assert all(part in message for part in parts), message


def test_fixing_a_searched_parameter_by_its_long_path_is_refused_too(raw: Raw, write: Write) -> None:
    """The search would silently win over it."""
    assert "is searched by this study" in file_refusal(write(raw), ["config.weights.contrast=0.5"])


def test_a_range_can_be_overridden(raw: Raw, write: Write) -> None:
    study = load_study(write(raw), ["space.weights.contrast={uniform: [0.1, 0.2]}"])
    assert str(study.space["weights.contrast"]) == "uniform(0.1, 0.2)"


def test_a_searched_parameter_that_is_set_to_null_leaves_space_and_start(raw: Raw, write: Write) -> None:
    path = write(raw | {"start": [{"weights.contrast": 1.0, "student.lr": 0.1}, {}]})
    study = load_study(path, ["space.weights.contrast=null", "weights.contrast=0.25"])
    assert "weights.contrast" not in study.space
    assert [point.keys() for point in study.start] == [study.space.keys()] * 2
    assert study.config.weights.contrast == 0.25
    with pytest.raises(ConfigError, match=r"--set space\.weights\.l2: is not searched by this study, so it cannot be removed"):
        load_study(path, ["space.weights.l2=null"])


@pytest.mark.parametrize("space", [5, "weights", ["weights.label"], True])
def test_an_override_of_a_study_whose_space_is_no_mapping_is_refused(raw: Raw, write: Write, space: Any) -> None:
    assert "space" in file_refusal(write(raw | {"space": space}), ["weights.label=1"])


# --- anything at all ---

ODD_NUMBERS = [10**400, -(10**400), 2**63, math.nan, math.inf, -math.inf, -0.0, 1e308, True, False]
KNOWN_KEYS = sorted(
    {*StudyFile.model_fields, *parameter_paths()}
    | {part for path in parameter_paths() for part in path.split(".")}
    | {"dataset", "teacher", "probe", "preset", "path", "name", "min_accuracy", "steps", "uniform", "choice", "randint", "quniform"}
    | {"sampler", "num_trials", "grace_epochs", "reduction_factor", "scheduler", "cpus", "gpus", "uri", "artifacts"}
)
KNOWN_VALUES = [
    "digits",
    "cifar10",
    "wrn_10_1",
    "wrn_11_1",
    "reference",
    "asha",
    "none",
    "test_accuracy",
    "mse",
    "~nobody-here",
    "0.1",
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(ODD_NUMBERS)
    | st.sampled_from(KNOWN_VALUES)
)
KEYS = st.sampled_from(KNOWN_KEYS) | st.text(max_size=6) | st.integers() | st.none() | st.booleans()
GARBAGE = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12)
RANGES = st.dictionaries(
    st.sampled_from(["uniform", "loguniform", "quniform", "randint", "lograndint", "qrandint", "choice"]),
    st.lists(SCALARS, max_size=4) | GARBAGE,
    max_size=2,
)
SPACES = st.dictionaries(st.sampled_from(sorted(parameter_paths())) | st.text(max_size=6), RANGES | GARBAGE, max_size=4) | GARBAGE
CONFIGS = st.dictionaries(st.sampled_from(KNOWN_KEYS) | st.text(max_size=6), GARBAGE, max_size=4) | GARBAGE
STARTS = st.lists(st.dictionaries(st.sampled_from(sorted(parameter_paths())) | KEYS, SCALARS, max_size=3), max_size=3) | GARBAGE

ANY = settings(max_examples=80, deadline=None, derandomize=True, database=None)
VALID: Raw = {
    "name": "small",
    "config": {
        "dataset": "digits",
        "teacher": {"arch": "wrn_10_1"},
        "student": {"arch": "wrn_10_1", "warmup_epochs": 1},
        "epochs": 9,
    },
    "space": {"weights.contrast": {"loguniform": [0.05, 5]}, "student.lr": {"uniform": [0.02, 0.3]}},
}


def message_of(action: Callable[[], object]) -> str | None:
    """The words in which `action` refuses; None where it succeeds. No other error passes."""
    try:
        action()
    except ConfigError as error:
        return str(error)
    return None


def check_resolves_or_refuses(raw: Raw) -> None:
    assert message_of(lambda: resolve_study(raw)) != ""


@ANY
@given(raw=st.dictionaries(st.sampled_from(sorted(StudyFile.model_fields)) | st.text(max_size=6), GARBAGE, max_size=8))
@pytest.mark.slow
def test_any_content_resolves_or_is_refused(raw: Raw) -> None:
    check_resolves_or_refuses(raw)


@ANY
@given(space=SPACES)
@pytest.mark.slow
def test_any_space_resolves_or_is_refused(space: Any) -> None:
    check_resolves_or_refuses(VALID | {"space": space})


@ANY
@given(config=CONFIGS)
@pytest.mark.slow
def test_any_config_resolves_or_is_refused(config: Any) -> None:
    check_resolves_or_refuses(VALID | {"config": config})


@ANY
@given(change=st.dictionaries(st.sampled_from(KNOWN_KEYS), GARBAGE, min_size=1, max_size=3))
@pytest.mark.slow
def test_any_change_of_a_valid_config_resolves_or_is_refused(change: Raw) -> None:
    check_resolves_or_refuses(VALID | {"config": VALID["config"] | change})


@ANY
@given(teacher=st.dictionaries(st.sampled_from(["path", "arch", "epochs", "lr", "min_accuracy"]) | KEYS, SCALARS, max_size=4))
def test_any_teacher_resolves_or_is_refused(teacher: dict[Any, Any]) -> None:
    check_resolves_or_refuses(VALID | {"config": VALID["config"] | {"teacher": teacher}})


@ANY
@given(
    said=st.dictionaries(
        st.sampled_from(sorted(PublishedConfig.__dataclass_fields__)) | KEYS,
        SCALARS | st.dictionaries(st.sampled_from(["mean", "std"]) | KEYS, SCALARS | st.lists(SCALARS, max_size=3), max_size=3),
        max_size=4,
    )
)
def test_anything_said_of_a_file_resolves_or_is_refused(said: dict[Any, Any]) -> None:
    check_resolves_or_refuses(VALID | {"config": VALID["config"] | {"teacher": {"path": "t.pt"} | said}})


@ANY
@given(start=STARTS)
@pytest.mark.slow
def test_any_starting_points_resolve_or_are_refused(start: Any) -> None:
    check_resolves_or_refuses(VALID | {"start": start})


@ANY
@given(key=st.sampled_from(sorted(StudyFile.model_fields)), value=GARBAGE)
@pytest.mark.slow
def test_any_value_of_a_known_key_resolves_or_is_refused(key: str, value: Any) -> None:
    check_resolves_or_refuses(VALID | {key: value})


def check_loads_or_refuses(path: Path, content: bytes, overrides: list[str] | None = None) -> None:
    path.write_bytes(content)
    message = message_of(lambda: load_study(path, overrides))
    assert message is None or message.startswith(f"{path}:")


YAML_TEXT = st.text(alphabet="abn019 \n\t:-[]{},&*!|>'\"#%?=._~\\", max_size=60)
SNIPPETS = st.sampled_from(
    [
        "2024-99-99",
        "!!int x",
        "!!bool x",
        "!!float x",
        "!!set {a}",
        "!!binary =",
        "&a [*a]",
        "*a",
        "<<: 1",
        "0x_",
        "1:99",
        "? a",
        "\ud7ff",
    ]
)


@ANY
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_file_loads_or_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    check_loads_or_refuses(tmp_path_factory.getbasetemp() / "any.yaml", content)


@ANY
@given(text=YAML_TEXT | st.lists(SNIPPETS | YAML_TEXT, max_size=4).map(lambda parts: "a: " + " ".join(parts)))
def test_any_text_that_looks_like_yaml_loads_or_is_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    check_loads_or_refuses(tmp_path_factory.getbasetemp() / "text.yaml", text.encode())


@ANY
@given(at=st.integers(0, 250), cut=st.integers(0, 12), text=YAML_TEXT | SNIPPETS)
@pytest.mark.slow
def test_any_damage_to_a_valid_file_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, cut: int, text: str
) -> None:
    valid = yaml.safe_dump(VALID)
    check_loads_or_refuses(tmp_path_factory.getbasetemp() / "damaged.yaml", (valid[:at] + text + valid[at + cut :]).encode())


@ANY
@given(
    assignment=st.tuples(st.sampled_from(KNOWN_KEYS) | st.text(max_size=8), YAML_TEXT | SNIPPETS).map("=".join)
    | st.text(max_size=9)
)
@pytest.mark.slow
def test_any_override_applies_or_is_refused(tmp_path_factory: pytest.TempPathFactory, assignment: str) -> None:
    check_loads_or_refuses(tmp_path_factory.getbasetemp() / "override.yaml", yaml.safe_dump(VALID).encode(), [assignment])


def test_an_fid_needs_real_images_to_compare_with(raw: Raw) -> None:
    raw |= {"measure": {"inception_weights": "weights.pth"}}
    assert resolve_study(raw).measure.inception_weights == "weights.pth"
    raw["config"] |= {"dataset": None, "teacher": {"path": "teacher.pt"}}
    assert refusal(raw) == "measure.inception_weights: needs config.dataset, the real images that the FID compares with"


def test_trials_of_different_lengths_are_refused(raw: Raw) -> None:
    raw["space"] = {"method": {"choice": ["cpsc", "dafl"]}}
    del raw["config"]["epochs"]
    raw["config"]["student"] = {"arch": "wrn_10_1"}
    message = "space.method: all methods must run for the same number of epochs, set config.epochs (cpsc 600, dafl 2000)"
    assert refusal(raw) == message
    raw["config"] |= {"epochs": 5, "student": {"arch": "wrn_10_1", "warmup_epochs": 1}}
    assert resolve_study(raw).config.epochs == 5
