"""The pictures in a trial's run: the images that it made in the end, and over the epochs."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from cpsc.pictures import caption_of, labels_of
from tuning.results import TrialRecord
from tuning.tracking.client import FAILURES
from tuning.trial.files import GALLERY_FILE, SAMPLES_FILE

MAX_BYTES = 3_000_000
"""Largest picture in the page; a larger one stays in MLflow."""


@dataclass(frozen=True)
class Picture:
    """A PNG and a line on what it shows. `name`: its kind, the same for every trial; `rows`, `columns`: their labels."""

    name: str
    content: bytes
    caption: str
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()


def pictures_of(client: MlflowClient, trial: TrialRecord) -> list[Picture]:
    """The trial's pictures that can be fetched, the one over the epochs first."""
    return [picture for name in (GALLERY_FILE, SAMPLES_FILE) if (picture := _fetch(client, trial, name)) is not None]


def _fetch(client: MlflowClient, trial: TrialRecord, name: str) -> Picture | None:
    with tempfile.TemporaryDirectory(prefix="cpsc-") as folder:
        try:
            file = Path(client.download_artifacts(trial.run_id, name, folder))
            content = file.read_bytes()
        except FAILURES:
            return None  # not there yet, or deleted
        caption, (rows, columns) = caption_of(file) or name, labels_of(file)
    if len(content) > MAX_BYTES:
        return None
    return Picture(Path(name).stem, content, f"trial {trial.number}: {caption}", rows, columns)
