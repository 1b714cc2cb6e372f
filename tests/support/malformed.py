"""Malformed study files, checkpoints, teachers, probe sets, datasets, journals and arguments, each through the command line.

Each must end in exit status 2 and one line on stderr, before Ray starts and without running what a file holds.
``python -m tests.support.malformed`` runs them all and prints the lines.
"""

import argparse
import atexit
import contextlib
import copy
import functools
import io
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cpsc import checkpoint
from cpsc.data import DatasetConfig, Normalisation, load_dataset
from cpsc.models import build_model
from cpsc.probe import ProbeConfig, ProbeSet
from cpsc.teacher import Teacher
from cpsc.teacher_training import TeacherRecipe
from tests.support.command_line import run_cli
from tests.support.curves import drawn_record
from tests.support.studies import tiny_study, write_study
from tuning import cli, simulate
from tuning.study.config import resolve_study

Study = dict[str, Any]
Write = Callable[[Path], list[str]]

MARKER = "it-ran"
"""The file, in the current folder, that code planted in an input would make."""


@dataclass(frozen=True)
class Case:
    """`write` puts the malformed input into a folder -> the arguments; `says`: what the line must hold, besides being one.

    `main`: of the program that they are arguments of.
    """

    name: str
    write: Write
    says: str = ""
    main: Callable[[], None] = cli.main


@dataclass(frozen=True)
class Ending:
    """What a call of the command line left; `escaped`: an error that was not caught, or Ray."""

    status: object
    out: str
    err: str
    escaped: str = ""


# Sound inputs, to be damaged


def sound_teacher(*, seed: int = 0) -> Teacher:
    """A bundle for digits whose weights are drawn, not trained: the command line does not mind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model("wrn_10_1", num_classes=10, channels=1)
    return Teacher(
        arch="wrn_10_1",
        class_names=tuple("0123456789"),
        channels=1,
        image_size=16,
        normalisation=Normalisation(mean=(0.3,), std=(0.3,)),
        dataset="digits",
        test_accuracy=0.5,
        state={name: tensor.contiguous() for name, tensor in network.state_dict().items()},
    )


def sound_probe(teacher: Teacher) -> ProbeSet:
    images = torch.randint(0, 256, (20, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ProbeSet(images=images, labels=torch.arange(20) % 10, teacher_digest=teacher.digest, teacher_accuracy=0.5)


def study_of_a_bundle() -> Study:
    """The tiny study without labelled images, whose teacher is ``teacher.pt``."""
    study = tiny_study()
    del study["config"]["dataset"]
    study["config"]["teacher"] = {"path": "teacher.pt"}
    return study


def probe_path(teacher: Teacher) -> Path:
    config = ProbeConfig(**tiny_study()["config"]["probe"])
    return Path("runs") / "probes" / f"{teacher.digest[:12]}-{config.digest}.pt"


def sound_journal() -> list[dict[str, Any]]:
    """What a sweep of one trial writes that was killed in the second epoch."""
    point = {"weights.l2": 1.0, "contrast_temperature": 0.07}
    metrics = {"probe_agreement": 0.5, "best_probe_agreement": 0.5, "probe_kl": 1.0, "epoch_s": 1.0}
    params = {"objective": "probe_agreement", "epochs": "3"}
    events: list[dict[str, Any]] = [
        {"kind": "launch_start", "launch_id": "a" * 32, "params": params, "study": "name: tiny\n"},
        {"kind": "attempt_start", "attempt": 0},
        {"kind": "proposed", "number": 0, "point": point},
        {"kind": "trial_start", "number": 0, "point": point, "params": {"epochs": "3"}, "ray_trial_id": "x"},
        {"kind": "epoch", "number": 0, "epoch": 1, "metrics": metrics, "note": ""},
        {"kind": "checkpoint", "number": 0, "path": "absent"},
        {"kind": "epoch", "number": 0, "epoch": 2, "metrics": metrics, "note": ""},
    ]
    return [event | {"time": 1e9 + second} for second, event in enumerate(events)]


# Study files

TEXTS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "must be a mapping with name, config and space, got NoneType"),
    "a list": ("- a\n- b\n", "got list"),
    "words": ("just words", "got str"),
    "binary": (b"\x80\x81\xff\xfe\x00", "not UTF-8 text"),
    "a NUL": (b"name: a\x00b\n", "not valid YAML"),
    "tabs": ("name: a\nconfig:\n\tepochs: 1\n", "line 3 not valid YAML"),
    "brackets": ("name: a\nconfig: {\nspace: [}\n", "line 3 not valid YAML"),
    "two documents": ("---\nname: a\n---\nname: b\n", "line 3 not valid YAML"),
    "nested deeply": ("[" * 3000, "not valid YAML"),
    "alias bomb": (
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
        "more than",
    ),
    "merge bomb": (
        f"a0: &a0 {{{', '.join(f'k{i}: 0' for i in range(9))}}}\n"
        + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)),
        "study.yaml: ",
    ),
    "alias of itself": ("name: a\nconfig: &loop {weights: *loop}\n", "not valid YAML"),
    "python tag": (f"name: !!python/object/apply:os.system ['touch {MARKER}']\n", "line 1 not valid YAML"),
    "python object": (f"name: !!python/object/new:pathlib.Path.touch [{MARKER}]\n", "line 1 not valid YAML"),
    "impossible date": ("name: !!timestamp 2024-99-99\n", "not valid YAML"),
    "number of two readings": ("name: a\nconfig: {epochs: 012}\n", "line 2: 012 is an octal number to some YAML readers"),
    "number to the base of 60": ("name: 1:30\n", "line 1: 1:30 is a base-60 number"),
    "number of 5000 digits": ("name: " + "9" * 5000, "not valid YAML"),
    "number of 5000 hexadecimal digits": ("name: 0x" + "F" * 5000, "a number of more than"),
    "key twice": ("name: a\nname: b\nconfig: {}\n", "line 2 not valid YAML (key 'name' appears twice"),
    "key twice inside": (
        "name: a\nconfig: {epochs: 1, student: {lr: 0.1, 'lr': 0.2}}\n",
        "line 2 not valid YAML (key 'lr' appears twice",
    ),
    "too large": ("#" * 300_000, "more than 200000 bytes"),
    "escape sequences": ('name: "\\e[2J\\e]0;title\\a"\nconfig: {}\n', "name: must be letters"),
}


def _text(content: str | bytes) -> Write:
    def write(folder: Path) -> list[str]:
        (folder / "study.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
        return ["sweep", "study.yaml", "--quiet"]

    return write


Change = Callable[[Study], object]


def _put(path: str, value: Any) -> Change:
    """Sets what a path of keys, separated by ``/``, names."""

    def change(study: Study) -> None:
        *sections, key = path.split("/")
        for section in sections:
            study = study.setdefault(section, {})
        study[key] = value

    return change


def _prior(value: Any) -> Change:
    return _put("search", {"sampler": "prior", "prior": value})


def _population(prune: dict[str, Any], **search: Any) -> Change:
    """The study's trials as a population, with these settings."""
    return _both(_put("prune", {"scheduler": "pbt"} | prune), _put("search", {"num_trials": 4} | search))


def _both(first: Change, second: Change) -> Change:
    def change(study: Study) -> None:
        first(study)
        second(study)

    return change


def _drop(path: str) -> Change:
    def change(study: Study) -> None:
        *sections, key = path.split("/")
        for section in sections:
            study = study[section]
        del study[key]

    return change


