import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import GeneratorConfig
from cpsc.data.dataset import Normalisation
from cpsc.errors import ConfigError
from cpsc.generator import FAMILIES, SPECTRAL_NORMS, ConditionalGenerator, Family, Generator, build_generator, initialise

NORMALISATION = Normalisation(mean=(0.4, 0.6), std=(0.2, 0.3))
COUNTS = [
    ("pre", 1000, 32, 8_423_939),
    ("pre", 1000, 64, 33_024_515),
    ("pre_decoder", 1000, 32, 8_423_939),
    ("pre_decoder", 1000, 64, 33_024_515),
    ("dafl", 1000, 32, 8_423_939),
    ("zskt", 100, 32, 1_051_145),
    ("dfad", 256, 32, 2_329_091),
    ("small", 256, 32, 2_328_899),
    ("large", 256, 32, 4_581_955),
    ("large", 512, 32, 8_776_259),
]


def full_size(family: str, latent_dim: int, image_size: int = 32) -> Generator:
    with torch.device("meta"):
        # Power iterations need numbers, and only the layers count here.
        plain = replace(FAMILIES[family], spectral=None)
        return Generator(plain, latent_dim=latent_dim, width=128, channels=3, image_size=image_size, normalisation=NORMALISATION)


def tiny(family: str | Family, *, seed: int = 0, image_size: int = 8) -> Generator:
    torch.manual_seed(seed)
    settings = FAMILIES[family] if isinstance(family, str) else family
    return Generator(settings, latent_dim=8, width=4, channels=2, image_size=image_size, normalisation=NORMALISATION)


def latents(rows: int = 16) -> Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("family", "latent_dim", "image_size", "count"), COUNTS)
def test_parameter_counts_are_the_published_ones(family: str, latent_dim: int, image_size: int, count: int) -> None:
    assert sum(p.numel() for p in full_size(family, latent_dim, image_size).parameters()) == count


def test_spectral_norm_adds_no_parameter() -> None:
    counts = [sum(p.numel() for p in tiny(family).parameters()) for family in ("pre", "pre_decoder")]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_images_have_the_size_and_channels_of_the_dataset(family: str, size: int) -> None:
    assert tiny(family, image_size=size)(latents(2)).shape == (2, 2, size, size)


def test_an_image_size_that_is_no_multiple_of_four_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 4 for the generator, got 30"):
        tiny("dafl", image_size=30)


@pytest.mark.parametrize(
    ("family", "eps"),
    [
        ("pre", (1e-5, 0.8, 0.8)),
        ("pre_decoder", (1e-5, 0.8, 0.8)),
        ("dafl", (1e-5, 0.8, 0.8)),
        ("zskt", (1e-5, 1e-5, 1e-5)),
        ("dfad", (1e-5, 1e-5, 1e-5)),
        ("small", (1e-5, 1e-5, 1e-5)),
        ("large", (1e-5, 1e-5, 1e-5)),
    ],
)
def test_the_norms_have_the_published_epsilons_and_an_ordinary_momentum(family: str, eps: tuple[float, ...]) -> None:
    generator = tiny(family)
    norms = (generator.norm0, generator.norm1, generator.norm2)
    assert tuple(norm.eps for norm in norms) == eps
    assert {norm.momentum for norm in norms} == {0.1}
    assert all(norm.affine for norm in norms)


@pytest.mark.parametrize(
    ("family", "inner", "outer"),
    [
        ("pre", True, True),
        ("dafl", True, True),
        ("zskt", True, True),
        ("dfad", True, True),
        ("small", False, True),
        ("large", False, True),
    ],
)
def test_only_the_toolboxs_inner_convolutions_have_no_bias(family: str, inner: bool, outer: bool) -> None:
    generator = tiny(family)
    biases = [generator.conv1.bias, generator.conv2.bias, generator.to_image.bias, generator.project.bias]
    assert [bias is not None for bias in biases] == [inner, inner, outer, True]


@pytest.mark.parametrize(("family", "stem"), [("large", 8), ("small", 4), ("dafl", 4)])
def test_only_the_large_familys_first_stage_is_twice_as_wide(family: str, stem: int) -> None:
    generator = tiny(family)
    assert (generator.norm0.num_features, generator.norm1.num_features, generator.norm2.num_features) == (stem, 4, 2)


@pytest.mark.parametrize("family", ["pre", "pre_decoder", "dafl", "dfad"])
def test_a_tanh_and_a_norm_without_scale_end_in_zero_mean_and_unit_variance(family: str) -> None:
    generator = tiny(family)
    with torch.no_grad():
        generator.to_image.weight.mul_(30.0)  # so that the epsilon does not count
        images = generator(latents(64))
    assert not generator.norm_image.affine
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.var(dim=(0, 2, 3), correction=0), torch.ones(2), atol=2e-2, rtol=0)
    assert images.abs().max() > 1.0


