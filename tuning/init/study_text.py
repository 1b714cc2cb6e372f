"""Text of a first study: a commented study file with everything that was decided for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpsc.published import NORMALISATION_RULE
from tuning.init.budget import Budget
from tuning.init.identifying import Identified, described
from tuning.study.config import ResourceConfig
from tuning.study.paths import path_from
from tuning.study.yaml_loader import dump_inline
from tuning.time_left import in_words

COMMENTS = {
    "normalisation": "as you said, no file contains it; wrong constants make a poor student without any warning",
    "image_size": "as you said, no file contains it",
    "factory": "as you said: builds the network; looked up in this file's folder, the working directory and PYTHONPATH",
    "weights": "as you said: which network of the file",
    "variant": "as you said: which network, of those with these parameter names and shapes",
    "channels": "as you said",
    "num_classes": "as you said",
    "precision": "number format that the networks compute in",
    "probe": "images made from the teacher once, on which all students are compared; no trial trains on them",
    "examiners": "short runs before the trials; students are compared on their images, too",
    "student": "any network that this package builds; its first weights and its training",
    "generator": "the network that makes the images",
    "schedule": "an epoch: turns of the generator and the student, and the steps of each",
    "inversion": "how images are optimised pixel by pixel",
    "replay": "which earlier images are kept",
    "epochs": "of a trial that is not stopped early",
}
FIRST = ("student", "epochs", "schedule", "generator", "inversion", "replay")
COLUMN = 30
"""Column at which comments after short lines begin."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that goes into the file of a first study."""

    name: str
    output: Path
    identified: Identified
    method: str
    beginnings: Mapping[str, Any]
    """``config`` without the teacher, ``space``, ``start``, ``search`` and ``prune``."""
    resources: ResourceConfig
    budget: Budget | None = None
    """None: the scale's budget, before the machine's speed is known."""
    epoch_s: float = 0.0
    """Seconds per epoch of a trial on this machine."""
    at_a_time: int = 1
    is_forced: bool = False


def study_text(plan: Plan) -> str:
    """The text of the study file."""
    parts = (_head(plan), _teacher(plan), _config(plan), _space(plan), _search(plan))
    return "".join(f"{line}\n" for part in parts for line in part)


def _head(plan: Plan) -> Iterable[str]:
    yield f"# A search for a student of {_printable(plan.identified.path.name)} without any images; change any line you like."
    file, forced = _printable(plan.output.name), " --force" if plan.is_forced else ""
    yield f"# See what it would do: cpsc-tune sweep {file} --dry-run. Run it: cpsc-tune sweep {file}{forced}"
    if plan.budget is not None:
        yield (
            f"# About {in_words(plan.budget.seconds)} on this machine if it is otherwise idle: {plan.epoch_s:.2g} s "
            f"per epoch, {plan.at_a_time} trials at a time, most of them stopped early."
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
        yield f"    # class_names: [...]         not in the file either; without them, classes are named 0 to {last}"
    yield "    # min_accuracy: 0.9          below it a sweep refuses the teacher; needs labelled images"
    yield "  # dataset: {name: image_folder, path: ...}   labelled images, if you have some: they are only reported"
    yield _line("  num_classes", teacher.num_classes, "from the weights; some published values depend on it")


def _config(plan: Plan) -> Iterable[str]:
    config = {key: value for key, value in plan.beginnings["config"].items() if key not in ("method", "num_classes")}
    if plan.budget is not None:
        config["epochs"] = plan.budget.epochs
    yield _line("  method", plan.method, "distillation method; cpsc-tune studies lists the others, each with its own ranges")
    for key in sorted(config, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST)):
        yield from _section(key, config[key])


def _section(key: str, value: Any) -> Iterable[str]:
    """A section's comment goes above it, since its line is long."""
    if not isinstance(value, Mapping):
        yield _line(f"  {key}", value, COMMENTS.get(key, ""))
        return
    if key in COMMENTS:
        yield f"  # {COMMENTS[key]}"
    yield f"  {key}: {dump_inline(value)}"


def _space(plan: Plan) -> Iterable[str]:
    space = plan.beginnings["space"]
    width = max(map(len, space), default=0) + 1
    yield f"# The search space: {len(space)} parameters of method {plan.method}, with the ranges of its packaged study."
    yield "space:"
    for path, domain in space.items():
        yield f"  {f'{path}:':<{width}} {dump_inline(domain)}"
    yield "# Points to try first; {} means the published values."
    yield "start:"
    for point in plan.beginnings["start"]:
        yield f"  - {dump_inline(point)}"


def _search(plan: Plan) -> Iterable[str]:
    search = dict(plan.beginnings["search"])
    if plan.budget is not None:
        search["num_trials"] = plan.budget.num_trials
    yield "# Students are chosen without a real image: docs/choosing_blind.md."
    yield "objective: exam_score"
    yield "# How points are proposed, and how many; add time_budget_s: 3600 to end the search after an hour."
    yield f"search: {dump_inline(search)}"
    yield "# Poor trials end early: of those that reach a rung, one in reduction_factor continues."
    yield f"prune: {dump_inline(plan.beginnings['prune'])}"
    yield "# Resources of one trial on this machine."
    yield f"resources: {dump_inline({'cpus': plan.resources.cpus, 'gpus': int(plan.resources.gpus)})}"


def _line(key: str, value: Any, comment: str) -> str:
    line = f"{key}: {dump_inline(value)}"
    return f"{line:<{COLUMN}} # {comment}" if comment else line


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name)
