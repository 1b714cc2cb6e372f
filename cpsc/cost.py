"""Cost of a classifier: parameters, and multiply-adds per image."""

import torch
from torch import Tensor, nn

from cpsc.metrics import evaluating


def count_parameters(network: nn.Module) -> int:
    """Trainable values, a shared one once; buffers such as running statistics are none."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, channels: int, image_size: int) -> int:
    """Multiply-adds of the convolution and linear layers for one image; norms, pools and additions are left out.

    Measured by one forward pass on the network's own device; on ``meta`` it takes no time and no memory.
    """
    total = 0

    def add(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer.weight, Tensor)
        total += output.numel() * layer.weight[0].numel()

    handles = [layer.register_forward_hook(add) for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    device = next(network.parameters()).device
    try:
        with evaluating(network):
            network(torch.zeros(1, channels, image_size, image_size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return total
