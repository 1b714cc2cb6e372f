"""Export of a launch to Weights & Biases and TensorBoard."""

import shlex
from pathlib import Path

from mlflow import MlflowClient

from tuning.display import Display
from tuning.report.files import recorded_study, report_folder
from tuning.report.tensorboard_files import write_event_files
from tuning.report.wandb_runs import Destination, export_to_wandb
from tuning.results import Launch
from tuning.study import Study


def export_launch(
    study: Study,
    launch: Launch,
    client: MlflowClient,
    display: Display,
    *,
    folder: Path | None,
    wandb: Destination | None,
    tensorboard: bool,
) -> None:
    """Export to the tools that are asked for and say where the result is; files go to `folder`, by default the report's."""
    if wandb is not None:
        display.say(export_to_wandb(launch, client, wandb, folder or report_folder(study, launch), display))
    if tensorboard:
        files = write_event_files(launch, recorded_study(study, launch, client), folder or report_folder(study, launch))
        display.say(f"TensorBoard: {shlex.join(['tensorboard', '--logdir', str(files)])}")