NAN, INFINITY = float("nan"), float("inf")
CHANGES: dict[str, tuple[Change, str]] = {
    "no name": (_drop("name"), "study.name: is missing"),
    "no config": (_drop("config"), "study.config: is missing"),
    "no teacher": (_drop("config/teacher"), "config.teacher: must name a bundle"),
    "name with a path": (_put("name", "../elsewhere"), "name: must be letters"),
    "name of two lines": (_put("name", "a\nb"), "name: must be letters"),
    "name that is a number": (_put("name", 5), "study.name: "),
    "name of 300 letters": (_put("name", "a" * 300), "name: "),
    "name of the teachers' folder": (_put("name", "teachers"), "name: 'teachers' is reserved for files of the storage"),
    "name of the database": (_put("name", "mlflow.db"), "name: 'mlflow.db' is reserved for files of the storage"),
    "unknown section": (_put("serach", {}), "study.serach: unknown key, did you mean search?"),
    "unknown setting": (_put("config/sede", 1), "config.sede: unknown key, did you mean seed?"),
    "unknown parameter": (
        _put("space/weights.contrst", {"uniform": [0, 1]}),
        "space.weights.contrst: unknown parameter, did you mean weights.contrast?",
    ),
    "unknown sampling function": (_put("space/weights.l2", {"logunifrm": [0.1, 1]}), "did you mean loguniform?"),
    "unknown network": (_put("config/student/arch", "wrn_17_2"), "wrn_17_2"),
    "enormous network": (_put("config/student/arch", "wrn_9994_999"), "depth must be 6n + 4 in 10..100"),
    "network of 5000 digits": (_put("config/student/arch", f"wrn_{'1' * 5000}_1"), "unknown network"),
    "unknown dataset": (_put("config/dataset", "mnist"), "config.dataset.name"),
    "unknown preset": (_put("config/preset", "papr"), "config.preset 'papr': unknown"),
    "unknown objective": (_put("objective", "accuracy"), "study.objective: "),
    "dataset without a folder": (_put("config/dataset", {"name": "cifar10", "path": "absent"}), "absent is not a folder"),
    "dataset below nobody's home": (_put("config/dataset", {"name": "cifar10", "path": "~nobody-here/x"}), "~nobody-here/x"),
    "epochs in words": (_put("config/epochs", "many"), "config.epochs: "),
    "negative epochs": (_put("config/epochs", -3), "config.epochs must be > 0, got -3"),
    "fractional epochs": (_put("config/epochs", 2.5), "config.epochs: "),
    "enormous epochs": (_put("config/epochs", 10**300), "config.epochs must be <= "),
    "enormous batch": (_put("config/schedule/batch_size", 10**12), "config.schedule.batch_size must be <= "),
    "enormous probe set": (_put("config/probe", {"num_images": 10**15, "batch_size": 10**15}), "num_images must be <= "),
    "probe rate without end": (_put("config/probe/lr", INFINITY), "lr must be > 0"),
    "rate that is no number": (_put("config/student/lr", NAN), "config.student.lr must be > 0, got nan"),
    "rate without end": (_put("config/generator/lr", INFINITY), "config.generator.lr must be > 0, got inf"),
    "negative weight": (_put("config/weights", {"kl": -1}), "config.weights.kl must be >= 0, got -1"),
    "limit of divergence at zero": (_put("config/diverged_above", 0), "config.diverged_above must be > 0, got 0"),
    "section that is a number": (_put("config/student", 3), "config.student: "),
    "space that is a list": (_put("space", ["weights.l2"]), "study.space: "),
    "nothing to search": (lambda study: study.update(space={}, start=[]), "space: names no parameter"),
    "range upside down": (_put("space/weights.l2", {"loguniform": [10, 0.1]}), "lower must be below upper"),
    "range of NaN": (_put("space/weights.l2", {"uniform": [NAN, 1]}), "takes finite numbers, got nan"),
    "range without end": (_put("space/weights.l2", {"uniform": [0, INFINITY]}), "takes finite numbers, got inf"),
    "range that leaves the rules": (
        _put("space/student.momentum", {"uniform": [0.5, 1.5]}),
        "student.momentum must be in [0, 1), got 1.5",
    ),
    "searching the seed": (_put("space/seed", {"randint": [0, 9]}), "space.seed: cannot be searched"),
    "searching the limit of divergence": (
        _put("space/diverged_above", {"uniform": [1, 9]}),
        "space.diverged_above: cannot be searched",
    ),
    "choice of a million pairs": (_put("space/weights.l2", {"choice": list(range(5000))}), "must list at most 100 values"),
    "start outside the range": (_put("start", [{"weights.l2": 100}]), "start[0].weights.l2: 100 lies outside"),
    "start that is a number": (_put("start", [0.1]), "start.0: "),
    "start in quotes": (_put("start", [{"weights.l2": "1"}]), "start[0].weights.l2: '1', a text: write it without quotes"),
    "weight in quotes": (_put("config/weights", {"kl": "1"}), "config.weights.kl: input should be a valid number, got '1', a text"),
    "truth value for epochs": (_put("config/epochs", True), "config.epochs: input should be a valid integer, got True"),
    "truth value for trials": (_put("search/num_trials", True), "search.num_trials: input should be a valid integer, got True"),
    "number for a truth value": (_put("config/compile", 1), "config.compile: input should be a valid boolean, got 1"),
    "choice of one value twice": (_put("space/weights.l2", {"choice": [1, 1.0]}), "space.weights.l2.choice: lists 1.0 twice"),
    "no trials": (_put("search/num_trials", 0), "search.num_trials: "),
    "negative time": (_put("search/time_budget_s", -1), "search.time_budget_s: "),
    "time that is no number": (_put("search/time_budget_s", NAN), "search.time_budget_s: "),
    "negative epoch budget": (_put("search/epoch_budget", -5), "search.epoch_budget: "),
    "unknown sampler": (
        _put("search/sampler", "bayes"),
        "search.sampler: input should be 'tpe', 'gp', 'prior', 'random' or 'grid'",
    ),
    "prior of another sampler": (
        _put("search/prior", {"confidence": "high"}),
        "search.prior: only sampler prior uses it, got sampler tpe",
    ),
    "unknown confidence": (_prior({"confidence": "hihg"}), "search.prior.confidence: must be low, medium, high, or a standard"),
    "confidence of more than the range": (_prior({"confidence": 2}), "search.prior.confidence: must be low, medium, high, or a"),
    "unknown setting of a prior": (_prior({"confidense": "low"}), "search.prior.confidense: unknown key, did you mean confidence?"),
    "prior as a word": (_prior("high"), "search.prior: "),
    "no finalist": (_put("search/finalists", {"top": 0}), "search.finalists.top: "),
    "finalists as a number": (_put("search/finalists", 3), "search.finalists: "),
    "seed beyond 32 bits": (_put("search/seed", 2**40), "search.seed: "),
    "factor without end": (_put("prune/reduction_factor", INFINITY), "prune.reduction_factor: "),
    "grace beyond the end": (_put("prune/grace_epochs", 99), "prune.grace_epochs: must be <= config.epochs"),
    "population of one": (_population({}, num_trials=1), "search.num_trials: is the size of the population, must be >= 2"),
    "population that is never compared": (_population({"interval": 3}), "prune.interval: must be < config.epochs (3)"),
    "population of which more than half is replaced": (_population({"quantile": 0.6}), "prune.quantile: "),
    "factor of a population below 0": (_population({"factors": [-1.0]}), "prune.factors"),
    "population with finalists": (_population({}, finalists={}), "search.finalists: must be left out with prune.scheduler pbt"),
    "population with a budget of epochs": (_population({}, epoch_budget=9), "search.epoch_budget: must be left out with prune."),
    "interval without a population": (_put("prune/interval", 1), "prune.interval: only scheduler pbt has it, got scheduler asha"),
    "network that changes while it trains": (
        _both(_population({}), _put("space/student.arch", {"choice": ["wrn_10_1", "wrn_16_1"]})),
        "space.student.arch: cannot change during training",
    ),
    "weight of a population that may be 0": (
        _both(_population({}), _put("space/weights.label", {"uniform": [0, 1]})),
        "space.weights.label: uniform(0, 1) must be above 0 with prune.scheduler pbt",
    ),
    "GPUs that are not there": (_put("resources/gpus", 64), "resources.gpus: asks for 64"),
    "GPUs that are no number": (_put("resources/gpus", NAN), "resources.gpus: "),
    "processors that are not there": (_put("resources/cpus", 4096), "resources.cpus: asks for 4096"),
    "no processor": (_put("resources/cpus", 0), "resources.cpus: "),
    "storage on nonsense": (_put("storage", "nonsense://x"), "storage: 'nonsense://x' is not a storage that Arrow supports"),
    "storage on nonsense with a password": (
        _put("storage", "nonsense://me:secret@x"),
        "storage: 'nonsense://***@x' is not a storage",
    ),
    "storage by URI below a file": (_put("storage", "file:///proc/version/x"), "storage: /proc/version/x cannot be written"),
    "local on a URI": (_put("local", "s3://bucket"), "local: 's3://bucket' is not a path"),
    "local below a file": (_put("local", "study.yaml/runs"), "cannot be written"),
    "event files in a folder of one's own": (
        _put("tracking/tensorboard", "logs"),
        "tracking.tensorboard: input should be a valid bo",
    ),
    "unknown tracker": (_put("tracking/tensorbord", True), "tracking.tensorbord: unknown key, did you mean tensorboard?"),
    "tracking on nonsense": (_put("tracking/uri", "nonsense://x"), "tracking.uri: "),
    "tracking on a server without a name": (_put("tracking/uri", "http://"), "tracking.uri: "),
    "tracking on a port alone": (_put("tracking/uri", "http://:5000"), "tracking.uri: "),
    "tracking on no host's database": (_put("tracking/uri", "postgresql:///"), "tracking.uri: "),
    "storage of a name too long": (_put("storage", "x" * 256), "storage: 'xxxx"),
    "storage too deep": (_put("storage", "/tmp" + "/abcdefgh" * 50), "leave room for SQLite's files"),
    "tracking on an empty name": (_put("tracking/uri", ""), "tracking.uri: "),
    "storage on nothing": (_put("storage", ""), "storage: "),
    "storage on an S3 that is not there": (
        _put("storage", "s3://me:secret@bucket?endpoint_override=http%3A%2F%2F127.0.0.1%3A1&region=none"),
        "storage: s3://***@bucket?endpoint_override=http%3A%2F%2F127.0.0.1%3A1&region=none cannot be written",
    ),
    "storage below a file": (_put("storage", "study.yaml/runs"), "cannot be written"),
    "storage on a file": (_put("storage", "study.yaml"), "cannot be written"),
    "storage with a NUL": (_put("storage", "a\0b"), "storage: "),
    "teacher of two kinds": (_put("config/teacher/path", "teacher.pt"), "path names a trained teacher"),
    "teacher that is a name": (_put("config/teacher", "wrn_16_2"), "config.teacher: must name a bundle"),
    "teacher of enormous batches": (_put("config/teacher/batch_size", 10**30), "batch_size must be <= "),
    "accuracy in percent": (_put("config/teacher/min_accuracy", 97), "min_accuracy: must be in [0, 1], got 97"),
}


