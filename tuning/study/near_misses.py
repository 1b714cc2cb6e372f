"""Suggestions for unknown words: the closest known word."""

import difflib
from collections.abc import Collection


def hint(word: str, known: Collection[str]) -> str:
    """Text for an error message after an unknown word: ``, did you mean ...?`` if a known word is close, else empty."""
    guess = meant(word, known)
    return f", did you mean {guess}?" if guess else ""


def meant(word: str, known: Collection[str]) -> str | None:
    """The known word that is closest to `word`, ignoring case; None if none is close."""
    by_case = {each.lower(): each for each in known}
    return by_case.get(word.lower()) or next(iter(difflib.get_close_matches(word, known, n=1)), None)
