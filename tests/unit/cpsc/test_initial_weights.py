"""How every network begins, layer by layer, against the rule of its published constructor."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from cpsc.config import GeneratorConfig
from cpsc.data.dataset import Normalisation
from cpsc.generator import FAMILIES, CategoricalFeatureEmbedding, ConditionalGenerator, Generator, build_generator
from cpsc.methods import METHODS
from cpsc.models import build_model
from cpsc.replay.autoencoder import Encoder
from cpsc.torchvision_cure import import_torchvision
from tests.support.configs import config_of

NORMALISATION = Normalisation(mean=(0.5,) * 3, std=(0.25,) * 3)


@dataclass(frozen=True)
class Draw:
    """Independent entries of mean 0: their standard deviation, and the largest magnitude there can be."""

    std: float
    largest: float = float("inf")


NOTHING = Draw(0.0, 0.0)
Rule = Callable[[nn.Module], Draw]


def by_inputs(layer: nn.Module) -> Draw:
    """PyTorch's own start: uniform within 1 over the square root of how many inputs an output has. Weights and biases alike."""
    bound = layer.weight[0].numel() ** -0.5
    return Draw(bound / 3**0.5, bound)


def by_outputs(layer: nn.Module) -> Draw:
    """Normal, of variance 2 over kernel area times all the layer's outputs, however many groups they are in."""
    area = layer.kernel_size[0] * layer.kernel_size[1]
    return Draw((2.0 / (area * layer.out_channels)) ** 0.5)


def by_normal_inputs(layer: nn.Module) -> Draw:
    """Normal, of variance 2 over how many inputs an output has: He et al. 2015."""
    return Draw((2.0 / layer.weight[0].numel()) ** 0.5)


def none(layer: nn.Module) -> Draw:
    """Zeros."""
    return NOTHING


def always(draw: Draw) -> Rule:
    return lambda layer: draw


@dataclass(frozen=True)
class Start:
    """Weights and biases of convolutions and linear layers; and how far batch norms' scales lie around 1."""

    conv: Rule
    linear: Rule
    conv_bias: Rule = none
    linear_bias: Rule = none
    scale: Draw = NOTHING


DEFAULT = Start(by_inputs, by_inputs, by_inputs, by_inputs)
HUNDREDTH, FIFTIETH, EIGHT_HUNDREDTHS = Draw(0.01), Draw(0.02), Draw(0.08 / 3**0.5, 0.08)

CLASSIFIERS = {
    "resnet18": DEFAULT,
    "resnet34": DEFAULT,
    "resnet50": DEFAULT,
    "resnet20": Start(by_normal_inputs, by_inputs, linear_bias=by_inputs),
    "resnet8x4": Start(by_normal_inputs, by_inputs, linear_bias=by_inputs),
    "vgg11": Start(by_outputs, always(HUNDREDTH)),
    "vgg8": Start(by_outputs, always(HUNDREDTH)),
    "vgg11_bn": Start(by_outputs, always(HUNDREDTH)),
    "wrn_16_1": Start(by_outputs, by_inputs),
    "wrn_16_2": Start(by_outputs, by_inputs),
    "wrn_40_1": Start(by_outputs, by_inputs),
    "wrn_40_2": Start(by_outputs, by_inputs),
    "mobilenet_v2": Start(by_outputs, always(HUNDREDTH)),
    "shufflenet_v2": DEFAULT,
}
UNIFORM = Start(always(EIGHT_HUNDREDTHS), always(EIGHT_HUNDREDTHS))
GENERATORS = {
    "conditional": DEFAULT,
    "pre": UNIFORM,
    "pre_decoder": UNIFORM,
    "dafl": DEFAULT,
    "zskt": DEFAULT,
    "dfad": DEFAULT,
    "small": Start(always(FIFTIETH), always(FIFTIETH), scale=FIFTIETH),
    "large": DEFAULT,
}


def assert_drawn(name: str, values: Tensor, draw: Draw) -> None:
    """As far as so many entries can tell: 5 standard errors."""
    values, number = values.detach().double().flatten(), values.numel()
    assert values.abs().max().item() <= draw.largest, name
    if draw == NOTHING:
        return
    assert abs(values.mean().item()) <= 5.0 * draw.std / number**0.5, name
    if number > 50:
        assert values.std().item() == pytest.approx(draw.std, rel=5.0 / (2.0 * number) ** 0.5), name


