"""Class numbers in files: which values are valid, and how many classes a set of numbers stands for."""

import math
import operator
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor

from cpsc.errors import DataError

MAX_LABEL = 2**31
SHOWN_CLASSES = 3


def class_number(value: Any) -> int:
    """The class that a label names: a whole number, which may also be stored as a float or a boolean.

    Raises ValueError with the rule for anything else.
    """
    if value is None or value != value:
        raise ValueError("has no label")
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"a label must be a class number, got {str(value)[:40]!r}") from None
    if number == -1:
        raise ValueError("a label must be a class number, got '-1', which marks an unlabelled image")
    if not 0 <= number < MAX_LABEL:
        raise ValueError(f"a label must be a class number, got {str(number)!r}")
    return number


def check_numbering(labels: Sequence[Tensor], where: str) -> int:
    """The number of classes of labels without names: they must be 0..C-1, each in at least one part, else DataError."""
    used = torch.cat([part.unique() for part in labels]).unique()
    high = int(used.max())
    absent = next((index for index, label in enumerate(used.tolist()) if index != label), None)
    if absent is not None:
        raise DataError(
            f"{where}: labels without names must run from 0 without gaps, but these are {int(used.min())}..{high} without "
            f"{absent}: renumber them, or name the classes in the schema"
        )
    return high + 1


def say_absent(part: str, labels: Tensor, names: Sequence[str], say: Callable[[str], None]) -> None:
    """Tell `say` about classes of which `part` has no image."""
    counts = torch.bincount(labels, minlength=len(names))
    if absent := [name for name, count in zip(names, counts.tolist(), strict=False) if not count]:
        more = f" and {len(absent) - SHOWN_CLASSES} more" if len(absent) > SHOWN_CLASSES else ""
        say(f"{part} has no image of {', '.join(absent[:SHOWN_CLASSES])}{more}")
