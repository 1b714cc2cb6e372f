"""Names in a cluster file that nobody reads: each is refused, with the name that is likely meant."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from cpsc.errors import ConfigError


def check_keys(found: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raise ConfigError for the first key of `found` that is not known; `where`: "" for the top of a file."""
    for key in found:
        if key not in known:
            raise ConfigError(f"{where}.{key}".lstrip(".") + f": unknown key{hint(str(key), known)}")


def hint(word: str, known: Collection[str]) -> str:
    """What an error says behind an unknown word: the known one that it is nearly, if any."""
    guess = meant(word, known)
    return f", did you mean {guess}?" if guess else ""


def meant(word: str, known: Collection[str]) -> str | None:
    """The known word that it is nearly."""
    by_case = {each.lower(): each for each in known}
    return by_case.get(word.lower()) or next(iter(difflib.get_close_matches(word, known, n=1)), None)
