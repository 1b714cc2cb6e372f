"""A first study for a teacher: identify the teacher, fit the study to this machine, check it like a sweep would, write it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpsc.atomic_file import atomic_path
from cpsc.errors import CheckpointError, ConfigError
from tuning.display import Display
from tuning.init.beginnings import beginnings, check_known_method, scale_for
from tuning.init.budget import Budget, fitting_budget, resources_here
from tuning.init.identifying import Identified, described, identify
from tuning.init.questions import Ask
from tuning.init.study_text import Plan, study_text
from tuning.study import Study
from tuning.study.class_count import check_class_count
from tuning.study.config import resolve_study
from tuning.study.names import MAX_STUDY_NAME, check_study_name
from tuning.study.paths import from_folder
from tuning.study.teacher_fit import check_images, check_students, fitted
from tuning.study.yaml_loader import load_yaml
from tuning.time_left import in_words
from tuning.trial.resources import concurrency

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class FirstStudy:
    """The study that was written."""

    path: Path
    identified: Identified
    budget: Budget
    at_a_time: int
    minutes: float
    """The time limit that the user gave for the search."""

    @property
    def summary(self) -> str:
        """A few lines for a person."""
        budget, file = self.budget, self.path
        takes = f"about {in_words(budget.seconds)}"
        if budget.seconds > 60 * self.minutes:
            takes += f", more than the {self.minutes:g} minutes you gave: a GPU, a smaller student or image_size would help"
        return "\n".join(
            [
                f"{file}: {budget.num_trials} trials of up to {budget.epochs} epochs, {self.at_a_time} at a time, {takes}",
                f"see what it would do: cpsc-tune sweep {file} --dry-run",
                f"run it: cpsc-tune sweep {file}",
            ]
        )


def write_first_study(
    teacher: Path,
    output: Path | None,
    said: Mapping[str, Any],
    ask: Ask | None,
    display: Display,
    *,
    method: str,
    student: str | None = None,
    minutes: float,
    force: bool = False,
) -> FirstStudy:
    """Write a study for the weights file `teacher` to `output`; default: a file next to it with the same name.

    `said`: settings of the study's ``teacher``; `ask`: see `identify`. `force`: replace an existing file, and accept weights whose
    batch norms belong to another network. ConfigError, before anything is written, if a sweep would refuse the study.
    """
    check_known_method(method)
    output = output or _beside(teacher)
    name = _name_of(output)
    _check_free(output, force=force)
    identified = identify(teacher, said, ask, display, force=force)
    for remark in identified.remarks:
        display.say(f"{teacher.name}: {remark}")
    display.say(f"{teacher.name}: {described(identified.teacher)}{identified.finding and f'; {identified.finding}'}")
    resources = resources_here()
    scale = scale_for(identified.teacher, on_gpu=bool(resources.gpus))
    begun = beginnings(identified.teacher, identified.norms, method=method, student=student, scale=scale)
    plan = Plan(
        name=name, output=output, identified=identified, method=method, beginnings=begun, resources=resources, is_forced=force
    )
    plan = _with_budget(plan, minutes, display)
    text = study_text(plan)
    _dry_run(_checked(plan, text))
    _write(output, text)
    assert plan.budget is not None
    return FirstStudy(path=output, identified=identified, budget=plan.budget, at_a_time=plan.at_a_time, minutes=minutes)


def _with_budget(plan: Plan, minutes: float, display: Display) -> Plan:
    """`plan` with a budget that fits this machine."""
    from tuning.sweep import measure_times  # imports Ray, which should not delay questions or errors

    identified, study = plan.identified, _checked(plan, study_text(plan))
    display.say("measuring how long an epoch takes here")
    times = measure_times(fitted(study, identified.norms), identified.teacher)
    budget = fitting_budget(study, times, minutes=minutes)
    return replace(plan, epoch_s=times.epoch_s, budget=budget, at_a_time=concurrency(study))


def _checked(plan: Plan, text: str) -> Study:
    """The study that the text describes. ConfigError if it would be refused, by itself or together with its teacher."""
    identified = plan.identified
    study = resolve_study(from_folder(load_yaml(text), plan.output.parent))
    check_class_count(study.base, study.space, identified.teacher.num_classes)
    check_images(study, identified.teacher)
    check_students(study, identified.teacher)
    fitted(study, identified.norms)
    return study


def _dry_run(study: Study) -> None:
    from tuning.sweep import describe

    describe(study)


def _beside(teacher: Path) -> Path:
    """The study file next to the weights, with the same name, but never the weights file itself."""
    return teacher.parent / f"{teacher.stem or 'teacher'}{'-study' if teacher.suffix in SUFFIXES else ''}{SUFFIXES[0]}"


def _name_of(output: Path) -> str:
    """The study's name, derived from its file."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", output.stem).strip("-_")[:MAX_STUDY_NAME] or "study"
    try:
        check_study_name(name)
    except ConfigError as error:
        raise ConfigError(f"--output: the study is named after its file, {error}") from error
    return name


def _check_free(output: Path, *, force: bool) -> None:
    if output.suffix not in SUFFIXES:
        raise ConfigError(f"--output: must be a file that ends in {SUFFIXES[0]}, got {str(output)!r}")
    if output.is_dir() or (output.exists() and not force):
        what = "is a folder, name a file" if output.is_dir() else "already exists: name another with --output, or pass --force"
        raise ConfigError(f"{output}: {what}")


def _write(output: Path, text: str) -> None:
    try:
        with atomic_path(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except CheckpointError as error:
        raise ConfigError(f"--output: {error}") from error
