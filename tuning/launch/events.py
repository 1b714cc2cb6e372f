"""Events of a launch, one class a kind: what a sweep writes into its journal, and what whoever reads one may count on."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

from tuning.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class _LaunchEvent:
    """Something that happened to the launch itself; `time` in seconds since 1970."""

    kind: ClassVar[str]
    number: ClassVar[None] = None
    time: float


@dataclass(frozen=True, kw_only=True)
class _TrialEvent:
    """Something that happened to the trial `number`."""

    kind: ClassVar[str]
    time: float
    number: int


LATENCY = "latency_ms."
"""Of a launch's params, before the name of an architecture: milliseconds for an image, as its driver measured them."""


@dataclass(frozen=True, kw_only=True)
class LaunchStart(_LaunchEvent):
    """The first of all. `study`: the text of its file, without secrets; `code_folders`: where a user's own classes are found."""

    kind = "launch_start"
    launch_id: str
    params: Mapping[str, str]
    inputs: Sequence[Mapping[str, str]] = ()
    code_folders: Sequence[str] = ()
    study: str


@dataclass(frozen=True, kw_only=True)
class AttemptStart(_LaunchEvent):
    """A driver takes the launch up: the first time, or again; `attempt` counts from 0."""

    kind = "attempt_start"
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Transferred(_LaunchEvent):
    """Trials of earlier launches that the search is told of: `points`, as the study searches them, each with its standardised score
    and the launch that it comes from. They are no trials of this launch."""

    kind = "transferred"
    points: Sequence[Mapping[str, Any]]
    scores: Sequence[float]
    sources: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Rejected(_LaunchEvent):
    """A point whose student is beyond the study's limits, by `excess` (a share of each); it is no trial. `enqueued`: as below."""

    kind = "rejected"
    point: Mapping[str, Any]
    excess: Mapping[str, float]
    enqueued: int | None = None


@dataclass(frozen=True, kw_only=True)
class Compared(_LaunchEvent):
    """All trials of a population that still run have reached `epoch`. `ranking`: their numbers, best first. What each of them takes
    over of another follows upon it, and only then does any of them go on."""

    kind = "compared"
    epoch: int
    ranking: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class FinishAsked(_LaunchEvent):
    """Somebody has asked for the end of the search, whose budget was `num_trials`: it counts as used up, until it is another."""

    kind = "finish_asked"
    num_trials: int


@dataclass(frozen=True, kw_only=True)
class LaunchEnd(_LaunchEvent):
    """A driver puts the launch down, with MLflow's word for how. `metrics` are empty where it died and another one says so."""

    kind = "launch_end"
    status: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Proposed(_TrialEvent):
    """The search has drawn a trial's values, by dotted path. Trials may start in another order.

    `finalist_of`: the trial whose values a finalist repeats under a seed of its own; `enqueued`: which of the points it is that
    people have added to the launch, from 0.
    """

    kind = "proposed"
    point: Mapping[str, Any]
    finalist_of: int | None = None
    enqueued: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrialStart(_TrialEvent):
    """A trial starts, or goes on after an interruption. `params`: all that it runs with, and facts, as texts."""

    kind = "trial_start"
    point: Mapping[str, Any]
    params: Mapping[str, str]
    ray_trial_id: str
    inputs: Sequence[Mapping[str, str]] = ()
    finalist_of: int | None = None


@dataclass(frozen=True, kw_only=True)
class Epoch(_TrialEvent):
    """The result of a trial's `epoch`, which counts from 1. `note`: what is odd about it; `marks`: see `cpsc.marks`."""

    kind = "epoch"
    epoch: int
    metrics: Mapping[str, float]
    note: str
    node: str = ""
    environment: str = ""
    marks: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(_TrialEvent):
    """The trial can go on from the folder `path`."""

    kind = "checkpoint"
    path: str


@dataclass(frozen=True, kw_only=True)
class Exploited(_TrialEvent):
    """The trial takes over the state that the trial `donor` had after `epoch`, and goes on with `point`."""

    kind = "exploited"
    epoch: int
    donor: int
    point: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Retry(_TrialEvent):
    """The trial failed after `epoch` and is begun again, for the `count`-th time."""

    kind = "retry"
    epoch: int
    count: int


@dataclass(frozen=True, kw_only=True)
class TrialEnd(_TrialEvent):
    """The trial has ended after `epoch`. `checkpoint`: its last folder, None where it has none."""

    kind = "trial_end"
    outcome: Outcome
    reason: str
    epoch: int
    checkpoint: str | None


LaunchEvent = LaunchStart | AttemptStart | Transferred | Rejected | Compared | FinishAsked | LaunchEnd
TrialEvent = Proposed | TrialStart | Epoch | CheckpointSaved | Exploited | Retry | TrialEnd
Event = LaunchEvent | TrialEvent

_LAUNCH_KINDS = (LaunchStart, AttemptStart, Transferred, Rejected, Compared, FinishAsked, LaunchEnd)
_TRIAL_KINDS = (Proposed, TrialStart, Epoch, CheckpointSaved, Exploited, Retry, TrialEnd)
KINDS: dict[str, type[Event]] = {cls.kind: cls for cls in (*_LAUNCH_KINDS, *_TRIAL_KINDS)}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


_RULES: dict[str, Callable[[Any], bool]] = {
    "time": _is_number,
    "number": _is_count,
    "num_trials": _is_count,
    "finalist_of": lambda value: value is None or _is_count(value),
    "enqueued": lambda value: value is None or _is_count(value),
    "epoch": _is_count,
    "count": _is_count,
    "donor": _is_count,
    "ranking": lambda value: isinstance(value, list | tuple) and all(map(_is_count, value)),
    "attempt": _is_count,
    "point": lambda value: isinstance(value, dict),
    "params": _are_texts,
    "inputs": lambda value: isinstance(value, list | tuple) and all(map(_are_texts, value)),
    "code_folders": lambda value: isinstance(value, list | tuple) and all(map(_is_text, value)),
    "points": lambda value: isinstance(value, list | tuple) and all(isinstance(point, dict) for point in value),
    "scores": lambda value: isinstance(value, list | tuple) and all(map(_is_number, value)),
    "sources": lambda value: isinstance(value, list | tuple) and all(map(_is_text, value)),
    "excess": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "metrics": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "outcome": lambda value: value in list(Outcome),
    "checkpoint": lambda value: isinstance(value, str | None),
}
"""What a field must be, wherever it stands; those that are not named here are texts."""


def to_record(event: Event) -> dict[str, Any]:
    """`event` as the journal's line holds it."""
    return {"kind": event.kind} | vars(event)


def from_record(record: Mapping[str, Any]) -> Event:
    """The event that a line of a journal holds; what an earlier version did not write yet is empty.

    ValueError, its message for a person, where it is none that a sweep writes.
    """
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind {str(kind)[:40]!r} is unknown")
    values: dict[str, Any] = {}
    for field in fields(KINDS[kind]):
        value = record.get(field.name, field.default)
        if value is MISSING or not _RULES.get(field.name, _is_text)(value):
            raise ValueError(f"{kind} has no valid {field.name}")
        values[field.name] = tuple(value) if isinstance(value, list) else value
    if "outcome" in values:
        values["outcome"] = Outcome(values["outcome"])
    return KINDS[kind](**values)
