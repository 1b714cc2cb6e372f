"""Images of a generator that has learned a good starting point: FastDFKD."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cpsc.config import DistillConfig
from cpsc.device import place
from cpsc.errors import ConfigError
from cpsc.generator import Generator
from cpsc.kinds import of_stated_kinds
from cpsc.optimizers import Adam, AdamOnGiven
from cpsc.rng import seeded_init
from cpsc.rules import FORBID_UNKNOWN, below_one, positive
from cpsc.synthesis.base import Stateful
from cpsc.synthesis.inverted import AbstractGeneratorInversion
from cpsc.synthesis.noisy_layer import FAMILY

REPTILE_SCALE = 67.0
"""Factor of the published code for the distance that a turn moves the generator; with Adam only its epsilon makes it matter."""
REDRAWN_DEVIATION = 0.02


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("meta_generator")
class MetaGeneratorConfig:
    """A meta-generator that each turn starts from and that learns from each turn: FastDFKD. Fang et al. 2022 (arXiv:2112.06253)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    learns_by: Literal["maml", "reptile"] = "maml"
    """What the meta-generator learns from: the sum of a turn's gradients (first-order MAML), or how far the turn has moved the
    generator (Reptile)."""
    latent_lr: float = 0.01
    """Learning rate of the latents, which also train. The generator's is `generator.lr`; the meta-generator's is that times the
    steps of a turn."""
    redraw_after: int | None = None
    """Number of turns after which the projection and the norm after it are redrawn, once."""
    statistics_momentum: float = 0.9
    """Weight of earlier turns in the batch-norm statistics that are compared: see `cpsc.memory.StatisticsMemory`."""

    def __post_init__(self) -> None:
        positive("meta_generator.latent_lr", self.latent_lr)
        if self.redraw_after is not None:
            positive("meta_generator.redraw_after", self.redraw_after)
        below_one("meta_generator.statistics_momentum", self.statistics_momentum)


class _Turns:
    """Counts the turns."""

    def __init__(self) -> None:
        self.number = 0

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.number = int(state["number"])


class InvertedByMetaGenerator(AbstractGeneratorInversion):
    """Each batch is made by a copy of the meta-generator and its own latents; the meta-generator learns from it: FastDFKD, alg. 1.

    The running statistics of its batch norms are never updated, because nothing reads them.
    """

    PIXEL_FAMILIES = ("small",)

    def _set_up(self) -> None:
        super()._set_up()
        config = self._config
        self._settings = config.section(MetaGeneratorConfig)
        with seeded_init(config.seed, "generator"):
            self._meta = self._new_generator(FAMILY)
        place(self._meta, self._device).train().requires_grad_(False)
        self._generator: Generator = copy.deepcopy(self._meta)
        latents = torch.zeros(config.schedule.batch_size, config.generator.latent_dim, device=self._device)
        self._latents = nn.ParameterList([nn.Parameter(latents, requires_grad=False)])
        betas = (config.generator.beta1, config.generator.beta2)
        self._meta_optimizer = AdamOnGiven(
            self._meta_gradients, list(self._meta.parameters()), lr=self._meta_lr, betas=betas, fused=True
        )
        self._sums = [torch.zeros_like(parameter) for parameter in self._generator.parameters()]
        for parameter, total in zip(self._generator.parameters(), self._sums, strict=True):
            parameter.requires_grad_(True)  # needed to register the hook
            parameter.register_post_accumulate_grad_hook(_adding_to(total))
            parameter.requires_grad_(False)
        self._turns = _Turns()

    @classmethod
    def check(cls, config: DistillConfig) -> None:
        if config.precision == "fp16":
            raise ConfigError(f"precision must not be fp16 for method {config.method}, because its meta-gradients are not scaled")
        super().check(config)

    @property
    def _makers(self) -> tuple[nn.Module, ...]:
        return (self._generator, self._latents)

    @property
    def _meta_lr(self) -> float:
        return self._lr * self._config.schedule.generator_steps

    def begin_epoch(self, epoch: int, *, lr: float) -> None:
        super().begin_epoch(epoch, lr=lr)
        self._meta_optimizer.param_groups[0]["lr"] = self._meta_lr

    def optimizers(self) -> Sequence[Optimizer]:
        is_last = self._num_losses == self._config.schedule.generator_steps
        return [*super().optimizers(), *([self._meta_optimizer] if is_last else [])]

    def end(self) -> None:
        super().end()
        if self._turns.number == self._settings.redraw_after:
            self._redraw()

    def parts(self) -> Mapping[str, Stateful]:
        own: dict[str, Stateful] = {"generator": self._meta, "generator_optimizer": self._meta_optimizer, "turns": self._turns}
        return {**super().parts(), **own}

    def _restart(self) -> None:
        self._turns.number += 1
        self._latents[0].data.normal_(generator=self._latent_rng)
        self._generator.load_state_dict(self._meta.state_dict())
        for total in self._sums:
            total.zero_()

    def _new_optimizer(self) -> Adam:
        groups = [
            {"params": list(self._generator.parameters()), "lr": self._lr},
            {"params": list(self._latents.parameters()), "lr": self._settings.latent_lr},
        ]
        return Adam(groups, betas=(self._config.generator.beta1, self._config.generator.beta2), fused=True)

    def _pixels(self) -> Tensor:
        return self._generator.raw(self._latents[0])

    @torch.no_grad()
    def _meta_gradients(self) -> Sequence[Tensor]:
        """Gradients of the meta-generator's parameters from the turn, after its last step."""
        if self._settings.learns_by == "maml":
            return self._sums
        pairs = zip(self._meta.parameters(), self._generator.parameters(), strict=True)
        return [REPTILE_SCALE * (began.detach() - ended.detach()) for began, ended in pairs]

    @torch.no_grad()
    def _redraw(self) -> None:
        """Redraw as in the published code, where the scale of the norm is also drawn around 0."""
        with self._drawing_anew():
            module: nn.Linear | nn.BatchNorm2d
            for module in (self._meta.project, self._meta.norm0):
                module.weight.copy_(torch.randn(module.weight.shape) * REDRAWN_DEVIATION)
                module.bias.zero_()


def _adding_to(total: Tensor) -> Any:
    def add(parameter: Tensor) -> None:
        assert parameter.grad is not None
        total.add_(parameter.grad)

    return add
