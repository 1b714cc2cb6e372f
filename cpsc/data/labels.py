"""Class numbers as files hold them: which values are one, and which numbers name all classes."""

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
    """The class that a label names: a whole number, also where a column of floats keeps it, or no and yes.

    Raises ValueError with the rule for everything else.
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
        raise ValueError("a label must be a class number, got '-1', which marks an image that nobody has labelled")
    if not 0 <= number < MAX_LABEL:
        raise ValueError(f"a label must be a class number, got {str(number)!r}")
    return number


def check_numbering(labels: Sequence[Tensor], where: str) -> int:
    """How many classes labels without names tell apart: they must be 0..C-1, each in one part at least, else DataError."""
    used = torch.cat([part.unique() for part in labels]).unique()
    high = int(used.max())
    absent = next((index for index, label in enumerate(used.tolist()) if index != label), None)
    if absent is not None:
        raise DataError(
            f"{where}: labels without names must run from 0 and leave none out, these are {int(used.min())}..{high} without "
            f"{absent}: number them anew, or name the classes in the schema"
        )
    return high + 1


def say_absent(part: str, labels: Tensor, names: Sequence[str], say: Callable[[str], None]) -> None:
    """Tell `say` of classes that `part` has no image of."""
    counts = torch.bincount(labels, minlength=len(names))
    if absent := [name for name, count in zip(names, counts.tolist(), strict=False) if not count]:
        more = f" and {len(absent) - SHOWN_CLASSES} more" if len(absent) > SHOWN_CLASSES else ""
        say(f"{part} has no image of {', '.join(absent[:SHOWN_CLASSES])}{more}")
