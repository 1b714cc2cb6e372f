"""What a sweep would do, printed without doing it."""

import itertools
import json
import os
from typing import Any

import pytest
import yaml

from cpsc.errors import ConfigError
from tuning.display import to_json
from tuning.study.config import resolve_study
from tuning.sweep import describe
from tuning.sweep.dry_run import plan_figures
from tuning.sweep.estimate import Estimate

Raw = dict[str, Any]


def cost(raw: Raw) -> list[str]:
    """The comments behind the study."""
    lines = reversed(describe(resolve_study(raw)).splitlines())
    return [line.removeprefix("# ") for line in itertools.takewhile(lambda line: line.startswith("# "), lines)][::-1]


def test_the_resolved_study_is_readable_yaml_with_every_choice_made(raw: Raw) -> None:
    study = resolve_study(raw | {"start": [{}]})
    shown = yaml.safe_load(describe(study))
    assert shown["name"] == "small"
    assert (
        shown["config"]["student"].items()
        >= {
            "arch": "wrn_10_1",
            "lr": 0.1,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "warmup_epochs": 1,
            "final_lr_fraction": 0.0,
            "train_mode_in_generator_phase": True,
        }.items()
    )
    assert shown["config"]["generator"]["milestones"] == [50, 150]
    assert shown["dataset"].items() >= {"name": "digits", "path": None}.items()
    assert shown["teacher"]["arch"] == "wrn_10_1"
    assert shown["probe"]["num_images"] == 1000
    assert shown["space"]["weights.contrast"] == "loguniform(0.05, 5)"
    assert shown["start"] == study.start
    assert shown["search"]["num_trials"] == 16
    assert shown["storage"] == study.storage


def test_a_teacher_of_a_file_is_shown_by_its_path(raw: Raw) -> None:
    raw["config"] |= {"teacher": {"path": "teacher.pt"}, "dataset": None}
    shown = yaml.safe_load(describe(resolve_study(raw)))
    assert shown["teacher"]["path"] == "teacher.pt"
    assert shown["dataset"] is None


def test_the_cost_is_counted_in_trials_epochs_and_images(raw: Raw) -> None:
    raw["config"]["schedule"] = {"iterations": 10, "generator_steps": 2, "student_steps": 3, "batch_size": 64}
    del raw["space"]["schedule.student_steps"]
    lines = cost(raw | {"search": {"num_trials": 4, "max_concurrent": 1}})
    assert lines == [
        "4 trials of up to 9 epochs, 1 at a time on this machine, 1 CPU and 0 GPU each",
        "one epoch: 3,200 synthetic images; if all trials run to the end: 36 epochs",
        "sampler tpe draws the first 10 trials at random, so all 4 here",
        "ASHA may stop a trial after epoch 1, 3",
    ]


def test_a_grids_points_may_differ_in_their_images(raw: Raw) -> None:
    raw["config"]["schedule"] = {"batch_size": 64}
    raw["config"]["by_method"] = {
        "cpsc": {"schedule": {"iterations": 10, "generator_steps": 2, "student_steps": 3}},
        "cmi": {
            "schedule": {"iterations": 1, "generator_steps": 2, "student_steps": 3, "student_batch_size": 32},
            "cmi": {"bank_size": 64},
        },
    }
    raw["space"] = {"method": {"choice": ["cpsc", "cmi"]}}
    lines = cost(raw | {"search": {"sampler": "grid"}})
    assert "one epoch: 224 to 3,200 synthetic images; if all trials run to the end: 18 epochs" in lines


@pytest.mark.parametrize(
    ("epochs", "prune", "rungs"),
    [
        (9, {"reduction_factor": 3}, "1, 3"),
        (10, {"reduction_factor": 3}, "1, 3, 9"),
        (9, {"reduction_factor": 2}, "1, 2, 4, 8"),
        (9, {"reduction_factor": 3, "grace_epochs": 2}, "2, 6"),
        (9, {"reduction_factor": 2.9}, "1, 3"),  # the third lies at 8.41: only the last epoch is beyond it
        (3, {"reduction_factor": 1.2}, "1, 2"),
    ],
)
def test_the_rungs_are_those_of_the_scheduler(raw: Raw, epochs: int, prune: Raw, rungs: str) -> None:
    raw["config"]["epochs"] = epochs
    assert cost(raw | {"prune": prune})[-1] == f"ASHA may stop a trial after epoch {rungs}"


@pytest.mark.parametrize("prune", [{"scheduler": "none"}, {"grace_epochs": 9}])
def test_a_study_without_a_rung_says_so(raw: Raw, prune: Raw) -> None:
    assert cost(raw | {"prune": prune})[-1] == "no trial is stopped early"


def test_more_processors_than_there_are_is_refused(raw: Raw) -> None:
    with pytest.raises(ConfigError, match=r"^resources\.cpus: asks for 100000 per trial, but this process has only \d+; lower it$"):
        describe(resolve_study(raw | {"resources": {"cpus": 100_000}}))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_a_sweep_held_to_one_processor_runs_one_trial_at_a_time(raw: Raw) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert "1 at a time on this machine, 1 CPU" in cost(raw)[0]
        with pytest.raises(ConfigError, match=r"^resources\.cpus: asks for 2 per trial, but this process has only 1; lower it$"):
            describe(resolve_study(raw | {"resources": {"cpus": 2}}))
    finally:
        os.sched_setaffinity(0, allowed)


