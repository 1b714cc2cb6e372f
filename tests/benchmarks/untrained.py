"""Trials that train nothing, so that all that is left is the cost of the sweep itself.

Workers import this module, so it imports nothing that a trial does not need.
"""

import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from ray.tune import Trainable

from cpsc import checkpoint
from cpsc.pictures import save_grid
from tuning.study import build_config
from tuning.study.yaml_loader import to_plain
from tuning.trial.context import TrialContext
from tuning.trial.files import BEST_STUDENT_FILE, CONFIG_FILE, SAMPLES_FILE, STATE_FILE
from tuning.trial.trainable import node_name

OTHER_METRICS = 40
"""Metrics besides those of the objective: as many as a real trial reports."""


def agreement(point: dict[str, float], epoch: int) -> float:
    """The curve of a trial: the further its weight is from 5, the lower its ceiling."""
    return math.exp(-abs(math.log(point["weights.l2"] / 5))) * (1 - math.exp(-epoch / 2))


class CurveTrainable(Trainable):
    """Replaces DistillTrainable: the same kinds of results and files, without training."""

    def setup(self, config: dict[str, Any], context: TrialContext | None = None) -> None:
        assert context is not None
        self._epochs = build_config(context.base, {}).epochs
        self._files = files_like_a_trained_one(context)
        self._node = node_name()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._point, self._epoch = new_config["point"], 0
        return True

    def step(self) -> dict[str, Any]:
        self._epoch += 1
        value = agreement(self._point, self._epoch)
        metrics = {f"measure_{number:02d}": value / (number + 1) for number in range(OTHER_METRICS)}
        metrics |= {"probe_agreement": value, "best_probe_agreement": value, "probe_kl": 1 - value}
        state = {"diverged": False, "done": self._epoch >= self._epochs, "note": "", "node": self._node}
        return metrics | {"epoch": self._epoch} | state

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        for name, content in self._files.items():
            (Path(checkpoint_dir) / name).write_bytes(content)


def files_like_a_trained_one(context: TrialContext) -> dict[str, bytes]:
    """The files of a trial's checkpoint, by name; the teacher stands in for the student."""
    student = dict(context.teacher.state)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint.save({"version": 1, "epoch": 1, "parts": {"student": student}}, folder / STATE_FILE)
        checkpoint.save({"version": 1, "student": student, "arch": context.teacher.arch}, folder / BEST_STUDENT_FILE)
        (folder / CONFIG_FILE).write_text(yaml.safe_dump(to_plain(asdict(build_config(context.base, {})))))
        save_grid(torch.randint(0, 256, (10, 4, 1, 16, 16), dtype=torch.uint8), folder / SAMPLES_FILE)
        return {file.name: file.read_bytes() for file in folder.iterdir()}
