"""One channel of 28x28 pixels, as MNIST has them, from a stranger's weights to a distilled student."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cpsc.config import GeneratorConfig
from cpsc.distiller import Distiller
from cpsc.errors import CheckpointError, ConfigError
from cpsc.generator import FAMILIES, build_generator
from cpsc.methods import METHODS
from cpsc.models import build_model, check_image_size, shapes_alone
from cpsc.models.names import NETWORKS
from cpsc.probe import ProbeSet
from cpsc.published import NORMALISATIONS, PublishedConfig, load_teacher
from cpsc.teacher import Teacher
from tests.support.configs import config_of, laid
from tests.unit.cpsc.foreign_files import saved
from tests.unit.cpsc.test_method_contract import SMALL_PARTS

SIZE = 28
MNIST = PublishedConfig(normalisation="mnist", image_size=SIZE)
SMALL = {
    "epochs": 1,
    "schedule": {"iterations": 1, "batch_size": 8, "generator_warmup_epochs": 0},
    "generator": {"width": 8, "latent_dim": 8, "milestones": ()},
    "precision": "fp32",
}


@pytest.fixture
def teacher_of(tmp_path: Path) -> Callable[[str], Teacher]:
    def make(arch: str) -> Teacher:
        torch.manual_seed(0)
        network = build_model(arch, num_classes=10, channels=1)
        for _ in range(20):
            network(torch.randn(16, 1, SIZE, SIZE))
        return load_teacher(saved(network.state_dict(), tmp_path / f"{arch}.pth"), MNIST)

    return make


def probe_of(teacher: Teacher) -> ProbeSet:
    """Random images said to be made from it."""
    images = torch.randint(0, 256, (20, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return ProbeSet(images=images, labels=torch.arange(20) % 10, teacher_digest=teacher.digest, teacher_accuracy=0.5)


@pytest.mark.parametrize(
    ("arch", "student", "method", "replay"),
    [
        ("lenet5", "lenet5_half", "cpsc", "none"),
        ("lenet5", "wrn_10_1", "dafl", "none"),
        ("wrn_10_1", "lenet5", "dafl", "none"),
        ("wrn_10_1", "wrn_10_1", "cpsc", "vae"),
    ],
)
def test_a_student_is_distilled_from_a_teacher_of_grey_images(
    arch: str, student: str, method: str, replay: str, teacher_of: Callable[[str], Teacher]
) -> None:
    teacher = teacher_of(arch)
    assert (teacher.channels, teacher.image_size, teacher.normalisation) == (1, SIZE, NORMALISATIONS["mnist"])
    settings = {**SMALL, "method": method, "student": {"arch": student, "warmup_epochs": 0}, "replay": {"kind": replay}}
    without_norms = {"weights.batch_statistics": 0.0} if arch == "lenet5" and method == "cpsc" else {}
    distiller = Distiller(config_of(settings, without_norms), teacher, probe=probe_of(teacher))
    before = {name: tensor.clone() for name, tensor in distiller.student.state_dict().items()}
    metrics = distiller.run_epoch()
    assert all(map(math.isfinite, metrics.values()))
    assert 0.0 <= metrics["probe_agreement"] <= 1.0
    assert any(not torch.equal(tensor, before[name]) for name, tensor in distiller.student.state_dict().items())
    assert distiller.draw_images(4, part=0, num_parts=1).shape == (4, 1, SIZE, SIZE)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_grey_images_of_28_pixels(method: str, teacher_of: Callable[[str], Teacher]) -> None:
    own = laid({**SMALL, "method": method, "student": {"arch": "wrn_10_1", "warmup_epochs": 0}}, SMALL_PARTS.get(method, {}))
    steps = {"generator_steps": 2, "student_steps": 2, "generator_warmup_epochs": 0}
    distiller = Distiller(config_of(laid(own, {"schedule": steps})), teacher_of("wrn_10_1"))
    assert all(map(math.isfinite, distiller.run_epoch().values()))
    images = distiller.draw_images(4, part=0, num_parts=1)
    assert (images.shape, images.dtype) == ((4, 1, SIZE, SIZE), torch.uint8)


@pytest.mark.parametrize("initial", ["selected", "auto"])
def test_half_a_lenet_begins_with_weights_of_the_whole(initial: str, teacher_of: Callable[[str], Teacher]) -> None:
    teacher = teacher_of("lenet5")
    settings = {**SMALL, "method": "dafl", "student": {"arch": "lenet5_half", "warmup_epochs": 0, "initial": initial}}
    weight = Distiller(config_of(settings), teacher).student.conv1.weight
    chosen = [any(torch.equal(row, whole) for whole in teacher.state["conv1.weight"]) for row in weight]
    assert chosen == [True] * 3


@pytest.mark.parametrize("arch", [*NETWORKS, "wrn_16_2", "wrn_10_1_gn"])
def test_every_network_takes_one_channel_of_28_pixels(arch: str) -> None:
    with shapes_alone():
        network = build_model(arch, num_classes=10, channels=1)
    check_image_size(arch, SIZE)
    assert network(torch.empty(2, 1, SIZE, SIZE, device="meta")).logits.shape == (2, 10)


@pytest.mark.parametrize("family", ["conditional", *(name for name in FAMILIES if name != "pre_decoder")])
def test_every_generator_makes_28_pixels_and_refuses_what_no_doubling_leads_to(family: str) -> None:
    config = GeneratorConfig(family=family, width=8, latent_dim=8)
    size = {"num_classes": 10, "channels": 1, "normalisation": NORMALISATIONS["mnist"]}
    images = build_generator(config, image_size=SIZE, **size)(torch.randn(4, 8), torch.zeros(4, dtype=torch.int64))
    assert images.shape == (4, 1, SIZE, SIZE)
    with pytest.raises(ConfigError, match="image size must be a multiple of 4 for the generator, got 30"):
        build_generator(config, image_size=30, **size)


def test_mnists_constants_are_of_one_channel(tmp_path: Path) -> None:
    path = saved(build_model("wrn_10_1", num_classes=10, channels=3).state_dict(), tmp_path / "colour.pth")
    with pytest.raises(CheckpointError, match="normalisation has 1 channels, but the network takes 3"):
        load_teacher(path, MNIST)
