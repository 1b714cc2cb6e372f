"""Cost of a classifier: parameters, and multiply-adds per image."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cpsc.metrics import evaluating


def count_parameters(network: nn.Module) -> int:
    """Number of trainable values. Shared ones count once; buffers such as running statistics do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, channels: int, image_size: int) -> int:
    """Multiply-adds of convolutions, matrix products and attention for one image, without norms, pools and additions.

    Measured by one forward pass on the network's own device; on ``meta`` it takes no memory. Attention runs as plain matrix
    products, because the counter does not know the CPU's attention kernel.
    """
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, evaluating(network), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(torch.zeros(1, channels, image_size, image_size, device=device))
    return int(counter.get_total_flops()) // 2
