"""Draws by priority: how often each image comes, what it counts then, and what a run makes of it."""

from dataclasses import replace

import pytest
import scipy.stats
import torch
from torch import Tensor

from cpsc import checkpoint
from cpsc.config import DistillConfig, InversionConfig
from cpsc.distiller import Distiller
from cpsc.errors import CheckpointError, ConfigError
from cpsc.loop import TermLog, run_phase
from cpsc.losses.distillation import distillation_kl
from cpsc.memory import ImagePool
from cpsc.priorities import FLOOR, LARGEST_GAP, PrioritisedPool
from cpsc.rng import stream
from cpsc.schedule import importance_exponent
from tests.support.configs import config_of
from tests.unit.cpsc.test_distiller import differences
from tests.unit.cpsc.test_method_contract import small

GAPS = torch.tensor([0.0, 0.01, 0.1, 0.1, 0.5, 1.0, 3.0, 20.0])
"""Of the eight images of a pool."""


def images(number: int) -> Tensor:
    return torch.zeros(number, 1, 2, 2, dtype=torch.uint8)


def pool(*, exponent: float = 0.6, limit: int = 100) -> PrioritisedPool:
    return PrioritisedPool(limit=limit, channels=1, image_size=2, device=torch.device("cpu"), exponent=exponent)


def seen(gaps: Tensor, *, exponent: float = 0.6) -> PrioritisedPool:
    """A pool whose student was so far from its teacher on each image."""
    made = pool(exponent=exponent)
    made.add(images(len(gaps)))
    made.see(torch.arange(len(gaps)), gaps)
    return made


def expected(gaps: Tensor, exponent: float) -> Tensor:
    powers = (gaps.double() + FLOOR) ** exponent
    return powers / powers.sum()


def counts(made: PrioritisedPool, *, draws: int, number: int) -> Tensor:
    rng = stream(0, "draws")
    rows = [made.draw(number, correction=1.0, rng=rng).rows for _ in range(draws)]
    return torch.cat(rows).bincount(minlength=len(made)).double()


def drawing(method: str, **changes: object) -> DistillConfig:
    """Of three student steps of four images in each iteration."""
    point = {"inversion.draw": "priority", "schedule.student_batch_size": 4} | changes
    return small(method, "original", **point)


# --- which images are drawn ---


@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.0])
def test_images_are_drawn_by_the_power_of_their_gaps(exponent: float) -> None:
    """Single draws, which nothing ties to each other, as a chi-square test wants them."""
    gaps = torch.tensor([0.1, 0.2, 0.4, 0.4, 1.0, 2.0, 4.0, 8.0])  # none so rare that the test's approximation fails
    drawn = counts(seen(gaps, exponent=exponent), draws=3000, number=1)
    assert scipy.stats.chisquare(drawn, 3000 * expected(gaps, exponent)).pvalue > 0.01
    assert scipy.stats.chisquare(drawn, 3000 * expected(gaps, 0.3)).pvalue < 1e-6, "the test would see another exponent"


def test_a_batch_has_each_image_as_often_as_its_probability_says_give_or_take_one() -> None:
    made = seen(GAPS)
    for size in (3, 64, 999):
        drawn = counts(made, draws=1, number=size)
        assert drawn.sum() == size
        assert (drawn - size * expected(GAPS, 0.6)).abs().max() < 2  # both of its ends lie within a range


def test_a_batch_does_not_lie_in_the_order_of_the_pool() -> None:
    rows = seen(torch.ones(64)).draw(64, correction=1.0, rng=stream(0, "draws")).rows
    assert sorted(rows.tolist()) == list(range(64)), "of 64 alike, one of each"
    assert (rows[1:] > rows[:-1]).double().mean().item() == pytest.approx(0.5, abs=0.2)


def test_the_same_stream_draws_the_same_and_goes_on() -> None:
    one, other = stream(0, "draws"), stream(0, "draws")
    made = seen(GAPS)
    first = made.draw(16, correction=1.0, rng=one).rows
    assert torch.equal(first, made.draw(16, correction=1.0, rng=other).rows)
    assert not torch.equal(first, made.draw(16, correction=1.0, rng=one).rows)