def _changed(change: Change) -> Write:
    def write(folder: Path) -> list[str]:
        study = tiny_study()
        change(study)
        write_study(folder / "study.yaml", study)
        return ["sweep", "study.yaml", "--quiet"]

    return write


# Datasets


class _Planted:
    """Makes the marker when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path(MARKER),)


def _cifar10(write_files: Callable[[Path], object]) -> Write:
    def write(folder: Path) -> list[str]:
        study = tiny_study()
        study["config"]["dataset"] = {"name": "cifar10", "path": "."}
        write_files(folder)
        return ["sweep", str(write_study(folder / "study.yaml", study)), "--quiet"]

    return write


def _parquet(table: pa.Table | None) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        for part in ("train", "test"):
            path = folder / f"{part}-00000.parquet"
            path.write_bytes(b"PAR1 and then nothing") if table is None else pq.write_table(table, path)

    return write


def _batches(content: bytes) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / "cifar-10-batches-py").mkdir()
        for name in (*(f"data_batch_{index}" for index in range(1, 6)), "test_batch"):
            (folder / "cifar-10-batches-py" / name).write_bytes(content)

    return write


def _png(width: int, height: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


DATASETS: dict[str, tuple[Callable[[Path], object], str]] = {
    "Parquet that is none": (_parquet(None), "not a readable Parquet file"),
    "Parquet without labels": (_parquet(pa.table({"img": [{"bytes": b"", "path": ""}]})), "needs a column label"),
    "Parquet without rows": (
        _parquet(pa.table({"img": pa.array([], pa.struct([("bytes", pa.binary())])), "label": pa.array([], pa.int64())})),
        "holds no rows",
    ),
    "Parquet of broken images": (_parquet(pa.table({"img": [{"bytes": b"no image"}], "label": [1]})), "not a readable image"),
    "Parquet of negative labels": (_parquet(pa.table({"img": [{"bytes": _png(32, 32)}], "label": [-1]})), "class number, got '-1'"),
    "Parquet of one image": (_parquet(pa.table({"img": [{"bytes": _png(32, 32)}], "label": [1]})), "one image"),
    "Parquet of oblong images": (_parquet(pa.table({"img": [{"bytes": _png(32, 28)}], "label": [1]})), "32x28"),
    "batches with code in them": (_batches(pickle.dumps({"data": _Planted(), "labels": []})), "not a CIFAR-10 batch"),
    "batches cut short": (_batches(pickle.dumps({"data": [0] * 3072, "labels": [1]})[:-40]), "not a CIFAR-10 batch"),
}


# Teachers

Files = Callable[[Path], object]


def _bundle(**changes: Any) -> Files:
    """A file that says of itself that it is whole: the sound bundle with other entries; None drops one."""

    def write(path: Path) -> None:
        sound_teacher().save(path)
        payload = checkpoint.load(path, kind="teacher") | changes
        checkpoint.save({name: value for name, value in payload.items() if value is not None}, path)

    return write


def _teacher(**changes: Any) -> Files:
    """The sound teacher with other fields and the digest that goes with them: what another program could have written."""

    def write(path: Path) -> None:
        replace(sound_teacher(), **changes).save(path)

    return write


def _weights(**changes: torch.Tensor) -> Files:
    """The same with other weights, names written with ``__`` for a dot."""
    odd = {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return _teacher(state={**sound_teacher().state, **odd})


def _content(content: bytes) -> Files:
    return lambda path: path.write_bytes(content)


def _saved(payload: Any) -> Files:
    return lambda path: torch.save(payload, path)


def _cut(kept: float) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])

    return cut


def _flipped(position: float) -> Callable[[Path], None]:
    """Turns one bit of what the archive holds, be it tensors, numbers or names; `position` in [0, 1)."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            inside = [byte for entry in archive.infolist() for byte in _extent(entry, content)]
        at = int(position * 8 * len(inside))
        content[inside[at // 8]] ^= 1 << at % 8
        path.write_bytes(bytes(content))

    return flip


def _extent(entry: zipfile.ZipInfo, content: bytearray) -> range:
    start = entry.header_offset + 30 + sum(int.from_bytes(content[entry.header_offset + at :][:2], "little") for at in (26, 28))
    return range(start, start + entry.file_size)


def _compressed(path: Path) -> None:
    """An archive of few bytes that unpacks to many."""
    sound_teacher().save(path)
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)


def _damaged(damage: Callable[[Path], None]) -> Files:
    def write(path: Path) -> None:
        sound_teacher().save(path)
        damage(path)

    return write


NOT_READABLE = "not a readable teacher file"
TOLD_OF_TEACHER = "teacher.pt: "
"""What is wrong with drawn bytes hangs on the draw, which any constant of the code can change: Hypothesis tries those too."""
OTHER_BIAS = torch.ones(10)
TEACHERS: dict[str, tuple[Files, str]] = {
    "absent": (lambda path: None, "no such teacher file"),
    "a folder": (lambda path: path.mkdir(), "a folder: name the file in it"),
    "empty": (_content(b""), "an empty file: copy or download it again"),
    "text": (_content(b"PK\x03\x04 not a bundle"), NOT_READABLE),
    "cut short": (_damaged(_cut(0.7)), NOT_READABLE),
    "without its last byte": (_damaged(_cut(0.99999)), NOT_READABLE),
    "a bit turned in the weights": (_damaged(_flipped(0.5)), NOT_READABLE),
    "compressed": (_compressed, NOT_READABLE),
    "pickle with code": (
        _content(pickle.dumps({"version": 1, "state": _Planted()})),
        "a pickle not written by torch.save",
    ),
    "archive with code": (_saved({"version": 1, "state": _Planted()}), NOT_READABLE),
    "a tensor": (_saved(torch.zeros(2)), "not a teacher file, it holds a Tensor"),
    "of another version": (_bundle(version=2), "teacher bundle has format 2, but this version reads format 1"),
    "of a version that is a tensor": (_bundle(version=torch.ones(2)), "teacher bundle has format a Tensor"),
    "without weights": (_bundle(state=None), "not a teacher bundle ('state')"),
    "without a digest": (_bundle(digest=None), "not a teacher bundle ('digest')"),
    "with altered weights": (
        _bundle(state=dict(sound_teacher().state) | {"fc.bias": OTHER_BIAS}),
        "do not match the bundle's digest",
    ),
    "with an altered input space": (_bundle(normalisation={"mean": (0.5,), "std": (0.3,)}), "do not match the bundle's digest"),
    "with a digest that is a tensor": (_bundle(digest=torch.ones(2)), "do not match the bundle's digest"),
    "with weights of NaN": (_weights(fc__bias=torch.full((10,), NAN)), "teacher weight fc.bias holds NaN or infinity"),
    "with weights without end": (_weights(fc__weight=torch.full((10, 64), INFINITY)), "fc.weight holds NaN or infinity"),
    "with weights that overflow": (
        _weights(fc__bias=torch.full((10,), 3e38), bn1__weight=torch.full((64,), 3e38), bn1__bias=torch.full((64,), 3e38)),
        "compute NaN or infinity",
    ),
    "with a negative variance": (_weights(bn1__running_var=-torch.ones(64)), "compute NaN or infinity"),
    "with weights of another shape": (_weights(fc__bias=torch.zeros(9)), "fc.bias must be torch.float32 (10,)"),
    "with weights of another kind": (_weights(fc__bias=torch.zeros(10).half()), "fc.bias must be torch.float32 (10,)"),
    "with a weight too many": (_weights(extra=torch.zeros(1)), "extra is not one of its weights"),
    "with a weight that spans the memory": (
        _bundle(state=dict(sound_teacher().state) | {"fc.weight": torch.zeros(1).expand(10, 10**14)}),
        "fc.weight must be",
    ),
    "of another architecture": (_teacher(arch="wrn_16_1"), "do not fit wrn_16_1"),
    "of an enormous architecture": (_bundle(arch="wrn_9994_999"), "depth must be 6n + 4 in 10..100"),
    "of an architecture that is a list": (_bundle(arch=["wrn_10_1"]), "not a teacher bundle"),
    "of seven classes": (
        _teacher(
            class_names=tuple("0123456"),
            state={name: tensor[:7] if name.startswith("fc.") else tensor for name, tensor in sound_teacher().state.items()},
        ),
        "teacher was trained on 7 classes",
    ),
    "of classes that are numbers": (_bundle(class_names=tuple(range(10))), "class_names is not"),
    "of a negative image size": (_bundle(image_size=-16), "image_size is not"),
    "of images no generator makes": (_bundle(image_size=18), "image_size is not"),
    "of enormous images": (_bundle(image_size=10**9), "image_size is not"),
    "of a million channels": (_bundle(channels=10**6), "channels is not"),
    "of a deviation of zero": (_bundle(normalisation={"mean": (0.5,), "std": (0.0,)}), "normalisation is not"),
    "of an accuracy above one": (_bundle(test_accuracy=99.0), "test_accuracy is not"),
    "of an accuracy of NaN": (_bundle(test_accuracy=NAN), "test_accuracy is not"),
}


def _with_teacher(write_file: Files, *, dataset: str | None = None) -> Write:
    def write(folder: Path) -> list[str]:
        write_file(folder / "teacher.pt")
        study = study_of_a_bundle()
        if dataset:
            study["config"]["dataset"] = dataset
        write_study(folder / "study.yaml", study)
        return ["sweep", "study.yaml", "--quiet"]

    return write


def _with_source(**source: Any) -> Write:
    def write(folder: Path) -> list[str]:
        sound_teacher().save(folder / "teacher.pt")
        study = study_of_a_bundle()
        study["config"]["teacher"] = source
        write_study(folder / "study.yaml", study)
        return ["sweep", "study.yaml", "--quiet"]

    return write


def _with_cached_teacher(damage: Callable[[Path], None]) -> Write:
    """The file in which the study's recipe left its teacher, damaged since."""

    def write(folder: Path) -> list[str]:
        study = tiny_study()
        recipe = TeacherRecipe(**study["config"]["teacher"])
        digest = load_dataset(DatasetConfig(name="digits")).digest
        path = folder / "runs" / "teachers" / f"digits-{recipe.arch}-{digest[:8]}-{recipe.digest}.pt"
        sound_teacher().save(path)
        damage(path)
        write_study(folder / "study.yaml", study)
        return ["teacher", "study.yaml", "--quiet"]

    return write


# Probe sets in the cache


def _probe(**changes: Any) -> Files:
    def write(path: Path) -> None:
        checkpoint.save({"version": 1, **vars(sound_probe(sound_teacher())), **changes}, path)

    return write


def _damaged_probe(damage: Callable[[Path], None]) -> Files:
    def write(path: Path) -> None:
        sound_probe(sound_teacher()).save(path)
        damage(path)

    return write


ANEW = "; delete it to make a new one"
PROBES: dict[str, tuple[Files, str]] = {
    "empty": (_content(b""), f"(truncated, corrupt or of another kind){ANEW}"),
    "cut short": (_damaged_probe(_cut(0.5)), f"(truncated, corrupt or of another kind){ANEW}"),
    "a bit turned in the images": (_damaged_probe(_flipped(0.3)), "not a readable probe set file"),
    "with code": (_saved({"version": 1, "images": _Planted()}), "not a readable probe set file"),
    "of another version": (_probe(version=7), f"probe set has format 7, but this version reads format 1{ANEW}"),
    "of another teacher": (_probe(teacher_digest=sound_teacher(seed=1).digest), "made from teacher"),
    "of no teacher": (_probe(teacher_digest=torch.ones(2)), "made from teacher without a digest"),
    "a teacher instead": (lambda path: sound_teacher().save(path), "'images' is missing"),
    "with images of another size": (_probe(images=torch.zeros(20, 1, 8, 8, dtype=torch.uint8)), "images is not valid"),
    "with images of floats": (_probe(images=torch.zeros(20, 1, 16, 16)), "images is not valid"),
    "without images": (_probe(images=torch.zeros(0, 1, 16, 16, dtype=torch.uint8)), "images is not valid"),
    "with too few labels": (_probe(labels=torch.zeros(19, dtype=torch.int64)), "labels is not valid"),
    "of one image many times": (_probe(images=torch.full((20, 1, 16, 16), 128, dtype=torch.uint8)), "no ground to search on: "),
    "with labels of no class": (_probe(labels=torch.full((20,), 10)), "labels is not valid"),
    "with an accuracy of NaN": (_probe(teacher_accuracy=NAN), "teacher_accuracy is not valid"),
}


def _with_probe(write_file: Files) -> Write:
    def write(folder: Path) -> list[str]:
        teacher = sound_teacher()
        teacher.save(folder / "teacher.pt")
        path = folder / probe_path(teacher)
        path.parent.mkdir(parents=True)
        write_file(path)
        write_study(folder / "study.yaml", study_of_a_bundle())
        return ["sweep", "study.yaml", "--quiet"]

    return write


# Journals, and what lies beside them


def _lines(change: Callable[[list[dict[str, Any]]], object]) -> bytes:
    events = sound_journal()
    change(events)
    return "".join(json.dumps(event) + "\n" for event in events).encode()


def _without(line: int, field: str) -> bytes:
    return _lines(lambda events: events[line - 1].pop(field))


def _with(line: int, **fields: Any) -> bytes:
    return _lines(lambda events: events[line - 1].update(fields))


def _inserted(line: bytes) -> bytes:
    lines = _lines(lambda events: None).splitlines(keepends=True)
    return b"".join([*lines[:4], line + b"\n", *lines[4:]])


JOURNALS: dict[str, tuple[bytes, str]] = {
    "a line that is no JSON": (_inserted(b"not json"), "journal.jsonl line 5: not a record"),
    "a line cut short": (_inserted(b'{"kind": "epoch", "num'), "journal.jsonl line 5: not a record"),
    "an empty line": (_inserted(b""), "journal.jsonl line 5: not a record"),
    "a binary line": (_inserted(b"\x00\xff\xfe\x80"), "journal.jsonl line 5: not a record"),
    "a line that is a list": (_inserted(b"[1, 2]"), "journal.jsonl line 5: not a record but a list"),
    "a line nested deeply": (_inserted(b"[" * 100_000), "journal.jsonl line 5: not a record"),
    "an empty record": (_inserted(b"{}"), "journal.jsonl line 5: kind 'None' is unknown"),
    "of binary": (b"\x80\x04\x95\n\x00\n", "journal.jsonl line 1: not a record"),
    "of an unknown kind": (_with(5, kind="epcoh"), "journal.jsonl line 5: kind 'epcoh' is unknown"),
    "of a kind that is a list": (_with(5, kind=["epoch"]), "journal.jsonl line 5: kind"),
    "without a time": (_without(2, "time"), "journal.jsonl line 2: attempt_start has no valid time"),
    "without a number": (_without(4, "number"), "journal.jsonl line 4: trial_start has no valid number"),
    "without a point": (_without(3, "point"), "journal.jsonl line 3: proposed has no valid point"),
    "without metrics": (_without(5, "metrics"), "journal.jsonl line 5: epoch has no valid metrics"),
    "without the metric": (_with(5, metrics={"probe_kl": 1.0}), "journal.jsonl line 5: epoch has no best_probe_agreement"),
    "with a metric of NaN": (_with(5, metrics={"best_probe_agreement": NAN}), "journal.jsonl line 5: not a record"),
    "with a metric in words": (_with(5, metrics={"best_probe_agreement": "good"}), "epoch has no valid metrics"),
    "with a negative number": (_with(4, number=-1), "journal.jsonl line 4: trial_start has no valid number"),
    "of a trial never proposed": (_with(5, number=7), "journal.jsonl line 5: trial 7 was never proposed"),
    "of a trial proposed twice": (_inserted(json.dumps(sound_journal()[2] | {"time": 9.0}).encode()), "trial 0 is proposed twice"),
    "with an unknown outcome": (
        _inserted(b'{"kind": "trial_end", "time": 1, "number": 0, "outcome": "won", "reason": "", "epoch": 1, "checkpoint": null}'),
        "journal.jsonl line 5: trial_end has no valid outcome",
    ),
    "without its start": (b"".join(_lines(lambda events: None).splitlines(keepends=True)[1:]), "journal.jsonl"),
    "that is empty": (b"", "so it never began; run its study again"),
    "of points of another space": (_with(3, point={"weights.kl": 1.0}), "journal.jsonl"),
    "of points outside the range": (_with(3, point={"weights.l2": -5.0, "contrast_temperature": 0.07}), "journal.jsonl"),
}


def _launch(folder: Path, journal: bytes | None, *, study: str | bytes | None = None) -> list[str]:
    """A launch called tiny whose driver was killed -> the arguments that resume it."""
    launch = folder / "runs" / "tiny"
    launch.mkdir(parents=True)
    teacher = sound_teacher()
    teacher.save(folder / "teacher.pt")
    (folder / "runs" / "probes").mkdir()
    sound_probe(teacher).save(folder / probe_path(teacher))
    content = yaml.safe_dump(study_of_a_bundle()) if study is None else study
    (launch / "study.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    if journal is not None:
        (launch / "journal.jsonl").write_bytes(journal)
    return ["resume", "tiny", "--quiet"]


def _with_journal(journal: bytes) -> Write:
    return lambda folder: _launch(folder, journal)


def _ended(events: list[dict[str, Any]], folder: Path) -> bytes:
    """The journal of a sweep of one trial that ran to its end, with its checkpoint in `folder`."""
    end = {"kind": "trial_end", "number": 0, "outcome": "completed", "reason": "", "epoch": 3, "checkpoint": str(folder)}
    last = [events[-1] | {"epoch": 3}, events[5] | {"path": str(folder)}, end | {"time": 1e9 + 9}]
    return "".join(json.dumps(event) + "\n" for event in [*events, *last]).encode()


def _with_best_student(write_file: Files) -> Write:
    """A finished launch whose best student's file is damaged: resuming it has nothing to do but to register that one."""

    def write(folder: Path) -> list[str]:
        last = folder / "runs" / "tiny" / "trial-000"
        study = study_of_a_bundle() | {"search": {"num_trials": 1}}
        arguments = _launch(folder, _ended(sound_journal(), last), study=yaml.safe_dump(study))
        last.mkdir()
        shutil.copy(_store(), folder / "runs" / "mlflow.db")
        write_file(last / "best_student.pt")
        return arguments

    return write


def _best_student(**changes: Any) -> Files:
    payload = {"version": 1, "student": dict(sound_teacher().state), "arch": "wrn_10_1"} | changes
    return lambda path: checkpoint.save({name: value for name, value in payload.items() if value is not None}, path)


CHECKPOINTS: dict[str, tuple[Files, str]] = {
    "absent": (lambda path: None, "no such best student file"),
    "cut short": (lambda path: (_best_student()(path), _cut(0.6)(path)), "not a readable best student file"),
    "a bit turned": (lambda path: (_best_student()(path), _flipped(0.6)(path)), "not a readable best student file"),
    "with code": (_saved({"version": 1, "student": _Planted(), "arch": "wrn_10_1"}), "not a readable best student file"),
    "without weights": (_best_student(student=None), "best student"),
    "of another network": (_best_student(arch="wrn_16_1"), "wrn_16_1"),
    "of an unknown network": (_best_student(arch="alexnet"), "alexnet"),
    "of a network that is a number": (_best_student(arch=5), "best student"),
    "of weights that are numbers": (_best_student(student={"fc.bias": 1.0}), "wrn_10_1"),
}


# Arguments


def _arguments(*words: str) -> Write:
    """Arguments beside a sound study and its teacher."""

    def write(folder: Path) -> list[str]:
        sound_teacher().save(folder / "teacher.pt")
        write_study(folder / "study.yaml", study_of_a_bundle())
        return list(words)

    return write


def _bare_weights(*words: str) -> Write:
    """Arguments beside weights of a network of ours, and of one that is not known, without a word on them."""

    def write(folder: Path) -> list[str]:
        torch.save(dict(sound_teacher().state), folder / "bare.pt")
        torch.save({"layer.weight": torch.zeros(2, 3, 3, 3), "scores.weight": torch.zeros(2, 2)}, folder / "unknown.pt")
        return [*words, "--quiet"]

    return write


def _cluster_file(text: str) -> Write:
    def write(folder: Path) -> list[str]:
        (folder / "cluster").write_text(text, encoding="utf-8")
        return ["check-cluster", "cluster"]

    return write


def _with_store(content: bytes, *words: str) -> Write:
    def write(folder: Path) -> list[str]:
        (folder / "runs").mkdir()
        (folder / "runs" / "mlflow.db").write_bytes(content)
        return _arguments(*words)(folder)

    return write


def _beside_a_launch(*words: str, study: str | bytes | None = None) -> Write:
    return lambda folder: _launch(folder, _lines(lambda events: None), study=study) and list(words)


SET = ("sweep", "study.yaml", "--quiet", "--set")
ARGUMENTS: dict[str, tuple[Write, str]] = {
    "unknown verb": (_arguments("swep", "study.yaml"), "no such command 'swep'"),
    "unknown option": (_arguments("sweep", "study.yaml", "--trials", "3"), "no such option: --trials"),
    "unknown option before the verb": (_arguments("--verbose", "sweep", "study.yaml"), "no such option: --verbose"),
    "no study": (_arguments("sweep"), "missing argument"),
    "two studies": (_arguments("sweep", "study.yaml", "study.yaml"), "unexpected extra argument"),
    "absent study": (_arguments("sweep", "absent.yaml"), "absent.yaml: cannot be read (No such file or directory)"),
    "folder as study": (_arguments("trial", "."), ".: is a folder, but not that of a launch"),
    "folder of launches as study": (_beside_a_launch("trial", "./runs/"), "name one of the launches in it: tiny"),
    "name of nothing": (_arguments("sweep", "digts"), "nor a launch in"),
    "nearly a launch's name": (_beside_a_launch("report", "tinny"), "did you mean tiny?"),
    "scale over a launch": (
        _beside_a_launch("report", "tiny", "--set", "scale=digits"),
        "--set scale: the recorded study already contains",
    ),
    "list of nothing": (_arguments("list", "digts"), "did you mean digits?"),
    "list of a server's files": (_arguments("list", "--storage", "nonsense://x"), "is not a storage that Arrow supports"),
    "version of a verb": (_arguments("sweep", "--version"), "no such option: --version"),
    "dry run of a searched parameter": (_arguments("sweep", "study.yaml", "--dry-run", "--set", "weights.l2=1"), "is searched by"),
    "teacher as study": (_arguments("teacher", "teacher.pt"), "teacher.pt: not valid YAML"),
    "endless study": (_arguments("sweep", "/dev/zero"), "/dev/zero: "),
    "study with escape sequences": (_arguments("sweep", "\x1b[2J\n.yaml"), "cannot be read"),
    "no epochs": (_arguments("trial", "study.yaml", "--epochs", "0"), "'--epochs'"),
    "epochs in words": (_arguments("trial", "study.yaml", "--epochs", "x"), "'--epochs'"),
    "report to a project within a project": (_arguments("report", "study.yaml", "--wandb", "a/b/c"), "--wandb: must be PROJECT or"),
    "report to no project": (_arguments("report", "study.yaml", "--wandb", ""), "--wandb: must be PROJECT or ENTITY/PROJECT"),
    "init of nothing": (_arguments("init"), "missing argument"),
    "init of a study": (_arguments("init", "study.yaml"), "a text file that begins with"),
    "init of an absent file": (_arguments("init", "absent.pt"), "absent.pt: no such teacher file"),
    "init of a folder": (_arguments("init", "."), "a folder: name the file in it, e.g. teacher.pt"),
    "init of bare weights": (
        _bare_weights("init", "bare.pt"),
        "wrn_10_1, 77,562 weights, 10 classes, 1 channel; weights do not tell",
    ),
    "init of bare weights, half said": (_bare_weights("init", "bare.pt", "--image-size", "16"), "pass --normalisation cifar10|"),
    "init of an unknown network": (_bare_weights("init", "unknown.pt"), "pass --factory MODULE:FUNCTION --image-size PIXELS"),
    "init of weights of several networks": (
        _bare_weights("init", "bare.pt", "--image-size", "16", "--normalisation", "half"),
        "pass --variant standard|stem_stride_2",
    ),
    "init with odd constants": (
        _bare_weights("init", "bare.pt", "--image-size", "16", "--normalisation", "{mean: [1"),
        "--normalisation: not valid YAML",
    ),
    "init with an odd size": (_bare_weights("init", "bare.pt", "--image-size", "15"), "--image-size must be a multiple of 4"),
    "init with an absent factory": (
        _bare_weights("init", "unknown.pt", "--factory", "nowhere:build"),
        "factory nowhere:build: there is no module nowhere",
    ),
    "init of a bundle with constants": (_arguments("init", "teacher.pt", "--normalisation", "half"), "leave that out"),
    "init with an unknown method": (_arguments("init", "teacher.pt", "--method", "cpcs"), "did you mean cpsc?"),
    "init with an unknown student": (
        _arguments("init", "teacher.pt", "--student", "wrn_11_1", "--quiet"),
        "--student: arch 'wrn_11_1'",
    ),
    "init over a study": (_arguments("init", "teacher.pt", "--output", "study.yaml"), "study.yaml: already exists"),
    "init to a text file": (
        _arguments("init", "teacher.pt", "--output", "study.txt"),
        "--output: must be a file that ends in .yaml",
    ),
    "output on a file": (_arguments("trial", "study.yaml", "--output", "study.yaml"), "--output: study.yaml"),
    "output below a file": (_arguments("trial", "study.yaml", "--output", "study.yaml/x"), "--output: study.yaml/x"),
    "flag with a value": (_arguments("sweep", "study.yaml", "--quiet=yes"), "'--quiet'"),
    "address of nothing": (_arguments("sweep", "study.yaml", "--address", "nonsense"), "--address: must be auto"),
    "address where nothing listens": (
        _arguments("sweep", "study.yaml", "--address", "127.0.0.1:1"),
        "--address 127.0.0.1:1: no Ray cluster answers there",
    ),
    "address with a shell in it": (_arguments("sweep", "study.yaml", "--address", "a:1; touch it-ran"), "--address: must be auto"),
    "trials in words": (_arguments("resume", "tiny", "--num-trials", "x"), "'--num-trials'"),
    "no trials": (_arguments("resume", "tiny", "--num-trials", "0"), "'--num-trials'"),
    "port beyond the last": (_arguments("ui", "study.yaml", "--port", "99999"), "'--port'"),
    "port in words": (_arguments("ui", "study.yaml", "--port", "http"), "'--port'"),
    "ui of nothing": (_arguments("ui", "study.yaml"), "holds no MLflow store yet"),
    "report of nothing": (_arguments("report", "study.yaml"), "holds no MLflow store yet"),
    "report of a store that is none": (_with_store(b"not a database" * 99, "report", "study.yaml"), "cannot be read"),
    "report of a server that is away": (
        _arguments("report", "study.yaml", "--set", "tracking.uri=http://127.0.0.1:9"),
        "http://127.0.0.1:9 cannot be read",
    ),
    "report onto a file": (_arguments("report", "study.yaml", "--output", "study.yaml"), "--output: study.yaml"),
    "report of a damaged store's ui": (_with_store(b"not a database" * 99, "ui", "study.yaml"), "cannot be read"),
    "target beyond all": (_arguments("report", "study.yaml", "--target", "95"), "'--target'"),
    "comparison of one": (_arguments("compare", "study.yaml"), "compare: takes at least two launches"),
    "comparison with nothing": (_arguments("compare", "study.yaml", "absent.yaml"), "holds no MLflow store yet"),
    "comparison onto a file": (
        _arguments("compare", "study.yaml", "study.yaml", "--output", "study.yaml"),
        "--output: study.yaml",
    ),
    "replay of nothing": (_arguments("replay", "0" * 32), "leads to no MLflow store"),
    "replay of a store that is none": (_with_store(b"not a database" * 99, "replay", "0" * 32), "which cannot be read"),
    "replay of a run with quotes": (_with_store(b"", "replay", "x' OR '1'='1"), "is not a run ID"),
    "replay from somewhere": (_arguments("replay", "0" * 32, "--from-checkpoint", "first"), "--from-checkpoint: must be last"),
    "replay with a profile of no steps": (_arguments("replay", "0" * 32, "--profile-steps", "0"), "'--profile-steps'"),
    "replay of no server": (_arguments("replay", "0" * 32, "--tracking", "ftp://x"), "--tracking: must be an MLflow server"),
    "export of nothing": (_arguments("export", "study.yaml", "--output", "student"), "holds no MLflow store yet"),
    "export onto a file": (_arguments("export", "study.yaml", "--output", "study.yaml"), "--output: study.yaml"),
    "export of an unknown format": (
        _arguments("export", "study.yaml", "--output", "student", "--formats", "onnx,tflite"),
        "--formats: ",
    ),
    "export to nowhere": (_arguments("export", "study.yaml"), "missing option '--output'"),
    "cluster file that is a study": (_arguments("check-cluster", "study.yaml"), "provider.type: must be one of aws, gcp, local"),
    "cluster file that is a teacher": (_arguments("check-cluster", "teacher.pt"), "not valid YAML"),
    "script for Slurm without a request": (
        _cluster_file("#!/bin/bash\nsrun hostname\n"),
        "#SBATCH --nodes: must be given as a number or a range, got nothing",
    ),
    "cluster for Kubernetes without a job": (
        _cluster_file("apiVersion: ray.io/v1\nkind: RayCluster\n"),
        "kind: must be RayJob, which runs a command and ends, got 'RayCluster'",
    ),
    "set without a value": (_arguments("sweep", "study.yaml", "--set"), "'--set' requires an argument"),
    "set without an equals sign": (_arguments(*SET, "weights.contrast"), "must be path=value"),
    "set without a path": (_arguments(*SET, "=1"), "must be path=value"),
    "set of broken YAML": (_arguments(*SET, "epochs=[1"), "--set epochs=[1: the value is not valid YAML"),
    "set with code": (_arguments(*SET, f"epochs=!!python/object/apply:os.system ['touch {MARKER}']"), "not valid YAML"),
    "set of an unknown path": (_arguments(*SET, "weights.contrst=1"), "did you mean weights.contrast?"),
    "set of a searched parameter": (_arguments(*SET, "weights.l2=1"), "is searched by this study"),
    "set below a value": (_arguments(*SET, "name.first=a"), "name is a single value"),
    "set of a wrong value": (_arguments(*SET, "epochs=many"), "config.epochs: "),
    "set of many digits": (_arguments(*SET, "epochs=0x" + "F" * 5000), "not valid YAML"),
    "launch that is not there": (_arguments("resume", "nothing"), "launch 'nothing': not found in"),
    "launch that is nearly there": (_beside_a_launch("resume", "tinny"), "did you mean tiny? launches there: tiny"),
    "launch of a study without one": (_arguments("resume", "study.yaml"), "study tiny has no launch in"),
    "launch by an absent path": (_beside_a_launch("resume", "../runs/tiny.yaml"), "cannot be read (No such file or directory)"),
    "launch of dots": (_beside_a_launch("resume", ".."), "..: is a folder, but not that of a launch"),
    "launch by the path of another folder": (_beside_a_launch("resume", "/tmp"), "/tmp: is a folder, but not that of a launch"),
    "trial of no launch": (_arguments("replay", "study.yaml:0"), "study tiny has no launch in"),
    "point for no launch": (_arguments("enqueue", "study.yaml", "weights.l2=1"), "study tiny has no launch in"),
    "launch to finish that is not there": (_arguments("finish", "nothing"), "launch 'nothing': not found in"),
    "launches on a file": (_arguments("resume", "tiny", "--storage", "study.yaml"), "launch 'tiny': not found in"),
    "launches below nobody's home": (_arguments("resume", "tiny", "--storage", "~nobody-here/x"), "~nobody-here/x"),
    "launch of a damaged study": (_beside_a_launch("resume", "tiny", study=b"\xff\xfe"), "study.yaml: not valid YAML"),
    "launch of a cut study": (_beside_a_launch("resume", "tiny", study="name: tiny\n"), "study.config: is missing"),
    "launch of another storage": (_beside_a_launch("resume", "tiny", "--storage", "elsewhere"), "not found in"),
}


def _launch_without_a_study(folder: Path) -> list[str]:
    arguments = _launch(folder, _lines(lambda events: None))
    (folder / "runs" / "tiny" / "study.yaml").unlink()
    return arguments


def _recorded(*words: str) -> Write:
    """Arguments beside a store in which the study has no launch of that name."""

    def write(folder: Path) -> list[str]:
        (folder / "runs").mkdir()
        shutil.copy(_store(), folder / "runs" / "mlflow.db")
        return _arguments(*words)(folder)

    return write


@functools.cache
def _store() -> Path:
    """An MLflow store that knows the study and no launch; making its tables takes seconds, so it is made once."""
    from mlflow import MlflowClient

    holder = tempfile.TemporaryDirectory(prefix="malformed-")
    atexit.register(holder.cleanup)
    folder = Path(holder.name)
    MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}").create_experiment("tiny", folder.as_uri())
    return folder / "mlflow.db"


RECORDED: dict[str, tuple[Write, str]] = {
    "report of no launch": (_recorded("report", "study.yaml"), "no launch is recorded"),
    "report of a launch that is not there": (_recorded("report", "study.yaml", "--launch", "x"), "launch 'x' is not recorded"),
    "replay of a run that is not there": (_recorded("replay", "0" * 32), f"run {'0' * 32}: is not in sqlite"),
    "export of a run that is not there": (
        _recorded("export", "study.yaml", "--output", "student", "--run", "0" * 32),
        f"run {'0' * 32}: is not in",
    ),
    "export of a study without a champion": (_recorded("export", "study.yaml", "--output", "student"), "champion"),
    "report of a launch with quotes": (_recorded("report", "study.yaml", "--launch", "x' OR '1'='1"), "is not recorded"),
    "report of a study that is not there": (_recorded("report", "study.yaml", "--set", "name=other"), "not in this MLflow store"),
}


# Simulations


def _beside_a_record(*words: str, damage: Callable[[Path], None] = lambda path: None) -> Write:
    """Arguments beside a study and a record of it, which `damage` is done to."""

    def write(folder: Path) -> list[str]:
        study = study_of_a_bundle()
        write_study(folder / "study.yaml", study)
        drawn_record(resolve_study(study), 5).save(folder / "record.parquet")
        damage(folder / "record.parquet")
        return list(words)

    return write


def _rewritten(*, rows: int = 1, **columns: Any) -> Callable[[Path], None]:
    """With other values in the first rows."""

    def damage(path: Path) -> None:
        table = pq.read_table(path)
        content = table.to_pylist()
        for row in content[:rows]:
            row |= columns
        pq.write_table(pa.Table.from_pylist(content, schema=table.schema), path)

    return damage


COMPARE = ("compare", "study.yaml", "--record", "record.parquet", "--seeds", "1", "--quiet")
CHECK = ("check", "study.yaml", "--record", "record.parquet")
SIMULATIONS: dict[str, tuple[Write, str]] = {
    "unknown verb": (_beside_a_record("sweep"), "no such command 'sweep'"),
    "no record named": (_beside_a_record("check", "study.yaml"), "missing option '--record'"),
    "record of no launch": (_beside_a_record("record", "x", "--output", "y.parquet"), "launch 'x': not found in"),
    "record of a launch that has not ended": (
        _beside_a_launch("record", "tiny", "--output", "y.parquet"),
        "launch tiny: no trial has ended yet",
    ),
    "absent record": (_beside_a_record("check", "study.yaml", "--record", "z.parquet"), "z.parquet: cannot be read (No such file"),
    "record that is a folder": (_beside_a_record("check", "study.yaml", "--record", "."), ".: cannot be read (Is a directory)"),
    "cut record": (_beside_a_record(*CHECK, damage=_cut(0.5)), "record.parquet: is not a record of curves"),
    "other Parquet": (
        _beside_a_record(*CHECK, damage=lambda path: pq.write_table(pa.table({"a": [1]}), path)),
        "record.parquet: is not a record of curves",
    ),
    "record with a cut curve": (
        _beside_a_record(*CHECK, damage=_rewritten(probe_agreement=[0.5])),
        "trial 0 has curves of different lengths",
    ),
    "record with a gap": (_beside_a_record(*CHECK, damage=_rewritten(epoch_s=[1.0, None, 1.0])), "trial 0 lacks"),
    "record with a point that is none": (_beside_a_record(*CHECK, damage=_rewritten(point="[")), "is not a record of curves"),
    "record with a list as a point": (_beside_a_record(*CHECK, damage=_rewritten(point="[]")), "trial 0 has no point"),
    "record with a point outside": (
        _beside_a_record(*CHECK, damage=_rewritten(point='{"weights.l2": -1}')),
        "trial 0 is outside its own space.weights.l2",
    ),
    "record with a value that is none": (_beside_a_record(*CHECK, damage=_rewritten(test_accuracy=[NAN] * 3)), "is not a number"),
    "record without labels": (
        _beside_a_record(*CHECK, damage=_rewritten(rows=5, test_accuracy=[None] * 3)),
        "no trial has test_accuracy and probe_agreement",
    ),
    "record of another space": (
        _beside_a_record(*CHECK, "--set", "space.weights.l2={uniform: [1, 2]}"),
        "space.weights.l2: differs from the record of drawn",
    ),
    "record of another length": (
        _beside_a_record(*COMPARE, "--set", "config.epochs=2"),
        "config.epochs: 2, but trials in the record",
    ),
    "record of another objective": (
        _beside_a_record(*COMPARE, "--set", "objective=probe_overlap"),
        "objective: probe_overlap, but",
    ),
    "unknown pruning": (_beside_a_record(*COMPARE, "--arm", "tpe+ahsa"), "did you mean asha?"),
    "unknown sampler": (_beside_a_record(*COMPARE, "--arm", "tep"), "search.sampler"),
    "transfer from nowhere": (_beside_a_record(*COMPARE, "--arm", "tpe+transfer"), "name it with --source"),
    "source for nobody": (_beside_a_record(*COMPARE, "--source", "record.parquet"), "no arm has +transfer or +misled"),
    "patience of none": (_beside_a_record(*COMPARE, "--arm", "tpe+stop-0"), "did you mean stop-10?"),
    "arm of a grid": (_beside_a_record(*COMPARE, "--arm", "grid"), "--arm: grid draws nothing"),
    "arm as long as trials": (_beside_a_record(*COMPARE, "--arm", "tpe+3-epoch"), "must stop before the last epoch"),
    "budget below a trial": (
        _beside_a_record(*COMPARE, "--epochs", "2"),
        "--epochs: must be enough for a trial of 3 epochs, got 2",
    ),
    "budget below an arm": (_beside_a_record(*COMPARE, "--arm", "tpe+1-epoch:40"), "of 40 trials takes 46"),
    "more neighbours than trials": (_beside_a_record(*COMPARE, "--neighbours", "6"), "--neighbours: must be in 1..5"),
    "no worker": (_beside_a_record(*COMPARE, "--workers", "0"), "--workers"),
}


# Drawn


def _drawn(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """`count` distinct examples of a strategy, the same every time."""
    found: list[Any] = []

    @settings(
        max_examples=10 * count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: Any) -> None:
        if example not in found:
            found.append(copy.deepcopy(example))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collect()
    return found[:: len(found) // count][:count]  # the first are the simplest


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict) and value and not prefix.startswith("space"):
            yield from _leaves(value, f"{prefix}{key}/")
        elif key not in ("storage", "dataset", "space", "start"):
            yield f"{prefix}{key}"


SECTIONS = ("config", "config/student", "config/teacher", "config/probe", "config/generator", "config/schedule", "search", "prune")
WRONG = st.one_of(
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.floats(), min_size=1, max_size=3),
    st.text(alphabet="xyz \t\u20ac\u0007", min_size=1, max_size=20),
    st.sampled_from([NAN, INFINITY, -INFINITY, -1, -0.5, -(10**30), 10**400]),
)
CODES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=3, max_size=12).map(lambda text: f"zz{text}")
PLACES = st.floats(0, 1, exclude_max=True, allow_subnormal=False)
SMALL_PLACES = st.floats(0, 0.999, allow_subnormal=False)


