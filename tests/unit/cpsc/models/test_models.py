import pytest
import torch
from torch import nn

from cpsc.errors import ConfigError
from cpsc.models import Output, build_model, check_arch

COUNTS = {
    "resnet18": {10: 11_173_962, 100: 11_220_132, 200: 11_271_432},
    "resnet34": {10: 21_282_122, 100: 21_328_292, 200: 21_379_592},
    "wrn_16_1": {10: 175_066, 100: 180_916, 200: 187_416},
    "wrn_16_2": {10: 691_674, 100: 703_284, 200: 716_184},
    "wrn_40_1": {10: 563_930, 100: 569_780, 200: 576_280},
    "wrn_40_2": {10: 2_243_546, 100: 2_255_156, 200: 2_268_056},
}
MEGA_MACS = {  # convolutions and linear layers, ten classes, by image side
    "resnet18": {32: 555.4, 64: 2222},
    "resnet34": {32: 1159, 64: 4638},
    "wrn_16_1": {32: 26.7, 64: 106.6},
    "wrn_16_2": {32: 101.1, 64: 404.4},
    "wrn_40_1": {32: 83.3, 64: 333.1},
    "wrn_40_2": {32: 327.6, 64: 1310},
}
BATCH_NORMS = {"resnet18": 20, "resnet34": 36, "wrn_16_1": 13, "wrn_16_2": 13, "wrn_40_1": 37, "wrn_40_2": 37}
TENSORS = {"resnet18": 122, "resnet34": 218, "wrn_16_1": 82, "wrn_16_2": 83, "wrn_40_1": 226, "wrn_40_2": 227}
FEATURES = {"resnet18": 512, "resnet34": 512, "wrn_16_1": 64, "wrn_16_2": 128, "wrn_40_1": 64, "wrn_40_2": 128}


def shapes_only(arch: str, *, num_classes: int = 10, channels: int = 3) -> nn.Module:
    with torch.device("meta"):
        return build_model(arch, num_classes=num_classes, channels=channels)


def count_macs(network: nn.Module, size: int) -> int:
    total = 0

    def add(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        per_value = module.weight[0].numel()
        total += output.numel() * per_value

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add)
    network.eval()(torch.empty(1, 3, size, size, device="meta"))
    return total


@pytest.mark.parametrize(("arch", "num_classes"), [(arch, classes) for arch in COUNTS for classes in COUNTS[arch]])
def test_parameter_counts_are_those_of_the_published_networks(arch: str, num_classes: int) -> None:
    network = shapes_only(arch, num_classes=num_classes)
    assert sum(p.numel() for p in network.parameters()) == COUNTS[arch][num_classes]


@pytest.mark.parametrize(("arch", "size"), [(arch, size) for arch in MEGA_MACS for size in MEGA_MACS[arch]])
def test_multiply_adds_are_those_of_the_published_networks(arch: str, size: int) -> None:
    assert count_macs(shapes_only(arch), size) / 1e6 == pytest.approx(MEGA_MACS[arch][size], rel=2e-3)


@pytest.mark.parametrize("arch", COUNTS)
def test_networks_have_the_published_numbers_of_batch_norms_and_state_tensors(arch: str) -> None:
    network = shapes_only(arch)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == BATCH_NORMS[arch]
    assert len(network.state_dict()) == TENSORS[arch]


