"""Check that a teacher from a file is loaded into the network that it was trained in; report or refuse it."""

import math
from collections.abc import Iterable, Mapping

import torch

from cpsc.errors import ConfigError
from cpsc.misfit import RIVAL, Verdict, examine_variants, fitting
from cpsc.models import STANDARD, is_import_path
from cpsc.teacher import UNKNOWN, Teacher
from tuning.display import Display, percent
from tuning.study import TeacherSource

DEVIATIONS = 3.0
"""Number of standard deviations by which a score must exceed that of guessing."""


class UndecidedNetworkError(ConfigError):
    """Weights may belong to any of several networks, `variants`; only the user knows which."""

    def __init__(self, message: str, variants: Iterable[str]) -> None:
        super().__init__(message)
        self.variants = tuple(variants)


def settle_network(
    teacher: Teacher, source: TeacherSource, origin: str, device: torch.device, display: Display, *, force: bool
) -> tuple[Teacher, str]:
    """Put `teacher` into the network that its batch norms fit: the one named or, for a known architecture, the only one that fits.

    Also returns the finding in a few words; empty for a bundle that was trained here, which records its network.
    ConfigError, unless forced, if the named network does not fit, or none does; UndecidedNetworkError if several fit, or may
    fit, and none is named.
    """
    if teacher.dataset != UNKNOWN:
        return teacher, ""
    said = source.published
    examined = examine_variants(teacher, device)
    is_open = said is not None and said.normalisation is not None and said.variant is None and len(examined) > 1
    if is_open and len(fits := fitting(examined)) == 1:
        teacher = teacher.named(fits[0])
        chosen = f"of the variants {_listed(examined)} only those of {_variant(teacher.arch)}"
        return teacher, f"{_finding(examined[teacher.arch])}, {chosen}"
    if fault := _open_fault(teacher, examined) if is_open else _fault(teacher, examined):
        message = f"config.teacher: {origin} {fault}"
        candidates = _candidates(teacher, examined) if is_open else []
        _refuse(
            UndecidedNetworkError(message, map(_variant, candidates)) if candidates else ConfigError(message), display, force=force
        )
    return teacher, _finding(examined[teacher.arch]) + _also_fitting(teacher, examined)


def _candidates(teacher: Teacher, examined: Mapping[str, Verdict]) -> list[str]:
    """The networks that unnamed weights may belong to: those that fit, or all if nothing could be compared."""
    return fitting(examined) or ([] if examined[teacher.arch].obstacle is None else list(examined))


def _open_fault(teacher: Teacher, examined: Mapping[str, Verdict]) -> str:
    """Why none of several networks is chosen."""
    verdict = examined[teacher.arch]
    if fits := fitting(examined):
        return f"fits several networks; name one with variant: {_listed(fits)}"
    if verdict.obstacle is not None:
        why = f"has the keys of several networks and {verdict.obstacle}"
        return f"{why}; name one with variant ({_listed(examined)}), or pass --force to use {teacher.arch}"
    return _fault(teacher, examined)


def check_above_chance(teacher: Teacher, accuracy: float, num_images: int, origin: str) -> None:
    """Raise ConfigError if a teacher from a file scores no better than guessing, unless its file already says so."""
    chance = 1.0 / teacher.num_classes
    limit = chance + DEVIATIONS * math.sqrt(chance * (1.0 - chance) / num_images)
    if accuracy < limit and (teacher.test_accuracy is None or teacher.test_accuracy >= limit):
        raise ConfigError(
            f"config.teacher: {origin} scores {percent(accuracy)} on {num_images} test images, and guessing scores up to "
            f"{percent(limit)}; correct its network, normalisation, image_size or order of classes, "
            "or pass --force to use it anyway"
        )


def _fault(teacher: Teacher, examined: Mapping[str, Verdict]) -> str:
    """Why the network that `teacher` was put into is not its own, and what to do; empty if nothing speaks against it."""
    verdict, fits = examined[teacher.arch], fitting(examined)
    if verdict.fault is not None:
        return f"was not trained in this {teacher.arch}: {verdict.fault}; {_remedy(teacher, examined)}"
    if not fits or teacher.arch in fits:
        return ""
    if verdict.obstacle is not None:
        return f"may or may not fit this {teacher.arch} ({verdict.obstacle}), but fits another: {_remedy(teacher, examined)}"
    distance = f"it stays {verdict.distance:.2g} nats per channel from its own statistics"
    return f"fits this {teacher.arch}, where {distance}, {RIVAL:g} times worse than another: {_remedy(teacher, examined)}"


def _remedy(teacher: Teacher, examined: Mapping[str, Verdict]) -> str:
    """What to do about a fault."""
    undecided = [arch for arch, verdict in examined.items() if verdict.obstacle is not None]
    if archs := fitting(examined) or undecided:
        names = " or ".join(f"variant: {_variant(arch)}" for arch in archs)
        said = "do not rule out" if archs is undecided else "fit"
        return f"its statistics {said} {names}; set that, or pass --force"
    if is_import_path(teacher.arch):
        return "make the factory build the network that it was trained in, check image_size, or pass --force"
    return "check image_size, name the network that it was trained in with factory, or pass --force"


def _finding(verdict: Verdict) -> str:
    """The finding about a teacher that is used."""
    if verdict.obstacle is not None:
        return f"not checked whether this is its network, because {verdict.obstacle}"
    figures = []
    if verdict.border_factor is not None:
        figures.append(f"border factor {verdict.border_factor:.2f}")
    if verdict.distance is not None:
        figures.append(f"distance {verdict.distance:.2g}")
    return f"its batch norms {'do not fit' if verdict.fault else 'fit'} ({', '.join(figures)})"


def _also_fitting(teacher: Teacher, examined: Mapping[str, Verdict]) -> str:
    """Other networks that fit as well as the one that was named, so that only the name tells them apart."""
    fits = fitting(examined)
    others = [arch for arch in fits if arch != teacher.arch]
    return f", and so would those of {_listed(others)}; only the name tells them apart" if others and teacher.arch in fits else ""


def _listed(archs: Iterable[str]) -> str:
    return ", ".join(map(_variant, archs))


def _variant(arch: str) -> str:
    return arch.partition("-")[2] or STANDARD


def _refuse(error: ConfigError, display: Display, *, force: bool) -> None:
    if not force:
        raise error
    display.say(f"forced: {error}")
