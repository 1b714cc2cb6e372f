"""Images of a generator that trains along with the student."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cpsc.config import DistillConfig
from cpsc.device import place
from cpsc.errors import ConfigError
from cpsc.generator import build_generator
from cpsc.optimizers import Adam
from cpsc.rng import seeded_init, stream
from cpsc.schedule import generator_lr
from cpsc.synthesis.base import AbstractSynthesis, Batch, Stateful

PLENTY = 4
"""Images to make per image shown, if the generator is not conditioned on classes: their classes are not known in advance."""

EXAMPLES_BATCH = 512


class GeneratedImages(AbstractSynthesis):
    """A persistent generator and its Adam, which also trains the heads."""

    SECTIONS = frozenset({"replay"})

    def _set_up(self) -> None:
        config, teacher = self._config, self._teacher
        self._num_classes = teacher.num_classes
        self._to_pixels = teacher.normalisation.to_pixels
        self._is_conditional = self.is_told_classes(config)
        with seeded_init(config.seed, "generator"):
            generator = build_generator(
                config.generator,
                num_classes=teacher.num_classes,
                channels=teacher.channels,
                image_size=teacher.image_size,
                normalisation=teacher.normalisation,
            )
        self.generator = place(generator, self._device).train().requires_grad_(False)
        self._parameters = [parameter for module in self.modules for parameter in module.parameters()]
        self._lr = generator_lr(config.generator, epoch=1, epochs=config.epochs)
        self._optimizer = self._new_optimizer()
        self._latents: tuple[Tensor, Tensor] | None = None
        self._images: Tensor | None = None

    @classmethod
    def check(cls, config: DistillConfig) -> None:
        if (size := config.schedule.student_batch_size) is not None:
            rule = f"must be left out for method {config.method}, which keeps no pool"
            raise ConfigError(f"schedule.student_batch_size {rule}, got {size}")
        if (turns := config.schedule.generator_turns) != 1:
            rule = f"must be left out for method {config.method}, which has one generator turn"
            raise ConfigError(f"schedule.generator_turns {rule}: set generator_steps, got {turns}")

    @classmethod
    def is_told_classes(cls, config: DistillConfig) -> bool:
        return config.generator.family == "conditional"

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return (self.generator, *self._heads)

    def batch(self) -> Batch:
        latents, labels = self._draw()
        images = self._generate(self.generator, latents, labels)
        self._latents, self._images = (latents, labels), None
        if self._config.schedule.student_images == "shared":
            self._images = images.detach()
        return Batch(images, labels, images)

    @torch.no_grad()
    def sample(self) -> tuple[Tensor, Tensor | None]:
        if self._config.schedule.student_images == "fresh" or self._latents is None:
            self._latents, self._images = self._draw(), None
        if self._images is None:
            self.generator.train(not self._config.generator.eval_mode_in_student_phase)
            self._images = self._generate(self.generator, *self._latents)
            self.generator.train()
        images, labels = self._images, self._latents[1]
        if self._config.schedule.student_images == "fresh":
            self._latents = self._images = None
        return images, labels if self._is_conditional else None

    def examples(self, per_class: int) -> tuple[Tensor, Tensor | None]:
        return self._of_each_class(per_class if self._is_conditional else PLENTY * per_class)

    def current_images(self, num: int) -> Tensor:
        return self._of_each_class(math.ceil(num / self._num_classes))[0][-num:]

    @torch.no_grad()
    def _of_each_class(self, num: int) -> tuple[Tensor, Tensor | None]:
        """`num` images for each class, or as many in all if the generator is not told classes; with the classes it was told."""
        rng = stream(self._config.seed, "grid")
        labels = torch.arange(self._num_classes).repeat_interleave(num)
        latents = torch.randn(len(labels), self._config.generator.latent_dim, generator=rng)
        self.generator.eval()  # uses running statistics, so that this does not change the batch norms
        batches = zip(latents.split(EXAMPLES_BATCH), labels.split(EXAMPLES_BATCH), strict=True)
        images = [self._to_pixels(self.generator(z.to(self._device), y.to(self._device))) for z, y in batches]
        self.generator.train()
        return torch.cat(images), labels.to(self._device) if self._is_conditional else None

    def optimizers(self) -> Sequence[Optimizer]:
        return [self._new_optimizer() if self._config.generator.optimizer == "fresh" else self._optimizer]

    def begin_epoch(self, epoch: int, *, lr: float) -> None:
        del epoch
        self._lr = lr
        self._optimizer.param_groups[0]["lr"] = lr

    def parts(self) -> Mapping[str, Stateful]:
        return {"generator": self.generator, "generator_optimizer": self._optimizer}

    def _new_optimizer(self) -> Adam:
        config = self._config.generator
        return Adam(self._parameters, lr=self._lr, betas=(config.beta1, config.beta2), fused=True)

    def _draw(self) -> tuple[Tensor, Tensor]:
        size = self._config.schedule.batch_size
        latents = torch.randn(size, self._config.generator.latent_dim, device=self._device, generator=self._streams.latents)
        labels = torch.randint(self._num_classes, (size,), device=self._device, generator=self._streams.labels)
        return latents, labels
