"""Phases of training and how they alternate: the only place that calls ``backward()`` and ``optimizer.step()``."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cpsc.errors import DivergedError
from cpsc.methods import Terms


@dataclass(frozen=True)
class Phase:
    """One turn of generator or student: `steps` consecutive updates of `modules`, with everything else frozen.

    `terms` runs the forward pass on a fresh batch. `optimizers` returns the optimizers for one step. `begin` and `end` are called
    before and after the turn; `on_loss` gets each step's loss [] before the update. `clip_norm`: the largest norm of the gradient.
    """

    name: str
    steps: int
    modules: tuple[nn.Module, ...]
    terms: Callable[[], Terms]
    weights: Mapping[str, float]
    optimizers: Callable[[], Sequence[Optimizer]]
    scaler: torch.amp.GradScaler
    clip_norm: float | None = None
    begin: Callable[[], None] = lambda: None
    on_loss: Callable[[Tensor], None] = lambda loss: None
    end: Callable[[], None] = lambda: None


class TermLog:
    """Values of every term at every step, kept on the device until they are needed, so that no step synchronises.

    `weights`: the factor of each term. `diverged_above`: the limit for the absolute value of a term times its factor.
    """

    def __init__(self, phase: str, weights: Mapping[str, float], *, diverged_above: float) -> None:
        self._phase = phase
        self._weights = dict(weights)
        self._diverged_above = diverged_above
        self._steps: list[Tensor] = []
        self._num_checked = 0

    def append(self, values: Tensor) -> None:
        """Add one step's detached values, [number of terms]."""
        self._steps.append(values)

    def raise_if_diverged(self) -> None:
        """Raise DivergedError, naming phase, term and step, if a value since the last check is not finite or too large."""
        if self._num_checked == len(self._steps):
            return
        recent = torch.stack(self._steps[self._num_checked :]).cpu().double()
        weighted = recent * torch.tensor(list(self._weights.values()), dtype=torch.float64)
        sound = weighted.abs() <= self._diverged_above  # false for NaN, too
        if not sound.all():
            step, term = (~sound).nonzero()[0].tolist()
            name, value = list(self._weights)[term], weighted[step, term].item()
            fault = f"times its weight is {value:.3g}, beyond diverged_above ({self._diverged_above:g})"
            raise DivergedError(
                f"{self._phase} term {name} {fault if math.isfinite(recent[step, term]) else 'is not finite'} "
                f"at step {self._num_checked + step + 1} of the epoch"
            )
        self._num_checked = len(self._steps)

    def means(self) -> dict[str, float]:
        """Mean of each term over the steps, by ``phase/term``."""
        values = torch.stack(self._steps).mean(dim=0).tolist()
        return {f"{self._phase}/{name}": value for name, value in zip(self._weights, values, strict=True)}


def weighted_sum(terms: Terms, weights: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    """The loss [] and the terms' detached batch means [number of terms], in the order of `weights`.

    Raises KeyError if `terms` and `weights` have different names.
    """
    if terms.keys() != weights.keys():
        raise KeyError(f"terms and weights disagree on {sorted(terms.keys() ^ weights.keys())}")
    means = torch.stack([terms[name].mean() for name in weights])
    # Python factors: a tensor of weights would be copied to the device at every step, and the step would wait for it.
    loss = torch.stack([mean * weight for mean, weight in zip(means.unbind(), weights.values(), strict=True)]).sum()
    return loss, means.detach()


def run_epoch(phases: Sequence[Phase], *, iterations: int, check_each_iteration: bool, diverged_above: float) -> dict[str, float]:
    """Run `iterations` rounds of `phases` -> mean of every term over the epoch, by ``phase/term``. A phase may occur repeatedly.

    Raises DivergedError if a value is not finite, or its share of the loss exceeds `diverged_above`: after the iteration, or (on
    a GPU, where looking costs a synchronisation) at the end of the epoch.
    """
    logs = {phase.name: TermLog(phase.name, phase.weights, diverged_above=diverged_above) for phase in phases}
    for _ in range(iterations):
        for phase in phases:
            run_phase(phase, logs[phase.name])
        if check_each_iteration:
            _check(logs.values())
    _check(logs.values())
    return {name: value for log in logs.values() for name, value in log.means().items()}


def run_phase(phase: Phase, log: TermLog) -> None:
    """Run the consecutive updates of one phase."""
    phase.begin()
    with trainable(phase.modules):
        for _ in range(phase.steps):
            loss, values = weighted_sum(phase.terms(), phase.weights)
            phase.on_loss(loss.detach())
            _update(phase, loss)
            log.append(values)
    phase.end()


def _update(phase: Phase, loss: Tensor) -> None:
    optimizers = phase.optimizers()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    phase.scaler.scale(loss).backward()
    for optimizer in optimizers:
        if phase.clip_norm is not None:
            phase.scaler.unscale_(optimizer)
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, phase.clip_norm)
        phase.scaler.step(optimizer)
    phase.scaler.update()


@contextmanager
def trainable(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Parameters of `modules` require gradients inside the block only."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)


def _check(logs: Iterable[TermLog]) -> None:
    for log in logs:
        log.raise_if_diverged()
