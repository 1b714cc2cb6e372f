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

from cpsc.answers import Answers
from cpsc.metrics import agreement
from tests.support.trials import BASES, make_context
from tuning.replay.comparison import is_of_the_moment
from tuning.trial.files import ANSWERS_FILE, STATE_FILE
from tuning.trial.trainable import DistillTrainable, local_trainable


def lasting(results: list[dict[str, float]]) -> list[dict[str, float]]:
    """Results without timings."""
    return [{name: value for name, value in result.items() if not is_of_the_moment(name)} for result in results]


def steps(trainable: DistillTrainable, count: int) -> list[dict[str, float]]:
    """The numbers of so many epochs."""
    return lasting([trainable.step() for _ in range(count)])


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
import json, sys
from pathlib import Path
from cpsc.models import build_model, shapes_alone
from tests.support.trials import BASES, make_context
from tuning.trial.trainable import local_trainable

for base, changes in BASES.items():
    folder = Path(sys.argv[1]) / base
    trainable = local_trainable(make_context(changes), {"weights.l2": 2.0})
    trainable.load_checkpoint(str(folder / "half"))
    epochs = [trainable.step() for _ in range(2)]
    (folder / "end").mkdir()
    trainable.save_checkpoint(str(folder / "end"))
    (folder / "epochs.json").write_text(json.dumps(epochs))
with shapes_alone():  # as a teacher's file is checked
    build_model("wrn_10_1", num_classes=5, channels=1)
slow = {"torch._dynamo", "torchvision", "mlflow", "sklearn"} & sys.modules.keys()
assert not slow, f"{slow} take seconds to load"
"""


@pytest.fixture(scope="module")
def first_halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, float]]]:
    """Two epochs of each base, saved in the folder ``half`` of its own."""
    folder = tmp_path_factory.getbasetemp()
    first = {}
    for base, changes in BASES.items():
        half = local_trainable(make_context(changes), {"weights.l2": 2.0})
        first[base] = steps(half, 2)
        (folder / base / "half").mkdir(parents=True)
        half.save_checkpoint(str(folder / base / "half"))
    return first


@pytest.fixture(scope="module")
def continued(first_halves: dict[str, list[dict[str, float]]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where another process has gone on with them for two epochs."""
    folder, root = tmp_path_factory.getbasetemp(), Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", CONTINUE, folder], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("base", BASES)
def test_two_epochs_saved_and_two_in_a_new_process_equal_four(
    base: str, first_halves: dict[str, list[dict[str, float]]], continued: Path, tmp_path: Path
) -> None:
    whole = local_trainable(make_context(BASES[base]), {"weights.l2": 2.0})
    expected = steps(whole, 4)
    whole.save_checkpoint(str(tmp_path))
    assert first_halves[base] + lasting(json.loads((continued / base / "epochs.json").read_text())) == expected
    for file in (STATE_FILE, "best_student.pt", ANSWERS_FILE):
        uninterrupted = torch.load(tmp_path / file, weights_only=True)
        resumed = torch.load(continued / base / "end" / file, weights_only=True)
        for state in (uninterrupted, resumed):
            for epoch in state.get("history", []):
                for timing in ("train_s", "generation_s", "distillation_s"):
                    epoch.pop(timing, None)
        assert_same_state(resumed, uninterrupted)


def test_a_checkpoint_of_an_earlier_version_has_no_answers_and_those_to_come_are_kept(tmp_path: Path) -> None:
    first, second = (local_trainable(make_context({}), {}) for _ in range(2))
    steps(first, 1)
    first.save_checkpoint(str(tmp_path))
    (tmp_path / ANSWERS_FILE).unlink()
    second.load_checkpoint(str(tmp_path))
    found = steps(second, 1)
    second.save_checkpoint(str(tmp_path))
    answers = Answers.load(tmp_path / ANSWERS_FILE)
    assert answers.epochs == (2,)
    assert agreement(answers.students[0], answers.teacher) == found[0]["probe_agreement"]


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
