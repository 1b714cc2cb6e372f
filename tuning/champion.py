"""The study's result as MLflow keeps models: logged with a signature, registered, and carrying the alias `champion`."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pytorch
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature

from cpsc import checkpoint
from cpsc.deploy import build_deployed
from cpsc.teacher import Teacher
from tuning.assets import Assets
from tuning.tracking import LAUNCH_TAG, NUMBER_TAG
from tuning.trainable import BEST_STUDENT_FILE

ALIAS = "champion"
EXAMPLE_IMAGES = 2
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow answers where there is no such model, and where the model has no such alias."""


def champion_uri(name: str) -> str:
    """Where the champion of the study `name` is loaded from."""
    return f"models:/{name}@{ALIAS}"


def is_champion(client: MlflowClient, name: str, run_id: str) -> bool:
    """Whether the study's champion is, already, the student of the run `run_id`."""
    try:
        return bool(client.get_model_version_by_alias(name, ALIAS).run_id == run_id)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return False
        raise


def register_champion(client: MlflowClient, name: str, run_id: str, checkpoint_folder: Path, assets: Assets) -> str:
    """Log the best student in `checkpoint_folder` to its trial's run and register it as `name` -> its model URI.

    The example that its signature is read from comes from the probe set: there is no real image to take.
    """
    saved = checkpoint.load(checkpoint_folder / BEST_STUDENT_FILE, kind="best student", needs=("arch", "student"))
    model = build_deployed(saved["arch"], saved["student"], assets.teacher)
    example = assets.probe.images[:EXAMPLE_IMAGES].float().div(255.0)
    run = client.get_run(run_id)
    # Made here and not by Model.log, which would put it, and its files, into the default experiment in the current folder.
    entry = client.create_logged_model(run.info.experiment_id, name="student", source_run_id=run_id, params=run.data.params)
    mlflow.set_tracking_uri(client.tracking_uri)  # Model.log offers no other way to name the store
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export and MLflow warn about each other
        logged = Model.log(
            artifact_path=None,
            model_id=entry.model_id,
            flavor=mlflow.pytorch,
            run_id=run_id,
            pytorch_model=model,
            signature=infer_signature(example.numpy(), model(example).detach().numpy()),
            input_example=example.numpy(),
            pip_requirements=["torch"],
        )
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=_how_to_use(name, assets.teacher))
    version = client.create_model_version(
        name,
        source=logged.model_uri,
        run_id=run_id,
        model_id=logged.model_id,
        tags=_labels(run, saved),
        description=_origin(run, saved),
    )
    client.set_registered_model_alias(name, ALIAS, version.version)
    return champion_uri(name)


def _how_to_use(name: str, teacher: Teacher) -> str:
    side = teacher.image_size
    return (
        f"Students that the study *{name}* has distilled without data; `{ALIAS}` is the one that its last sweep has chosen.\n\n"
        f"Takes pixels in 0 to 1, float32 [N, {teacher.channels}, {side}, {side}]; answers logits [N, {teacher.num_classes}] of "
        f'the teacher\'s classes. It is loaded by `mlflow.pytorch.load_model("{champion_uri(name)}")`.'
    )


def _origin(run: Run, saved: Mapping[str, Any]) -> str:
    of_epoch = f" after epoch {saved['epoch']}" if "epoch" in saved else ""  # earlier versions did not save it
    return f"The student of {run.info.run_name}{of_epoch}, launch {run.data.tags[LAUNCH_TAG]}."


def _labels(run: Run, saved: Mapping[str, Any]) -> dict[str, str]:
    """What a person tells versions apart by: `launch`, `trial`, `arch`, and what was measured of this student."""
    measured = {metric: f"{value:.4f}" for metric, value in saved.get("measured", {}).items()}
    return {"launch": run.data.tags[LAUNCH_TAG], "trial": run.data.tags[NUMBER_TAG], "arch": saved["arch"]} | measured
