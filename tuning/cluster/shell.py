"""Shell commands in cluster files: simple commands, a program's flags, and its environment variables."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from string import Template

from cpsc.errors import ConfigError

ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Invocation:
    """How a shell command starts a program: its flags and environment variables."""

    flags: Mapping[str, str]
    variables: Mapping[str, str]


def invocations(commands: Sequence[str], where: str, program: str, verb: str) -> Iterator[Invocation]:
    """Every ``program verb ...`` in `commands`, the list under the key `where`."""
    for command in commands:
        if not re.search(rf"\b{program}\s+{verb}\b", command):
            continue
        exported: dict[str, str] = {}  # each command runs in its own shell
        for words in simple_commands(command, where):
            names = [PurePosixPath(word).name for word in words]
            start = next((i for i, pair in enumerate(zip(names, words[1:], strict=False)) if pair == (program, verb)), None)
            if start is not None:
                yield Invocation(flags_of(words[start + 2 :]), exported | assignments(words[:start]))
            elif words[0] == "export":
                exported |= assignments(words[1:])


def simple_commands(command: str, where: str) -> Iterator[list[str]]:
    """The words of each simple command in a shell command, unquoted; variables are not expanded."""
    for line in _logical_lines(command.replace("\\\n", " "), where):
        words: list[str] = []
        for word in line:
            if set(word) <= set("();|&"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)
        if words:
            yield words


def _logical_lines(text: str, where: str) -> Iterator[list[str]]:
    """The words of each line; a quoted text may span several lines."""
    begun = ""
    for line in text.splitlines():
        begun = f"{begun}\n{line}" if begun else line
        lexer = shlex.shlex(begun, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # the quoted text continues
            continue
        begun = ""
        yield words
    if begun:
        raise ConfigError(f"{where}: {begun.strip()!r} is not a shell command (No closing quotation)")


def flags_of(words: Sequence[str]) -> dict[str, str]:
    """``--a=1 --b 2 --c`` -> ``{"--a": "1", "--b": "2", "--c": ""}``; the last of repeated flags wins, as in Ray."""
    flags: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], "-"], strict=True):
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            flags[name] = value if equals or following.startswith("-") else following
    return flags


def assignments(words: Sequence[str]) -> dict[str, str]:
    """``A=1 b C=2`` -> ``{"A": "1", "C": "2"}``."""
    matches = [ASSIGNMENT.fullmatch(word) for word in words]
    return {match[1]: match[2] for match in matches if match}


def substitute(word: str, known: Mapping[str, str]) -> str:
    """`word` with known variables substituted; others stay as they are."""
    return Template(word).safe_substitute(known)


def home(path: str) -> str:
    """Normalise paths in the home folder to begin with ``~``."""
    return re.sub(r"^(\$HOME|\$\{HOME\})(?=/|$)", "~", path)
