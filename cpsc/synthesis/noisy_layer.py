"""Images of a generator whose randomness comes from a separate layer that is redrawn for each batch: NAYER."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cpsc.config import DistillConfig
from cpsc.device import place
from cpsc.errors import ConfigError
from cpsc.generator import FAMILIES, Generator, initialise
from cpsc.kinds import of_stated_kinds
from cpsc.rng import seeded_init
from cpsc.rules import FORBID_UNKNOWN, below_one, changed_fields, positive, require
from cpsc.synthesis.base import Stateful
from cpsc.synthesis.class_inputs import Kind, class_inputs
from cpsc.synthesis.class_vectors import SETTING, content_digest
from cpsc.synthesis.inverted import AbstractGeneratorInversion
from cpsc.teacher import Teacher

FAMILY = replace(FAMILIES["small"], normal_init=None)
"""CMI's small generator, with PyTorch's default initial weights."""


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("noisy_layer")
class NoisyLayerConfig:
    """A generator with noisy layers: NAYER. Tran et al. 2024 (arXiv:2310.00258)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    class_inputs: Kind = "teacher"
    """The vectors that tell the generator which class an image is made for. The paper uses text embeddings of the class names, for
    which an encoder would have to be downloaded. The rows of the teacher's classifier are available, and reflect which classes the
    teacher considers similar."""
    file: str | None = None
    """With `class_inputs: file`: path of the vectors, [C, d] as .npy, .pt or .safetensors, on every machine that runs trials."""
    life: int = 10
    """Epochs after which the generator is redrawn. The published code also counts them from the end of the warm-up, which is the
    same if they divide it."""
    statistics_momentum: float = 0.9
    """Weight of earlier turns in the batch-norm statistics that are compared: see `cpsc.memory.StatisticsMemory`."""

    def __post_init__(self) -> None:
        named = self.class_inputs != "file" or bool(self.file)
        require(named, "noisy_layer.file", self.file, "the path of a file with noisy_layer.class_inputs file")
        positive("noisy_layer.life", self.life)
        below_one("noisy_layer.statistics_momentum", self.statistics_momentum)


class NoisyLayers(nn.Module):
    """Parallel linear layers d -> h, one for each block of `block` rows; whenever drawn, weights are N(0, 1) and biases 0.

    The rows of a block share a layer: if each class occurs once per block, classes differ only by input, blocks only by layer.
    """

    def __init__(self, *, num_rows: int, block: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.block = block
        number = -(-num_rows // block)
        self.weight = nn.Parameter(torch.zeros(number, in_dim, out_dim))
        self.bias = nn.Parameter(torch.zeros(number, 1, out_dim))

    @torch.no_grad()
    def draw(self, rng: torch.Generator) -> None:
        """Redraw all layers."""
        self.weight.normal_(generator=rng)
        self.bias.zero_()

    def forward(self, rows: Tensor) -> Tensor:
        """[B, d] -> [B, h]."""
        number = len(self.weight)
        blocks = nn.functional.pad(rows, (0, 0, 0, number * self.block - len(rows))).unflatten(0, (number, self.block))
        return torch.baddbmm(self.bias, blocks, self.weight).flatten(0, 1)[: len(rows)]


class Lasting(nn.Module):
    """The parts of a noisy-layer generator that are kept across batches: the norm before the noisy layers, and all after them."""

    def __init__(self, norm: nn.BatchNorm1d, body: Generator) -> None:
        super().__init__()
        self.norm = norm
        self.body = body


class NoisyLayerGenerator(nn.Module):
    """Labels [B] -> pixels in [0, 1], [B, K, H, H]: a class's input, batch norm over the batch, a noisy layer, a generator.

    `inputs`: [C, d]. `latent_dim`: output size of the noisy layers. NAYER, Tran et al. 2024 (arXiv:2310.00258), sec. 3.
    """

    def __init__(self, inputs: Tensor, body: Generator, *, batch_size: int, latent_dim: int) -> None:
        super().__init__()
        num_classes, dim = inputs.shape
        self.register_buffer("inputs", inputs, persistent=False)
        self.inputs: Tensor
        self.noisy = NoisyLayers(num_rows=batch_size, block=num_classes, in_dim=dim, out_dim=latent_dim)
        self.lasting = Lasting(nn.BatchNorm1d(dim), body)

    def forward(self, labels: Tensor) -> Tensor:
        """[B], with as many rows as this was built for -> [B, K, H, H]."""
        return self.lasting.body.raw(self.noisy(self.lasting.norm(self.inputs[labels])))


class InvertedByNoisyLayer(AbstractGeneratorInversion):
    """Each batch is made by its own noisy layers and a generator that is kept until its life is over: NAYER, alg. 1.

    The labels of a batch are complete rounds of all classes, one per block of rows; the remaining rows get random classes.
    """

    PIXEL_FAMILIES = ("small",)

    def _set_up(self) -> None:
        super()._set_up()
        config = self._config
        settings = config.section(NoisyLayerConfig)
        with seeded_init(config.seed, "generator"):
            generator = NoisyLayerGenerator(
                class_inputs(settings.class_inputs, self._teacher, seed=config.seed, file=settings.file),
                self._new_generator(FAMILY),
                batch_size=config.schedule.batch_size,
                latent_dim=config.generator.latent_dim,
            )
        self._template = copy.deepcopy(generator.lasting)  # on the CPU, where the same seed draws the same weights for every device
        self._generator: NoisyLayerGenerator = generator
        place(self._generator, self._device).train().requires_grad_(False)
        self._life = settings.life

    @classmethod
    def check(cls, config: DistillConfig) -> None:
        if "labels" in changed_fields(config.inversion):
            raise ConfigError(f"inversion.labels must be left out for method {config.method}, which uses all classes in turn")
        super().check(config)

    @classmethod
    def check_teacher(cls, config: DistillConfig, teacher: Teacher) -> None:
        settings = config.section(NoisyLayerConfig)
        class_inputs(settings.class_inputs, teacher, seed=config.seed, file=settings.file)

    @classmethod
    def contents(cls, config: DistillConfig) -> Mapping[str, str]:
        settings = config.section(NoisyLayerConfig)
        return {SETTING: content_digest(Path(settings.file))} if settings.class_inputs == "file" and settings.file else {}

    @property
    def _makers(self) -> tuple[nn.Module, ...]:
        return (self._generator,)

    def begin_epoch(self, epoch: int, *, lr: float) -> None:
        super().begin_epoch(epoch, lr=lr)
        if epoch > 1 and (epoch - 1) % self._life == 0:
            self._draw_generator()

    def parts(self) -> Mapping[str, Stateful]:
        return {**super().parts(), "generator": self._generator.lasting}

    def _restart(self) -> None:
        self._generator.noisy.draw(self._latent_rng)

    def _pixels(self) -> Tensor:
        pixels: Tensor = self._generator(self._labels)
        return pixels

    def _draw_labels(self) -> Tensor:
        size, classes = self._config.schedule.batch_size, self._teacher.num_classes
        rounds = torch.arange(classes, device=self._device).repeat(size // classes)
        return torch.cat([rounds, torch.randint(classes, (size % classes,), device=self._device, generator=self._label_rng)])

    def _draw_generator(self) -> None:
        with self._drawing_anew():
            self._template.norm.reset_parameters()
            initialise(self._template.body, FAMILY)
        self._generator.lasting.load_state_dict(self._template.state_dict())
