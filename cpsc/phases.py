"""Phases of a run: what generator, student and replay train on in their turns, with which optimizer and learning rate."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import DistillConfig, StudentConfig
from cpsc.first_weights import FirstWeights
from cpsc.loop import Phase
from cpsc.measurement import Metrics
from cpsc.methods import AbstractMethod, Terms
from cpsc.metrics import class_balance
from cpsc.mixing import Mixing
from cpsc.observation import BatchViews
from cpsc.optimizers import SGD, Adam
from cpsc.replay import AbstractReplay
from cpsc.schedule import generator_lr, student_lr
from cpsc.stopwatch import Stopwatch
from cpsc.student_loss import StudentLoss
from cpsc.synthesis.base import AbstractSynthesis, Stateful


class Phases:
    """The turns of `student`, `synthesis` and `replay` in one run of `method`; `views`: both networks' outputs on a batch.

    Owns the optimizers and gradient scalers. `autocast`: creates the context that forward passes run in. `needs_scaling`: whether
    its precision is fp16.
    """

    def __init__(
        self,
        config: DistillConfig,
        *,
        student: nn.Module,
        method: AbstractMethod,
        synthesis: AbstractSynthesis,
        replay: AbstractReplay | None,
        first_weights: FirstWeights,
        mixing: Mixing | None,
        views: BatchViews,
        autocast: Callable[[], AbstractContextManager[object]],
        num_classes: int,
        device: torch.device,
        needs_scaling: bool,
    ) -> None:
        self._config, self._student, self._method = config, student, method
        self._synthesis, self._replay, self._views, self._autocast = synthesis, replay, views, autocast
        self._first_weights, self._mixing = first_weights, mixing
        self._student_loss = StudentLoss(
            config, method=method, views=views, synthesis=synthesis, first_weights=first_weights, autocast=autocast
        )
        self._class_counts = torch.zeros(num_classes, device=device)
        self._agreed = torch.zeros((), device=device)
        self._generation = Stopwatch(device)
        self._num_generated = self._num_distilled = 0
        self._student_optimizer = new_student_optimizer(config.student, student.parameters())
        trained = None if replay is None or not replay.weights else replay
        scaled = ("student", "generator") if trained is None else ("student", "generator", "replay")
        self._scalers = {name: torch.amp.GradScaler(device.type, enabled=needs_scaling) for name in scaled}
        self._replay_optimizer = None if trained is None else Adam(trained.parameters(), lr=config.replay.lr, fused=True)

    def begin_epoch(self, epoch: int) -> list[Phase]:
        """Set the learning rates of `epoch`, from 1, and reset its figures -> the phases of each of its iterations, in order."""
        self._agreed.zero_()
        self._class_counts.zero_()
        self._generation.reset()
        self._num_generated = self._num_distilled = 0
        rates = self.learning_rates(epoch)
        self._student_optimizer.param_groups[0]["lr"] = rates["student_lr"]
        self._synthesis.begin_epoch(epoch, lr=rates["generator_lr"])
        return self._turns(epoch)

    def end_epoch(self, epoch: int) -> None:
        """Called at the end of `epoch`."""
        if self._replay is not None:
            self._replay.end_epoch(epoch)

    def learning_rates(self, epoch: int) -> Metrics:
        """`student_lr` and `generator_lr` in `epoch`."""
        warmup = self._config.schedule.generator_warmup_epochs  # the student's schedule starts with its own first epoch
        return {
            "student_lr": student_lr(self._config.student, epoch=max(1, epoch - warmup), epochs=self._config.epochs - warmup),
            "generator_lr": generator_lr(self._config.generator, epoch=epoch, epochs=self._config.epochs),
        }

    def figures(self) -> Metrics:
        """Time and images of the current epoch, and how the teacher classifies the images that the generator was trained with.

        `generation_s`: seconds of the generator's turns and of drawing new images for the student. `generation_images` and
        `distillation_images`: how many images generator and student have learned from, repeats included.
        `generator_label_agreement`: the share that the teacher gives the class they were made for. `generator_class_balance`: see
        `cpsc.metrics.class_balance`.
        """
        figures: Metrics = {
            "generation_s": self._generation.seconds,
            "generation_images": float(self._num_generated),
            "distillation_images": float(self._num_distilled),
        }
        if self._method.LABEL_TERMS:
            figures["generator_label_agreement"] = self._agreed.item() / self._class_counts.sum().item()
        return figures | {"generator_class_balance": class_balance(self._class_counts)}

    def parts(self) -> dict[str, Stateful]:
        """Everything besides the networks that training changes, for checkpoints."""
        replay = {} if self._replay_optimizer is None else {"replay_optimizer": self._replay_optimizer}
        scalers = {f"{name}_scaler": scaler for name, scaler in self._scalers.items()}
        return {"student_optimizer": self._student_optimizer, **scalers, **replay}

    # Turns

    def _turns(self, epoch: int) -> list[Phase]:
        schedule = self._config.schedule
        if epoch <= schedule.generator_warmup_epochs:
            turns = schedule.generator_warmup_turns or schedule.generator_turns
            return [replace(self._generator_phase(), weights=self._method.warmup_weights)] * turns
        generator, student = [self._generator_phase()] * schedule.generator_turns, self._student_turn()
        return generator + student if schedule.order == "generator_first" else student + generator

    def _student_turn(self) -> list[Phase]:
        novel, steps, replay = self._student_phase(), self._config.schedule.student_steps, self._replay
        if replay is None:
            return [novel]
        together = [replace(novel, steps=1), self._replay_phase(replay)] * replay.updates if replay.updates else []
        alone = [replace(novel, steps=steps - replay.updates)] if steps > replay.updates else []
        rehearsals = steps * self._config.replay.rehearsals
        return together + alone + ([self._rehearsal_phase(replay, rehearsals)] if rehearsals else [])

    def _generator_phase(self) -> Phase:
        return Phase(
            name="generator",
            steps=self._config.schedule.generator_steps,
            modules=self._synthesis.modules,
            terms=self._generator_terms,
            weights=self._method.generator_weights,
            optimizers=self._synthesis.optimizers,
            scaler=self._scalers["generator"],
            clip_norm=self._config.generator.clip_norm,
            begin=self._begin_generator_turn,
            on_loss=lambda loss: self._method.on_improvement(self._synthesis.on_loss(loss)),
            end=self._end_generator_turn,
        )

    def _student_phase(self) -> Phase:
        return Phase(
            name="student",
            steps=self._config.schedule.student_steps,
            modules=(self._student,),
            terms=self._student_terms,
            weights=self._student_loss.weights,
            optimizers=lambda: [self._student_optimizer],
            scaler=self._scalers["student"],
            clip_norm=self._config.student.clip_norm,
            begin=lambda: self._first_weights.finish(self._examples),
        )

    def _rehearsal_phase(self, replay: AbstractReplay, steps: int) -> Phase:
        terms = lambda: self._rehearsal_terms(replay)  # noqa: E731
        weights = self._student_loss.rehearsal_weights
        return replace(self._student_phase(), name="rehearsal", steps=steps, terms=terms, weights=weights)

    def _replay_phase(self, replay: AbstractReplay) -> Phase:
        optimizer = self._replay_optimizer
        assert optimizer is not None
        return Phase(
            name="replay",
            steps=1,
            modules=(replay,),
            terms=lambda: self._replay_terms(replay),
            weights=replay.weights,
            optimizers=lambda: [optimizer],
            scaler=self._scalers["replay"],
        )

    # What they train on

    def _generator_terms(self) -> Terms:
        self._student.train(self._config.student.train_mode_in_generator_phase)
        with self._autocast():
            batch = self._synthesis.batch()
            view = self._views.generator_view(batch)
        self._student.train()
        self._num_generated += len(batch.images)
        answers = view.teacher.logits.detach().argmax(dim=1)
        self._agreed += (answers == view.labels).sum()
        self._class_counts += F.one_hot(answers, len(self._class_counts)).sum(dim=0)
        return self._method.generator_terms(view)

    def _begin_generator_turn(self) -> None:
        self._generation.start()
        self._synthesis.begin()
        self._views.begin_generator_turn()

    def _end_generator_turn(self) -> None:
        self._views.end_generator_turn()
        self._synthesis.end()
        self._method.end_turn()
        self._generation.stop()

    def _student_terms(self) -> Terms:
        with self._autocast():
            with self._generation.running():
                images, labels = self._synthesis.sample()
            recalled = None if self._replay is None else self._replay.recall()
            if self._mixing is not None:
                images, labels = self._mixing.mixed(images, labels)
        terms, answers = self._student_loss.on_new(images, labels, recalled)
        if self._replay is not None:
            self._replay.remember(images, answers)
        self._num_distilled += len(images) + (0 if recalled is None else len(recalled.images))
        return terms

    def _rehearsal_terms(self, replay: AbstractReplay) -> Terms:
        recalled = replay.rehearsed()
        self._num_distilled += len(recalled.images)
        return self._student_loss.on_remembered(recalled)

    def _examples(self, per_class: int) -> Tensor:
        with self._autocast():
            return self._synthesis.examples(per_class)[0]

    def _replay_terms(self, replay: AbstractReplay) -> Terms:
        with self._autocast():
            return replay.terms()


def new_student_optimizer(config: StudentConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD with momentum, or Adam."""
    if config.optimizer == "adam":
        return Adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    return SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        fused=True,
    )
