"""What a student step minimises: its method's terms on new and on remembered images, hints, retention."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cpsc.config import DistillConfig
from cpsc.execution import Weights
from cpsc.first_weights import FirstWeights
from cpsc.inner_step import buffers_aside, weights_after_step
from cpsc.loop import weighted_sum
from cpsc.losses.distillation import distillation_kl
from cpsc.losses.hints import hint_distance
from cpsc.methods import AbstractMethod, BatchOutputs, Terms
from cpsc.models import Output
from cpsc.observation import BatchViews
from cpsc.replay import Recalled
from cpsc.synthesis.base import AbstractSynthesis


class StudentLoss:
    """The terms of a step of `student`, by `method`, and their factors; `views`: both networks' outputs on a batch.

    `synthesis`: where new images come from, and how much each of them counts, if not all alike.

    `autocast`: makes the context that forward passes run in. A step on new images has one term more for each of its method's where
    the memory is retained by a meta objective: ``retained_<term>``, 0 while nothing is remembered.
    """

    def __init__(
        self,
        config: DistillConfig,
        *,
        student: nn.Module,
        method: AbstractMethod,
        views: BatchViews,
        synthesis: AbstractSynthesis,
        first_weights: FirstWeights,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._config, self._student, self._method, self._synthesis = config, student, method, synthesis
        self._views, self._first_weights, self._autocast = views, first_weights, autocast

    @property
    def weights(self) -> dict[str, float]:
        """The factor of each term of a step on new images."""
        return self._told_weights | {_retained(name): weight for name, weight in self._retained_weights.items()}

    @property
    def rehearsal_weights(self) -> dict[str, float]:
        """Those of a step on remembered images alone: without hints where the teacher's answers were kept, for it is not asked."""
        return dict(self._method.student_weights) if self._config.replay.answers == "kept" else self._told_weights

    def on_new(self, images: Tensor, labels: Tensor | None, recalled: Recalled | None) -> tuple[Terms, Output]:
        """The terms of a step on `images` [B, K, H, W] and what is recalled; and the teacher's answers to `images`."""
        if self._config.replay.retention == "joint":
            view = self._view(images, labels, recalled)
            terms = self._new_terms(view)
        else:
            view, terms = self._retaining(images, labels, recalled)
        return terms, view.teacher.first(len(images))

    def on_remembered(self, recalled: Recalled) -> Terms:
        """The terms of a rehearsal."""
        return self._terms(self._remembered_view(recalled))

    # Learning to retain while acquiring

    def _retaining(self, images: Tensor, labels: Tensor | None, recalled: Recalled | None) -> tuple[BatchOutputs, Terms]:
        """L_acq(theta) + L_ret(theta - lr dL_acq/dtheta), Patel et al. 2023 (arXiv:2302.14290), sec. 3.

        L_acq: of the new images; L_ret: of the remembered ones, each a batch of its own to batch norms. Nobody ever has the weights
        that L_ret is taken at, so that pass leaves the running statistics alone. In the published form, `acquisition: all`, a
        third pass has both kinds of images at the student's own weights, and its statistics alone are kept.
        """
        if recalled is None:
            view = self._view(images, labels)
            zero = torch.zeros((), device=images.device)
            return view, self._new_terms(view) | {_retained(name): zero for name in self._retained_weights}
        config = self._config.replay
        is_apart = config.acquisition == "all"
        own = dict(self._student.named_parameters()) | (buffers_aside(self._student) if is_apart else {})
        with sdpa_kernel(SDPBackend.MATH):  # fused attention cannot be differentiated twice
            view = self._view(images, labels, weights=own)
        acquired = self._new_terms(view)
        loss, _ = weighted_sum(acquired, self._told_weights)
        ahead = weights_after_step(self._student, loss, lr=config.inner_lr, first_order=config.retention == "first_order")
        retained = self._terms(self._remembered_view(recalled, weights=ahead | buffers_aside(self._student)))
        if is_apart:
            view = self._view(images, labels, recalled)
            acquired = self._new_terms(view)
        return view, acquired | {_retained(name): term for name, term in retained.items()}

    @property
    def _retained_weights(self) -> dict[str, float]:
        return {} if self._config.replay.retention == "joint" else self.rehearsal_weights

    # Passes and terms

    def _view(
        self, images: Tensor, labels: Tensor | None, recalled: Recalled | None = None, *, weights: Weights | None = None
    ) -> BatchOutputs:
        with self._autocast():
            return self._views.student_view(images, labels, recalled, channels=self._hinted, weights=weights)

    def _remembered_view(self, recalled: Recalled, *, weights: Weights | None = None) -> BatchOutputs:
        with self._autocast():
            return self._views.rehearsal_view(recalled, channels=self._hinted, weights=weights)

    def _terms(self, view: BatchOutputs) -> Terms:
        terms = self._method.student_terms(view)
        if view.hints[0]:
            terms |= {"hints": hint_distance(*view.hints)}
        return terms

    def _new_terms(self, view: BatchOutputs) -> Terms:
        """Each image as its source says that it counts, what is of the whole batch as it is; the source is told of the gaps.

        A source with such a say is a pool, which stands in a memory's place: nothing is recalled beside it.
        """
        terms, importance = self._terms(view), self._synthesis.importance
        if importance is None:
            return terms
        self._synthesis.on_gaps(self._gaps(view))
        return {name: importance * term if term.dim() else term for name, term in terms.items()}

    def _gaps(self, view: BatchOutputs) -> Tensor:
        """KL of student and teacher on each image, nats, without a graph."""
        return distillation_kl(view.student.logits.detach(), view.teacher.logits, temperature=self._config.distillation_temperature)

    @property
    def _told_weights(self) -> dict[str, float]:
        hints = {"hints": self._config.student.hints} if self._config.student.hints else {}
        return dict(self._method.student_weights) | hints

    @property
    def _hinted(self) -> list[Tensor]:
        """The teacher's channels, by stage, that the student is told of."""
        return self._first_weights.channels if self._config.student.hints else []


def _retained(name: str) -> str:
    return f"retained_{name}"
