"""The ``cpsc-tune`` commands in a cluster file: they must be valid, and `resume` must continue the launch that `sweep` begins."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from cpsc.errors import ConfigError
from tuning.cluster.shell import simple_commands, substitute
from tuning.study import Study, load_study
from tuning.study.packaged_studies import find_study

Grammar = Callable[[Sequence[str]], Mapping[str, Any]]
"""Words after ``cpsc-tune`` -> the verb, as "verb", and its parameters' values by name. ConfigError if no verb accepts them."""
PROGRAM, MODULE = "cpsc-tune", "tuning"


@dataclass(frozen=True)
class DriverCommands:
    """The commands in a file that begin and resume a launch, and the study, if its file is on this machine."""

    sweep: Mapping[str, Any]
    resume: Mapping[str, Any]
    study: Study | None

    @property
    def folders(self) -> list[str]:
        """Where the launch is stored: folders, URIs, or variables whose values are not known here."""
        return [
            self.resume["storage"],
            *(_assigned(self.sweep)[key] for key in ("storage", "local") if key in _assigned(self.sweep)),
        ]


def check_driver_commands(text: str, where: str, grammar: Grammar, known: Mapping[str, str] | None = None) -> DriverCommands:
    """The commands in a shell text. ConfigError unless they begin a launch on the cluster and resume the same one.

    `known`: values of variables that are set for the text.
    """
    found = [_parsed(words, where, grammar) for words in commands_in(text, where, known or {})]
    sweep, resume = (_only(found, verb, where) for verb in ("sweep", "resume"))
    for command in (sweep, resume):
        if command["address"] != "auto":
            raise ConfigError(f"{where}: {PROGRAM} {command['verb']} must have --address auto, got {command['address'] or 'none'}")
    study = _study(sweep, where)
    _check_same_launch(sweep, resume, study, where)
    return DriverCommands(sweep, resume, study)


def doubt_study(commands: DriverCommands, where: str) -> Iterator[str]:
    """Yields what could not be checked."""
    if commands.study is None:
        yield f"{where}: the study {commands.sweep['study']} is not on this machine, so its settings were not checked"


def commands_in(text: str, where: str, known: Mapping[str, str]) -> Iterator[list[str]]:
    """The words after each ``cpsc-tune`` or ``python -m tuning``, also inside the ``-c`` text of another shell."""
    for words in simple_commands(text, where):
        if start := _start(words):
            yield [substitute(word, known) for word in _without_redirections(words[start:])]
            continue
        for before, word in pairwise(words):
            if before == "-c":
                yield from commands_in(word, where, known)


def _start(words: Sequence[str]) -> int:
    """The index where the arguments of ``cpsc-tune`` begin, or 0."""
    for index, word in enumerate(words):
        if PurePosixPath(word).name == PROGRAM:
            return index + 1
        if word == MODULE and index and words[index - 1] == "-m":
            return index + 1
    return 0


def _without_redirections(words: Sequence[str]) -> Sequence[str]:
    end = next((index for index, word in enumerate(words) if set(word) <= set("<>&")), len(words))
    return words[: end - 1] if end < len(words) and words[end - 1].isdecimal() else words[:end]


def _parsed(words: Sequence[str], where: str, grammar: Grammar) -> Mapping[str, Any]:
    try:
        return grammar(words)
    except ConfigError as error:
        raise ConfigError(f"{where}: `{shlex.join([PROGRAM, *words[:1]])} ...`: {error}") from error


def _only(found: Sequence[Mapping[str, Any]], verb: str, where: str) -> Mapping[str, Any]:
    commands = [command for command in found if command["verb"] == verb]
    if len(commands) != 1:
        rule = f"must run `{PROGRAM} sweep` once to begin the launch, and `{PROGRAM} resume` once to continue it"
        raise ConfigError(f"{where}: {rule}, got `{PROGRAM} {verb}` {len(commands)} times")
    return commands[0]


def _assigned(command: Mapping[str, Any]) -> dict[str, str]:
    """The values of ``--set``, by path."""
    return {path: value for path, _, value in (text.partition("=") for text in command["set_"] or ())}


def _study(sweep: Mapping[str, Any], where: str) -> Study | None:
    """The study with its overrides, or None if its file is not on this machine. Values that are not known are left out."""
    name = str(sweep["study"])
    if "$" in name or ("/" in name and not Path(name).exists()):
        return None
    try:
        return load_study(find_study(Path(name)), [text for text in sweep["set_"] or () if "$" not in text])
    except ConfigError as error:
        raise ConfigError(f"{where}: `{PROGRAM} sweep {name}`: {error}") from error


def _check_same_launch(sweep: Mapping[str, Any], resume: Mapping[str, Any], study: Study | None, where: str) -> None:
    """ConfigError unless `resume` continues the launch that `sweep` begins: the same name, and the same folder or URI."""
    assigned = _assigned(sweep)
    name = assigned.get("name", study.name if study else resume["name"])
    if resume["name"] != name:
        raise ConfigError(f"{where}: `{PROGRAM} resume` must name the launch that `sweep` begins, {name}, got {resume['name']}")
    places = [assigned[key] for key in ("local", "storage") if key in assigned]
    if resume["storage"] not in places:
        rule = f"the --storage of `{PROGRAM} resume` must be what `sweep` sets as storage or local"
        raise ConfigError(f"{where}: {rule}, {' or '.join(places) or 'which sets neither'}, got {resume['storage']}")