def test_before_anything_is_seen_all_are_alike_and_a_batch_of_all_has_each_once() -> None:
    made = pool()
    made.add(images(10))
    drawn = made.draw(10, correction=1.0, rng=stream(0, "draws"))
    assert sorted(drawn.rows.tolist()) == list(range(10))
    assert torch.equal(drawn.weights, torch.ones(10))


def test_what_has_not_been_seen_has_the_highest_priority_so_far_also_where_that_rises_or_has_gone() -> None:
    made = pool(exponent=1.0)
    made.add(images(3))
    made.see(torch.tensor([0]), torch.tensor([2.0]))
    assert (made.probabilities * 3).tolist() == pytest.approx([1, 1, 1])
    made.see(torch.tensor([0]), torch.tensor([4.0]))
    made.see(torch.tensor([1]), torch.tensor([1.0]))
    made.see(torch.tensor([0]), torch.tensor([1.0]))
    made.add(images(1))
    assert (made.probabilities * 10).tolist() == pytest.approx([1, 1, 4, 4], abs=1e-4)


def test_the_oldest_images_go_with_their_priorities() -> None:
    made = pool(exponent=1.0, limit=4)
    for gap in (1.0, 2.0, 3.0):
        made.add(images(2))
        made.see(torch.tensor([len(made) - 2, len(made) - 1]), torch.tensor([gap, gap]))
    assert (made.probabilities * 10).tolist() == pytest.approx([2, 2, 3, 3], abs=1e-4)
    assert made.num_bytes == 4 * (4 + 4)
    made.add(images(9))  # more than it holds
    assert made.probabilities.tolist() == [0.25] * 4


def test_of_an_image_that_a_batch_has_twice_the_larger_gap_counts() -> None:
    made = pool(exponent=1.0)
    made.add(images(2))
    made.see(torch.tensor([0, 1, 0, 0]), torch.tensor([1.0, 1.0, 3.0, 2.0]))
    assert made.probabilities.tolist() == pytest.approx([0.75, 0.25], abs=1e-4)


def test_gaps_that_are_no_numbers_leave_a_pool_that_can_be_drawn_from() -> None:
    """A run that diverges is told by its terms; it must not end here, on a GPU beyond repair, before that."""
    made = seen(torch.tensor([float("nan"), float("inf"), -1e-7, 1.0]), exponent=1.0)
    assert made.probabilities.isfinite().all()
    assert made.probabilities[1].item() == pytest.approx(1.0)
    assert made._highest <= LARGEST_GAP * 1.01
    assert made.draw(64, correction=1.0, rng=stream(0, "draws")).rows.max() < 4


# --- what they count ---


@pytest.mark.parametrize("correction", [0.0, 0.4, 1.0])
def test_weights_are_the_inverse_of_how_often_an_image_is_drawn_by_the_largest_of_the_batch(correction: float) -> None:
    made = seen(GAPS)
    rows, weights = made.draw(32, correction=correction, rng=stream(0, "draws"))
    wanted = (len(GAPS) * expected(GAPS, 0.6)[rows]) ** -correction
    torch.testing.assert_close(weights.double(), wanted / wanted.max(), rtol=1e-5, atol=1e-7)
    assert weights.max() == 1


def test_fully_corrected_the_drawn_images_have_the_mean_of_all() -> None:
    """What the weights are for, with those that no batch has normalised."""
    made, rng = seen(GAPS), stream(0, "draws")
    rows = torch.cat([made.draw(64, correction=1.0, rng=rng).rows for _ in range(300)])
    weights = 1 / (len(GAPS) * made.probabilities[rows])
    assert (weights * GAPS[rows]).mean().item() == pytest.approx(GAPS.mean().item(), rel=0.02)
    assert GAPS[rows].mean() > 3 * GAPS.mean(), "and uncorrected another"


