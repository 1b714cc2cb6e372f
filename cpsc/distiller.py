"""One distillation run: builds the networks from a config, trains an epoch at a time, measures, saves and resumes."""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from cpsc.config import DistillConfig
from cpsc.data.dataset import Split
from cpsc.device import autocast, place, resolve_precision
from cpsc.errors import CheckpointError, ConfigError, DivergedError
from cpsc.generator import ConditionalGenerator
from cpsc.loop import Phase, run_epoch
from cpsc.methods import METHODS, Terms, View
from cpsc.metrics import accuracy, agreement, curve_statistics, mean_kl, predict
from cpsc.models import Output, build_model
from cpsc.probe import ProbeSet
from cpsc.rng import RandomStreams, seeded_init, stream
from cpsc.schedule import generator_lr, student_lr
from cpsc.statistics import StatisticsRecorder
from cpsc.teacher import Teacher

STATE_VERSION = 1
CURVES = ("probe_agreement", "test_accuracy")
GRID_COLUMNS = 8

Metrics = dict[str, float]


class Stateful(Protocol):
    """What is saved and restored as one part of a run."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class ImageSet(NamedTuple):
    """Normalised images on the device with what the student is compared to: the teacher's logits, or labels."""

    images: Tensor
    target: Tensor


class Distiller:
    """Alternating generator/student training of one student.

    `probe` is what the data-free objective is measured on; `test`, labelled real images, is recorded where it
    is given and steers nothing unless `objective` is ``test_accuracy``. The best epoch's student is kept beside
    the last. Same config, teacher, device and thread count: same numbers, also across `state_dict` and back.
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
    ) -> None:
        needed = {"probe_agreement": probe, "test_accuracy": test}
        if objective not in needed:
            raise ConfigError(f"objective {objective!r}: unknown, use one of {', '.join(needed)}")
        if objective == "test_accuracy" and test is None:
            raise ConfigError("objective test_accuracy needs labelled test images, none were given")
        self.config = config
        self.objective = objective
        self.device = device or torch.device("cpu")
        self.epoch = 0
        self.history: list[Metrics] = []
        self._best_student: dict[str, Tensor] | None = None
        self._teacher_info = teacher
        self._build_networks(teacher)
        self._build_optimization()
        self._probe = self._probe_images(probe) if probe is not None else None
        self._test = self._test_images(test) if test is not None else None

    # Training

    def run_epoch(self) -> Metrics:
        """Train one epoch and measure: term means, learning rates, objective and its running best, accuracies.

        Raises DivergedError where a term is not finite or has exploded; the run cannot go on after that.
        """
        started = time.perf_counter()
        self.epoch += 1
        self._set_learning_rates()
        self._agreed.zero_()
        metrics = run_epoch(
            self._phases,
            iterations=self.config.schedule.iterations,
            check_each_iteration=self.device.type == "cpu",
            diverged_above=self.config.diverged_above,
        )
        metrics["generator_label_agreement"] = self._agreed.item() / (
            self.config.schedule.iterations * self.config.schedule.generator_steps * self.config.schedule.batch_size
        )
        metrics |= {"epoch": self.epoch, "train_s": time.perf_counter() - started} | self._learning_rates()
        metrics |= self.evaluate()
        if not all(math.isfinite(value) for value in metrics.values()):  # the last update of the epoch may do it
            broken = next(name for name, value in metrics.items() if not math.isfinite(value))
            raise DivergedError(f"{broken} is not finite after epoch {self.epoch}")
        self._record(metrics)
        schedule = self.config.schedule
        synthetic = schedule.iterations * schedule.batch_size * (schedule.generator_steps + schedule.student_steps)
        metrics["images_per_s"] = synthetic / metrics["train_s"]
        metrics["epoch_s"] = time.perf_counter() - started
        return metrics

    def evaluate(self) -> Metrics:
        """The student as it is: `probe_agreement` and `probe_kl`, `test_accuracy`, each where there are images for it."""
        metrics: Metrics = {}
        if self._probe is not None:
            logits = predict(self.student, self._probe.images)
            metrics["probe_agreement"] = agreement(logits, self._probe.target)
            metrics["probe_kl"] = mean_kl(logits, self._probe.target)
        if self._test is not None:
            metrics["test_accuracy"] = accuracy(predict(self.student, self._test.images), self._test.target)
        return metrics

    def sample_grid(self) -> Tensor:
        """Images of the generator as it is, one row per class -> uint8 [C, GRID_COLUMNS, K, H, W]. Changes nothing."""
        classes = self._teacher_info.num_classes
        rng = stream(self.config.seed, "grid")
        latents = torch.randn(classes * GRID_COLUMNS, self.config.generator.latent_dim, generator=rng)
        labels = torch.arange(classes).repeat_interleave(GRID_COLUMNS)
        was_training = self.generator.training
        self.generator.eval()  # running statistics: a look must not move the batch norms
        with torch.no_grad():
            images = self.generator(latents.to(self.device), labels.to(self.device))
        self.generator.train(was_training)
        pixels = self._teacher_info.normalisation.to_pixels(images)
        return pixels.unflatten(0, (classes, GRID_COLUMNS)).cpu()

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
    def best_metrics(self) -> Metrics:
        """What was measured at the best epoch."""
        return self.history[self._best_index()]

    def _parts(self) -> dict[str, Stateful]:
        return {
            "student": self.student,
            "generator": self.generator,
            "method": self.method,
            "student_optimizer": self._student_optimizer,
            "generator_optimizer": self._generator_optimizer,
            "student_scaler": self._student_scaler,
            "generator_scaler": self._generator_scaler,
            "rng": self._rng,
        }

    # Construction

    def _build_networks(self, teacher: Teacher) -> None:
        config, size = self.config, {"num_classes": teacher.num_classes, "channels": teacher.channels}
        self.teacher = teacher.build(self.device)
        with seeded_init(config.seed, "student"):
            student = build_model(config.student.arch, **size)
        with seeded_init(config.seed, "generator"):
            generator = ConditionalGenerator(config.generator, **size, image_size=teacher.image_size)
        with seeded_init(config.seed, "method"):
            method = METHODS[config.method](config, teacher_dim=_feature_dim(self.teacher), student_dim=_feature_dim(student))
        for network in (student, generator):
            place(network, self.device).train()
        self.student, self.generator = student, generator
        self.method = method.to(self.device)
        for module in (student, generator, method):
            module.requires_grad_(False)  # each phase enables its own
        self._rng = RandomStreams(config.seed, self.device)
        self._recorder = StatisticsRecorder(self.teacher) if method.needs_statistics else None
        self._autocast = autocast(resolve_precision(config.precision, self.device), self.device)
        self._agreed = torch.zeros((), device=self.device)

    def _build_optimization(self) -> None:
        config = self.config
        heads = self.method.generator_heads
        self._student_optimizer = torch.optim.SGD(
            self.student.parameters(),
            lr=config.student.lr,
            momentum=config.student.momentum,
            weight_decay=config.student.weight_decay,
            fused=True,
        )
        self._generator_parameters = [p for module in (self.generator, *heads) for p in module.parameters()]
        self._generator_optimizer = self._new_generator_optimizer()
        needs_scaling = resolve_precision(config.precision, self.device) == "fp16"
        self._student_scaler = torch.amp.GradScaler(self.device.type, enabled=needs_scaling)
        self._generator_scaler = torch.amp.GradScaler(self.device.type, enabled=needs_scaling)
        self._phases = [
            Phase(
                name="generator",
                steps=config.schedule.generator_steps,
                modules=(self.generator, *heads),
                terms=self._generator_terms,
                weights=self.method.generator_weights,
                optimizer=self._optimizer_for_generator,
                scaler=self._generator_scaler,
            ),
            Phase(
                name="student",
                steps=config.schedule.student_steps,
                modules=(self.student,),
                terms=self._student_terms,
                weights=self.method.student_weights,
                optimizer=lambda: self._student_optimizer,
                scaler=self._student_scaler,
            ),
        ]

    def _new_generator_optimizer(self) -> torch.optim.Adam:
        config = self.config.generator
        lr = generator_lr(config, epoch=max(1, self.epoch))
        return torch.optim.Adam(self._generator_parameters, lr=lr, betas=(config.beta1, config.beta2), fused=True)

    def _optimizer_for_generator(self) -> torch.optim.Optimizer:
        if self.config.generator.optimizer == "fresh":
            return self._new_generator_optimizer()
        return self._generator_optimizer

    def _probe_images(self, probe: ProbeSet) -> ImageSet:
        if probe.teacher_digest != self._teacher_info.digest:
            raise ConfigError("the probe set was made from another teacher: make one from this teacher")
        images = self._normalised(probe.images)
        return ImageSet(images, predict(self.teacher, images))

    def _test_images(self, test: Split) -> ImageSet:
        return ImageSet(self._normalised(test.images), test.labels.to(self.device))

    def _normalised(self, images: Tensor) -> Tensor:
        normalised = self._teacher_info.normalisation.normalise(images.to(self.device))
        return normalised.contiguous(memory_format=torch.channels_last)

    # Phases

    def _draw(self) -> tuple[Tensor, Tensor]:
        size = self.config.schedule.batch_size
        latents = torch.randn(size, self.config.generator.latent_dim, device=self.device, generator=self._rng.latents)
        labels = torch.randint(self._teacher_info.num_classes, (size,), device=self.device, generator=self._rng.labels)
        return latents, labels

    def _generator_terms(self) -> Terms:
        latents, labels = self._draw()
        self.student.train(self.config.student.train_mode_in_generator_phase)
        with self._autocast():
            images = self.generator(latents, labels)
            if self._recorder is None:
                observed, teacher = [], self.teacher(images)
            else:
                with self._recorder.recording() as observed:
                    teacher = self.teacher(images)
            student = self.student(images)
        self.student.train()
        self._agreed += (teacher.logits.detach().argmax(dim=1) == labels).sum()
        stored = self._recorder.stored if self._recorder else []
        return self.method.generator_terms(View(labels, _float(teacher), _float(student), observed, stored))

    def _student_terms(self) -> Terms:
        latents, labels = self._draw()
        with self._autocast():
            with torch.no_grad():
                images = self.generator(latents, labels)
                teacher = self.teacher(images)
            student = self.student(images)
        return self.method.student_terms(View(labels, _float(teacher), _float(student)))

    # Bookkeeping

    def _set_learning_rates(self) -> None:
        self._student_optimizer.param_groups[0]["lr"] = student_lr(self.config.student, epoch=self.epoch, epochs=self.config.epochs)
        self._generator_optimizer.param_groups[0]["lr"] = generator_lr(self.config.generator, epoch=self.epoch)

    def _learning_rates(self) -> Metrics:
        return {
            "student_lr": self._student_optimizer.param_groups[0]["lr"],
            "generator_lr": self._generator_optimizer.param_groups[0]["lr"],
        }

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


def _feature_dim(network: nn.Module) -> int:
    dim = network.feature_dim
    assert isinstance(dim, int)
    return dim


def _float(output: Output) -> Output:
    return Output(output.features.float(), output.logits.float())
