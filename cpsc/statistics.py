"""Statistics of the activations in a frozen network, recorded by hooks."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from cpsc.errors import ConfigError

T = TypeVar("T")


class ChannelStatistics(NamedTuple):
    """Mean and biased variance per channel, [K] each, float32."""

    mean: Tensor
    var: Tensor


@contextmanager
def recorded(layers: Sequence[nn.Module], look: Callable[[Tensor], T], *, outputs: bool = False) -> Iterator[list[T | None]]:
    """Yield a list that holds, after one forward pass, the result of `look` on each layer's input (or output), by layer.

    If a layer runs several times, its last run counts; a layer that does not run has None. Hooks record, functions compare.
    """
    seen: list[T | None] = [None] * len(layers)

    def note(index: int, activations: Tensor) -> None:
        seen[index] = look(activations)

    if outputs:
        handles = [
            layer.register_forward_hook(lambda _layer, _inputs, out, index=index: note(index, out))
            for index, layer in enumerate(layers)
        ]
    else:
        handles = [
            layer.register_forward_pre_hook(
                lambda _layer, inputs, named, index=index: note(index, entering_of(inputs, named)), with_kwargs=True
            )
            for index, layer in enumerate(layers)
        ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def batch_norms(network: nn.Module) -> dict[str, nn.Module]:
    """The batch norms of `network` by name, in the order of declaration; a layer used in two places is listed once."""
    return {name: module for name, module in network.named_modules() if is_batch_norm(module)}


def is_batch_norm(layer: nn.Module) -> bool:
    """Whether `layer` is one of torch's batch norms, or any other layer that keeps a mean and a variance per channel.

    An instance norm is not, although it may keep statistics: they are those of single images.
    """
    if isinstance(layer, nn.modules.instancenorm._InstanceNorm):
        return False
    return isinstance(layer, nn.modules.batchnorm._BatchNorm) or keeps_statistics(layer)


def batch_norm_layers(network: nn.Module, *, weight: str = "weights.batch_statistics") -> list[nn.Module]:
    """The batch norms that keep running statistics, which the term of `weight` needs. ConfigError if there are none."""
    norms = batch_norms(network).values()
    layers = [layer for layer in norms if keeps_statistics(layer)]
    if not layers:
        fault = "'s batch norm keeps no running statistics" if norms else " has no BatchNorm2d layer or other batch norm"
        raise ConfigError(f"teacher{fault}: {weight} must be 0 for it")
    return layers


def keeps_statistics(layer: nn.Module) -> bool:
    """Whether `layer` has a running mean and a running variance per channel."""
    mean, var = (layer._buffers.get(name) for name in ("running_mean", "running_var"))
    return isinstance(mean, Tensor) and isinstance(var, Tensor) and mean.ndim == 1 and mean.shape == var.shape


def num_norm_channels(layer: nn.Module) -> int:
    """Number of channels that a batch norm with running statistics takes."""
    return len(_stored(layer).mean)


def entering_of(inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The input of a layer, passed by position or by name."""
    return inputs[0] if inputs else next(iter(named.values()))


def has_channels(entering: Any, num_channels: int) -> bool:
    """Whether the input of a layer is a non-empty tensor [B, K, ...] with that K."""
    return isinstance(entering, Tensor) and entering.ndim >= 2 and entering.shape[1] == num_channels and entering.numel() > 0


def channel_means(activations: Tensor) -> Tensor:
    """Mean over places: [B, K, H, W], or any other number of spatial dimensions, even none -> [B, K], float32."""
    places = tuple(range(2, activations.ndim))
    return activations.float().mean(dim=places) if places else activations.float()


