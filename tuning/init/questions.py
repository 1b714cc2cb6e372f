"""Questions about a teacher that no weights file answers: as prompts to a person, or as the flags that answer them."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from cpsc.errors import ConfigError
from cpsc.published import NORMALISATION_RULE, NORMALISATIONS
from tuning.study.config import parse_published
from tuning.study.yaml_loader import load_yaml

Ask = Callable[[str, str | None], str]
"""Puts a question to a person, with the answer that is taken where none is given -> the answer."""
Tell = Callable[[str], None]


class Question(NamedTuple):
    """What is asked about one setting of a study's ``teacher``."""

    flag: str
    value: str
    """What stands behind the flag, as a line shows it."""
    text: str


QUESTIONS: Mapping[str, Question] = {
    "weights": Question("--weights", "KEY", "Which of the networks in the file"),
    "factory": Question(
        "--factory", "MODULE:FUNCTION", "What makes the network, as module:function (e.g. network:build in network.py)"
    ),
    "num_classes": Question("--classes", "NUMBER", "How many classes it tells apart"),
    "channels": Question("--channels", "NUMBER", "Channels of its images"),
    "image_size": Question("--image-size", "PIXELS", "Side of its images in pixels"),
    "normalisation": Question("--normalisation", "|".join(NORMALISATIONS), f"Constants it was trained with, {NORMALISATION_RULE}"),
    "variant": Question("--variant", "NAME", "Which of the networks with these weights' names and shapes"),
}
"""By setting, in the order in which they are asked."""


def flags_for(settings: Collection[str], options: Sequence[str] = ()) -> str:
    """The flags that say `settings`, as a command line has them; `options`: what the first of them may be."""
    first, *others = [QUESTIONS[name] for name in QUESTIONS if name in settings]
    return " ".join([f"{first.flag} {'|'.join(options) or first.value}", *(f"{each.flag} {each.value}" for each in others)])


def by_flags(message: str) -> str:
    """A message about settings of a study's ``teacher``, with the flags that say them here."""
    for name, question in QUESTIONS.items():
        message = message.replace(f"config.teacher.{name}", question.flag)
    return message.removeprefix("config.teacher: ")


def checked(said: Mapping[str, Any]) -> dict[str, Any]:
    """`said` as it is. ConfigError, which names a flag, where a value breaks a rule."""
    try:
        parse_published(dict(said))
    except ConfigError as error:
        raise ConfigError(by_flags(str(error))) from error
    return dict(said)


def parse_constants(text: str) -> Any:
    """What is said of a normalisation, as a study file would have it: a name, or a mapping. ConfigError where it is no YAML."""
    return _parsed("normalisation", text)


def _parsed(name: str, text: str) -> Any:
    if name in ("weights", "factory", "variant"):
        return text
    try:
        return load_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"{QUESTIONS[name].flag}: {re.sub(r'^line [0-9]+:? ', '', str(error))}") from error


def asked(name: str, said: Mapping[str, Any], ask: Ask, tell: Tell, *, default: str | None, options: Sequence[str] = ()) -> Any:
    """A person's answer about setting `name`, asked again while it breaks a rule."""
    text = QUESTIONS[name].text + (f" ({', '.join(options)})" if options else "")
    while True:
        try:
            answer = _parsed(name, ask(text, default))
            checked({**said, name: answer})
        except ConfigError as error:
            tell(str(error))
        else:
            return answer
