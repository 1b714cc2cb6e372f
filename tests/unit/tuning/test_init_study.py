"""The study that ``init`` writes: it resolves, says what is not known, fits the machine, and takes no file's place unasked."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cpsc.data import Normalisation
from cpsc.errors import ConfigError
from cpsc.methods import METHODS
from cpsc.models import build_model
from cpsc.teacher import Teacher
from tests.support.malformed import sound_teacher
from tuning.display import Display
from tuning.init.beginnings import beginnings, scale_for
from tuning.init.budget import LADDER, fitting_budget, resources_here
from tuning.init.first_study import _checked, write_first_study
from tuning.init.identifying import Identified, identify
from tuning.init.study_text import Plan, study_text
from tuning.study import Study, load_study
from tuning.study.config import ResourceConfig
from tuning.study.packaged_studies import packaged_files
from tuning.study.paths import path_from
from tuning.study.teacher_fit import STATISTICS, fitted
from tuning.sweep import measure_times
from tuning.sweep.sweep_times import PROBE, START_S, EpochTimes, SweepTimes

QUIET = Display(quiet=True)


def teacher_of(arch: str, *, channels: int = 1, image_size: int = 16, num_classes: int = 10) -> Teacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = build_model(arch, num_classes=num_classes, channels=channels).state_dict()
    return replace(
        sound_teacher(),
        arch=arch,
        class_names=tuple(map(str, range(num_classes))),
        channels=channels,
        image_size=image_size,
        normalisation=Normalisation(mean=(0.5,) * channels, std=(0.5,) * channels),
        state=state,
    )


def identified(teacher: Teacher, folder: Path) -> Identified:
    teacher.save(folder / "teacher.pt")
    return identify(folder / "teacher.pt", {}, None, QUIET)


def plan_of(teacher: Teacher, folder: Path, *, method: str = "cpsc", student: str | None = None, on_gpu: bool = False) -> Plan:
    found = identified(teacher, folder)
    begun = beginnings(teacher, found.norms, method=method, student=student, scale=scale_for(teacher, on_gpu=on_gpu))
    output, resources = folder / "mine.yaml", ResourceConfig(cpus=1)
    return Plan(name="mine", output=output, identified=found, method=method, beginnings=begun, resources=resources)


def study_of(plan: Plan) -> Study:
    return _checked(plan, study_text(plan))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("channels", "image_size", "on_gpu"), [(1, 16, False), (3, 32, False), (3, 32, True)])
def test_the_study_of_each_method_resolves_with_the_ranges_of_a_packaged_one(
    method: str, channels: int, image_size: int, on_gpu: bool, tmp_path: Path
) -> None:
    teacher = teacher_of("wrn_10_1", channels=channels, image_size=image_size)
    study = study_of(plan_of(teacher, tmp_path, method=method, on_gpu=on_gpu))
    ranges = [load_study(packaged_files()[name]).space for name in (method, "cifar10")]
    assert study.space in ranges
    assert (study.dataset, study.config.method, study.base.num_classes) == (None, method, 10)


@pytest.mark.parametrize(
    ("teacher", "on_gpu", "scale"),
    [
        ({"channels": 1, "image_size": 28}, True, "digits"),
        ({"channels": 1, "image_size": 64}, False, "cifar10_two_cores"),
        ({"channels": 3, "image_size": 32}, False, "cifar10_two_cores"),
        ({"channels": 3, "image_size": 32}, True, "cifar10"),
        ({"channels": 3, "image_size": 32, "num_classes": 100}, True, "cifar100"),
        ({"channels": 3, "image_size": 64, "num_classes": 200}, True, "tiny_imagenet"),
    ],
)
def test_the_scale_is_that_of_the_nearest_images(teacher: dict[str, int], on_gpu: bool, scale: str) -> None:
    assert scale_for(teacher_of("wrn_10_1", **teacher), on_gpu=on_gpu) == scale


def test_photographs_on_a_processor_get_the_steps_for_short_trainings(tmp_path: Path) -> None:
    study = study_of(plan_of(teacher_of("wrn_16_2", channels=3, image_size=32), tmp_path))
    assert study.space == load_study(packaged_files()["cifar10"]).space
    assert study.config.replay.rehearsals == 5
    assert (study.config.schedule.iterations, study.config.schedule.student_steps) == (40, 2)


@pytest.mark.parametrize(
    ("teacher", "named", "student"),
    [
        (teacher_of("wrn_16_2", channels=3, image_size=32), None, "wrn_16_1"),
        (teacher_of("wrn_16_1", channels=3, image_size=32), None, "wrn_10_1"),
        (teacher_of("lenet5", image_size=28), None, "lenet5_half"),
        (teacher_of("lenet5", image_size=28), "wrn_10_1", "wrn_10_1"),
    ],
)
def test_a_student_is_half_as_costly_as_its_teacher(teacher: Teacher, named: str | None, student: str, tmp_path: Path) -> None:
    assert study_of(plan_of(teacher, tmp_path, student=named)).config.student.arch == student


@pytest.mark.parametrize(
    ("student", "message"),
    [("wrn_11_1", "--student: arch 'wrn_11_1': depth"), ("lenet5", "--student: arch lenet5: takes images of")],
)
def test_a_student_that_cannot_be_is_refused(student: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        plan_of(teacher_of("wrn_10_1"), tmp_path, student=student)


def test_a_teacher_without_batch_norm_has_no_term_of_statistics_searched(tmp_path: Path) -> None:
    plan = plan_of(teacher_of("wrn_10_1_gn"), tmp_path)
    assert STATISTICS not in study_of(plan).space
    assert "no batch norm with statistics to compare" in study_text(plan)


def test_many_classes_get_images_of_each_in_the_probe_set(tmp_path: Path) -> None:
    study = study_of(plan_of(teacher_of("wrn_10_1", channels=3, image_size=32, num_classes=230), tmp_path))
    assert (study.probe.num_images, study.base.num_classes) == (1250, 230)


def test_the_text_says_what_no_file_knows(tmp_path: Path) -> None:
    state = dict(teacher_of("lenet5", image_size=28).state)
    torch.save(state, tmp_path / "grey.pth")
    said = {"normalisation": "mnist", "image_size": 28, "variant": "standard"}
    found = identify(tmp_path / "grey.pth", said, None, QUIET)
    plan = replace(plan_of(found.teacher, tmp_path), identified=found)
    text = study_text(plan)
    for words in ("image_size: 28", "normalisation: mnist", "# class_names: [...]", "# min_accuracy: 0.9", "# dataset: "):
        assert words in text
    assert text.count("as you said, no file contains it") == 2
    assert text.startswith("# ")
    assert "path: grey.pth " in text
    study = study_of(plan)
    assert study.teacher.path is not None
    assert Path(study.teacher.path).absolute() == tmp_path / "grey.pth"


def test_a_path_is_relative_where_weights_and_study_may_be_moved_together(tmp_path: Path) -> None:
    assert path_from(tmp_path, tmp_path / "weights" / "a.pth") == "weights/a.pth"
    assert path_from(tmp_path / "studies", tmp_path / "a.pth") == str(tmp_path / "a.pth")


# Budget


@pytest.mark.parametrize(
    ("processors", "gpus", "cpus"), [(1, 0, 1), (2, 0, 1), (8, 0, 1), (9, 0, 2), (64, 0, 8), (32, 4, 8), (2, 4, 1)]
)
def test_a_trial_gets_its_part_of_the_machine(processors: int, gpus: int, cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.init.budget.num_processors", lambda: processors)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert resources_here() == ResourceConfig(cpus=cpus, gpus=1 if gpus else 0)


def test_a_faster_machine_and_more_minutes_give_a_larger_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(plan_of(teacher_of("wrn_10_1"), tmp_path))

    def trials(epoch_s: float, minutes: float, processors: int = 2) -> tuple[int, int]:
        monkeypatch.setattr("tuning.trial.resources.num_processors", lambda: processors)
        budget = fitting_budget(study, SweepTimes(made={PROBE: 5}, runs=[EpochTimes(epoch_s)]), minutes=minutes)
        assert budget.seconds <= 60 * minutes or budget.num_trials == max(LADDER[-1][0], 2 * processors)
        return budget.num_trials, budget.epochs

    assert trials(0.1, 60) == (32, 18)
    assert trials(30, 15) == (16, 9)
    assert trials(1000, 10) == (8, 4)
    assert trials(1000, 10, processors=8) == (16, 4)


def test_the_budget_takes_what_a_dry_run_of_the_written_study_expects(tmp_path: Path) -> None:
    plan, times = plan_of(teacher_of("wrn_10_1"), tmp_path), SweepTimes(made={PROBE: 5}, runs=[EpochTimes(1.0)])
    budget = fitting_budget(study_of(plan), times, minutes=2)
    written = study_of(replace(plan, budget=budget, epoch_s=times.epoch_s))
    assert sum(times.parts(written).values()) == budget.seconds > 5 + START_S


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_times_of_each_method_are_measured(method: str, tmp_path: Path) -> None:
    plan = plan_of(teacher_of("wrn_10_1", image_size=8), tmp_path, method=method)
    times = measure_times(fitted(study_of(plan), plan.identified.norms), plan.identified.teacher)
    assert 0 < times.epoch_s < 1e4
    assert 0 < times.made[PROBE] < 1e4


# The file


def written(folder: Path, *, method: str = "cpsc", output: Path | None = None, force: bool = False) -> Path:
    return write_first_study(
        folder / "teacher.pt", output, {}, None, QUIET, method=method, student=None, minutes=5, force=force
    ).path


@pytest.mark.slow
def test_a_file_is_written_beside_the_weights_and_none_is_replaced_unasked(tmp_path: Path) -> None:
    teacher_of("lenet5", image_size=28).save(tmp_path / "teacher.pt")
    path = written(tmp_path)
    assert path == tmp_path / "teacher.yaml"
    assert load_study(path).name == "teacher"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"teacher\.yaml: already exists: name another with --output, or pass --force$"):
        written(tmp_path)
    assert path.read_text() == "mine"
    assert load_study(written(tmp_path, force=True)).objective == "exam_score"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["teacher.pt", "teacher.yaml"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("study.txt", "--output: must be a file that ends in .yaml, got "),
        ("teachers.yaml", "--output: the study is named after its file, name: 'teachers' is reserved for files of the storage"),
    ],
)
def test_a_file_that_could_be_no_study_is_refused(output: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        written(tmp_path, output=tmp_path / output)


def test_a_method_that_is_not_known_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--method: 'naye' is unknown, did you mean nayer\?$"):
        written(tmp_path, method="naye")
