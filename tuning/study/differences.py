"""How a study differs from the defaults; for the settings of runs, the defaults are the published values of the method."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cpsc.examiners import ExaminerConfig
from cpsc.presets import DEFAULT_METHOD
from cpsc.probe import ProbeConfig
from cpsc.teacher_training import TeacherRecipe
from tuning.study.base_config import BaseConfig, build_config
from tuning.study.config import Study, StudyFile
from tuning.study.nested_keys import flatten
from tuning.study.published_point import METHOD_PATH

_SECTIONS = ("search", "prune", "resources", "checkpoint", "measure", "tracking")


@dataclass(frozen=True)
class Difference:
    """A setting, by its path in the study file, whose `value` is not the `default`.

    `gave_way`: the study does not set it, but its other settings conflict with the default, which was therefore adapted.
    """

    path: str
    value: Any
    default: Any
    gave_way: bool = False


def differences(study: Study) -> list[Difference]:
    """Every setting of `study` that differs from its default, except searched parameters."""
    return [*_of_runs(study), *_of_methods(study), *_of_teacher(study), *_of_images(study), *_of_sections(study)]


def _of_runs(study: Study) -> Iterator[Difference]:
    base, config = study.base, study.config
    published = BaseConfig(own={"method": config.method}, preset=base.preset, num_classes=base.num_classes)
    said = dict(flatten({**base.own, **base.by_method.get(config.method, {})}))
    if config.method != DEFAULT_METHOD:
        yield Difference("config.method", config.method, DEFAULT_METHOD)
    for path, value, default in _changed(asdict(config), asdict(build_config(published, {}))):
        if path not in study.space:
            yield Difference(f"config.{path}", value, default, gave_way=path not in said)


def _of_methods(study: Study) -> Iterator[Difference]:
    """Settings for single methods, where methods are searched."""
    searched = study.space[METHOD_PATH].arguments if METHOD_PATH in study.space else ()
    for method in searched:
        published = BaseConfig(own={}, preset=study.base.preset, num_classes=study.base.num_classes)
        defaults = dict(flatten(asdict(build_config(published, {METHOD_PATH: method}))))
        for path, value in flatten(study.base.by_method.get(method, {})):
            if value != defaults.get(path):
                yield Difference(f"config.by_method.{method}.{path}", value, defaults.get(path))


def _of_teacher(study: Study) -> Iterator[Difference]:
    source = study.teacher
    if source.recipe is not None:
        default, said = TeacherRecipe(arch=source.recipe.arch), study.source["config"]["teacher"]
        for path, value, usual in _changed(asdict(source.recipe), asdict(default)):
            yield Difference(f"config.teacher.{path}", value, usual, gave_way=path not in said)
    if source.min_accuracy:
        yield Difference("config.teacher.min_accuracy", source.min_accuracy, 0.0)


def _of_images(study: Study) -> Iterator[Difference]:
    """Settings of the images that students are compared on."""
    said = study.source["config"].get("probe", {})
    for path, value, default in _changed(asdict(study.probe), asdict(ProbeConfig())):
        yield Difference(f"config.probe.{path}", value, default, gave_way=path not in said)
    for path, value, default in _changed(asdict(study.examiners), asdict(ExaminerConfig())):
        yield Difference(f"config.examiners.{path}", value, default)


def _of_sections(study: Study) -> Iterator[Difference]:
    for name in _SECTIONS:
        section: BaseModel = getattr(study, name)
        for path, value, default in _changed(section.model_dump(), type(section)().model_dump()):
            yield Difference(f"{name}.{path}", value, default)
    default = StudyFile.model_fields["objective"].default
    if study.objective != default:
        yield Difference("objective", study.objective, default)
    runs = str(Path(StudyFile.model_fields["storage"].default).absolute())
    if study.storage != runs:
        yield Difference("storage", study.storage, runs)
    if str(study.local) not in (study.storage, runs):
        yield Difference("local", str(study.local), study.storage)


def _changed(section: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(path, value, default) for each value in `section` that differs from `defaults`."""
    usual = dict(flatten(defaults))
    for path, value in flatten(section):
        if value != usual.get(path):
            yield path, value, usual.get(path)
