"""Measurement of the floors for teachers and probe sets: ``python -m tests.benchmarks.ground --help``.

A sound teacher is ruined in every way of `tests.support.ruined`, a probe set is made from each, and its figures are printed with
the findings. Then probe sets of the sound teacher are made with more and more steps. With ``--students``, whose files have their
test accuracies, it also prints how well each probe set orders them; the floors were derived from the label rate that this takes.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from cpsc import checkpoint
from cpsc.data import digits
from cpsc.ground import Ground, findings
from cpsc.ground_survey import survey_ground
from cpsc.metrics import overlaps, predict
from cpsc.models import build_model
from cpsc.probe import ProbeConfig, ProbeSet, synthesise
from cpsc.teacher import Teacher
from cpsc.teacher_training import TeacherRecipe, train_teacher
from tests.support.ruined import PROBES, TEACHERS
from tuning.results.model import spearman

CPU = torch.device("cpu")
STEPS = (1, 2, 5, 10, 20, 40, 100)
MOST_STUDENTS = 60


@dataclass(frozen=True)
class Student:
    """A network that was distilled from the teacher, and its test accuracy."""

    network: nn.Module
    accuracy: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, help="a teacher bundle; default: train a WRN-16-1 on digits")
    parser.add_argument("--students", type=Path, help="a folder with best_student.pt files of this teacher's trials, at any depth")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument(
        "--steps",
        type=int,
        nargs="*",
        default=STEPS,
        help="steps of probe sets; the last is used for ruined ones",
    )
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-statistics", type=float, default=0.1)
    arguments = parser.parse_args()
    teacher = Teacher.load(arguments.teacher) if arguments.teacher else _trained()
    config = ProbeConfig(
        num_images=arguments.images,
        batch_size=arguments.images,
        steps=arguments.steps[-1],
        lr=arguments.lr,
        batch_statistics=arguments.batch_statistics,
    )
    for name, ground in _ruined(teacher, config):
        print(f"{name:22s} {_figures(ground)}", flush=True)
    students = _students(arguments.students, teacher) if arguments.students else []
    for steps in arguments.steps:
        probe = synthesise(teacher, replace(config, steps=steps), CPU)
        print(
            f"{f'{steps} steps':22s} {_figures(survey_ground(teacher, probe, CPU))} {_order(students, teacher, probe)}", flush=True
        )


def _trained() -> Teacher:
    recipe = TeacherRecipe(arch="wrn_16_1", epochs=30, batch_size=64, warmup_epochs=2)
    return train_teacher(recipe, digits.load(), CPU)


def _ruined(teacher: Teacher, config: ProbeConfig) -> Iterator[tuple[str, Ground]]:
    sound = synthesise(teacher, config, CPU)
    yield "sound", survey_ground(teacher, sound, CPU)
    for name, ruin in TEACHERS.items():
        ruined = ruin(teacher)
        yield name, survey_ground(ruined, synthesise(ruined, config, CPU), CPU)
    for name, spoil in PROBES.items():
        yield name, survey_ground(teacher, spoil(sound), CPU)


def _figures(ground: Ground) -> str:
    said = ", ".join(finding.name + "!" * finding.is_fatal for finding in findings(ground)) or "-"
    return (
        f"label rate {ground.label_rate:6.1%}  largest class {ground.largest_class:6.1%}  confidence {ground.confidence:6.1%}  "
        f"margin {ground.margin:8.3g}  variety {ground.variety:5.1f}  at bounds {ground.at_bounds:6.1%}  said: {said}"
    )


def _students(folder: Path, teacher: Teacher) -> list[Student]:
    found: dict[float, Student] = {}
    for path in sorted(folder.rglob("best_student.pt")):
        saved = checkpoint.load(path, kind="best student", needs=("arch", "student", "measured"))
        network = build_model(saved["arch"], num_classes=teacher.num_classes, channels=teacher.channels)
        network.load_state_dict(saved["student"])
        total = math.fsum(tensor.double().sum().item() for tensor in saved["student"].values())  # one student, kept twice
        found[total] = Student(network.eval(), saved["measured"]["test_accuracy"])
    return list(found.values())[:MOST_STUDENTS]


def _order(students: Sequence[Student], teacher: Teacher, probe: ProbeSet) -> str:
    if len(students) < 3:
        return ""
    images = teacher.normalisation.normalise(probe.images)
    answers = predict(teacher.build(CPU), images)
    scores = [overlaps(predict(student.network, images), answers).mean().item() for student in students]
    order = spearman(scores, [student.accuracy for student in students])
    return f" orders {len(students)} students at {math.nan if order is None else order:.3f}"


if __name__ == "__main__":
    main()
