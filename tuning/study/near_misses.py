"""What was likely meant by an unknown word: the known one that it nearly is."""

import difflib
from collections.abc import Collection


def hint(word: str, known: Collection[str]) -> str:
    """What an error says behind an unknown word: the known one that it is nearly, if any."""
    guess = meant(word, known)
    return f", did you mean {guess}?" if guess else ""


def meant(word: str, known: Collection[str]) -> str | None:
    """The known word that it is nearly."""
    by_case = {each.lower(): each for each in known}
    return by_case.get(word.lower()) or next(iter(difflib.get_close_matches(word, known, n=1)), None)
