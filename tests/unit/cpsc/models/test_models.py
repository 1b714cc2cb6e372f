from itertools import combinations

import pytest
import torch
from torch import nn

from cpsc.cost import count_macs, count_parameters
from cpsc.errors import ConfigError
from cpsc.models import VARIANTS, Output, build_model, check_arch, named_variant, recipe_of, shapes_alone, variants_of
from cpsc.statistics import StatisticsRecorder
from cpsc.torchvision_cure import import_torchvision
from tests.unit.cpsc.models.published_keys import published_keys

pytestmark = pytest.mark.slow  # every network of the registry computes
SHUFFLENETS = ("shufflenet_v2", "shufflenet_v2_1x1", "shufflenet_v2_x0_5", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0")
COUNTS = {
    "resnet18": {10: 11_173_962, 100: 11_220_132, 200: 11_271_432},
    "resnet34": {10: 21_282_122, 100: 21_328_292, 200: 21_379_592},
    "resnet50": {10: 23_520_842, 100: 23_705_252, 200: 23_910_152},  # torchvision's 25,557,032 but for stem and classes
    # He et al. 2016, table 6: 0.27 M, 0.85 M and 1.7 M; CRD's README: 1.23 M and 7.43 M for 100 classes
    "resnet20": {10: 269_722, 100: 275_572, 200: 282_072},
    "resnet20_b": {10: 272_474, 100: 278_324, 200: 284_824},
    "resnet56_b": {10: 855_770, 100: 861_620, 200: 868_120},
    "resnet110": {10: 1_727_962, 100: 1_733_812, 200: 1_740_312},
    "resnet8x4": {10: 1_210_410, 100: 1_233_540, 200: 1_259_240},
    "resnet32x4": {10: 7_410_730, 100: 7_433_860, 200: 7_459_560},
    "vgg11": {10: 9_231_114, 100: 9_277_284, 200: 9_328_584},
    "vgg8": {10: 3_918_858, 100: 3_965_028, 200: 4_016_328},  # CRD: 3.97 M for 100 classes
    "vgg13": {10: 9_416_010, 100: 9_462_180, 200: 9_513_480},  # 9,410,880 in torchvision's convolutions; CRD: 9.46 M
    "vgg16": {10: 14_728_266, 100: 14_774_436, 200: 14_825_736},
    "vgg19_pooled": {10: 20_040_522, 100: 20_086_692, 200: 20_137_992},
    "vgg16_bn": {10: 15_253_578, 100: 15_299_748, 200: 15_351_048},  # chenyaofo's pytorch-cifar-models: 15.25 M
    "vgg11_bn_4096": {10: 28_149_514, 100: 28_518_244, 200: 28_927_944},  # huyvnphan's PyTorch_CIFAR10: 28.150 M
    "wrn_16_1": {10: 175_066, 100: 180_916, 200: 187_416},
    "wrn_16_2": {10: 691_674, 100: 703_284, 200: 716_184},
    "wrn_40_1": {10: 563_930, 100: 569_780, 200: 576_280},
    "wrn_40_2": {10: 2_243_546, 100: 2_255_156, 200: 2_268_056},
    "mobilenet_v2": {10: 2_236_682, 100: 2_351_972, 200: 2_480_072},
    "shufflenet_v2": {10: 1_263_854, 100: 1_356_104, 200: 1_458_604},  # torchvision's 2,278,604 but for the classes
    "shufflenet_v2_1x1": {10: 1_263_278, 100: 1_355_528, 200: 1_458_028},  # CRD's: 576 less in the stem, 1.36 M
    # torchvision's 1,366,792, 3,503,624 and 7,393,996 but for the classes; chenyaofo's: 0.35 M, 2.49 M, 5.37 M
    "shufflenet_v2_x0_5": {10: 352_042, 100: 444_292, 200: 546_792},
    "shufflenet_v2_x1_5": {10: 2_488_874, 100: 2_581_124, 200: 2_683_624},
    "shufflenet_v2_x2_0": {10: 5_365_486, 100: 5_549_896, 200: 5_754_796},
}
MEGA_MACS = {  # convolutions and linear layers, ten classes, by image side
    "resnet18": {32: 555.4, 64: 2222},
    "resnet34": {32: 1159, 64: 4638},
    "resnet50": {32: 1298, 64: 5191},
    "resnet20": {32: 40.55, 64: 162.2},
    "resnet20_b": {32: 40.81, 64: 163.3},  # this and the next: chenyaofo's pytorch-cifar-models
    "resnet56_b": {32: 125.75, 64: 503.0},
    "resnet110": {32: 252.9, 64: 1012},
    "resnet8x4": {32: 177.0, 64: 708.2},
    "resnet32x4": {32: 1083, 64: 4332},
    "vgg11": {32: 209.4, 64: 611.1},
    "vgg8": {32: 96.14, 64: 271.3},
    "vgg16": {32: 398.1, 64: 1253},
    "vgg16_bn": {32: 313.73, 64: 1253},  # chenyaofo's
    "wrn_16_1": {32: 26.7, 64: 106.6},
    "wrn_16_2": {32: 101.1, 64: 404.4},
    "wrn_40_1": {32: 83.3, 64: 333.1},
    "wrn_40_2": {32: 327.6, 64: 1310},
    "mobilenet_v2": {32: 24.46, 64: 97.81},
    "shufflenet_v2": {32: 45.00, 64: 179.9},  # chenyaofo's: 45.00
    "shufflenet_v2_x0_5": {32: 10.90},  # and these
    "shufflenet_v2_x1_5": {32: 94.26},
    "shufflenet_v2_x2_0": {32: 187.81},
}
BATCH_NORMS = {
    "resnet18": 20,
    "resnet34": 36,
    "resnet50": 53,
    "resnet20": 19,
    "resnet20_b": 21,
    "resnet56_b": 57,
    "resnet110": 109,
    "resnet8x4": 10,
    "resnet32x4": 34,
    "vgg11": 8,
    "vgg8": 5,
    "vgg13": 10,
    "vgg16": 13,
    "vgg19_pooled": 16,
    "vgg16_bn": 13,
    "vgg11_bn_4096": 8,
    "wrn_16_1": 13,
    "wrn_16_2": 13,
    "wrn_40_1": 37,
    "wrn_40_2": 37,
    "mobilenet_v2": 52,
    **dict.fromkeys(SHUFFLENETS, 56),
}
TENSORS = {
    "resnet18": 122,
    "resnet34": 218,
    "resnet50": 320,
    "resnet20": 116,
    "resnet20_b": 128,
    "resnet56_b": 344,
    "resnet110": 656,
    "resnet8x4": 62,
    "resnet32x4": 206,
    "vgg11": 58,
    "vgg8": 37,
    "vgg13": 72,
    "vgg16": 93,
    "vgg19_pooled": 114,
    "vgg16_bn": 97,
    "vgg11_bn_4096": 62,
    "wrn_16_1": 82,
    "wrn_16_2": 83,
    "wrn_40_1": 226,
    "wrn_40_2": 227,
    "mobilenet_v2": 314,
    **dict.fromkeys(SHUFFLENETS, 338),
}
FEATURES = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet20": 64,
    "resnet20_b": 64,
    "resnet56_b": 64,
    "resnet110": 64,
    "resnet8x4": 256,
    "resnet32x4": 256,
    "vgg11": 512,
    "vgg8": 512,
    "vgg13": 512,
    "vgg16": 512,
    "vgg19_pooled": 512,
    "vgg16_bn": 512,
    "vgg11_bn_4096": 4096,
    "wrn_16_1": 64,
    "wrn_16_2": 128,
    "wrn_40_1": 64,
    "wrn_40_2": 128,
    "mobilenet_v2": 1280,
    **dict.fromkeys(SHUFFLENETS, 1024),
    "shufflenet_v2_x2_0": 2048,
}

