"""The meta objective's gradient against derivatives that are taken otherwise, in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from cpsc.inner_step import buffers_aside, weights_after_step

RATE = 0.3


class Bowl:
    """A loss of three weights, theta'A theta / 2 + a'theta, whose derivatives are known: A theta + a, and A."""

    def __init__(self, seed: int) -> None:
        half, self.slope = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).split([3, 1])
        self.slope = self.slope.flatten()
        self.curvature = half @ half.mT

    def __call__(self, theta: Tensor) -> Tensor:
        return 0.5 * theta @ self.curvature @ theta + self.slope @ theta

    def gradient(self, theta: Tensor) -> Tensor:
        return self.curvature @ theta + self.slope


POINT = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
ACQUIRE, RETAIN = Bowl(1), Bowl(2)


def at_the_point() -> nn.Module:
    network = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        network.weight.copy_(POINT[None])
    return network


def total_gradient(
    network: nn.Module, acquire: Callable[..., Tensor], retain: Callable[..., Tensor], *, first_order: bool
) -> Tensor:
    """Of L_acq(theta) + L_ret(theta'), as one backward pass leaves it in the parameters, side by side."""
    own = dict(network.named_parameters())
    loss = acquire(own)
    ahead = weights_after_step(network, loss, lr=RATE, first_order=first_order)
    (loss + retain(ahead)).backward()
    return torch.cat(
        [torch.zeros_like(weight).flatten() if weight.grad is None else weight.grad.flatten() for weight in own.values()]
    )


@pytest.mark.parametrize("first_order", [False, True])
def test_the_gradient_is_what_the_chain_rule_says_on_quadratics(first_order: bool) -> None:
    slope = ACQUIRE.gradient(POINT)
    through = torch.eye(3, dtype=torch.float64) - (0 if first_order else RATE * ACQUIRE.curvature)
    expected = slope + through @ RETAIN.gradient(POINT - RATE * slope)
    acquire, retain = (lambda weights, bowl=bowl: bowl(weights["weight"].flatten()) for bowl in (ACQUIRE, RETAIN))
    torch.testing.assert_close(total_gradient(at_the_point(), acquire, retain, first_order=first_order), expected)


def test_through_batch_norms_it_is_what_finite_differences_say() -> None:
    torch.manual_seed(2)
    layers = (nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))
    network = nn.Sequential(*layers).double().train()
    images, targets = torch.randn(2, 5, 1, 4, 4).double(), torch.randn(2, 5, 2).double()
    names = [name for name, _ in network.named_parameters()]
    shapes = [weight.shape for weight in network.parameters()]

    def loss(weights: dict[str, Tensor], task: int) -> Tensor:
        answers = functional_call(network, weights | buffers_aside(network), (images[task],))
        return (answers - targets[task]).square().mean()

    def named(vector: Tensor) -> dict[str, Tensor]:
        parts = vector.split([shape.numel() for shape in shapes])
        return {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}

    def objective(vector: Tensor) -> Tensor:
        acquired = loss(named(vector.requires_grad_()), 0)
        (slope,) = torch.autograd.grad(acquired, vector)
        return (acquired + loss(named(vector - RATE * slope), 1)).detach()

    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    point = torch.cat([weight.detach().flatten() for weight in network.parameters()])
    found = total_gradient(network, lambda weights: loss(weights, 0), lambda weights: loss(weights, 1), first_order=False)
    for direction in torch.randn(4, len(point), generator=torch.Generator().manual_seed(0), dtype=torch.float64):
        ahead, behind = objective(point + 1e-5 * direction), objective(point - 1e-5 * direction)
        assert (found @ direction).item() == pytest.approx(((ahead - behind) / 2e-5).item(), rel=1e-6)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


def test_for_small_steps_it_rewards_gradients_that_agree() -> None:
    """The paper's point: L_ret(theta') is L_ret(theta) - lr <dL_acq, dL_ret>, up to lr squared."""
    agreement = ACQUIRE.gradient(POINT) @ RETAIN.gradient(POINT)
    errors = []
    for rate in (1e-3, 5e-4):
        network = at_the_point()
        (ahead,) = weights_after_step(network, ACQUIRE(network.weight.flatten()), lr=rate, first_order=False).values()
        errors.append((RETAIN(ahead.flatten()) - RETAIN(POINT) + rate * agreement).item())
    assert abs(agreement) > 0.1
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=1e-6)


def test_what_a_loss_does_not_hang_on_stays() -> None:
    network = nn.Linear(2, 1)
    ahead = weights_after_step(network, network.weight.sum(), lr=0.5, first_order=True)
    assert torch.equal(ahead["bias"], network.bias)
    torch.testing.assert_close(ahead["weight"], network.weight - 0.5)
