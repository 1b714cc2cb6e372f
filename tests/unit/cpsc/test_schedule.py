import math

import pytest

from cpsc.config import GeneratorConfig, StudentConfig
from cpsc.schedule import generator_lr, student_lr

PUBLISHED = {1: 0.01, 5: 0.05, 10: 0.1, 11: 0.1, 50: 0.09887, 100: 0.09437, 200: 0.07652, 310: 0.04867}
PUBLISHED |= {400: 0.02577, 500: 0.00692, 600: 0.0}


@pytest.mark.parametrize(("epoch", "lr"), PUBLISHED.items())
def test_the_default_student_rate_is_warm_up_and_a_clean_cosine_over_the_remaining_epochs(epoch: int, lr: float) -> None:
    assert student_lr(StudentConfig(), epoch=epoch, epochs=600) == pytest.approx(lr, abs=1e-5)


def test_the_student_rate_rises_to_its_peak_and_then_only_falls() -> None:
    rates = [student_lr(StudentConfig(), epoch=epoch, epochs=60) for epoch in range(1, 61)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert max(rates) == 0.1


def test_the_cosine_ends_at_the_wanted_fraction() -> None:
    config = StudentConfig(lr=0.2, warmup_epochs=2, final_lr_fraction=0.1)
    assert student_lr(config, epoch=32, epochs=32) == pytest.approx(0.02)
    assert student_lr(config, epoch=17, epochs=32) == pytest.approx(0.11)


def test_without_warm_up_the_cosine_starts_at_the_peak_and_ends_after_the_last_epoch() -> None:
    config = StudentConfig(lr=0.2, warmup_epochs=0)
    assert [student_lr(config, epoch=epoch, epochs=4) for epoch in range(1, 5)] == pytest.approx(
        [0.2, 0.17071, 0.1, 0.02929], abs=1e-5
    )


def test_a_run_that_is_all_warm_up_ends_at_the_peak() -> None:
    config = StudentConfig(warmup_epochs=4)
    assert [student_lr(config, epoch=epoch, epochs=4) for epoch in range(1, 5)] == pytest.approx([0.025, 0.05, 0.075, 0.1])


@pytest.mark.parametrize(("epoch", "lr"), [(1, 1e-3), (50, 1e-3), (51, 1e-4), (150, 1e-4), (151, 1e-5), (600, 1e-5)])
def test_the_generator_rate_falls_tenfold_after_each_milestone(epoch: int, lr: float) -> None:
    assert generator_lr(GeneratorConfig(), epoch=epoch, epochs=600) == pytest.approx(lr)


def test_milestones_and_cosine_are_ignored_where_decay_is_switched_off() -> None:
    assert generator_lr(GeneratorConfig(decay_lr=False), epoch=600, epochs=600) == 1e-3
    assert generator_lr(GeneratorConfig(decay_lr=False, annealing="cosine"), epoch=600, epochs=600) == 1e-3


@pytest.mark.parametrize(("epoch", "lr"), [(1, 1e-3), (51, 5e-4), (100, 1e-3 * 0.5 * (1 - math.cos(math.pi / 100)))])
def test_the_generators_cosine_falls_from_its_peak_to_zero_after_the_last_epoch(epoch: int, lr: float) -> None:
    config = GeneratorConfig(annealing="cosine", milestones=(2, 3))
    assert generator_lr(config, epoch=epoch, epochs=100) == pytest.approx(lr)


@pytest.mark.parametrize(("epoch", "lr"), [(1, 0.1), (800, 0.1), (801, 0.01), (1600, 0.01), (1601, 1e-3), (2000, 1e-3)])
def test_the_students_milestones_divide_its_rate_and_leave_out_the_cosine(epoch: int, lr: float) -> None:
    config = StudentConfig(warmup_epochs=0, annealing="milestones", milestones=(800, 1600))
    assert student_lr(config, epoch=epoch, epochs=2000) == pytest.approx(lr)


def test_the_student_warms_up_before_its_milestones_and_falls_by_its_own_factor() -> None:
    config = StudentConfig(warmup_epochs=2, annealing="milestones", milestones=(3,), decay=0.5)
    assert [student_lr(config, epoch=epoch, epochs=5) for epoch in range(1, 6)] == pytest.approx([0.05, 0.1, 0.1, 0.05, 0.05])
