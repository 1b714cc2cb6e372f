"""Interrupted equals uninterrupted, and a reused actor equals a fresh one, bit for bit on a CPU."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cpsc.data import Split
from cpsc.data.dataset import Normalisation
from cpsc.models import build_model
from cpsc.presets import preset
from cpsc.probe import ProbeConfig, synthesise
from cpsc.rng import seeded_init
from cpsc.teacher import Teacher
from tuning.replay.comparison import is_of_the_moment
from tuning.storage import Storage
from tuning.study.base_config import BaseConfig
from tuning.trial.context import TrialContext
from tuning.trial.files import STATE_FILE
from tuning.trial.trainable import DistillTrainable, local_trainable

BASES: dict[str, dict[str, Any]] = {
    "paper": {},
    "reference": preset("reference", num_classes=10),
    "replay": {"replay": {"kind": "vae", "latent_dim": 8}},
    "no embedding": {"generator": {"embedding": "none"}},
}


def make_teacher() -> Teacher:
    """A teacher with random weights and batch-norm statistics that have seen something; wider than the student."""
    with seeded_init(0, "test teacher"):
        network = build_model("wrn_10_2", num_classes=5, channels=1)
        for _ in range(3):
            network(torch.randn(32, 1, 8, 8))
    return Teacher(
        arch="wrn_10_2",
        class_names=tuple("abcde"),
        channels=1,
        image_size=8,
        normalisation=Normalisation((0.5,), (0.25,)),
        dataset="noise",
        test_accuracy=0.2,
        state=network.state_dict(),
    )


def make_context(changes: dict[str, Any]) -> TrialContext:
    base = {
        "epochs": 4,
        "precision": "fp32",
        "student": {"arch": "wrn_10_1", "warmup_epochs": 1},
        "schedule": {"iterations": 3, "generator_steps": 2, "student_steps": 2, "batch_size": 10},
    }
    base["generator"] = {"width": 8, "latent_dim": 8, "milestones": [2]} | changes.get("generator", {})
    base |= {section: changes.get(section, {}) for section in ("cpsc", "replay")}
    teacher = make_teacher()
    probe = synthesise(teacher, ProbeConfig(num_images=20, batch_size=20, steps=2), torch.device("cpu"))
    rng = torch.Generator().manual_seed(0)
    test = Split(torch.randint(0, 256, (30, 1, 8, 8), generator=rng, dtype=torch.uint8), torch.arange(30) % 5)
    return TrialContext(
        base=BaseConfig(own=base),
        teacher=teacher,
        probe=probe,
        test=test,
        objective="probe_agreement",
        threads=1,
        device="cpu",
        gpus=0,
        storage=Storage("."),
    )


def steps(trainable: DistillTrainable, count: int) -> list[dict[str, float]]:
    """The numbers of so many epochs, without timings and Ray's bookkeeping."""
    results = [trainable.step() for _ in range(count)]
    return [{name: value for name, value in result.items() if not is_of_the_moment(name)} for result in results]


def assert_same_state(left: Any, right: Any, where: str = "state") -> None:
    assert type(left) is type(right), where
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same_state(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same_state(a, b, f"{where}[{index}]")
    else:
        assert left == right, where


CONTINUE = """
import json, sys, torch
from pathlib import Path
from types import SimpleNamespace
from tests.integration.test_trial_resume import BASES, make_context, steps
from tuning.trial.trainable import local_trainable

base, folder = sys.argv[1], Path(sys.argv[2])
trainable = local_trainable(make_context(BASES[base]), {"weights.l2": 2.0})
trainable.load_checkpoint(str(folder / "half"))
print(json.dumps(steps(trainable, 2)))
(folder / "end").mkdir()
trainable.save_checkpoint(str(folder / "end"))
"""


@pytest.mark.parametrize("base", BASES)
def test_two_epochs_saved_and_two_in_a_new_process_equal_four(base: str, tmp_path: Path) -> None:
    context, point = make_context(BASES[base]), {"weights.l2": 2.0}
    whole = local_trainable(context, point)
    expected = steps(whole, 4)
    (tmp_path / "whole").mkdir()
    whole.save_checkpoint(str(tmp_path / "whole"))

    half = local_trainable(context, point)
    first = steps(half, 2)
    (tmp_path / "half").mkdir()
    half.save_checkpoint(str(tmp_path / "half"))
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", CONTINUE, base, str(tmp_path)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert first + json.loads(done.stdout.splitlines()[-1]) == expected
    for file in (STATE_FILE, "best_student.pt"):
        uninterrupted = torch.load(tmp_path / "whole" / file, weights_only=True)
        resumed = torch.load(tmp_path / "end" / file, weights_only=True)
        for state in (uninterrupted, resumed):
            for epoch in state.get("history", []):
                epoch.pop("train_s", None)
        assert_same_state(resumed, uninterrupted)


def test_a_trial_on_a_reused_actor_equals_one_on_a_fresh_actor() -> None:
    context = make_context({})
    point = {"weights.l2": 0.5, "student.lr": 0.05}
    fresh = local_trainable(context, copy.deepcopy(point))
    reused = local_trainable(context, {"weights.l2": 4.0, "seed": 3})
    steps(reused, 2)
    assert reused.reset({"number": 1, "point": copy.deepcopy(point)})
    assert steps(reused, 3) == steps(fresh, 3)
    assert_same_state(reused.distiller.state_dict()["parts"], fresh.distiller.state_dict()["parts"])


def test_a_diverging_trial_ends_with_the_worst_objective_and_a_reason() -> None:
    trainable = local_trainable(make_context({}), {"student.lr": 1e30})
    result = trainable.step()
    assert result["diverged"]
    assert result["done"]
    assert result["best_probe_agreement"] == 0.0
    assert "is not finite" in result["reason"]


def test_a_corrupt_checkpoint_is_skipped_for_the_one_before_and_the_trial_says_so(tmp_path: Path) -> None:
    context, point = make_context({}), {"weights.l2": 2.0}
    whole = local_trainable(context, point)
    expected = steps(whole, 3)
    first = local_trainable(context, point)
    for epoch in (0, 1):
        steps(first, 1)
        (tmp_path / f"checkpoint_{epoch:06d}").mkdir()
        first.save_checkpoint(str(tmp_path / f"checkpoint_{epoch:06d}"))
    newest = tmp_path / "checkpoint_000001" / STATE_FILE
    newest.write_bytes(newest.read_bytes()[:1000])

    retried = local_trainable(context, point)
    reported = SimpleNamespace(path=str(tmp_path / "checkpoint_000001"))
    retried.restore(SimpleNamespace(checkpoint=reported, metrics={"training_iteration": 2}))  # as Ray calls it
    assert steps(retried, 2) == [result | {"note": retried._note} for result in expected[1:]]
    assert "not a readable trial checkpoint" in retried._note

    resumed = local_trainable(context, {})
    resumed.reset({"number": 0, "point": point, "restore": [str(newest.parent), str(tmp_path / "absent")]})
    assert steps(resumed, 1) == [expected[0] | {"note": resumed._note}], "with no readable checkpoint it starts anew"
