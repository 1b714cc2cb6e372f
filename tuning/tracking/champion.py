"""The study's result as an MLflow model: a network with a signature, and descriptions for people."""

import hashlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mlflow.entities import LoggedModel, Run
from mlflow.models import Model, infer_signature
from torch import Tensor

from cpsc import checkpoint
from cpsc.deploy import DeployedStudent, build_deployed
from cpsc.ground import Finding
from cpsc.teacher import Teacher
from tuning.process_settings import log_levels
from tuning.shown_figures import shown_name, shown_value
from tuning.tracking.exploit_tags import exploits_in
from tuning.tracking.tags import DIGEST_TAG, DOUBT_TAG, LAUNCH_TAG, MAX_TAG, NUMBER_TAG, SOUND
from tuning.trial import Assets
from tuning.trial.files import BEST_STUDENT_FILE, SCHEDULE_FILE

ALIAS = "champion"
EXAMPLE_IMAGES = 2
SHOWN = ("exam_score", "held_out_agreement", "probe_overlap", "probe_agreement", "probe_kl", "test_accuracy")
"""Metrics in a version's description; its tags have all that was measured."""
MODEL_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's error codes for a model that does not exist, and for a model without the alias."""


def champion_uri(name: str) -> str:
    """The URI to load the champion of the study `name` from."""
    return f"models:/{name}@{ALIAS}"


@dataclass(frozen=True)
class Champion:
    """The best student of the study `name`, in the run of the trial that trained it.

    `saved`: the student's part of the trial's checkpoint; `example`: pixels in 0 to 1, float32 [N, C, H, W], for its signature;
    `doubts`: findings that put it in doubt.
    """

    name: str
    run: Run
    saved: Mapping[str, Any]
    model: DeployedStudent
    teacher: Teacher
    example: Tensor
    doubts: Sequence[Finding] = ()

    @classmethod
    def load(cls, name: str, run: Run, checkpoint_folder: Path, assets: Assets, *, doubts: Sequence[Finding] = ()) -> "Champion":
        """Load the best student in `checkpoint_folder`; CheckpointError if it cannot be read.

        Its example comes from the probe set, because there may be no real image.
        """
        saved = checkpoint.load(checkpoint_folder / BEST_STUDENT_FILE, kind="best student", needs=("arch", "student"))
        model = build_deployed(saved["arch"], saved["student"], assets.teacher)
        example = assets.probe.images[:EXAMPLE_IMAGES].float().div(255.0)
        return cls(name, run, saved, model, assets.teacher, example, doubts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of architecture and weights, to tell this student from the same trial's student at another epoch."""
        digest = hashlib.sha256(self.saved["arch"].encode())
        for name, tensor in self.saved["student"].items():
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save(self, entry: LoggedModel, folder: Path) -> None:
        """Write the files of the logged model `entry` to `folder`, which must not exist."""
        with log_levels({"": logging.getLogger().level}):  # importing it silences warnings of the whole program
            import mlflow.pytorch

        pixels = self.example.numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.export and MLflow warn about each other
            mlflow.pytorch.save_model(
                self.model,
                folder,
                mlflow_model=Model(
                    artifact_path=entry.artifact_location,
                    model_uuid=entry.model_id,
                    run_id=self.run.info.run_id,
                    model_id=entry.model_id,
                ),
                signature=infer_signature(pixels, self.model(self.example).detach().numpy()),
                input_example=pixels,
                pip_requirements=["torch"],
            )

    @property
    def params(self) -> dict[str, str]:
        """The trial's parameters; if it copied others of its population, with the values that it ended with."""
        exploits = exploits_in(self.run.data.tags)
        last = {path: str(value) for path, value in exploits[-1].point.items()} if exploits else {}
        return {**self.run.data.params, **last}

    def how_to_use(self) -> str:
        """Description of the registered model: all of the study's students."""
        teacher, side = self.teacher, self.teacher.image_size
        return (
            f"Students that the study *{self.name}* distilled without data; `{ALIAS}` is the one that its last sweep chose."
            f"\n\nInput: pixels in 0 to 1, float32 [N, {teacher.channels}, {side}, {side}]. Output: logits "
            f"[N, {teacher.num_classes}] of the teacher's classes. Load it with "
            f'`mlflow.pytorch.load_model("{champion_uri(self.name)}")`.'
        )

    def origin(self) -> str:
        """Description of this version: where it comes from, and what puts it in doubt, if anything."""
        of_epoch = f" after epoch {self.saved['epoch']}" if "epoch" in self.saved else ""  # earlier versions did not save it
        changed = (
            f" Its values changed while it trained, see {SCHEDULE_FILE} of that run." if exploits_in(self.run.data.tags) else ""
        )
        origin = f"The student of {self.run.info.run_name}{of_epoch}, launch {self.run.data.tags[LAUNCH_TAG]}.{changed}"
        measured = self.saved.get("measured", {})
        figures = [f"{shown_name(metric)} {shown_value(metric, measured[metric])}" for metric in SHOWN if metric in measured]
        paragraphs = [
            origin,
            *([f"Measured: {', '.join(figures)}."] if figures else []),
            *(f"**In doubt:** {finding}." for finding in self.doubts),
            f"`cpsc-tune export STUDY --run {self.run.info.run_id} --output student` writes it as files that need neither "
            "MLflow nor this package.",
        ]
        return "\n\n".join(paragraphs)

    def labels(self) -> dict[str, str]:
        """Tags that tell versions apart: `launch`, `trial`, `arch`, and the student's metrics."""
        tags = self.run.data.tags
        measured = {metric: f"{value:.4f}" for metric, value in self.saved.get("measured", {}).items()}
        named = {"launch": tags[LAUNCH_TAG], "trial": tags[NUMBER_TAG], "arch": self.saved["arch"]}
        doubts = ", ".join(finding.name for finding in self.doubts)[:MAX_TAG] or SOUND
        return named | measured | {DOUBT_TAG: doubts, DIGEST_TAG: self.digest}
