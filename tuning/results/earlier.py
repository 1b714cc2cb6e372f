"""Earlier launches fitted to a study: which of their trials are points of its space, and how good each was."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuning.launch.events import Transferred
from tuning.outcome import Outcome
from tuning.results.model import Launch
from tuning.results.trial_record import TrialRecord
from tuning.search.transfer import DIVERGED, best_points, standardise
from tuning.study import Study
from tuning.study.distributions import Distribution
from tuning.study.yaml_loader import load_yaml

ENDED = (Outcome.COMPLETED, Outcome.PRUNED, Outcome.DIVERGED)


@dataclass(frozen=True)
class Source:
    """An earlier launch: its `trials` that fit the study, with standardised `scores`, and how many do not, by reason."""

    name: str
    trials: Sequence[tuple[TrialRecord, dict[str, Any]]]
    left_out: Mapping[str, int]
    scores: Sequence[float]

    def __str__(self) -> str:
        left_out = ", ".join(f"{count} {why}" for why, count in self.left_out.items())
        return f"transfer from {self.name}: {len(self.trials)} trials" + (f"; left out: {left_out}" if left_out else "")


def fitted(launch: Launch, study: Study) -> Source:
    """Fit the launch's trials to the study: those that ended on their own, each as a point of the study's space."""
    fitting: list[tuple[TrialRecord, dict[str, Any]]] = []
    left_out: Counter[str] = Counter()
    for trial in sorted(launch.searched, key=lambda trial: trial.number):
        point, why = _point_of(trial, study)
        if why:
            left_out[why] += 1
        else:
            fitting.append((trial, point))
    scores = standardise([_result(trial, launch.objective) for trial, _ in fitting])
    return Source(launch.name, fitting, left_out, scores)


def transferred(sources: Sequence[Source]) -> Transferred | None:
    """The journal event that records `sources`; None if there are none."""
    if not sources:
        return None
    return Transferred(
        time=time.time(),
        points=[point for source in sources for _, point in source.trials],
        scores=[score for source in sources for score in source.scores],
        sources=[name for name, source in zip(_names(sources), sources, strict=True) for _ in source.trials],
    )


def _names(sources: Sequence[Source]) -> list[str]:
    """The launches' names; launches of the same name, from different stores, are numbered."""
    seen: Counter[str] = Counter()
    names = []
    for source in sources:
        seen[source.name] += 1
        names.append(source.name if seen[source.name] == 1 else f"{source.name} ({seen[source.name]})")
    return names


def beginning_with(study: Study, told: Transferred | None) -> Study:
    """`study` with the best earlier points added to those that its search starts with."""
    if told is None:
        return study
    return replace(study, start=[*study.start, *(point for point in best_points(told) if point not in study.start)])


def _point_of(trial: TrialRecord, study: Study) -> tuple[dict[str, Any], str]:
    """`trial` as a point of the study's space and, if it is none, the reason.

    A parameter that the trial did not search has the value that it ran with; one that the study does not search is dropped.
    """
    if trial.outcome not in ENDED or not any(trial.curves.values()):
        return {}, "not ended"
    method = study.space.get("method")
    if trial.params.get("method") not in (method.arguments if method else (study.config.method,)):
        return {}, "of another method"
    point: dict[str, Any] = {}
    for path, domain in study.space.items():
        if domain.is_active(point):
            value = _value_of(trial, path, domain)
            if not domain.contains(value):
                return {}, f"outside the range of {path}"
            point[path] = value
    return point, ""


def _value_of(trial: TrialRecord, path: str, domain: Distribution) -> Any:
    if path in trial.point:
        return trial.point[path]
    text = trial.params.get(path)
    if text is None or (domain.sampler == "choice" and text in domain.arguments):
        return text
    return load_yaml(text)


def _result(trial: TrialRecord, objective: str) -> tuple[int, float]:
    score = trial.at_best(objective, objective)
    return DIVERGED if score is None else (trial.num_epochs, score)
