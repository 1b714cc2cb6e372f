"""Valid names of studies and launches, which become folders next to the storage's own files."""

import os
import re
from pathlib import Path

from cpsc.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,109}")
"""Names of launches: the study's name, plus a number if it was taken."""
MAX_STUDY_NAME = 100
OF_THE_STORAGE = ("teachers", "probes", "mlflow-artifacts", "mlflow.db", "optuna.db", "driver.lock", "journal.jsonl", "study.yaml")
"""Files and folders in the storage or a launch's folder, which a study's folder would replace."""
PASSING = (".part", ".lock", ".tmp", "-journal", "-wal", "-shm")
"""Endings of temporary files, which are cleaned up."""
OF_MLFLOW = "Default"
"""The experiment that MLflow creates itself, with its artifacts elsewhere."""
MAX_NAME_BYTES = 255
"""Longest name of a single file or folder on common file systems."""
MAX_PATH_BYTES = 400
"""Longest path of a launch's folder: SQLite opens no file with a path, including the endings it adds, of more than 512 bytes."""


def check_study_name(name: str) -> None:
    """Raise ConfigError unless `name` is a valid name for a study."""
    if not NAME.fullmatch(name) or len(name) > MAX_STUDY_NAME:
        raise ConfigError(
            f"name: must be letters, digits, '_', '.' or '-', at most {MAX_STUDY_NAME}, a letter or digit first, got {name!r}"
        )
    small = name.lower()  # some file systems ignore case
    taken = next((own for own in OF_THE_STORAGE if small == own or small.startswith((f"{own}-", f"{own}."))), None)
    if taken or small.endswith(PASSING) or name == OF_MLFLOW:
        raise ConfigError(f"name: {name!r} is reserved for files of the storage or of MLflow, choose another")


def check_fits(local: Path, name: str) -> None:
    """Raise ConfigError if the path of the launch `name` in `local` is too long for the files in it."""
    length = len(os.fsencode(local / name))
    if length > MAX_PATH_BYTES:
        raise ConfigError(
            f"local: {local / name} is too long ({length} bytes), at most {MAX_PATH_BYTES} leave room for SQLite's files; "
            "choose another folder with --set local=..., or a shorter name"
        )
