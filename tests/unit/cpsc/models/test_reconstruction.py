"""A student made out of its teacher: which channels it has, and that each layer does what least squares can."""

import pytest
import torch
from torch import Tensor, nn

from cpsc.errors import ConfigError
from cpsc.models import build_model
from cpsc.models.reconstruction import Reconstruction
from cpsc.models.reconstruction.least_squares import fit, most_explaining


def images(number: int = 24, *, seed: int = 0) -> Tensor:
    return torch.randn(number, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def trained(arch: str, *, seed: int = 0) -> nn.Module:
    """Of weights that were drawn, with norms that have seen images and are no two alike."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model(arch, num_classes=4, channels=1)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
        for _ in range(30):
            network(torch.randn(16, 1, 8, 8))
    return network.eval()


def unexplained(student: nn.Module, teacher: nn.Module, seen: Tensor) -> float:
    """Of the variance of the teacher's logits."""
    with torch.no_grad():
        own, wanted = student.eval()(seen).logits, teacher(seen).logits
    return ((own - wanted).square().mean() / wanted.var(dim=0).mean()).item()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_fitted_to_what_another_makes_of_the_same_images(bias: bool, stride: int) -> None:
    torch.manual_seed(0)
    other, own = (nn.Conv2d(3, 5, 3, stride=stride, padding=1, bias=bias) for _ in range(2))
    seen = torch.randn(40, 3, 8, 8)
    with torch.no_grad():
        fit(own, seen, other(seen))
    torch.testing.assert_close(own.weight, other.weight, atol=5e-3, rtol=0)
    if bias:
        torch.testing.assert_close(own.bias, other.bias, atol=5e-3, rtol=0)


def test_a_layer_that_cannot_do_all_does_what_least_squares_can() -> None:
    torch.manual_seed(0)
    layer, inputs, wanted = nn.Linear(6, 3), torch.randn(50, 6), torch.randn(50, 3)
    with torch.no_grad():
        fit(layer, inputs, wanted)
    rows = torch.cat([inputs, torch.ones(50, 1)], dim=1)
    best = torch.linalg.lstsq(rows, wanted).solution
    torch.testing.assert_close(torch.cat([layer.weight.T, layer.bias[None]]), best, atol=5e-3, rtol=0)


def test_chosen_are_the_channels_of_which_the_others_follow() -> None:
    torch.manual_seed(0)
    basis = torch.randn(3, 500)
    channels = torch.stack([basis[0] + basis[1], basis[0], 0.01 * torch.randn(500), basis[1], basis[2], 2 * basis[2]])
    covariance, alike = torch.cov(channels), torch.ones(6)
    left = [index for index in range(6) if index not in most_explaining([covariance], [alike], 3).tolist()]
    assert 2 in left
    assert len({4, 5} & set(left)) == 1
    assert len({0, 1, 3} & set(left)) == 1


def test_a_channel_that_no_reader_uses_is_not_chosen_and_each_reader_has_a_say() -> None:
    covariance = torch.diag(torch.tensor([9.0, 1.0, 1.0, 4.0]))
    assert most_explaining([covariance], [torch.tensor([0.0, 1.0, 1.0, 1.0])], 1).tolist() == [3]
    first, second = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1e-3, 0.0])
    assert most_explaining([covariance, covariance], [first, second], 2).tolist() == [0, 2]


@pytest.mark.parametrize("arch", ["wrn_10_1", "wrn_16_1", "resnet8_b", "resnet8x4", "wrn_10_1_gn"])
def test_a_network_made_out_of_its_equal_answers_alike(arch: str) -> None:
    teacher, student = trained(arch), trained(arch, seed=1)
    stages = Reconstruction(student, teacher).run(images(600))
    assert [channels.tolist() for channels in stages] == [list(range(len(channels))) for channels in stages]
    assert unexplained(student, teacher, images(seed=5)) < 0.02


@pytest.mark.parametrize(
    ("large", "small"),
    [
        ("wrn_10_2", "wrn_10_1"),
        ("wrn_16_2", "wrn_10_1"),
        ("wrn_16_1", "wrn_10_1"),
        ("resnet14_b", "resnet8_b"),
        ("resnet8x4", "resnet8_b"),
    ],
)
def test_a_smaller_network_begins_far_nearer_than_one_that_has_only_its_last_layer_fitted(large: str, small: str) -> None:
    teacher, student, drawn = trained(large), trained(small, seed=1), trained(small, seed=1)
    stages = Reconstruction(student, teacher).run(images(600))
    with torch.no_grad():
        last = next(module for module in reversed(list(drawn.modules())) if isinstance(module, nn.Linear))
        fit(last, drawn(images(600)).features, teacher(images(600)).logits)
    assert unexplained(student, teacher, images(seed=5)) < 0.85 * unexplained(drawn, teacher, images(seed=5))
    assert all(len(channels) == len(channels.unique()) for channels in stages)


def test_what_a_stage_computes_is_near_the_teachers_in_the_channels_that_are_told() -> None:
    teacher, student = trained("wrn_10_2"), trained("wrn_10_1", seed=1)
    stages = Reconstruction(student, teacher).run(images(600))
    seen = images(seed=5)
    with torch.no_grad():
        own, wanted = student.block1(student.conv1(seen)), teacher.block1(teacher.conv1(seen))
    assert stages[0].tolist() == sorted(stages[0].tolist())
    matched = (own - wanted[:, stages[0]]).square().mean()
    others = [index for index in range(32) if index not in stages[0].tolist()]
    assert matched < 0.5 * (own - wanted[:, others]).square().mean()


def test_a_student_that_was_training_still_is_and_its_norms_have_the_teachers_statistics() -> None:
    teacher, student = trained("wrn_10_2"), build_model("wrn_10_1", num_classes=4, channels=1).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    (_, _, last) = Reconstruction(student, teacher).run(images())
    assert student.training
    assert torch.equal(student.bn1.running_var, teacher.bn1.running_var[last])
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("large", "small", "reason"),
    [
        ("wrn_10_1", "wrn_10_2", "the teacher has no block1.layer.0.convShortcut"),
        ("wrn_10_1", "wrn_16_1", "the teacher has no block1.layer.1"),
        ("resnet18", "wrn_10_1", "the teacher has no"),
        ("resnet14", "resnet8", "layer2.0.shortcut"),
        ("vgg11", "vgg8", "Vgg has no fixed order of layers"),
        ("mobilenet_v2", "mobilenet_v2", "grouped convolution"),
        ("wrn_10_2_gn", "wrn_10_1", "block1.layer.0.bn1 is BatchNorm2d"),
    ],
)
def test_what_cannot_be_made_of_its_teacher_is_refused_in_one_line(large: str, small: str, reason: str) -> None:
    teacher, student = (build_model(arch, num_classes=4, channels=1) for arch in (large, small))
    with pytest.raises(ConfigError, match=r"student\.initial") as refused:
        Reconstruction(student, teacher)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
