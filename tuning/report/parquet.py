"""The report as Parquet for pandas, Polars or DuckDB: one row per trial, per epoch and metric, per trial and parameter."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from cpsc.atomic_file import atomic_path
from cpsc.curves import curve_statistics
from tuning.results import Launch, TrialRecord
from tuning.results.trial_record import CURVES, number_in

Row = dict[str, Any]
MOMENT = pa.timestamp("ms", tz="UTC")


def _schema(*columns: tuple[str, pa.DataType, str]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, metadata={"description": description}) for name, kind, description in columns])


_KEY = (
    ("study", pa.string(), "name of the study: MLflow's experiment"),
    ("launch", pa.string(), "name of the launch: the parent run"),
    ("trial", pa.int32(), "number of the trial in its launch"),
)
TRIALS = _schema(
    *_KEY,
    ("run_id", pa.string(), "MLflow's id of the trial's run"),
    (
        "finalist_of",
        pa.int32(),
        "number of the trial whose values a finalist repeats under another seed; null for the search's own",
    ),
    ("rank", pa.int32(), "1 is the chosen trial; null if the trial has no result"),
    ("outcome", pa.string(), "completed, pruned, diverged, failed, interrupted; null while it runs"),
    ("reason", pa.string(), "why it ended before its last epoch, if that is known"),
    ("node", pa.string(), "machine on which its latest epoch ran"),
    ("started", MOMENT, "when it first started"),
    ("ended", MOMENT, "when it ended; null while it runs"),
    ("retries", pa.int32(), "how often it was restarted after a failure"),
    ("epochs", pa.int32(), "epochs that it ran"),
    ("seconds", pa.float64(), "time that these epochs took"),
    ("best_epoch", pa.int32(), "epoch whose student is its result"),
    ("objective", pa.string(), "metric that the search maximised"),
    (
        "exam_score",
        pa.float64(),
        "what it is chosen by if there are examiners: agreement on their images and the probe set",
    ),
    ("held_out_agreement", pa.float64(), "share of the remaining images of both on which that student and the teacher agree"),
    ("probe_overlap", pa.float64(), "mean overlap of their probabilities on the probe set"),
    ("probe_agreement", pa.float64(), "share of the probe set on which that student and the teacher agree"),
    ("probe_kl", pa.float64(), "mean KL divergence on the probe set, in nats"),
    ("test_accuracy", pa.float64(), "share of the labelled test images that it gets right; null without labels"),
    ("accuracy_metric", pa.string(), "metric of the next six columns: test_accuracy, or the blind objective without labels"),
    ("accuracy_last", pa.float64(), "at the last epoch"),
    ("accuracy_best", pa.float64(), "highest over epochs"),
    ("accuracy_mean", pa.float64(), "mean over epochs"),
    ("accuracy_std", pa.float64(), "population deviation over epochs"),
    ("accuracy_late_mean", pa.float64(), "mean over the second half of the epochs"),
    ("accuracy_late_std", pa.float64(), "population deviation over the second half of the epochs"),
)
EPOCHS = _schema(
    *_KEY,
    ("epoch", pa.int32(), "epoch, from 1"),
    ("metric", pa.string(), "name of the metric, as in MLflow"),
    ("value", pa.float64(), "its value"),
    ("reported", MOMENT, "when the epoch's result arrived"),
)
PARAMETERS = _schema(
    *_KEY,
    ("parameter", pa.string(), "dotted path into the trial's config, or a fact of the study"),
    ("value", pa.string(), "its value as text"),
    ("number", pa.float64(), "its value if it is a number"),
    ("searched", pa.bool_(), "whether the search chose it"),
)


def write_tables(launches: Sequence[Launch], folder: Path) -> list[Path]:
    """Write trials.parquet, epochs.parquet and parameters.parquet, each atomically -> their paths."""
    tables = {
        "trials": (TRIALS, trial_rows),
        "epochs": (EPOCHS, _epoch_rows),
        "parameters": (PARAMETERS, _parameter_rows),
    }
    paths = []
    for name, (schema, rows) in tables.items():
        path = folder / f"{name}.parquet"
        content = [{"study": launch.study, "launch": launch.name} | row for launch in launches for row in rows(launch)]
        with atomic_path(path) as temporary:
            parquet.write_table(pa.Table.from_pylist(content, schema=schema), temporary)
        paths.append(path)
    return paths


def trial_columns(launch: Launch) -> list[str]:
    """The columns of `trial_rows`, followed by one column per searched parameter."""
    own = [name for name in TRIALS.names if name not in ("study", "launch")]
    return own + list(dict.fromkeys(path for trial in launch.trials for path in trial.point))


def trial_rows(launch: Launch) -> list[Row]:
    """One row of `TRIALS` per trial, best first, without study and launch."""
    return [_trial_row(trial, rank, launch) for rank, trial in enumerate(launch.trials, start=1)]


def _trial_row(trial: TrialRecord, rank: int, launch: Launch) -> Row:
    objective, metric = launch.objective, launch.accuracy_metric
    best = trial.best_epoch(objective)
    row = {
        "trial": trial.number,
        "run_id": trial.run_id,
        "finalist_of": trial.finalist_of,
        "rank": rank if best is not None else None,
        "outcome": trial.outcome.value if trial.outcome else None,
        "reason": trial.reason or None,
        "node": trial.course.node or None,
        "started": _moment(trial.course.started),
        "ended": _moment(trial.course.ended),
        "retries": len(trial.course.retried),
        "epochs": trial.num_epochs,
        "seconds": trial.seconds,
        "best_epoch": best,
        "objective": objective,
        "accuracy_metric": metric,
    }
    row |= {name: trial.at_best(name, objective) for name in CURVES}
    return row | {f"accuracy_{name}": value for name, value in robustness(trial, metric).items()}


def robustness(trial: TrialRecord, metric: str) -> dict[str, float]:
    """Last, best, mean, std, late_mean, late_std of `metric`: what to expect without labels (PRE-DFKD, arXiv:2201.03019, §4)."""
    curve = trial.curves.get(metric, {})
    if not curve:
        return {}
    values = [curve[epoch] for epoch in sorted(curve)]
    found = curve_statistics(values)
    return {
        "last": values[-1],
        "best": found.best,
        "mean": found.mean,
        "std": found.std,
        "late_mean": found.second_half_mean,
        "late_std": found.second_half_std,
    }


def _epoch_rows(launch: Launch) -> list[Row]:
    return [
        {
            "trial": trial.number,
            "epoch": epoch,
            "metric": metric,
            "value": value,
            "reported": _moment(trial.course.reported.get(epoch)),
        }
        for trial in launch.trials
        for metric, curve in sorted(trial.curves.items())
        for epoch, value in sorted(curve.items())
    ]


def _parameter_rows(launch: Launch) -> list[Row]:
    return [
        {"trial": trial.number, "parameter": path, "value": text, "number": number_in(text), "searched": path in trial.point}
        for trial in launch.trials
        for path, text in sorted(_texts(trial).items())
    ]


def _texts(trial: TrialRecord) -> Mapping[str, str]:
    return {**trial.params, **{path: str(value) for path, value in trial.point.items()}}


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC)
