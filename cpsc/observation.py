"""Runs both networks on a batch in each phase and collects exactly what the method needs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cpsc.device import cast_copies, precise
from cpsc.errors import ConfigError
from cpsc.execution import PLAIN, Execution, Weights
from cpsc.losses.attention import attention_map
from cpsc.methods import AbstractMethod, BatchOutputs, num_input_channels, stages
from cpsc.methods.base import NO_OUTPUT
from cpsc.mixing import UNKNOWN
from cpsc.models import Output
from cpsc.replay import Recalled
from cpsc.statistics import ChannelStatistics, StatisticsRecorder, channel_means, recorded
from cpsc.synthesis import Batch


class StageView(NamedTuple):
    """The parts of a stage's output that are compared: its attention map [B, H * W], its features [B, K, H, W], or both."""

    attention: Tensor | None
    features: Tensor | None


class BatchViews:
    """Runs teacher and student on a batch for a phase of `method`. `recorder`: the teacher's, if it already has one.

    `dtype`: the dtype of the autocast that all passes run under; None: there is no autocast.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        method: AbstractMethod,
        *,
        recorder: StatisticsRecorder | None = None,
        execution: Execution = PLAIN,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._teacher, self._student, self._method, self._execution = teacher, student, method, execution
        self._dtype = dtype
        self._student_weights: Weights = {}
        self._recorder = (recorder or StatisticsRecorder(teacher)) if method.needs_statistics else None
        self._stages = stages(student), stages(teacher)
        if method.needs_attention and len({len(side) for side in self._stages} | {0}) != 2:
            raise ConfigError("weights.attention: needs a teacher and a student of one family with stages to compare, set it to 0")
        self._last_images: Tensor | None = None
        self._last_output: tuple[Output, list[StageView]] | None = None

    def begin_generator_turn(self) -> None:
        """Cast the student's weights once for all steps: they do not change until the student's own turn."""
        if self._dtype is not None and self._method.needs_student:
            self._student_weights = cast_copies(self._student, self._dtype)

    def end_generator_turn(self) -> None:
        """Drop the cast weights: the student may change again."""
        self._student_weights = {}

    def generator_view(self, batch: Batch) -> BatchOutputs:
        """The view for the generator phase, with graphs to the images through both networks."""
        layers = self._method.feature_layers
        with recorded(layers, channel_means) as means:
            teacher, observed = self._forward_recorded(batch.images, layers)
        return BatchOutputs(
            labels=batch.labels,
            teacher=teacher,
            student=self._student_output(batch.images) if self._method.needs_student else NO_OUTPUT,
            observed=observed,
            stored=self._recorder.stored if self._recorder else [],
            pixels=batch.plain,
            channel_means=self._both_means(batch, means),
        )

    def _student_output(self, images: Tensor) -> Output:
        if not self._student_weights:
            return self._forward(self._student, images)
        return _precise(self._execution.forward_with(self._student, self._student_weights, images))

    def student_view(
        self, images: Tensor, labels: Tensor | None, recalled: Recalled | None = None, *, channels: Sequence[Tensor] = ()
    ) -> BatchOutputs:
        """The view of `images` followed by the recalled ones, with a graph to the student only.

        Images without a label, such as all remembered ones, get the teacher's class. The teacher is not run again on images whose
        answers were kept. `channels`: the channels of the teacher's stages that are used as hints.
        """
        seen = images if recalled is None else torch.cat([images, recalled.images])
        kept = None if recalled is None else recalled.answers
        teacher, wanted = self._teacher_output(seen if kept is None else images, hinted=bool(channels))
        if kept is not None:
            teacher = teacher.joined(kept)
        layers = self._compared(0, hinted=bool(channels))
        with recorded(layers, self._look(hinted=bool(channels)), outputs=True) as stages_seen:
            student = self._forward(self._student, seen, layers)
        compared = self._all_ran(stages_seen)
        answers = teacher.logits.argmax(dim=1)
        return BatchOutputs(
            labels=_known(labels, answers),
            teacher=teacher,
            student=student,
            attention=_both_maps(compared, wanted),
            hints=_both_features(compared, wanted, channels),
        )

    def rehearsal_view(self, recalled: Recalled, *, channels: Sequence[Tensor] = ()) -> BatchOutputs:
        """The same of remembered images alone; where the teacher's answers were kept with them, without hints."""
        if recalled.answers is None:
            return self.student_view(recalled.images, None, channels=channels)
        student = self._forward(self._student, recalled.images)
        return BatchOutputs(labels=recalled.answers.logits.argmax(dim=1), teacher=recalled.answers, student=student)

    def _teacher_output(self, images: Tensor, *, hinted: bool) -> tuple[Output, list[StageView]]:
        """The teacher's output on `images`, and its stages; it does not run twice in a row on the same images."""
        if self._last_output is None or self._last_images is not images:
            layers = self._compared(1, hinted=hinted)
            with torch.no_grad(), recorded(layers, self._look(hinted=hinted), outputs=True) as stages_seen:
                output = self._forward(self._teacher, images, layers)
            self._last_images, self._last_output = images, (output, self._all_ran(stages_seen))
        return self._last_output

    def _all_ran(self, stages_seen: list[StageView | None]) -> list[StageView]:
        ran = [one for one in stages_seen if one is not None]
        if len(ran) < len(stages_seen):
            wanted = "weights.attention" if self._method.needs_attention else "student.hints"
            raise ConfigError(f"{wanted}: a stage of the teacher or the student does not run, set it to 0")
        return ran

    def _forward(self, network: nn.Module, images: Tensor, watched: Sequence[nn.Module] = ()) -> Output:
        """Run `network`, uncompiled if there are `watched` layers: compiled code does not include hooks added later."""
        execution = PLAIN if watched else self._execution
        return _precise(execution.forward(network, images))

    def _forward_recorded(self, images: Tensor, watched: Sequence[nn.Module]) -> tuple[Output, list[ChannelStatistics | None]]:
        """The teacher's output on `images`, and its batch-norm statistics if the method compares them."""
        if self._recorder is None:
            return self._forward(self._teacher, images, watched), []
        execution = PLAIN if watched else self._execution
        output, observed = execution.forward_recorded(self._teacher, self._recorder, images)
        self._recorder.check(observed)
        return _precise(output), observed

    def _compared(self, side: int, *, hinted: bool) -> Sequence[nn.Module]:
        """The stages that are compared: the student's (0) or the teacher's (1)."""
        return self._stages[side] if self._method.needs_attention or hinted else ()

    def _look(self, *, hinted: bool) -> Callable[[Tensor], StageView]:
        wants_map = self._method.needs_attention
        return lambda features: StageView(_attention(features) if wants_map else None, features if hinted else None)

    def _both_means(self, batch: Batch, means: list[Tensor | None]) -> tuple[Tensor, ...]:
        """Channel means of the local view, on which the teacher runs second, and of the global view."""
        if not means:
            return ()
        assert batch.local is not None
        with recorded(self._method.feature_layers, channel_means) as local:
            self._teacher(batch.local)
        return self._side_by_side(local, batch.local), self._side_by_side(means, batch.images)

    def _side_by_side(self, means: list[Tensor | None], images: Tensor) -> Tensor:
        """Means of all layers, concatenated -> [B, D]; zeros for a layer that does not run, so that it has no effect."""
        shapes = [(len(images), num_input_channels(layer)) for layer in self._method.feature_layers]
        filled = [images.new_zeros(shape) if mean is None else mean for mean, shape in zip(means, shapes, strict=True)]
        if any(mean.shape != shape for mean, shape in zip(filled, shapes, strict=True)):
            raise ConfigError("weights.contrast: a batch norm of the teacher does not see the whole batch, set it to 0")
        return torch.cat(filled, dim=1)


