"""Descriptions of a study, a launch and its trials for MLflow's UI: what was searched, what was found, how to continue.

The UI shows their first lines, with the results; the rest unfolds. They are written from the journal as it is at that moment. If a
driver was killed, its end is not known until the next sweep or a resume records it, so anything unfinished is given with the time.
"""

import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from tuning.display import percent
from tuning.launch import Journal
from tuning.launch.events import AttemptStart, LaunchEnd
from tuning.launch.folder import STUDY_FILE
from tuning.launch.launch import resume_command
from tuning.outcome import Outcome
from tuning.redaction import redact
from tuning.results import JournalReading, Launch, TrialRecord
from tuning.results.launch_list import STATES
from tuning.results.leaderboard import choice_line, headings, row
from tuning.study import Study
from tuning.study.published_point import METHOD_PATH

ROWS = 5
MAX_PARAMETERS = 20
MAX_NOTE = 4500
"""Longest note in characters: MLflow accepts 5000 in a tag, also on earlier servers and counted in the database's bytes."""
PURPOSE = "A search for the hyperparameters with which a student is best distilled from its teacher, without the teacher's data."
CHOICES = {
    "exam_score": "by how teacher and student answer on synthetic images: the probe set, and those that examiners have made",
    "probe_overlap": "by the overlap of teacher's and student's probabilities on the synthetic images of the probe set",
    "probe_agreement": "by how often student and teacher agree on the synthetic images of the probe set",
    "test_accuracy": "by accuracy on labelled test images",
}


