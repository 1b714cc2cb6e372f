"""What a student step minimises: its method's terms on new and on remembered images, hints."""

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
    """The terms of a student step, by `method`, and their factors; `views`: both networks' outputs on a batch.

    `synthesis`: where new images come from, and how much each of them counts, if not all alike. `autocast`: makes the context that
    forward passes run in.
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
        """Those of a step on remembered images alone: without hints where the teacher's answers were kept, for it is not asked."""
        return dict(self._method.student_weights) if self._config.replay.answers == "kept" else self.weights

    def on_new(self, images: Tensor, labels: Tensor | None, recalled: Recalled | None) -> tuple[Terms, Output]:
        """The terms of a step on `images` [B, K, H, W] and what is recalled; and the teacher's answers to `images`.

        Each image counts as its source says, what is of the whole batch as it is; the source is told of the gaps. A source with
        such a say is a pool, which stands in a memory's place: nothing is recalled beside it.
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
        """KL of student and teacher on each image, nats, without a graph."""
        return distillation_kl(view.student.logits.detach(), view.teacher.logits, temperature=self._config.distillation_temperature)

    @property
    def _hinted(self) -> list[Tensor]:
        """The teacher's channels, by stage, that the student is told of."""
        return self._first_weights.channels if self._config.student.hints else []