def drawn_cases() -> list[Case]:
    """Random damage that is damage wherever it falls."""
    leaves = [leaf for leaf in _leaves(tiny_study()) if not leaf.startswith("space")]
    found = [
        ("wrong value", _changed(_put(path, value)), "") for path, value in _drawn(st.tuples(st.sampled_from(leaves), WRONG), 12)
    ]
    unknown = st.tuples(st.sampled_from(SECTIONS), CODES, st.integers())
    found += [("unknown key", _changed(_put(f"{path}/{key}", value)), "unknown key") for path, key, value in _drawn(unknown, 8)]
    junk = st.binary(min_size=1, max_size=200)
    found += [("random study", _text(content), "") for content in _drawn(junk, 8)]
    found += [
        ("random set", _arguments(*SET, text), "")
        for text in _drawn(st.text(alphabet="ab.c d:[]{}!&*%\u00e9", min_size=1, max_size=20), 6)
    ]
    found += [("random teacher", _with_teacher(_content(content)), TOLD_OF_TEACHER) for content in _drawn(junk, 6)]
    found += [("cut teacher", _with_teacher(_damaged(_cut(kept))), TOLD_OF_TEACHER) for kept in _drawn(SMALL_PLACES, 6)]
    found += [("bit of a teacher", _with_teacher(_damaged(_flipped(at))), NOT_READABLE) for at in _drawn(PLACES, 12)]
    found += [("cut probe set", _with_probe(_damaged_probe(_cut(kept))), ANEW) for kept in _drawn(SMALL_PLACES, 4)]
    found += [("bit of a probe set", _with_probe(_damaged_probe(_flipped(at))), ANEW) for at in _drawn(PLACES, 8)]
    lines = junk.filter(lambda line: b"\n" not in line)
    found += [("random record", _with_journal(_inserted(line)), "journal.jsonl line 5") for line in _drawn(lines, 6)]
    return [Case(f"{name} {index}", write, says) for index, (name, write, says) in enumerate(found)]


