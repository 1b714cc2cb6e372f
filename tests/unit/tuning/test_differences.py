"""What a study changes of the defaults, each setting once, and what gave way to it."""

from typing import Any

from tuning.study.config import resolve_study
from tuning.study.differences import Difference, differences

Raw = dict[str, Any]


def by_path(raw: Raw) -> dict[str, Difference]:
    found = differences(resolve_study(raw))
    assert len({difference.path for difference in found}) == len(found)
    return {difference.path: difference for difference in found}


def test_a_study_that_says_little_differs_little(raw: Raw, tmp_path: Any) -> None:
    del raw["objective"], raw["config"]["student"]["warmup_epochs"]
    found = by_path(raw)
    assert found == {
        "config.epochs": Difference("config.epochs", 9, 600),
        "config.student.arch": Difference("config.student.arch", "wrn_10_1", "resnet18"),
        "config.student.warmup_epochs": Difference("config.student.warmup_epochs", 1, 10, gave_way=True),
        "config.teacher.epochs": Difference("config.teacher.epochs", 5, 200),
    }


def test_every_section_is_looked_at_and_what_is_searched_is_not(raw: Raw, tmp_path: Any) -> None:
    raw["config"] |= {"probe": {"num_images": 40}, "examiners": {"count": 5}, "seed": 3}
    raw["config"]["teacher"] = {"arch": "wrn_10_1", "epochs": 2, "min_accuracy": 0.5}
    raw |= {"search": {"num_trials": 4, "stop": {"trials_without_gain": 3}}, "prune": {"grace_epochs": 2}}
    raw |= {"storage": str(tmp_path), "local": str(tmp_path / "own")}
    raw["config"]["schedule"] = {"student_steps": 4}
    found = by_path(raw)
    assert found["config.probe.batch_size"] == Difference("config.probe.batch_size", 40, 250, gave_way=True)
    assert found["config.teacher.warmup_epochs"] == Difference("config.teacher.warmup_epochs", 1, 5, gave_way=True)
    said = {path: (difference.value, difference.default) for path, difference in found.items()}
    assert said["config.probe.num_images"] == (40, 1000)
    assert said["config.examiners.count"] == (5, 4)
    assert said["config.seed"] == (3, 0)
    assert said["config.teacher.min_accuracy"] == (0.5, 0.0)
    assert said["search.num_trials"] == (4, 16)
    assert said["search.stop.trials_without_gain"] == (3, None)
    assert said["prune.grace_epochs"] == (2, 1)
    assert said["objective"] == ("probe_agreement", "exam_score")
    assert said["storage"][0] == str(tmp_path)
    assert said["local"] == (str(tmp_path / "own"), str(tmp_path))
    assert "config.schedule.student_steps" not in found


def test_defaults_of_a_run_are_those_of_its_method(raw: Raw) -> None:
    raw["space"] = {"student.lr": {"uniform": [0.02, 0.3]}}
    raw["config"] |= {"method": "dafl", "generator": {"latent_dim": 100}}
    published = by_path(raw)
    assert published["config.method"] == Difference("config.method", "dafl", "cpsc")
    assert not [path for path in published if path.startswith("config.weights")]


def test_settings_of_single_methods_are_named_by_method(raw: Raw) -> None:
    raw["config"]["by_method"] = {"dafl": {"schedule": {"iterations": 7}}, "cmi": {"schedule": {"iterations": 3}}}
    raw["space"] = {"method": {"choice": ["cpsc", "dafl"]}}
    found = by_path(raw)
    assert found["config.by_method.dafl.schedule.iterations"].value == 7
    assert not [path for path in found if "cmi" in path], "it is not searched"