def test_zskts_images_are_normed_with_scale_and_never_squashed() -> None:
    generator = tiny("zskt")
    assert generator.norm_image.affine
    images = generator(latents())
    generator.to_image.register_forward_hook(lambda layer, inputs, out: 100.0 * out)  # a tanh would saturate
    torch.testing.assert_close(generator(latents()), images, atol=2e-2, rtol=1e-3)


@pytest.mark.parametrize("family", ["small", "large"])
def test_pixels_lie_between_zero_and_one_and_images_are_those_normalised(family: str) -> None:
    generator = tiny(family).eval()
    pixels, images = generator.raw(latents()), generator(latents())
    assert 0 < pixels.min() < pixels.max() < 1
    for channel in range(2):
        expected = (pixels[:, channel] - NORMALISATION.mean[channel]) / NORMALISATION.std[channel]
        torch.testing.assert_close(images[:, channel], expected)


@pytest.mark.parametrize("family", ["dafl", "large"])
def test_the_forward_pass_is_the_published_sequence_of_layers(family: str) -> None:
    generator, reference = tiny(family, seed=1), tiny(family, seed=1)
    x = reference.project(latents()).reshape(16, -1, 2, 2)
    x = reference.norm0(x).repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = F.leaky_relu(reference.norm1(reference.conv1(x)), 0.2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = reference.to_image(F.leaky_relu(reference.norm2(reference.conv2(x)), 0.2))
    expected = reference.norm_image(x.tanh()) if family == "dafl" else NORMALISATION.from_unit(x.sigmoid())
    torch.testing.assert_close(generator(latents()), expected)


def test_labels_are_taken_and_make_no_difference() -> None:
    generator = tiny("dafl").eval()
    assert torch.equal(generator(latents(), torch.arange(16)), generator(latents()))


def test_the_pre_generators_three_convolutions_have_a_largest_singular_value_of_one() -> None:
    generator = tiny("pre")
    for convolution in (generator.conv1, generator.conv2, generator.to_image):
        assert torch.linalg.matrix_norm(convolution.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.05)
    decoder = tiny("pre_decoder")
    assert torch.linalg.matrix_norm(decoder.conv1.weight.flatten(1), 2).item() < 0.7


def cold_pair(*, seed: int = 0) -> tuple[nn.Conv2d, nn.Conv2d]:
    """A convolution under our cold spectral norm, and its twin under PyTorch's first implementation, from the same vectors."""
    torch.manual_seed(seed)
    ours = nn.Conv2d(6, 5, 3, padding=1)
    theirs = copy.deepcopy(ours)
    SPECTRAL_NORMS["cold"](ours)
    torch.nn.utils.spectral_norm(theirs)
    form = ours.parametrizations.weight[0]
    theirs.weight_u.copy_(form.left)
    theirs.weight_v.copy_(form.right)
    return ours.double(), theirs.double()


def test_the_cold_spectral_norm_computes_and_learns_what_pytorchs_first_one_does() -> None:
    ours, theirs = cold_pair()
    rng = torch.Generator().manual_seed(1)
    for training in (True, True, False, True, False):
        ours.train(training)
        theirs.train(training)
        images = torch.randn(3, 6, 4, 4, generator=rng, dtype=torch.float64)
        outputs = [convolution(images) for convolution in (ours, theirs)]
        torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
        gradients = [
            torch.autograd.grad(out.square().sum(), weight)[0]
            for out, weight in zip(outputs, (ours.parametrizations.weight.original, theirs.weight_orig), strict=True)
        ]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)
        with torch.no_grad():
            for weight, gradient in zip((ours.parametrizations.weight.original, theirs.weight_orig), gradients, strict=True):
                weight -= 0.01 * gradient


def test_two_passes_of_the_cold_spectral_norm_may_share_a_backward_pass() -> None:
    ours, _ = cold_pair()
    images = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (ours(images) - ours(2 * images)).square().sum().backward()
    assert ours.parametrizations.weight.original.grad.isfinite().all()


def test_a_cold_estimate_is_too_small_at_first_and_a_warmed_one_is_not() -> None:
    def largest(form: str) -> list[float]:
        torch.manual_seed(0)
        convolution = nn.Conv2d(64, 32, 3)
        weight = convolution.weight.detach().clone()
        SPECTRAL_NORMS[form](convolution)
        passes = [convolution.weight.detach() for _ in range(200)]  # each look is a pass
        assert torch.equal(convolution.parametrizations.weight.original, weight)
        return [torch.linalg.matrix_norm(one.flatten(1), 2).item() for one in (passes[0], passes[-1])]

    first, last = largest("cold")
    assert first > 1.1
    assert last == pytest.approx(1.0, abs=0.01)
    assert largest("warmed")[0] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("form", "cls"), [("warmed", "_SpectralNorm"), ("cold", "ColdSpectralNorm")])
