"""Forecast of a sweep: how long until its last trial ends, by what its trials took so far and what pruning leaves of them.

The rest of the sweep is simulated a few times, with trials whose lengths are drawn at random. Each trial begins as soon as a place
is free. How many go on at each of ASHA's rungs follows from the reduction factor, from what the sampler has learned, and from how
many went on so far.
"""

import heapq
import random
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from tuning.launch import LaunchHistory
from tuning.launch.events import AttemptStart, Epoch, Event, LaunchEnd, TrialEnd, TrialStart
from tuning.outcome import Outcome, length_of
from tuning.search.asha import rungs_of
from tuning.search.budget import budget_of
from tuning.search.expected_epochs import chance_to_go_on
from tuning.search.finalists import runs_to_propose
from tuning.search.samplers import learns_after
from tuning.study import Study
from tuning.time_left import in_words, words_left

RECENT_EPOCHS = 24
"""So many of the latest epochs tell what the next ones take: some of each place, few enough to notice that a machine is busy."""
PRIOR_TRIALS = 10.0
"""How many trials at a rung the reduction factor weighs as much as."""
LEARNED_SHARE, LEARNING_TRIALS = 0.65, 24
"""The share that goes on at a rung once a sampler has learned, and how many trials after its first random ones that takes: its
later points compete with worse earlier ones. From 20 simulated sweeps of 40 trials with TPE on 200 recorded digits trials."""
MAX_PLAYS, MAX_STARTS = 31, 2000
"""How often the rest is played at most, and how many trials start in all plays together."""


@dataclass(frozen=True)
class Plan:
    """What an attempt has to do. `num_trials`: of the search, with those that earlier attempts have run. `rungs`: after these
    epochs trials are compared. `startup_trials`: after these the sampler learns; None: it never does. `finalists`: runs of them
    that are yet to start, of `finalist_epochs`."""

    num_trials: int
    epochs: int
    rungs: Sequence[int] = ()
    reduction_factor: float = 1.0
    startup_trials: int | None = None
    finalists: int = 0
    finalist_epochs: int = 0
    epoch_budget: int | None = None
    time_budget_s: float | None = None

    def learned(self, before: int) -> float:
        """How far the sampler has learned, 0 to 1, when it proposes a trial after `before` others."""
        if self.startup_trials is None:
            return 0.0
        return min(1.0, max(0, before - self.startup_trials) / LEARNING_TRIALS)


@dataclass(frozen=True)
class TimeLeft:
    """Seconds until the end; None: not known. `at_least`: before the first result there is no more than a lower bound."""

    seconds: float | None
    at_least: bool = False

    def __str__(self) -> str:
        if self.at_least and self.seconds is not None:
            return f"over {in_words(self.seconds)} left"
        return words_left(self.seconds)


@dataclass
class _Running:
    """A trial under way.

    `since`: when its place became free for it, or when its last result came. `learned`: see `Plan.learned`.
    """

    length: int
    is_finalist: bool
    since: float
    learned: float
    epoch: int = 0
    is_new: bool = True
    """Without a result since it started."""
    took: list[float] = field(default_factory=list)


class Rung:
    """One of ASHA's rungs: how many trials were judged there, and how many went on.

    The k-th of trials that are alike goes on if it lies above the quantile 1 - 1/factor of those before it. `learned`: how far the
    sampler had come when it proposed a trial, see `Plan.learned`.
    """

    def __init__(self, epoch: int, factor: float) -> None:
        self.epoch, self._factor = epoch, factor
        self.judged = 0
        self.passed = 0
        self._expected = 0.0

    def judge(self, *, passed: bool, learned: float) -> None:
        """Take in what became of a trial."""
        self._expected += self._chance(self.judged, learned)
        self.judged += 1
        self.passed += passed

    def share(self, judged: int, learned: float) -> float:
        """Of trials that are judged there after `judged` others, how many go on."""
        correction = (self.passed + PRIOR_TRIALS) / (self._expected + PRIOR_TRIALS)
        return min(1.0, correction * self._chance(judged, learned))

    def _chance(self, judged: int, learned: float) -> float:
        alike = chance_to_go_on(judged, self._factor)
        return alike + learned * max(0.0, LEARNED_SHARE - alike)


