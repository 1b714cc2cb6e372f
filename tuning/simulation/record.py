"""Recorded curves: the trials of a search without pruning, epoch by epoch, in one Parquet file."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from cpsc.atomic_file import atomic_path
from cpsc.errors import ConfigError
from cpsc.selection import best_epoch
from tuning.results.trial_record import CURVES
from tuning.study.nested_keys import Point

SECONDS = "epoch_s"
METRICS = (*CURVES, SECONDS)
ABOUT = b"cpsc-tune.record"
"""Metadata key of the description of the record."""
WAY_OUT = "make it with: python -m tuning.simulate record"
SCHEMA = pa.schema(
    [
        pa.field("trial", pa.int32(), nullable=False),
        pa.field("point", pa.string(), nullable=False),
        pa.field("diverged", pa.bool_(), nullable=False),
        *(pa.field(metric, pa.list_(pa.float64())) for metric in METRICS),
    ]
)


@dataclass(frozen=True, kw_only=True)
class RecordedCurves:
    """A trial's `values` by metric, one per epoch; None if the epoch has none, for example because it diverged.

    `point`: the searched values, by dotted path. `diverged`: whether its last epoch diverged.
    """

    number: int
    point: Point
    diverged: bool
    values: Mapping[str, Sequence[float | None]]

    @property
    def num_epochs(self) -> int:
        return len(self.values[SECONDS])

    def best_epoch(self, objective: str) -> int | None:
        """The epoch whose student is the trial's result, as in a launch; None if the trial diverged."""
        curve = self._curve(objective)
        return None if self.diverged or not curve else best_epoch(curve, self._curve("probe_kl"))

    def at_best(self, metric: str, objective: str) -> float | None:
        """`metric` at the best epoch; None if the trial diverged."""
        epoch = self.best_epoch(objective)
        return None if epoch is None else self.values[metric][epoch - 1]

    def _curve(self, metric: str) -> dict[int, float]:
        return {epoch: value for epoch, value in enumerate(self.values[metric], start=1) if value is not None}


@dataclass(frozen=True, kw_only=True)
class Record:
    """The trials of `launch`. `space`, `config`: these sections of its study file; `epochs`: length of a complete trial."""

    launch: str
    objective: str
    epochs: int
    space: Mapping[str, Any]
    config: Mapping[str, Any]
    trials: Sequence[RecordedCurves]

    def accuracies(self, objective: str) -> list[float]:
        """Test accuracies of the trials' results, chosen by `objective`. ConfigError if no trial has both."""
        found = [value for trial in self.trials if (value := trial.at_best("test_accuracy", objective)) is not None]
        if not found:
            raise ConfigError(
                f"record of {self.launch}: no trial has test_accuracy and {objective}; record a launch that measures both"
            )
        return found

    def save(self, path: Path) -> None:
        """Write to `path` atomically."""
        rows = [
            {"trial": trial.number, "point": json.dumps(dict(trial.point)), "diverged": trial.diverged, **trial.values}
            for trial in self.trials
        ]
        about = {name: getattr(self, name) for name in ("launch", "objective", "epochs", "space", "config")}
        table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({ABOUT: json.dumps(about).encode()}))
        with atomic_path(path) as temporary:
            parquet.write_table(table, temporary, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read what `save` wrote. A one-line ConfigError if `path` cannot be read, or is something else."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a record, or {WAY_OUT}") from error
        try:
            table = parquet.read_table(io.BytesIO(content))
            about = json.loads(table.schema.metadata[ABOUT])
            record = cls(**about, trials=[_trial_of(row) for row in table.select(SCHEMA.names).cast(SCHEMA).to_pylist()])
            fault = _fault(record)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: is not a record of curves; {WAY_OUT}") from error
        if fault:
            raise ConfigError(f"{path}: {fault}; {WAY_OUT}")
        return record


def _trial_of(row: Mapping[str, Any]) -> RecordedCurves:
    return RecordedCurves(
        number=row["trial"],
        point=json.loads(row["point"]),
        diverged=row["diverged"],
        values={metric: row[metric] for metric in METRICS},
    )


def _fault(record: Record) -> str | None:
    """Why a sweep cannot be simulated on the record, in words; None if it can."""
    kinds = (record.launch, str), (record.epochs, int), (record.space, dict), (record.config, dict)
    if not all(isinstance(value, kind) for value, kind in kinds) or record.objective not in CURVES:
        return "lacks the description of its launch"
    return next((fault for trial in record.trials if (fault := _trial_fault(trial, record))), None if record.trials else "is empty")


def _trial_fault(trial: RecordedCurves, record: Record) -> str | None:
    number, epochs = trial.number, trial.num_epochs
    if not isinstance(trial.point, dict):
        return f"trial {number} has no point"
    if any(len(values) != epochs for values in trial.values.values()) or not 1 <= epochs <= record.epochs:
        return f"trial {number} has curves of different lengths"
    if not trial.diverged and epochs < record.epochs:
        return f"trial {number} ends at epoch {epochs} of {record.epochs}"
    if not all(_is_sound(value) for values in trial.values.values() for value in values):
        return f"trial {number} has a value that is not a number of 0 or above"
    if any(value is None for metric in (record.objective, SECONDS) for value in trial.values[metric]):
        return f"trial {number} lacks {record.objective} or {SECONDS} in an epoch"
    return None


def _is_sound(value: float | None) -> bool:
    return value is None or (math.isfinite(value) and value >= 0)
