"""Simulation of a study's sweep: its own searcher and scheduler, on recorded curves instead of training."""

import logging
from collections.abc import Iterator
from dataclasses import replace

from tuning.launch import EventLog, LaunchHistory
from tuning.launch.events import AttemptStart, Event, LaunchEnd, LaunchStart, Transferred
from tuning.process_settings import log_levels
from tuning.results.earlier import beginning_with
from tuning.search.asha import build_scheduler
from tuning.search.first_points import begins_with
from tuning.search.optuna_search import build_search
from tuning.simulation.loop import Answer, Scheduler, SweepLoop, VirtualClock, VirtualLog
from tuning.study import Study


class EventList:
    """Events in memory."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def append(self, event: Event) -> None:
        self._events.append(event)

    def events(self) -> Iterator[Event]:
        return iter(self._events)


def simulate_sweep(
    study: Study,
    answer: Answer,
    *,
    workers: int,
    scheduler: Scheduler | None = None,
    told: Transferred | None = None,
    log: EventLog | None = None,
) -> list[Event]:
    """Simulate the sweep with `workers` trials at a time -> the events of its journal, with times in seconds since its start.

    `answer`: what a trial at a point reports. `scheduler`: replaces the study's. `told`: results of earlier launches.
    `log`: a journal to write to as well.
    Finalists are left out because a record has no other seeds, and time budgets because they use this machine's clock.
    """
    search = study.search.model_copy(update={"finalists": None, "time_budget_s": None})
    study, clock = replace(study, search=search), VirtualClock()
    virtual = VirtualLog(EventList() if log is None else log, clock)
    settings = {"objective": study.objective, "epochs": str(study.config.epochs)}
    virtual.append(LaunchStart(time=0.0, launch_id="simulated", params=settings, study=""))
    virtual.append(AttemptStart(time=0.0, attempt=0))
    if told is not None:
        virtual.append(told)
    with log_levels({"optuna": logging.WARNING}):  # it logs that a study is created
        loop = SweepLoop(
            build_search(study, LaunchHistory(transferred=told), virtual, begins_with(beginning_with(study, told))),
            build_scheduler(study) if scheduler is None else scheduler,
            answer,
            objective=study.objective,
            method=study.config.method,
            epochs=study.config.epochs,
            workers=workers,
            clock=clock,
            log=virtual,
        )
        loop.run()
    virtual.append(LaunchEnd(time=0.0, status="FINISHED", metrics={"elapsed_s": clock.now}))
    return list(virtual.events())
