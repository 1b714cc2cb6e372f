"""A launch read from its journal."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

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


class JournalReading:
    """Builds the launch `name` from its journal's events, to be told in order, each once. `curves`: the metrics to keep."""

    def __init__(self, name: str, *, curves: Sequence[str] = (*CURVES, UNTRAINED)) -> None:
        self._name = name
        self._curves = curves
        self._settings: Mapping[str, str] = {}
        self._launch_id = ""
        self._is_open = False
        self._starts: dict[int, TrialStart] = {}
        self._values: dict[int, dict[str, dict[int, float]]] = {}
        self._ends: dict[int, TrialEnd] = {}
        self._marks: dict[int, str] = {}
        self._exploits: dict[int, list[Exploit]] = {}

    def tell(self, event: Event) -> None:
        """Take in the next event."""
        match event:
            case LaunchStart():
                self._settings, self._launch_id = event.params, event.launch_id
            case AttemptStart() | LaunchEnd():
                self._is_open = isinstance(event, AttemptStart)
            case TrialStart(number=number):
                self._starts[number] = event
                self._values.setdefault(number, {curve: {} for curve in self._curves})
                self._ends.pop(number, None)
            case Epoch(number=number) if number in self._starts:
                self._take_results(event)
            case Exploited(number=number, epoch=epoch):
                self._exploits.setdefault(number, []).append(Exploit(epoch, event.donor, event.point))
            case TrialEnd(number=number):
                self._ends[number] = event

    def _take_results(self, event: Epoch) -> None:
        if event.metrics.get("best_epoch") == event.epoch:
            self._marks[event.number] = event.marks
        for curve in self._curves:
            if curve in event.metrics:
                self._values[event.number][curve][event.epoch] = event.metrics[curve]

    def launch(self, *, only: int | None = None) -> Launch:
        """The launch so far, with its started trials ranked; with `only`, just that trial, if it has started."""
        objective = self._settings["objective"]
        numbers = self._starts if only is None else self._starts.keys() & {only}
        return Launch(
            name=self._name,
            run_id=None,
            objective=objective,
            epochs=int(self._settings["epochs"]),
            trials=ranked(map(self._trial, numbers), objective),
            latencies_ms=latencies_in(self._settings),
            launch_id=self._launch_id,
            settings=self._settings,
            is_open=self._is_open,
            ground=Ground.from_params(self._settings),
        )

    def _trial(self, number: int) -> TrialRecord:
        start, end = self._starts[number], self._ends.get(number)
        trial = TrialRecord(
            number=number,
            run_id=None,
            outcome=end.outcome if end else None,
            reason=redact(end.reason) if end else "",
            params=start.params,
            point=start.point,
            marks=Marks.parse(self._marks.get(number, "")),
            curves=self._values[number],
            finalist_of=start.finalist_of,
        )
        return with_exploits(trial, self._exploits.get(number, ()))


def launch_from_journal(events: Iterable[Event], name: str, *, curves: Sequence[str] = (*CURVES, UNTRAINED)) -> Launch:
    """The launch in the journal of `name`, with these `curves`: the same as from `load_launch` once everything is delivered."""
    reading = JournalReading(name, curves=curves)
    for event in events:
        reading.tell(event)
    return reading.launch()


def chosen_trial(folder: Path) -> str:
    """``LAUNCH:NUMBER`` of the chosen trial of the launch in `folder`. ConfigError if there is none yet."""
    chosen = launch_from_journal(Journal(folder).events(), folder.name).chosen
    if chosen is None:
        raise ConfigError(f"launch {folder.name!r}: has no trial with a result yet")
    return f"{folder.name}:{chosen.number}"
