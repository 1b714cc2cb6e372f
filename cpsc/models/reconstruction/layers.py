"""The layers and norms of student and teacher: whether one can be made from the other, and what is copied."""

import torch
from torch import Tensor, nn

from cpsc.errors import ConfigError

FITTED = (nn.Conv2d, nn.Linear)
NORMS = (nn.BatchNorm2d, nn.GroupNorm)

LEAST_SCALE = 1e-3
"""A channel that its norm scales by less than this fraction of the largest scale is fitted to the teacher's value before the norm,
not to what is missing after it."""


def check_fits(name: str, own: nn.Module, other: nn.Module) -> None:
    """Raise ConfigError unless `own`, a layer of the student, can be fitted to `other`."""
    if isinstance(own, nn.Conv2d) and isinstance(other, nn.Conv2d):
        if own.groups > 1 or own.padding_mode != "zeros" or isinstance(own.padding, str):
            raise refusal(f"{name} is a grouped convolution, or one that is not padded with zeros")
        alike = (own.kernel_size, own.stride, own.padding, own.dilation) == (
            other.kernel_size,
            other.stride,
            other.padding,
            other.dilation,
        )
    else:
        alike = isinstance(own, nn.Linear) and isinstance(other, nn.Linear)
    if not alike or num_inputs(own) > num_inputs(other) or num_outputs(own) > num_outputs(other):
        raise refusal(f"{name} is {own}, in the teacher {other}")


def num_inputs(layer: nn.Module) -> int:
    """Number of input channels of a convolution or of inputs of a linear layer."""
    return layer.in_channels if isinstance(layer, nn.Conv2d) else _of_linear(layer).in_features


def num_outputs(layer: nn.Module) -> int:
    """Number of output channels of a convolution or of outputs of a linear layer."""
    return layer.out_channels if isinstance(layer, nn.Conv2d) else _of_linear(layer).out_features


def _of_linear(layer: nn.Module) -> nn.Linear:
    assert isinstance(layer, nn.Linear)
    return layer


def use_of(layer: nn.Module) -> Tensor:
    """How strongly a layer reads each of its input channels, [K]: the norm of their weights."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.transpose(0, 1).flatten(1).norm(dim=1)


def take_over(norm: nn.Module, other: nn.Module, chosen: Tensor) -> None:
    """Copy the teacher's scale, shift and statistics of the chosen channels."""
    state = other.state_dict()
    norm.load_state_dict({name: value[chosen.to(value.device)] if value.ndim else value for name, value in state.items()})


def before_norm(norm: nn.Module, chosen: Tensor, wanted: Tensor, plain: Tensor) -> Tensor:
    """The input of the teacher's batch norm that gives `wanted` in the `chosen` channels; `plain` where its scale is near 0."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None or norm.running_mean is None:
        return plain
    chosen = chosen.to(wanted.device)
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt())[chosen]
    passes = scale.abs() > LEAST_SCALE * scale.abs().max()
    safe = torch.where(passes, scale, torch.ones_like(scale))
    column = (slice(None), None, None)
    entering = (wanted - norm.bias[chosen][column]) / safe[column] + norm.running_mean[chosen][column]
    return torch.where(passes[column], entering, plain)


def refusal(reason: str) -> ConfigError:
    """The error for a student that cannot be made from its teacher."""
    return ConfigError(
        f"student.initial must not be 'reconstructed' for this student, which cannot be made from its teacher: {reason}"
    )
