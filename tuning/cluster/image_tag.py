"""Image tags in Ray's form, ``2.60.0-py312-gpu``, which tell the Ray and Python versions of a container."""

import re

_PYTHON = re.compile(r"-py(\d)(\d+)(?![\d.])")


def ray_version(image: str) -> str:
    """rayproject/ray:2.60.0-py312-gpu -> 2.60.0."""
    return image.partition("@")[0].rpartition(":")[2].partition("-")[0]


def pythons(image: str) -> list[str]:
    """rayproject/ray:2.60.0-py312-gpu -> ["3.12"]; empty if the tag names none."""
    return [f"{match[1]}.{match[2]}" for match in _PYTHON.finditer(image)]
