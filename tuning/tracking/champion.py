"""The study's result as MLflow keeps models: a network with a signature, and what a person reads beside it."""

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
"""What the registry says in a version's description; all that was measured stands in its tags."""
MODEL_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow answers where there is no such model, and where the model has no such alias."""


def champion_uri(name: str) -> str:
    """Where the champion of the study `name` is loaded from."""
    return f"models:/{name}@{ALIAS}"


@dataclass(frozen=True)
class Champion:
    """The best student of the study `name`, in the run of the trial that made it.

    `saved`: what the trial's checkpoint holds of it; `example`: pixels in 0 to 1, float32 [N, C, H, W], for its signature;
    `doubts`: what whoever takes it must know.
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
        """The best student in `checkpoint_folder`; CheckpointError where it cannot be read.

        Its example comes from the probe set: there is no real image to take.
        """
        saved = checkpoint.load(checkpoint_folder / BEST_STUDENT_FILE, kind="best student", needs=("arch", "student"))
        model = build_deployed(saved["arch"], saved["student"], assets.teacher)
        example = assets.probe.images[:EXAMPLE_IMAGES].float().div(255.0)
        return cls(name, run, saved, model, assets.teacher, example, doubts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of architecture and weights: what tells this student from the same trial's at another epoch."""
        digest = hashlib.sha256(self.saved["arch"].encode())
        for name, tensor in self.saved["student"].items():
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save(self, entry: LoggedModel, folder: Path) -> None:
        """Write the files of the logged model `entry` to `folder`, which must not exist."""
        with log_levels({"": logging.getLogger().level}):  # importing it silences the warnings of the whole program
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
        """Those of its trial; where that has taken over others of its population, with the values that it ended with."""
        exploits = exploits_in(self.run.data.tags)
        last = {path: str(value) for path, value in exploits[-1].point.items()} if exploits else {}
        return {**self.run.data.params, **last}

    def how_to_use(self) -> str:
        """What the registry says of all of the study's students."""
        teacher, side = self.teacher, self.teacher.image_size
        return (
            f"Students that the study *{self.name}* has distilled without data; `{ALIAS}` is the one that its last sweep has "
            f"chosen.\n\nTakes pixels in 0 to 1, float32 [N, {teacher.channels}, {side}, {side}]; answers logits "
            f"[N, {teacher.num_classes}] of the teacher's classes. It is loaded by "
            f'`mlflow.pytorch.load_model("{champion_uri(self.name)}")`.'
        )

    def origin(self) -> str:
        """What the registry says of this one, and why it is in doubt, where it is."""
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
        """What a person tells versions apart by: `launch`, `trial`, `arch`, and what was measured of this student."""
        tags = self.run.data.tags
        measured = {metric: f"{value:.4f}" for metric, value in self.saved.get("measured", {}).items()}
        named = {"launch": tags[LAUNCH_TAG], "trial": tags[NUMBER_TAG], "arch": self.saved["arch"]}
        doubts = ", ".join(finding.name for finding in self.doubts)[:MAX_TAG] or SOUND
        return named | measured | {DOUBT_TAG: doubts, DIGEST_TAG: self.digest}
