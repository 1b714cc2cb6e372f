"""The report for a script: one JSON object with the figures that the text report words."""

import json
from datetime import datetime
from typing import Any

from tuning.report.tables import trial_rows
from tuning.results import Launch


def launch_json(launch: Launch) -> str:
    """Its study and name, its figures, and `trials`: rows as in trials.parquet, best first, each with its `point`."""
    chosen = launch.chosen
    content = {
        "study": launch.study,
        "launch": launch.name,
        "run_id": launch.run_id,
        "objective": launch.objective,
        "chosen": None if chosen is None else chosen.number,
        "epochs_run": launch.epochs_run,
        "epochs_unpruned": launch.epochs_unpruned,
        "regret": launch.regret(),
        "rank_correlation": launch.rank_correlation(),
        "trials": [row | {"point": dict(trial.point)} for row, trial in zip(trial_rows(launch), launch.trials, strict=True)],
    }
    return to_json(content)


def to_json(content: Any) -> str:
    """`content` as one JSON text; moments in ISO 8601."""
    return json.dumps(content, indent=2, default=_plain)


def _plain(value: Any) -> str:
    assert isinstance(value, datetime), type(value)
    return value.isoformat()
