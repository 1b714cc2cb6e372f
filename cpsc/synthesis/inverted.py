"""Images inverted from the teacher batch by batch, and a pool that keeps all of them for the student."""

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cpsc.augmentation import jitter, random_resized_crop
from cpsc.config import DistillConfig
from cpsc.data.dataset import augment
from cpsc.device import place, precise
from cpsc.errors import ConfigError
from cpsc.generator import FAMILIES, Family, Generator, initialise
from cpsc.memory import ImagePool
from cpsc.optimizers import Adam
from cpsc.priorities import Drawn, PrioritisedPool
from cpsc.rng import derive_seed, seeded_init
from cpsc.rules import changed_fields
from cpsc.schedule import annealed, generator_lr, importance_exponent
from cpsc.synthesis.base import AbstractSynthesis, Batch, Stateful

PLENTY = 4
"""Newest images of the pool to return per image shown."""
PIXELS_ONLY = {"jitter", "flip", "clip", "clip_noise"}
"""Settings of `inversion` that do not apply to a generator's images, whose views are crops."""


class AbstractInversion(AbstractSynthesis):
    """Each generator turn makes one batch from scratch; the images of its best step enter the pool, which the student draws from.

    The pool is augmented with crops and mirror images, like real training data. The heads are kept across batches and have their
    own Adam. The modules that make a batch are redrawn for it and observed by hooks, so they run uncompiled and ignore `generate`.
    """

    SECTIONS = frozenset({"inversion"})

    def _set_up(self) -> None:
        config, streams = self._config, self._streams
        self._lr = generator_lr(config.generator, epoch=1, epochs=config.epochs)
        self._latent_rng, self._label_rng = streams.latents, streams.labels
        self._jitter_rng = streams.named("jitter", "cpu")
        self._view_rng, self._pool_rng = streams.named("views"), streams.named("pool")
        self._pool = self._new_pool()
        self._order: list[Tensor] = []
        self._correction = config.inversion.importance_exponent
        self._drawn: Drawn | None = None
        self._made_for: list[Tensor] = []
        parameters = [parameter for head in self._heads for parameter in head.parameters()]
        self._head_optimizer = Adam(parameters, lr=config.generator.lr, fused=True) if parameters else None

    @classmethod
    def check(cls, config: DistillConfig) -> None:
        if (config.schedule.student_images, config.schedule.order) != ("fresh", "generator_first"):
            raise ConfigError(f"schedule.student_images and schedule.order must be left out for method {config.method}")
        if config.generator.optimizer != "persistent":
            raise ConfigError(f"generator.optimizer must be left out for method {config.method}")
        if config.inversion.draw == "priority":
            for name, value in changed_fields(config.mixing).items():
                raise ConfigError(
                    f"mixing.{name} must be 0 with inversion.draw priority, which needs the gap on the unmixed image, got {value!r}"
                )

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return (*self._makers, *self._heads)

    def begin(self) -> None:
        self._labels = self._draw_labels()
        self._lowest = torch.full((), float("inf"), device=self._device)
        self._kept: Tensor | None = None
        self._num_losses = 0
        self._restart()
        self._optimizer = self._new_optimizer()
        self._rates = [group["lr"] for group in self._optimizer.param_groups]

    def on_loss(self, loss: Tensor) -> Tensor | None:
        self._num_losses += 1
        if self._config.inversion.keep == "last":
            return None
        improved = loss < self._lowest
        plain = self._plain()
        self._kept = plain.clone() if self._kept is None else torch.where(improved, plain, self._kept)
        self._lowest = torch.where(improved, loss, self._lowest)
        return improved

    def end(self) -> None:
        images = self._plain() if self._kept is None else self._kept
        truncate = self._config.inversion.quantise == "truncate"
        self._pool.add(self._teacher.normalisation.to_pixels(images, truncate=truncate))
        self._made_for.append(self._labels)
        self._order = []

    def turn_state(self) -> dict[str, Any]:
        """State of the current turn between two of its steps, including the images of earlier turns."""
        return {
            "makers": [module.state_dict() for module in self._makers],
            "optimizer": self._optimizer.state_dict(),
            "labels": self._labels,
            "lowest": self._lowest,
            "kept": self._kept,
            "num_losses": self._num_losses,
            "pool": self._pool.state_dict(),
            "made_for": list(self._made_for),
        }

    def load_turn_state(self, state: Mapping[str, Any]) -> None:
        """Continue in the middle of that turn; called instead of `begin`."""
        self.begin()
        for module, saved in zip(self._makers, state["makers"], strict=True):
            module.load_state_dict(saved)
        self._optimizer.load_state_dict(state["optimizer"])
        self._labels, self._lowest = state["labels"].to(self._device), state["lowest"].to(self._device)
        self._kept = None if state["kept"] is None else state["kept"].to(self._device)
        self._num_losses = state["num_losses"]
        self._pool.load_state_dict(state["pool"])
        self._made_for = [labels.to(self._device) for labels in state["made_for"]]

    def finished(self) -> tuple[Tensor, Tensor]:
        """All images since this was built, uint8 [N, K, H, W], and the classes that they were made for, [N]."""
        labels = torch.cat(self._made_for)
        return self._pool.images[-len(labels) :].clone(), labels  # a copy, not a view of the pool's buffer

    @torch.no_grad()
    def sample(self) -> tuple[Tensor, Tensor | None]:
        inversion = self._config.inversion
        size = min(self._config.schedule.student_batch_size or self._config.schedule.batch_size, len(self._pool))
        pixels = self._pool.images[self._next_rows(size)]
        pixels = augment(pixels, crop_padding=inversion.crop_padding, flip=inversion.mirror, rng=self._pool_rng)
        return self._teacher.normalisation.normalise(pixels), None

    @property
    def importance(self) -> Tensor | None:
        return None if self._drawn is None else self._drawn.weights

    def on_gaps(self, gaps: Tensor) -> None:
        if isinstance(self._pool, PrioritisedPool) and self._drawn is not None:
            self._pool.see(self._drawn.rows, gaps)

    def examples(self, per_class: int) -> tuple[Tensor, Tensor | None]:
        return self.current_images(PLENTY * per_class * self._teacher.num_classes), None

    def current_images(self, num: int) -> Tensor:
        return self._pool.images[-num:]

    def optimizers(self) -> Sequence[Optimizer]:
        if self._config.inversion.annealing == "cosine":
            for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
                group["lr"] = annealed(rate, self._num_losses - 1, self._config.schedule.generator_steps)
        return [self._optimizer, *([self._head_optimizer] if self._head_optimizer else [])]

    def begin_epoch(self, epoch: int, *, lr: float) -> None:
        self._lr = lr
        warmup = self._config.schedule.generator_warmup_epochs  # the student draws nothing in these
        epochs = self._config.epochs - warmup
        self._correction = importance_exponent(self._config.inversion, epoch=max(1, epoch - warmup), epochs=epochs)

    def parts(self) -> Mapping[str, Stateful]:
        heads = {"head_optimizer": self._head_optimizer} if self._head_optimizer else {}
        return {"pool": self._pool, **heads}

    @property
    def num_stored_bytes(self) -> int:
        return self._pool.num_bytes

    @property
    @abstractmethod
    def _makers(self) -> tuple[nn.Module, ...]:
        """The modules that each turn trains from scratch."""

    @abstractmethod
    def _restart(self) -> None:
        """Reset them for a new batch."""

    @abstractmethod
    def _plain(self) -> Tensor:
        """The images of the last step, without a graph."""

    def _new_pool(self) -> ImagePool:
        config, teacher = self._config.inversion, self._teacher
        size = {"limit": config.pool_size, "channels": teacher.channels, "image_size": teacher.image_size}
        if config.draw == "priority":
            return PrioritisedPool(**size, device=self._device, exponent=config.priority_exponent)
        return ImagePool(**size, device=self._device)

    def _next_rows(self, size: int) -> Tensor:
        """Rows of the pool for the student's next batch, [size]."""
        if isinstance(self._pool, PrioritisedPool):
            self._drawn = self._pool.draw(size, correction=self._correction, rng=self._pool_rng)
            return self._drawn.rows
        if not self._order:
            order = torch.randperm(len(self._pool), device=self._device, generator=self._pool_rng)
            self._order = [batch for batch in order.split(size) if len(batch) == size]
        return self._order.pop()

    def _new_optimizer(self) -> Adam:
        """Optimizer of one turn, for everything that it trains."""
        return Adam(
            [parameter for module in self._makers for parameter in module.parameters()],
            lr=self._lr,
            betas=(self._config.generator.beta1, self._config.generator.beta2),
            fused=True,
        )

    def _draw_labels(self) -> Tensor:
        size, classes = self._config.schedule.batch_size, self._teacher.num_classes
        if self._config.inversion.labels == "balanced":
            return torch.arange(size, device=self._device) * classes // size
        return torch.randint(classes, (size,), device=self._device, generator=self._label_rng).sort().values


