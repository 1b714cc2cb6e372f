"""ResNets of bottleneck blocks, against torchvision's."""

import pytest
import torch
from torch import nn

from cpsc.cost import count_macs
from cpsc.models import build_model, shapes_alone
from cpsc.torchvision_cure import import_torchvision

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("arch", ["resnet50", "resnet50-max_pool"])
def test_a_resnet_of_bottlenecks_computes_what_torchvisions_does_with_a_small_stem(arch: str) -> None:
    import_torchvision()
    from torchvision.models import resnet50

    torch.manual_seed(0)
    network = build_model(arch, num_classes=7, channels=3)
    network(torch.randn(8, 3, 16, 16))
    theirs = resnet50(num_classes=7)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    if arch == "resnet50":
        theirs.maxpool = nn.Identity()
    names = {name: name.replace("shortcut", "downsample").replace("linear.", "fc.") for name in network.state_dict()}
    theirs.load_state_dict({names[name]: tensor for name, tensor in network.state_dict().items()})
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x).logits, theirs.eval()(x))


def test_a_stride_in_the_first_convolution_leaves_the_second_less_to_compute() -> None:
    with shapes_alone():
        usual, early = (build_model(arch, num_classes=7, channels=3) for arch in ("resnet50", "resnet50-stride_in_1x1"))
    assert [usual.layer2[0].conv1.stride, usual.layer2[0].conv2.stride] == [(1, 1), (2, 2)]
    assert [early.layer2[0].conv1.stride, early.layer2[0].conv2.stride] == [(2, 2), (1, 1)]
    assert usual.layer2[0].shortcut[0].stride == early.layer2[0].shortcut[0].stride == (2, 2)
    assert count_macs(early, 3, 32) < count_macs(usual, 3, 32)
