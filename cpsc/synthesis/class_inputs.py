"""What tells a generator the class of an image: a fixed vector a class, without a word of text and without a download."""

from typing import Literal

import torch
from torch import Tensor, nn

from cpsc.errors import ConfigError
from cpsc.rng import stream
from cpsc.teacher import Teacher

Kind = Literal["teacher", "one_hot", "random"]
RANDOM_DIM = 512
"""As long as the embeddings of class names that NAYER was published with."""


def class_inputs(kind: Kind, teacher: Teacher, *, seed: int) -> Tensor:
    """A vector for each class, float32 [C, d] on the CPU.

    `teacher`: the rows of its classifier, whose angles tell which classes it holds to be alike; `one_hot`: no class is nearer to
    one than to another; `random`: the same but for chance. ConfigError where the teacher has no such rows.
    """
    if kind == "one_hot":
        return torch.eye(teacher.num_classes)
    if kind == "random":
        return torch.randn(teacher.num_classes, RANDOM_DIM, generator=stream(seed, "class inputs"))
    layers = [
        f"{name}.weight".lstrip(".")
        for name, module in teacher.build_untrained().named_modules()
        if isinstance(module, nn.Linear) and module.out_features == teacher.num_classes
    ]
    if not layers:
        raise ConfigError(
            f"noisy_layer.class_inputs: the teacher has no linear layer with its {teacher.num_classes} classes as outputs; "
            "take one_hot or random"
        )
    return teacher.state[layers[-1]].detach().float().cpu().clone()