STAGES = {
    "resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "resnet34": ["layer1", "layer2", "layer3", "layer4"],
    "resnet50": ["layer1", "layer2", "layer3", "layer4"],
    **{arch: ["layer1", "layer2", "layer3"] for arch in ("resnet20", "resnet56", "resnet110", "resnet8x4", "resnet32x4")},
    **{f"vgg{depth}": ["block0", "block1", "block2", "block3", "block4"] for depth in (8, 11, 13, 16, 19)},
    "wrn": ["block1", "block2", "block3"],
    "mobilenet": [],
    "shufflenet": ["stage2", "stage3", "stage4"],
}


def shapes_only(arch: str, *, num_classes: int = 10, channels: int = 3) -> nn.Module:
    with torch.device("meta"):
        return build_model(arch, num_classes=num_classes, channels=channels)


@pytest.mark.parametrize(("arch", "num_classes"), [(arch, classes) for arch in COUNTS for classes in COUNTS[arch]])
def test_parameter_counts_are_those_of_the_published_networks(arch: str, num_classes: int) -> None:
    assert count_parameters(shapes_only(arch, num_classes=num_classes)) == COUNTS[arch][num_classes]


@pytest.mark.parametrize(("arch", "size"), [(arch, size) for arch in MEGA_MACS for size in MEGA_MACS[arch]])
def test_multiply_adds_are_those_of_the_published_networks(arch: str, size: int) -> None:
    assert count_macs(shapes_only(arch), 3, size) / 1e6 == pytest.approx(MEGA_MACS[arch][size], rel=2e-3)


