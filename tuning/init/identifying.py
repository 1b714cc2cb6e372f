"""Identify the teacher in a weights file: recognise what the file tells, ask for the rest, check the network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpsc.cost import count_parameters
from cpsc.errors import CheckpointError, ConfigError, MissingSettingError
from cpsc.norms import NormSurvey
from cpsc.published import load_teacher
from cpsc.teacher import Teacher
from tuning.display import Display
from tuning.init.questions import Ask, asked, by_flags, checked, flags_for
from tuning.study import TeacherSource
from tuning.study.config import parse_published
from tuning.study.teacher_fit import survey_teacher
from tuning.trial.network_check import UndecidedNetworkError, settle_network

CONSTANTS = ("image_size", "normalisation")
"""Settings that a file with only weights never contains."""
ANY_CONSTANTS = "identity"
"""Placeholder constants to inspect a network with before its own are known: they change no shape."""
LIKELY_SIZES = (32, 28, 16, 64, 8, 96, 128, 224)
"""Image sizes to try if none is given: many networks accept any size, most others one of these."""
GREY, GREY_SIZE, LARGE_SIZE = 1, 28, 64
DEFAULTS = {"num_classes": "10", "channels": "3"}
Said = Mapping[str, Any]
"""Settings of a study's ``teacher`` other than the path."""


@dataclass(frozen=True, kw_only=True)
class Identified:
    """A teacher, and how it was identified."""

    path: Path
    teacher: Teacher
    norms: NormSurvey
    said: Said
    """Settings that the file does not contain."""
    finding: str
    """Result of the network check; empty if there was nothing to check."""
    remarks: Sequence[str]
    """Notes on what was chosen from the file, converted or left out."""

    @property
    def is_bundle(self) -> bool:
        """Whether the file contains all settings itself."""
        return "normalisation" not in self.said


def identify(path: Path, said: Said, ask: Ask | None, display: Display, *, force: bool = False) -> Identified:
    """Identify the teacher in the file at `path`; `said`: the settings that the user has given.

    Missing settings are asked for with `ask`; without it (None), a ConfigError lists the flags that give them. CheckpointError if
    the file has no readable weights. ConfigError if the weights belong to another network, unless forced.
    """
    outline, said = _outlined(path, checked(said), ask, display)
    if outline is not None:
        said = _with_constants(path, said, outline, ask, display)
    return _settled(path, said, ask, display, force=force)


def described(teacher: Teacher) -> str:
    """A short description of the teacher."""
    number = count_parameters(teacher.build_untrained())
    channels = f"{teacher.channels} channel{'s' if teacher.channels > 1 else ''}"
    return f"{teacher.arch}, {number:,} weights, {teacher.num_classes} classes, {channels}"


def _outlined(path: Path, said: Said, ask: Ask | None, display: Display) -> tuple[Teacher | None, Said]:
    """The teacher with placeholder constants, or None if the file lacks none, and `said` with the answers needed for that."""
    while True:
        try:
            return _outline(path, said), said
        except MissingSettingError as missing:
            said = _answered(missing, said, ask, display)


def _outline(path: Path, said: Said) -> Teacher | None:
    try:
        load_teacher(path, parse_published(dict(said)))
    except MissingSettingError as missing:
        if not set(missing.settings) & set(CONSTANTS):
            raise
        return _at_some_size(path, said)
    return None


def _at_some_size(path: Path, said: Said) -> Teacher:
    """The teacher at the given image size, or at the first likely size that its network accepts."""
    refusals: list[ConfigError | CheckpointError] = []
    for size in [said["image_size"]] if "image_size" in said else LIKELY_SIZES:
        try:
            return load_teacher(path, parse_published({"normalisation": ANY_CONSTANTS, **said, "image_size": size}))
        except MissingSettingError:
            raise
        except (ConfigError, CheckpointError) as error:
            refusals.append(error)
    if len({str(error) for error in refusals}) > 1:  # the reason differs by size, so the size is the problem
        raise MissingSettingError(f"{refusals[0]}; it does not accept images of side {LIKELY_SIZES[0]} pixels", "image_size")
    raise refusals[0]


def _answered(missing: MissingSettingError, said: Said, ask: Ask | None, display: Display) -> Said:
    """`said` plus the user's answers for the `missing` settings."""
    if ask is None:
        unsaid = {*missing.settings, *CONSTANTS} - said.keys()
        raise ConfigError(f"{missing}: pass {flags_for(unsaid, missing.options)}") from missing
    display.say(str(missing))
    for name in missing.settings:
        default = next(iter(missing.options), DEFAULTS.get(name))
        said = {**said, name: asked(name, said, ask, display.say, default=default, options=missing.options)}
    return said


def _with_constants(path: Path, said: Said, outline: Teacher, ask: Ask | None, display: Display) -> Said:
    """`said` plus the constants, which the file cannot tell."""
    unsaid = [name for name in CONSTANTS if name not in said]
    if ask is None:
        told = f"{path}: {described(outline)}; weights do not tell their image size and input constants"
        raise ConfigError(f"{told}: pass {flags_for(unsaid)}")
    display.say(f"{path}: {described(outline)}")
    for name in unsaid:
        likely = _likely_size(outline) if name == "image_size" else _likely_constants(outline, said["image_size"])
        said = {**said, name: asked(name, said, ask, display.say, default=likely)}
    return said


def _likely_size(outline: Teacher) -> str:
    takes_any = outline.image_size == LIKELY_SIZES[0]
    return str(GREY_SIZE if takes_any and outline.channels == GREY else outline.image_size)


def _likely_constants(outline: Teacher, image_size: int) -> str:
    if outline.channels == GREY:
        return "mnist"
    return "imagenet" if image_size >= LARGE_SIZE else "cifar10"


def _settled(path: Path, said: Said, ask: Ask | None, display: Display, *, force: bool) -> Identified:
    """Load the teacher with all settings, and settle on the network that fits its batch norms."""
    remarks: list[str] = []
    teacher = load_teacher(path, parse_published(dict(said)), say=remarks.append)
    source = TeacherSource(path=str(path), recipe=None, min_accuracy=0.0, published=parse_published(dict(said)))
    try:
        teacher, finding = settle_network(teacher, source, str(path), torch.device("cpu"), display, force=force)
    except UndecidedNetworkError as undecided:
        missing = MissingSettingError(by_flags(str(undecided)), "variant", options=undecided.variants)
        return _settled(path, _answered(missing, said, ask, display), ask, display, force=force)
    except ConfigError as error:
        raise ConfigError(by_flags(str(error))) from error
    norms = survey_teacher(teacher)
    return Identified(path=path, teacher=teacher, norms=norms, said=said, finding=finding, remarks=remarks)
