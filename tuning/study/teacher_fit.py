"""A study fitted to its teacher: terms that the teacher has nothing for are switched off, and that is said and recorded."""

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
"""The parameter that names settings of the study file which were not followed."""


def survey_teacher(teacher: Teacher) -> NormSurvey:
    """Which of the teacher's batch norms have statistics to compare, as it runs on a few images of noise."""
    network = teacher.build(torch.device("cpu"))
    if is_import_path(teacher.arch):  # in the names that its user knows
        network = network.get_submodule(PREFIX.rstrip("."))
    shape = (NUM_IMAGES, teacher.channels, teacher.image_size, teacher.image_size)
    return survey_norms(network, torch.randn(shape, generator=stream(0, "survey")))


def fitted(study: Study, norms: NormSurvey) -> Study:
    """`study` without the terms of batch statistics where the teacher has none; the same study where it has some.

    ConfigError where it searches such a term, or where nothing is left of a loss without it.
    """
    if norms.compared:
        return study
    if STATISTICS in study.space:
        raise ConfigError(
            f"space.{STATISTICS}: has no effect, for the teacher has {norms}; leave it out of space and start, "
            f"or pass --set space.{STATISTICS}=null"
        )
    _check_norm_terms(study, norms)
    without = without_statistics(study)
    if not without.probe.terms:
        raise ConfigError(
            f"config.probe: of label, total_variation and image_norm one must be > 0, for the teacher has {norms}: "
            "there would be nothing to make the probe set by"
        )
    try:
        parse_space(study.source.get("space", {}), without.base, is_grid=study.search.sampler == "grid")
        for point in [{}, *study.start]:
            build_config(without.base, point)
    except ConfigError as error:
        raise ConfigError(f"{error}; {STATISTICS} does not count, for the teacher has {norms}") from error
    return without


def without_statistics(study: Study) -> Study:
    """`study` with the weights of batch statistics 0, the method's and the probe set's."""
    base = study.base
    by_method = {method: copy_nested(settings) for method, settings in base.by_method.items()}
    for settings in by_method.values():
        settings.get("weights", {}).pop("batch_statistics", None)
    own = merge(base.own, {"weights": {"batch_statistics": 0.0}})
    return replace(study, base=replace(base, own=own, by_method=by_method), probe=replace(study.probe, batch_statistics=0.0))


def switched_off(study: Study, norms: NormSurvey) -> tuple[str, ...]:
    """The settings of `study`, as its file has it, that are not followed for want of batch norms."""
    if norms.compared:
        return ()
    counts = any(config.weights.batch_statistics for config in _configs(study))
    return tuple(name for name, is_off in ((STATISTICS, counts), (PROBE_STATISTICS, study.probe.batch_statistics > 0)) if is_off)


def check_images(study: Study, teacher: Teacher) -> None:
    """ConfigError where images are to be made of what the teacher, or a file beside it, does not have."""
    configs = (replace(config, seed=0) for config in _configs(study))  # points that differ in it are looked at once
    for config in {repr(config): config for config in configs}.values():
        with told_of("config."):
            method_class(config.method).SYNTHESIS.check_teacher(config, teacher)


def check_students(study: Study, teacher: Teacher) -> None:
    """ConfigError where a student takes no images of the teacher's size, or is to begin with weights that the teacher has not."""
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
    """Terms that compare what enters the teacher's batch norms cannot be switched off here: nothing takes their place."""
    for config in _configs(study):
        method = config.method
        for term in method_class(method).NORM_TERMS:
            domain = study.space.get(f"weights.{term}")
            is_searched = domain is not None and method in domain.when.get("method", (method,))
            if config.weights[term] or is_searched:
                raise ConfigError(
                    f"config.weights.{term}: must be 0, and not searched, for method {method}, which compares what enters batch "
                    f"norms: the teacher has {norms}"
                )


def _configs(study: Study) -> list[DistillConfig]:
    """Of every method that the study's trials may have, and of the points that it names."""
    methods: list[dict[str, object]] = [{}]
    if "method" in study.space:
        methods = [{"method": method} for method in study.space["method"].arguments]
    return [build_config(study.base, point) for point in [*methods, *study.start]]
