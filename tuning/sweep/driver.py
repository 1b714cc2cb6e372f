"""Runs a study from its file to its champion: Optuna proposes trials, Ray Tune runs them, ASHA prunes them."""

import contextlib
import functools
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Protocol

from ray.tune.schedulers import FIFOScheduler

from tuning.cluster.address import authentication_mode
from tuning.cluster.ray_compat import callbacks_not_counted, without_snapshots
from tuning.cluster.session import RaySession, terminating_like_ctrl_c
from tuning.display import Display
from tuning.interruption import InterruptedSweepError, answering_ctrl_c
from tuning.launch import DriverLock, Journal, JournalError, LaunchHistory, replay_events
from tuning.launch.enqueued import EnqueuedPoints
from tuning.launch.events import AttemptStart, LaunchEnd
from tuning.launch.finish import FinishRequest
from tuning.launch.launch import check_resumable, new_launch, open_launch, resume_command
from tuning.results import SweepSummary, launch_from_journal
from tuning.results.earlier import beginning_with, transferred
from tuning.search import StudyMirror, mirroring
from tuning.search.asha import ResumableAsha, build_scheduler
from tuning.search.first_points import begins_with
from tuning.search.optuna_search import build_search, has_work
from tuning.search.optuna_space import to_optuna
from tuning.search.population_search import check_population_goes_on, search_kind
from tuning.storage import Storage
from tuning.study import Study
from tuning.study.config import check_searchable
from tuning.sweep.examiners import forget_epochs, with_examiners
from tuning.sweep.forecast import Forecast, plan_of
from tuning.sweep.going_on import going_on
from tuning.sweep.launch_record import launch_start, open_writer, shared_params
from tuning.sweep.preflight import check_nodes
from tuning.sweep.progress import SweepProgress
from tuning.sweep.recorder import INTERRUPTED, Recorder, is_disk_full
from tuning.sweep.recovery import close_finished_trials
from tuning.sweep.registration import register_result
from tuning.sweep.transfer import read_sources
from tuning.sweep.tuner import build_tuner, remove_ray_state
from tuning.tracking import check_tracking, delivering
from tuning.tracking.event_files import writing_event_files
from tuning.tracking.inputs import inputs_of
from tuning.trial import Assets, prepare
from tuning.trial.context import trial_context
from tuning.trial.handshake import StorageHandshake
from tuning.trial.limits import limits_of
from tuning.trial.model_cost import student_cost
from tuning.trial.resources import check_resources


class _Tracker(Protocol):
    """A component that records the sweep; `busy_s`: the seconds it has spent on that."""

    busy_s: float


def check_sweep(study: Study, address: str | None) -> None:
    """ConfigError if `study` cannot run here, before anything is started."""
    check_searchable(study)
    if address is not None:
        authentication_mode(address)
    check_resources(study, address)
    check_tracking(study)


def run_sweep(study: Study, display: Display, *, address: str | None = None, force: bool = False) -> SweepSummary:
    """Run `study`, which `check_sweep` has accepted, to its end as a new launch."""
    sources = read_sources(study)
    for source in sources:
        display.say(str(source))
    told = transferred(sources)
    study = beginning_with(study, told)
    with terminating_like_ctrl_c(), RaySession(address) as session:
        attempt = SweepDriver(study, display, address, session)
        assets = prepare(study, display, force=force, on_cluster=address is not None, before_making=session.start)
        assets = with_examiners(assets.fit(study), assets, display, before_making=session.start)
        with new_launch(study, launch_start(assets.fit(study), assets, uuid.uuid4().hex), told) as name:
            return attempt.drive(name, assets)


def resume_sweep(storage: str, name: str, display: Display, *, overrides: list[str], address: str | None = None) -> SweepSummary:
    """Resume the launch `name` in `storage`, a folder or a URI, whatever ended it; `overrides` may extend its budgets."""
    study = open_launch(storage, name, overrides)
    if address is not None:
        authentication_mode(address)
    check_resources(study, address)
    with terminating_like_ctrl_c(), RaySession(address) as session, DriverLock(study.local / name):
        journal = Journal(study.local / name)
        remarks = journal.repair()
        history = replay_events(journal.events(), metric=study.metric)
        check_resumable(history, study.space)
        check_population_goes_on(study, history)
        study = beginning_with(study, history.transferred)
        attempt = SweepDriver(study, display, address, session)
        display.say(going_on(study, name, history))
        for remark in (*remarks, *(f"{journal.path}: {text}" for text in history.remarks)):
            display.say(remark)
        # force: the launch has already accepted its teacher.
        assets = prepare(study, display, force=True, on_cluster=address is not None, before_making=session.start)
        assets = with_examiners(assets.fit(study), assets, display, before_making=session.start)
        return attempt.drive(name, assets)


