"""Lineage of a recorded trial of a population: the runs of other trials hold its first epochs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mlflow.entities import Run

from tuning.lineage import SCHEDULED, Stretch, schedule_of, stretches
from tuning.results.recorded_trial import RecordedTrial
from tuning.tracking.exploit_tags import exploits_in
from tuning.tracking.run_lookup import all_runs, one_each
from tuning.tracking.tags import KIND_TAG, NUMBER_TAG, PARENT_TAG, POINT_TAG, RETRIES_METRIC

Curves = Mapping[str, Mapping[int, float]]


def with_lineage(trial: RecordedTrial) -> RecordedTrial:
    """`trial` with its schedule and the curves along its lineage, without what it measured before it copied another trial.

    A trial that belongs to no population is returned unchanged.
    """
    if not any(name.startswith(SCHEDULED) for name in trial.curves):
        return trial
    runs = _population(trial)
    lineage = stretches(
        trial.number,
        until=trial.last_epoch,
        points={number: json.loads(run.data.tags[POINT_TAG]) for number, run in runs.items()},
        exploits={number: exploits_in(run.data.tags) for number, run in runs.items()},
    )
    return replace(trial, lineage=lineage, schedule=schedule_of(lineage), curves=_joined(trial, lineage, runs))


def _population(trial: RecordedTrial) -> dict[int, Run]:
    """The runs of the launch's trials, by number."""
    experiment = trial.client.get_run(trial.run_id).info.experiment_id
    query = f"tags.{KIND_TAG} = 'trial' AND tags.`{PARENT_TAG}` = '{trial.parent_id}'"
    found = one_each(all_runs(trial.client, [experiment], query))
    return {int(run.data.tags[NUMBER_TAG]): run for run in found}


def _joined(trial: RecordedTrial, lineage: Sequence[Stretch], runs: Mapping[int, Run]) -> Curves:
    joined: dict[str, dict[int, float]] = {}
    for stretch in lineage:
        curves = trial.curves if stretch.number == trial.number else dict(_curves(trial, runs[stretch.number]))
        for name, curve in curves.items():
            part = {epoch: value for epoch, value in curve.items() if stretch.after < epoch <= stretch.until}
            joined.setdefault(name, {}).update(part)
    return {name: curve for name, curve in joined.items() if curve}


def _curves(trial: RecordedTrial, run: Run) -> Iterator[tuple[str, dict[int, float]]]:
    for name in run.data.metrics:
        if name != RETRIES_METRIC:
            history = trial.client.get_metric_history(run.info.run_id, name)
            yield name, {point.step: point.value for point in history}
