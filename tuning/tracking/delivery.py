"""Delivery of a launch's journal to MLflow, by a thread, while the sweep runs."""

import contextlib
import itertools
import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from tuning.launch import Journal
from tuning.launch.events import Event, to_record
from tuning.launch.journal import pause_after
from tuning.launch.journal_backup import JournalBackup
from tuning.study import Study
from tuning.tracking.client import FAILURES, using_mlflow
from tuning.tracking.notes import Notes
from tuning.tracking.refusal import is_refusal
from tuning.tracking.retry import PATIENCE_S, RETRY_S, Patience
from tuning.tracking.run_lookup import ForgottenError, LaunchRuns
from tuning.tracking.translation import Translator

logger = logging.getLogger(__name__)

REFUSED_FILE = "refused.jsonl"
EVENTS_AT_ONCE = 1000
"""Number of events per acknowledgement, so that a crash does not undo all of a long backlog."""


class MlflowWriter(threading.Thread):
    """Delivers a launch's journal to MLflow, in order, until it is closed; keeps trying while the server cannot be reached.

    Delivering an event twice changes nothing: runs are found by their tags, a metric with the same step, time and
    value is stored once, artifacts are overwritten with themselves. A record that a reachable server refuses for good is
    skipped and listed in `REFUSED_FILE`, so that later ones do not wait forever. Each unanswered request is repeated on its own,
    so that one failure in ten costs a tenth more time and not a repetition of everything since the last failure.
    """

    def __init__(
        self,
        journal: Journal,
        study: Study,
        launch: str,
        launch_id: str,
        copy: JournalBackup | None = None,
        notes: Notes | None = None,
    ) -> None:
        super().__init__(name="mlflow-writer", daemon=True)
        self._journal = journal
        self._copy = copy or JournalBackup(journal, None, launch)
        self._patience = Patience(about="the tracking server cannot be reached; metrics are kept and delivered later")
        self._runs = LaunchRuns(study, launch, launch_id, self._patience)
        self._translator = Translator(study, self._runs, self._patience, self._record_refusal, notes)
        self._closing = threading.Event()
        self._warned: set[tuple[str, int | None]] = set()
        self._failure: Exception | None = None
        self._pause_s = 0.0
        self.busy_s = 0.0
        """Time spent in deliveries, without opening the store (which may make its tables): that happens while Ray starts."""
        self.undelivered = 0
        self.num_refused = 0

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:  # a bug must surface when the sweep ends, not vanish with the thread
            self._failure = error

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            if self._deliver_pending():
                if closing:
                    return
                self._closing.wait(self._pause_s)
            elif closing or self._patience.is_spent:
                self.undelivered = sum(1 for _ in self._journal.pending())
                return
            else:
                self._closing.wait(RETRY_S)

    def close(self, *, deadline_s: float = PATIENCE_S) -> None:
        """Deliver what is left, however long it takes, and stop.

        Gives up if the server has not answered for `deadline_s`; the journal keeps the rest.
        """
        self._patience.limit_s = deadline_s
        self._closing.set()
        self.join()
        if self._failure is not None:
            raise self._failure

    def run_id(self, number: int | None = None) -> str:
        """The MLflow run of a trial, or of the launch itself."""
        return self._runs.run_id(number)

    def _deliver_pending(self) -> bool:
        """Deliver what is pending and has been backed up -> whether all of that was dealt with."""
        before = self.busy_s
        try:
            safe = self._patience.ask(lambda: self._copy.sync(at_once=self._closing.is_set()))
            for events, position in _portions(self._journal.pending(), safe):
                self._patience.ask(lambda: self._runs.client)  # opens the store
                self._deliver_portion(events)
                self._journal.acknowledge(position)
        except ForgottenError:
            if self._runs.told_again:
                return False
            self._redeliver_all()
            return self._deliver_pending()
        except FAILURES:
            return False
        self._pause_s = pause_after(self.busy_s - before)
        return True

    def _deliver_portion(self, events: Sequence[Event]) -> None:
        """Deliver `events`, those of each trial together and in order."""
        started, waited_s = time.perf_counter(), self._patience.waited_s
        try:
            for group in _by_run(events):
                self._deliver_group(group)
            self._translator.describe(events)
        finally:
            self.busy_s += time.perf_counter() - started - (self._patience.waited_s - waited_s)

    def _deliver_group(self, events: Sequence[Event]) -> None:
        """Deliver events of one run; if MLflow refuses them, one by one, so that those it accepts arrive."""
        try:
            self._translator.tell(events)
        except FAILURES as error:
            if not is_refusal(error):
                raise
            for event in events:
                self._translator.attempt(event, self._translator.tell, [event])

    def _record_refusal(self, event: Event, reason: str) -> None:
        self.num_refused += 1
        known = {key: value for key, value in to_record(event).items() if key in ("kind", "number", "epoch")}
        with (self._journal.path.parent / REFUSED_FILE).open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(known | {"time": time.time(), "reason": reason}) + "\n")
        topic = (event.kind, event.number)
        if topic not in self._warned:  # a deleted run refuses every later epoch
            what = event.kind + "".join(f", {key} {known[key]}" for key in ("number", "epoch") if key in known)
            logger.warning("MLflow refuses a record (%s), which is skipped and listed in %s: %s", what, REFUSED_FILE, reason)
        self._warned.add(topic)

    def _redeliver_all(self) -> None:
        """Deliver the whole journal again, to a server that does not know the launch."""
        logger.warning("the tracking server does not know launch %s (any more): all is delivered again", self._runs.launch)
        self._journal.acknowledge(0)
        self._runs.start_over()


def _portions(pending: Iterable[tuple[Event, int]], safe: int) -> Iterator[tuple[list[Event], int]]:
    """The `pending` events up to the position `safe`, in portions, each with its last position."""
    ready = itertools.takewhile(lambda item: item[1] <= safe, pending)
    while portion := list(itertools.islice(ready, EVENTS_AT_ONCE)):
        yield [event for event, _ in portion], portion[-1][1]


def _by_run(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Group `events` by run: those of a trial may overtake those of other trials, but not those of the launch itself."""
    for _, between in itertools.groupby(events, key=lambda event: event.number is None):
        groups: dict[int | None, list[Event]] = {}
        for event in between:
            groups.setdefault(event.number, []).append(event)
        yield from groups.values()


@contextlib.contextmanager
def delivering(writer: MlflowWriter, *, deadline_s: float = PATIENCE_S) -> Iterator[MlflowWriter]:
    """Run the writer for the duration of the block."""
    with using_mlflow():
        writer.start()
        try:
            yield writer
        finally:
            writer.close(deadline_s=deadline_s)