class LaunchNotes:
    """Notes on the launch `name` of `study`, from its `journal`, whose events are each read once."""

    def __init__(self, journal: Journal, study: Study, name: str) -> None:
        self._journal = journal
        self._study = study
        self._name = name
        self._reading = JournalReading(name)
        self._position = 0
        self._state, self._moment = "Running", 0.0

    def study(self) -> str:
        """The study's note: what is searched, what the launch has found, and how to continue."""
        launch = self._read()
        space = {path: str(domain) for path, domain in self._study.space.items()}
        found = f"{self._choice(launch)} Launch `{self._name}`. {self._progress(launch)}."
        how = f"Method {_methods(self._study)}, {_length(self._study)}. Chosen {CHOICES[self._study.objective]}."
        table = _table(("parameter", "drawn from"), space.items())
        return _note([found, f"**Searched.** {PURPOSE} {how}", table, self._ways(launch)])

    def launch(self) -> str:
        """The launch's note: its progress, its best trials, and how to continue."""
        launch = self._read()
        rows = [row(trial, launch) for trial in launch.trials[:ROWS] if trial.best_epoch(launch.objective) is not None]
        table = _table(headings(launch), rows) if rows else ""
        page = "After `cpsc-tune report` a page with figures is under *Artifacts*, in `report/report.html`."
        searched = f"A launch of `{self._study.name}`, which searches {', '.join(f'`{path}`' for path in self._study.space)}."
        return _note([f"**{self._progress(launch)}.**", self._choice(launch), table, self._ways(launch), searched, page])

    def trial(self, number: int) -> str:
        """The trial's note: its values, how it ended, and how to run it again; empty if it has not started."""
        launch = self._read(only=number)  # notes are written at each start and end, so other trials must not be ranked each time
        return _note(self._of(launch.trials[0], launch)) if launch.trials else ""

    def _of(self, trial: TrialRecord, launch: Launch) -> list[str]:
        whose = "a point of the search" if trial.finalist_of is None else f"the values of trial {trial.finalist_of} once more"
        values = {path: _format(value) for path, value in trial.point.items()}
        again = shlex.join(["cpsc-tune", "replay", f"{self._name}:{trial.number}", "--storage", str(self._study.local)])
        return [
            f"Trial {trial.number} of launch `{self._name}`: {whose}.",
            _ending(trial, launch.length_of(trial)),
            _result(trial, launch),
            _table(("parameter", "value"), values.items()),
            "Its curves are under *Model metrics*, its generated images and its checkpoints under *Artifacts*."
            + (f" `{again}` runs it again and compares." if trial.outcome else ""),
        ]

    def _read(self, *, only: int | None = None) -> Launch:
        for event, position in self._journal.since(self._position):
            self._reading.tell(event)
            self._position, self._moment = position, event.time
            match event:
                case AttemptStart():
                    self._state = "Running"
                case LaunchEnd(status=status):
                    self._state = STATES.get(status, status).capitalize()
        return self._reading.launch(only=only)

    def _progress(self, launch: Launch) -> str:
        moment = datetime.fromtimestamp(self._moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
        counts = [f"{launch.count(outcome)} {outcome.value}" for outcome in Outcome if launch.count(outcome)]
        running = launch.count(None)
        done = ", ".join([*counts, *([f"{running} under way"] if running else [])]) or "none has ended"
        return f"{self._state}, as of {moment}: {len(launch.trials)} trials begun, {done}, {launch.epochs_run} epochs run"

    def _choice(self, launch: Launch) -> str:
        """A sentence on the student that is chosen, or would be if the launch ended now."""
        line = choice_line(launch).replace("_", " ")
        accuracy = launch.chosen.at_best("test_accuracy", launch.objective) if launch.chosen else None
        labels = "" if accuracy is None else f"; its test accuracy {percent(accuracy)}"
        begin = line if self._state == "Finished" else f"so far {line}"
        return f"{begin[0].upper()}{begin[1:]}{labels}."

    def _ways(self, launch: Launch) -> str:
        """Commands for the next steps."""
        resume, num_trials = resume_command(self._study, self._name), 2 * self._study.search.num_trials
        file = shlex.quote(str(self._study.local / self._name / STUDY_FILE))
        ways = [f"`{resume} --num-trials {num_trials}` adds trials"] if self._state == "Finished" else []
        if self._state != "Finished":
            ways.append(f"`{resume}` continues where it stopped, once its process has ended")
        ways.append(f"`cpsc-tune report {file}` prints what was found and writes a page")
        if launch.chosen is not None and self._state == "Finished":
            ways.append(f"`cpsc-tune export {file} --output student` writes the chosen student for use elsewhere")
        return "\n".join(["**Next steps**", "", *(f"- {way}" for way in ways)])


def _methods(study: Study) -> str:
    domain = study.space.get(METHOD_PATH)
    return ", ".join(f"`{name}`" for name in (domain.arguments if domain else (study.config.method,)))


def _length(study: Study) -> str:
    pruning = "" if study.prune.scheduler == "none" else f", poor ones ended early by {study.prune.scheduler.upper()}"
    return f"{study.search.num_trials} trials of up to {study.config.epochs} epochs, sampler `{study.search.sampler}`{pruning}"


def _ending(trial: TrialRecord, length: int) -> str:
    """How the `trial` ended; `length`: its epochs if nothing ends it early."""
    at, reason = f"after epoch {trial.num_epochs} of {length}", f": {_plain(trial.reason)}" if trial.reason else ""
    match trial.outcome:
        case None:
            return "**Begun**; how it ended is written here once it has."
        case Outcome.COMPLETED:
            return f"**Completed**, all {length} epochs."
        case Outcome.PRUNED:
            return f"**Pruned** {at}: others were better there."
        case Outcome.DIVERGED:
            return f"**Diverged** {at}{reason}. The search is told that this is a bad point."
        case Outcome.FAILED:
            return f"**Failed** {at}{reason}. That says nothing about its values."
        case Outcome.INTERRUPTED:
            return f"**Interrupted** {at}{reason}. A resume continues it."


def _result(trial: TrialRecord, launch: Launch) -> str:
    """The trial's figures; empty if it has none, or if they are not final."""
    epoch = trial.best_epoch(launch.objective)
    if epoch is None or trial.outcome is None:
        return ""
    cells = zip(headings(launch)[3:], row(trial, launch)[3:], strict=True)
    return f"Best at epoch {epoch}: {', '.join(f'{name} {cell}' for name, cell in cells if cell != '-')}."


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; long ones are cut."""
    lines = [_line(cells) for cells in rows]
    more = [f"| and {len(lines) - MAX_PARAMETERS} more |"] if len(lines) > MAX_PARAMETERS else []
    return "\n".join([_line(head), "|" + "---|" * len(head), *lines[:MAX_PARAMETERS], *more]) if lines else ""


def _line(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(_plain(str(cell)) for cell in cells)} |"


def _plain(text: str) -> str:
    """`text` in one line, without characters that would end a table cell."""
    return " ".join(text.replace("|", "/").split())


def _format(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _note(parts: Iterable[str]) -> str:
    return redact("\n\n".join(part for part in parts if part))[:MAX_NOTE]
