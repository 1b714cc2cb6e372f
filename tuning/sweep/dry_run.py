"""Dry run: what a sweep would do, without doing it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

from tuning.display import percent
from tuning.redaction import redact
from tuning.results.earlier import beginning_with, transferred
from tuning.search.asha import rungs_of
from tuning.search.population import PopulationRules
from tuning.study import Study, build_config
from tuning.study.config import check_searchable
from tuning.study.differences import Difference, differences
from tuning.study.population import POPULATION
from tuning.study.published_point import METHOD_PATH, published_by_method
from tuning.study.validation import format_value
from tuning.study.yaml_loader import dump_yaml, to_plain
from tuning.sweep.estimate import Estimate
from tuning.sweep.transfer import read_sources
from tuning.trial.resources import concurrency, study_device


def describe(study: Study, estimate: Estimate | None = None) -> str:
    """The differences from the defaults, as comments, the resolved study as YAML, and its resources and cost: epochs, synthetic
    images and, with `estimate`, minutes."""
    lines = [*_cost(study), *(estimate.lines() if estimate else [])]
    return redact(f"{_comments(_differences(study))}\n{dump_yaml(_resolved(study))}{_comments(lines)}")


def plan_figures(study: Study, estimate: Estimate) -> dict[str, Any]:
    """The same for a script: `study`, `differences`, `cost`, `estimate`, and `remarks`, the lines on the cost."""
    config, trials = study.config, study.search.num_trials
    cost = {
        "num_trials": trials,
        "epochs": config.epochs,
        "at_a_time": concurrency(study),
        "images_per_epoch": _images(study),
        "epochs_to_the_end": trials * config.epochs,
        "rungs": rungs_of(study.prune, config.epochs),
    }
    remarks = _cost(study)
    found: dict[str, Any] = to_plain({"study": _resolved(study), "differences": list(map(vars, differences(study))), "cost": cost})
    return cast(dict[str, Any], _redacted(found | {"estimate": estimate.figures(), "remarks": remarks}))


def _redacted(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _redacted(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_redacted(value) for value in tree]
    return redact(tree) if isinstance(tree, str) else tree


def _comments(lines: Sequence[str]) -> str:
    return "\n".join(f"# {line}" for line in lines)


def _differences(study: Study) -> list[str]:
    """One line for each setting of the study that differs from its default."""
    found = differences(study)
    lines = [f"  {difference.path} {format_value(difference.value)}{_instead(difference)}" for difference in found]
    return ["what differs from the defaults, which are the published values of the method:", *lines] if lines else ["all defaults"]


def _instead(difference: Difference) -> str:
    default = f"default {format_value(difference.default)}"
    return f" ({default}, which conflicts with other settings of the study)" if difference.gave_way else f" ({default})"


def _resolved(study: Study) -> dict[str, Any]:
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
    return cast(dict[str, Any], to_plain(resolved))


def _cost(study: Study) -> list[str]:
    config, trials = study.config, study.search.num_trials
    check_searchable(study)
    rungs = rungs_of(study.prune, config.epochs)
    study_device(study)
    return [
        f"{trials} trials of up to {config.epochs} epochs, {concurrency(study)} at a time on this machine, "
        f"{study.resources.cpus} CPU and {study.resources.gpus:g} GPU each",
        f"one epoch: {_spoken(_images(study))} synthetic images; if all trials run to the end: {trials * config.epochs} epochs",
        *_examiners(study),
        *_sampler(study),
        f"ASHA may stop a trial after epoch {', '.join(map(str, rungs))}" if rungs else "no trial is stopped early",
        *_population(study),
        *_transfer(study),
        *_limits(study),
        *_stop(study),
        *_finalists(study),
    ]


def _sampler(study: Study) -> list[str]:
    """Remarks on how the sampler treats this study."""
    if study.search.sampler == "gp" and study.prune.scheduler == "asha":
        rest = "it learns only from trials that run to their end, which ASHA leaves few of; prune.scheduler: none leaves all"
        return [f"sampler gp draws at random until {study.search.startup_trials} trials are completed, and {rest}"]
    if study.search.sampler == "tpe" and study.search.num_trials <= study.search.startup_trials:
        return [
            f"sampler tpe draws the first {study.search.startup_trials} trials at random, so all {study.search.num_trials} here"
        ]
    if study.search.sampler != "prior":
        return []
    deviation = f"standard deviation {study.search.prior_deviation:g} of each range"
    return [f"sampler prior searches around the published values ({deviation}):", *_published(study)]


def _published(study: Study) -> list[str]:
    """The prior's centre, one line per searched method."""
    centres = published_by_method(study.base, study.space)
    lines = []
    for method in list(centres)[1:] or [None]:
        values = centres[method]
        paths = [path for path in study.space if path != METHOD_PATH]
        shown = [f"{path} {format_value(values[path]) if path in values else 'anything'}" for path in paths]
        lines.append("  " + (f"{method}: " if method else "") + ", ".join(shown))
    return lines