def assert_started(network: nn.Module, start: Start) -> None:
    seen = 0
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            seen += 1
            weight, bias = (start.conv, start.conv_bias) if isinstance(layer, nn.Conv2d) else (start.linear, start.linear_bias)
            assert_drawn(f"{name}.weight", layer.weight, weight(layer))
            if layer.bias is not None:
                assert_drawn(f"{name}.bias", layer.bias, bias(layer))
        elif isinstance(layer, nn.BatchNorm2d):
            seen += 1
            assert_drawn(f"{name}.running_mean", layer.running_mean, NOTHING)
            assert_drawn(f"{name}.running_var", layer.running_var - 1.0, NOTHING)
            if layer.affine:
                assert_drawn(f"{name}.weight", layer.weight - 1.0, start.scale)
                assert_drawn(f"{name}.bias", layer.bias, NOTHING)
        elif isinstance(layer, CategoricalFeatureEmbedding):
            assert_drawn(f"{name}.scale", layer.scale - 1.0, NOTHING)
            assert_drawn(f"{name}.shift", layer.shift, NOTHING)
    assert seen > 5


@pytest.mark.parametrize("arch", CLASSIFIERS)
def test_every_layer_of_a_classifier_starts_by_its_published_rule(arch: str) -> None:
    torch.manual_seed(0)
    assert_started(build_model(arch, num_classes=100, channels=3), CLASSIFIERS[arch])


@pytest.mark.parametrize("embedding", ["full", "three_layer", "none"])
def test_every_layer_of_the_conditional_generator_starts_by_its_published_rule(embedding: str) -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(embedding=embedding)
    assert_started(ConditionalGenerator(config, num_classes=10, channels=3, image_size=16), GENERATORS["conditional"])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_of_a_generator_starts_by_its_published_rule(family: str) -> None:
    torch.manual_seed(0)
    settings = replace(FAMILIES[family], spectral=None)  # which divides them by what is tested elsewhere
    generator = Generator(settings, latent_dim=100, width=128, channels=3, image_size=16, normalisation=NORMALISATION)
    assert_started(generator, GENERATORS[family])


@pytest.mark.parametrize("form", ["warmed", "cold"])
def test_below_its_spectral_norm_the_pre_generator_starts_by_the_same_rule(form: str) -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(family="pre", latent_dim=100, spectral_norm=form)
    generator = build_generator(config, num_classes=10, channels=3, image_size=16, normalisation=NORMALISATION)
    for name in ("conv1", "conv2", "to_image"):
        layer = generator.get_submodule(name)
        assert_drawn(name, layer.parametrizations.weight.original, EIGHT_HUNDREDTHS)
        assert_drawn(name, layer.bias, NOTHING)


def test_every_layer_of_the_encoder_starts_by_its_published_rule() -> None:
    torch.manual_seed(0)
    assert_started(Encoder(latent_dim=50, width=128, channels=3, image_size=16), UNIFORM)


def test_mobilenet_starts_as_torchvisions_does_in_every_layer() -> None:
    import_torchvision()
    from torchvision.models import mobilenet_v2

    torch.manual_seed(0)
    ours, theirs = build_model("mobilenet_v2", num_classes=100, channels=3).state_dict(), mobilenet_v2(num_classes=100).state_dict()
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        mine, values = ours[name].double(), values.double()
        if values.numel() > 1 and values.std() > 0:
            assert mine.std().item() == pytest.approx(values.std().item(), rel=7.0 / (2.0 * values.numel()) ** 0.5), name
            assert abs(mine.mean() - values.mean()).item() <= 7.0 * values.std().item() / values.numel() ** 0.5, name
        else:
            assert torch.equal(mine, values), name


def test_a_depthwise_convolution_of_mobilenet_moves_no_less_by_a_step_than_its_neighbours() -> None:
    torch.manual_seed(0)
    layers = dict(build_model("mobilenet_v2", num_classes=10, channels=3).named_modules())
    spreads = {
        name: layer.weight.std().item() for name, layer in layers.items() if isinstance(layer, nn.Conv2d) and layer.groups > 1
    }
    assert len(spreads) == 17
    assert max(spreads.values()) < 0.09
    assert min(spreads.values()) == pytest.approx((2 / (9 * 960)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("method", "preset"), [("cpsc", "paper"), ("cmi", "toolbox")])
def test_every_layer_of_a_methods_head_starts_by_its_published_rule(method: str, preset: str) -> None:
    point = {"cmi.bank_size": 256} if method == "cmi" else {}
    config = config_of({"method": method}, point, name=preset)
    teacher, student = (build_model(arch, num_classes=10, channels=3) for arch in ("wrn_16_2", "wrn_16_1"))
    torch.manual_seed(0)
    (head,) = METHODS[method](config, teacher=teacher, student=student).generator_heads
    layers = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert len(layers) == 2
    for layer in layers:
        assert_drawn("weight", layer.weight, by_inputs(layer))
        assert_drawn("bias", layer.bias, by_inputs(layer))
