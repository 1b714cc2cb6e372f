"""Execution of networks: operation by operation, or fused by ``torch.compile``."""

import functools
import os
import shutil
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cpsc.errors import ConfigError
from cpsc.models import Output
from cpsc.statistics import ChannelStatistics, StatisticsRecorder

MOST_VARIANTS = 64
"""Of one function that are compiled before torch goes back to running it uncompiled: networks times phases of a study."""


Generate = Callable[[nn.Module, Tensor, Tensor], Tensor]
Weights = dict[str, Tensor]


class Execution(NamedTuple):
    """The ways in which the loop runs networks, each a function of the network."""

    generate: Generate
    """Generator, latents [B, nz], labels [B] -> images [B, K, H, W]."""
    forward: Callable[[nn.Module, Tensor], Output]
    """Classifier, images -> features and logits."""
    forward_with: Callable[[nn.Module, Weights, Tensor], Output]
    """The same, with other weights in the place of those of their names."""
    forward_recorded: Callable[[nn.Module, StatisticsRecorder, Tensor], tuple[Output, list[ChannelStatistics | None]]]
    """The same, and what the classifier's recorder saw meanwhile."""


def _generate(generator: nn.Module, latents: Tensor, labels: Tensor) -> Tensor:
    images: Tensor = generator(latents, labels)
    return images


def _forward(network: nn.Module, images: Tensor) -> Output:
    output: Output = network(images)
    return output


def _forward_with(network: nn.Module, weights: Weights, images: Tensor) -> Output:
    output: Output = functional_call(network, weights, (images,))
    return output


def _forward_recorded(
    network: nn.Module, recorder: StatisticsRecorder, images: Tensor
) -> tuple[Output, list[ChannelStatistics | None]]:
    return recorder.observe(network, images)


PLAIN = Execution(_generate, _forward, _forward_with, _forward_recorded)


@functools.cache
def compiled() -> Execution:
    """The same functions compiled, once in a process: networks of the same architecture and batch size share what was compiled.

    Python functions of networks rather than networks, for torch keeps what it compiled with the function. ConfigError where
    this machine has no C++ compiler, which a CPU needs.
    """
    check_compiler()
    torch._dynamo.config.recompile_limit = MOST_VARIANTS
    compile_ = functools.partial(torch.compile, dynamic=False)
    return Execution(compile_(_generate), compile_(_forward), compile_(_forward_with), compile_(_forward_recorded))


def check_compiler() -> None:
    """Raise ConfigError where nothing here can build what torch.compile writes for a CPU."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"compile: needs a C++ compiler, {compiler} is not on PATH: install it, name one in CXX, or leave compile false"
        )
