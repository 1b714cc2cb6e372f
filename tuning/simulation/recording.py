"""Making a record of curves from a launch whose trials ran to their end."""

import statistics
from collections.abc import Iterable, Sequence

from cpsc.errors import ConfigError
from tuning.launch import Journal
from tuning.launch.launch import open_launch
from tuning.outcome import Outcome
from tuning.results import Launch, TrialRecord, launch_from_journal
from tuning.simulation.record import METRICS, SECONDS, Record, RecordedCurves
from tuning.study import Study
from tuning.study.yaml_loader import to_plain


def record_launch(storage: str, name: str) -> tuple[Record, int]:
    """Record the launch `name` under `storage`, a folder or a URI -> the record, and how many trials were left out.

    Trials without a complete curve are left out: their machine failed, or they have not ended. ConfigError if a trial was pruned,
    because then only the good ones would be left.
    """
    study = open_launch(storage, name, [])
    launch = launch_from_journal(Journal(study.local / name).events(), name, curves=METRICS)
    searched = sorted(launch.searched, key=lambda trial: trial.number)
    whole = [trial for trial in searched if trial.outcome in (Outcome.COMPLETED, Outcome.DIVERGED)]
    _check(launch, searched, whole)
    return _record_of(study, launch, whole), len(searched) - len(whole)


def _check(launch: Launch, searched: Sequence[TrialRecord], whole: Sequence[TrialRecord]) -> None:
    pruned = [trial.number for trial in searched if trial.outcome is Outcome.PRUNED]
    if pruned:
        raise ConfigError(
            f"launch {launch.name}: trial {pruned[0]} was pruned, but a record needs complete curves; "
            "run the study again with: --set prune.scheduler=none"
        )
    if any(trial.exploits for trial in searched):
        raise ConfigError(
            f"launch {launch.name}: its trials copied each other's state, so no curve belongs to a single point; "
            "run the study again with: --set prune.scheduler=none"
        )
    if not whole:
        raise ConfigError(f"launch {launch.name}: no trial has ended yet; let its sweep continue")


def _record_of(study: Study, launch: Launch, trials: Sequence[TrialRecord]) -> Record:
    usual_s = statistics.fmean(_known_seconds(trials) or [0.0])
    return Record(
        launch=launch.name,
        objective=launch.objective,
        epochs=launch.epochs,
        space=to_plain(study.source["space"]),
        config=to_plain(study.source["config"]),
        trials=[_curves_of(trial, usual_s) for trial in trials],
    )


def _known_seconds(trials: Iterable[TrialRecord]) -> list[float]:
    return [seconds for trial in trials for seconds in trial.curves[SECONDS].values()]


def _curves_of(trial: TrialRecord, usual_s: float) -> RecordedCurves:
    """The trial's curves. An epoch that diverged has no recorded duration and gets the mean duration `usual_s`."""
    epochs = range(1, trial.num_epochs + 1)
    values = {metric: [trial.curves[metric].get(epoch) for epoch in epochs] for metric in METRICS}
    values[SECONDS] = [usual_s if seconds is None else seconds for seconds in values[SECONDS]]
    return RecordedCurves(number=trial.number, point=trial.point, diverged=trial.outcome is Outcome.DIVERGED, values=values)
