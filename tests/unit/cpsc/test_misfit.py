"""The check of a network against its own batch norms: right ones pass, others are named by the layer that gives them away."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cpsc.borders import Borders, tell_borders
from cpsc.data import digits
from cpsc.misfit import (
    BORDER_LIMIT,
    LIMIT,
    SMALLEST_MAP_LIMIT,
    _judge_borders,
    examine,
    examine_network,
    examine_variants,
    fitting,
    natural_noise,
    share_left,
    stored_statistics,
)
from cpsc.models import build_model
from cpsc.teacher import Teacher
from cpsc.teacher_training import TeacherRecipe, train_teacher

pytestmark = pytest.mark.slow  # images are inverted out of trained networks
CPU = torch.device("cpu")
CHANNELS, SIZE = 1, digits.IMAGE_SIZE


@pytest.fixture(scope="module")
def trained() -> Callable[[str], Teacher]:
    """Teachers of some seconds' training, made once each."""
    made: dict[str, Teacher] = {}
    dataset = digits.load()

    def train(arch: str) -> Teacher:
        if arch not in made:
            recipe = TeacherRecipe(arch=arch, epochs=4, batch_size=64, warmup_epochs=1)
            made[arch] = train_teacher(recipe, dataset, CPU)
        return made[arch]

    return train


@pytest.mark.parametrize("arch", ["wrn_10_1", "wrn_10_1-stem_stride_2"])
def test_a_trained_network_fits_its_own_statistics_and_is_the_only_one(arch: str, trained: Callable[[str], Teacher]) -> None:
    teacher = trained(arch)
    verdict = examine(teacher, CPU)
    assert verdict.is_sound
    assert verdict.border_factor is not None
    assert 1 / BORDER_LIMIT < verdict.border_factor < BORDER_LIMIT
    assert verdict.distance is not None
    assert verdict.distance < LIMIT
    assert fitting(examine_variants(teacher, CPU)) == [arch]


@pytest.mark.parametrize(
    ("arch", "loaded", "sizes"),
    [("wrn_10_1", "wrn_10_1-stem_stride_2", "larger"), ("wrn_10_1-stem_stride_2", "wrn_10_1", "smaller")],
)
def test_another_stride_is_told_by_the_size_of_the_maps(
    arch: str, loaded: str, sizes: str, trained: Callable[[str], Teacher]
) -> None:
    verdict = examine(trained(arch).named(loaded), CPU)
    assert verdict.fault is not None
    assert verdict.fault.startswith("block")
    assert f"it was trained on {sizes} maps than the" in verdict.fault
    assert f"limit {SMALLEST_MAP_LIMIT if sizes == 'smaller' else BORDER_LIMIT:g}" in verdict.fault  # here of maps of 4 x 4


def test_another_image_size_is_told(trained: Callable[[str], Teacher]) -> None:
    verdict = examine(replace(trained("wrn_10_1"), image_size=2 * SIZE), CPU)
    assert verdict.fault is not None
    assert "smaller maps" in verdict.fault


@pytest.mark.parametrize("arch", ["wrn_10_1", "wrn_10_1-stem_stride_2"])
def test_a_pool_that_the_weights_have_not_seen_is_told(arch: str, trained: Callable[[str], Teacher]) -> None:
    network = trained(arch).build(CPU)
    network.get_submodule("block1").register_forward_pre_hook(lambda _block, inputs: (F.max_pool2d(inputs[0], 3, 2, 1),))
    verdict = examine_network(network, channels=CHANNELS, image_size=SIZE, device=CPU)
    assert verdict.fault is not None
    assert "gives it away" in verdict.fault


