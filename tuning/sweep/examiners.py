"""Examiners of a sweep: trained before its trials, each in a Ray task, and kept for launches with the same settings."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import ray

from cpsc.errors import ConfigError, CpscError, DivergedError
from cpsc.examiners import ExamImages, run_digest
from cpsc.teacher import Teacher
from tuning.display import Display
from tuning.search.first_points import begins_with, first_points
from tuning.storage import Storage
from tuning.study import Study, build_config
from tuning.study.nested_keys import Point
from tuning.study.user_code import code_folders
from tuning.trial import Assets
from tuning.trial.examiners import Examiners, ExaminerTraining, examiners_folder, images_name
from tuning.trial.limits import limits_of

LOOK_EVERY_S = 2.0
MAX_RETRIES = 3
"""Retries of an examiner whose machine is lost; it continues from its last epoch."""
FEWEST = 2
"""Fewest examiners: with a single one, its own trial would have none."""


@dataclass(frozen=True)
class _Candidate:
    """A point that may become an examiner, and the digest of its run."""

    point: Point
    run: str


def with_examiners(study: Study, assets: Assets, display: Display, *, before_making: Callable[[], None]) -> Assets:
    """`assets` with the examiners of `study` (as fitted to its teacher), which are made now if the storage has none.

    `before_making` is called before they are made, and must start Ray. ConfigError if too few examiners finish.
    """
    if not study.has_examiners or assets.examiners is not None:
        return assets
    before_making()
    started = time.monotonic()
    training = _training(study, assets)
    candidates = _candidates(study, assets.teacher)
    strengths = _train(training, candidates, study.examiners.count, display)
    exam = ExamImages.of_runs({run: training.images_of(run) for run in strengths}, strengths, assets.teacher)
    with training.storage.writing(images_name(training.folder)) as path:
        exam.save(path)
    took_s = time.monotonic() - started
    display.say(
        f"{len(strengths)} examiners of {training.last} epochs made {len(exam.images)} images in {took_s:.0f} s "
        f"({training.storage}/{images_name(training.folder)}); trials with the same settings continue from there"
    )
    return replace(assets, examiners=Examiners(exam, training.folder))


def forget_epochs(study: Study, assets: Assets) -> None:
    """Remove the examiners' saved epochs, which no trial of `study` needs any more; their images stay."""
    if assets.examiners is not None:
        storage = Storage(study.storage)
        with suppress(ConfigError):  # the search has its result
            if storage.names(assets.examiners.folder):
                storage.delete_folder(assets.examiners.folder)


def _training(study: Study, assets: Assets) -> ExaminerTraining:
    epochs = study.config.epochs
    return ExaminerTraining(
        study=study,
        teacher=assets.teacher,
        probe=assets.probe,
        storage=Storage(study.storage),
        folder=examiners_folder(study, assets.teacher),
        shares=study.examiners.shares(epochs),
        last=study.examiners.num_epochs(epochs),
        code_folders=code_folders(),
    )


def _candidates(study: Study, teacher: Teacher) -> list[_Candidate]:
    """Twice as many candidates as wanted: first the wanted ones, with one of each method if possible, then replacements."""
    limits = limits_of(study, teacher)
    points = first_points(study, 2 * study.examiners.count, limits)
    configs = [build_config(study.base, point) for point in points]
    places = spread([config.method for config in configs], study.examiners.count, among=len(begins_with(study, limits)))
    order = places + [place for place in range(len(points)) if place not in places]
    candidates = [_Candidate(points[place], run_digest(configs[place])) for place in order]
    return list({candidate.run: candidate for candidate in candidates}.values())


def spread(methods: Sequence[str], count: int, *, among: int) -> list[int]:
    """`count` indices in the first `among` of `methods`: the first of each method, then the others in order."""
    places = range(min(among, len(methods)))
    first = [place for place in places if methods[place] not in methods[:place]]
    return (first + [place for place in places if place not in first])[:count]


def _train(training: ExaminerTraining, candidates: Sequence[_Candidate], count: int, display: Display) -> Mapping[str, float]:
    """Train `count` examiners, or fewer if too many diverge -> the strength of each student by run, in the candidates' order."""
    task = ray.remote(ExaminerTraining.run).options(
        num_cpus=training.study.resources.cpus, num_gpus=training.study.resources.gpus, max_retries=MAX_RETRIES
    )
    shared, waiting = ray.put(training), list(candidates)
    at_once = training.study.search.max_concurrent or count
    running: dict[Any, _Candidate] = {}
    strengths: dict[str, float] = {}
    with display.bar("examiners", count * training.last) as advance:
        while running or (waiting and len(strengths) < count):
            while waiting and len(running) < min(at_once, count - len(strengths)):
                candidate = waiting.pop(0)
                running[task.remote(shared, candidate.point)] = candidate
            for reference in ray.wait(list(running), timeout=LOOK_EVERY_S)[0]:
                candidate = running.pop(reference)
                try:
                    strengths[candidate.run] = _strength(reference)
                except DivergedError as error:
                    display.say(f"an examiner diverged, another takes its place: {error}")
            advance(training.num_trained([*strengths, *(candidate.run for candidate in running.values())]), "")
    if len(strengths) < FEWEST:
        raise ConfigError(
            f"objective exam_score: only {len(strengths)} of {len(candidates)} examiners finished, "
            f"at least {FEWEST} are needed; use narrower ranges, or objective: probe_overlap"
        )
    return {candidate.run: strengths[candidate.run] for candidate in candidates if candidate.run in strengths}


def _strength(reference: Any) -> float:
    """The task's result. DivergedError if its run diverged; CpscError in one line if it failed otherwise."""
    try:
        return float(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CpscError):
            raise error.cause from error
        raise CpscError(f"examiners: {str(error).strip().splitlines()[-1]}") from error
    except ray.exceptions.RayError as error:
        way_out = "run the same command again to continue from there"
        raise CpscError(f"examiners: a worker was lost ({type(error).__name__}); {way_out}") from error
