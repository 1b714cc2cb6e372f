"""ShuffleNet-v2 against torchvision's."""

import pytest
import torch
from torch import nn

from cpsc.models import build_model
from cpsc.models.shufflenet import _shuffled
from cpsc.torchvision_cure import import_torchvision

pytestmark = pytest.mark.slow


def test_it_computes_what_torchvisions_does_with_a_stem_of_stride_1_and_no_pool() -> None:
    import_torchvision()
    from torchvision.models import shufflenet_v2_x1_0

    torch.manual_seed(0)
    network = build_model("shufflenet_v2", num_classes=7, channels=3)
    network(torch.randn(8, 3, 16, 16))
    theirs = shufflenet_v2_x1_0(num_classes=7)
    theirs.conv1[0].stride = (1, 1)
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
