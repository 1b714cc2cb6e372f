"""Names that a study, and a launch of it, may have: a folder beside the storage's own files."""

import os
import re
from pathlib import Path

from cpsc.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,109}")
"""Of a launch: its study's name, with a number behind it where others had the name before."""
MAX_STUDY_NAME = 100
OF_THE_STORAGE = ("teachers", "probes", "mlflow-artifacts", "mlflow.db", "optuna.db", "driver.lock", "journal.jsonl", "study.yaml")
"""What lies in the storage or in a launch's folder, where the study's own folder would take its place."""
PASSING = (".part", ".lock", ".tmp", "-journal", "-wal", "-shm")
"""Endings of files that come and go: others clean them up."""
OF_MLFLOW = "Default"
"""The experiment that MLflow makes itself, whose artifacts lie elsewhere."""
MAX_NAME_BYTES = 255
"""Of a single folder or file, on any usual file system."""
MAX_PATH_BYTES = 400
"""Of a launch's folder: SQLite opens no file whose path, with what it appends, is longer than 512 bytes."""


def check_study_name(name: str) -> None:
    """Raise ConfigError where a study cannot be called `name`."""
    if not NAME.fullmatch(name) or len(name) > MAX_STUDY_NAME:
        raise ConfigError(
            f"name: must be letters, digits, '_', '.' or '-', at most {MAX_STUDY_NAME}, one of the first two in front, got {name!r}"
        )
    small = name.lower()  # there are file systems for which both are one
    taken = next((own for own in OF_THE_STORAGE if small == own or small.startswith((f"{own}-", f"{own}."))), None)
    if taken or small.endswith(PASSING) or name == OF_MLFLOW:
        raise ConfigError(f"name: {name!r} is what the storage's own files, or MLflow's, are called, choose another")


def check_fits(local: Path, name: str) -> None:
    """Raise ConfigError where the folder of the launch `name` in `local` lies too deep for the files in it."""
    length = len(os.fsencode(local / name))
    if length > MAX_PATH_BYTES:
        raise ConfigError(
            f"local: {local / name} is a path of {length} bytes, at most {MAX_PATH_BYTES} leave room for SQLite's files; "
            "choose another folder with --set local=..., or a shorter name"
        )
