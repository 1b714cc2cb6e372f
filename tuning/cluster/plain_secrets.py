"""Secrets in plain text: whoever may read a cluster file must not thereby learn its secrets."""

import re

from cpsc.errors import ConfigError
from tuning.redaction import redact

_FROM_ELSEWHERE = re.compile(r"\$\([^)]*\)|`[^`]*`|\$\{[^}]*\}|\$\w+")
"""Parts that a shell substitutes when it runs: they contain no secret."""


def holds_secret(text: str) -> bool:
    """Whether `text` spells out a password, a token or a key, in a form that a log would hide."""
    spelled_out = _FROM_ELSEWHERE.sub("", text)
    return redact(spelled_out) != spelled_out


def check_lines(text: str, where: str, remedy: str) -> None:
    """Raise ConfigError for the first line that holds a secret, without repeating it."""
    for number, line in enumerate(text.splitlines(), start=1):
        if holds_secret(line):
            raise ConfigError(f"{where}line {number}: holds a secret in plain text, {remedy}")
