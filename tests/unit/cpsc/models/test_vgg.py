"""VGGs with a pool behind each group, against torchvision's."""

import pytest
import torch
from torch import nn

from cpsc.models import build_model, shapes_alone
from cpsc.torchvision_cure import import_torchvision
from tests.unit.cpsc.test_recognition import CONVOLUTIONS, flat_names

pytestmark = pytest.mark.slow


def test_a_vgg_with_three_layers_computes_what_torchvisions_does_on_one_pixel() -> None:
    import_torchvision()
    from torchvision.models import vgg11_bn

    torch.manual_seed(0)
    network = build_model("vgg11_bn_4096", num_classes=7, channels=3)
    network(torch.randn(8, 3, 32, 32))
    theirs = vgg11_bn(num_classes=7)
    theirs.avgpool = nn.Identity()
    theirs.classifier[0] = nn.Linear(512, 4096)  # torchvision's takes 7x7 pixels
    theirs.load_state_dict(flat_names(network.state_dict(), CONVOLUTIONS["vgg11"]))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x).logits, theirs.eval()(x))


@pytest.mark.parametrize("arch", ["vgg11_pooled", "vgg11_bn"])
@pytest.mark.parametrize(("size", "sides"), [(32, [32, 16, 8, 4, 2]), (64, [64, 32, 16, 8, 4])])
def test_a_pooled_vgg_pools_after_all_five_groups(arch: str, size: int, sides: list[int]) -> None:
    with shapes_alone():
        network = build_model(arch, num_classes=4, channels=3)
    seen: list[int] = []
    for stage in network.stages:
        stage.register_forward_hook(lambda _stage, _inputs, output: seen.append(output.shape[-1]))
    x = torch.empty(2, 3, size, size, device="meta")
    network(x)
    assert seen == sides
    assert network.maps(x).shape[-1] == sides[-1] // 2


def test_features_of_a_vgg_with_three_layers_enter_the_last_of_them() -> None:
    torch.manual_seed(0)
    network = build_model("vgg11_bn", num_classes=4, channels=1).eval()
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        features, logits = network(x)
        torch.testing.assert_close(network.classifier(network.maps(x).flatten(1)), logits)
        torch.testing.assert_close(network.classifier[6](features), logits)
    assert (features >= 0).all()
