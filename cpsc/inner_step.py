"""A gradient step that a network does not take: the weights it would lead to, through which a loss is differentiated."""

import torch
from torch import Tensor, nn


def weights_after_step(network: nn.Module, loss: Tensor, *, lr: float, first_order: bool) -> dict[str, Tensor]:
    """theta' = theta - lr dL/dtheta of the parameters of `network`, by name, for `loss` L []; what L does not depend on stays.

    They depend on theta, also through the gradient, unless `first_order` takes that for a constant (Finn et al. 2017,
    arXiv:1703.03400, sec. 2.2 and 5.2). The graph of `loss` can be run through once more.
    """
    own = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss, tuple(own.values()), create_graph=not first_order, retain_graph=True, allow_unused=True)
    return {
        name: weight if gradient is None else weight - lr * gradient
        for (name, weight), gradient in zip(own.items(), gradients, strict=True)
    }


def buffers_aside(network: nn.Module) -> dict[str, Tensor]:
    """Copies of its buffers, by name: a pass that is given them leaves no trace in running statistics."""
    return {name: buffer.clone() for name, buffer in network.named_buffers()}
