"""Blocks of a student that is shallower than its teacher."""

from collections.abc import Callable

from torch import nn

from cpsc.models.reconstruction.layers import refusal


class Blocks:
    """Which of the teacher's blocks a block of the student stands for: an even share of each ``nn.Sequential``, in order."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self._student, self._teacher = student, teacher

    def first(self, name: str) -> str:
        """The teacher's counterpart of the module `name`, in the first block that the student's block stands for."""
        return self._named(name, lambda index, own, other: index * other // own)

    def last(self, name: str) -> str:
        """The same in the last of these blocks."""
        return self._named(name, lambda index, own, other: (index + 1) * other // own - 1)

    def _named(self, name: str, place: Callable[[int, int, int], int]) -> str:
        own, other, parts = self._student, self._teacher, []
        for part in name.split("."):
            children = [key for key, _ in other.named_children()]
            if isinstance(own, nn.Sequential) and 0 < len(own) <= len(children):
                index = [key for key, _ in own.named_children()].index(part)
                parts.append(children[place(index, len(own), len(children))])
            else:
                parts.append(part)
            own = own.get_submodule(part)
            if parts[-1] not in children:
                raise refusal(f"the teacher has no {'.'.join(parts)}")
            other = other.get_submodule(parts[-1])
        return ".".join(parts)