def _known(labels: Tensor | None, answers: Tensor) -> Tensor:
    """The labels that images were made for; if unknown, the teacher's class."""
    if labels is None:
        return answers
    return torch.cat([torch.where(labels == UNKNOWN, answers[: len(labels)], labels), answers[len(labels) :]])


def _both_maps(student: list[StageView], teacher: list[StageView]) -> tuple[list[Tensor], list[Tensor]]:
    maps = tuple([one.attention for one in side if one.attention is not None] for side in (student, teacher))
    if [len(one[0]) for one in maps[0]] != [len(one[0]) for one in maps[1]]:
        raise ConfigError("weights.attention: the stages of teacher and student differ in size, set it to 0")
    return maps[0], maps[1]


def _both_features(
    student: list[StageView], teacher: list[StageView], channels: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Features on the images that the teacher ran on, which come first; empty without `channels`."""
    if not channels:
        return [], []
    wanted = [one.features[:, index].float() for one, index in zip(teacher, channels, strict=True) if one.features is not None]
    own = [one.features[: len(wanted[0])].float() for one in student if one.features is not None]
    return own, wanted


def _attention(features: Tensor) -> Tensor:
    return attention_map(features.float())


def _precise(output: Output) -> Output:
    return Output(precise(output.features), precise(output.logits))
