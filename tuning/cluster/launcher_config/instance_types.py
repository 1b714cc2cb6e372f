"""Processors, GPUs and architecture of EC2's instance types, from a rule for their names with exceptions.

AWS gives them only to accounts, and botocore's model has only the names. The rule holds for all 1,395 types that moto recorded
from AWS, which a test compares.
"""

import re
from dataclasses import dataclass

_SIZES = {"nano": 1, "micro": 1, "small": 1, "medium": 1, "large": 2, "xlarge": 4}
_BURSTING = {"nano": 2, "micro": 2, "small": 2, "medium": 2}
_METAL = {
    16: "a1",
    48: "m5zn x2iezn z1d",
    64: "c6g c6gd c7g c7gd c7gn g5g m6g m6gd m7g m7gd r6g r6gd r7g r7gd x2gd",
    72: "c5n i3",
    96: "c5 c5d g4dn i3en m5 m5d m5dn m5n r5 r5b r5d r5dn r5n",
    128: "c6i c6id c6in i4i m6i m6id m6idn m6in r6i r6id r6idn r6in x2idn x2iedn",
    192: "c6a m6a r6a",
}
_FAMILIES: dict[str, dict[str, int]] = {
    **{family: {"metal": cpus} for cpus, families in _METAL.items() for family in families.split()},
    **dict.fromkeys(("t3", "t3a", "t4g", "t8i"), _BURSTING),
    "t2": {"medium": 2},
    "c1": {"medium": 2, "xlarge": 8},
    "m2": {"xlarge": 2, "2xlarge": 4, "4xlarge": 8},
    "c4": {"8xlarge": 36},
    "d2": {"8xlarge": 36},
    "hpc6a": {"48xlarge": 96},
    "hpc6id": {"32xlarge": 64},
    "hpc7a": {"12xlarge": 24, "24xlarge": 48, "48xlarge": 96, "96xlarge": 192},
    "hpc8a": {"96xlarge": 192},
}
"""Processors of sizes for which the general rule is wrong."""

_GPUS: dict[str, tuple[int, dict[str, int]]] = {
    "g2": (1, {"8xlarge": 4}),
    "g3": (1, {"8xlarge": 2, "16xlarge": 4}),
    "g3s": (1, {}),
    "g4ad": (1, {"8xlarge": 2, "16xlarge": 4}),
    "g4dn": (1, {"12xlarge": 4, "metal": 8}),
    "g5": (1, {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}),
    "g5g": (1, {"16xlarge": 2, "metal": 2}),
    "g6": (1, {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}),
    "g6e": (1, {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}),
    "g6f": (1, {}),  # a part of one, which its driver shows as one
    "gr6": (1, {}),
    "gr6f": (1, {}),
    "g7": (1, {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8}),
    "g7e": (1, {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8}),
    "p2": (1, {"8xlarge": 8, "16xlarge": 16}),
    "p3": (1, {"8xlarge": 4, "16xlarge": 8}),
    "p3dn": (8, {}),
    "p4d": (8, {}),
    "p4de": (8, {}),
    "p5": (8, {"4xlarge": 1}),
    "p5e": (8, {}),
    "p5en": (8, {}),
    "p6-b200": (8, {}),
    "p6-b300": (8, {}),
    "p6e-gb200": (4, {}),
}
"""GPUs by family: those of most sizes, and those of the others."""


@dataclass(frozen=True)
class Machine:
    """Resources of a machine of one type; None if its name does not tell."""

    cpus: int | None
    gpus: int | None
    architecture: str | None


def machine(instance_type: str) -> Machine:
    """The machine of a type in EC2's naming, e.g. g5.xlarge."""
    family, _, size = instance_type.partition(".")
    return Machine(_cpus(family, size), _gpus(family, size), _architecture(family))


def _cpus(family: str, size: str) -> int | None:
    if family.startswith(("mac", "cc", "cr", "cg", "hi", "hs")):  # with sizes of their own
        return None
    if found := _FAMILIES.get(family, {}).get(size):
        return found
    if times := re.fullmatch(r"(metal-)?(?P<times>\d+)xl(arge)?", size):
        return 4 * int(times["times"])
    return _SIZES.get(size)


def _gpus(family: str, size: str) -> int | None:
    if family in _GPUS:
        usual, others = _GPUS[family]
        return others.get(size, usual)
    may_have = re.match(r"(g|p)r?\d", family)  # the naming scheme of future GPU families
    return None if may_have or family.startswith("cg") else 0


def _architecture(family: str) -> str | None:
    if family.startswith("mac"):
        return None
    is_graviton = family in ("a1", "p6e-gb200") or re.match(r"[a-z]+\d+g", family)
    return "arm64" if is_graviton else "x86_64"