def _examiners(study: Study) -> list[str]:
    """The examiners that run before the first trial, if students are compared by them."""
    if not study.has_examiners:
        return []
    count, epochs = study.examiners.count, study.examiners.num_epochs(study.config.epochs)
    spared = "" if study.prune.scheduler == POPULATION else ", during which ASHA cannot stop them"
    return [f"before them {count} examiners of {epochs} epochs: the first epochs of trials{spared}"]


def _population(study: Study) -> list[str]:
    """When trials take over others, and what may change then."""
    rules = PopulationRules.of(study)
    if rules is None:
        return []
    prune, size = study.prune, study.search.num_trials
    count = rules.num_replaced(size)
    epochs, factors = ", ".join(map(str, prune.comparisons(rules.epochs))), " or ".join(f"{by:g}" for by in prune.factors)
    return [
        f"after epoch {epochs} the {count} worst of the {size} trials take over the state of one of the {count} best and continue "
        f"with other values of {', '.join(study.space)}: each times {factors}, or drawn anew ({percent(prune.resample)})"
    ]


def _transfer(study: Study) -> list[str]:
    """What the search would learn from earlier launches."""
    sources = read_sources(study)
    first = len(beginning_with(study, transferred(sources)).start) - len(study.start)
    return [*map(str, sources), f"the best {first} of these are tried first, after the study's own"] if sources else []


def _limits(study: Study) -> list[str]:
    bounds = [f"{name} of {bound:.3g}" for name, bound in study.search.limits.bounds.items()]
    return [f"no student beyond {', or '.join(bounds)} is trained"] if bounds else []


def _stop(study: Study) -> list[str]:
    """What can end the search before its budget is used up."""
    stop = study.search.stop
    gain = f" by more than {stop.min_gain:g}" if stop.min_gain else ""
    rules = [f"{stop.trials_without_gain} trials in a row are no better{gain}"] if stop.trials_without_gain else []
    rules += [f"Optuna's terminator {stop.terminator} says so, after {stop.min_trials} completed trials"] if stop.terminator else []
    return [f"the search ends early if {', or '.join(rules)}"] if rules else []


def _finalists(study: Study) -> list[str]:
    """The finalists that run after the search."""
    finalists = study.search.finalists
    if finalists is None:
        return []
    epochs = finalists.length(study.config.epochs)
    return [
        f"after them {finalists.num_runs} runs of {epochs} epochs: the best {finalists.top} points under "
        f"{finalists.seeds} new seeds each, {study.finalist_cpus} CPU per run; the student is chosen by their mean"
    ]


def _images(study: Study) -> list[int]:
    """Fewest and most images per epoch: those of the study's config, or of a grid's points, which may differ."""
    points = study.start if study.search.sampler == "grid" else [{}]
    images = [build_config(study.base, point).images_per_epoch for point in points]
    return [min(images), max(images)]


def _spoken(images: Sequence[int]) -> str:
    fewest, most = images
    return f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