def test_the_correction_rises_in_a_straight_line_to_all_of_it_in_the_last_epoch() -> None:
    config = InversionConfig(draw="priority", importance_exponent=0.4)
    exponents = [importance_exponent(config, epoch=epoch, epochs=4) for epoch in (1, 2, 3, 4)]
    assert exponents == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert importance_exponent(config, epoch=1, epochs=1) == 0.4


def test_it_is_counted_from_the_students_first_epoch(teacher) -> None:
    run = Distiller(drawing("nayer", epochs=5), teacher)  # the first of which is the generator's alone
    corrections = []
    for epoch in range(1, 6):
        run.synthesis.begin_epoch(epoch, lr=0.1)
        corrections.append(run.synthesis._correction)
    assert corrections == pytest.approx([0.4, 0.4, 0.6, 0.8, 1.0])


# --- in a run ---


class Watched:
    """A run, and of each of its student steps what was drawn, the gaps found, and what the step was told to minimise."""

    def __init__(self, config: DistillConfig, teacher, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = Distiller(config, teacher)
        self.rows: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.gaps: list[Tensor] = []
        synthesis, terms = self.run.synthesis, self.run.method.student_terms

        def watched(view):
            self.rows.append(synthesis._drawn.rows)
            self.weights.append(synthesis.importance)
            temperature = config.distillation_temperature
            self.gaps.append(distillation_kl(view.student.logits, view.teacher.logits, temperature=temperature).detach())
            return terms(view)

        monkeypatch.setattr(self.run.method, "student_terms", watched)


@pytest.mark.parametrize("method", ["adi", "nayer"])
def test_each_images_loss_is_weighted_and_its_gap_becomes_its_priority(method: str, teacher, monkeypatch) -> None:
    watched = Watched(drawing(method), teacher, monkeypatch)
    run = watched.run
    metrics = [run.train_epoch() for _ in range(2)][-1]
    latest = slice(-6, None)  # two iterations of three steps
    products = [weights * gaps for weights, gaps in zip(watched.weights[latest], watched.gaps[latest], strict=True)]
    assert metrics["student/kl"] == pytest.approx(torch.cat(products).mean().item(), rel=1e-5)
    assert torch.cat(watched.weights).min() < 1
    pool = run.synthesis._pool
    wanted = {row: (gap + FLOOR) ** 0.6 for row, gap in zip(watched.rows[-1].tolist(), watched.gaps[-1].tolist(), strict=True)}
    assert len(wanted) == 4, "no image twice in the last batch, or the larger of its gaps were wanted"
    assert {row: pool._masses[row].item() for row in wanted} == pytest.approx(wanted, rel=1e-5)


def test_what_is_weighted_is_what_is_minimised_and_not_only_what_is_shown(teacher, monkeypatch) -> None:
    moved = {}
    for weight in (1.0, 0.5):
        run = Distiller(drawing("adi", **{"student.momentum": 0.0, "student.weight_decay": 0.0}), teacher)
        alike = torch.full((4,), weight)
        monkeypatch.setattr(type(run.synthesis), "importance", property(lambda self, alike=alike: alike))
        before = run.student.fc.weight.detach().clone()
        generator, student = run._phases.begin_epoch(1)
        for phase in (generator, replace(student, steps=1)):
            run_phase(phase, TermLog(phase.name, phase.weights, diverged_above=1e6))
        moved[weight] = run.student.fc.weight.detach() - before
    assert moved[1.0].abs().max() > 0
    torch.testing.assert_close(moved[0.5], 0.5 * moved[1.0], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("method", ["adi", "cmi", "nayer", "fast_dfkd"])
def test_a_run_resumed_from_a_file_is_the_run_that_was_not_interrupted(method: str, teacher, tmp_path) -> None:
    config = drawing(method)
    whole, first, second = (Distiller(config, teacher) for _ in range(3))
    for _ in range(4):
        whole.train_epoch()
    for _ in range(2):
        first.train_epoch()
    checkpoint.save(first.parts_state(), tmp_path / "parts.pt")
    second.continue_after(2, checkpoint.load(tmp_path / "parts.pt", kind="run"))
    for _ in range(2):
        second.train_epoch()
    assert differences(second.parts_state(), whole.parts_state()) == []


def test_a_run_whose_priorities_were_lost_goes_on_as_another_one(teacher) -> None:
    """As one does from a checkpoint of uniform draws; and the test before this one has something to find."""
    run, other = (Distiller(drawing("adi"), teacher) for _ in range(2))
    run.train_epoch()
    parts = run.parts_state()
    other.continue_after(1, {**parts, "pool": {"images": parts["pool"]["images"]}})
    run.train_epoch(), other.train_epoch()
    assert differences(other.parts_state()["student"], run.parts_state()["student"])


def test_a_pool_comes_back_from_its_state_and_what_was_saved_stays_as_it_was() -> None:
    made, other = seen(GAPS), pool()
    state = made.state_dict()
    saved = state["masses"].clone()
    other.load_state_dict(state)
    assert torch.equal(other.probabilities, made.probabilities)
    other.see(torch.tensor([0]), torch.tensor([50.0]))
    made.see(torch.tensor([1]), torch.tensor([70.0]))
    assert torch.equal(state["masses"], saved)


def test_a_pool_that_was_drawn_from_uniformly_is_taken_as_one_of_which_nothing_has_been_seen() -> None:
    uniform = ImagePool(limit=100, channels=1, image_size=2, device=torch.device("cpu"))
    uniform.add(images(4))
    made = pool()
    made.load_state_dict(uniform.state_dict())
    assert made.probabilities.tolist() == [0.25] * 4
    uniform.load_state_dict(seen(GAPS).state_dict())
    assert len(uniform) == 8


@pytest.mark.parametrize(
    "broken", [{"masses": torch.ones(3)}, {"masses": torch.ones(8).double()}, {"masses": [1.0] * 8}, {"highest": torch.ones(1)}]
)
def test_a_state_without_a_priority_for_each_image_is_refused(broken) -> None:
    with pytest.raises(CheckpointError, match=r"image pool does not have a priority for each image"):
        pool().load_state_dict({**seen(GAPS).state_dict(), **broken})


def test_a_uniform_run_has_no_weights_and_saves_what_it_always_has(teacher) -> None:
    run = Distiller(small("adi", "original"), teacher)
    run.train_epoch()
    assert run.synthesis.importance is None
    assert run.parts_state()["pool"].keys() == {"images"}


# --- what is refused ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draw": "priorities"}, "inversion.draw must be one of uniform, priority, got 'priorities'"),
        ({"draw": "priority", "priority_exponent": 1.5}, r"inversion.priority_exponent must be in \[0, 1\], got 1.5"),
        ({"draw": "priority", "importance_exponent": -0.1}, r"inversion.importance_exponent must be in \[0, 1\], got -0.1"),
        ({"priority_exponent": 0.5}, "inversion.priority_exponent must be left out unless inversion.draw is priority, got 0.5"),
        ({"importance_exponent": 1.0}, "inversion.importance_exponent must be left out unless inversion.draw is priority"),
    ],
)
def test_settings_that_cannot_be_or_would_be_ignored_are_refused(settings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InversionConfig(**settings)


def test_a_method_without_a_pool_has_nothing_to_draw_from() -> None:
    with pytest.raises(
        ConfigError, match=r"inversion.draw must be left out for method cpsc, which does not have it, got 'priority'"
    ):
        config_of({"method": "cpsc", "inversion": {"draw": "priority"}})


@pytest.mark.parametrize("mixing", [{"blended": 0.5}, {"dead_leaves": 0.25}])
def test_images_that_are_mixed_have_no_gap_of_their_own(mixing) -> None:
    with pytest.raises(ConfigError, match=r"mixing\.\w+ must be 0 with inversion.draw priority"):
        config_of({"method": "adi", "inversion": {"draw": "priority"}, "mixing": mixing})
