"""One distillation run: builds the networks from a config, trains an epoch at a time, measures, saves and resumes."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import DistillConfig, StudentConfig
from cpsc.data.dataset import Split
from cpsc.device import DTYPES, autocast, peak_memory, place, resolve_precision
from cpsc.errors import CheckpointError, ConfigError, DivergedError
from cpsc.execution import PLAIN, compiled
from cpsc.generative_replay import Replay
from cpsc.loop import Phase, run_epoch
from cpsc.measurement import Measurement, Metrics
from cpsc.methods import Terms, check_method, method_class
from cpsc.metrics import class_balance, curve_statistics, predict
from cpsc.models import build_model
from cpsc.observation import BatchViews
from cpsc.probe import ProbeSet
from cpsc.rng import RandomStreams, seeded_init
from cpsc.schedule import generator_lr, student_lr
from cpsc.synthesis import GeneratedImages
from cpsc.synthesis.base import Stateful
from cpsc.teacher import Teacher

STATE_VERSION = 1
CURVES = ("probe_agreement", "test_accuracy")
GRID_COLUMNS = 8


class Distiller:
    """Alternating generator/student training of one student.

    `probe` is what the data-free objective is measured on; `test`, labelled real images, is recorded where it is given and
    steers nothing unless `objective` is ``test_accuracy``. A `measurement`, which runs may share, says all that instead. The
    best epoch's student is kept beside the last. Same config, teacher, device and thread count: same numbers, also across
    `state_dict` and back.
    """

    def __init__(
        self,
        config: DistillConfig,
        teacher: Teacher,
        *,
        probe: ProbeSet | None = None,
        test: Split | None = None,
        device: torch.device | None = None,
        objective: str = "probe_agreement",
        measurement: Measurement | None = None,
    ) -> None:
        if objective not in CURVES:
            raise ConfigError(f"objective {objective!r}: unknown, use one of {', '.join(CURVES)}")
        self._measurement = measurement or Measurement(teacher, device or torch.device("cpu"), probe=probe, test=test)
        if objective not in self._measurement.objectives:
            raise ConfigError("objective test_accuracy needs labelled test images, none were given")
        self.config = config
        self.objective = objective
        self.device = self._measurement.device
        self.teacher = self._measurement.network
        self.epoch = 0
        self.history: list[Metrics] = []
        self._best_student: dict[str, Tensor] | None = None
        self._teacher_info = teacher
        self._build_networks(teacher)
        self._build_optimization()

    # Training

    def run_epoch(self) -> Metrics:
        """Train one epoch and measure: term means, learning rates, objective and its running best, accuracies.

        Raises DivergedError where a term is not finite or has exploded; the run cannot go on after that.
        """
        started = time.perf_counter()
        self.epoch += 1
        self._set_learning_rates()
        self._agreed.zero_()
        self._class_counts.zero_()
        metrics = run_epoch(
            self._turns(),
            iterations=self.config.schedule.iterations,
            check_each_iteration=self.device.type == "cpu",
            diverged_above=self.config.diverged_above,
        )
        if self.method.LABEL_TERMS:
            metrics["generator_label_agreement"] = self._agreed.item() / self._class_counts.sum().item()
        metrics["generator_class_balance"] = class_balance(self._class_counts)
        metrics["replay_bytes"] = float(self.num_stored_bytes)
        metrics |= {"epoch": self.epoch, "train_s": time.perf_counter() - started} | self._lrs
        metrics |= self.evaluate()
        if self.epoch == self.config.epochs:  # it is not cheap, and tells of the finished generator
            metrics |= self.evaluate_images()
        if not all(math.isfinite(value) for value in metrics.values()):  # the last update of the epoch may do it
            broken = next(name for name, value in metrics.items() if not math.isfinite(value))
            raise DivergedError(f"{broken} is not finite after epoch {self.epoch}")
        self._record(metrics)
        metrics["images_per_s"] = self.config.schedule.images_per_epoch / metrics["train_s"]
        metrics["epoch_s"] = time.perf_counter() - started
        metrics["peak_memory_bytes"] = float(peak_memory(self.device))
        return metrics

    def evaluate(self) -> Metrics:
        """The student as it is: `probe_agreement`, `probe_kl`, `test_accuracy`, `test_agreement`, where there are images for it."""
        return self._measurement.of_student(self.student)

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

    def _examples(self, per_class: int) -> tuple[Tensor, Tensor | None]:
        with self._autocast():  # as they are made for the student
            return self.synthesis.examples(per_class)

    @property
    def num_stored_bytes(self) -> int:
        """Memory of all that is kept for replay: autoencoder, image pool, feature bank."""
        replay = 0 if self._replay is None else self._replay.num_stored_bytes
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
            "history": [dict(metrics) for metrics in self.history],
            "best_student": self._best_student,
            "parts": {name: part.state_dict() for name, part in self._parts().items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; CheckpointError where it is of another format or of another config's run.

        A refused state may be half taken in: build the run anew before going on.
        """
        _check_entries(state)
        parts = self._parts()
        if odd := parts.keys() ^ state["parts"].keys():
            raise CheckpointError(f"checkpoint and config disagree on parts: {', '.join(sorted(map(str, odd)))}")
        for name, part in parts.items():
            try:
                part.load_state_dict(state["parts"][name])
            except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
                reason = next(iter(str(error).splitlines()[-1:]), type(error).__name__).strip()
                raise CheckpointError(f"checkpoint's {name} does not fit this config: {reason}") from error
        self.epoch = state["epoch"]
        self.history = [dict(metrics) for metrics in state["history"]]
        self._best_student = state["best_student"]

    @property
    def best_student(self) -> dict[str, Tensor]:
        """Weights of the student at the best epoch, the run's result."""
        if self._best_student is None:
            raise CheckpointError("no epoch has been run yet: there is no best student")
        return self._best_student

    @property
    def best_epoch(self) -> int:
        """Which epoch's student is kept, from 1; 0 before one has been run to its end, as in a run that diverges at once."""
        return self._best_index() + 1 if self.history else 0

    @property
    def best_metrics(self) -> Metrics:
        """What was measured at the best epoch; nothing before one has been run to its end."""
        return self.history[self._best_index()] if self.history else {}

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {
            "student": self.student,
            "student_optimizer": self._student_optimizer,
            "method": self.method,
            "rng": self._rng,
            **self.synthesis.parts(),
            **{f"{name}_scaler": scaler for name, scaler in self._scalers.items()},
        }
        if self._replay is not None and self._replay_optimizer is not None:
            parts |= {"replay": self._replay, "replay_optimizer": self._replay_optimizer}
        return parts

    # Construction

    def _build_networks(self, teacher: Teacher) -> None:
        config = self.config
        check_method(config)
        precision = resolve_precision(config.precision, self.device)
        asked = self._measurement.network_in(precision)
        with seeded_init(config.seed, "student"):
            student = build_model(config.student.arch, num_classes=teacher.num_classes, channels=teacher.channels)
        self.student = place(student, self.device).train().requires_grad_(False)  # each phase enables its own
        with seeded_init(config.seed, "method"):
            method = method_class(config.method)(config, teacher=asked, student=self.student)
        self.method = method.to(self.device).requires_grad_(False)
        self._rng = RandomStreams(config.seed, self.device)
        self._execution = compiled() if config.compile else PLAIN
        self.synthesis = self.method.SYNTHESIS(
            config, teacher, self._rng, self.device, heads=self.method.generator_heads, generate=self._execution.generate
        )
        self._replay = None
        if config.replay.kind == "vae":
            self._replay = Replay(config, teacher, self.teacher, self._rng, self.device)
        recorder = self._measurement.recorder_in(precision) if self.method.needs_statistics else None
        self._observer = BatchViews(
            asked, self.student, self.method, recorder=recorder, execution=self._execution, dtype=DTYPES.get(precision)
        )
        self._autocast = autocast(precision, self.device)
        self._class_counts = torch.zeros(teacher.num_classes, device=self.device)
        self._agreed = torch.zeros((), device=self.device)

    def _build_optimization(self) -> None:
        self._student_optimizer = new_student_optimizer(self.config.student, self.student.parameters())
        self._scalers = {"student": self._new_scaler(), "generator": self._new_scaler()}
        self._replay_optimizer = None
        if self._replay is not None:
            self._scalers["replay"] = self._new_scaler()
            self._replay_optimizer = torch.optim.Adam(self._replay.parameters(), lr=self.config.replay.lr, fused=True)

    def _new_scaler(self) -> torch.amp.GradScaler:
        needs_scaling = resolve_precision(self.config.precision, self.device) == "fp16"
        return torch.amp.GradScaler(self.device.type, enabled=needs_scaling)

    def _turns(self) -> list[Phase]:
        """The phases of one iteration of this epoch, in their order."""
        schedule = self.config.schedule
        if self.epoch <= schedule.generator_warmup_epochs:
            return [replace(self._generator_phase(), weights=self.method.warmup_weights)]
        generator, student = [self._generator_phase()], [self._student_phase()]
        if self._replay is not None:
            updates = min(self.config.replay.updates, schedule.student_steps)
            together = [replace(student[0], steps=1), self._replay_phase(self._replay)] * updates
            rest = schedule.student_steps - updates
            student = together + ([replace(student[0], steps=rest)] if rest else [])
        return generator + student if schedule.order == "generator_first" else student + generator

    def _generator_phase(self) -> Phase:
        return Phase(
            name="generator",
            steps=self.config.schedule.generator_steps,
            modules=self.synthesis.modules,
            terms=self._generator_terms,
            weights=self.method.generator_weights,
            optimizers=self.synthesis.optimizers,
            scaler=self._scalers["generator"],
            clip_norm=self.config.generator.clip_norm,
            begin=self._begin_generator_turn,
            on_loss=lambda loss: self.method.on_improvement(self.synthesis.on_loss(loss)),
            end=self._end_generator_turn,
        )

    def _student_phase(self) -> Phase:
        return Phase(
            name="student",
            steps=self.config.schedule.student_steps,
            modules=(self.student,),
            terms=self._student_terms,
            weights=self.method.student_weights,
            optimizers=lambda: [self._student_optimizer],
            scaler=self._scalers["student"],
            clip_norm=self.config.student.clip_norm,
        )

    def _replay_phase(self, replay: Replay) -> Phase:
        optimizer = self._replay_optimizer
        assert optimizer is not None
        return Phase(
            name="replay",
            steps=1,
            modules=(replay,),
            terms=self._replay_terms,
            weights=replay.weights,
            optimizers=lambda: [optimizer],
            scaler=self._scalers["replay"],
        )

    # Phases

    def _generator_terms(self) -> Terms:
        self.student.train(self.config.student.train_mode_in_generator_phase)
        with self._autocast():
            batch = self.synthesis.batch()
            view = self._observer.generator_view(batch)
        self.student.train()
        answers = view.teacher.logits.detach().argmax(dim=1)
        self._agreed += (answers == view.labels).sum()
        self._class_counts += F.one_hot(answers, len(self._class_counts)).sum(dim=0)
        return self.method.generator_terms(view)

    def _begin_generator_turn(self) -> None:
        self.synthesis.begin()
        self._observer.begin_generator_turn()

    def _end_generator_turn(self) -> None:
        self._observer.end_generator_turn()
        self.synthesis.end()
        self.method.end_turn()

    def _student_terms(self) -> Terms:
        with self._autocast():
            images, labels = self.synthesis.sample()
            if self._replay is not None:
                images = torch.cat([images, self._replay.recall(images)])
            view = self._observer.student_view(images, labels)
        return self.method.student_terms(view)

    def _replay_terms(self) -> Terms:
        assert self._replay is not None
        with self._autocast():
            return self._replay.terms()

    # Bookkeeping

    def _set_learning_rates(self) -> None:
        warmup = self.config.schedule.generator_warmup_epochs  # the student's schedule begins with its own first epoch
        self._lrs = {
            "student_lr": student_lr(self.config.student, epoch=max(1, self.epoch - warmup), epochs=self.config.epochs - warmup),
            "generator_lr": generator_lr(self.config.generator, epoch=self.epoch, epochs=self.config.epochs),
        }
        self._student_optimizer.param_groups[0]["lr"] = self._lrs["student_lr"]
        self.synthesis.set_learning_rate(self._lrs["generator_lr"])

    def _record(self, metrics: Metrics) -> None:
        """Add this epoch to the history, keep the student if it is the best so far, and add the running figures."""
        self.history.append({name: metrics[name] for name in (*CURVES, "probe_kl") if name in metrics})
        best = self._best_index()
        if best == len(self.history) - 1:
            self._best_student = {name: tensor.detach().clone() for name, tensor in self.student.state_dict().items()}
        metrics["best_epoch"] = best + 1
        if self.objective in metrics:
            metrics[f"best_{self.objective}"] = self.history[best][self.objective]
        for name in CURVES:
            if name in metrics:
                curve = curve_statistics([epoch[name] for epoch in self.history])
                metrics |= {f"{name}_mean": curve.mean, f"{name}_std": curve.std, f"{name}_max": curve.best}
                metrics |= {f"{name}_late_mean": curve.second_half_mean, f"{name}_late_std": curve.second_half_std}

    def _best_index(self) -> int:
        """The first epoch with the highest objective; of equal ones that with the lower probe KL. The last if unmeasured."""
        if self.objective not in self.history[-1]:
            return len(self.history) - 1

        def rank(index: int) -> tuple[float, float, int]:
            metrics = self.history[index]
            return metrics[self.objective], -metrics.get("probe_kl", 0.0), -index

        return max(range(len(self.history)), key=rank)


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


def new_student_optimizer(config: StudentConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD with momentum, or Adam."""
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        fused=True,
    )
