"""History of a launch, one record a trial, from its journal: a killed study is rebuilt from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cpsc.errors import ConfigError
from tuning.launch.clock import Clock
from tuning.launch.events import (
    AttemptStart,
    CheckpointSaved,
    Compared,
    Epoch,
    Event,
    Exploited,
    FinishAsked,
    LaunchEnd,
    LaunchEvent,
    LaunchStart,
    Proposed,
    Rejected,
    Retry,
    Transferred,
    TrialEnd,
    TrialEvent,
    TrialStart,
)
from tuning.launch.journal import JOURNAL_FILE, WAY_OUT
from tuning.lineage import Segment
from tuning.outcome import Outcome

RUNNING_BEST = "best_"
"""Before an objective's name: its best so far."""


@dataclass
class TrialHistory:
    """One trial so far. `values`: the search's metric by epoch; `checkpoints`: folders, oldest first, of its state as it goes on.

    `finalist_of`: the trial whose values it repeats under another seed; None of those that the search has proposed. `enqueued`:
    which of the points it is that people have added.
    """

    number: int
    point: Mapping[str, Any]
    finalist_of: int | None = None
    enqueued: int | None = None
    values: dict[int, float] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)
    num_retries: int = 0
    outcome: Outcome | None = None
    num_starts: int = 0
    is_running: bool = False
    """Started in the latest attempt, and not ended."""
    was_retried: bool = False
    """Since it last started."""
    scores: dict[int, float] = field(default_factory=dict)
    """What `values` is the best of so far: the student of that very epoch."""
    schedule: tuple[Segment, ...] = ()
    """Along what its state goes back to, the values that each stretch was trained with; of one that took over none, its point."""
    exploited_after: int = 0
    """The last epoch after which it took over the state of another."""

    @property
    def last_epoch(self) -> int:
        return next(reversed(self.values), 0)  # they come in their order

    @property
    def is_over(self) -> bool:
        """Ended for good: interruption is a pause."""
        return self.outcome not in (None, Outcome.INTERRUPTED)


