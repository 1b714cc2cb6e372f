"""History of a launch, with one record per trial, read from its journal: a killed launch is rebuilt from it."""

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
"""Prefix, before an objective's name, of its running best."""


@dataclass
class TrialHistory:
    """One trial so far. `values`: the search's metric by epoch; `checkpoints`: the folders that it can continue from, oldest first.

    `finalist_of`: for a finalist, the trial that it repeats under another seed. `enqueued`: for a point that a user has added, its
    index.
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
    """Whether it was started in the latest attempt and has not ended."""
    was_retried: bool = False
    """Whether it was retried since it last started."""
    scores: dict[int, float] = field(default_factory=dict)
    """The objective by epoch, of which `values` is the running best."""
    schedule: tuple[Segment, ...] = ()
    """The values that each stretch of its lineage was trained with; its point, if it took over no other trial."""
    exploited_after: int = 0
    """The last epoch after which it took over the state of another trial."""

    @property
    def last_epoch(self) -> int:
        return next(reversed(self.values), 0)  # epochs are in order

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good; an interruption is a pause."""
        return self.outcome not in (None, Outcome.INTERRUPTED)


@dataclass
class LaunchHistory:
    """A launch so far. `results`: (trial number, epoch, metric value) of the search, in the order of arrival."""

    trials: dict[int, TrialHistory] = field(default_factory=dict)
    results: list[tuple[int, int, float]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    """Points that were drawn and exceed the study's limits."""
    transferred: Transferred | None = None
    """Trials of earlier launches that the search learns from."""
    compared: Compared | None = None
    """The last comparison of a population."""
    scheduler: str = ""
    """The scheduler that the launch began with; empty if an earlier version began it."""
    finished_budget: int | None = None
    """The budget of trials during which a user asked to finish; None if nobody did."""
    launch_id: str = ""
    num_attempts: int = 0
    is_over: bool = False
    elapsed_s: float = 0.0
    """Duration of all attempts together, each up to its last sign of life."""
    last_sign: float = 0.0
    """Time of a driver's last event."""
    remarks: list[str] = field(default_factory=list)
    """Oddities in the journal that change no result."""

    @property
    def num_epochs(self) -> int:
        """Epochs that the search has run; finalists do not count towards its budget."""
        return len(self.results)

    @property
    def num_enqueued(self) -> int:
        """The place after the last user-added point that was proposed or rejected."""
        taken = [trial.enqueued for trial in self.trials.values()] + [rejected.enqueued for rejected in self.rejected]
        return max((which + 1 for which in taken if which is not None), default=0)

    @property
    def searched(self) -> dict[int, TrialHistory]:
        """The trials that are not finalists."""
        return {number: trial for number, trial in self.trials.items() if trial.finalist_of is None}


def _launch_fault(event: LaunchEvent, history: LaunchHistory) -> str | None:
    """What is wrong with an event of the launch itself after `history`, in words; None if nothing is."""
    attempts = history.num_attempts
    match event:
        case LaunchStart(params=params) if not (params.get("epochs", "").isdecimal() and "objective" in params):
            return "launch_start lacks objective and epochs"
        case LaunchStart() if history.launch_id:
            return "launch_start appears twice, are these two journals in one file?"
        case LaunchStart() if history.trials or attempts:
            return "launch_start comes after other records"
        case AttemptStart(attempt=attempt) if attempt != attempts:
            return f"attempt {attempt} comes after {attempts} attempts, lines are missing, repeated or out of order"
        case Transferred() if history.transferred or history.trials:
            return "transferred appears twice, or after trials"
        case Rejected() if history.is_over or not attempts:
            return "rejected is outside of an attempt, an attempt_start is missing"
        case Compared():
            return _comparison_fault(event, history)
        case FinishAsked() if history.is_over or not attempts:
            return "finish_asked is outside of an attempt, an attempt_start is missing"
        case LaunchEnd() if history.is_over:
            return "launch_end appears twice, an attempt_start is missing"
    return None


def _comparison_fault(event: Compared, history: LaunchHistory) -> str | None:
    if history.is_over or not history.num_attempts:
        return "compared is outside of an attempt, an attempt_start is missing"
    if history.compared is not None and event.epoch <= history.compared.epoch:
        return f"compared after epoch {event.epoch} comes after epoch {history.compared.epoch}"
    for number in event.ranking:
        trial = history.searched.get(number)
        if trial is None or trial.is_over or trial.last_epoch != event.epoch:
            return f"compared after epoch {event.epoch} names trial {number}, which is at another epoch: lines are missing"
    return "compared names a trial twice" if len(set(event.ranking)) < len(event.ranking) else None


def _trial_fault(event: TrialEvent, history: LaunchHistory, metric: str) -> str | None:
    """The same for an event of a trial."""
    kind, number = event.kind, event.number
    if isinstance(event, Epoch) and metric not in event.metrics:
        return f"epoch has no {metric}, did this launch have another objective?"
    if history.launch_id and not history.num_attempts:
        return f"{kind} of trial {number} comes before the first attempt, an attempt_start is missing"
    if history.is_over and not isinstance(event, TrialEnd):
        return f"{kind} of trial {number} comes after the launch's end, an attempt_start is missing"
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
            return f"{kind} of trial {number} comes after its end"
        case Exploited():
            return _exploit_fault(event, trial, history)
        case Retry(count=count) if count <= trial.num_retries:
            return f"retry {count} of trial {number} comes after retry {trial.num_retries}"
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
        return f"epoch {epoch} of trial {number} comes after its end, a trial_start is missing"
    if not trial.is_running:
        return f"epoch {epoch} of trial {number} comes before its start, a trial_start is missing"
    if epoch <= last:
        return f"epoch {epoch} of trial {number} appears twice" if epoch in trial.values else f"trial {number} has an epoch {epoch}"
    return None if epoch == last + 1 else f"epoch {epoch} of trial {number} comes after {last}: {_missing(last + 1, epoch - 1)}"


def _exploit_fault(event: Exploited, trial: TrialHistory, history: LaunchHistory) -> str | None:
    number, epoch, donor, compared = event.number, event.epoch, event.donor, history.compared
    if compared is None or compared.epoch != epoch or not {number, donor} <= set(compared.ranking):
        return f"trial {number} takes over trial {donor} after epoch {epoch}, but they were not compared there: lines are missing"
    if donor == number or trial.exploited_after == epoch or history.trials[donor].exploited_after == epoch:
        return f"trial {number} takes over trial {donor} after epoch {epoch}, but one of them has already changed there"
    if {trial.last_epoch, history.trials[donor].last_epoch} != {epoch}:
        return f"trial {number} takes over trial {donor} after epoch {epoch}, but one of them has already continued"
    return None


def _checkpoint_fault(trial: TrialHistory) -> str | None:
    """A checkpoint may come after the trial's end, if it was being written then. There can be more checkpoints than epochs only if
    the trial, or one that it took over, went back and repeated epochs, which are not recorded again."""
    number, checkpoints, epochs = trial.number, len(trial.checkpoints) + 1, trial.last_epoch
    if epochs and (checkpoints <= epochs or trial.num_starts > 1 or trial.num_retries or trial.exploited_after):
        return None
    return f"trial {number} has its checkpoint {checkpoints} after {epochs} epochs, an epoch is missing"


def _end_fault(event: TrialEnd, trial: TrialHistory) -> str | None:
    number, epoch, last, outcome = trial.number, event.epoch, trial.last_epoch, event.outcome
    if trial.is_over or trial.outcome is outcome:
        return f"trial {number} ends twice"
    if epoch != last:
        gap = _missing(last + 1, epoch) if epoch > last else "the end belongs to another trial"
        return f"trial {number} ends after epoch {epoch}, but has {last or 'none'}: {gap}"
    if outcome not in (Outcome.FAILED, Outcome.INTERRUPTED) and not last:
        return f"trial {number} is {outcome} without an epoch"
    return None


def _missing(first: int, last: int) -> str:
    return f"epoch {first} is missing" if first == last else f"epochs {first} to {last} are missing"


def _oddity(event: Event, history: LaunchHistory) -> str | None:
    """What is odd about `event` after `history`, although it makes no number wrong, in words; None if nothing is."""
    match event:
        case TrialStart(number=number):
            trial = history.trials[number]
            if trial.is_running and not trial.was_retried:
                return f"trial {number} starts twice without a retry, it counts once"
        case LaunchEnd(status="FINISHED"):
            running = [number for number, trial in history.trials.items() if trial.is_running]
            if running:
                return f"the end of trial {running[0]} is missing, its epochs tell whether it continues"
    return None


def replay_events(events: Iterable[Event], *, metric: str) -> LaunchHistory:
    """The history from `events`, a journal from its start; `metric` names the value that search and scheduler use.

    ConfigError, with the journal's line, if an event is where a sweep would not have written it.
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
