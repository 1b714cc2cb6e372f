"""Examiners: whose images count for whom, what students are chosen by, and epochs that another process has trained."""

from dataclasses import field, fields, make_dataclass, replace
from pathlib import Path

import pytest
import torch

from cpsc import checkpoint
from cpsc.distiller import Distiller
from cpsc.errors import CheckpointError, ConfigError
from cpsc.examiners import Exam, ExamImages, ExaminerConfig, balanced, run_digest
from cpsc.measurement import Measurement
from cpsc.metrics import agreements, overlaps, predict
from tests.unit.cpsc.test_method_contract import small

PRESETS = {"cpsc": "paper", "dafl": "original", "cmi": "toolbox", "adi": "original"}
OF_THE_MOMENT = ("train_s", "generation_s", "distillation_s", "epoch_s", "images_per_s", "peak_memory_bytes")


@pytest.fixture
def exam_images(teacher) -> ExamImages:
    """Of three runs, twelve random images each."""
    rng = torch.Generator().manual_seed(5)
    runs = {name: torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=rng) for name in ("a", "b", "c")}
    return ExamImages.of_runs(runs, {"a": 0.5, "b": 0.75, "c": 0.2}, teacher)


def without_timings(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in OF_THE_MOMENT}


@pytest.mark.parametrize(
    ("trial_epochs", "asked", "epochs"), [(6, None, 2), (9, None, 2), (1, None, 1), (60, None, 6), (400, None, 10), (9, 4, 4)]
)
def test_an_examiner_runs_a_tenth_of_a_trial_within_limits(trial_epochs: int, asked: int | None, epochs: int) -> None:
    assert ExaminerConfig(epochs=asked).num_epochs(trial_epochs) == epochs


@pytest.mark.parametrize("trial_epochs", [1, 2, 3, 5, 6, 100])
def test_images_come_from_the_second_half_of_an_examiners_epochs_and_are_as_many_as_asked_for(trial_epochs: int) -> None:
    config = ExaminerConfig(count=3, num_images=100)
    shares = config.shares(trial_epochs)
    last = config.num_epochs(trial_epochs)
    assert (min(shares), max(shares), sum(shares.values())) == (last // 2 + 1, last, 33)
    assert max(shares.values()) - min(shares.values()) <= 1


@pytest.mark.parametrize("changes", [{"count": 2}, {"epochs": 0}, {"num_images": 3}, {"count": 101}])
def test_what_is_no_exam_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"examiners.{next(iter(changes))}"):
        ExaminerConfig(**changes)


def points(*sources: list[int]) -> torch.Tensor:
    return torch.tensor([float(point) for source in sources for point in source])


def test_the_score_is_the_mean_of_the_probe_set_and_of_what_others_have_made() -> None:
    exam = Exam(torch.tensor([0] * 4 + [1] * 4 + [2] * 4), fading=False)
    given = points([1] * 4, [0] * 4, [1] * 4)
    assert exam.scores(given) == pytest.approx((0.75, 0.75, 0.75))
    assert exam.by_examiners(given) == pytest.approx(0.5)
    assert exam.scores(given, own=1) == pytest.approx((1.0, 1.0, 1.0))
    assert exam.scores(points([0] * 4, [0] * 4, [1] * 4), own=2) == pytest.approx((0.0, 0.0, 0.0))


def test_examiners_count_by_what_a_student_lacks_on_the_probe_set() -> None:
    exam = Exam(torch.tensor([0] * 4 + [1] * 4))
    for probe, others, score in ((0.0, 1.0, 0.5), (0.5, 0.8, (0.5 + 0.5 * 0.8) / 1.5), (0.9, 0.0, 0.9 / 1.1), (1.0, 0.0, 1.0)):
        assert exam.scores(points([probe] * 4, [others] * 4)) == pytest.approx((score,) * 3)


@pytest.mark.parametrize("fading", [True, False])
def test_who_knows_more_of_either_has_the_higher_score(fading: bool) -> None:
    exam, steps = Exam(torch.tensor([0, 1]), fading=fading), [step / 10 for step in range(11)]
    table = torch.tensor([[exam.scores(torch.tensor([probe, others])).everywhere for others in steps] for probe in steps])
    assert (table.diff(dim=0) > 0).all()
    assert (table.diff(dim=1)[:-1] > 0).all()
    assert (table.diff(dim=1) >= 0).all()


def test_examiners_count_by_their_weights_and_alike_where_all_are_nothing() -> None:
    sources = torch.tensor([0] * 2 + [1] * 4 + [2] * 2 + [3] * 2)
    given = points([1] * 2, [1] * 4, [0] * 2, [0.5] * 2)
    assert Exam(sources, {1: 0.3, 2: 0.1, 3: 0.0}).by_examiners(given) == pytest.approx(0.75)
    assert Exam(sources, {1: 0.3, 2: 0.1, 3: 0.0}).by_examiners(given, own=1) == pytest.approx(0.0)
    assert Exam(sources, {1: 0.3, 2: 0.0, 3: 0.0}).by_examiners(given, own=1) == pytest.approx(0.25)
    assert Exam(sources, {1: 0.0, 2: 0.0, 3: 0.0}).by_examiners(given) == pytest.approx(0.5)


