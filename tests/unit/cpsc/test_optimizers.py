"""SGD and Adam outside graphs: torch's numbers, and torch's state."""

import copy
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from cpsc.optimizers import SGD, Adam

CASES: list[tuple[type[Optimizer], type[Optimizer], dict[str, Any]]] = [
    (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "fused": True}),
    (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (Adam, torch.optim.Adam, {"lr": 1e-2, "fused": True}),
    (Adam, torch.optim.Adam, {"lr": 1e-2, "betas": (0.5, 0.9), "weight_decay": 1e-2}),
]


def train(kind: type[Optimizer], settings: dict[str, Any], steps: int = 6) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """Two parameters and the state after so many steps, half way through which another optimiser takes the state over."""
    rng = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=rng)) for shape in ((4, 3), (5,))]
    optimizer = kind(parameters, **settings)
    for step in range(steps):
        if step == steps // 2:
            state = copy.deepcopy(optimizer.state_dict())
            optimizer = kind(parameters, **settings)
            optimizer.load_state_dict(state)
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        torch.stack([(parameter**3).sum() for parameter in parameters]).sum().backward()
        optimizer.step()
    return parameters, optimizer.state_dict()


@pytest.mark.parametrize(("ours", "theirs", "settings"), CASES)
def test_steps_and_state_are_torchs_bit_for_bit(ours: type[Optimizer], theirs: type[Optimizer], settings: dict[str, Any]) -> None:
    (found, state), (wanted, expected) = train(ours, settings), train(theirs, settings)
    assert all(torch.equal(left, right) for left, right in zip(found, wanted, strict=True))
    assert state["param_groups"] == expected["param_groups"]
    for number, values in expected["state"].items():
        assert values.keys() == state["state"][number].keys()
        assert all(torch.equal(value, state["state"][number][name]) for name, value in values.items())


def test_a_step_leaves_no_graph_and_its_hooks_are_called() -> None:
    """A profiler counts steps by such a hook."""
    parameter = torch.nn.Parameter(torch.ones(2))
    called: list[str] = []
    hook = register_optimizer_step_post_hook(lambda optimizer, args, kwargs: called.append(type(optimizer).__name__))
    try:
        for kind in (SGD, Adam):
            optimizer = kind([parameter], lr=0.1)
            parameter.grad = torch.ones(2)
            optimizer.step()
    finally:
        hook.remove()
    assert called == ["SGD", "Adam"]
    assert parameter.is_leaf
    assert parameter.grad_fn is None
