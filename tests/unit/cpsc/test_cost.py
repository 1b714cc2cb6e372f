import pytest
import torch
from torch import Tensor, nn

from cpsc.cost import count_macs, count_parameters
from cpsc.models import build_model


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


def test_multiply_adds_are_outputs_times_weights_of_each() -> None:
    first = 4 * 4 * 4 * (2 * 3 * 3)  # stride 2: 8 pixels become 4
    second = 6 * 4 * 4 * (2 * 3 * 3)  # two groups: half of the 4 channels each
    assert count_macs(small(), 2, 8) == first + second + 6 * 5


def test_parameters_are_counted_without_buffers_and_a_shared_one_once() -> None:
    network = small()
    assert count_parameters(network) == 4 * 2 * 9 + (4 + 4) + (6 * 2 * 9 + 6) + (6 * 5 + 5)
    network.append(network[5])
    assert count_parameters(network) == 4 * 2 * 9 + (4 + 4) + (6 * 2 * 9 + 6) + (6 * 5 + 5)


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_the_network_as_it_was(training: bool) -> None:
    network = build_model("wrn_10_1", num_classes=4, channels=1).train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = count_macs(network, 1, 8)
    assert count_macs(network, 1, 8) == first
    assert network.training == training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_without_memory_is_counted_as_well() -> None:
    with torch.device("meta"):
        network = build_model("wrn_40_2", num_classes=10, channels=3)
    assert count_macs(network, 3, 32) == pytest.approx(327.6e6, rel=2e-3)


class Attending(nn.Module):
    """Eight pixels of four channels that attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True, bias=False)
        self.scale = nn.Parameter(torch.ones(4, 4))

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(2).transpose(1, 2) @ self.scale
        return self.attention(pixels, pixels, pixels)[0].mean(dim=1)


def test_attention_counts_alike_with_and_without_memory_whatever_kernel_computes_it() -> None:
    network = build_model("vit_tiny", num_classes=10, channels=1)
    dim, places = 128, 4 * 4
    block = 8 * dim * dim + 2 * places * dim  # of a patch: linear layers, then its scores with all others and their mixture
    expected = places * (16 * dim + 6 * block) + 10 * dim
    assert count_macs(network, 1, 16) == count_macs(network.to("meta"), 1, 16) == expected


def test_attention_and_products_outside_of_layers_count_too() -> None:
    pixels, width = 4 * 4, 4
    projections, scores, mixing, product = 4 * pixels * width**2, pixels**2 * width, pixels**2 * width, pixels * width**2
    assert count_macs(Attending().train(), 4, 4) == projections + scores + mixing + product
