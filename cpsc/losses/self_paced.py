"""Self-paced weights: what is still too hard for a student counts less (CuDFKD, Li et al. 2023, arXiv:2208.13648)."""

import math

import torch
from torch import Tensor


def self_paced_weights(losses: Tensor, *, pace: float) -> Tensor:
    """v = (1 + e^-pace) / (1 + e^(l - pace)) of each image's loss l [B], in nats -> [B], without a graph.

    1 where the loss is 0, a little more than one half where it is `pace`, 0 far beyond; `pace` >= 0. Each v is the least of
    v l + u log u + v log v - pace v, with u = 1 + e^-pace - v: the paper's logarithmic regulariser.
    """
    return torch.sigmoid(pace - losses.detach()) * (1.0 + math.exp(-pace))
