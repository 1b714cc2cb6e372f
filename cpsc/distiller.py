"""One distillation run: builds the networks from a config, trains an epoch at a time, measures, saves and resumes."""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cpsc.config import DistillConfig
from cpsc.data.dataset import Split
from cpsc.device import DTYPES, autocast, peak_memory, place, resolve_precision
from cpsc.errors import CheckpointError, ConfigError, DivergedError
from cpsc.examiners import ExamImages, balanced, run_digest
from cpsc.execution import PLAIN, compiled
from cpsc.first_weights import FirstWeights
from cpsc.history import RunHistory
from cpsc.loop import run_epoch
from cpsc.marks import Marks
from cpsc.measurement import Measurement, Metrics
from cpsc.methods import check_method, feature_dim, method_class
from cpsc.metrics import predict
from cpsc.mixing import Mixing
from cpsc.models import build_model, check_image_size
from cpsc.observation import BatchViews
from cpsc.optimizers import with_own_settings
from cpsc.phases import Phases
from cpsc.probe import ProbeSet
from cpsc.replay import AbstractReplay, GenerativeReplay, ImageReplay
from cpsc.rng import RandomStreams, seeded_init
from cpsc.selection import CURVES
from cpsc.synthesis import GeneratedImages
from cpsc.synthesis.base import Stateful
from cpsc.teacher import Teacher

STATE_VERSION = 1
GRID_COLUMNS = 8


