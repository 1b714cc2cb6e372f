"""A launch read from its journal."""

from collections.abc import Iterable, Mapping
from typing import Any

from tuning.launch.journal import Event
from tuning.outcome import Outcome
from tuning.redaction import redact
from tuning.results.model import CURVES, Launch, TrialRecord, ranked


def launch_from_journal(events: Iterable[Event], name: str) -> Launch:
    """The launch that the journal of `name` tells of: the same as `load_launch` once all of it has been delivered."""
    settings: Mapping[str, str] = {}
    curves: dict[int, dict[str, dict[int, float]]] = {}
    params: dict[int, Mapping[str, str]] = {}
    points: dict[int, Mapping[str, Any]] = {}
    ends: dict[int, Event] = {}
    for event in events:
        kind, number = event["kind"], event.get("number", -1)
        if kind == "launch_start":
            settings = event["params"]
        elif kind == "trial_start":
            params[number], points[number] = event["params"], event["point"]
            curves.setdefault(number, {curve: {} for curve in CURVES})
            ends.pop(number, None)
        elif kind == "epoch":
            for curve in CURVES:
                if curve in event["metrics"]:
                    curves[number][curve][event["epoch"]] = event["metrics"][curve]
        elif kind == "trial_end":
            ends[number] = event
    trials = [
        TrialRecord(
            number=number,
            run_id=None,
            outcome=Outcome(ends[number]["outcome"]) if number in ends else None,
            reason=redact(ends[number]["reason"]) if number in ends else "",
            params=params[number],
            point=points[number],
            curves=curves[number],
        )
        for number in params
    ]
    objective = settings["objective"]
    return Launch(
        name=name,
        run_id=None,
        objective=objective,
        epochs=int(settings["epochs"]),
        trials=ranked(trials, objective),
    )
