"""Both networks' view of a batch, in each phase: exactly what the method needs to see, and no more."""

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from cpsc.errors import ConfigError
from cpsc.losses.attention import attention_map
from cpsc.methods import AbstractMethod, View, stages
from cpsc.methods.base import NOT_ASKED
from cpsc.models import Output
from cpsc.statistics import StatisticsRecorder, channel_means, recorded
from cpsc.synthesis import Batch


class Observer:
    """Runs teacher and student on a batch for a phase of `method`."""

    def __init__(self, teacher: nn.Module, student: nn.Module, method: AbstractMethod) -> None:
        self._teacher, self._student, self._method = teacher, student, method
        self._recorder = StatisticsRecorder(teacher) if method.needs_statistics else None
        self._stages = stages(student), stages(teacher)
        if method.needs_attention and len({len(side) for side in self._stages} | {0}) != 2:
            raise ConfigError("weights.attention: teacher and student must be of one family with stages to compare, set it to 0")
        self._last_images: Tensor | None = None
        self._last_answer: tuple[Output, list[Tensor]] | None = None

    def generator_view(self, batch: Batch) -> View:
        """With graphs to the images through both networks."""
        observed, means = [], []
        with ExitStack() as stack:
            if self._recorder is not None:
                observed = stack.enter_context(self._recorder.recording())
            if self._method.feature_layers:
                means = stack.enter_context(recorded(self._method.feature_layers, channel_means))
            teacher = self._teacher(batch.images)
        return View(
            labels=batch.labels,
            teacher=_float(teacher),
            student=_float(self._student(batch.images)) if self._method.needs_student else NOT_ASKED,
            observed=observed,
            stored=self._recorder.stored if self._recorder else [],
            pixels=batch.plain,
            channel_means=self._both_means(batch, means),
        )

    def student_view(self, images: Tensor, labels: Tensor | None) -> View:
        """With a graph to the student alone. Images without a label, as all that are remembered, count as what the teacher says."""
        teacher, wanted = self._teacher_answer(images)
        maps: list[Tensor] = []
        with ExitStack() as stack:
            if self._method.needs_attention:
                maps = stack.enter_context(recorded(self._stages[0], _attention, outputs=True))
            student = self._student(images)
        if [len(one[0]) for one in maps] != [len(one[0]) for one in wanted]:
            raise ConfigError("weights.attention: the stages of teacher and student differ in size, set it to 0")
        answers = teacher.logits.argmax(dim=1)
        known = answers if labels is None else torch.cat([labels, answers[len(labels) :]])
        return View(labels=known, teacher=teacher, student=_float(student), attention=(maps, wanted))

    def _teacher_answer(self, images: Tensor) -> tuple[Output, list[Tensor]]:
        """What the teacher says to `images`; the same images are not asked about twice in a row."""
        if self._last_answer is None or self._last_images is not images:
            maps: list[Tensor] = []
            with ExitStack() as stack:
                stack.enter_context(torch.no_grad())
                if self._method.needs_attention:
                    maps = stack.enter_context(recorded(self._stages[1], _attention, outputs=True))
                answer = _float(self._teacher(images))
            self._last_images, self._last_answer = images, (answer, maps)
        return self._last_answer

    def _both_means(self, batch: Batch, means: list[Tensor]) -> tuple[Tensor, ...]:
        """Channel means of the local view, which the teacher sees second, and of the global one."""
        if not means:
            return ()
        assert batch.local is not None
        with recorded(self._method.feature_layers, channel_means) as local:
            self._teacher(batch.local)
        return torch.cat(local, dim=1), torch.cat(means, dim=1)


def _attention(features: Tensor) -> Tensor:
    return attention_map(features.float())


def _float(output: Output) -> Output:
    return Output(output.features.float(), output.logits.float())
