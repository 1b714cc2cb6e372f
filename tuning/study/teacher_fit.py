"""A study fitted to its teacher: loss terms that the teacher cannot support are switched off, reported and recorded."""

from dataclasses import replace

import torch

from cpsc.config import DistillConfig
from cpsc.errors import ConfigError
from cpsc.first_weights import check_first_weights
from cpsc.methods import method_class
from cpsc.models import build_model, check_image_size, is_import_path
from cpsc.models.imported import PREFIX
from cpsc.norms import NormSurvey, survey_norms
from cpsc.rng import stream
from cpsc.teacher import Teacher
from tuning.study.base_config import build_config, told_of
from tuning.study.config import Study
from tuning.study.nested_keys import copy_nested, merge
from tuning.study.search_space import parse_space

STATISTICS = "weights.batch_statistics"
PROBE_STATISTICS = "probe.batch_statistics"
NUM_IMAGES = 4
SWITCHED_OFF = "switched_off"
"""Recorded parameter that lists settings of the study file that were switched off."""


def survey_teacher(teacher: Teacher) -> NormSurvey:
    """Which of the teacher's batch norms have statistics to compare, found by running it on a few noise images."""
    network = teacher.build(torch.device("cpu"))
    if is_import_path(teacher.arch):  # report layers by the names that the user knows
        network = network.get_submodule(PREFIX.rstrip("."))
    shape = (NUM_IMAGES, teacher.channels, teacher.image_size, teacher.image_size)
    return survey_norms(network, torch.randn(shape, generator=stream(0, "survey")))


def fitted(study: Study, norms: NormSurvey) -> Study:
    """`study` without the batch statistics terms if the teacher has no such statistics; otherwise `study` itself.

    ConfigError if the study searches such a term, or if a loss would be empty without it.
    """
    if norms.compared:
        return study
    if STATISTICS in study.space:
        raise ConfigError(
            f"space.{STATISTICS}: has no effect, because the teacher has {norms}; leave it out of space and start, "
            f"or pass --set space.{STATISTICS}=null"
        )
    _check_norm_terms(study, norms)
    without = without_statistics(study)
    if not without.probe.terms:
        raise ConfigError(
            f"config.probe: label, total_variation or image_norm must be > 0, because the teacher has {norms}: "
            "otherwise the probe set has no loss to be made with"
        )
    try:
        parse_space(study.source.get("space", {}), without.base, is_grid=study.search.sampler == "grid")
        for point in [{}, *study.start]:
            build_config(without.base, point)
    except ConfigError as error:
        raise ConfigError(f"{error}; {STATISTICS} does not count, because the teacher has {norms}") from error
    return without


def without_statistics(study: Study) -> Study:
    """`study` with the weights of batch statistics set to 0, in the method and in the probe set."""
    base = study.base
    by_method = {method: copy_nested(settings) for method, settings in base.by_method.items()}
    for settings in by_method.values():
        settings.get("weights", {}).pop("batch_statistics", None)
    own = merge(base.own, {"weights": {"batch_statistics": 0.0}})
    return replace(study, base=replace(base, own=own, by_method=by_method), probe=replace(study.probe, batch_statistics=0.0))


def switched_off(study: Study, norms: NormSurvey) -> tuple[str, ...]:
    """The settings of `study`, as in its file, that are switched off because the teacher lacks batch norms."""
    if norms.compared:
        return ()
    counts = any(config.weights.batch_statistics for config in _configs(study))
    return tuple(name for name, is_off in ((STATISTICS, counts), (PROBE_STATISTICS, study.probe.batch_statistics > 0)) if is_off)


def check_images(study: Study, teacher: Teacher) -> None:
    """ConfigError if the method makes images from something that the teacher, or a file for it, does not provide."""
    configs = (replace(config, seed=0) for config in _configs(study))  # points that differ only in the seed are checked once
    for config in {repr(config): config for config in configs}.values():
        with told_of("config."):
            method_class(config.method).SYNTHESIS.check_teacher(config, teacher)


def check_students(study: Study, teacher: Teacher) -> None:
    """ConfigError if a student does not accept images of the teacher's size, or needs first weights that the teacher lacks."""
    searched = study.space.get("student.arch")
    for arch in searched.edges if searched else (study.config.student.arch,):
        check_image_size(arch, teacher.image_size)
    for config in _configs(study):
        if config.student.initial != "random":
            with torch.device("meta"):
                student = build_model(config.student.arch, num_classes=teacher.num_classes, channels=teacher.channels)
            with told_of("config."):
                check_first_weights(config.student, student, teacher)


def _check_norm_terms(study: Study, norms: NormSurvey) -> None:
    """ConfigError for terms that compare the inputs of the teacher's batch norms: nothing could take their place."""
    for config in _configs(study):
        method = config.method
        for term in method_class(method).NORM_TERMS:
            domain = study.space.get(f"weights.{term}")
            is_searched = domain is not None and method in domain.when.get("method", (method,))
            if config.weights[term] or is_searched:
                raise ConfigError(
                    f"config.weights.{term}: must be 0 and not searched with method {method}, whose term compares the inputs of "
                    f"batch norms: the teacher has {norms}"
                )


def _configs(study: Study) -> list[DistillConfig]:
    """Configs of every method that the study may run, and of its start points."""
    methods: list[dict[str, object]] = [{}]
    if "method" in study.space:
        methods = [{"method": method} for method in study.space["method"].arguments]
    return [build_config(study.base, point) for point in [*methods, *study.start]]
