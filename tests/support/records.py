"""A recorded trial made by hand, where a test needs no MLflow."""

from dataclasses import replace
from typing import Any, cast

from mlflow import MlflowClient

from tuning.outcome import Outcome
from tuning.results.recorded_trial import RecordedTrial


class NoArtifacts:
    """An MLflow client of a run that has logged no files."""

    def list_artifacts(self, run_id: str, path: str) -> list[Any]:
        return []


def recorded_trial(**changes: Any) -> RecordedTrial:
    """A completed trial of three epochs, with `changes`."""
    trial = RecordedTrial(
        client=cast(MlflowClient, NoArtifacts()),
        run_id="0123456789abcdef",
        parent_id="fedcba9876543210",
        study_name="small",
        launch="small-2",
        launch_id="launch",
        number=4,
        outcome=Outcome.COMPLETED,
        reason="",
        point={"weights.contrast": 0.5},
        settings={"weights.contrast": 0.5, "epochs": 9},
        facts={"teacher.digest": "abc"},
        curves={
            "student/kl": {1: 0.9, 2: 0.6, 3: 0.3},
            "probe_agreement": {1: 0.25, 2: 0.75, 3: 0.5},
            "probe_kl": {1: 0.5, 2: 0.4, 3: 0.3},
            "best_epoch": {1: 1.0, 2: 2.0, 3: 2.0},
            "epoch_s": {1: 7.0, 2: 8.0, 3: 9.0},
        },
        environment=None,
        is_finalist=False,
    )
    return replace(trial, **changes)
