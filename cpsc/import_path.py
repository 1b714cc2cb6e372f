"""Import paths, ``package.module:name``: how users name their own code, a network's factory or a method."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from cpsc.errors import ConfigError
from cpsc.torchvision_cure import import_beside_torchvision

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_import_path(name: object) -> bool:
    """Whether `name` has the form ``package.module:name`` rather than being a built-in name."""
    return isinstance(name, str) and ":" in name


def check_import_path(path: str, *, noun: str = "factory", kind: str = "function") -> None:
    """Raise ConfigError unless `path` has the form ``package.module:name``; imports nothing. `noun`, `kind`: for the message."""
    if not _IMPORT_PATH.fullmatch(path):
        raise ConfigError(f"{noun} must have the form package.module:{kind}, got {path[:80]!r}")


def import_object(path: str, *, noun: str = "factory", kind: str = "function") -> Any:
    """Import and return what `path` names. This runs the user's code: `path` must come from a person, never from a file.

    Raises ConfigError, whose message begins with `noun` and `path`, if the import fails or the module has no such name.
    """
    check_import_path(path, noun=noun, kind=kind)
    module_name, _, name = path.partition(":")
    with told_in_a_line(f"{noun} {path}", f"its module {module_name} fails when imported"):
        try:
            module = import_beside_torchvision(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # a module that the user's module imports
            raise _NotFoundError(_not_found(f"{noun} {path}", error.name)) from error
    if not hasattr(module, name):
        raise ConfigError(f"{noun} {path}: module {module_name} ({getattr(module, '__file__', None)}) has no {name!r}")
    return getattr(module, name)


@contextmanager
def told_in_a_line(subject: str, what: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a ConfigError. What it prints goes to stderr: a program may read stdout."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except _NotFoundError:
        raise
    except (Exception, SystemExit) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise ConfigError(f"{subject}: {what}: {type(error).__name__} {reason}".rstrip()) from error


class _NotFoundError(ConfigError):
    """There is no module with that name."""


def _not_found(subject: str, missing: str) -> str:
    return (
        f"{subject}: there is no module {missing}: make it importable here and on every node that runs trials, "
        "from the working directory, the study file's folder or PYTHONPATH"
    )