def cases() -> list[Case]:
    """The catalogue."""
    named = [
        *((f"study: {name}", _text(content), says) for name, (content, says) in TEXTS.items()),
        *((f"study: {name}", _changed(change), says) for name, (change, says) in CHANGES.items()),
        *((f"dataset: {name}", _cifar10(write), says) for name, (write, says) in DATASETS.items()),
        *(
            (f"teacher: {name}", _with_teacher(write, dataset="digits" if "seven" in name else None), says)
            for name, (write, says) in TEACHERS.items()
        ),
        ("teacher: of a recipe, cut short", _with_cached_teacher(_cut(0.5)), "delete it and make one with the teacher verb"),
        ("teacher: below nobody's home", _with_source(path="~nobody-here/teacher.pt"), "~nobody-here/teacher.pt"),
        ("teacher: below the stated accuracy", _with_source(path="teacher.pt", min_accuracy=0.999), "below min_accuracy 99.90 %"),
        *((f"probe set: {name}", _with_probe(write), says) for name, (write, says) in PROBES.items()),
        *((f"journal: {name}", _with_journal(content), says) for name, (content, says) in JOURNALS.items()),
        *((f"checkpoint: {name}", _with_best_student(write), says) for name, (write, says) in CHECKPOINTS.items()),
        *((f"arguments: {name}", write, says) for name, (write, says) in (ARGUMENTS | RECORDED).items()),
        ("arguments: launch without a study", _launch_without_a_study, "launch 'tiny': not found in"),
    ]
    simulations = [Case(f"simulation: {name}", write, says, simulate.main) for name, (write, says) in SIMULATIONS.items()]
    return [*(Case(*row) for row in named), *simulations, *drawn_cases()]


