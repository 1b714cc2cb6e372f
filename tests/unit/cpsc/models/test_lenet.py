"""LeNet-5, against the same layers in a row."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cpsc.cost import count_macs, count_parameters
from cpsc.data.dataset import Dataset
from cpsc.errors import ConfigError
from cpsc.models import Output, build_model, check_image_size
from cpsc.teacher_training import TeacherRecipe, train_teacher


def lenet(arch: str = "lenet5", channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return build_model(arch, num_classes=10, channels=channels).eval()


@pytest.mark.parametrize(("arch", "parameters", "macs"), [("lenet5", 61_706, 416_520), ("lenet5_half", 15_738, 133_740)])
def test_it_has_the_parameters_that_are_known_of_it(arch: str, parameters: int, macs: int) -> None:
    network = lenet(arch)
    assert count_parameters(network) == parameters  # 156 + 2,416 + 48,120 + 10,164 + 850 of LeNet-5
    assert count_macs(network, 1, 28) == count_macs(network, 1, 32) == macs


@pytest.mark.parametrize(
    ("arch", "activation", "pool"), [("lenet5", nn.ReLU, nn.MaxPool2d), ("lenet5-smooth", nn.Tanh, nn.AvgPool2d)]
)
def test_it_computes_what_its_layers_do_in_a_row(arch: str, activation: type[nn.Module], pool: type[nn.Module]) -> None:
    network = lenet(arch)
    maps = [network.conv1, activation(), pool(2), network.conv2, activation(), pool(2), network.conv3, activation(), nn.Flatten()]
    features = nn.Sequential(*maps, network.fc1, activation())
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        output = network(x)
        assert isinstance(output, Output)
        torch.testing.assert_close(output.features, features(x))
        torch.testing.assert_close(output.logits, network.fc2(features(x)))
    assert output.features.shape == (2, network.feature_dim) == (2, 84)


def test_zeros_around_images_of_28_pixels_make_them_32() -> None:
    network = lenet(channels=3)
    x = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        assert torch.equal(network(x).logits, network(F.pad(x, (2, 2, 2, 2))).logits)


def test_images_of_another_size_are_refused_before_anything_runs(shapes: Dataset) -> None:
    check_image_size("lenet5", 28)
    check_image_size("wrn_10_1", 16)
    with pytest.raises(ConfigError, match="arch lenet5-smooth: takes images of 28 or 32 pixels per side, but these have 16"):
        check_image_size("lenet5-smooth", 16)
    with pytest.raises(ConfigError, match="arch lenet5: takes images of 28 or 32 pixels per side, but these have 8"):
        train_teacher(TeacherRecipe(arch="lenet5", epochs=1, warmup_epochs=0), shapes, torch.device("cpu"))
