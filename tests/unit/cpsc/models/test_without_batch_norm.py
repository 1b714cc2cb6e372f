"""Networks of ours without batch norm: what they are made of, and that no image changes another's answer."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cpsc.cost import count_macs, count_parameters
from cpsc.errors import ConfigError
from cpsc.models import Output, build_model, check_arch, shapes_alone, variants_of
from cpsc.models.vit import GRID, PATCH

ARCHS = ("wrn_10_1_gn", "vit_tiny")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (3, 64), (1, 16), (1, 8), (1, 4)])
def test_output_holds_features_of_the_promised_width_and_a_logit_per_class(arch: str, channels: int, size: int) -> None:
    network = build_model(arch, num_classes=7, channels=channels)
    output = network(torch.zeros(2, channels, size, size))
    assert isinstance(output, Output)
    assert output.features.shape == (2, network.feature_dim)
    assert output.logits.shape == (2, 7)


@pytest.mark.parametrize("arch", ARCHS)
def test_in_training_too_an_image_is_judged_by_itself_and_nothing_is_drawn(arch: str) -> None:
    torch.manual_seed(0)
    network = build_model(arch, num_classes=4, channels=1).train()
    images = torch.randn(3, 1, 16, 16)
    before = torch.get_rng_state()
    together, alone = network(images).logits, torch.cat([network(image[None]).logits for image in images])
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(together, alone)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    assert not dict(network.named_buffers())


@pytest.mark.parametrize(("arch", "classifier"), [("wrn_10_1_gn", "fc"), ("vit_tiny", "head")])
def test_logits_are_the_classifier_applied_to_the_features(arch: str, classifier: str) -> None:
    torch.manual_seed(0)
    network = build_model(arch, num_classes=4, channels=1).eval()
    with torch.no_grad():
        features, logits = network(torch.randn(3, 1, 8, 8))
        torch.testing.assert_close(getattr(network, classifier)(features), logits)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_network_of_shapes_alone_has_the_names_and_shapes_of_the_real_one(arch: str) -> None:
    real = build_model(arch, num_classes=7, channels=3).state_dict()
    with shapes_alone():
        bare = build_model(arch, num_classes=7, channels=3).state_dict()
    assert {name: value.shape for name, value in bare.items()} == {name: value.shape for name, value in real.items()}
    assert {value.device.type for value in bare.values()} == {"meta"}


# Group norm


def test_a_group_norm_network_is_its_namesake_with_groups_of_eight_channels() -> None:
    plain, grouped = (build_model(arch, num_classes=10, channels=3) for arch in ("wrn_16_2", "wrn_16_2_gn"))
    assert count_parameters(grouped) == count_parameters(plain)
    assert count_macs(grouped, 3, 32) == count_macs(plain, 3, 32)
    kinds = {name: module for name, module in plain.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name, norm in kinds.items():
        found = grouped.get_submodule(name)
        assert isinstance(found, nn.GroupNorm)
        assert (found.num_channels, found.num_channels // found.num_groups) == (norm.num_features, 8)


def test_stages_of_a_group_norm_network_are_those_of_its_namesake() -> None:
    network = build_model("wrn_10_1_gn", num_classes=4, channels=1)
    assert network.stages == (network.block1, network.block2, network.block3)


@pytest.mark.parametrize("arch", ["wrn_11_1_gn", "wrn_16_0_gn"])
def test_a_group_norm_network_of_impossible_depth_or_width_is_refused(arch: str) -> None:
    with pytest.raises(ConfigError, match=r"depth must be 6n \+ 4"):
        check_arch(arch)


@pytest.mark.parametrize("arch", ["wrn_16_1_bn", "wrn_16_1_", "vit"])
def test_an_unknown_network_is_told_what_there_is(arch: str) -> None:
    with pytest.raises(
        ConfigError, match=r"unknown network, use wrn_<depth>_<width>, the same with _gn appended, or one of .*vit_tiny"
    ):
        check_arch(arch)


def test_a_patch_size_is_no_part_of_the_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown network, did you mean vit_tiny\?"):
        check_arch("vit_tiny_4")


@pytest.mark.parametrize("arch", ARCHS)
def test_none_has_variants(arch: str) -> None:
    assert variants_of(arch) == (arch,)
    with pytest.raises(ConfigError, match=f"arch '{arch}-max_pool': {arch} has no variants"):
        check_arch(f"{arch}-max_pool")


# Vision transformer


def test_the_transformer_has_fewer_than_a_million_weights() -> None:
    dim, places, classes = 128, GRID**2, 10
    block = 8 * dim * dim + (3 + 1 + 2 + 1) * dim + 2 * 2 * dim  # linear layers, their biases, two norms
    ends = 3 * PATCH**2 * dim + dim + places * dim + 2 * dim + (dim + 1) * classes
    assert count_parameters(build_model("vit_tiny", num_classes=classes, channels=3)) == 6 * block + ends < 1_000_000


def test_attention_is_that_of_torchs_own_layer() -> None:
    torch.manual_seed(0)
    block = build_model("vit_tiny", num_classes=4, channels=1).blocks[0]
    theirs = nn.MultiheadAttention(128, 4, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": block.qkv.weight,
            "in_proj_bias": block.qkv.bias,
            "out_proj.weight": block.project.weight,
            "out_proj.bias": block.project.bias,
        }
    )
    x = torch.randn(2, 9, 128)
    with torch.no_grad():
        seen = block.norm1(x)
        mixed = x + theirs(seen, seen, seen, need_weights=False)[0]
        expected = mixed + block.shrink(F.gelu(block.grow(block.norm2(mixed))))
        torch.testing.assert_close(block(x), expected)


def test_the_transformer_knows_places_only_by_their_embeddings() -> None:
    torch.manual_seed(0)
    network = build_model("vit_tiny", num_classes=4, channels=1).eval()
    image = torch.randn(1, 1, 32, 32)
    moved = image.roll((PATCH, 2 * PATCH), dims=(2, 3))
    with torch.no_grad():
        assert (network(image).logits - network(moved).logits).abs().max() > 1e-4
        network.places.zero_()
        torch.testing.assert_close(network(image).logits, network(moved).logits)


def test_position_embeddings_stand_as_they_are_at_their_own_size_and_are_averaged_for_half_as_many_patches() -> None:
    torch.manual_seed(0)
    network = build_model("vit_tiny", num_classes=4, channels=1).eval()
    entered: list[torch.Tensor] = []
    network.blocks.register_forward_pre_hook(lambda _blocks, inputs: entered.append(inputs[0]))
    with torch.no_grad():
        network.patches.weight.zero_()
        network.patches.bias.zero_()
        for size in (32, 16):
            network(torch.zeros(1, 1, size, size))
        full, half = network.places.flatten(2), F.avg_pool2d(network.places, 2).flatten(2)
    torch.testing.assert_close(entered[0], full.transpose(1, 2))
    torch.testing.assert_close(entered[1], half.transpose(1, 2))