@pytest.mark.parametrize("arch", COUNTS)
def test_networks_have_the_published_numbers_of_batch_norms(arch: str) -> None:
    network = shapes_only(arch)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == BATCH_NORMS[arch]
    assert len(StatisticsRecorder(network).stored) == BATCH_NORMS[arch]


@pytest.mark.parametrize("arch", COUNTS)
def test_state_dict_keys_are_those_of_the_published_checkpoints(arch: str) -> None:
    published = published_keys(arch)
    assert len(published) == len(set(published)) == TENSORS[arch]
    assert shapes_only(arch).state_dict().keys() == set(published)


@pytest.mark.parametrize("arch", COUNTS)
def test_stages_are_modules_of_the_network_and_run_in_order(arch: str) -> None:
    network = shapes_only(arch)
    ran: list[nn.Module] = []
    for stage in network.stages:
        stage.register_forward_hook(lambda stage, _inputs, _output: ran.append(stage))
    network(torch.empty(2, 3, 32, 32, device="meta"))
    assert tuple(ran) == network.stages
    names = {module: name for name, module in network.named_modules()}
    assert [names[stage] for stage in network.stages] == STAGES[arch.split("_")[0]]


@pytest.mark.parametrize("arch", FEATURES)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (3, 64), (1, 16), (1, 8), (1, 4)])
def test_output_holds_features_of_the_promised_width_and_a_logit_per_class(arch: str, channels: int, size: int) -> None:
    network = shapes_only(arch, num_classes=7, channels=channels)
    output = network(torch.empty(2, channels, size, size, device="meta"))
    assert isinstance(output, Output)
    assert output.features.shape == (2, FEATURES[arch])
    assert output.logits.shape == (2, 7)
    assert network.feature_dim == FEATURES[arch]


@pytest.mark.parametrize(
    ("arch", "classifier"),
    [("resnet18", "linear"), ("vgg11", "classifier"), ("wrn_10_1", "fc"), ("mobilenet_v2", "classifier")],
)
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


@pytest.mark.parametrize("arch", ["resnet21", "alexnet", "", "wrn_16", "wrn_16_2_1", "WRN_16_2", "wrn_-16_2"])
def test_an_unknown_network_is_refused_by_name(arch: str) -> None:
    with pytest.raises(ConfigError, match="unknown network"):
        build_model(arch, num_classes=10, channels=3)


def test_a_name_that_is_nearly_one_is_told_what_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"arch 'resnet65': unknown network, did you mean .*resnet56"):
        check_arch("resnet65")
    with pytest.raises(
        ConfigError, match="unknown network, use wrn_<depth>_<width>, the same with _gn appended, or one of resnet18, "
    ):
        check_arch("inception")


def test_an_import_path_is_no_network_that_a_name_may_ask_for() -> None:
    with pytest.raises(ConfigError, match=r"arch 'json:loads': unknown network"):
        build_model("json:loads", num_classes=10, channels=3)
    with pytest.raises(ConfigError, match="unknown network"):
        check_arch("json:loads")


@pytest.mark.parametrize(("size", "sides"), [(32, [32, 16, 8, 4, 4]), (48, [48, 24, 12, 6, 6]), (64, [64, 32, 16, 8, 4])])
def test_vgg_pools_after_its_first_three_groups_and_after_the_fourth_for_large_images_only(size: int, sides: list[int]) -> None:
    network = shapes_only("vgg11")
    seen: list[int] = []
    for stage in network.stages:
        stage.register_forward_hook(lambda _stage, _inputs, output: seen.append(output.shape[-1]))
    network(torch.empty(2, 3, size, size, device="meta"))
    assert seen == sides


def test_features_of_vgg_are_the_average_of_the_last_group() -> None:
    torch.manual_seed(0)
    network = build_model("vgg11", num_classes=4, channels=1).eval()
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        out = x
        for index, group in enumerate(network.stages):
            out = group(out)
            out = nn.functional.max_pool2d(out, 2) if index < 3 else out
        torch.testing.assert_close(network(x).features, out.mean(dim=(2, 3)))


