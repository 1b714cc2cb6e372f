"""Events of a launch, one class per kind: what a sweep writes to its journal, and what readers can rely on."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

from tuning.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class _LaunchEvent:
    """An event of the launch itself; `time` in seconds since 1970."""

    kind: ClassVar[str]
    number: ClassVar[None] = None
    time: float


@dataclass(frozen=True, kw_only=True)
class _TrialEvent:
    """An event of the trial `number`."""

    kind: ClassVar[str]
    time: float
    number: int


LATENCY = "latency_ms."
"""Prefix, before an architecture's name, of launch params with the latency in milliseconds per image, measured by the driver."""


@dataclass(frozen=True, kw_only=True)
class LaunchStart(_LaunchEvent):
    """The first event. `study`: the text of the study file, without secrets; `code_folders`: where users' own classes are found."""

    kind = "launch_start"
    launch_id: str
    params: Mapping[str, str]
    inputs: Sequence[Mapping[str, str]] = ()
    code_folders: Sequence[str] = ()
    study: str


@dataclass(frozen=True, kw_only=True)
class AttemptStart(_LaunchEvent):
    """A driver starts or resumes the launch; `attempt` counts from 0."""

    kind = "attempt_start"
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Transferred(_LaunchEvent):
    """Trials of earlier launches that the search learns from: `points` in this study's space, each with its standardised score and
    its launch. They are not trials of this launch."""

    kind = "transferred"
    points: Sequence[Mapping[str, Any]]
    scores: Sequence[float]
    sources: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Rejected(_LaunchEvent):
    """A point that is not run because its student exceeds the study's limits, by `excess` (a share of each limit). `enqueued`: see
    `Proposed`."""

    kind = "rejected"
    point: Mapping[str, Any]
    excess: Mapping[str, float]
    enqueued: int | None = None


@dataclass(frozen=True, kw_only=True)
class Compared(_LaunchEvent):
    """All running trials of a population have reached `epoch`. `ranking`: their numbers, best first. The `Exploited` events that
    result follow, and only then do the trials continue."""

    kind = "compared"
    epoch: int
    ranking: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class FinishAsked(_LaunchEvent):
    """A user has asked to end the search, whose budget was `num_trials`: that budget counts as used up until it is changed."""

    kind = "finish_asked"
    num_trials: int


@dataclass(frozen=True, kw_only=True)
class LaunchEnd(_LaunchEvent):
    """A driver ends its attempt, with MLflow's status. `metrics` is empty if the driver died and another one recorded the end."""

    kind = "launch_end"
    status: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Proposed(_TrialEvent):
    """The search has proposed a trial's values, by dotted path. Trials may start in another order.

    `finalist_of`: the trial that a finalist repeats under a new seed; `enqueued`: the index, from 0, of a point that a user has
    added to the launch.
    """

    kind = "proposed"
    point: Mapping[str, Any]
    finalist_of: int | None = None
    enqueued: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrialStart(_TrialEvent):
    """A trial starts, or continues after an interruption. `params`: all its settings, and facts about it, as text."""

    kind = "trial_start"
    point: Mapping[str, Any]
    params: Mapping[str, str]
    ray_trial_id: str
    inputs: Sequence[Mapping[str, str]] = ()
    finalist_of: int | None = None


@dataclass(frozen=True, kw_only=True)
class Epoch(_TrialEvent):
    """The result of a trial's `epoch`, counted from 1. `note`: a remark on oddities; `marks`: see `cpsc.marks`."""

    kind = "epoch"
    epoch: int
    metrics: Mapping[str, float]
    note: str
    node: str = ""
    environment: str = ""
    marks: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(_TrialEvent):
    """The trial has saved a checkpoint in the folder `path`."""

    kind = "checkpoint"
    path: str


@dataclass(frozen=True, kw_only=True)
class Exploited(_TrialEvent):
    """The trial takes over the state that the trial `donor` had after `epoch`, and continues with `point`."""

    kind = "exploited"
    epoch: int
    donor: int
    point: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Retry(_TrialEvent):
    """The trial failed after `epoch` and is retried, for the `count`-th time."""

    kind = "retry"
    epoch: int
    count: int


@dataclass(frozen=True, kw_only=True)
class TrialEnd(_TrialEvent):
    """The trial ended after `epoch`, finally or until a resume. `checkpoint`: its last checkpoint folder, or None."""

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
"""Validity rules by field name, in all events; fields that are not listed are text."""


def to_record(event: Event) -> dict[str, Any]:
    """`event` as a record for a journal line."""
    return {"kind": event.kind} | vars(event)


def from_record(record: Mapping[str, Any]) -> Event:
    """The event in a record of a journal line; fields that earlier versions did not write get their defaults.

    ValueError, with a message for users, if it is not a valid event.
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
