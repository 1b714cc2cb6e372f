"""Finds the batch norms whose statistics images can be compared with, by running the network instead of inspecting its layers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cpsc.metrics import evaluating
from cpsc.statistics import batch_norms, entering_of, has_channels, is_batch_norm, keeps_statistics, num_norm_channels

MOST_NAMED = 3


@dataclass(frozen=True)
class NormSurvey:
    """The names of the batch norms that the statistics term compares, and of those that it leaves out, each with the reason."""

    compared: tuple[str, ...]
    left_out: Mapping[str, str]
    others: Mapping[str, int]
    """Number of layers of each other kind of norm, by class name."""

    def __str__(self) -> str:
        """A remark about it; empty if the network has batch norms and all of them are compared."""
        named = [f"{name or 'the network'} {reason}" for name, reason in list(self.left_out.items())[:MOST_NAMED]]
        reasons = ", ".join([*named, *(["..."] if len(self.left_out) > MOST_NAMED else [])])
        if self.compared and self.left_out:
            total = len(self.compared) + len(self.left_out)
            return f"{len(self.left_out)} of {total} batch norms are left out of batch statistics: {reasons}"
        if self.compared:
            return ""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.others.items())
        return f"no batch norm with statistics to compare ({'; '.join(filter(None, [reasons, kinds])) or 'no norm at all'})"


def survey_norms(network: nn.Module, images: Tensor) -> NormSurvey:
    """Run `network` once, in eval mode, on `images` and look at the input of each of its batch norms."""
    norms = batch_norms(network)
    entered: dict[str, list[Any]] = {name: [] for name in norms}

    def note(name: str, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        entered[name].append(entering_of(inputs, named))

    handles = [
        layer.register_forward_pre_hook(lambda _layer, inputs, named, name=name: note(name, inputs, named), with_kwargs=True)
        for name, layer in norms.items()
    ]
    try:
        with evaluating(network):
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    reasons = {name: _reason(layer, entered[name]) for name, layer in norms.items()}
    return NormSurvey(
        compared=tuple(name for name, reason in reasons.items() if not reason),
        left_out={name: reason for name, reason in reasons.items() if reason},
        others=Counter(type(layer).__name__ for layer in network.modules() if _is_other_norm(layer)),
    )


def _reason(layer: nn.Module, entered: list[Any]) -> str:
    """Why the statistics of a batch norm are not compared; empty if they are."""
    if not keeps_statistics(layer):
        return "keeps no statistics"
    if not entered:
        return "does not run"
    channels = num_norm_channels(layer)
    if any(has_channels(one, channels) for one in entered):
        return ""
    shape = tuple(entered[0].shape) if isinstance(entered[0], Tensor) else type(entered[0]).__name__
    return f"sees {shape}, not [B, {channels}, ...]"


def _is_other_norm(layer: nn.Module) -> bool:
    return "norm" in type(layer).__name__.lower() and not any(True for _ in layer.children()) and not is_batch_norm(layer)
