"""How good students of teachers without batch norm get, and how well probe sets judge them: on digits, method by method.

``python -m tests.benchmarks.without_batch_norm`` trains a WRN-16-1 with batch norm, the same with group norm, and a vision
transformer, distils each by every method and prints, for each teacher, the test accuracy of the last student and of the one
chosen blind, and how well each recipe of the probe set orders the students of all epochs.

``--folder`` keeps teachers, students and probe sets, which are then only read; ``--set`` changes the study as in ``cpsc-tune
sweep``, and ``--name`` keeps such runs apart; ``--probe more_tv:total_variation=0.01`` adds a recipe of the probe set.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from scipy.stats import spearmanr

from cpsc import checkpoint
from cpsc.config import DistillConfig
from cpsc.data import Dataset, DatasetConfig, load_dataset
from cpsc.distiller import Distiller
from cpsc.measurement import Measurement
from cpsc.methods import stages
from cpsc.models import build_model
from cpsc.probe import ProbeConfig, ProbeSet, synthesise
from cpsc.teacher import Teacher
from cpsc.teacher_training import TeacherRecipe, train_teacher
from tuning.study import Study, build_config, load_study
from tuning.study.packaged_studies import find_study
from tuning.study.teacher_fit import fitted, survey_teacher

CPU = torch.device("cpu")
METHODS = ("cpsc", "dafl", "zskt", "dfq", "pre_dfkd")
RECIPE = TeacherRecipe(arch="wrn_16_1", epochs=30, batch_size=64, warmup_epochs=2)
TEACHERS = {
    "wrn_16_1": RECIPE,
    "wrn_16_1_gn": replace(RECIPE, arch="wrn_16_1_gn"),
    "vit_tiny": replace(RECIPE, arch="vit_tiny", epochs=60, optimizer="adamw", lr=2e-3, weight_decay=0.05),
}


class Student(NamedTuple):
    """A student after one epoch of a run: its scores by recipe of the probe set, and its test accuracy."""

    scores: dict[str, float]
    test_accuracy: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", nargs="+", default=list(TEACHERS), choices=TEACHERS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--name", default="plain")
    parser.add_argument("--probe", action="append", default=[], dest="recipes")
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    options = parser.parse_args()
    dataset = load_dataset(DatasetConfig(name="digits"))
    with tempfile.TemporaryDirectory(prefix="cpsc-bench-") as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for arch in options.teachers:
            teacher = taught(arch, dataset, folder)
            norms = survey_teacher(teacher)
            studies = {method: fitted(study_of(method, teacher, options.assignments), norms) for method in options.methods}
            probe_recipes = recipes(next(iter(studies.values())), options.recipes)
            probes = {name: inverted(teacher, config, folder) for name, config in probe_recipes.items()}
            measurements = {name: Measurement(teacher, CPU, probe=probe, test=dataset.test) for name, probe in probes.items()}
            print(f"\n{arch}, {100 * (teacher.test_accuracy or 0):.1f} %\n")
            print("| method | last epoch, by seed | mean | chosen blind, mean | seconds a run |\n|---|---|---|---|---|")
            students: list[Student] = []
            for method, study in studies.items():
                students += compared(study, method, options.seeds, teacher, measurements, folder / f"{arch}-{options.name}")
            print_ranking(students, probes)


def study_of(method: str, teacher: Teacher, assignments: Sequence[str]) -> Study:
    """The method's own study at the scale of digits, with published values; without attention if the teacher has no stages."""
    ours = ["scale=digits", "epochs=9", "precision=fp32", "space={student.lr: {uniform: [0.05, 0.3]}}", "start=[]"]
    if method == "zskt" and not stages(teacher.build(CPU)):
        ours.append("weights.attention=0")
    return load_study(find_study(Path(method)), [*ours, *assignments])


def taught(arch: str, dataset: Dataset, folder: Path) -> Teacher:
    path = folder / f"{arch}.pt"
    if not path.exists():
        train_teacher(TEACHERS[arch], dataset, CPU).save(path)
    return Teacher.load(path)


def recipes(study: Study, added: Sequence[str]) -> dict[str, ProbeConfig]:
    """Recipes by name: the study's, and one for each ``name:setting=value,...``, which changes some of its settings."""
    found = {"as it is": study.probe}
    for text in added:
        name, _, settings = text.partition(":")
        changes = dict(setting.split("=") for setting in settings.split(","))
        found[name] = replace(study.probe, **{key: type(getattr(study.probe, key))(float(value)) for key, value in changes.items()})
    return found


def inverted(teacher: Teacher, config: ProbeConfig, folder: Path) -> ProbeSet:
    path = folder / f"probe-{teacher.digest[:12]}-{config.digest}.pt"
    if not path.exists():
        synthesise(teacher, config, CPU).save(path)
    return ProbeSet.load(path, teacher=teacher)


def compared(
    study: Study, method: str, seeds: Sequence[int], teacher: Teacher, measurements: dict[str, Measurement], folder: Path
) -> list[Student]:
    """The students of all epochs and seeds; also prints a table row for them."""
    runs, seconds = [], []
    for seed in seeds:
        config = build_config(study.base, {"seed": seed})
        states, elapsed = distilled(config, teacher, next(iter(measurements.values())), folder / f"{method}-{seed}.pt")
        runs.append([judged(config, teacher, state, measurements) for state in states])
        seconds.append(elapsed)
    last = [100 * run[-1].test_accuracy for run in runs]
    chosen = [100 * max(run, key=lambda student: next(iter(student.scores.values()))).test_accuracy for run in runs]
    by_seed = ", ".join(f"{accuracy:.1f}" for accuracy in last)
    print(
        f"| {method} | {by_seed} | {statistics.mean(last):.1f} | {statistics.mean(chosen):.1f} | {statistics.mean(seconds):.0f} |",
        flush=True,
    )
    return [student for run in runs for student in run]


def distilled(
    config: DistillConfig, teacher: Teacher, measurement: Measurement, path: Path
) -> tuple[list[dict[str, torch.Tensor]], float]:
    """The student's weights after each epoch, and how long the run took."""
    if not path.exists():
        started = time.perf_counter()
        distiller = Distiller(config, teacher, measurement=measurement)
        states = []
        for _ in range(config.epochs):
            distiller.train_epoch()
            states.append({name: value.clone() for name, value in distiller.student.state_dict().items()})
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save({"students": states, "seconds": time.perf_counter() - started}, path)
    kept = checkpoint.load(path, kind="students")
    return kept["students"], kept["seconds"]


def judged(
    config: DistillConfig, teacher: Teacher, state: dict[str, torch.Tensor], measurements: dict[str, Measurement]
) -> Student:
    network = build_model(config.student.arch, num_classes=teacher.num_classes, channels=teacher.channels)
    network.load_state_dict(state)
    found = {name: measurement.of_student(network.eval()).metrics for name, measurement in measurements.items()}
    scores = {name: metrics["probe_overlap"] for name, metrics in found.items()}
    return Student(scores, next(iter(found.values()))["test_accuracy"])


def print_ranking(students: Sequence[Student], probes: dict[str, ProbeSet]) -> None:
    accuracies = [student.test_accuracy for student in students]
    print(f"\n| probe set | its images as wanted | Spearman of overlap and accuracy, {len(students)} students |\n|---|---|---|")
    for name, probe in probes.items():
        correlation = spearmanr([student.scores[name] for student in students], accuracies).statistic
        print(f"| {name} | {100 * probe.teacher_accuracy:.1f} % | {correlation:.3f} |", flush=True)


if __name__ == "__main__":
    main()
