"""What a launch found, read from its journal or back from MLflow: trials, curves, the blind choice and how good it was."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from scipy.stats import spearmanr

from cpsc.errors import ConfigError
from tuning.launch.journal import Event
from tuning.outcome import Outcome
from tuning.redaction import redact
from tuning.study import Study
from tuning.study.names import NAME
from tuning.tracking.run_lookup import all_runs, one_each
from tuning.tracking.tags import KIND_TAG, LAUNCH_TAG, NUMBER_TAG, OUTCOME_TAG, PARENT_TAG, POINT_TAG, RETRIES_METRIC, RUNNING

CURVES = ("probe_agreement", "probe_kl", "test_accuracy")
COST_CURVES = ("epoch_s", "replay_bytes")
READERS = 4
"""Threads that ask a tracking server at a time."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """Where and when a trial ran, as MLflow was told; times in seconds since 1970.

    `reported`: by epoch, when its result came; `retried`: when the trial was begun again after a failure.
    """

    node: str = ""
    started: float | None = None
    ended: float | None = None
    reported: Mapping[int, float] = field(default_factory=dict)
    retried: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial as it was recorded. `curves`: by metric, the value at each epoch; `run_id`: None if read from a journal.

    `point`: the values that the search chose, by dotted path; `params`: all, and facts, as texts.
    """

    number: int
    run_id: str | None
    outcome: Outcome | None
    reason: str
    params: Mapping[str, str]
    curves: Mapping[str, Mapping[int, float]]
    point: Mapping[str, Any] = field(default_factory=dict)
    course: Course = field(default_factory=Course)

    @property
    def num_epochs(self) -> int:
        return max((max(curve) for curve in self.curves.values() if curve), default=0)

    @property
    def seconds(self) -> float:
        """Time that its epochs took, as far as it was loaded."""
        return sum(self.curves.get("epoch_s", {}).values())

    def best_epoch(self, objective: str) -> int | None:
        """The epoch whose student is the trial's result: highest objective, then lower probe KL, then the earlier."""
        curve = self.curves.get(objective, {})
        if not curve or self.outcome is Outcome.DIVERGED:
            return None
        kl = self.curves.get("probe_kl", {})
        return max(curve, key=lambda epoch: (curve[epoch], -kl.get(epoch, 0.0), -epoch))

    def at_best(self, metric: str, objective: str) -> float | None:
        """`metric` of the trial's result."""
        epoch = self.best_epoch(objective)
        return None if epoch is None else self.curves.get(metric, {}).get(epoch)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One sweep: its run (None if read from a journal), its settings and its trials, best first."""

    name: str
    run_id: str | None
    objective: str
    epochs: int
    trials: Sequence[TrialRecord]
    study: str = ""

    @property
    def chosen(self) -> TrialRecord | None:
        """The trial that the objective alone picks."""
        return self.trials[0] if self.trials and self.trials[0].best_epoch(self.objective) is not None else None

    @property
    def accuracy_metric(self) -> str:
        """Test accuracy, where the launch has measured it; the probe agreement where there are no labels."""
        has_labels = any(trial.curves.get("test_accuracy") for trial in self.trials)
        return "test_accuracy" if has_labels else "probe_agreement"

    @property
    def epochs_run(self) -> int:
        return sum(trial.num_epochs for trial in self.trials)

    @property
    def epochs_unpruned(self) -> int:
        """What running every trial to the end would have cost."""
        return self.epochs * len(self.trials)

    def agreements_and_accuracies(self) -> list[tuple[float, float]]:
        """Probe agreement and test accuracy at every trial-epoch that has both."""
        return [
            (value, trial.curves["test_accuracy"][epoch])
            for trial in self.trials
            for epoch, value in trial.curves["probe_agreement"].items()
            if epoch in trial.curves["test_accuracy"]
        ]

    def rank_correlation(self) -> float | None:
        """Spearman's, of probe agreement and test accuracy over all trial-epochs; None below three or without labels."""
        pairs = self.agreements_and_accuracies()
        if len(pairs) < 3 or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
            return None
        return float(spearmanr(*zip(*pairs, strict=True)).statistic)

    def regret(self) -> float | None:
        """Best test accuracy among the trials' results minus that of the chosen one; None without labels."""
        accuracies = [accuracy for trial in self.trials if (accuracy := trial.at_best("test_accuracy", self.objective)) is not None]
        chosen = self.chosen.at_best("test_accuracy", self.objective) if self.chosen else None
        return None if chosen is None else max(accuracies) - chosen

    def count(self, outcome: Outcome) -> int:
        return sum(trial.outcome is outcome for trial in self.trials)


Track = Callable[[Iterable[TrialRecord], int], Iterable[TrialRecord]]
"""Passes on trials, of which there are so many, and may show how far that has come."""


@dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """What a sweep leaves behind."""

    study: Study
    launch: Launch
    model_uri: str | None
    """The registered champion; None where no trial has a result or the tracking server is away."""
    num_undelivered: int
    """Records that wait in the journal because the tracking server is away."""
    elapsed_s: float
    tracking_share: float
    """Share of the sweep's wall time that tracking calls took, in callbacks and in the delivering thread."""
    earlier_s: float = 0.0
    """What earlier attempts took, each up to its last sign of life; `elapsed_s` and `tracking_share` are this one's."""


def launch_from_journal(events: Iterable[Event], name: str) -> Launch:
    """The launch that the journal of `name` tells of: the same as `load_launch` once all of it has been delivered."""
    settings: Mapping[str, str] = {}
    curves: dict[int, dict[str, dict[int, float]]] = {}
    params: dict[int, Mapping[str, str]] = {}
    points: dict[int, Mapping[str, Any]] = {}
    ends: dict[int, Event] = {}
    for event in events:
        kind, number = event["kind"], event.get("number", -1)
        if kind == "launch_start":
            settings = event["params"]
        elif kind == "trial_start":
            params[number], points[number] = event["params"], event["point"]
            curves.setdefault(number, {curve: {} for curve in CURVES})
            ends.pop(number, None)
        elif kind == "epoch":
            for curve in CURVES:
                if curve in event["metrics"]:
                    curves[number][curve][event["epoch"]] = event["metrics"][curve]
        elif kind == "trial_end":
            ends[number] = event
    trials = [
        TrialRecord(
            number=number,
            run_id=None,
            outcome=Outcome(ends[number]["outcome"]) if number in ends else None,
            reason=redact(ends[number]["reason"]) if number in ends else "",
            params=params[number],
            point=points[number],
            curves=curves[number],
        )
        for number in params
    ]
    objective = settings["objective"]
    return Launch(
        name=name,
        run_id=None,
        objective=objective,
        epochs=int(settings["epochs"]),
        trials=sorted(trials, key=lambda trial: _rank(trial, objective)),
    )


def load_launch(
    client: MlflowClient,
    study: str,
    launch: str | None = None,
    *,
    curves: Sequence[str] | None = CURVES,
    track: Track = lambda trials, total: trials,
) -> Launch:
    """A launch of `study`, the latest unless named, with these `curves`; None: with every metric of its trials.

    `track` sees the trials pass as they are read. ConfigError where the store has none.
    """
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        known = [found.name for found in client.search_experiments() if found.name != "Default"]
        raise ConfigError(f"study {study!r}: not in this MLflow store, it has {', '.join(known) or 'none'}")
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
    with ThreadPoolExecutor(READERS) as pool:  # a server is asked once a curve: not one after another
        trials = list(track(pool.map(lambda run: _read_trial(client, run, curves), runs), len(runs)))
    return Launch(
        name=parent.data.tags[LAUNCH_TAG],
        run_id=parent.info.run_id,
        objective=objective,
        epochs=int(parent.data.params["epochs"]),
        trials=sorted(trials, key=lambda trial: _rank(trial, objective)),
        study=study,
    )


def _rank(trial: TrialRecord, objective: str) -> tuple[float, float, int]:
    value, kl = trial.at_best(objective, objective), trial.at_best("probe_kl", objective)
    return (-value if value is not None else 1.0, kl if kl is not None else 0.0, trial.number)


def _read_trial(client: MlflowClient, run: Run, names: Sequence[str] | None) -> TrialRecord:
    tags, metrics = run.data.tags, run.data.metrics
    outcome = None if tags[OUTCOME_TAG] == RUNNING else Outcome(tags[OUTCOME_TAG])
    wanted = (
        [name for name in dict.fromkeys((*CURVES, *COST_CURVES, *metrics)) if name != RETRIES_METRIC] if names is None else names
    )
    histories = {name: client.get_metric_history(run.info.run_id, name) if name in metrics else [] for name in wanted}
    retries = client.get_metric_history(run.info.run_id, RETRIES_METRIC) if RETRIES_METRIC in metrics else []
    return TrialRecord(
        number=int(tags[NUMBER_TAG]),
        run_id=run.info.run_id,
        outcome=outcome,
        reason=redact(tags.get("reason", "")),
        params=run.data.params,
        curves={name: {point.step: point.value for point in history} for name, history in histories.items()},
        point=json.loads(tags.get(POINT_TAG, "{}")),
        course=Course(
            node=tags.get("node", ""),
            started=run.info.start_time / 1000,
            ended=run.info.end_time / 1000 if outcome and run.info.end_time else None,
            reported={point.step: point.timestamp / 1000 for history in histories.values() for point in history},
            retried=[point.timestamp / 1000 for point in retries],
        ),
    )
