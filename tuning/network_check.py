"""Whether a teacher from a file is loaded into the network that it was trained in: what is said and what is refused."""

import math

import torch

from cpsc.errors import ConfigError
from cpsc.misfit import RIVAL, Verdict, examine, fitting_variants
from cpsc.models import STANDARD, is_import_path, variants_of
from cpsc.teacher import UNKNOWN, Teacher
from tuning.config import TeacherSource
from tuning.progress import Display, percent

DEVIATIONS = 3.0
"""By how many standard deviations a score must exceed what guessing gives."""


def settle_network(
    teacher: Teacher, source: TeacherSource, origin: str, device: torch.device, display: Display, *, force: bool
) -> tuple[Teacher, str]:
    """`teacher` in the network that its batch norms fit: the one named or, of bare weights of ours, the only one that does.

    Also what was found, in a few words; nothing of a bundle that was trained here, which says itself in which network.
    ConfigError, unless forced, where the one named does not fit, or none does, or several do and none is named.
    """
    if teacher.dataset != UNKNOWN:
        return teacher, ""
    said = source.published
    is_open = said is not None and said.normalisation is not None and said.variant is None and not is_import_path(teacher.arch)
    if is_open:
        return _choose(teacher, origin, device, display, force=force)
    verdict = examine(teacher, device)
    fitting = [] if verdict.obstacle else fitting_variants(teacher, device)
    if verdict.fault is not None:
        _refuse(f"{_fault(teacher, origin, verdict)}; {_remedy(teacher, fitting)}", display, force=force)
    elif fitting and teacher.arch not in [candidate.arch for candidate, _ in fitting]:
        _refuse(
            f"config.teacher: {origin} fits {_variant(teacher.arch)} (distance {verdict.distance:.2g} after some steps), but "
            f"{RIVAL:g} times better after all of them: {_remedy(teacher, fitting)}",
            display,
            force=force,
        )
    return teacher, _finding(verdict)


def _choose(teacher: Teacher, origin: str, device: torch.device, display: Display, *, force: bool) -> tuple[Teacher, str]:
    names = ", ".join(map(_variant, variants_of(teacher.arch)))
    fitting = fitting_variants(teacher, device)
    if len(fitting) == 1:
        chosen, verdict = fitting[0]
        return chosen, f"{_finding(verdict)}, of the variants {names} those of {_variant(chosen.arch)} alone"
    if fitting:
        several = ", ".join(_variant(candidate.arch) for candidate, _ in fitting)
        _refuse(f"config.teacher: {origin} fits several networks, name one by variant: {several}", display, force=force)
        return teacher, _finding(fitting[0][1])
    verdict = examine(teacher, device)
    if verdict.fault is None:
        why = f"config.teacher: {origin} has the keys of several networks and {verdict.obstacle}"
        _refuse(f"{why}: name one by variant ({names}), or pass --force to take {teacher.arch}", display, force=force)
    else:
        _refuse(f"{_fault(teacher, origin, verdict)}; {_remedy(teacher, fitting)}", display, force=force)
    return teacher, _finding(verdict)


def check_above_chance(teacher: Teacher, accuracy: float, num_images: int, origin: str) -> None:
    """Raise ConfigError where a teacher from a file scores what guessing scores, unless it says so itself."""
    chance = 1.0 / teacher.num_classes
    limit = chance + DEVIATIONS * math.sqrt(chance * (1.0 - chance) / num_images)
    if accuracy < limit and (teacher.test_accuracy is None or teacher.test_accuracy >= limit):
        raise ConfigError(
            f"config.teacher: {origin} scores {percent(accuracy)} on {num_images} test images, guessing scores up to "
            f"{percent(limit)}: its network, normalisation, image_size or order of classes is another than this; "
            "or pass --force to use it all the same"
        )


def _fault(teacher: Teacher, origin: str, verdict: Verdict) -> str:
    return f"config.teacher: {origin} was not trained in this {teacher.arch}: {verdict.fault}"


def _remedy(teacher: Teacher, fitting: list[tuple[Teacher, Verdict]]) -> str:
    """What to do about a fault."""
    if fitting:
        names = " or ".join(f"variant: {_variant(candidate.arch)}" for candidate, _ in fitting)
        return f"its statistics fit {names}; name that, or pass --force"
    if is_import_path(teacher.arch):
        return "have the factory make the network that it was trained in, look at image_size, or pass --force"
    return "look at image_size, name the network that it was trained in by factory, or pass --force"


def _finding(verdict: Verdict) -> str:
    """About a teacher that is used."""
    if verdict.obstacle is not None:
        return f"not checked whether this is its network, for {verdict.obstacle}"
    figures = []
    if verdict.border_factor is not None:
        figures.append(f"border factor {verdict.border_factor:.2f}")
    if verdict.distance is not None:
        figures.append(f"distance {verdict.distance:.2g}")
    return f"its batch norms {'do not fit' if verdict.fault else 'fit'} ({', '.join(figures)})"


def _variant(arch: str) -> str:
    return arch.partition("-")[2] or STANDARD


def _refuse(message: str, display: Display, *, force: bool) -> None:
    if not force:
        raise ConfigError(message)
    display.say(f"forced: {message}")
