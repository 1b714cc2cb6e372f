"""One trial in this process: the sweep's trainable without Ray, so that breakpoints, prints and profilers work."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError, DivergedError
from tuning.display import Display, percent
from tuning.lineage import Segment
from tuning.study import Study
from tuning.study.config import searched_paths
from tuning.study.overrides import parse_assignments
from tuning.trial.assets import prepare
from tuning.trial.context import trial_context
from tuning.trial.trainable import DistillTrainable, local_trainable


def split_point(path: Path, assignments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Split `assignments` into those of searched parameters, as a point, and the others, which change the study itself.

    Unlike in a sweep, a searched parameter is meant to be fixed here, to any value that the config allows.
    """
    searched = searched_paths(path, assignments)
    point: dict[str, Any] = {}
    others: list[str] = []
    for assignment in assignments:
        ((name, value),) = parse_assignments([assignment]).items()
        if (short := name.removeprefix("config.")) in searched:
            point[short] = value
        else:
            others.append(assignment)
    return point, others


def run_trial(
    study: Study,
    point: dict[str, Any],
    display: Display,
    *,
    max_epochs: int | None = None,
    output: Path | None = None,
    force: bool = False,
    schedule: Sequence[Segment] = (),
) -> list[dict[str, Any]]:
    """Run the trial that a sweep would run for `point` -> its results, epoch by epoch.

    `output`: a folder for its checkpoint at the end; `schedule`: values of a trial of a population, instead of `point`.
    Raises DivergedError if the trial diverges.
    """
    if output is not None and output.exists() and not output.is_dir():
        raise ConfigError(f"--output: {output} is a file; name a folder")
    assets = prepare(study, display, force=force)
    run = assets.fit(study)
    if run.has_examiners and assets.examiners is None:
        display.say("no examiners yet (a sweep trains them), so this trial's best epoch is chosen by the probe set alone")
    trainable = local_trainable(trial_context(run, assets), point, schedule)
    epochs = min(trainable.distiller.config.epochs, max_epochs or trainable.distiller.config.epochs)
    results = []
    try:
        for result in run_epochs(trainable, display, first=1, last=epochs):
            raise_if_diverged(result)
            results.append(result)
            display.say(epoch_line(result))
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            trainable.save_checkpoint(str(output))
            display.say(f"checkpoint, configuration and sample grid: {output}")
    finally:
        trainable.stop()
    return results


def run_epochs(trainable: DistillTrainable, display: Display, *, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Run the epochs `first` to `last` under a progress bar -> the result of each; a trial that diverges ends with that result."""
    with display.bar("trial", last - first + 1) as advance:
        for done in range(1, last - first + 2):
            result = trainable.train()
            advance(done, "")
            yield result
            if result["diverged"]:
                return


def raise_if_diverged(result: dict[str, Any]) -> None:
    """Raise DivergedError if the trial diverged in this epoch."""
    if result["diverged"]:
        raise DivergedError(f"the trial diverged in epoch {result['epoch']}: {result['reason']}")


def epoch_line(result: dict[str, Any]) -> str:
    """One epoch in a line."""
    parts = [
        f"epoch {result['epoch']}",
        *([f"exam score {percent(result['exam_score'])}"] if "exam_score" in result else []),
        f"probe agreement {percent(result['probe_agreement'])}",
        f"probe KL {result['probe_kl']:.4f}",
    ]
    if "test_accuracy" in result:
        parts.append(f"test accuracy {percent(result['test_accuracy'])}")
    losses = [f"{name.removeprefix('student/')} {value:.3f}" for name, value in result.items() if name.startswith("student/")]
    return ", ".join([*parts, *losses, f"{result['epoch_s']:.1f} s"])
