"""Limits on what a student may cost: checked before its first step, so that no student above a limit is ever trained."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cpsc.errors import ConfigError
from cpsc.teacher import Teacher
from tuning.study import Study, build_config
from tuning.study.base_config import BaseConfig
from tuning.study.nested_keys import Point
from tuning.trial.model_cost import Cost, student_cost


@dataclass(frozen=True)
class Limits:
    """The most that a student of a study may cost. `bounds`: by ``student.macs`` or ``student.parameters``; empty: no limit.

    `base`: the study's config, which a point overrides. `teacher`: decides the student's image size, channels and classes.
    """

    bounds: Mapping[str, float]
    base: BaseConfig
    teacher: Teacher

    def excess(self, point: Point) -> dict[str, float]:
        """By bound, how far the student of `point` exceeds it, as a fraction of the bound; 0 or less if it does not."""
        if not self.bounds:
            return {}
        cost = student_cost(self.teacher, build_config(self.base, point).student.arch)
        return {name: cost[name] / bound - 1 for name, bound in self.bounds.items()}

    def admit(self, point: Point) -> bool:
        """Whether the student of `point` may be trained."""
        return not is_beyond(self.excess(point))


def is_beyond(excess: Mapping[str, float]) -> bool:
    """Whether a student with this `excess` is above one of its limits."""
    return any(share > 0 for share in excess.values())


def limits_of(study: Study, teacher: Teacher) -> Limits:
    """The limits that `study` sets."""
    return Limits(study.search.limits.bounds, study.base, teacher)


def within_limits(study: Study, teacher: Teacher) -> Study:
    """`study` without those points of its start, or of its grid, whose students are above its limits."""
    limits = limits_of(study, teacher)
    start = [point for point in study.start if limits.admit(point)]
    if len(start) == len(study.start):
        return study
    num_trials = len(start) if study.search.sampler == "grid" else study.search.num_trials
    return replace(study, start=start, search=study.search.model_copy(update={"num_trials": num_trials}))


def check_limits(study: Study, teacher: Teacher) -> str:
    """Describe the students that the limits exclude; empty if none. ConfigError if no student of the study is within them."""
    limits = limits_of(study, teacher)
    if not limits.bounds:
        return ""
    searched = study.space.get("student.arch")
    archs = [str(arch) for arch in searched.edges] if searched else [study.config.student.arch]
    costs = {arch: student_cost(teacher, arch) for arch in archs}
    for name, bound in limits.bounds.items():
        cheapest = min(archs, key=lambda arch: costs[arch][name])
        if costs[cheapest][name] > bound:
            raise ConfigError(
                f"search.limits.{name}: {_short(bound)} is below every student of this study; "
                f"the cheapest, {cheapest}, has {_short(costs[cheapest][name])}"
            )
    beyond = [arch for arch in archs if any(costs[arch][name] > bound for name, bound in limits.bounds.items())]
    told = ", ".join(_cost_in_words(arch, costs[arch], limits.bounds) for arch in beyond)
    if len(beyond) == len(archs):
        raise ConfigError(f"search.limits: no student of this study is within all of them: {told}")
    idle = len(study.start) - len(within_limits(study, teacher).start)
    points = f", and with them {idle} of {len(study.start)} listed points" if idle else ""
    return f"above search.limits, so never trained{points}: {told}" if beyond else ""


def _cost_in_words(arch: str, cost: Cost, names: Iterable[str]) -> str:
    return f"{arch} ({', '.join(f'{name} {_short(cost[name])}' for name in names)})"


def _short(value: float) -> str:
    return f"{value:.3g}"
