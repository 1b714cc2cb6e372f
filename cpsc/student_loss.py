"""The loss of a student step: the method's terms on new and on remembered images, and hints."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from torch import Tensor

from cpsc.config import DistillConfig
from cpsc.first_weights import FirstWeights
from cpsc.losses.distillation import distillation_kl
from cpsc.losses.hints import hint_distance
from cpsc.methods import AbstractMethod, BatchOutputs, Terms
from cpsc.models import Output
from cpsc.observation import BatchViews
from cpsc.replay import Recalled
from cpsc.synthesis.base import AbstractSynthesis


class StudentLoss:
    """The terms of a student step, by `method`, and their factors. `views`: both networks' outputs on a batch.

    `synthesis`: the source of new images, and of their weights if these differ. `autocast`: creates the context that forward
    passes run in.
    """

    def __init__(
        self,
        config: DistillConfig,
        *,
        method: AbstractMethod,
        views: BatchViews,
        synthesis: AbstractSynthesis,
        first_weights: FirstWeights,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._config, self._method, self._synthesis = config, method, synthesis
        self._views, self._first_weights, self._autocast = views, first_weights, autocast

    @property
    def weights(self) -> dict[str, float]:
        """The factor of each term of a step on new images."""
        hints = {"hints": self._config.student.hints} if self._config.student.hints else {}
        return dict(self._method.student_weights) | hints

    @property
    def rehearsal_weights(self) -> dict[str, float]:
        """The factors of a step on remembered images alone; without hints if the teacher does not run, its answers being kept."""
        return dict(self._method.student_weights) if self._config.replay.answers == "kept" else self.weights

    def on_new(self, images: Tensor, labels: Tensor | None, recalled: Recalled | None) -> tuple[Terms, Output]:
        """The terms of a step on `images` [B, K, H, W] and the recalled ones, and the teacher's answers to `images`.

        If the source has weights for its images, terms per image are multiplied by them, terms per batch are not, and the source is
        told the gaps. Such a source is a pool that replaces a memory, so nothing is recalled then.
        """
        with self._autocast():
            view = self._views.student_view(images, labels, recalled, channels=self._hinted)
        terms, importance = self._terms(view), self._synthesis.importance
        if importance is not None:
            self._synthesis.on_gaps(self._gaps(view))
            terms = {name: importance * term if term.dim() else term for name, term in terms.items()}
        return terms, view.teacher.first(len(images))

    def on_remembered(self, recalled: Recalled) -> Terms:
        """The terms of a rehearsal."""
        with self._autocast():
            view = self._views.rehearsal_view(recalled, channels=self._hinted)
        return self._terms(view)

    def _terms(self, view: BatchOutputs) -> Terms:
        terms = self._method.student_terms(view)
        if view.hints[0]:
            terms |= {"hints": hint_distance(*view.hints)}
        return terms

    def _gaps(self, view: BatchOutputs) -> Tensor:
        """KL divergence of student and teacher on each image, in nats, without a graph."""
        return distillation_kl(view.student.logits.detach(), view.teacher.logits, temperature=self._config.distillation_temperature)

    @property
    def _hinted(self) -> list[Tensor]:
        """The teacher's channels, by stage, that the student gets hints from."""
        return self._first_weights.channels if self._config.student.hints else []
