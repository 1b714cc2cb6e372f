"""Students of several architectures in one launch: how good each is, what it costs, and which are on the Pareto front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cpsc.errors import ConfigError
from tuning.results.model import Launch
from tuning.results.trial_record import TrialRecord, number_in

COSTS = {"macs": "multiply-adds", "parameters": "parameters", "bytes": "bytes", "latency_ms": "ms per image"}
"""Costs of a student and their labels; the first three follow from its network, the last is measured by the driver."""
ARCH = "student.arch"


@dataclass(frozen=True, kw_only=True)
class FrontStudent:
    """The best `trial` of an architecture; `costs`: by the names of `COSTS`, as far as they are recorded.

    `on`: the costs on whose Pareto front it is: no other architecture costs at most as much and scores at least as high, with
    one of the two strictly.
    """

    arch: str
    trial: TrialRecord
    score: float
    costs: Mapping[str, float]
    on: Sequence[str] = ()


def front_of(launch: Launch) -> list[FrontStudent]:
    """The best student of each architecture that `launch` searched, cheapest first; empty if there are fewer than two."""
    best: dict[str, FrontStudent] = {}
    for trial in sorted(launch.trials, key=lambda trial: trial.number):
        arch, score = trial.params.get(ARCH), trial.at_best(launch.objective, launch.objective)
        if arch is not None and score is not None and (arch not in best or score > best[arch].score):
            best[arch] = FrontStudent(arch=arch, trial=trial, score=score, costs=_costs_of(trial, arch, launch))
    if len(best) < 2:
        return []
    students = sorted(best.values(), key=lambda student: (student.costs.get("macs", 0.0), student.arch))
    return [replace(student, on=[cost for cost in COSTS if _is_on_front(student, students, cost)]) for student in students]


def best_within(launch: Launch, cost: str, limit: float) -> TrialRecord:
    """The trial with the best score among those whose student costs at most `limit`. ConfigError if there is none."""
    costs = {trial.number: _costs_of(trial, trial.params.get(ARCH, ""), launch).get(cost) for trial in launch.trials}
    found = [
        (score, -trial.number, trial)
        for trial in launch.trials
        if (score := trial.at_best(launch.objective, launch.objective)) is not None
        and (spent := costs[trial.number]) is not None
        and spent <= limit
    ]
    if not found:
        least = min((value for value in costs.values() if value is not None), default=None)
        known = f"{launch.name} did not record it" if least is None else f"the cheapest student of {launch.name} has {least:.3g}"
        raise ConfigError(f"--at {cost}={limit:.3g}: no student costs that little; {known}")
    return max(found)[2]


def _costs_of(trial: TrialRecord, arch: str, launch: Launch) -> dict[str, float]:
    recorded = {cost: number_in(trial.params.get(f"student.{cost}", "")) for cost in COSTS}
    recorded["latency_ms"] = launch.latencies_ms.get(arch)
    return {cost: value for cost, value in recorded.items() if value is not None}


def _is_on_front(student: FrontStudent, others: Sequence[FrontStudent], cost: str) -> bool:
    own = student.costs.get(cost)
    if own is None:
        return False
    rivals = [(other.costs[cost], other.score) for other in others if cost in other.costs]
    return not any(spent <= own and score >= student.score and (spent, score) != (own, student.score) for spent, score in rivals)