def test_what_an_examiners_own_student_has_learned_above_chance_is_its_weight(exam_images) -> None:
    assert exam_images.weights == pytest.approx((0.25, 0.5, 0.0)), "chance is a quarter, and nothing below it counts against anyone"
    assert exam_images.weights_by_source == dict(enumerate(exam_images.weights, start=1))


def test_each_image_is_in_one_half_and_each_source_is_halved() -> None:
    """A student that is right on one image only: that image moves the score of the choice, or the one held out, never both."""
    sources = torch.tensor([0] * 10 + [1] * 6 + [2] * 4)
    exam, moved = Exam(sources), []
    for place in range(len(sources)):
        scores = exam.scores(points([int(index == place) for index in range(len(sources))]))
        assert (scores.for_choice > 0) != (scores.held_out > 0)
        moved.append(scores.for_choice > 0)
    by_source = [sum(moved[:10]), sum(moved[10:16]), sum(moved[16:])]
    assert by_source == [5, 3, 2]
    assert moved[:10] not in ([True, False] * 5, [False, True] * 5), "images come class by class: every other one is half of them"


def test_an_odd_number_of_images_has_its_middle_in_both_halves_and_so_has_a_single_one() -> None:
    sources = torch.tensor([0] * 3 + [1])
    exam = Exam(sources, fading=False)
    seen = [exam.scores(points([int(index == place) for index in range(4)])) for place in range(4)]
    assert sorted((scores.for_choice > 0, scores.held_out > 0) for scores in seen[:3]) == [
        (False, True),
        (True, False),
        (True, True),
    ]
    assert (seen[3].for_choice, seen[3].held_out) == (0.5, 0.5)


def test_the_halves_are_the_same_in_every_process() -> None:
    sources = torch.tensor([0] * 50 + [1] * 50)
    given = torch.rand(100)
    assert Exam(sources).scores(given) == Exam(sources.clone()).scores(given)


def test_images_are_read_as_they_were_written(exam_images, teacher, tmp_path: Path) -> None:
    exam_images.save(tmp_path / "exam.pt")
    found = ExamImages.load(tmp_path / "exam.pt", teacher=teacher)
    assert torch.equal(found.images, exam_images.images)
    assert torch.equal(found.sources, exam_images.sources)
    assert (found.runs, found.source_of("b"), found.source_of("d")) == (("a", "b", "c"), 2, None)


def test_those_of_an_earlier_version_count_to_the_end_as_they_did(exam_images, teacher, tmp_path: Path) -> None:
    exam_images.save(tmp_path / "exam.pt")
    assert ExamImages.load(tmp_path / "exam.pt", teacher=teacher).fading
    payload = torch.load(tmp_path / "exam.pt", weights_only=True)
    del payload["fading"]
    checkpoint.save(payload, tmp_path / "earlier.pt")
    assert not ExamImages.load(tmp_path / "earlier.pt", teacher=teacher).fading


@pytest.mark.parametrize(
    "changes",
    [
        {"images": torch.zeros(3, 1, 8, 8)},
        {"images": torch.zeros(0, 1, 8, 8, dtype=torch.uint8), "examiners": torch.zeros(0, dtype=torch.int64)},
        {"examiners": torch.full((36,), 3)},
        {"examiners": torch.full((36,), -1)},
        {"examiners": torch.zeros(35, dtype=torch.int64)},
        {"runs": (1, 2, 3)},
        {"weights": (0.5, 0.5)},
        {"weights": (0.5, 0.5, -1.0)},
        {"weights": (0.5, 0.5, "1")},
        {"teacher_digest": "another"},
        {"fading": 1},
    ],
    ids=str,
)
def test_a_file_of_something_else_is_refused(changes, exam_images, teacher, tmp_path: Path) -> None:
    replace(exam_images, **changes).save(tmp_path / "exam.pt")
    with pytest.raises(CheckpointError, match="holds no images"):
        ExamImages.load(tmp_path / "exam.pt", teacher=teacher)


def test_classes_are_taken_in_turn() -> None:
    images = torch.arange(10)
    classes = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
    assert sorted(balanced(images, classes, 6).tolist()) == [0, 1, 2, 6, 7, 9]
    assert sorted(balanced(images, classes, 3).tolist()) == [0, 6, 9]
    assert sorted(balanced(images, classes, 99).tolist()) == list(range(10))


def test_a_run_is_named_by_all_of_its_settings(config, vary) -> None:
    assert run_digest(config) == run_digest(vary())
    others = [vary(seed=4), vary(weights={"l2": 5.1}), vary(student={"lr": 0.2})]
    assert len({run_digest(one) for one in (config, *others)}) == 4