@pytest.mark.parametrize(("size", "side"), [(32, 2), (64, 4)])
def test_the_stem_of_mobilenet_keeps_the_size_and_four_stages_halve_it(size: int, side: int) -> None:
    network = shapes_only("mobilenet_v2")
    maps = network.features(torch.empty(1, 3, size, size, device="meta"))
    assert maps.shape == (1, 1280, side, side)
    assert network.features[0](torch.empty(1, 3, size, size, device="meta")).shape == (1, 32, size, size)


def test_an_inverted_residual_adds_its_input_only_where_the_shape_stays() -> None:
    torch.manual_seed(0)
    network = build_model("mobilenet_v2", num_classes=4, channels=1).eval()
    with torch.no_grad():
        for index, in_channels, adds in ((1, 32, False), (2, 16, False), (3, 24, True), (11, 64, False), (12, 96, True)):
            block = network.features[index]
            x = torch.randn(2, in_channels, 4, 4)
            torch.testing.assert_close(block(x), block.conv(x) + x if adds else block.conv(x))


@pytest.mark.parametrize("arch", ["mobilenet_v2", "vgg11", "vgg11_bn", "shufflenet_v2"])
def test_training_draws_nothing_from_the_global_generator(arch: str) -> None:
    network = build_model(arch, num_classes=4, channels=1).train()
    before = torch.get_rng_state()
    network(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("arch", "layer", "fan_out"), [("vgg11", "block3.3", 9 * 512), ("mobilenet_v2", "features.18.0", 1280)])
def test_vgg_and_mobilenet_start_with_fan_out_scaled_convolutions(arch: str, layer: str, fan_out: int) -> None:
    torch.manual_seed(0)
    weight = build_model(arch, num_classes=4, channels=1).get_submodule(layer).weight
    assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)


def test_mobilenet_computes_what_torchvisions_does_with_a_stem_of_stride_1() -> None:
    torch.manual_seed(0)
    network = build_model("mobilenet_v2", num_classes=4, channels=3)
    network(3 * torch.randn(4, 3, 16, 16))
    import_torchvision()
    from torchvision.models import mobilenet_v2

    theirs = mobilenet_v2(num_classes=4)
    theirs.features[0][0].stride = (1, 1)
    theirs.load_state_dict(network.state_dict())
    x = 3 * torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x).logits, theirs.eval()(x))


@pytest.mark.parametrize(
    "arch", ["resnet18", "resnet34", "resnet50", "resnet20", "resnet20_b", "vgg11", "wrn_10_1", "mobilenet_v2"]
)
def test_variants_have_the_keys_and_shapes_of_the_standard_network_and_compute_something_else(arch: str) -> None:
    torch.manual_seed(0)
    networks = {name: build_model(name, num_classes=3, channels=1) for name in variants_of(arch)}
    x = torch.randn(2, 1, 32, 32)
    for layer in networks[arch].modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the plain average, of one batch: what comes out is not all but zero
    networks[arch](x)
    state = networks[arch].state_dict()
    found = []
    for network in networks.values():
        network.load_state_dict(state)  # all names and all shapes
        with torch.no_grad():
            found.append(network.eval()(x).features)
    assert len(found) == 1 + len(VARIANTS[recipe_of(arch).kind])
    for first, second in combinations(found, 2):
        assert (first - second).norm() > 0.01 * first.norm()


def test_a_variant_is_named_after_its_network() -> None:
    assert named_variant("resnet18", "standard") == "resnet18"
    assert named_variant("resnet18", "max_pool") == "resnet18-max_pool"
    with pytest.raises(
        ConfigError, match=r"variant must be one of standard, max_pool, stem_stride_2, .* for a resnet18, got 'pool'"
    ):
        named_variant("resnet18", "pool")
    with pytest.raises(ConfigError, match="arch 'vgg11-max_pool': vgg11 has the variants four_pools"):
        check_arch("vgg11-max_pool")


@pytest.mark.parametrize("arch", ["wrn_16_2", "resnet18", "vgg11", "mobilenet_v2"])
def test_a_network_of_shapes_alone_has_the_names_shapes_and_kinds_of_the_real_one(arch: str) -> None:
    real = build_model(arch, num_classes=7, channels=3)
    rng = torch.get_rng_state()
    with shapes_alone():
        bare = build_model(arch, num_classes=7, channels=3)
    assert torch.equal(rng, torch.get_rng_state()), "nothing is drawn"
    assert {name: (value.shape, value.dtype) for name, value in bare.state_dict().items()} == {
        name: (value.shape, value.dtype) for name, value in real.state_dict().items()
    }
    assert {value.device.type for value in bare.state_dict().values()} == {"meta"}
    assert count_macs(bare, 3, 32) == count_macs(real, 3, 32)
