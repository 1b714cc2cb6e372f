"""Torch's SGD and Adam without loading its compiler.

Torch's optimizers import `torch._dynamo`, which takes 3.5 s of CPU in every process, only to step out of a compiled graph.
Nothing here compiles the step of an optimizer: these are the same methods without their wrappers.
"""

from collections.abc import Callable, Mapping, Sequence
from inspect import unwrap
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

if TYPE_CHECKING:
    _Base = Optimizer
else:
    _Base = object


class _OutsideGraphs(_Base):
    """The methods of every torch optimizer, without their wrappers."""

    add_param_group: Any = unwrap(Optimizer.add_param_group)
    zero_grad: Any = unwrap(Optimizer.zero_grad)
    state_dict: Any = unwrap(Optimizer.state_dict)
    load_state_dict: Any = unwrap(Optimizer.load_state_dict)


class SGD(_OutsideGraphs, torch.optim.SGD):
    """`torch.optim.SGD`, with the same numbers and the same state."""

    step: Any = torch.no_grad()(unwrap(torch.optim.SGD.step))


class Adam(_OutsideGraphs, torch.optim.Adam):
    """`torch.optim.Adam`, with the same numbers and the same state."""

    step: Any = torch.no_grad()(unwrap(torch.optim.Adam.step))


def _on_given(step: Callable[..., Any]) -> Callable[..., Any]:
    def take_and_step(self: "AdamOnGiven", closure: Any = None) -> Any:
        for parameter, gradient in zip(self.param_groups[0]["params"], self._gradients(), strict=True):
            parameter.grad = gradient
        return step(self, closure)

    return take_and_step


class AdamOnGiven(Adam):
    """Adam whose gradients do not come from a backward pass: at each step, `gradients` returns one for each parameter."""

    def __init__(self, gradients: Callable[[], Sequence[Tensor]], *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._gradients = gradients

    step: Any = torch.no_grad()(_on_given(unwrap(torch.optim.Adam.step)))


def with_own_settings(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """The `state` of another optimizer with as many parameters, but with `optimizer`'s own learning rates, momenta and decay."""
    groups = zip(optimizer.state_dict()["param_groups"], state["param_groups"], strict=True)
    return {**state, "param_groups": [{**own, "params": saved["params"]} for own, saved in groups]}
