"""Events as a sweep writes them, of which a test says what it is about."""

from typing import Any, TypeVar

from tuning.launch.events import (
    AttemptStart,
    CheckpointSaved,
    Compared,
    Epoch,
    Event,
    Exploited,
    FinishAsked,
    LaunchEnd,
    LaunchStart,
    Proposed,
    Rejected,
    Retry,
    Transferred,
    TrialEnd,
    TrialStart,
)
from tuning.outcome import Outcome

Kind = TypeVar("Kind", bound=Event)
REST: dict[Any, dict[str, Any]] = {
    LaunchStart: {"launch_id": "x", "params": {"objective": "probe_agreement", "epochs": "9"}, "study": ""},
    AttemptStart: {"attempt": 0},
    Transferred: {"points": [], "scores": [], "sources": []},
    FinishAsked: {"num_trials": 9},
    Rejected: {"point": {}, "excess": {}},
    Compared: {"epoch": 1, "ranking": [0, 1]},
    Proposed: {"number": 0, "point": {}},
    TrialStart: {"number": 0, "point": {}, "params": {}, "ray_trial_id": "r"},
    Epoch: {"number": 0, "note": ""},
    CheckpointSaved: {"number": 0, "path": "a"},
    Exploited: {"number": 1, "epoch": 1, "donor": 0, "point": {}},
    Retry: {"number": 0, "epoch": 1, "count": 1},
    TrialEnd: {"number": 0, "outcome": Outcome.COMPLETED, "reason": "", "epoch": 0, "checkpoint": None},
    LaunchEnd: {"status": "FINISHED", "metrics": {"elapsed_s": 1.0}},
}


def made(kind: type[Kind], **fields: Any) -> Kind:
    """An event of this kind with these `fields`, at the beginning of time unless they tell another one."""
    return kind(**{"time": 0.0, **REST[kind], **fields})
