import pytest
import torch
from torch import nn

from cpsc.config import GeneratorConfig
from cpsc.errors import ConfigError
from cpsc.generator import CategoricalFeatureEmbedding, ConditionalGenerator, UnconditionalNorm

WITHOUT_NORMS = 2_328_451  # values of the linear layer and the convolutions at 32 px


def full_size(num_classes: int, image_size: int, embedding: str = "full") -> ConditionalGenerator:
    with torch.device("meta"):
        return ConditionalGenerator(
            GeneratorConfig(embedding=embedding), num_classes=num_classes, channels=3, image_size=image_size
        )


def tiny(embedding: str = "full", *, seed: int = 0) -> ConditionalGenerator:
    torch.manual_seed(seed)
    return ConditionalGenerator(
        GeneratorConfig(latent_dim=8, width=4, embedding=embedding), num_classes=3, channels=2, image_size=8
    )


@pytest.mark.parametrize(
    ("num_classes", "image_size", "count"),
    [(10, 32, 2_334_911), (100, 32, 2_393_051), (200, 32, 2_457_651), (200, 64, 8_773_683)],
)
def test_parameter_counts_are_the_published_ones(num_classes: int, image_size: int, count: int) -> None:
    assert sum(p.numel() for p in full_size(num_classes, image_size).parameters()) == count


@pytest.mark.parametrize(("embedding", "norm_values"), [("none", 646), ("three_layer", 640 * 10 + 6), ("full", 646 * 10)])
def test_the_ablations_replace_all_or_the_last_embedding_by_batch_norm(embedding: str, norm_values: int) -> None:
    generator = full_size(10, 32, embedding)
    assert sum(p.numel() for p in generator.parameters()) == WITHOUT_NORMS + norm_values
    assert isinstance(generator.norm_image, CategoricalFeatureEmbedding) == (embedding == "full")
    assert isinstance(generator.norm0, CategoricalFeatureEmbedding) == (embedding != "none")


@pytest.mark.parametrize("size", [32, 64])
def test_images_have_the_size_and_channels_of_the_dataset(size: int) -> None:
    images = full_size(10, size)(torch.empty(2, 256, device="meta"), torch.zeros(2, dtype=torch.long, device="meta"))
    assert images.shape == (2, 3, size, size)


def test_an_image_size_that_is_no_multiple_of_four_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 4 for the generator, got 30"):
        ConditionalGenerator(GeneratorConfig(), num_classes=10, channels=3, image_size=30)


def test_an_embedding_has_two_trainable_values_per_class_and_channel() -> None:
    assert sum(p.numel() for p in CategoricalFeatureEmbedding(7, 5).parameters()) == 2 * 5 * 7


@pytest.mark.parametrize("training", [True, False])
def test_a_new_embedding_equals_batch_norm_without_affine_and_with_eps_a_thousandth(training: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    embedding, plain = CategoricalFeatureEmbedding(3, 5), nn.BatchNorm2d(3, eps=1e-3, affine=False)
    labels = torch.randint(5, (6,), generator=rng)
    for _ in range(3):
        x = 0.05 * torch.randn(6, 3, 4, 4, generator=rng) + 2.0  # so small a variance shows the eps
        embedding(x, labels)
        plain(x)
    embedding.train(training)
    plain.train(training)
    torch.testing.assert_close(embedding(x, labels), plain(x))
    torch.testing.assert_close(embedding.norm.running_var, plain.running_var)


def test_an_embedding_scales_and_shifts_each_sample_by_its_own_label() -> None:
    embedding = CategoricalFeatureEmbedding(2, 3)
    with torch.no_grad():
        embedding.scale.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        embedding.shift.copy_(torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    normalised = nn.BatchNorm2d(2, eps=1e-3, affine=False)(x)
    out = embedding(x, torch.tensor([2, 0, 2]))
    for sample, label in enumerate([2, 0, 2]):
        for channel in range(2):
            expected = embedding.scale[label, channel] * normalised[sample, channel] + embedding.shift[label, channel]
            torch.testing.assert_close(out[sample, channel], expected)


def test_an_embedding_normalises_over_the_mixed_class_batch() -> None:
    embedding = CategoricalFeatureEmbedding(1, 2)
    x = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1])
    moved = torch.cat([x[:2], x[2:] + 10.0])
    assert not torch.allclose(embedding(x, labels)[:2], embedding(moved, labels)[:2], atol=0.1)


def test_only_rows_of_labels_in_the_batch_receive_a_gradient() -> None:
    embedding = CategoricalFeatureEmbedding(2, 4)
    embedding(torch.randn(3, 2, 2, 2), torch.tensor([1, 3, 1])).square().sum().backward()
    assert embedding.shift.grad[[0, 2]].abs().max() == 0
    assert embedding.scale.grad[[1, 3]].abs().min() > 0


def test_the_ordinary_norm_ignores_the_label_and_is_affine() -> None:
    norm, x = UnconditionalNorm(2, 5), torch.randn(3, 2, 2, 2)
    torch.testing.assert_close(norm(x, torch.tensor([0, 1, 2])), norm(x, torch.tensor([4, 4, 4])))
    assert sum(p.numel() for p in norm.parameters()) == 4


@pytest.mark.parametrize(("embedding", "depends"), [("none", False), ("three_layer", True), ("full", True)])
def test_images_depend_on_the_label_unless_all_embeddings_are_removed(embedding: str, depends: bool) -> None:
    generator = tiny(embedding)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    latents = torch.randn(6, 8)
    images = [generator(latents, torch.full((6,), label)) for label in (0, 1)]
    assert torch.allclose(*images) != depends


def test_images_are_beyond_the_range_of_tanh_because_a_norm_comes_last() -> None:
    images = tiny()(torch.randn(16, 8), torch.arange(16) % 3)
    assert images.abs().max() > 1.5
    assert images.mean(dim=(0, 2, 3)).abs().max() < 1e-3


def test_the_forward_pass_is_the_published_sequence_of_layers() -> None:
    generator, reference = tiny(seed=1), tiny(seed=1)
    latents, labels = torch.randn(5, 8), torch.tensor([0, 1, 2, 1, 0])
    x = reference.project(latents).reshape(5, 4, 2, 2)
    x = reference.norm0(x, labels).repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = nn.functional.leaky_relu(reference.norm1(reference.conv1(x), labels), 0.2)
    x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = nn.functional.leaky_relu(reference.norm2(reference.conv2(x), labels), 0.2)
    expected = reference.norm_image(reference.to_image(x).tanh(), labels)
    torch.testing.assert_close(generator(latents, labels), expected)