class InvertedBatches(AbstractInversion):
    """Optimises the pixels themselves: ADI. Yin et al. 2020 (arXiv:1912.08795), sec. 3."""

    def _set_up(self) -> None:
        super()._set_up()
        config, teacher = self._config, self._teacher
        shape = (config.schedule.batch_size, teacher.channels, teacher.image_size, teacher.image_size)
        pixels = torch.zeros(shape, device=self._device).contiguous(memory_format=torch.channels_last)
        self._holder = nn.ParameterList([nn.Parameter(pixels, requires_grad=False)])
        jitter = config.inversion.jitter
        self._jitter = teacher.image_size // 8 if jitter is None else jitter
        self._is_noise = True

    @property
    def _makers(self) -> tuple[nn.Module, ...]:
        return (self._holder,)

    def batch(self) -> Batch:
        if not self._is_noise:  # a step has changed the pixels
            self._clip()
        self._is_noise = False
        pixels = self._holder[0]
        seen = jitter(pixels, pixels=self._jitter, flip=self._config.inversion.flip, rng=self._jitter_rng)
        return Batch(seen, self._labels, pixels if self._config.switches.image_prior == "plain" else seen)

    def end(self) -> None:
        self._clip()
        super().end()

    def load_turn_state(self, state: Mapping[str, Any]) -> None:
        super().load_turn_state(state)
        self._is_noise = self._num_losses == 0

    def _restart(self) -> None:
        self._holder[0].data.normal_(generator=self._latent_rng)
        self._is_noise = True
        if self._config.inversion.clip_noise:
            self._clip()

    def _plain(self) -> Tensor:
        return self._holder[0].detach()

    @torch.no_grad()
    def _clip(self) -> None:
        if self._config.inversion.clip:
            black, white = self._teacher.normalisation.bounds(self._holder[0])
            self._holder[0].clamp_(black, white)


