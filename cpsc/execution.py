"""How networks are executed: operation by operation, or fused by ``torch.compile``."""

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
"""Variants of one function (networks times phases of a study) to compile before torch falls back to running it uncompiled."""


Generate = Callable[[nn.Module, Tensor, Tensor], Tensor]
Weights = dict[str, Tensor]


class Execution(NamedTuple):
    """The functions by which the loop runs networks; each takes the network as an argument."""

    generate: Generate
    """Generator, latents [B, nz], labels [B] -> images [B, K, H, W]."""
    forward: Callable[[nn.Module, Tensor], Output]
    """Classifier, images -> features and logits."""
    forward_with: Callable[[nn.Module, Weights, Tensor], Output]
    """The same, with some weights replaced, by name."""
    forward_recorded: Callable[[nn.Module, StatisticsRecorder, Tensor], tuple[Output, list[ChannelStatistics | None]]]
    """The same as `forward`, and what the classifier's recorder observed."""


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
    """The same functions compiled, once per process; networks of the same architecture and batch size share the compiled code.

    Functions are compiled rather than networks, because torch stores the compiled code with the function. ConfigError if
    this machine has no C++ compiler, which a CPU needs.
    """
    check_compiler()
    torch._dynamo.config.recompile_limit = MOST_VARIANTS
    compile_ = functools.partial(torch.compile, dynamic=False)
    return Execution(compile_(_generate), compile_(_forward), compile_(_forward_with), compile_(_forward_recorded))


def check_compiler() -> None:
    """Raise ConfigError if there is no compiler for the code that torch.compile generates for a CPU."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"compile: needs a C++ compiler, but {compiler} is not on PATH: install it, name one in CXX, or set compile to false"
        )