def test_a_setting_that_a_later_version_adds_renames_no_run(config) -> None:
    """Else a launch that it resumes would train its examiners once more, and count a student's own images."""
    weights = make_dataclass("Weights", [("later", float, 0.0)], bases=(type(config.weights),), frozen=True, kw_only=True)
    added = [("later", int, 7), ("weights", weights, field(default_factory=weights))]
    newer = make_dataclass("Newer", added, bases=(type(config),), frozen=True, kw_only=True)
    same = {item.name: getattr(config, item.name) for item in fields(config)} | {"weights": weights(**vars(config.weights))}
    assert run_digest(newer(**same)) == run_digest(config)
    assert run_digest(newer(**same, later=8)) != run_digest(config)


def test_an_examiner_is_not_examined_on_its_own_images(config, teacher, probe, exam_images) -> None:
    named = replace(exam_images, runs=("a", run_digest(config), "c"))
    alone, own = (Distiller(config, teacher, probe=probe, examiners=exam, objective="exam_score") for exam in (exam_images, named))
    assert without_timings(alone.run_epoch())["probe_kl"] == without_timings(own.run_epoch())["probe_kl"]
    shared = Measurement(teacher, torch.device("cpu"), probe=probe, examiners=exam_images)
    assert shared.exam is not None
    for distiller, left_out in ((alone, None), (own, 2)):
        metrics = distiller.evaluate()
        soft = overlaps(distiller.answers, shared.teacher_answers)
        hard = agreements(distiller.answers, shared.teacher_answers)
        assert metrics["exam_score"] == shared.exam.scores(soft, own=left_out).for_choice
        assert metrics["held_out_agreement"] == shared.exam.scores(hard, own=left_out).held_out
        assert metrics["examiner_agreement"] == shared.exam.by_examiners(hard, own=left_out)


def test_examiners_change_nothing_of_what_the_probe_set_says(config, teacher, probe, exam_images) -> None:
    with_them, without = (Distiller(config, teacher, probe=probe, examiners=exam) for exam in (exam_images, None))
    for _ in range(2):
        found, expected = without_timings(with_them.run_epoch()), without_timings(without.run_epoch())
        assert {name: found[name] for name in expected} == expected


def test_examiners_need_a_probe_set_of_the_same_teacher(config, teacher, probe, exam_images, make_teacher) -> None:
    for given in ({"examiners": exam_images}, {"examiners": replace(exam_images, teacher_digest="another"), "probe": probe}):
        with pytest.raises(ConfigError, match="examiners' images need a probe set"):
            Distiller(config, teacher, **given)
    with pytest.raises(ConfigError, match="objective exam_score needs a probe set and examiners' images"):
        Distiller(config, teacher, probe=probe, objective="exam_score")


@pytest.mark.parametrize("method", ["cpsc", "cmi"])
def test_an_epoch_that_another_process_has_trained_is_as_one_that_was_trained_here(
    method: str, teacher, probe, exam_images
) -> None:
    config = small(method, PRESETS[method])
    images = {"probe": probe, "examiners": exam_images, "objective": "exam_score"}
    here, there, taker = (Distiller(config, teacher, **images) for _ in range(3))
    for _ in range(2):
        trained = there.train_epoch()
        assert without_timings(taker.adopt_epoch(there.parts_state(), trained)) == without_timings(here.run_epoch())
    assert without_timings(taker.run_epoch()) == without_timings(here.run_epoch())
    assert all(torch.equal(one, other) for one, other in zip(taker.best_student.values(), here.best_student.values(), strict=True))


def test_an_epoch_out_of_turn_is_refused(config, teacher) -> None:
    there, taker = Distiller(config, teacher), Distiller(config, teacher)
    there.train_epoch()
    trained = there.train_epoch()
    with pytest.raises(CheckpointError, match="holds epoch 2, but the next is 1"):
        taker.adopt_epoch(there.parts_state(), trained)


@pytest.mark.parametrize("method", ["cpsc", "dafl", "cmi", "adi"])
def test_images_are_drawn_without_a_trace_in_classes_alike_and_never_twice(method: str, teacher) -> None:
    drawn_from, untouched = (Distiller(small(method, PRESETS[method]), teacher) for _ in range(2))
    for distiller in (drawn_from, untouched):
        distiller.train_epoch()
    parts = [drawn_from.draw_images(8, part=part, num_parts=2) for part in range(2)]
    assert [(part.dtype, tuple(part.shape[1:])) for part in parts] == [(torch.uint8, (1, 8, 8))] * 2
    assert 0 < min(map(len, parts)) <= max(map(len, parts)) <= 8
    distinct = {tuple(image.flatten().tolist()) for part in parts for image in part}
    assert len(distinct) == sum(map(len, parts))
    assert torch.equal(drawn_from.draw_images(8, part=1, num_parts=2), parts[1])
    assert without_timings(drawn_from.train_epoch()) == without_timings(untouched.train_epoch())


def test_a_conditional_generator_gives_as_many_as_it_is_asked_for(config, teacher) -> None:
    distiller = Distiller(config, teacher)
    images = distiller.draw_images(9, part=0, num_parts=3)
    classes = predict(distiller.teacher, teacher.normalisation.normalise(images)).argmax(dim=1)
    assert (len(images), len(classes)) == (9, 9)
