"""A student for deployment: pixels in, logits out, without any knowledge of how it was trained."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cpsc.data.dataset import Normalisation
from cpsc.errors import CheckpointError, ConfigError
from cpsc.models import build_model
from cpsc.teacher import Teacher


class DeployedStudent(nn.Module):
    """Float images [N, K, H, W] with pixels in [0, 1] -> logits [N, C]. Includes the teacher's normalisation."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(normalisation.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(normalisation.std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network((pixels - self.mean) / self.std).logits
        return logits


def build_deployed(arch: str, weights: Mapping[str, Tensor], teacher: Teacher) -> DeployedStudent:
    """The student network `arch` with `weights`, in eval mode on the CPU, for the images that `teacher` takes.

    CheckpointError if they do not fit together, which may happen with values from a file.
    """
    try:
        network = build_model(arch, num_classes=teacher.num_classes, channels=teacher.channels)
        network.load_state_dict(dict(weights))
    except (ConfigError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        raise CheckpointError(f"best student's weights do not fit its network {arch!r}: {reason}") from error
    return DeployedStudent(network, teacher.normalisation).eval()