class SweepDriver:
    """One attempt to drive a launch: from the state in its journal to the end of the study or an interruption."""

    def __init__(self, study: Study, display: Display, address: str | None, session: RaySession) -> None:
        self._study = study
        self._display = display
        self._address = address
        self._session = session
        self._started = time.monotonic()

    def drive(self, name: str, assets: Assets) -> SweepSummary:
        """Run the trials, record them, register the result. InterruptedSweepError if stopped from outside or by a full disk."""
        self._study = study = assets.fit(self._study)
        journal = Journal(study.local / name)
        scheduler = build_scheduler(study)
        history = close_finished_trials(journal, study, scheduler)
        journal.append(AttemptStart(time=time.time(), attempt=history.num_attempts))
        recorder = self._new_recorder(journal, history, assets)
        interrupted = False
        mirror = StudyMirror(journal, study_name=study.name, space=to_optuna(study.space), metric=study.metric)
        with (
            mirroring(mirror),
            writing_event_files(journal, study) as event_files,
            delivering(open_writer(study, name, history.launch_id)) as writer,
        ):
            trained = has_work(study, history)
            trackers: list[_Tracker] = [recorder, writer, mirror, *event_files]
            try:
                if trained:
                    self._session.start()
                    interrupted = self._fit(name, assets, history, scheduler, recorder)
                    self._session.stop()  # delivery and registration may take long, and do not need Ray
            except KeyboardInterrupt:  # while Ray starts or stops; while trials run, Tune handles it
                interrupted = True
                recorder.leave()
            except BaseException as error:
                with contextlib.suppress(JournalError):  # if the journal itself fails, the end cannot be recorded
                    self._record_end(journal, "FAILED", trackers, history)
                if is_disk_full(error):
                    raise self._interruption(name, str(error), by_signal=False) from error
                raise
            share = self._record_end(journal, "KILLED" if interrupted else "FINISHED", trackers, history)
        if interrupted:
            raise self._interruption(name, recorder.stopped_by or INTERRUPTED, by_signal=not recorder.stopped_by)
        forget_epochs(study, assets)
        launch, say = launch_from_journal(journal.events(), name), self._display.say
        return SweepSummary(
            study=study,
            launch=launch,
            model_uri=None if writer.undelivered else register_result(study, launch, writer, assets, say, trained=trained),
            num_undelivered=writer.undelivered,
            elapsed_s=self._elapsed_s(),
            tracking_share=share,
            earlier_s=history.elapsed_s,
        )

    def _new_recorder(self, journal: Journal, history: LaunchHistory, assets: Assets) -> Recorder:
        return Recorder(
            journal,
            history,
            self._study.base,
            epochs=self._study.config.epochs,
            shared=shared_params(assets),
            inputs=inputs_of(self._study, assets),
            student_cost=functools.partial(student_cost, assets.teacher),
        )

    def _record_end(self, journal: Journal, status: str, trackers: Sequence[_Tracker], history: LaunchHistory) -> float:
        """Record the attempt's last event, with the time of all attempts -> the share of this attempt's time spent on tracking."""
        elapsed_s = self._elapsed_s()
        share = sum(tracker.busy_s for tracker in trackers) / elapsed_s
        metrics = {"elapsed_s": history.elapsed_s + elapsed_s, "tracking_share": share}
        journal.append(LaunchEnd(time=time.time(), status=status, metrics=metrics))
        return share

    def _interruption(self, name: str, reason: str, *, by_signal: bool) -> InterruptedSweepError:
        return InterruptedSweepError(f"{reason}; continue with: {resume_command(self._study, name)}", by_signal=by_signal)

    @contextlib.contextmanager
    def _fit_nodes(self, name: str) -> Iterator[StorageHandshake | None]:
        """On a cluster, yields a place in the storage that all nodes have accessed. UnfitNodeError if a node cannot."""
        if self._address is None:
            yield None
            return
        point = StorageHandshake.open(Storage(self._study.storage), name)
        try:
            for remark in check_nodes(point, self._study.tracking.uri):
                self._display.say(remark)
            yield point
        finally:
            point.close()

    def _fit(
        self,
        name: str,
        assets: Assets,
        history: LaunchHistory,
        scheduler: ResumableAsha | FIFOScheduler,
        recorder: Recorder,
    ) -> bool:
        """Run the trials until none is left -> whether they were interrupted."""
        study, storage = self._study, Storage(self._study.storage)
        journal, limits = Journal(study.local / name), limits_of(study, assets.teacher)
        enqueued, finish = EnqueuedPoints(study.local / name), FinishRequest(study.local / name)
        first, kind = begins_with(study, limits), search_kind(study)
        search = build_search(study, history, journal, first, limits, enqueued, finish, kind=kind)
        forecast = Forecast(plan_of(study, history))
        forecast.hear(journal.events(), study.config.epochs)
        with self._fit_nodes(name) as point, answering_ctrl_c(functools.partial(self._answer, recorder)) as ctrl_c:
            progress = SweepProgress(
                history, forecast, metric=study.metric, quiet=self._display.quiet, search=search, ctrl_c=ctrl_c
            )
            tuner = build_tuner(
                study,
                trial_context(study, assets, point),
                storage,
                folder=f"{name}/attempt-{history.num_attempts:03d}",
                search=search,
                scheduler=scheduler,
                callbacks=[recorder, progress],
                max_concurrent=check_resources(study, self._address),
            )
            try:
                with without_snapshots(), callbacks_not_counted():
                    tuner.fit()
            except Exception:
                if not recorder.stopped_by:  # else the cause is known: Ray cannot read back what a full disk did not store
                    raise
            finally:
                progress.close()
                remove_ray_state(storage, name)
        if search.ended_early and not progress.interrupted:
            self._display.say(f"the search ended before its budget was used up: {search.ended_early}")
        return progress.interrupted or (not search.has_ended and self._has_work_left(journal))

    def _has_work_left(self, journal: Journal) -> bool:
        """Whether work is left, for example after a signal that came before anything listened to it."""
        return has_work(self._study, replay_events(journal.events(), metric=self._study.metric))

    def _answer(self, recorder: Recorder, text: str) -> None:
        """Answer Ctrl-C, unless the recorder itself ends the sweep."""
        if not recorder.stopped_by:
            self._display.say(text)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started
