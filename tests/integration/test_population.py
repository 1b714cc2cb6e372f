"""Population based training, killed at random moments: the same population, bit for bit on a CPU, as one that nobody disturbed."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.population import LENGTH, Population, rest_of
from tuning.launch.events import Compared, Epoch, Exploited
from tuning.lineage import Segment
from tuning.outcome import Outcome
from tuning.replay.comparison import is_of_the_moment
from tuning.trial.trainable import local_trainable, loggable_metrics

KILLS = 10


def told(population: Population) -> dict[str, Any]:
    """All that the journal says of numbers and decisions, times and the order of arrival left out."""
    events = population.events()
    return {
        "epochs": {(event.number, event.epoch): lasting(event.metrics) for event in events if isinstance(event, Epoch)},
        "compared": [(event.epoch, tuple(event.ranking)) for event in events if isinstance(event, Compared)],
        "exploited": [(event.number, event.epoch, event.donor, event.point) for event in events if isinstance(event, Exploited)],
    }


def measured(result: dict[str, Any]) -> dict[str, float]:
    """What an epoch says of itself, and not of those before it, nor of its values."""
    found = lasting(loggable_metrics(result))
    return {name: value for name, value in found.items() if "best" not in name and not name.startswith("pbt/")}


def lasting(metrics: Any) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not is_of_the_moment(name)}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Population:
    population = Population.of(tmp_path_factory.mktemp("calm"))
    assert population.run()
    return population


def test_a_population_is_compared_in_step_and_the_worst_takes_over_the_best(calm: Population) -> None:
    history, said = calm.history(), told(calm)
    assert [epoch for epoch, _ in said["compared"]] == [1, 2, 3]
    assert [epoch for _, epoch, _, _ in said["exploited"]] == [1, 2, 3]
    for (number, epoch, donor, point), (_, ranking) in zip(said["exploited"], said["compared"], strict=True):
        assert (donor, number) == (ranking[0], ranking[-1])
        assert history.trials[number].scores[epoch] <= history.trials[donor].scores[epoch]
        following = said["epochs"][number, epoch + 1]
        assert {path: following[f"pbt/{path}"] for path in point} == point
    assert all(trial.outcome is Outcome.COMPLETED and trial.last_epoch == LENGTH for trial in history.trials.values())


def test_a_trial_computes_what_its_lineage_has_from_its_first_epoch_on(calm: Population) -> None:
    """Without any checkpoint: the schedule says all. What a trial was before it took over another is not in it."""
    history = calm.history()
    for number, trial in history.trials.items():
        alone = local_trainable(calm.context, trial.point, trial.schedule)
        results = [lasting(loggable_metrics(alone.step())) for _ in range(LENGTH)]
        assert results[trial.exploited_after :] == [
            told(calm)["epochs"][number, epoch] for epoch in range(trial.exploited_after + 1, LENGTH + 1)
        ]


def test_the_best_student_is_one_of_the_epochs_since_the_trial_took_over_another(calm: Population) -> None:
    history, epochs = calm.history(), told(calm)["epochs"]
    for number, trial in history.trials.items():
        assert trial.exploited_after < epochs[number, LENGTH]["best_epoch"] <= LENGTH


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, pytest.param(KILLS, marks=pytest.mark.long)])
def test_killed_at_random_moments_it_is_the_population_that_nobody_disturbed(kills: int, calm: Population, tmp_path: Path) -> None:
    """Each launch twice. A driver that dies among the proposals, which take no time, draws the rest of them anew, as any
    search does; all that follows depends on scores alone."""
    whole, rng, rest = told(calm), random.Random(7), rest_of(calm.events())
    for round_ in range(kills // 2):
        (tmp_path / str(round_)).mkdir()
        killed = Population.of(tmp_path / str(round_))
        killed.rng = random.Random(round_)  # trials report in another order each time
        proposed = len(calm.events()) - 1 - rest
        killed.run(records=proposed + rng.randrange(rest // 2), slots=rng.choice((1, 2, 3)))
        killed.run(records=rng.randrange(rest // 2), slots=rng.choice((1, 2, 3)))
        assert killed.run()
        assert told(killed) == whole


def test_a_donor_whose_checkpoint_is_lost_is_trained_anew_and_nothing_changes(calm: Population, tmp_path: Path) -> None:
    killed = Population.of(tmp_path)
    journal, records = calm.events(), 0
    while not isinstance(journal[records], Exploited):
        records += 1
    killed.run(records=records)
    for folder in tmp_path.rglob("checkpoint_*"):
        (folder / "state.pt").write_bytes(b"cut off")
    assert killed.run()
    epochs = told(killed)["epochs"]
    assert told(killed)["exploited"] == told(calm)["exploited"]
    assert epochs == told(calm)["epochs"]


@pytest.mark.parametrize(
    "path", ["weights.adversarial", "distillation_temperature", "contrast_temperature", "student.lr", "generator.lr"]
)
def test_a_value_that_changes_while_training_counts_from_the_next_epoch_on(path: str, calm: Population) -> None:
    point = {path: 0.05}
    plain = local_trainable(calm.context, point)
    changed = local_trainable(calm.context, point, [Segment(0, point), Segment(1, {path: 0.2})])
    kept = local_trainable(calm.context, point, [Segment(0, point), Segment(1, point)])
    without, switched, same = ([trial.step() for _ in range(2)] for trial in (plain, changed, kept))
    assert measured(without[0]) == measured(switched[0]) == measured(same[0])
    assert measured(without[1]) == measured(same[1]) != measured(switched[1])
    assert switched[1][f"pbt/{path}"] == 0.2