@pytest.mark.parametrize(
    ("arch", "present", "absent"),
    [
        (
            "resnet18",
            [
                "conv1.weight",
                "bn1.running_mean",
                "layer1.0.conv1.weight",
                "layer4.1.bn2.bias",
                "layer2.0.shortcut.0.weight",
                "linear.bias",
            ],
            ["layer1.0.shortcut.0.weight", "layer3.2.conv1.weight", "fc.weight"],
        ),
        (
            "resnet34",
            ["layer1.2.conv1.weight", "layer3.5.bn2.num_batches_tracked", "layer4.2.conv2.weight"],
            ["layer3.6.conv1.weight"],
        ),
        (
            "wrn_16_2",
            [
                "block1.layer.0.bn1.weight",
                "block1.layer.0.convShortcut.weight",
                "block3.layer.1.conv2.weight",
                "bn1.running_var",
                "fc.bias",
            ],
            ["block1.layer.1.convShortcut.weight", "block1.layer.2.conv1.weight", "linear.weight"],
        ),
        ("wrn_40_1", ["block2.layer.0.convShortcut.weight", "block3.layer.5.bn2.bias"], ["block1.layer.0.convShortcut.weight"]),
    ],
)
def test_state_dict_keys_are_those_of_the_published_checkpoints(arch: str, present: list[str], absent: list[str]) -> None:
    keys = shapes_only(arch).state_dict().keys()
    assert set(present) <= keys
    assert not set(absent) & keys


@pytest.mark.parametrize("arch", FEATURES)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (3, 64), (1, 16)])
def test_output_holds_features_of_the_promised_width_and_a_logit_per_class(arch: str, channels: int, size: int) -> None:
    network = shapes_only(arch, num_classes=7, channels=channels)
    output = network(torch.empty(2, channels, size, size, device="meta"))
    assert isinstance(output, Output)
    assert output.features.shape == (2, FEATURES[arch])
    assert output.logits.shape == (2, 7)
    assert network.feature_dim == FEATURES[arch]


@pytest.mark.parametrize(("arch", "classifier"), [("resnet18", "linear"), ("wrn_10_1", "fc")])
def test_logits_are_the_classifier_applied_to_the_unnormalised_features(arch: str, classifier: str) -> None:
    torch.manual_seed(0)
    network = build_model(arch, num_classes=4, channels=1).eval()
    with torch.no_grad():
        features, logits = network(torch.randn(3, 1, 8, 8))
        torch.testing.assert_close(getattr(network, classifier)(features), logits)
    assert not torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-3)


def test_features_of_a_wide_network_are_the_average_of_the_last_rectified_map() -> None:
    torch.manual_seed(0)
    network = build_model("wrn_10_1", num_classes=4, channels=1).eval()
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        last = network.bn1(network.block3(network.block2(network.block1(network.conv1(x))))).relu()
        torch.testing.assert_close(network(x).features, last.mean(dim=(2, 3)))


def test_a_wide_block_projects_the_pre_activated_tensor_and_passes_an_unchanged_width_through() -> None:
    torch.manual_seed(0)
    network = build_model("wrn_16_2", num_classes=4, channels=1).eval()
    with torch.no_grad():
        for index, in_channels in ((0, 16), (1, 32)):
            block = network.block1.layer[index]
            for norm in (block.bn1, block.bn2):
                norm.running_mean.uniform_(-0.5, 0.5)
                norm.running_var.uniform_(0.5, 2.0)
            x = torch.randn(2, in_channels, 4, 4)
            activated = block.bn1(x).relu()
            shortcut = block.convShortcut(activated) if index == 0 else x
            expected = block.conv2(block.bn2(block.conv1(activated)).relu()) + shortcut
            torch.testing.assert_close(block(x), expected)


def test_wide_networks_start_with_fan_out_scaled_convolutions_and_no_classifier_bias() -> None:
    torch.manual_seed(0)
    network = build_model("wrn_16_2", num_classes=4, channels=1)
    weight = network.block3.layer[1].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert torch.equal(network.fc.bias, torch.zeros(4))


@pytest.mark.parametrize("arch", ["wrn_15_1", "wrn_4_1", "wrn_16_0"])
def test_a_wide_network_of_impossible_depth_or_width_is_refused(arch: str) -> None:
    with pytest.raises(ConfigError, match=rf"arch '{arch}': depth must be 6n \+ 4"):
        check_arch(arch)


@pytest.mark.parametrize("arch", ["resnet50", "", "wrn_16", "wrn_16_2_1", "WRN_16_2", "wrn_-16_2"])
def test_an_unknown_network_is_refused_by_name(arch: str) -> None:
    with pytest.raises(ConfigError, match="unknown network"):
        build_model(arch, num_classes=10, channels=3)
