"""Folders of users' code, searched after what is installed: the working directory, and the study file's folder."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDERS: list[str] = []


def look_in(folders: Iterable[str | Path]) -> None:
    """Make what lies in `folders` importable, behind all that is installed: a file there hides no library."""
    for folder in map(str, (Path(folder).absolute() for folder in folders)):
        if folder not in _FOLDERS:
            _FOLDERS.append(folder)
        if folder not in sys.path:
            sys.path.append(folder)


@contextmanager
def looking_back() -> Iterator[None]:
    """Folders that are looked in within the block are forgotten at its end: those of another launch are none of this one's."""
    known, path = len(_FOLDERS), list(sys.path)
    try:
        yield
    finally:
        for folder in _FOLDERS[known:]:
            if folder not in path:
                sys.path.remove(folder)
        del _FOLDERS[known:]


def code_folders() -> tuple[str, ...]:
    """The folders that this process looks in, for those that run its trials."""
    return tuple(_FOLDERS)
