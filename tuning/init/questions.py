"""Questions about a teacher that a weights file cannot answer, as prompts for a user or as command-line flags."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from cpsc.errors import ConfigError
from cpsc.published import NORMALISATION_RULE, NORMALISATIONS
from tuning.study.config import parse_published
from tuning.study.yaml_loader import load_yaml

Ask = Callable[[str, str | None], str]
"""Ask the user a question, with a default answer or None -> the answer."""
Tell = Callable[[str], None]


class Question(NamedTuple):
    """The question about one setting of a study's ``teacher``."""

    flag: str
    value: str
    """Placeholder for the flag's value."""
    text: str


QUESTIONS: Mapping[str, Question] = {
    "weights": Question("--weights", "KEY", "Which network of the file"),
    "factory": Question(
        "--factory",
        "MODULE:FUNCTION",
        "The function that builds the network, as module:function (e.g. network:build in network.py)",
    ),
    "num_classes": Question("--classes", "NUMBER", "Number of classes"),
    "channels": Question("--channels", "NUMBER", "Number of image channels"),
    "image_size": Question("--image-size", "PIXELS", "Height and width of its images in pixels"),
    "normalisation": Question(
        "--normalisation", "|".join(NORMALISATIONS), f"Input constants it was trained with, {NORMALISATION_RULE}"
    ),
    "variant": Question("--variant", "NAME", "Which network, of those with these parameter names and shapes"),
}
"""Questions by setting, in the order in which they are asked."""


def flags_for(settings: Collection[str], options: Sequence[str] = ()) -> str:
    """The flags for `settings` as on a command line; `options`: possible values of the first."""
    first, *others = [QUESTIONS[name] for name in QUESTIONS if name in settings]
    return " ".join([f"{first.flag} {'|'.join(options) or first.value}", *(f"{each.flag} {each.value}" for each in others)])


def by_flags(message: str) -> str:
    """`message`, with the settings of a study's ``teacher`` replaced by the flags of ``init``."""
    for name, question in QUESTIONS.items():
        message = message.replace(f"config.teacher.{name}", question.flag)
    return message.removeprefix("config.teacher: ")


def checked(said: Mapping[str, Any]) -> dict[str, Any]:
    """`said` unchanged. ConfigError, which names the flag, if a value breaks a rule."""
    try:
        parse_published(dict(said))
    except ConfigError as error:
        raise ConfigError(by_flags(str(error))) from error
    return dict(said)


def parse_constants(text: str) -> Any:
    """A normalisation as in a study file: a name or a mapping. ConfigError if the text is not valid YAML."""
    return _parsed("normalisation", text)


def _parsed(name: str, text: str) -> Any:
    if name in ("weights", "factory", "variant"):
        return text
    try:
        return load_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"{QUESTIONS[name].flag}: {re.sub(r'^line [0-9]+:? ', '', str(error))}") from error


def asked(name: str, said: Mapping[str, Any], ask: Ask, tell: Tell, *, default: str | None, options: Sequence[str] = ()) -> Any:
    """The user's answer for the setting `name`, asked again while it breaks a rule."""
    text = QUESTIONS[name].text + (f" ({', '.join(options)})" if options else "")
    while True:
        try:
            answer = _parsed(name, ask(text, default))
            checked({**said, name: answer})
        except ConfigError as error:
            tell(str(error))
        else:
            return answer
