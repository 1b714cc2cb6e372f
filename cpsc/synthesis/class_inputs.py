"""Fixed vectors that tell a generator the class of an image, one per class; by default they need neither text nor downloads."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from cpsc.errors import ConfigError
from cpsc.rng import stream
from cpsc.synthesis.class_vectors import read_class_vectors
from cpsc.teacher import Teacher

Kind = Literal["teacher", "pseudo_inverse", "one_hot", "random", "file"]
RANDOM_DIM = 512
"""The size of the class-name embeddings that NAYER was published with."""
LEAST_SINGULAR_VALUE = 0.1
"""CPNet raises the singular values of the classifier to at least this before it inverts it."""


def class_inputs(kind: Kind, teacher: Teacher, *, seed: int, file: str | None = None) -> Tensor:
    """A vector for each class, float32 [C, d] on the CPU.

    `teacher`: the rows of its classifier, whose angles reflect which classes it considers similar. `pseudo_inverse`: the features
    that its classifier maps closest to each class alone, as in CPNet (ICCV 2025). `one_hot`: all classes are equally far apart.
    `random`: the same, up to chance. `file`: see `read_class_vectors`. ConfigError if the teacher has no such rows, or the file
    has no such vectors.
    """
    if kind == "one_hot":
        return torch.eye(teacher.num_classes)
    if kind == "random":
        return torch.randn(teacher.num_classes, RANDOM_DIM, generator=stream(seed, "class inputs"))
    if kind == "file":
        assert file is not None  # the settings have been checked
        return read_class_vectors(Path(file), teacher.num_classes)
    rows = _classifier(teacher)
    return rows if kind == "teacher" else _pseudo_inverse(rows)


def _classifier(teacher: Teacher) -> Tensor:
    """The weight [C, d] of its last layer."""
    layers = [
        f"{name}.weight".lstrip(".")
        for name, module in teacher.build_untrained().named_modules()
        if isinstance(module, nn.Linear) and module.out_features == teacher.num_classes
    ]
    if not layers:
        raise ConfigError(
            f"noisy_layer.class_inputs: the teacher has no linear layer with its {teacher.num_classes} classes as outputs; "
            "use one_hot or random"
        )
    return teacher.state[layers[-1]].detach().float().cpu().clone()


def _pseudo_inverse(weight: Tensor) -> Tensor:
    """Transposed pseudo-inverse of [C, d]: for each class, the features that this weight maps to its unit vector."""
    left, singular, right = torch.linalg.svd(weight, full_matrices=False)
    return left / singular.clamp_min(LEAST_SINGULAR_VALUE) @ right