IN_PROCESSES = (
    "teacher: archive with code",
    "arguments: unknown option",
)
"""Those that are also run as a user runs them, each in a process of its own."""


# Running them


class _Descriptor(io.TextIOBase):
    """Text that goes to a file descriptor whatever stands behind it; who keeps it after the capture harms nothing."""

    encoding = "utf-8"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        os.write(self._descriptor, text.encode(errors="backslashreplace"))
        return len(text)

    def fileno(self) -> int:
        return self._descriptor


@contextlib.contextmanager
def _captured(streams: tuple[io.BufferedRandom, io.BufferedRandom]) -> Iterator[None]:
    """What the block writes to stdout and stderr, in Python or beneath it, goes to `streams`."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    for descriptor, stream in zip((1, 2), streams, strict=True):
        os.dup2(stream.fileno(), descriptor)
    try:
        with contextlib.redirect_stdout(_Descriptor(1)), contextlib.redirect_stderr(_Descriptor(2)):
            yield
    finally:
        for descriptor, copied in zip((1, 2), saved, strict=True):
            os.dup2(copied, descriptor)
            os.close(copied)


def call(arguments: list[str], folder: Path, main: Callable[[], None] = cli.main) -> Ending:
    """A program, by its `main`, in this process and in `folder`, where Ray and the user interface cannot start."""
    started = RuntimeError("it was started")
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        mock.patch.dict("os.environ"),
        mock.patch("sys.argv", ["cpsc-tune", *arguments]),
        mock.patch("ray.init", side_effect=started) as ray_init,
        mock.patch("os.execv", side_effect=started),
        contextlib.chdir(folder),
    ):
        status, escaped = None, ""
        with _captured((out, err)):
            try:
                main()
            except SystemExit as stopped:
                status = stopped.code
            except BaseException as error:
                escaped = f"{type(error).__name__}: {error}"
        if ray_init.called:
            escaped = f"Ray was started; {escaped}"
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="backslashreplace"))
    said, complained = texts
    return Ending(status, said, complained, escaped)


def faults(case: Case, ending: Ending, folder: Path, before: set[Path]) -> list[str]:
    """What is wrong with how a malformed input ended; empty if nothing is. `before`: the launches there were."""
    lines = ending.err.strip().splitlines()
    wrong = [
        (bool(ending.escaped), ending.escaped),
        (not ending.escaped and ending.status != 2, f"exit status {ending.status}"),
        (bool(ending.out), f"stdout holds {ending.out[:200]!r}"),
        (len(lines) != 1 or not ending.err.startswith("error: "), f"stderr holds {ending.err[-600:]!r}"),
        ("Traceback" in ending.err, "a traceback"),
        (not ending.err.strip("\n").isprintable(), "control characters on the terminal"),
        (len(ending.err) > 1200, f"a line of {len(ending.err)} characters"),
        (case.says not in ending.err, f"{case.says!r} is not in {ending.err!r}"),
        (any(folder.rglob(MARKER)), "what the file holds was run"),
        (any(file.is_file() for file in folder.rglob(".*")), "a half-written file stayed"),
        (launches(folder) != before, "a launch was made"),
    ]
    return [text for is_wrong, text in wrong if is_wrong]


def launches(folder: Path) -> set[Path]:
    return set(folder.glob("runs/tiny*"))


def call_in_process(arguments: list[str], folder: Path, main: Callable[[], None] = cli.main) -> Ending:
    """The command line in a process of its own, whatever `main`; Ray, if it started, would leave its files in the folder."""
    done = run_cli(*arguments, cwd=folder, RAY_TMPDIR=str(folder / "ray"))
    return Ending(done.returncode, done.stdout, done.stderr, "Ray was started" if (folder / "ray").exists() else "")


def run_case(
    case: Case,
    folder: Path,
    caller: Callable[[list[str], Path, Callable[[], None]], Ending] = call,
    *,
    say: Callable[[str], object] = lambda line: None,
) -> list[str]:
    """One malformed input in a new folder of its own -> what is wrong with how it ended; `say` is told what it said."""
    folder.mkdir()
    with contextlib.chdir(folder):
        arguments = case.write(folder)
    before = launches(folder)
    ending = caller(arguments, folder, case.main)
    say(ending.err.strip())
    return faults(case, ending, folder, before)


def run_catalogue(folder: Path) -> list[str]:
    """Every case in this process, and a handful as processes, in folders under `folder` -> the failures, by case."""
    failures = []
    catalogue = cases()
    for index, case in enumerate(catalogue):
        failures += [f"{case.name}: {fault}" for fault in run_case(case, folder / f"{index:03d}")]
    for case in catalogue:
        if case.name in IN_PROCESSES:
            wrong = run_case(case, folder / f"process-{IN_PROCESSES.index(case.name)}", call_in_process)
            failures += [f"{case.name}, as a process: {fault}" for fault in wrong]
    return failures


def count() -> int:
    """How many malformed inputs the catalogue holds."""
    return len(cases())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only cases whose names hold one of these")
    words = parser.parse_args().words
    chosen = [case for case in cases() if not words or any(word in case.name for word in words)]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for index, case in enumerate(chosen):
            said, started = [""], time.monotonic()
            wrong = run_case(case, Path(folder) / str(index), say=said.append)
            failed += bool(wrong)
            print(f"{'FAILED' if wrong else 'ok':6} {time.monotonic() - started:5.2f} s  {case.name}: {said[-1]}", flush=True)
            for fault in wrong:
                print(f"       {fault}")
    print(f"{len(chosen) - failed} of {len(chosen)} are one line and exit status 2")


if __name__ == "__main__":
    main()
