"""A launch on disk: one folder with the study file, the journal and an attempt's folder for each time it was driven."""

import shlex
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cpsc.checkpoint import atomic_path
from cpsc.errors import ConfigError
from tuning.assets import Assets
from tuning.config import Study, folder_path, load_study
from tuning.inputs import inputs_of
from tuning.journal import FILE_NAME, Event, Journal
from tuning.journal_copy import JournalCopy
from tuning.layers import refuse_scale
from tuning.names import NAME, check_fits
from tuning.network_cost import teacher_cost
from tuning.redaction import redact
from tuning.safe_yaml import dump_yaml
from tuning.storage import Storage
from tuning.tracking import MlflowWriter
from tuning.trainable import to_plain
from tuning.user_code import code_folders

STUDY_FILE = "study.yaml"
SWITCHED_OFF = "switched_off"
"""The parameter that names settings of the study file which were not followed: see `fitting`."""


def records_copy(study: Study) -> Storage | None:
    """The storage, where it is not the folder that the records are made in."""
    storage = Storage(study.storage)
    return None if storage.root == str(study.local) and storage.is_local else storage


def new_launch(study: Study) -> str:
    """Make the launch's folder, named after the study with a number behind it where earlier launches took the name."""
    name, number, storage = study.name, 1, Storage(study.storage)
    while (study.local / name).exists() or storage.exists(name):
        number += 1
        name = f"{study.name}-{number}"
    folder = study.local / name
    folder.mkdir(parents=True)
    text = dump_yaml(to_plain(study.source))
    file = folder / STUDY_FILE
    file.touch(mode=0o600)  # a URI in it may carry a password, which a resume needs
    file.write_text(text, encoding="utf-8")
    if copy := records_copy(study):
        with copy.writing(f"{name}/{STUDY_FILE}") as path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(redact(text), encoding="utf-8")
    return name


def open_launch(storage: str, name: str, overrides: list[str]) -> Study:
    """The study of an existing launch, with `overrides`. ConfigError where there is none, with the names that there are.

    `storage`: the folder with its records, or the URI of the study's storage; from there they are fetched into the
    study's local folder where they are missing or behind, as on a driver's machine that is new.
    """
    refuse_scale(overrides)
    if not NAME.fullmatch(name):
        raise ConfigError(f"launch {name!r}: is no launch's name, letters, digits, '_', '.' and '-' only")
    if "://" in storage:
        return _fetch_launch(Storage(storage), name, overrides)
    folder = folder_path(storage, "--storage")
    file = folder / name / STUDY_FILE
    if not file.is_file():
        known = sorted(found.parent.name for found in folder.glob(f"*/{STUDY_FILE}"))
        raise ConfigError(f"launch {name!r}: not under {folder}, there is {', '.join(known) or 'none'}")
    check_fits(folder, name)
    study = load_study(file, overrides)
    has_one_root = study.storage == str(study.local)  # and it may have been moved, or named relative to another folder
    return replace(study, local=folder, storage=str(folder) if has_one_root else study.storage)


def _fetch_launch(storage: Storage, name: str, overrides: list[str]) -> Study:
    if not storage.exists(f"{name}/{STUDY_FILE}"):
        known = [found for found in storage.names() if storage.exists(f"{found}/{STUDY_FILE}")]
        raise ConfigError(f"launch {name!r}: not under {storage}, there is {', '.join(known) or 'none'}")
    with storage.reading(storage.path(f"{name}/{STUDY_FILE}")) as copy:
        local = load_study(copy, overrides).local
        folder = local / name
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / STUDY_FILE
        if not file.is_file():
            file.touch(mode=0o600)
            file.write_bytes(copy.read_bytes())
    _fetch_journal(storage, name, folder)
    # The copy of the study file names no password: the storage is the one that was given, and so are others, by --set.
    return replace(load_study(file, [f"storage={storage.location}", *overrides]), local=local)


def _fetch_journal(storage: Storage, name: str, folder: Path) -> None:
    path = folder / FILE_NAME
    if storage.size(f"{name}/{FILE_NAME}") <= (path.stat().st_size if path.exists() else 0):
        return
    with storage.reading(storage.path(f"{name}/{FILE_NAME}")) as copy, atomic_path(path) as fetched:
        fetched.write_bytes(copy.read_bytes())


def resume_command(study: Study, name: str) -> str:
    """What to type to go on with the launch `name`."""
    return shlex.join(["cpsc-tune", "resume", name, "--storage", str(study.local)])


def launch_start(study: Study, assets: Assets, launch_id: str) -> Event:
    """The journal's first event."""
    params = {
        "objective": study.objective,
        "epochs": study.config.epochs,
        "num_trials": study.search.num_trials,
        "sampler": study.search.sampler,
        "scheduler": study.prune.scheduler,
        "search_seed": study.search.seed,
        **{f"space.{path}": str(domain) for path, domain in study.space.items()},
        **shared_params(assets),
    }
    return {
        "kind": "launch_start",
        "time": time.time(),
        "launch_id": launch_id,
        "params": {key: str(value) for key, value in params.items()},
        "inputs": inputs_of(study, assets),
        "code_folders": list(code_folders()),
        "study": redact(dump_yaml(to_plain(study.source))),
    }


def recorded_code_folders(events: Iterable[Event]) -> list[str]:
    """Where the driver that began a launch looked for its teacher's factory."""
    folders = next((event for event in events if event["kind"] == "launch_start"), {}).get("code_folders")
    return [folder for folder in folders if isinstance(folder, str)] if isinstance(folders, list) else []


def shared_params(assets: Assets) -> dict[str, Any]:
    """What is true of every trial of the launch."""
    teacher = assets.teacher
    accuracy = {} if teacher.test_accuracy is None else {"teacher.test_accuracy": teacher.test_accuracy}
    return {
        "teacher.arch": teacher.arch,
        "teacher.digest": teacher.digest[:12],
        **accuracy,
        "teacher.normalisation": asdict(teacher.normalisation),
        **teacher_cost(teacher),
        "probe.num_images": len(assets.probe.labels),
        **({"teacher.batch_norms": about} if (about := str(assets.norms or "")) else {}),
        **({SWITCHED_OFF: ", ".join(assets.switched_off)} if assets.switched_off else {}),
    }


def open_writer(study: Study, name: str, launch_id: str) -> MlflowWriter:
    """The thread that delivers the journal of the launch `name`, once it is started."""
    journal = Journal(study.local / name)
    return MlflowWriter(journal, study, name, launch_id, JournalCopy(journal, records_copy(study), name))
