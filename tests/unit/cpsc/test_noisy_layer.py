"""NAYER's images: what a class is told by, one noisy layer a block of classes, the generator's life, turns and warm-up."""

import itertools
from collections import Counter
from typing import Any

import pytest
import torch

from cpsc import loop
from cpsc.config import DistillConfig
from cpsc.distiller import Distiller
from cpsc.errors import ConfigError
from cpsc.memory import StatisticsMemory
from cpsc.rng import RandomStreams
from cpsc.statistics import ChannelStatistics
from cpsc.synthesis import InvertedByNoisyLayer
from cpsc.synthesis.class_inputs import class_inputs
from cpsc.synthesis.noisy_layer import NoisyLayers
from cpsc.teacher import Teacher
from tests.support.configs import config_of

CPU = torch.device("cpu")
TINY: dict[str, Any] = {
    "method": "nayer",
    "epochs": 4,
    "student": {"arch": "wrn_10_1"},
    "generator": {"latent_dim": 8, "width": 4},
    "schedule": {
        "generator_steps": 2,
        "student_steps": 3,
        "batch_size": 10,
        "student_batch_size": 4,
        "generator_warmup_epochs": 1,
        "generator_warmup_turns": 3,
    },
    "precision": "fp32",
}


def tiny(**point: Any) -> DistillConfig:
    return config_of(TINY, {name.replace("__", "."): value for name, value in point.items()}, num_classes=4)


def noisy(config: DistillConfig, teacher: Teacher) -> InvertedByNoisyLayer:
    return InvertedByNoisyLayer(config, teacher, RandomStreams(config.seed, CPU), CPU)


# --- what a class is told by ---


def test_a_class_is_told_by_its_row_of_the_teachers_classifier(teacher: Teacher) -> None:
    rows = class_inputs("teacher", teacher, seed=0)
    assert rows.shape[0] == 4
    (name,) = [name for name, tensor in teacher.state.items() if tensor.shape == rows.shape]
    assert torch.equal(rows, teacher.state[name])


def test_or_by_a_vector_that_tells_nothing_but_which_it_is(teacher: Teacher) -> None:
    assert torch.equal(class_inputs("one_hot", teacher, seed=0), torch.eye(4))
    first, again, other = (class_inputs("random", teacher, seed=seed) for seed in (0, 0, 1))
    assert first.shape == (4, 512)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_teacher_without_a_linear_classifier_is_told_so(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Teacher, "build_untrained", lambda self: torch.nn.Conv2d(1, 4, 1))
    with pytest.raises(ConfigError, match=r"^noisy_layer\.class_inputs: the teacher has no linear layer with its 4 classes"):
        class_inputs("teacher", teacher, seed=0)


# --- noisy layers ---