def test_a_network_that_never_fits_is_given_away_by_its_worst_layer(trained: Callable[[str], Teacher]) -> None:
    network = trained("wrn_10_1").build(CPU)
    layer = network.get_submodule("block1.layer.0.bn2")
    assert isinstance(layer, nn.BatchNorm2d)
    assert layer.running_var is not None
    layer.running_var.mul_(1e6)  # beyond what the convolution in front of it makes of a normalised map
    verdict = examine_network(network, channels=CHANNELS, image_size=SIZE, device=CPU)
    assert verdict.distance is not None
    assert verdict.distance > LIMIT
    assert verdict.fault is not None
    assert verdict.fault.startswith("block1.layer.0.bn2 gives it away: no images give all layers")


def test_the_check_is_deterministic_and_leaves_the_network_alone(trained: Callable[[str], Teacher]) -> None:
    network = trained("wrn_10_1").build(CPU)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    verdicts = [examine_network(network, channels=CHANNELS, image_size=SIZE, device=CPU) for _ in range(2)]
    assert verdicts[0] == verdicts[1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())


def test_without_batch_norm_there_is_nothing_to_compare() -> None:
    plain = nn.Sequential(nn.Conv2d(CHANNELS, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 2)).eval()
    verdict = examine_network(plain, channels=CHANNELS, image_size=SIZE, device=CPU)
    assert verdict.obstacle == "it has no batch norm with statistics to compare"
    assert not verdict.is_sound


def test_batch_norms_that_have_seen_few_batches_are_not_compared() -> None:
    torch.manual_seed(0)
    network = build_model("wrn_10_1", num_classes=3, channels=CHANNELS)
    for _ in range(3):
        network(torch.randn(8, CHANNELS, SIZE, SIZE))
    verdict = examine_network(network.eval().requires_grad_(False), channels=CHANNELS, image_size=SIZE, device=CPU)
    assert verdict.obstacle == "its batch norms have seen too few batches to be compared"
    assert verdict.fault is None


def test_what_a_short_training_has_left_of_the_first_averages_is_taken_out() -> None:
    layer = nn.BatchNorm2d(2)
    x = torch.randn(4096, 2, 1, 1, generator=torch.Generator().manual_seed(0)) * 3.0 + 5.0
    for _ in range(20):
        layer(x)
    assert share_left(layer) == pytest.approx(0.9**20)
    mean, var = stored_statistics(layer)
    torch.testing.assert_close(mean, x.mean(dim=(0, 2, 3)), rtol=1e-3, atol=0)
    torch.testing.assert_close(var, x.var(dim=(0, 2, 3)), rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [8, 16])
def test_the_share_of_the_border_is_read_from_the_means_alone(size: int) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for in_channels in (3, 32, 32, 32):
        layers += [nn.Conv2d(in_channels, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32, momentum=None), nn.ReLU()]
    network = nn.Sequential(*layers)
    network(torch.randn(64, 3, size, size))
    network.eval().requires_grad_(False)
    same = tell_borders(network, natural_noise(64, 3, size), stored_statistics)
    half = tell_borders(network, natural_noise(64, 3, size // 2), stored_statistics)
    double = tell_borders(network, natural_noise(64, 3, size * 2), stored_statistics)
    assert [borders.size for borders in same] == [size]
    assert abs(same[0].log_factor) < 0.1
    assert half[0].log_factor < -0.2
    assert double[0].log_factor > 0.2


@pytest.mark.parametrize(
    ("told", "layer_at_fault", "is_undecided"),
    [
        ([(8, 1.21), (4, 1.21)], None, False),
        ([(8, 1.21), (4, 1.25)], None, True),
        ([(8, 1.23), (4, 1.25)], "layer of 8", False),
        ([(8, 1.0), (4, 1.31)], "layer of 4", False),
        ([(8, 1.0), (4, 0.81)], "layer of 4", False),
    ],
)
def test_maps_that_are_nearly_all_border_tell_less_and_hide_no_others(
    told: list[tuple[int, float]], layer_at_fault: str | None, is_undecided: bool
) -> None:
    verdict = _judge_borders([Borders(f"layer of {size}", size, math.log(factor)) for size, factor in told])
    assert (verdict.fault or "").partition(" gives it away")[0] == (layer_at_fault or "")
    assert (verdict.obstacle is not None) == is_undecided
