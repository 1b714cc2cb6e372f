"""A launch read from its journal."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError
from cpsc.ground import Ground
from cpsc.marks import Marks
from tuning.launch import Journal
from tuning.launch.events import AttemptStart, Epoch, Event, Exploited, LaunchEnd, LaunchStart, TrialEnd, TrialStart
from tuning.lineage import Exploit
from tuning.redaction import redact
from tuning.results.choice import ranked
from tuning.results.model import Launch
from tuning.results.trial_record import CURVES, UNTRAINED, TrialRecord, latencies_in, with_exploits


def launch_from_journal(events: Iterable[Event], name: str, *, curves: Sequence[str] = (*CURVES, UNTRAINED)) -> Launch:
    """The launch that the journal of `name` tells of, with these `curves`: as `load_launch` once all of it has been delivered."""
    settings: Mapping[str, str] = {}
    launch_id, is_open = "", False
    values: dict[int, dict[str, dict[int, float]]] = {}
    params: dict[int, Mapping[str, str]] = {}
    points: dict[int, Mapping[str, Any]] = {}
    ends: dict[int, TrialEnd] = {}
    marks: dict[int, str] = {}
    finalists_of: dict[int, int | None] = {}
    exploits: dict[int, list[Exploit]] = {}
    for event in events:
        match event:
            case LaunchStart():
                settings, launch_id = event.params, event.launch_id
            case TrialStart(number=number):
                params[number], points[number], finalists_of[number] = event.params, event.point, event.finalist_of
                values.setdefault(number, {curve: {} for curve in curves})
                ends.pop(number, None)
            case Epoch(number=number, epoch=epoch, metrics=metrics):
                if metrics.get("best_epoch") == epoch:
                    marks[number] = event.marks
                for curve in curves:
                    if curve in metrics:
                        values[number][curve][epoch] = metrics[curve]
            case Exploited(number=number, epoch=epoch):
                exploits.setdefault(number, []).append(Exploit(epoch, event.donor, event.point))
            case TrialEnd(number=number):
                ends[number] = event
            case AttemptStart():
                is_open = True
            case LaunchEnd():
                is_open = False
    trials = [
        TrialRecord(
            number=number,
            run_id=None,
            outcome=ends[number].outcome if number in ends else None,
            reason=redact(ends[number].reason) if number in ends else "",
            params=params[number],
            point=points[number],
            marks=Marks.parse(marks.get(number, "")),
            curves=values[number],
            finalist_of=finalists_of[number],
        )
        for number in params
    ]
    objective = settings["objective"]
    return Launch(
        name=name,
        run_id=None,
        objective=objective,
        epochs=int(settings["epochs"]),
        trials=ranked([with_exploits(trial, exploits.get(trial.number, ())) for trial in trials], objective),
        latencies_ms=latencies_in(settings),
        launch_id=launch_id,
        settings=settings,
        is_open=is_open,
        ground=Ground.from_params(settings),
    )


def chosen_trial(folder: Path) -> str:
    """``LAUNCH:NUMBER`` of the trial that the launch in `folder` has chosen. ConfigError where it has none yet."""
    chosen = launch_from_journal(Journal(folder).events(), folder.name).chosen
    if chosen is None:
        raise ConfigError(f"launch {folder.name!r}: has no trial with a result to choose")
    return f"{folder.name}:{chosen.number}"
