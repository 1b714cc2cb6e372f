"""Requirements of this project: from `pyproject.toml` in a checkout, otherwise from the installed distribution."""

import tomllib
from importlib.metadata import metadata
from importlib.resources import files
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

NAME = "cpsc-tune"
PYPROJECT = Path(str(files("tuning"))).parent / "pyproject.toml"
"""Next to `tuning` in a checkout; does not exist if a wheel is installed."""


def requirements(extra: str | None = None) -> list[Requirement]:
    """The requirements of every installation, or those that `extra` adds."""
    if PYPROJECT.is_file():
        project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
        return [Requirement(text) for text in (project["optional-dependencies"][extra] if extra else project["dependencies"])]
    found = [Requirement(text) for text in metadata(NAME).get_all("Requires-Dist") or ()]
    plain = [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]
    if extra is None:
        return plain
    return [each for each in found if each not in plain and each.marker is not None and each.marker.evaluate({"extra": extra})]


def python_range() -> SpecifierSet:
    """The supported Python versions."""
    if PYPROJECT.is_file():
        return SpecifierSet(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["requires-python"])
    return SpecifierSet(metadata(NAME)["Requires-Python"])