class Distiller:
    """Alternating generator/student training of one student.

    `probe` and `examiners` are what data-free objectives are measured on; `test`, labelled real images, is recorded where it
    is given and steers nothing unless `objective` is ``test_accuracy``. A `measurement`, which runs may share, says all that
    instead. `run`: the digest of the run that this one takes over, as an examiner's images may be its own.
    The best epoch's student is kept beside the last. Same config, teacher, device and thread count: same numbers, also
    across `state_dict` and back.
    """

    def __init__(
        self,
        config: DistillConfig,
        teacher: Teacher,
        *,
        probe: ProbeSet | None = None,
        examiners: ExamImages | None = None,
        test: Split | None = None,
        device: torch.device | None = None,
        objective: str = "probe_agreement",
        measurement: Measurement | None = None,
        run: str | None = None,
    ) -> None:
        if objective not in CURVES:
            raise ConfigError(f"objective {objective!r}: unknown, use one of {', '.join(CURVES)}")
        self._measurement = measurement or Measurement(
            teacher, device or torch.device("cpu"), probe=probe, examiners=examiners, test=test
        )
        if objective not in self._measurement.objectives:
            needed = "labelled test images" if objective == "test_accuracy" else "a probe set and examiners' images"
            raise ConfigError(f"objective {objective} needs {needed}, none were given")
        self.config = config
        self.objective = objective
        self.device = self._measurement.device
        self.teacher = self._measurement.network
        self.epoch = 0
        self.answers: Tensor | None = None
        """The student's logits [N, C] on probe and examiners' images when it was last evaluated."""
        self.run = run or run_digest(config)
        self.own_source = self._measurement.own_source(self.run)
        """Of the images that it is compared on those that it has made itself, as an examiner; see `cpsc.examiners.Exam`."""
        self._history = RunHistory(objective)
        self._teacher_info = teacher
        self._build(teacher)

    # Training

    def run_epoch(self) -> Metrics:
        """Train one epoch and measure: term means, learning rates, objective and its running best, accuracies.

        Raises DivergedError where a term is not finite or has exploded; the run cannot go on after that.
        """
        first = self._untrained()
        return self._measured(self.train_epoch() | first)

    def train_epoch(self) -> Metrics:
        """The same, and measure nothing -> what training itself tells; for runs of which nothing but their images is asked."""
        started = time.perf_counter()
        self.epoch += 1
        metrics = run_epoch(
            self._phases.begin_epoch(self.epoch),
            iterations=self.config.schedule.iterations,
            check_each_iteration=self.device.type == "cpu",
            diverged_above=self.config.diverged_above,
        )
        self._phases.end_epoch(self.epoch)
        metrics |= self._phases.figures() | {"replay_bytes": float(self.num_stored_bytes)}
        taken = time.perf_counter() - started
        metrics |= {"epoch": self.epoch, "train_s": taken, "distillation_s": taken - metrics["generation_s"]}
        return metrics | self._phases.learning_rates(self.epoch)

    def adopt_epoch(self, parts: Mapping[str, Any], trained: Metrics) -> Metrics:
        """Take over the next epoch as another process has trained it -> the same as `run_epoch` would have said.

        `parts`: as `parts_state` was there after it; `trained`: as `train_epoch` has said. CheckpointError where they are of
        another config's run, or of another epoch.
        """
        if trained.get("epoch") != self.epoch + 1:
            raise CheckpointError(f"holds epoch {trained.get('epoch')}, the next is {self.epoch + 1}")
        first = self._untrained()
        self.continue_after(self.epoch + 1, parts)
        return self._measured(dict(trained) | first)

    def continue_after(self, epoch: int, parts: Mapping[str, Any]) -> None:
        """Be the run as it was after `epoch`, by `parts_state`, with nothing measured. CheckpointError: see `load_state_dict`."""
        self._load_parts(parts)
        self.epoch = epoch

    def _untrained(self) -> Metrics:
        """What training has to beat, before the first epoch; nothing after it. One that is reconstructed has drawn weights yet."""
        return self._measurement.of_untrained(self.student) if self.epoch == 0 else {}

    def _measured(self, metrics: Metrics) -> Metrics:
        started = time.perf_counter()
        metrics |= self.evaluate()
        if self.epoch == self.config.epochs:  # it is not cheap, and tells of the finished generator
            metrics |= self.evaluate_images()
        if not all(math.isfinite(value) for value in metrics.values()):  # the last update of the epoch may do it
            broken = next(name for name, value in metrics.items() if not math.isfinite(value))
            raise DivergedError(f"{broken} is not finite after epoch {self.epoch}")
        metrics |= self._history.add(metrics, self.student)
        metrics["images_per_s"] = self.config.images_per_epoch / metrics["train_s"]
        metrics["epoch_s"] = metrics["train_s"] + time.perf_counter() - started
        metrics["peak_memory_bytes"] = float(peak_memory(self.device))
        return metrics

    def evaluate(self) -> Metrics:
        """The student as it is, on all images that there are for it: see `Measurement.of_student`."""
        metrics, self.answers = self._measurement.of_student(self.student, own=self.own_source)
        return metrics

    @property
    def marks(self) -> Marks | None:
        """Of the student when it was last evaluated; None where it is chosen by labels, or there is no probe set."""
        if self.answers is None or self.objective == "test_accuracy":
            return None
        return self._measurement.marks(self.answers, own=self.own_source, by_probe_alone=self.objective != "exam_score")

    def evaluate_images(self) -> Metrics:
        """The images as they are made now, against real ones: see `Measurement.of_images`. Empty without real images."""
        if not self._measurement.num_wanted_images:
            return {}
        per_class = math.ceil(self._measurement.num_wanted_images / self._teacher_info.num_classes)
        images, _ = self._examples(per_class)
        return self._measurement.of_images(images[-self._measurement.num_wanted_images :])

    def sample_grid(self) -> Tensor:
        """Images as they are made now, one row per class -> uint8 [C, GRID_COLUMNS, K, H, W]. Changes nothing.

        Where images are made for no class, the teacher says which it is; a class it does not see has black cells.
        """
        classes = self._teacher_info.num_classes
        pixels, labels = self._examples(GRID_COLUMNS)
        if labels is None:
            labels = predict(self.teacher, self._teacher_info.normalisation.normalise(pixels)).argmax(dim=1)
        grid = torch.zeros(classes, GRID_COLUMNS, *pixels.shape[1:], dtype=torch.uint8)
        for row in range(classes):
            found = pixels[labels == row][:GRID_COLUMNS].cpu()
            grid[row, : len(found)] = found
        return grid

    def draw_images(self, num: int, *, part: int, num_parts: int) -> Tensor:
        """`num` images as they are made now, of all classes that the teacher sees in them alike -> uint8 [num, K, H, W].

        Fewer where a pool has not so many. Of `num_parts` draws each has others, also after more epochs. Changes nothing.
        """
        pixels, _ = self._examples(math.ceil(num * num_parts / self._teacher_info.num_classes))
        pixels = pixels[part::num_parts]
        classes = predict(self.teacher, self._teacher_info.normalisation.normalise(pixels)).argmax(dim=1)
        return balanced(pixels, classes, num).cpu()

    def _examples(self, per_class: int) -> tuple[Tensor, Tensor | None]:
        with self._autocast():  # as they are made for the student
            return self.synthesis.examples(per_class)

    @property
    def num_stored_bytes(self) -> int:
        """Memory of all that is kept for replay: autoencoder, image pool, feature bank."""
        replay = 0 if self.replay is None else self.replay.num_stored_bytes
        return replay + self.synthesis.num_stored_bytes + self.method.num_stored_bytes

    @property
    def generator(self) -> nn.Module:
        """The generator of a method that has a persistent one."""
        if not isinstance(self.synthesis, GeneratedImages):
            raise AttributeError(f"method {self.config.method} inverts image by image, it has no generator")
        return self.synthesis.generator

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training; with the config and the teacher it continues the run exactly."""
        return {
            "version": STATE_VERSION,
            "epoch": self.epoch,
            **self._history.state_dict(),
            "parts": self.parts_state(),
        }

    def parts_state(self) -> dict[str, Any]:
        """Networks, optimizers and random streams, without what was measured."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; CheckpointError where it is of another format or of another config's run.

        A refused state may be half taken in: build the run anew before going on.
        """
        _check_entries(state)
        self._load_parts(state["parts"])
        self.epoch = state["epoch"]
        self._history.load_state_dict(state)

    def take_over(self, state: Mapping[str, Any]) -> None:
        """Continue from the `state` of a run whose loss weights, temperatures or rates are others, as this config has them.

        The best epoch is chosen among those that follow. CheckpointError: see `load_state_dict`.
        """
        _check_entries(state)
        self._load_parts(state["parts"], own_settings=True)
        self.epoch = state["epoch"]
        self._history.load_state_dict(state)
        self._history.begin_anew()

    def _load_parts(self, state: Mapping[str, Any], *, own_settings: bool = False) -> None:
        """`own_settings`: of optimizers, whose state holds their rates, too."""
        parts = self._parts()
        if odd := parts.keys() ^ state.keys():
            raise CheckpointError(f"checkpoint and config disagree on parts: {', '.join(sorted(map(str, odd)))}")
        for name, part in parts.items():
            try:
                if own_settings and isinstance(part, torch.optim.Optimizer):
                    part.load_state_dict(with_own_settings(part, state[name]))
                else:
                    part.load_state_dict(state[name])
            except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
                reason = next(iter(str(error).splitlines()[-1:]), type(error).__name__).strip()
                raise CheckpointError(f"checkpoint's {name} does not fit this config: {reason}") from error

    @property
    def best_student(self) -> dict[str, Tensor]:
        """Weights of the student at the best epoch, the run's result. CheckpointError before an epoch has been run to its end."""
        return self._history.best_student

    @property
    def best_epoch(self) -> int:
        """Which epoch's student is kept, from 1; 0 before one has been run to its end, as in a run that diverges at once."""
        return self._history.best_epoch

    @property
    def best_metrics(self) -> Metrics:
        """What was measured at the best epoch; nothing before one has been run to its end."""
        return self._history.best_metrics

    def _parts(self) -> dict[str, Stateful]:
        replay: dict[str, Stateful] = {} if self.replay is None else {"replay": self.replay}
        networks: dict[str, Stateful] = {"student": self.student, "method": self.method, **self.synthesis.parts(), **replay}
        first: dict[str, Stateful] = {"first_weights": self._first_weights} if self._first_weights.is_reconstructed else {}
        return networks | first | self._phases.parts() | {"rng": self._rng}

    # Construction

    def _build(self, teacher: Teacher) -> None:
        config = self.config
        check_method(config)
        check_image_size(config.student.arch, teacher.image_size)
        precision = resolve_precision(config.precision, self.device)
        asked = self._measurement.network_in(precision)
        with seeded_init(config.seed, "student"):
            student = build_model(config.student.arch, num_classes=teacher.num_classes, channels=teacher.channels)
        self.student = place(student, self.device).train().requires_grad_(False)  # each phase enables its own
        self._first_weights = FirstWeights(config.student, self.student, teacher, seed=config.seed, device=self.device)
        with seeded_init(config.seed, "method"):
            method = method_class(config.method)(config, teacher=asked, student=self.student)
        self.method = method.to(self.device).requires_grad_(False)
        self._rng = RandomStreams(config.seed, self.device)
        execution = compiled() if config.compile else PLAIN
        self.synthesis = self.method.SYNTHESIS(
            config, teacher, self._rng, self.device, heads=self.method.generator_heads, generate=execution.generate
        )
        self.replay = self._new_replay(teacher)
        recorder = self._measurement.recorder_in(precision) if self.method.needs_statistics else None
        views = BatchViews(asked, self.student, self.method, recorder=recorder, execution=execution, dtype=DTYPES.get(precision))
        self._autocast = autocast(precision, self.device)
        self._phases = Phases(
            config,
            student=self.student,
            method=self.method,
            synthesis=self.synthesis,
            replay=self.replay,
            first_weights=self._first_weights,
            mixing=self._new_mixing(teacher),
            views=views,
            autocast=self._autocast,
            num_classes=teacher.num_classes,
            device=self.device,
            needs_scaling=precision == "fp16",
        )

    def _new_mixing(self, teacher: Teacher) -> Mixing | None:
        config = self.config.mixing
        return Mixing(config, teacher, rng=self._rng.named("mixing")) if config.blended or config.dead_leaves else None

    def _new_replay(self, teacher: Teacher) -> AbstractReplay | None:
        config = self.config
        if config.replay.kind == "vae":
            return GenerativeReplay(config, teacher, self.teacher, self._rng, self.device)
        if config.replay.kind == "images":
            return ImageReplay(config, teacher, num_features=feature_dim(self.teacher), streams=self._rng, device=self.device)
        return None


def _check_entries(state: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless `state`, which a file may hold, has the entries of a run's state, each of its kind."""
    version = state.get("version")
    if type(version) is not int or version != STATE_VERSION:
        raise CheckpointError(f"checkpoint has state version {version}, expected {STATE_VERSION}")
    if missing := {"epoch", "history", "best_student", "parts"} - state.keys():
        raise CheckpointError(f"checkpoint lacks {', '.join(sorted(missing))}")
    epoch, history = state["epoch"], state["history"]
    is_history = isinstance(history, list) and all(isinstance(metrics, Mapping) for metrics in history)
    if type(epoch) is not int or not is_history or epoch != len(history):
        raise CheckpointError("checkpoint's epoch and history do not fit each other")
    if not isinstance(state["best_student"], Mapping | None) or not isinstance(state["parts"], Mapping):
        raise CheckpointError("checkpoint holds no networks where they should be")
