"""Initial weights of a student: drawn, or taken from its teacher if it is a smaller network of the same family."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cpsc.config import StudentConfig
from cpsc.dead_leaves import dead_leaves
from cpsc.models import Reconstruction, is_smaller, selected_weights
from cpsc.rng import stream
from cpsc.teacher import Teacher

MOST_IMAGES = 512
MOST_PLACES = 2**19
"""Pixels of all images together that a student is reconstructed with: 512 images of 32 x 32, or ten of 224 x 224."""


def check_first_weights(config: StudentConfig, student: nn.Module, teacher: Teacher) -> None:
    """Raise ConfigError if `student`, on any device, cannot have the initial weights that `config` asks for."""
    if config.initial == "selected":
        selected_weights(teacher.state, student)
    elif config.initial == "reconstructed":
        Reconstruction(student, teacher.build(torch.device("cpu")))


class FirstWeights:
    """Sets the initial weights of `student`, which has drawn ones so far: at once, or as soon as there are images to fit them on.

    `channels`: for a reconstructed student, which of the teacher's channels it has, by stage; else empty.
    """

    def __init__(self, config: StudentConfig, student: nn.Module, teacher: Teacher, *, seed: int, device: torch.device) -> None:
        self._teacher, self._seed, self._device = teacher, seed, device
        self._plan = Reconstruction(student, teacher.build(device)) if config.initial == "reconstructed" else None
        self.channels: list[Tensor] = []
        if config.initial == "selected" or (config.initial == "auto" and is_smaller(student, teacher.state)):
            student.load_state_dict(selected_weights(teacher.state, student))

    @property
    def is_reconstructed(self) -> bool:
        """Whether the weights are fitted on images."""
        return self._plan is not None

    def finish(self, examples: Callable[[int], Tensor]) -> None:
        """Reconstruct the student, unless done before; call before it learns. `examples(n)`: at least n uint8 images per class."""
        if self._plan is None or self.channels:
            return
        side = self._teacher.image_size
        number = max(1, min(MOST_IMAGES, MOST_PLACES // side**2) // 2)
        found = examples(-(-number // self._teacher.num_classes))
        some = found[torch.arange(min(number, len(found)), device=found.device) * len(found) // min(number, len(found))]
        leaves = dead_leaves(number, channels=self._teacher.channels, image_size=side, rng=stream(self._seed, "first leaves"))
        normalisation = self._teacher.normalisation
        images = [normalisation.normalise(some), normalisation.from_unit(leaves.to(self._device))]
        self.channels = self._plan.run(torch.cat(images))

    def state_dict(self) -> dict[str, Any]:
        return {"channels": list(self.channels)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.channels = [channels.to(self._device) for channels in state["channels"]]