def test_a_config_names_the_form_of_the_pre_generators_three_spectral_norms(form: str, cls: str) -> None:
    config = GeneratorConfig(family="pre", latent_dim=8, width=4, spectral_norm=form)
    torch.manual_seed(0)
    generator = build_generator(config, num_classes=10, channels=2, image_size=8, normalisation=NORMALISATION)
    for convolution in (generator.conv1, generator.conv2, generator.to_image):
        assert [type(part).__name__ for part in convolution.parametrizations.weight] == [cls]
    assert torch.equal(generator.project.weight, tiny("pre").project.weight)


def test_a_cold_spectral_norm_is_in_the_precision_of_the_weights_under_autocast() -> None:
    convolution, _ = cold_pair()
    convolution.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert convolution.weight.dtype == torch.float32
        assert convolution(torch.randn(2, 6, 4, 4)).dtype == torch.bfloat16


@pytest.mark.parametrize("family", ["pre", "pre_decoder"])
def test_pres_weights_are_uniform_in_the_published_interval_and_biases_zero(family: str) -> None:
    torch.manual_seed(0)
    generator = Generator(
        replace(FAMILIES[family], spectral=None), latent_dim=64, width=32, channels=2, image_size=8, normalisation=NORMALISATION
    )
    for layer in (generator.project, generator.conv1, generator.conv2):
        assert 0.079 < layer.weight.abs().max().item() <= 0.08
        assert layer.weight.std().item() == pytest.approx(0.08 / 3**0.5, rel=0.05)
        assert layer.bias.abs().max() == 0.0


def test_the_small_familys_weights_are_normal_of_a_fiftieth_and_its_norms_scales_lie_around_one() -> None:
    torch.manual_seed(0)
    generator = Generator(FAMILIES["small"], latent_dim=64, width=64, channels=2, image_size=8, normalisation=NORMALISATION)
    for layer in (generator.project, generator.conv1, generator.conv2):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert abs(layer.weight.mean().item()) < 1e-3
    assert generator.project.bias.abs().max() == generator.to_image.bias.abs().max() == 0.0
    scales = torch.cat([norm.weight for norm in (generator.norm0, generator.norm1, generator.norm2)])
    assert scales.std().item() == pytest.approx(0.02, rel=0.3)
    assert scales.mean().item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("family", ["dafl", "zskt", "dfad", "large"])
def test_the_other_families_start_as_pytorch_starts_its_layers(family: str) -> None:
    generator = tiny(family)
    bound = 8**-0.5
    assert 0.8 * bound < generator.project.weight.abs().max().item() <= bound
    assert generator.project.bias.abs().max() > 0
    assert torch.equal(generator.norm1.weight, torch.ones(4))


def test_drawing_the_weights_anew_forgets_all_training_and_follows_the_global_seed() -> None:
    generator = tiny("small", seed=2)
    fresh = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    optimizer = torch.optim.SGD(generator.parameters(), lr=1.0)
    generator(latents()).square().sum().backward()
    optimizer.step()
    torch.manual_seed(2)
    initialise(generator, FAMILIES["small"])
    # Built, its layers have drawn weights once before; drawn anew twice from one seed they are the same.
    first = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    torch.manual_seed(2)
    initialise(generator, FAMILIES["small"])
    assert all(torch.equal(first[name], tensor) for name, tensor in generator.state_dict().items())
    assert torch.equal(generator.norm1.running_mean, fresh["norm1.running_mean"])
    assert generator.norm1.num_batches_tracked.item() == 0


@pytest.mark.parametrize("family", ["conditional", "pre", "dafl", "zskt", "dfad", "small", "large"])
def test_a_config_names_its_family(family: str) -> None:
    config = GeneratorConfig(family=family, latent_dim=8, width=4)
    generator = build_generator(config, num_classes=3, channels=2, image_size=8, normalisation=NORMALISATION)
    assert isinstance(generator, ConditionalGenerator) == (family == "conditional")
    assert generator(latents(4), torch.tensor([0, 1, 2, 0])).shape == (4, 2, 8, 8)
    if isinstance(generator, Generator):
        assert generator.makes_pixels == (family in ("small", "large"))
        assert isinstance(generator.norm_image, nn.Identity) == generator.makes_pixels