@dataclass
class LaunchHistory:
    """A launch so far. `results`: every (trial number, epoch) of the search with its metric value, in the order of arrival."""

    trials: dict[int, TrialHistory] = field(default_factory=dict)
    results: list[tuple[int, int, float]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    """Points that were drawn and lie beyond the study's limits."""
    transferred: Transferred | None = None
    """What the search was told of earlier launches."""
    compared: Compared | None = None
    """The last time that a population was compared."""
    scheduler: str = ""
    """Who ends trials early, as the launch began; empty where an earlier version began it."""
    finished_budget: int | None = None
    """The budget of trials that somebody has asked not to use up; None: nobody has."""
    launch_id: str = ""
    num_attempts: int = 0
    is_over: bool = False
    elapsed_s: float = 0.0
    """Time under way, over all attempts, each up to its last sign of life."""
    last_sign: float = 0.0
    """When a driver was last heard of."""
    remarks: list[str] = field(default_factory=list)
    """What is odd in the journal and changes no result."""

    @property
    def num_epochs(self) -> int:
        """That the search has taken; finalists have none of its budget."""
        return len(self.results)

    @property
    def num_enqueued(self) -> int:
        """Of the points that people have added, the place behind the last that was proposed, or rejected."""
        taken = [trial.enqueued for trial in self.trials.values()] + [rejected.enqueued for rejected in self.rejected]
        return max((which + 1 for which in taken if which is not None), default=0)

    @property
    def searched(self) -> dict[int, TrialHistory]:
        """The trials that are no finalists."""
        return {number: trial for number, trial in self.trials.items() if trial.finalist_of is None}


def _launch_fault(event: LaunchEvent, history: LaunchHistory) -> str | None:
    """What is wrong with an event of the launch itself where it follows upon `history`, in words."""
    attempts = history.num_attempts
    match event:
        case LaunchStart(params=params) if not (params.get("epochs", "").isdecimal() and "objective" in params):
            return "launch_start does not tell objective and epochs"
        case LaunchStart() if history.launch_id:
            return "launch_start stands twice, are these two journals in one file?"
        case LaunchStart() if history.trials or attempts:
            return "launch_start stands after other records"
        case AttemptStart(attempt=attempt) if attempt != attempts:
            return f"attempt {attempt} follows upon {attempts}, lines are missing, stand twice or in another order"
        case Transferred() if history.transferred or history.trials:
            return "transferred stands twice, or after trials"
        case Rejected() if history.is_over or not attempts:
            return "rejected stands outside of an attempt, an attempt_start is missing"
        case Compared():
            return _comparison_fault(event, history)
        case FinishAsked() if history.is_over or not attempts:
            return "finish_asked stands outside of an attempt, an attempt_start is missing"
        case LaunchEnd() if history.is_over:
            return "launch_end stands twice, an attempt_start is missing"
    return None


def _comparison_fault(event: Compared, history: LaunchHistory) -> str | None:
    if history.is_over or not history.num_attempts:
        return "compared stands outside of an attempt, an attempt_start is missing"
    if history.compared is not None and event.epoch <= history.compared.epoch:
        return f"compared after epoch {event.epoch} follows upon {history.compared.epoch}"
    for number in event.ranking:
        trial = history.searched.get(number)
        if trial is None or trial.is_over or trial.last_epoch != event.epoch:
            return f"compared after epoch {event.epoch} names trial {number}, which does not stand there: lines are missing"
    return "compared names a trial twice" if len(set(event.ranking)) < len(event.ranking) else None


def _trial_fault(event: TrialEvent, history: LaunchHistory, metric: str) -> str | None:
    """The same for an event of a trial."""
    kind, number = event.kind, event.number
    if isinstance(event, Epoch) and metric not in event.metrics:
        return f"epoch has no {metric}, was this launch's objective another?"
    if history.launch_id and not history.num_attempts:
        return f"{kind} of trial {number} stands before the first attempt, an attempt_start is missing"
    if history.is_over and not isinstance(event, TrialEnd):
        return f"{kind} of trial {number} stands after the launch's end, an attempt_start is missing"
    trial = history.trials.get(number)
    if isinstance(event, Proposed):
        return _proposal_fault(event, history)
    if trial is None:
        return f"trial {number} was never proposed"
    match event:
        case TrialEnd():
            return _end_fault(event, trial)
        case Epoch():
            return _epoch_fault(event, trial)
        case CheckpointSaved():
            return _checkpoint_fault(trial)
        case _ if trial.is_over:
            return f"{kind} of trial {number} stands after its end"
        case Exploited():
            return _exploit_fault(event, trial, history)
        case Retry(count=count) if count <= trial.num_retries:
            return f"retry {count} of trial {number} follows upon {trial.num_retries}"
    return None


def _proposal_fault(event: Proposed, history: LaunchHistory) -> str | None:
    number, expected = event.number, len(history.trials)
    if number in history.trials:
        return f"trial {number} is proposed twice"
    if event.finalist_of is not None and event.finalist_of not in history.searched:
        return f"trial {number} is proposed as a finalist of trial {event.finalist_of}, which the search has not proposed"
    return None if number == expected else f"trial {number} is proposed, but trial {expected} was not: lines are missing"


def _epoch_fault(event: Epoch, trial: TrialHistory) -> str | None:
    number, epoch, last = trial.number, event.epoch, trial.last_epoch
    if trial.outcome is not None:
        return f"epoch {epoch} of trial {number} stands after its end, a trial_start is missing"
    if not trial.is_running:
        return f"epoch {epoch} of trial {number} stands before its start, a trial_start is missing"
    if epoch <= last:
        return f"epoch {epoch} of trial {number} stands twice" if epoch in trial.values else f"trial {number} has an epoch {epoch}"
    return None if epoch == last + 1 else f"epoch {epoch} of trial {number} follows upon {last}: {_missing(last + 1, epoch - 1)}"


def _exploit_fault(event: Exploited, trial: TrialHistory, history: LaunchHistory) -> str | None:
    number, epoch, donor, compared = event.number, event.epoch, event.donor, history.compared
    if compared is None or compared.epoch != epoch or not {number, donor} <= set(compared.ranking):
        return f"trial {number} takes over trial {donor} after epoch {epoch}, but they were not compared there: lines are missing"
    if donor == number or trial.exploited_after == epoch or history.trials[donor].exploited_after == epoch:
        return f"trial {number} takes over trial {donor} after epoch {epoch}, which cannot be: one of them has changed there"
    if {trial.last_epoch, history.trials[donor].last_epoch} != {epoch}:
        return f"trial {number} takes over trial {donor} after epoch {epoch}, but one of them has gone on"
    return None


def _checkpoint_fault(trial: TrialHistory) -> str | None:
    """One may come after the trial's end, written as that was noted; only a trial that went back repeats epochs unrecorded, or that
    another went back which it has taken over."""
    number, checkpoints, epochs = trial.number, len(trial.checkpoints) + 1, trial.last_epoch
    if epochs and (checkpoints <= epochs or trial.num_starts > 1 or trial.num_retries or trial.exploited_after):
        return None
    return f"trial {number} has its checkpoint {checkpoints} after {epochs} epochs, an epoch is missing"


def _end_fault(event: TrialEnd, trial: TrialHistory) -> str | None:
    number, epoch, last, outcome = trial.number, event.epoch, trial.last_epoch, event.outcome
    if trial.is_over or trial.outcome is outcome:
        return f"trial {number} ends twice"
    if epoch != last:
        gap = _missing(last + 1, epoch) if epoch > last else "its end is another's"
        return f"trial {number} ends after epoch {epoch}, but has {last or 'none'}: {gap}"
    if outcome not in (Outcome.FAILED, Outcome.INTERRUPTED) and not last:
        return f"trial {number} is {outcome} without an epoch"
    return None


def _missing(first: int, last: int) -> str:
    return f"epoch {first} is missing" if first == last else f"epochs {first} to {last} are missing"


def _oddity(event: Event, history: LaunchHistory) -> str | None:
    """What is odd about `event` where it follows upon `history`, though no number is wrong for it, in words."""
    match event:
        case TrialStart(number=number):
            trial = history.trials[number]
            if trial.is_running and not trial.was_retried:
                return f"trial {number} starts twice without a retry, it counts once"
        case LaunchEnd(status="FINISHED"):
            running = [number for number, trial in history.trials.items() if trial.is_running]
            if running:
                return f"the end of trial {running[0]} is missing, its epochs tell whether it goes on"
    return None


def replay_events(events: Iterable[Event], *, metric: str) -> LaunchHistory:
    """The history that `events`, a journal from its start, tell; `metric` names the value that search and scheduler look at.

    ConfigError, naming the journal's line, where an event does not stand where a sweep writes it.
    """
    history = LaunchHistory()
    clock, odd = Clock(), []
    for line, event in enumerate(events, start=1):
        fault = _launch_fault(event, history) if isinstance(event, LaunchEvent) else _trial_fault(event, history, metric)
        if fault is not None:
            raise ConfigError(f"{JOURNAL_FILE} line {line}: {fault}; {WAY_OUT}")
        clock.advance(event, line)
        if (oddity := _oddity(event, history)) is not None:
            odd.append(f"line {line}: {oddity}")
        _take_in(event, history, metric)
    clock.finish()
    history.elapsed_s, history.last_sign, history.remarks = clock.elapsed_s, clock.last_sign, clock.remarks + odd
    return history


def _take_in(event: Event, history: LaunchHistory, metric: str) -> None:
    match event:
        case LaunchStart(launch_id=launch_id):
            history.launch_id, history.scheduler = launch_id, event.params.get("scheduler", "")
        case AttemptStart():
            history.num_attempts += 1
            history.is_over = False
            for trial in history.trials.values():
                trial.is_running = False
        case Transferred():
            history.transferred = event
        case Rejected():
            history.rejected.append(event)
        case Compared():
            history.compared = event
        case FinishAsked(num_trials=num_trials):
            history.finished_budget = num_trials
        case LaunchEnd():
            history.is_over = True
        case Proposed(number=number, point=point):
            schedule = (Segment(0, point),)
            history.trials[number] = TrialHistory(number, point, event.finalist_of, event.enqueued, schedule=schedule)
        case Exploited(number=number, epoch=epoch, donor=donor):
            trial, other = history.trials[number], history.trials[donor]
            trial.schedule = (*other.schedule, Segment(epoch, event.point))
            trial.checkpoints, trial.exploited_after = list(other.checkpoints), epoch
        case Epoch(number=number, epoch=epoch, metrics=metrics):
            trial = history.trials[number]
            trial.values[epoch] = metrics[metric]
            trial.scores[epoch] = metrics.get(metric.removeprefix(RUNNING_BEST), metrics[metric])
            if trial.finalist_of is None:
                history.results.append((number, epoch, metrics[metric]))
        case _:
            _take_in_of_trial(event, history.trials[event.number])


def _take_in_of_trial(event: TrialStart | CheckpointSaved | Retry | TrialEnd, trial: TrialHistory) -> None:
    match event:
        case TrialStart():
            trial.outcome, trial.is_running, trial.was_retried = None, True, False
            trial.num_starts += 1
        case CheckpointSaved(path=path):
            trial.checkpoints.append(path)
        case Retry(count=count):
            trial.num_retries, trial.was_retried = count, True
        case TrialEnd(outcome=outcome):
            trial.outcome, trial.is_running = outcome, False
