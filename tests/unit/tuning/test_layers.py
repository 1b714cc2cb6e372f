"""What lies over what: the command line, the file, the scale, and the settings of single methods among them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cpsc.errors import ConfigError
from tuning.launch.launch import open_launch
from tuning.study import load_study
from tuning.trial.local import split_point

SCALE: dict[str, Any] = {
    "config": {
        "dataset": "digits",
        "teacher": {"arch": "wrn_10_1"},
        "student": {"arch": "wrn_10_1", "warmup_epochs": 1},
        "epochs": 9,
        "schedule": {"batch_size": 32},
        "by_method": {"cpsc": {"schedule": {"iterations": 3, "student_steps": 2}}},
    },
    "prune": {"scheduler": "none"},
}
STUDY: dict[str, Any] = {
    "name": "mine",
    "scale": "small",
    "config": {"method": "cpsc"},
    "space": {"weights.l2": {"uniform": [1, 9]}},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A study in a folder, and its scale in the folder above."""
    (tmp_path / "scales").mkdir()
    (tmp_path / "scales" / "small.yaml").write_text(yaml.safe_dump(SCALE))
    (tmp_path / "mine").mkdir()
    return write(tmp_path / "mine" / "study.yaml")


def write(path: Path, **config: Any) -> Path:
    path.write_text(yaml.safe_dump(STUDY | {"config": STUDY["config"] | config}))
    return path


def test_a_study_takes_from_its_scale_what_it_does_not_say_and_is_called_after_both(path: Path) -> None:
    study = load_study(write(path, epochs=5))
    assert (study.name, study.config.epochs, study.prune.scheduler) == ("mine-small", 5, "none")
    assert (study.config.schedule.iterations, study.config.schedule.batch_size) == (3, 32)


def test_the_file_says_more_than_its_scales_settings_of_one_method(path: Path) -> None:
    study = load_study(write(path, schedule={"iterations": 7}))
    assert (study.config.schedule.iterations, study.config.schedule.student_steps) == (7, 2)


@pytest.mark.parametrize("prefix", ["", "config."])
def test_the_command_line_says_more_than_all_files(path: Path, prefix: str) -> None:
    study = load_study(
        write(path, schedule={"batch_size": 16}), [f"{prefix}schedule.iterations=8", f"{prefix}schedule.batch_size=8"]
    )
    assert (study.config.schedule.iterations, study.config.schedule.student_steps, study.config.schedule.batch_size) == (8, 2, 8)


def test_the_scale_may_be_named_on_the_command_line(path: Path) -> None:
    (path.parent.parent / "scales" / "large.yaml").write_text(yaml.safe_dump(SCALE | {"prune": {"scheduler": "asha"}}))
    study = load_study(path, ["scale=large"])
    assert (study.name, study.prune.scheduler) == ("mine-large", "asha")


def test_what_is_recorded_needs_no_scale_any_more(path: Path) -> None:
    source = dict(load_study(path).source)
    assert "scale" not in source
    assert source["config"]["epochs"] == 9


@pytest.mark.parametrize("scale", ["tiny", "../study", 5, ["small"]])
def test_an_unknown_scale_is_refused_with_those_that_exist(path: Path, scale: Any) -> None:
    path.write_text(yaml.safe_dump(STUDY | {"scale": scale}))
    with pytest.raises(ConfigError, match=r"scale: must be a file in scales/ \(small\), got"):
        load_study(path)


def test_a_broken_scale_is_named(path: Path) -> None:
    scale = path.parent.parent / "scales" / "small.yaml"
    scale.write_text("config: [")
    with pytest.raises(ConfigError, match=r"scale: .*small.yaml: line 1 not valid YAML"):
        load_study(path)


def test_a_trial_takes_a_scale_on_the_command_line_as_a_sweep_does(path: Path) -> None:
    bare = {key: value for key, value in STUDY.items() if key != "scale"}
    path.write_text(yaml.safe_dump(bare))  # which lacks its networks without one
    assignments = ["scale=small", "weights.l2=2", "config.weights.l2=3", "epochs=5", "weights.kl=0.5"]
    point, others = split_point(path, assignments)
    assert point == {"weights.l2": 3}
    assert others == ["scale=small", "epochs=5", "weights.kl=0.5"]
    assert load_study(path, others).name == "mine-small"
    with pytest.raises(ConfigError, match=r"study\.yaml: config\.teacher"):
        load_study(path)


def test_a_trial_knows_what_its_own_command_line_searches(path: Path) -> None:
    assignments = ["space.student.lr={uniform: [0.1, 0.3]}", "student.lr=0.2"]
    assert split_point(path, assignments) == ({"student.lr": 0.2}, assignments[:1])
    assert split_point(path, ["space={}", "weights.l2=2"]) == ({}, ["space={}", "weights.l2=2"])


@pytest.mark.parametrize("assignment", ["scale=small", " scale = small"])
def test_a_recorded_study_takes_no_scale(tmp_path: Path, assignment: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set scale: the recorded study already contains its scale"):
        open_launch(str(tmp_path), "mine-small", [assignment])
