"""One trial as a Ray Tune trainable, which can also run in the calling process, where a debugger reaches it."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import torch
import yaml
from ray.tune import Trainable
from ray.tune.result import AUTO_RESULT_KEYS, SHOULD_CHECKPOINT
from torch import Tensor

from cpsc import checkpoint
from cpsc.answers import AnswerLog
from cpsc.device import resolve_device
from cpsc.distiller import Distiller
from cpsc.errors import CheckpointError, DivergedError
from cpsc.examiners import run_digest
from cpsc.gallery import Gallery
from cpsc.measurement import Measurement
from cpsc.pictures import save_grid
from tuning.lineage import SCHEDULED, Segment
from tuning.outcome import WAITS
from tuning.study import build_config
from tuning.study.nested_keys import Point
from tuning.study.user_code import look_in
from tuning.study.yaml_loader import to_plain
from tuning.trial.context import TrialContext
from tuning.trial.environment import environment, to_tag
from tuning.trial.examiners import TrainedEpoch, epoch_name
from tuning.trial.files import (
    ANSWERS_FILE,
    BEST_STUDENT_FILE,
    CONFIG_FILE,
    GALLERY_FILE,
    SAMPLES_FILE,
    SCHEDULE_FILE,
    STATE_FILE,
)
from tuning.trial.resources import cap_gpu_memory
from tuning.trial.system_metrics import machine_load


class DistillTrainable(Trainable):
    """One epoch of distillation is one Tune iteration. The Tune config is ``{number, point, restore, finalist_of}``.

    `point`: values by dotted path. `finalist_of`: the trial whose values a finalist's run repeats. `restore`: checkpoint folders of
    an earlier attempt, newest first; the trial continues from the first that can be read. A trial that diverges ends with the worst
    objective and is not retried; any other error is left to Ray, which retries the trial.

    A trial of a population also has ``schedule``, pairs of an epoch and the point that it is trained with after that epoch, and
    ``until``, the epoch at which it waits for the others. Whichever of its checkpoints it continues from, it computes what its
    lineage computed; the checkpoints of a trial that it copied count as its own.
    """

    distiller: Distiller
    _samples: Tensor | None
    """Sample images after the latest epoch that ran in this process; None if none did."""
    _segment: int
    """Index of the trial's current segment in its schedule."""

    def setup(self, config: dict[str, Any], context: TrialContext | None = None) -> None:
        assert context is not None  # tune.with_parameters and run_locally both pass it
        self._context = context
        look_in(context.code_folders)
        if context.handshake is not None:
            context.handshake.check_in()
        cap_gpu_memory(context.gpus)
        self._node = node_name()
        # Done once for all trials of this worker: the teacher is loaded, and evaluated on the images, a single time. Ray gives a
        # worker only trials with the same resources, so the number of threads stays the same, too.
        is_finalist = config.get("finalist_of") is not None
        self._threads = context.finalist_threads or context.threads if is_finalist else context.threads
        torch.set_num_threads(self._threads)
        self._measurement = Measurement(
            context.teacher,
            resolve_device(context.device),
            probe=context.probe,
            examiners=context.examiners.images if context.examiners else None,
            test=context.test,
            inception=context.inception,
        )
        self._environment = to_tag(environment(self._measurement.device))
        self._start(config)

    def step(self) -> dict[str, Any]:
        self._follow_schedule()
        try:
            metrics: dict[str, Any] = self._adopted_epoch() or dict(self.distiller.run_epoch())
        except DivergedError as error:
            # Never NaN: ASHA lets a NaN trial continue, and Optuna drops it instead of learning from it.
            worst = {self._context.objective: 0.0, f"best_{self._context.objective}": 0.0}
            end = {"epoch": self.distiller.epoch, "diverged": True, "reason": str(error), "done": True}
            return worst | self._scheduled() | self._words() | end
        is_over = self.distiller.epoch >= self.distiller.config.epochs
        # Here and not with a checkpoint: what a run draws must not depend on when it is saved.
        self._samples = self.distiller.sample_grid()
        self._gallery.add(self.distiller.epoch, self._samples[:, 0])
        assert self.distiller.answers is not None  # a study has a probe set
        self._answers.add(self.distiller.epoch, self.distiller.answers)
        load = machine_load(self._measurement.device)
        return metrics | self._scheduled() | load | self._words() | {"diverged": False, **self._stop(is_over=is_over)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        folder = Path(checkpoint_dir)
        samples = self.distiller.sample_grid() if self._samples is None else self._samples
        state = self.distiller.state_dict() | {"gallery": self._gallery.state_dict()}
        best = {
            "version": 1,
            "student": state.pop("best_student"),
            "arch": self.distiller.config.student.arch,
            "epoch": self.distiller.best_epoch,
            "measured": self.distiller.best_metrics,
        }
        checkpoint.save(state, folder / STATE_FILE)
        checkpoint.save(best, folder / BEST_STUDENT_FILE)
        self._answers.save(folder / ANSWERS_FILE)
        (folder / CONFIG_FILE).write_text(yaml.safe_dump(to_plain(asdict(self.distiller.config)), sort_keys=False))
        if self._is_scheduled:
            told = [{"after_epoch": segment.after, "values": to_plain(dict(segment.point))} for segment in self._schedule]
            (folder / SCHEDULE_FILE).write_text(yaml.safe_dump(told, sort_keys=False))
        classes = self._context.teacher.class_names
        caption = f"images after epoch {self.distiller.epoch}, one row per class"
        save_grid(samples, folder / SAMPLES_FILE, caption=caption, rows=classes)
        if epochs := list(map(str, self._gallery.epochs)):
            caption = f"columns: after epoch {', '.join(epochs)}; one row per class"
            save_grid(self._gallery.grid(), folder / GALLERY_FILE, caption=caption, rows=classes, columns=epochs)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from `checkpoint_dir`. CheckpointError if it cannot be read."""
        self._load(Path(checkpoint_dir))

    def restore(self, checkpoint_path: Any) -> None:
        """Continue from the newest of the trial's checkpoints that can be read, and report those that are corrupt.

        Replaces Ray's own method, which tries only one checkpoint, and unpickles a file of a certain name if it finds one there.
        """
        metrics = checkpoint_path.metrics
        self._iteration, self._time_total = metrics.get("training_iteration", 0), metrics.get("time_total_s", 0.0)
        self._iterations_since_restore, self._time_since_restore = 0, 0.0
        folder = checkpoint_path.checkpoint.path.rpartition("/")[0]
        names = self._context.storage.listing(folder)
        checkpoints = [f"{folder}/{name}" for name in reversed(names) if name.startswith("checkpoint_")]
        self._restore([*checkpoints, *self._earlier])
        self._restored = True

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Rebuild everything, so that a trial on a reused actor computes the same as on a fresh one."""
        self._start(new_config)
        return True

    def _adopted_epoch(self) -> dict[str, Any] | None:
        """The next epoch, if the trial is the same run as an examiner that has trained it; None if it has yet to be trained."""
        examiners = self._context.examiners
        if examiners is None or self._segment > 0 or self.distiller.run not in examiners.images.runs:
            return None
        try:
            name = epoch_name(examiners.folder, self.distiller.run, self.distiller.epoch + 1)
            trained = TrainedEpoch.load(self._context.storage, name)
        except CheckpointError:
            return None  # examiners do not go that far, or the file is gone: training it gives the same numbers
        return dict(self.distiller.adopt_epoch(trained.parts, trained.metrics))

    def _stop(self, *, is_over: bool) -> dict[str, bool]:
        """Whether the trial ends or waits after this epoch; in a population it saves its state either way."""
        if self._until is None:
            return {"done": is_over}
        waits = not is_over and self.distiller.epoch >= self._until
        return {"done": is_over or waits, WAITS: waits, SHOULD_CHECKPOINT: is_over or waits}

    def _scheduled(self) -> dict[str, float]:
        """The values that the epoch was trained with, if the trial has a schedule."""
        point = self._schedule[self._segment].point if self._is_scheduled else {}
        return {f"{SCHEDULED}{path}": float(value) for path, value in point.items()}

    def _segment_of(self, epoch: int) -> int:
        """Index of the segment that `epoch`, counted from 1, is trained with."""
        return max(index for index, segment in enumerate(self._schedule) if segment.after < max(1, epoch))

    def _turn_to(self, epoch: Any) -> None:
        """Switch to the segment that a state after `epoch`, as read from a file, belongs to."""
        due = self._segment_of(epoch) if type(epoch) is int else self._segment
        if due != self._segment:
            self._segment = due
            self.distiller = self._new_distiller()

    def _follow_schedule(self) -> None:
        """Switch to the values of the next epoch, if they change."""
        due = self._segment_of(self.distiller.epoch + 1)
        if due != self._segment:
            state, self._segment = self.distiller.state_dict(), due
            self.distiller = self._new_distiller()
            self.distiller.take_over(state)

    def _words(self) -> dict[str, str]:
        """What an epoch reports besides numbers: what went wrong, where it ran, and which images its student got right."""
        marks = self.distiller.marks
        told = {"marks": marks.to_text()} if marks else {}
        return {"note": self._note, "node": self._node, "environment": self._environment, **told}

    def _restore(self, checkpoints: Sequence[str]) -> None:
        """Continue from the first of `checkpoints` that can be fetched and read, or from the start if none can."""
        for path in checkpoints:
            try:
                with self._context.storage.reading(path) as folder:
                    self._load(folder)
            except CheckpointError as error:
                self._note = f"{error}; continued from an earlier state"
                self._build()  # discard a state that was only partly loaded
            else:
                return

    def _start(self, config: Mapping[str, Any]) -> None:
        self._is_scheduled = "schedule" in config
        self._schedule = [Segment(*pair) for pair in config.get("schedule", [[0, config["point"]]])]
        self._until: int | None = config.get("until")
        self._note = ""
        self._build()
        self._earlier: list[str] = config.get("restore", [])
        self._restore(self._earlier)

    def _load(self, folder: Path) -> None:
        state = checkpoint.load(folder / STATE_FILE, kind="trial checkpoint")
        best = checkpoint.load(folder / BEST_STUDENT_FILE, kind="best student", needs=("student",))
        self._gallery.load_state_dict(state.pop("gallery", {}))  # absent in checkpoints of an earlier version
        if (folder / ANSWERS_FILE).exists():
            self._answers.load(folder / ANSWERS_FILE)
        self._samples = None
        self._turn_to(state.get("epoch"))
        self.distiller.load_state_dict(state | {"best_student": best["student"]})

    def _build(self) -> None:
        torch.set_num_threads(self._threads)
        self._gallery = Gallery()
        self._samples = None
        self._segment = 0
        self.distiller = self._new_distiller()
        teacher, exam = self._measurement.teacher_answers, self._measurement.exam
        assert teacher is not None
        assert exam is not None
        self._answers = AnswerLog(teacher, exam.sources, weights=exam.weights, own=self.distiller.own_source, fading=exam.fading)

    def _new_distiller(self) -> Distiller:
        """A run with the values of the trial's current segment."""
        context = self._context
        config = build_config(context.base, self._schedule[self._segment].point)
        first = run_digest(build_config(context.base, self._schedule[0].point)) if self._segment else None
        return Distiller(config, context.teacher, objective=context.objective, measurement=self._measurement, run=first)


def node_name() -> str:
    """This machine's name and, in a cluster, Ray's ID of the node."""
    node = ray.get_runtime_context().get_node_id()[:8] if ray.is_initialized() else "no cluster"
    return f"{socket.gethostname()} ({node})"


def local_trainable(context: TrialContext, point: Point, schedule: Sequence[Segment] = ()) -> DistillTrainable:
    """The same trainable in this process, without Ray running, so that breakpoints, prints and profilers work.

    `schedule`: values of a trial of a population, instead of `point`.
    """

    class LocalTrainable(DistillTrainable):
        def setup(self, config: dict[str, Any], context: TrialContext | None = context) -> None:
            super().setup(config, context)

        def _setup_logdir(self) -> None:
            """Do not make Ray's folder under the home directory: a local trial writes only where the user says."""
            self._logdir = "."

    scheduled = {"schedule": [[segment.after, dict(segment.point)] for segment in schedule]} if schedule else {}
    return LocalTrainable(config={"number": 0, "point": dict(point), **scheduled})


def loggable_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The trainable's own numbers in a Tune result, without Ray's bookkeeping."""
    return {
        name: float(value)
        for name, value in result.items()
        if name not in AUTO_RESULT_KEYS and isinstance(value, int | float) and not isinstance(value, bool)
    }