def test_more_gpus_than_there_are_is_refused(raw: Raw) -> None:
    with pytest.raises(ConfigError, match=r"^resources\.gpus: asks for 1000, but this machine has \d+; set it to 0 for the CPU$"):
        describe(resolve_study(raw | {"resources": {"gpus": 1000}}))


def test_describing_starts_and_writes_nothing(raw: Raw, tmp_path: Any) -> None:
    describe(resolve_study(raw | {"storage": str(tmp_path / "runs")}))
    assert list(tmp_path.iterdir()) == []


def test_a_priors_centre_is_said_by_method_where_several_are_searched(raw: Raw) -> None:
    raw["space"]["student.clip_norm"] = {"loguniform": [0.1, 10]}  # None is published
    prior = {"search": {"sampler": "prior", "prior": {"confidence": "high"}}}
    (about, centre) = cost(raw | prior)[2:-1]
    assert about == "sampler prior searches around the published values (standard deviation 0.125 of each range):"
    assert centre.startswith("  weights.contrast 0.7, student.lr 0.1, schedule.student_steps 5, cpsc.contrast 'teacher_anchor', ")
    assert centre.endswith("student.clip_norm anything")
    raw["space"] = {"method": {"choice": ["cpsc", "dafl"]}, "generator.lr": {"loguniform": [1e-4, 0.5]}}
    one, other = cost(raw | prior)[3:-1]
    assert one == "  cpsc: generator.lr 0.001"
    assert other == "  dafl: generator.lr 0.02"
    assert not [line for line in cost(raw) if "published" in line]


def test_that_a_gaussian_process_learns_little_beside_asha_is_said(raw: Raw) -> None:
    gp = {"search": {"sampler": "gp", "startup_trials": 4}}
    (line,) = [line for line in cost(raw | gp) if "sampler gp" in line]
    assert line.startswith("sampler gp draws at random until 4 trials are completed")
    assert not [line for line in cost(raw | gp | {"prune": {"scheduler": "none"}}) if "sampler gp" in line]


def test_what_comes_before_the_trials_is_said(raw: Raw) -> None:
    raw["config"]["examiners"] = {"count": 5, "epochs": 3}
    assert not [line for line in cost(raw | {"objective": "probe_agreement"}) if "examiners" in line]
    (line,) = [line for line in cost(raw | {"objective": "exam_score"}) if "examiners" in line]
    assert line == "before them 5 examiners of 3 epochs: the first epochs of trials, during which ASHA cannot stop them"


def test_what_differs_from_the_defaults_comes_first_with_what_gave_way(raw: Raw) -> None:
    del raw["config"]["student"]["warmup_epochs"]
    first, *lines = describe(resolve_study(raw)).splitlines()
    assert first == "# what differs from the defaults, which are the published values of the method:"
    assert "#   config.epochs 9 (default 600)" in lines
    gave_way = "#   config.student.warmup_epochs 1 (default 10, which conflicts with other settings of the study)"
    assert lines.index(gave_way) < lines.index("name: small")


ESTIMATE = Estimate(parts={"probe set": 30.0, "trials": 1170.0}, epoch_s=2.5, num_epochs=50.4, left_out=("this", "that"))


def test_an_estimate_is_said_with_what_it_leaves_out(raw: Raw) -> None:
    *_, about, left_out = describe(resolve_study(raw), ESTIMATE).splitlines()
    assert about == "# about 20 min on this machine (probe set 30 s, trials 20 min): 2.5 s per epoch, about 50 epochs"
    assert left_out == "# left out: this; that"


def test_a_script_is_told_the_same(raw: Raw) -> None:
    raw |= {"storage": "s3://me:secret@bucket/x", "local": "runs", "search": {"num_trials": 4, "max_concurrent": 1}}
    plan = json.loads(to_json(plan_figures(resolve_study(raw), ESTIMATE)))
    assert plan["study"]["config"]["epochs"] == 9
    assert {"path": "config.epochs", "value": 9, "default": 600, "gave_way": False} in plan["differences"]
    assert plan["cost"] == {
        "num_trials": 4,
        "epochs": 9,
        "at_a_time": 1,
        "images_per_epoch": [281600, 281600],
        "epochs_to_the_end": 36,
        "rungs": [1, 3],
    }
    assert plan["estimate"]["minutes"] == 20
    assert plan["estimate"]["left_out"] == ["this", "that"]
    assert plan["remarks"][0].startswith("4 trials of up to 9 epochs")
    assert "secret" not in str(plan)


def test_a_search_too_short_to_learn_is_told_so(raw: Raw) -> None:
    short = {"search": {"num_trials": 4}}
    assert "sampler tpe draws the first 10 trials at random, so all 4 here" in cost(raw | short)
    assert not [line for line in cost(raw | {"search": {"num_trials": 20}}) if "at random" in line]