class StatisticsRecorder:
    """Records the input statistics of each batch norm of a frozen network, on request; `losses.statistics` has the equations.

    Its hooks stay on the network, because a compiled forward pass has them built in; so a network has one recorder for all its
    users. Stored and observed statistics are in the order of `layers`, whatever order they run in. `weight`: the setting of the
    term that needs it, for the ConfigError if the network keeps no statistics.
    """

    def __init__(self, network: nn.Module, *, weight: str = "weights.batch_statistics") -> None:
        self.layers = batch_norm_layers(network, weight=weight)
        self.stored = [_stored(layer) for layer in self.layers]
        self._weight = weight
        self._seen: list[tuple[int, ChannelStatistics]] = []
        self._is_recording = False
        for index, layer in enumerate(self.layers):
            layer.register_forward_pre_hook(functools.partial(self._look, index), with_kwargs=True)

    def observe(self, network: Callable[[Tensor], T], images: Tensor) -> tuple[T, list[ChannelStatistics | None]]:
        """The output of `network`, which runs the recorder's network, and the statistics of the input of each of `layers`.

        A layer that runs several times per pass updated its stored statistics as often in each training step, so they average over
        its runs; the observed statistics do the same. A layer that does not run, or runs on an empty tensor, has None.
        """
        self._seen, self._is_recording = [], True
        try:
            output = network(images)
        finally:
            self._is_recording = False
        by_layer: list[list[ChannelStatistics]] = [[] for _ in self.layers]
        for index, statistics in self._seen:
            by_layer[index].append(statistics)
        return output, [_as_stored(layer, uses) for layer, uses in zip(self.layers, by_layer, strict=True)]

    def check(self, observed: Sequence[ChannelStatistics | None]) -> None:
        """Raise ConfigError if no layer was observed."""
        if all(statistics is None for statistics in observed):
            raise ConfigError(f"none of the teacher's batch norms runs, so {self._weight} must be 0")

    def _look(self, index: int, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        del layer
        if self._is_recording and has_channels(entering := entering_of(inputs, named), len(self.stored[index].mean)):
            self._seen.append((index, channel_statistics(entering)))


def channel_statistics(activations: Tensor) -> ChannelStatistics:
    """Mean and biased variance per channel of [B, K, H, W], or any other number of spatial dimensions, in any precision.

    The result is float32 or better, and differentiable.
    """
    if torch.compiler.is_compiling():  # fused with its neighbours, so the slowness described below does not arise
        var, mean = torch.var_mean(activations.float(), dim=(0, *range(2, activations.ndim)), correction=0)
        return ChannelStatistics(mean, var)
    return ChannelStatistics(*_MeanAndVariance.apply(activations))  # type: ignore[no-untyped-call]


class _MeanAndVariance(torch.autograd.Function):
    """Forward and backward each take one pass over the activations, which keep their own precision.

    Both reuse batch norm's kernels: ``torch.var_mean`` takes twenty times as long on channels-last activations, and half precision
    would first have to be copied to float32, because its sums over batch and pixels lose precision otherwise.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, activations: Tensor) -> tuple[Tensor, Tensor]:
        precise = torch.promote_types(activations.dtype, torch.float32)
        running = activations.new_zeros(2, activations.shape[1], dtype=precise)  # their dtype is the precision of the sums
        mean, var = torch.batch_norm_update_stats(activations, running[0], running[1], 0.0)
        ctx.save_for_backward(activations, mean)
        return mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        activations, mean = ctx.saved_tensors
        of_mean, of_var = gradients
        count = activations.numel() / len(mean)
        # (x - mean) 2 dvar / N + dmean / N is a batch norm with these as its statistics, scale and shift.
        one = torch.ones_like(mean)
        return F.batch_norm(activations, mean, one, 2.0 / count * of_var, of_mean / count, training=False, eps=0.0)


def _stored(layer: nn.Module) -> ChannelStatistics:
    mean, var = layer._buffers["running_mean"], layer._buffers["running_var"]
    assert mean is not None  # checked by keeps_statistics
    assert var is not None
    return ChannelStatistics(mean.detach().float(), var.detach().float())


def _as_stored(layer: nn.Module, uses: Sequence[ChannelStatistics]) -> ChannelStatistics | None:
    """What the layer's stored statistics would converge to if every training step used it in these ways, in this order."""
    if len(uses) < 2:
        return uses[0] if uses else None
    momentum = layer.momentum if isinstance(layer, nn.modules.batchnorm._BatchNorm) else None
    kept = 1.0 if momentum is None else 1.0 - momentum  # what each later use keeps of earlier ones; None: a plain average
    weights = [kept**age for age in reversed(range(len(uses)))]
    mean, var = (
        torch.stack([weight / sum(weights) * use[part] for weight, use in zip(weights, uses, strict=True)]).sum(dim=0)
        for part in (0, 1)
    )
    return ChannelStatistics(mean, var)