class Forecast:
    """Hears of trials as they start, report and end, at times in seconds since 1970, and says how long the sweep will go on."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._rungs = [Rung(epoch, plan.reduction_factor) for epoch in plan.rungs]
        self._running: dict[int, _Running] = {}
        self._paused: dict[int, _Running] = {}
        self._searched: set[int] = set()
        self._finalists: set[int] = set()
        self._num_new_finalists = 0
        self._free: list[float] = []
        self._places = 1
        self._firsts: deque[float] = deque(maxlen=RECENT_EPOCHS)
        self._laters: deque[float] = deque(maxlen=RECENT_EPOCHS)
        self._of_finalists: deque[float] = deque(maxlen=RECENT_EPOCHS)
        self._search_epochs = self._done_epochs = 0
        self._under_way_s = 0.0
        self._last_sign: float | None = None

    def hear(self, events: Iterable[Event], epochs: int) -> None:
        """Take in the events of a journal, of a study whose trials have so many epochs."""
        for event in events:
            match event:
                case AttemptStart() | LaunchEnd():
                    self._break_off(event.time)
                case TrialStart(number=number, point=point):
                    length = length_of(point, epochs)
                    self.start(number, event.time, length=length, is_finalist=event.finalist_of is not None)
                case Epoch(number=number, epoch=epoch, metrics=metrics):
                    self.report(number, epoch, event.time, epoch_s=metrics.get("epoch_s", 0.0))
                case TrialEnd(number=number):
                    self.end(number, event.time, is_over=event.outcome is not Outcome.INTERRUPTED)

    def _break_off(self, now: float) -> None:
        """A driver takes the launch up, or puts it down: nothing runs, and the time in between does not count."""
        self._paused |= self._running
        self._running, self._free = {}, []
        self._num_new_finalists = 0
        self._last_sign = now

    def start(self, number: int, now: float, *, length: int, is_finalist: bool) -> None:
        """The trial starts, or goes on."""
        self._advance_clock(now)
        if number in self._running:  # on another machine, after a failure
            self._running[number].is_new = True
            return
        before = self._paused.pop(number, None)
        since = self._free.pop(0) if self._free else now
        learned = before.learned if before else self.plan.learned(len(self._searched))
        self._running[number] = _Running(length, is_finalist, since, learned, epoch=before.epoch if before else 0)
        self._num_new_finalists += is_finalist and number not in self._finalists
        (self._finalists if is_finalist else self._searched).add(number)
        self._places = len(self._running)

    def report(self, number: int, epoch: int, now: float, *, epoch_s: float) -> None:
        """Its epoch is over, which took `epoch_s` where it was trained; one that was trained beforehand comes sooner."""
        self._advance_clock(now)
        trial = self._running.get(number)
        if trial is None:
            return
        took = max(now - trial.since, epoch_s)
        samples = self._of_finalists if trial.is_finalist else self._firsts if trial.is_new else self._laters
        samples.append(took)
        if not trial.is_new:
            trial.took.append(took)
        if not trial.is_finalist:
            self._judge(trial, passed=True)
            self._search_epochs += 1
        self._done_epochs += 1
        trial.epoch, trial.since, trial.is_new = epoch, now, False

    def end(self, number: int, now: float, *, is_over: bool = True) -> None:
        """It has ended, for good or until it is taken up again."""
        trial = self._running.pop(number, None)
        if trial is None:  # of a driver that died others tell later
            if is_over:
                self._paused.pop(number, None)
            return
        self._advance_clock(now)
        if not is_over:
            self._paused[number] = trial
            return
        self._free.append(now)
        if not trial.is_finalist and trial.epoch < trial.length:
            self._judge(trial, passed=False)

    def end_search(self, *, finalists: int | None) -> None:
        """No more trials are proposed than there are; so many runs of finalists are yet to start, where that is known."""
        left = self.plan.finalists if finalists is None else self._num_new_finalists + finalists
        self.plan = replace(self.plan, num_trials=len(self._searched), finalists=left)

    @property
    def num_trials(self) -> int:
        """All that there will be, of search and finalists."""
        return len(self._searched) + self._searches_left + len(self._finalists) + self._finalists_left

    def left(self, now: float) -> TimeLeft:
        """Until the last trial ends, seen at `now`; it shrinks while an epoch goes on."""
        first, later = self._costs(now)
        if later is None:
            return TimeLeft(None)
        plays = max(1, min(MAX_PLAYS, MAX_STARTS // max(1, self._searches_left)))
        ends = [self._play(random.Random(seed), now, first, later) for seed in range(plays)]
        return TimeLeft(statistics.median(ends), at_least=not (self._firsts or self._laters or self._of_finalists))

    def share_done(self, now: float, left_s: float | None) -> float:
        """Of the sweep's whole time, with earlier attempts, the part that has passed."""
        passed = self._under_way_s + max(0.0, now - self._last_sign if self._last_sign is not None else 0.0)
        return 0.0 if left_s is None else passed / max(passed + left_s, 1e-9)

    @property
    def _searches_left(self) -> int:
        return max(0, self.plan.num_trials - len(self._searched))

    @property
    def _finalists_left(self) -> int:
        return max(0, self.plan.finalists - self._num_new_finalists)

    def _advance_clock(self, now: float) -> None:
        if self._last_sign is not None:
            self._under_way_s += max(0.0, now - self._last_sign)
        self._last_sign = now

    def _judge(self, trial: _Running, *, passed: bool) -> None:
        for rung in self._rungs:
            if rung.epoch == trial.epoch:
                rung.judge(passed=passed, learned=trial.learned)

    def _costs(self, now: float) -> tuple[float, float | None]:
        """Seconds of a trial's first epoch, with what it takes to start one, and of each that follows."""
        waited = [now - trial.since for trial in self._running.values()]
        firsts = self._firsts or self._laters or self._of_finalists or waited
        if not firsts:
            return 0.0, None
        first = statistics.fmean(firsts)
        return first, statistics.fmean(self._laters) if self._laters else first

    def _play(self, draws: random.Random, now: float, first: float, later: float) -> float:
        """One course of the rest, in seconds from `now`."""
        judged = [rung.judged for rung in self._rungs]
        places, epochs = [], 0
        for trial in self._running.values():
            last = trial.length if trial.is_finalist else self._life(draws, judged, trial.epoch, trial.learned)
            places.append(self._rest_of(trial, last, now, first, later))
            epochs += last - trial.epoch
        places += [0.0] * (self._places - len(places))
        heapq.heapify(places)
        for trial in self._paused.values():
            last = trial.length if trial.is_finalist else self._life(draws, judged, trial.epoch, trial.learned)
            heapq.heappush(places, heapq.heappop(places) + first + (last - trial.epoch - 1) * later)
            epochs += last - trial.epoch
        for place in range(self._searches_left):
            if self._is_spent(epochs, places[0]):
                break
            last = self._life(draws, judged, 0, self.plan.learned(len(self._searched) + place))
            epochs += last
            heapq.heappush(places, heapq.heappop(places) + first + (last - 1) * later)
        return self._play_finalists(places, first, later)

    def _play_finalists(self, places: list[float], first: float, later: float) -> float:
        """They start once nothing of the search runs any more; other finalists may."""
        if self._finalists_left and not any(trial.is_finalist for trial in self._running.values()):
            places = [max(places)] * len(places)
        each = statistics.fmean(self._of_finalists) if self._of_finalists else later
        for _ in range(self._finalists_left):
            heapq.heappush(places, heapq.heappop(places) + (first - later) + self.plan.finalist_epochs * each)
        return max(places)

    def _is_spent(self, epochs: int, start: float) -> bool:
        """Whether a budget admits no trial that starts so many seconds from now, after so many epochs more."""
        plan = self.plan
        return (plan.epoch_budget is not None and self._search_epochs + epochs >= plan.epoch_budget) or (
            plan.time_budget_s is not None and self._under_way_s + start >= plan.time_budget_s
        )

    def _life(self, draws: random.Random, judged: list[int], epoch: int, learned: float) -> int:
        """The last epoch, drawn at random, of a trial that has come to `epoch`; `judged`: how many there are at each rung."""
        for place, rung in enumerate(self._rungs):
            if rung.epoch < epoch or (rung.epoch == epoch and epoch):
                continue
            share = rung.share(judged[place], learned)
            judged[place] += 1
            if draws.random() >= share:
                return rung.epoch
        return self.plan.epochs

    def _rest_of(self, trial: _Running, last: int, now: float, first: float, later: float) -> float:
        """Seconds that a running trial takes to the end of its epoch `last`."""
        general = statistics.fmean(self._of_finalists) if trial.is_finalist and self._of_finalists else later
        own = (sum(trial.took) + general) / (len(trial.took) + 1)
        waited = max(0.0, now - trial.since)
        this = max((first if trial.is_new else own), waited)
        own = max(own, waited) if not trial.is_new else own
        left = last - trial.epoch
        return 0.0 if left <= 0 else this - waited + (left - 1) * own


def plan_of(study: Study, history: LaunchHistory) -> Plan:
    """What is left to do of `study` after `history`, with the finalists that it lacks now: those to come nobody knows."""
    search, epochs, finalists = study.search, study.config.epochs, study.search.finalists
    lacking = 0
    if finalists is not None:
        over = sum(trial.is_over for trial in history.searched.values())
        lacking = finalists.num_runs if over < finalists.top else len(runs_to_propose(study, history))
    return Plan(
        num_trials=max(budget_of(study, history).num_trials, len(history.searched)),
        epochs=epochs,
        rungs=rungs_of(study.prune, epochs),
        reduction_factor=study.prune.reduction_factor,
        startup_trials=learns_after(study.search),
        finalists=lacking,
        finalist_epochs=finalists.length(epochs) if finalists else 0,
        epoch_budget=search.epoch_budget,
        time_budget_s=search.time_budget_s,
    )
