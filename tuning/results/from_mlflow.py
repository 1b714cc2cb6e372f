"""A launch read back from MLflow, on any machine, also while it runs."""

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus

from cpsc.errors import ConfigError
from cpsc.ground import Ground
from cpsc.marks import Marks
from tuning.outcome import RUNNING, Outcome
from tuning.redaction import redact
from tuning.results.choice import ranked
from tuning.results.model import Launch
from tuning.results.trial_record import CURVES, UNTRAINED, TrialRecord, TrialTimeline, latencies_in, with_exploits
from tuning.study.names import NAME
from tuning.tracking.exploit_tags import exploits_in
from tuning.tracking.run_lookup import all_runs, one_each
from tuning.tracking.tags import (
    FINALIST_TAG,
    KIND_TAG,
    LAUNCH_ID_TAG,
    LAUNCH_TAG,
    MARKS_TAG,
    NUMBER_TAG,
    OUTCOME_TAG,
    PARENT_TAG,
    POINT_TAG,
    REASON_TAG,
    RETRIES_METRIC,
)

COST_CURVES = ("epoch_s", "replay_bytes")
READERS = 4
"""Number of threads that query a tracking server at the same time."""
WITHOUT_REASON = (None, Outcome.COMPLETED, Outcome.PRUNED)
"""Outcomes without a reason: earlier versions left that of an earlier interruption on such trials."""


Track = Callable[[Iterable[TrialRecord], int], Iterable[TrialRecord]]
"""Passes on trials, given their total number, and may show progress."""


def load_launch(
    client: MlflowClient,
    study: str,
    launch: str | None = None,
    *,
    curves: Sequence[str] | None = (*CURVES, UNTRAINED),
    track: Track = lambda trials, total: trials,
) -> Launch:
    """A launch of `study`, the latest unless named, with these `curves`, or with every metric of its trials if None.

    `track` wraps the trials to show progress while they are read. ConfigError if the store has no such launch.
    """
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        known = [found.name for found in client.search_experiments() if found.name != "Default"]
        raise ConfigError(f"study {study!r}: is not in this MLflow store, which has {', '.join(known) or 'no study'}")
    if launch is not None and not NAME.fullmatch(launch):
        raise ConfigError(f"study {study!r}: launch {launch!r} is not recorded")
    query = f"tags.{KIND_TAG} = 'launch'" + (f" AND tags.`{LAUNCH_TAG}` = '{launch}'" if launch else "")
    parents = one_each(all_runs(client, [experiment.experiment_id], query, order_by=["attributes.start_time DESC"]))
    if not parents:
        raise ConfigError(
            f"study {study!r}: launch {launch!r} is not recorded" if launch else f"study {study!r}: no launch is recorded"
        )
    parent = parents[0]
    objective = parent.data.params["objective"]
    query = f"tags.{KIND_TAG} = 'trial' AND tags.`{PARENT_TAG}` = '{parent.info.run_id}'"
    runs = one_each(all_runs(client, [experiment.experiment_id], query))
    with ThreadPoolExecutor(READERS) as pool:  # one query per curve is slow one after another
        trials = list(track(pool.map(lambda run: _read_trial(client, run, curves), runs), len(runs)))
    return Launch(
        name=parent.data.tags[LAUNCH_TAG],
        run_id=parent.info.run_id,
        objective=objective,
        epochs=int(parent.data.params["epochs"]),
        trials=ranked(trials, objective),
        study=study,
        latencies_ms=latencies_in(parent.data.params),
        launch_id=parent.data.tags.get(LAUNCH_ID_TAG, ""),
        settings=parent.data.params,
        is_open=parent.info.status == RunStatus.to_string(RunStatus.RUNNING),
        ground=Ground.from_params(parent.data.params),
    )


def _read_trial(client: MlflowClient, run: Run, names: Sequence[str] | None) -> TrialRecord:
    tags, metrics = run.data.tags, run.data.metrics
    outcome = None if tags[OUTCOME_TAG] == RUNNING else Outcome(tags[OUTCOME_TAG])
    wanted = (
        [name for name in dict.fromkeys((*CURVES, *COST_CURVES, *metrics)) if name != RETRIES_METRIC] if names is None else names
    )
    histories = {name: client.get_metric_history(run.info.run_id, name) if name in metrics else [] for name in wanted}
    retries = client.get_metric_history(run.info.run_id, RETRIES_METRIC) if RETRIES_METRIC in metrics else []
    trial = TrialRecord(
        number=int(tags[NUMBER_TAG]),
        run_id=run.info.run_id,
        outcome=outcome,
        reason=redact(tags.get(REASON_TAG, "")) if outcome not in WITHOUT_REASON else "",
        params=run.data.params,
        marks=Marks.parse(tags.get(MARKS_TAG, "")),
        curves={name: {point.step: point.value for point in history} for name, history in histories.items()},
        point=json.loads(tags.get(POINT_TAG, "{}")),
        finalist_of=int(tags[FINALIST_TAG]) if FINALIST_TAG in tags else None,
        course=TrialTimeline(
            node=tags.get("node", ""),
            started=run.info.start_time / 1000,
            ended=run.info.end_time / 1000 if outcome and run.info.end_time else None,
            reported={point.step: point.timestamp / 1000 for history in histories.values() for point in history},
            retried=[point.timestamp / 1000 for point in retries],
        ),
    )
    return with_exploits(trial, exploits_in(tags))
