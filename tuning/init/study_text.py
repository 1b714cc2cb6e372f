"""Text of a first study: a study file with comments, of what is settled for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpsc.published import NORMALISATION_RULE
from tuning.init.budget import Budget, Pace
from tuning.init.identifying import Identified, described
from tuning.study.config import ResourceConfig
from tuning.study.yaml_loader import dump_inline

COMMENTS = {
    "normalisation": "your word, no file says it; wrong constants make a poor student, and nothing tells",
    "image_size": "your word, no file says it",
    "factory": "your word: makes the network; found in this file's folder, in the working directory and on PYTHONPATH",
    "weights": "your word: which of the networks in the file",
    "variant": "your word: which of the networks that have these names and shapes",
    "channels": "your word",
    "num_classes": "your word",
    "precision": "in what the networks compute",
    "probe": "images made from the teacher once, on which all students are compared; no trial trains on them",
    "examiners": "short runs before the trials, whose images students are compared on, too",
    "student": "any network that this package builds; what it begins with and how it is trained",
    "generator": "what makes the images",
    "schedule": "an epoch: so many turns of generator and student, of so many steps each",
    "inversion": "how images are made pixel by pixel",
    "replay": "what is kept of earlier images",
    "epochs": "of a trial that is not stopped early",
}
FIRST = ("student", "epochs", "schedule", "generator", "inversion", "replay")
COLUMN = 30
"""At which comments behind short lines begin."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a first study's file says."""

    name: str
    output: Path
    identified: Identified
    method: str
    beginnings: Mapping[str, Any]
    """``config`` without the teacher, ``space``, ``start``, ``search`` and ``prune``."""
    resources: ResourceConfig
    budget: Budget | None = None
    """None: that of the scale, before the machine's pace is known."""
    pace: Pace | None = None
    at_a_time: int = 1
    is_forced: bool = False


def study_text(plan: Plan) -> str:
    """The file's text."""
    parts = (_head(plan), _teacher(plan), _config(plan), _space(plan), _search(plan))
    return "".join(f"{line}\n" for part in parts for line in part)


def _head(plan: Plan) -> Iterable[str]:
    yield f"# A search for a student of {_printable(plan.identified.path.name)} without one image; every line is yours to change."
    file, forced = _printable(plan.output.name), " --force" if plan.is_forced else ""
    yield f"# What it would do: cpsc-tune sweep {file} --dry-run. Run it: cpsc-tune sweep {file}{forced}"
    if plan.pace is not None and plan.budget is not None:
        yield (
            f"# About {spoken_time(plan.budget.seconds)} on this machine if nothing else keeps it busy: {plan.pace.epoch_s:.2g} s "
            f"an epoch, {plan.at_a_time} trials run at a time, most of them are stopped early."
        )
    yield f"name: {dump_inline(plan.name)}"


def _teacher(plan: Plan) -> Iterable[str]:
    identified, teacher = plan.identified, plan.identified.teacher
    yield "config:"
    yield f"  # The teacher: {described(teacher)}{f'; {identified.finding}' if identified.finding else ''}."
    if norms := str(identified.norms):
        yield f"  # Of its norms: {norms}."
    yield "  teacher:"
    yield _line("    path", path_from(plan.output.parent, identified.path), "from this file's folder")
    for name, value in identified.said.items():
        yield _line(f"    {name}", value, COMMENTS[name])
    if not identified.is_bundle:
        yield f"    # normalisation is {NORMALISATION_RULE}"
        last = teacher.num_classes - 1
        yield f"    # class_names: [...]         not in the file either: without them classes are called 0 to {last}"
    yield "    # min_accuracy: 0.9          below it a sweep refuses the teacher; what it scores, labelled images alone tell"
    yield "  # dataset: {name: image_folder, path: ...}   labelled images, if you have some: recorded, they steer nothing"
    yield _line("  num_classes", teacher.num_classes, "as the weights tell; some published values depend on it")


def _config(plan: Plan) -> Iterable[str]:
    config = {key: value for key, value in plan.beginnings["config"].items() if key not in ("method", "num_classes")}
    if plan.budget is not None:
        config["epochs"] = plan.budget.epochs
    yield _line(
        "  method", plan.method, "how it is distilled; cpsc-tune studies lists the others, of which each has ranges of its own"
    )
    for key in sorted(config, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST)):
        yield from _section(key, config[key])


def _section(key: str, value: Any) -> Iterable[str]:
    """A section's comment stands above it, for its line is long."""
    if not isinstance(value, Mapping):
        yield _line(f"  {key}", value, COMMENTS.get(key, ""))
        return
    if key in COMMENTS:
        yield f"  # {COMMENTS[key]}"
    yield f"  {key}: {dump_inline(value)}"


def _space(plan: Plan) -> Iterable[str]:
    space = plan.beginnings["space"]
    width = max(map(len, space), default=0) + 1
    yield f"# What is searched: {len(space)} parameters of method {plan.method}, in the ranges of its packaged study."
    yield "space:"
    for path, domain in space.items():
        yield f"  {f'{path}:':<{width}} {dump_inline(domain)}"
    yield "# Points to try first; {} is the published values."
    yield "start:"
    for point in plan.beginnings["start"]:
        yield f"  - {dump_inline(point)}"


def _search(plan: Plan) -> Iterable[str]:
    search = dict(plan.beginnings["search"])
    if plan.budget is not None:
        search["num_trials"] = plan.budget.num_trials
    yield "# Students are chosen without a real image: docs/choosing_blind.md."
    yield "objective: exam_score"
    yield "# Who proposes points, and how many; time_budget_s: 3600 in it would end the search after an hour."
    yield f"search: {dump_inline(search)}"
    yield "# Poor trials end early: of those that come to a rung, one in reduction_factor goes on."
    yield f"prune: {dump_inline(plan.beginnings['prune'])}"
    yield "# What one trial gets of this machine."
    yield f"resources: {dump_inline({'cpus': plan.resources.cpus, 'gpus': int(plan.resources.gpus)})}"


def path_from(folder: Path, file: Path) -> str:
    """`file` as a study in `folder` names it: relative where it lies there or below, so that both may be moved together."""
    folder, file = folder.absolute(), file.absolute()
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)


def spoken_time(seconds: float) -> str:
    """Roughly."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _line(key: str, value: Any, comment: str) -> str:
    line = f"{key}: {dump_inline(value)}"
    return f"{line:<{COLUMN}} # {comment}" if comment else line


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name)