class AbstractGeneratorInversion(AbstractInversion):
    """The batch consists of a generator's pixels; the networks see a random crop of each image."""

    PIXEL_FAMILIES: ClassVar[tuple[str, ...]] = ("small", "large")
    """The generator families that can be used."""

    def _set_up(self) -> None:
        super()._set_up()
        self._init_rng = self._streams.named("inits", "cpu")
        self._images = torch.empty(0)

    @classmethod
    def check(cls, config: DistillConfig) -> None:
        family, known = config.generator.family, cls.PIXEL_FAMILIES
        if family not in known:
            rule = f"one of {', '.join(known)}" if len(known) > 1 else known[0]
            raise ConfigError(f"generator.family must be {rule} for method {config.method}, got {family!r}")
        if unused := changed_fields(config.inversion).keys() & PIXELS_ONLY:
            raise ConfigError(f"inversion.{min(unused)} must be left out for method {config.method}, whose views are crops")
        super().check(config)

    def batch(self) -> Batch:
        inversion, normalisation = self._config.inversion, self._teacher.normalisation
        pixels = precise(self._pixels())
        seen = augment(pixels, crop_padding=inversion.crop_padding, flip=inversion.mirror, rng=self._view_rng)
        local = self._local_view(pixels)
        plain = normalisation.from_unit(pixels)
        self._images = plain.detach()
        return Batch(normalisation.from_unit(seen), self._labels, plain, None if local is None else normalisation.from_unit(local))

    @abstractmethod
    def _pixels(self) -> Tensor:
        """The generator's current pixels in [0, 1], [B, K, H, W]."""

    def _local_view(self, pixels: Tensor) -> Tensor | None:
        """A second view of `pixels`, for methods that compare views."""
        del pixels
        return None

    def _plain(self) -> Tensor:
        return self._images

    def _new_generator(self, family: Family) -> Generator:
        """A generator on the CPU, where a seed gives the same weights whatever the device."""
        config, teacher = self._config.generator, self._teacher
        return Generator(
            family,
            latent_dim=config.latent_dim,
            width=config.width,
            channels=teacher.channels,
            image_size=teacher.image_size,
            normalisation=teacher.normalisation,
        )

    @contextmanager
    def _drawing_anew(self) -> Iterator[None]:
        """Layers draw their weights from the global random generator; each time it gets a new seed from this run's own stream."""
        number = int(torch.randint(2**31, (), generator=self._init_rng))
        with seeded_init(derive_seed(self._config.seed, "inits"), str(number)):
            yield


class InvertedByGenerator(AbstractGeneratorInversion):
    """Optimises a generator, redrawn for each batch, and its latents: CMI. Fang et al. 2021 (arXiv:2105.08584), alg. 1.

    The local view is a stretched crop.
    """

    def _set_up(self) -> None:
        super()._set_up()
        config = self._config
        self._family = FAMILIES[config.generator.family]
        with seeded_init(config.seed, "generator"):
            self._template = self._new_generator(self._family)
        self._generator: Generator = copy.deepcopy(self._template)
        place(self._generator, self._device).train().requires_grad_(False)
        latents = torch.zeros(config.schedule.batch_size, config.generator.latent_dim, device=self._device)
        self._latents = nn.ParameterList([nn.Parameter(latents, requires_grad=False)])

    @property
    def _makers(self) -> tuple[nn.Module, ...]:
        return (self._generator, self._latents)

    def _pixels(self) -> Tensor:
        return self._generator.raw(self._latents[0])

    def _local_view(self, pixels: Tensor) -> Tensor:
        return random_resized_crop(pixels, mirror=self._config.inversion.mirror, rng=self._view_rng)

    def _restart(self) -> None:
        self._latents[0].data.normal_(generator=self._latent_rng)
        with self._drawing_anew():
            initialise(self._template, self._family)
        self._generator.load_state_dict(self._template.state_dict())
