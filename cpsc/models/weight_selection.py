"""Initial weights of a student taken from its teacher: weight selection (Xu et al., ICLR 2024, arXiv:2311.18823)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cpsc.errors import ConfigError


def selected_weights(large: Mapping[str, Tensor], small: nn.Module) -> dict[str, Tensor]:
    """State of `small` taken from `large`, the state of a larger network of its family.

    Sec. 3: the first layers of each stage, which have the same names; from each tensor, evenly spaced entries along every dimension
    ("uniform selection"), so that the channels that a layer takes are those that the previous one produces. ConfigError if `large`
    lacks a tensor, or has a smaller one.
    """
    return {name: _selected(large.get(name), own, name) for name, own in small.state_dict().items()}


def is_smaller(small: nn.Module, large: Mapping[str, Tensor]) -> bool:
    """Whether weights of `small` can be selected from `large`."""
    return all(_holds(large.get(name), own) for name, own in small.state_dict().items())


def _holds(tensor: Tensor | None, own: Tensor) -> bool:
    if tensor is None or tensor.ndim != own.ndim:
        return False
    return all(has >= wants for has, wants in zip(tensor.shape, own.shape, strict=True))


def _selected(tensor: Tensor | None, own: Tensor, name: str) -> Tensor:
    if tensor is None or not _holds(tensor, own):
        found = "none" if tensor is None else list(tensor.shape)
        raise ConfigError(
            f"student.initial must be 'random' for a student that is not a smaller network of its teacher's family: {name} is "
            f"{list(own.shape)}, the teacher has {found}"
        )
    for dim, wanted in enumerate(own.shape):
        rows = torch.arange(wanted, device=tensor.device) * tensor.shape[dim] // wanted
        tensor = tensor.index_select(dim, rows)
    return tensor.to(own.dtype)
