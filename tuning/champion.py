"""The study's result as MLflow keeps models: logged with a signature, registered, and carrying the alias `champion`."""

import warnings
from pathlib import Path

import mlflow
import mlflow.pytorch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature

from cpsc import checkpoint
from cpsc.deploy import build_deployed
from tuning.assets import Assets
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
        client.create_registered_model(name)
    version = client.create_model_version(name, source=logged.model_uri, run_id=run_id, model_id=logged.model_id)
    client.set_registered_model_alias(name, ALIAS, version.version)
    return champion_uri(name)
