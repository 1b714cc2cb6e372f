"""Dry run: what a sweep would do, without doing it."""

from dataclasses import asdict

from tuning.redaction import redact
from tuning.results.earlier import beginning_with, transferred
from tuning.search.asha import rungs_of
from tuning.study import Study, build_config
from tuning.study.config import check_searchable
from tuning.study.published_point import METHOD_PATH, published_by_method
from tuning.study.validation import format_value
from tuning.study.yaml_loader import dump_yaml, to_plain
from tuning.sweep.transfer import read_sources
from tuning.trial.resources import concurrency, study_device


def describe(study: Study) -> str:
    """The resolved study as YAML, followed by its resources and its cost in epochs and synthetic images."""
    resolved = {
        "name": study.name,
        "config": asdict(study.config),
        "dataset": asdict(study.dataset) if study.dataset else None,
        "teacher": {"path": study.teacher.path}
        if study.teacher.path
        else asdict(study.teacher.recipe)
        if study.teacher.recipe
        else {},
        "probe": asdict(study.probe),
        "examiners": asdict(study.examiners),
        "space": {path: str(domain) for path, domain in study.space.items()},
        "start": study.start,
        "objective": study.objective,
        **{key: getattr(study, key).model_dump() for key in ("search", "prune", "resources", "checkpoint", "measure", "tracking")},
        "storage": study.storage,
        "local": str(study.local),
    }
    return redact(dump_yaml(to_plain(resolved))) + "\n".join(f"# {line}" for line in _cost(study))


def _cost(study: Study) -> list[str]:
    config, trials = study.config, study.search.num_trials
    check_searchable(study)
    rungs = rungs_of(study.prune, config.epochs)
    study_device(study)
    return [
        f"{trials} trials of up to {config.epochs} epochs, {concurrency(study)} at a time on this machine, "
        f"{study.resources.cpus} CPU and {study.resources.gpus:g} GPU each",
        f"one epoch: {_images(study)} synthetic images; all trials to the end: {trials * config.epochs} epochs",
        *_examiners(study),
        *_sampler(study),
        f"ASHA may stop a trial after epoch {', '.join(map(str, rungs))}" if rungs else "no trial is stopped early",
        *_transfer(study),
        *_limits(study),
        *_stop(study),
        *_finalists(study),
    ]


def _sampler(study: Study) -> list[str]:
    """What a sampler makes of the study, where that is not known from its name."""
    if study.search.sampler == "gp" and study.prune.scheduler != "none":
        rest = "it learns of trials that run to their end alone, which ASHA leaves few of; prune.scheduler: none leaves all"
        return [f"sampler gp draws at random before {study.search.startup_trials} trials are completed, and {rest}"]
    if study.search.sampler != "prior":
        return []
    deviation = f"standard deviation {study.search.prior_deviation:g} of each range"
    return [f"sampler prior looks around the published values ({deviation}):", *_published(study)]


def _published(study: Study) -> list[str]:
    """The prior's centre, by method where several are searched."""
    centres = published_by_method(study.base, study.space)
    lines = []
    for method in list(centres)[1:] or [None]:
        values = centres[method]
        paths = [path for path in study.space if path != METHOD_PATH]
        shown = [f"{path} {format_value(values[path]) if path in values else 'anything'}" for path in paths]
        lines.append("  " + (f"{method}: " if method else "") + ", ".join(shown))
    return lines


def _examiners(study: Study) -> list[str]:
    """What comes before the first trial, where students are chosen by examiners."""
    if not study.has_examiners:
        return []
    count, epochs = study.examiners.count, study.examiners.num_epochs(study.config.epochs)
    return [f"before them {count} examiners of {epochs} epochs: first epochs of trials, which ASHA cannot stop within them"]


def _transfer(study: Study) -> list[str]:
    """What the search would be told of earlier launches."""
    sources = read_sources(study)
    first = len(beginning_with(study, transferred(sources)).start) - len(study.start)
    return [*map(str, sources), f"of these the best {first} come first, behind the study's own"] if sources else []


def _limits(study: Study) -> list[str]:
    bounds = [f"{name} of {bound:.3g}" for name, bound in study.search.limits.bounds.items()]
    return [f"no student beyond {', or '.join(bounds)} is trained"] if bounds else []


def _stop(study: Study) -> list[str]:
    """What ends the search before its budget does."""
    stop = study.search.stop
    gain = f" by more than {stop.min_gain:g}" if stop.min_gain else ""
    rules = [f"{stop.trials_without_gain} trials in a row are no better{gain}"] if stop.trials_without_gain else []
    rules += (
        [f"Optuna's terminator {stop.terminator} says so, after {stop.min_trials} trials to the end"] if stop.terminator else []
    )
    return [f"the search ends early where {', or '.join(rules)}"] if rules else []


def _finalists(study: Study) -> list[str]:
    """What follows upon the search."""
    finalists = study.search.finalists
    if finalists is None:
        return []
    epochs = finalists.length(study.config.epochs)
    return [
        f"after them {finalists.num_runs} runs of {epochs} epochs: the best {finalists.top} points under "
        f"{finalists.seeds} new seeds each, {study.finalist_cpus} CPU a run, by whose mean the student is chosen"
    ]


def _images(study: Study) -> str:
    """Of an epoch of the study's config, or of those of a grid's points, which may differ."""
    points = study.start if study.search.sampler == "grid" else [{}]
    images = sorted({build_config(study.base, point).images_per_epoch for point in points})
    return f"{images[0]:,}" if len(images) == 1 else f"{images[0]:,} to {images[-1]:,}"
