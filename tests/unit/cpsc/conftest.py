"""Networks and data small enough to train in milliseconds: 4 classes of one-channel 8x8 images."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cpsc.config import DistillConfig, GeneratorConfig, ScheduleConfig, StudentConfig
from cpsc.data.dataset import Dataset, Normalisation, Split
from cpsc.methods import config_class
from cpsc.models import build_model
from cpsc.probe import ProbeSet
from cpsc.teacher import Teacher

CLASSES = ("bar", "cross", "dot", "frame")
CHANNELS = 1
SIZE = 8
NORMALISATION = Normalisation(mean=(0.4,), std=(0.3,))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on more threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_teacher() -> Callable[..., Teacher]:
    """Builds an untrained teacher whose batch norms have seen images."""

    def make(arch: str = "wrn_10_1", *, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Teacher:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_model(arch, num_classes=len(classes), channels=CHANNELS)
            for _ in range(20):
                network(torch.randn(16, CHANNELS, SIZE, SIZE))
        return Teacher(
            arch=arch,
            class_names=classes,
            channels=CHANNELS,
            image_size=SIZE,
            normalisation=NORMALISATION,
            dataset="shapes",
            test_accuracy=0.5,
            state={name: tensor.clone() for name, tensor in network.state_dict().items()},
        )

    return make


@pytest.fixture(scope="session")
def teacher(make_teacher: Callable[..., Teacher]) -> Teacher:
    return make_teacher()


@pytest.fixture(scope="session")
def config() -> DistillConfig:
    """A run of four epochs that crosses warm-up and a milestone."""
    return config_class("cpsc")(
        epochs=4,
        seed=3,
        student=StudentConfig(arch="wrn_10_1", warmup_epochs=1),
        generator=GeneratorConfig(latent_dim=8, width=4, milestones=(1, 3)),
        schedule=ScheduleConfig(iterations=2, generator_steps=2, student_steps=2, batch_size=8),
        precision="fp32",
    )


@pytest.fixture(scope="session")
def vary(config: DistillConfig) -> Callable[..., DistillConfig]:
    """The tiny config with some fields changed: ``vary(epochs=2, weights={"kl": 0.0})``."""

    def change(**changes: Any) -> DistillConfig:
        fields = {
            name: replace(getattr(config, name), **value) if isinstance(value, Mapping) else value
            for name, value in changes.items()
        }
        return replace(config, **fields)

    return change


@pytest.fixture(scope="session")
def make_probe() -> Callable[[Teacher], ProbeSet]:
    """Random images said to be made from a teacher: enough to compare students on."""

    def make(teacher: Teacher) -> ProbeSet:
        rng = torch.Generator().manual_seed(5)
        images = torch.randint(0, 256, (24, CHANNELS, SIZE, SIZE), generator=rng, dtype=torch.uint8)
        labels = torch.arange(24) % teacher.num_classes
        return ProbeSet(images=images, labels=labels, teacher_digest=teacher.digest, teacher_accuracy=0.5)

    return make


@pytest.fixture(scope="session")
def probe(make_probe: Callable[[Teacher], ProbeSet], teacher: Teacher) -> ProbeSet:
    return make_probe(teacher)


@pytest.fixture(scope="session")
def shapes() -> Dataset:
    """A learnable dataset: one pattern per class under noise."""
    rng = torch.Generator().manual_seed(11)
    patterns = torch.randint(0, 2, (len(CLASSES), CHANNELS, SIZE, SIZE), generator=rng) * 160.0

    def split(num_images: int) -> Split:
        labels = torch.arange(num_images) % len(CLASSES)
        noise = torch.rand(num_images, CHANNELS, SIZE, SIZE, generator=rng) * 90.0
        return Split((patterns[labels] + noise).to(torch.uint8), labels)

    return Dataset(
        name="shapes",
        train=split(64),
        test=split(32),
        class_names=CLASSES,
        normalisation=NORMALISATION,
        crop_padding=1,
        flip=False,
    )


@pytest.fixture(scope="session")
def real_images(shapes: Dataset) -> Split:
    return shapes.test


@pytest.fixture
def unit_features() -> Callable[..., Tensor]:
    """Draws unit vectors [B, d] from a seed."""

    def draw(num_rows: int, dim: int, *, seed: int) -> Tensor:
        features = torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return torch.nn.functional.normalize(features, dim=1)

    return draw