def test_rows_of_a_block_share_a_layer_and_the_last_block_may_be_short() -> None:
    layers = NoisyLayers(num_rows=10, block=4, in_dim=3, out_dim=5)
    layers.draw(torch.Generator().manual_seed(0))
    assert layers.weight.shape == (3, 3, 5)
    assert not layers.bias.any()
    rows = torch.randn(10, 3)
    expected = torch.stack([row @ layers.weight[place // 4] for place, row in enumerate(rows)])
    assert torch.allclose(layers(rows), expected, atol=1e-6)
    weights = layers.weight.detach().clone()
    layers.draw(torch.Generator().manual_seed(1))
    assert not torch.equal(weights, layers.weight)


def test_a_batch_has_whole_rounds_of_all_classes_and_then_random_ones(teacher: Teacher) -> None:
    synthesis = noisy(tiny(), teacher)
    synthesis.begin()
    labels = synthesis.batch().labels.tolist()
    assert labels[:8] == [0, 1, 2, 3] * 2
    assert set(labels[8:]) <= {0, 1, 2, 3}
    small = noisy(tiny(schedule__batch_size=3), teacher)
    small.begin()
    assert len(small.batch().labels) == 3, "a batch may be smaller than the number of classes"


def test_each_turn_has_noise_of_its_own_and_the_generator_goes_on(teacher: Teacher) -> None:
    synthesis = noisy(tiny(), teacher)
    state = dict(synthesis.parts()["generator"].state_dict())
    first, second = (_batch_of_a_turn(synthesis) for _ in range(2))
    assert not torch.equal(first, second)
    assert state.keys() == synthesis.parts()["generator"].state_dict().keys()
    assert not any("noisy" in name for name in state), "what each turn draws anew is not saved"


def _batch_of_a_turn(synthesis: InvertedByNoisyLayer) -> torch.Tensor:
    synthesis.begin()
    images = synthesis.batch().plain.detach()
    synthesis.on_loss(torch.tensor(1.0))
    synthesis.end()
    return images


def test_the_generator_is_drawn_anew_once_its_life_is_over(teacher: Teacher) -> None:
    synthesis = noisy(tiny(noisy_layer__life=2), teacher)
    weights = []
    for epoch in range(1, 6):
        synthesis.begin_epoch(epoch, lr=1e-3)
        weights.append(synthesis.parts()["generator"].state_dict()["body.conv1.weight"].clone())
    assert [not torch.equal(one, other) for one, other in itertools.pairwise(weights)] == [False, True, False, True]


# --- turns ---


def test_an_epoch_has_its_turns_of_the_generator_and_then_the_student(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    run_phase = loop.run_phase

    def watched(phase: loop.Phase, log: loop.TermLog) -> None:
        turns.append(phase.name)
        run_phase(phase, log)

    monkeypatch.setattr(loop, "run_phase", watched)
    distiller = Distiller(tiny(), teacher)
    student = {name: value.clone() for name, value in distiller.student.state_dict().items()}
    distiller.train_epoch()
    assert turns == ["generator"] * 3, "the first epoch fills the pool"
    assert all(torch.equal(value, student[name]) for name, value in distiller.student.state_dict().items())
    distiller.train_epoch()
    assert turns[3:] == ["generator"] * 2 + ["student"]


def test_images_of_an_epoch_count_all_turns() -> None:
    assert tiny().images_per_epoch == 2 * 2 * 10 + 3 * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inversion__labels": "random"}, r"inversion\.labels must be left out for method nayer"),
        ({"inversion__jitter": 1}, r"inversion\.jitter must be left out for method nayer"),
        ({"generator__family": "large"}, r"generator\.family must be small for method nayer, got 'large'"),
        ({"noisy_layer__life": 0}, r"noisy_layer\.life must be > 0"),
        ({"noisy_layer__statistics_momentum": 1.0}, r"noisy_layer\.statistics_momentum must be in \[0, 1\), got 1\.0"),
        ({"schedule__generator_turns": 0}, r"schedule\.generator_turns must be > 0"),
        ({"schedule__generator_warmup_turns": 0}, r"schedule\.generator_warmup_turns must be in 1\.\.10000"),
    ],
)
def test_settings_that_it_does_not_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**changes)


def test_a_method_whose_turns_are_all_alike_has_one() -> None:
    with pytest.raises(ConfigError, match=r"schedule\.generator_turns must be left out for method cpsc"):
        config_of({"method": "cpsc"}, {"schedule.generator_turns": 2})


# --- statistics of earlier turns ---


def test_what_is_compared_has_the_share_of_earlier_turns_and_a_layer_that_does_not_run_is_left_out() -> None:
    memory = StatisticsMemory([2, 1], momentum=0.75)
    first = [_statistics([1.0, 2.0]), None]
    assert memory.blended(first) is first, "before the first turn has ended"
    memory.keep(first)
    blended = memory.blended([_statistics([5.0, 6.0]), None])
    assert blended[1] is None
    assert blended[0] is not None
    assert blended[0].mean.tolist() == [0.75 * 1 + 0.25 * 5, 0.75 * 2 + 0.25 * 6]
    assert blended[0].var.tolist() == [2 * value for value in blended[0].mean.tolist()]
    memory.keep([_statistics([5.0, 6.0]), None])
    assert memory.mean[:2].tolist() == [2.0, 3.0]

    copy = StatisticsMemory([2, 1], momentum=0.75)
    copy.load_state_dict(memory.state_dict())
    assert (copy.num_turns, copy.mean.tolist()) == (2, memory.mean.tolist())


def _statistics(mean: list[float]) -> ChannelStatistics:
    return ChannelStatistics(torch.tensor(mean), 2 * torch.tensor(mean))


def test_the_pool_grows_by_a_batch_a_turn(teacher: Teacher) -> None:
    distiller = Distiller(tiny(inversion__pool_size=1000), teacher)
    sizes = []
    for _ in range(3):
        distiller.train_epoch()
        sizes.append(distiller.num_stored_bytes // (8 * 8))
    assert sizes == [30, 50, 70]


def test_every_class_is_made_for_as_often_as_it_has_rounds(teacher: Teacher) -> None:
    synthesis = noisy(tiny(schedule__batch_size=12), teacher)
    synthesis.begin()
    assert Counter(synthesis.batch().labels.tolist()) == {0: 3, 1: 3, 2: 3, 3: 3}
