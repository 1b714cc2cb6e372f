"""ShuffleNet-v2 against torchvision's."""

import pytest
import torch
from torch import nn

from cpsc.models import build_model
from cpsc.models.shufflenet import _shuffled
from cpsc.torchvision_cure import import_torchvision

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("shufflenet_v2", "x1_0"),
        ("shufflenet_v2_1x1", "x1_0"),
        ("shufflenet_v2_x0_5", "x0_5"),
        ("shufflenet_v2_x1_5", "x1_5"),
        ("shufflenet_v2_x2_0", "x2_0"),
    ],
)
def test_it_computes_what_torchvisions_does_with_a_stem_of_stride_1_and_no_pool(arch: str, size: str) -> None:
    import_torchvision()
    from torchvision import models

    torch.manual_seed(0)
    network = build_model(arch, num_classes=7, channels=3)
    network(torch.randn(8, 3, 16, 16))
    theirs = getattr(models, f"shufflenet_v2_{size}")(num_classes=7)
    theirs.conv1[0] = nn.Conv2d(3, 24, 1, bias=False) if arch == "shufflenet_v2_1x1" else nn.Conv2d(3, 24, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    theirs.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x).logits, theirs.eval()(x))


def test_channels_of_both_halves_come_in_turn() -> None:
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert _shuffled(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_a_half_passes_through_a_block_of_stride_1_untouched() -> None:
    torch.manual_seed(0)
    block = build_model("shufflenet_v2", num_classes=7, channels=3).eval().get_submodule("stage2.1")
    x = torch.randn(2, 116, 4, 4)
    with torch.no_grad():
        out = block(x)
        assert torch.equal(out[:, ::2], x[:, :58])
        torch.testing.assert_close(out[:, 1::2], block.branch2(x[:, 58:]))
