"""Folders of users' code, searched after installed packages: the working directory and the study file's folder."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDERS: list[str] = []


def look_in(folders: Iterable[str | Path]) -> None:
    """Make modules in `folders` importable, after everything installed: a file there cannot hide a library."""
    for folder in map(str, (Path(folder).absolute() for folder in folders)):
        if folder not in _FOLDERS:
            _FOLDERS.append(folder)
        if folder not in sys.path:
            sys.path.append(folder)


@contextmanager
def looking_back() -> Iterator[None]:
    """Forget at the end of the block the folders that were added in it: those of another launch do not belong to this one."""
    known, path = len(_FOLDERS), list(sys.path)
    try:
        yield
    finally:
        for folder in _FOLDERS[known:]:
            if folder not in path:
                sys.path.remove(folder)
        del _FOLDERS[known:]


def code_folders() -> tuple[str, ...]:
    """The folders that this process has added, for the workers that run its trials."""
    return tuple(_FOLDERS)
