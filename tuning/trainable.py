"""One trial as Ray Tune sees it; also run in the calling process, where a debugger reaches it."""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from ray.tune import Trainable

from cpsc import checkpoint
from cpsc.data import Split
from cpsc.device import resolve_device
from cpsc.distiller import Distiller
from cpsc.errors import CheckpointError, DivergedError
from cpsc.pictures import save_grid
from cpsc.probe import ProbeSet
from cpsc.teacher import Teacher
from tuning.checkpoint_store import CheckpointStore
from tuning.space import Point, build_config

STATE_FILE = "state.pt"
BEST_STUDENT_FILE = "best_student.pt"
SAMPLES_FILE = "samples.png"
CONFIG_FILE = "config.yaml"


@dataclass(frozen=True, kw_only=True)
class TrialContext:
    """What all trials of a study share. It travels to the workers once, through Ray's object store."""

    base: Mapping[str, Any]
    teacher: Teacher
    probe: ProbeSet
    test: Split | None
    objective: str
    threads: int
    device: str
    store: CheckpointStore


class DistillTrainable(Trainable):
    """One epoch of distillation is one Tune iteration. The Tune config is ``{number, point, restore}``.

    `point`: values by dotted path. `restore`: checkpoint folders of an earlier attempt, newest first; the first that
    can be read is continued from. A trial that diverges ends with the worst objective and is not retried; any
    other error is Ray's to retry.
    """

    def setup(self, config: dict[str, Any], context: TrialContext | None = None) -> None:
        assert context is not None  # tune.with_parameters and run_locally both pass it
        self._context = context
        self._start(config)

    def step(self) -> dict[str, Any]:
        try:
            metrics: dict[str, Any] = dict(self.distiller.run_epoch())
        except DivergedError as error:
            # Never NaN: ASHA lets a NaN trial go on, and Optuna drops it instead of learning from it.
            worst = {self._context.objective: 0.0, f"best_{self._context.objective}": 0.0}
            return worst | {"epoch": self.distiller.epoch, "diverged": True, "reason": str(error), "done": True}
        done = self.distiller.epoch >= self.distiller.config.epochs
        return metrics | {"diverged": False, "done": done, "note": self._note}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        folder = Path(checkpoint_dir)
        state = self.distiller.state_dict()
        best = state.pop("best_student")
        checkpoint.save(state, folder / STATE_FILE)
        checkpoint.save({"version": 1, "student": best, "arch": self.distiller.config.student.arch}, folder / BEST_STUDENT_FILE)
        (folder / CONFIG_FILE).write_text(yaml.safe_dump(to_plain(asdict(self.distiller.config)), sort_keys=False))
        save_grid(self.distiller.sample_grid(), folder / SAMPLES_FILE)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from `checkpoint_dir`; where it is corrupt, from the one before it, and say so."""
        folder = Path(checkpoint_dir)
        older = sorted(folder.parent.glob("checkpoint_*"), reverse=True)
        folders = [folder, *(sibling for sibling in older if sibling.name < folder.name)]
        self._restore([contextlib.nullcontext(candidate) for candidate in folders])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Everything is built anew, so a trial on a reused actor computes what it would on a fresh one."""
        self._start(new_config)
        return True

    def _restore(self, candidates: Sequence[AbstractContextManager[Path]]) -> None:
        """Continue from the first of `candidates` that can be had and read, or from the start where none can."""
        for candidate in candidates:
            try:
                with candidate as folder:
                    self._load(folder)
            except CheckpointError as error:
                self._note = f"{error}; continued from an earlier state"
                self._build()  # a state that was half taken in must not stay
            else:
                return

    def _start(self, config: Mapping[str, Any]) -> None:
        self._point: Point = config["point"]
        self._note = ""
        self._build()
        self._restore([self._context.store.local(path) for path in config.get("restore", [])])

    def _load(self, folder: Path) -> None:
        state = checkpoint.load(folder / STATE_FILE, kind="trial checkpoint")
        best = checkpoint.load(folder / BEST_STUDENT_FILE, kind="best student")
        self.distiller.load_state_dict(state | {"best_student": best["student"]})

    def _build(self) -> None:
        context = self._context
        torch.set_num_threads(context.threads)
        self.distiller = Distiller(
            build_config(context.base, self._point),
            context.teacher,
            probe=context.probe,
            test=context.test,
            device=resolve_device(context.device),
            objective=context.objective,
        )


def to_plain(value: Any) -> Any:
    """`value` with tuples as lists, as YAML's safe form wants it."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, list | tuple) else value


def local_trainable(context: TrialContext, point: Point) -> DistillTrainable:
    """The same trainable in this process, without Ray running: breakpoints, prints and profilers work in it."""

    class LocalTrainable(DistillTrainable):
        def setup(self, config: dict[str, Any], context: TrialContext | None = context) -> None:
            super().setup(config, context)

        def _setup_logdir(self) -> None:
            """Ray would make a folder under the home directory; a local trial writes where it is told to."""
            self._logdir = "."

    return LocalTrainable(config={"number": 0, "point": dict(point)})
