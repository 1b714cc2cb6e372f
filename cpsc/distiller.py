"""One distillation run: builds the networks from a config, trains epoch by epoch, measures, saves and resumes."""

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

NEEDED = {"test_accuracy": "labelled test images", "exam_score": "a probe set and examiners' images"}
"""What the objectives need that are not measured on the probe set alone."""
STATE_VERSION = 1
GRID_COLUMNS = 8


class Distiller:
    """Trains one student, alternating between generator and student.

    Data-free objectives are measured on `probe` and `examiners`. If `test`, labelled real images, is given, the accuracy on it is
    recorded; it never influences the run unless `objective` is ``test_accuracy``. Instead of these three, a `measurement` may be
    given, which several runs can share. `run`: the digest of the run that this one takes over, because some examiners' images may
    be its own. The student of the best epoch is kept in addition to the last. The same config, teacher, device and thread count
    give the same numbers, even if the run is saved with `state_dict` and resumed.
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
            raise ConfigError(f"objective {objective} needs {NEEDED[objective]}, which this run does not have")
        self.config = config
        self.objective = objective
        self.device = self._measurement.device
        self.teacher = self._measurement.network
        self.epoch = 0
        self.answers: Tensor | None = None
        """The student's logits [N, C] on probe and examiners' images when it was last evaluated."""
        self.run = run or run_digest(config)
        self.own_source = self._measurement.own_source(self.run)
        """Source number of the examiner's images that this run made itself, if any; see `cpsc.examiners.Exam`."""
        self._history = RunHistory(objective)
        self._teacher_info = teacher
        self._build(teacher)

    # Training

    def run_epoch(self) -> Metrics:
        """Train one epoch and measure -> term means, learning rates, the objective and its running best, accuracies.

        Raises DivergedError if a term is not finite or has exploded; the run cannot continue after that.
        """
        first = self._untrained()
        return self._measured(self.train_epoch() | first)

    def train_epoch(self) -> Metrics:
        """Train one epoch without measuring -> metrics of the training itself; for runs that only provide images."""
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
        """Take over the next epoch as trained by another process -> the same metrics as from `run_epoch`.

        `parts`: `parts_state` after that epoch. `trained`: what `train_epoch` returned. CheckpointError if they belong to a run
        of another config, or to another epoch.
        """
        if trained.get("epoch") != self.epoch + 1:
            raise CheckpointError(f"holds epoch {trained.get('epoch')}, but the next is {self.epoch + 1}")
        first = self._untrained()
        self.continue_after(self.epoch + 1, parts)
        return self._measured(dict(trained) | first)

    def continue_after(self, epoch: int, parts: Mapping[str, Any]) -> None:
        """Continue from the `parts_state` after `epoch`, without measurements. CheckpointError: see `load_state_dict`."""
        self._load_parts(parts)
        self.epoch = epoch

    def _untrained(self) -> Metrics:
        """Metrics of the untrained student, before the first epoch only. A reconstructed one still has its drawn weights then."""
        return self._measurement.of_untrained(self.student) if self.epoch == 0 else {}

    def _measured(self, metrics: Metrics) -> Metrics:
        started = time.perf_counter()
        metrics |= self.evaluate()
        if self.epoch == self.config.epochs:  # expensive, and meant for the finished generator
            metrics |= self.evaluate_images()
        if not all(math.isfinite(value) for value in metrics.values()):  # the last update of the epoch may diverge
            broken = next(name for name, value in metrics.items() if not math.isfinite(value))
            raise DivergedError(f"{broken} is not finite after epoch {self.epoch}")
        metrics |= self._history.add(metrics, self.student)
        metrics["images_per_s"] = self.config.images_per_epoch / metrics["train_s"]
        metrics["epoch_s"] = metrics["train_s"] + time.perf_counter() - started
        metrics["peak_memory_bytes"] = float(peak_memory(self.device))
        return metrics

    def evaluate(self) -> Metrics:
        """Evaluate the current student on all available images: see `Measurement.of_student`."""
        metrics, self.answers = self._measurement.of_student(self.student, own=self.own_source)
        return metrics

    @property
    def marks(self) -> Marks | None:
        """Marks of the student when it was last evaluated; None if it is chosen by labels, or there is no probe set."""
        if self.answers is None or self.objective == "test_accuracy":
            return None
        return self._measurement.marks(self.answers, own=self.own_source, by_probe_alone=self.objective != "exam_score")

    def evaluate_images(self) -> Metrics:
        """Compare current synthetic images with real ones: see `Measurement.of_images`. Empty without real images."""
        if not self._measurement.num_wanted_images:
            return {}
        with self._autocast():
            images = self.synthesis.current_images(self._measurement.num_wanted_images)
        return self._measurement.of_images(images)

    def sample_grid(self) -> Tensor:
        """Current synthetic images, one row per class -> uint8 [C, GRID_COLUMNS, K, H, W]. Does not change the run.

        If images are not made for a class, the teacher classifies them. Cells without an image are black.
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
        """`num` current synthetic images, equally many of each class that the teacher sees in them -> uint8 [num, K, H, W].

        There are fewer if a pool does not hold enough. Each of the `num_parts` draws has other images, even after more epochs. Does
        not change the run.
        """
        pixels, _ = self._examples(math.ceil(num * num_parts / self._teacher_info.num_classes))
        pixels = pixels[part::num_parts]
        classes = predict(self.teacher, self._teacher_info.normalisation.normalise(pixels)).argmax(dim=1)
        return balanced(pixels, classes, num).cpu()

    def _examples(self, per_class: int) -> tuple[Tensor, Tensor | None]:
        with self._autocast():  # as for the student
            return self.synthesis.examples(per_class)

    @property
    def num_stored_bytes(self) -> int:
        """Memory of everything kept for replay: autoencoder, image pool, feature bank."""
        replay = 0 if self.replay is None else self.replay.num_stored_bytes
        return replay + self.synthesis.num_stored_bytes + self.method.num_stored_bytes

    @property
    def generator(self) -> nn.Module:
        """The generator, if the method has a persistent one; else AttributeError."""
        if not isinstance(self.synthesis, GeneratedImages):
            raise AttributeError(f"method {self.config.method} inverts its images batch by batch and has no generator")
        return self.synthesis.generator

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes; together with the config and the teacher it continues the run exactly."""
        return {
            "version": STATE_VERSION,
            "epoch": self.epoch,
            **self._history.state_dict(),
            "parts": self.parts_state(),
        }

    def parts_state(self) -> dict[str, Any]:
        """State of networks, optimizers and random streams, without measurements."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; CheckpointError if it has another format or belongs to a run of another config.

        After an error the state may be partly loaded: create a new run before you continue.
        """
        _check_entries(state)
        self._load_parts(state["parts"])
        self.epoch = state["epoch"]
        self._history.load_state_dict(state)

    def take_over(self, state: Mapping[str, Any]) -> None:
        """Continue from the `state` of a run with other loss weights, temperatures or learning rates, using this config's values.

        The best epoch is chosen among those that follow. CheckpointError: see `load_state_dict`.
        """
        _check_entries(state)
        self._load_parts(state["parts"], own_settings=True)
        self.epoch = state["epoch"]
        self._history.load_state_dict(state)
        self._history.begin_anew()

    def _load_parts(self, state: Mapping[str, Any], *, own_settings: bool = False) -> None:
        """`own_settings`: optimizers keep their own settings; their state also holds learning rates."""
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
        """Weights of the student at the best epoch, the run's result. CheckpointError before the first epoch is complete."""
        return self._history.best_student

    @property
    def best_epoch(self) -> int:
        """The epoch whose student is kept, from 1; 0 before the first epoch is complete, as in a run that diverges at once."""
        return self._history.best_epoch

    @property
    def best_metrics(self) -> Metrics:
        """What was measured at the best epoch; empty before the first epoch is complete."""
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
    """Raise CheckpointError unless `state`, which may come from a file, has the entries of a run's state with valid types."""
    version = state.get("version")
    if type(version) is not int or version != STATE_VERSION:
        raise CheckpointError(f"checkpoint has state version {version}, expected {STATE_VERSION}")
    if missing := {"epoch", "history", "best_student", "parts"} - state.keys():
        raise CheckpointError(f"checkpoint lacks {', '.join(sorted(missing))}")
    epoch, history = state["epoch"], state["history"]
    is_history = isinstance(history, list) and all(isinstance(metrics, Mapping) for metrics in history)
    if type(epoch) is not int or not is_history or epoch != len(history):
        raise CheckpointError("checkpoint's epoch and history do not match")
    if not isinstance(state["best_student"], Mapping | None) or not isinstance(state["parts"], Mapping):
        raise CheckpointError("checkpoint holds no networks in best_student or parts")
