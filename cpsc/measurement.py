"""Measurements of a run after each epoch: the student on probe and test images, and the images themselves."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cpsc.config import Precision
from cpsc.data.dataset import Split
from cpsc.errors import ConfigError
from cpsc.examiners import PROBE, Exam, ExamImages
from cpsc.frechet import frechet_distance, inception_fid
from cpsc.marks import Marks
from cpsc.metrics import accuracy, agreement, agreements, features_and_logits, mean_kl, overlaps, predict
from cpsc.probe import ProbeSet
from cpsc.statistics import StatisticsRecorder
from cpsc.teacher import Teacher

Metrics = dict[str, float]


@dataclass(frozen=True)
class InceptionReference:
    """What an FID needs: the file with the original Inception's weights, and real images, uint8 [N, K, H, W]."""

    weights: Path
    real_images: Tensor


class _ImageSet(NamedTuple):
    """Normalised images on the device, the teacher's features and logits for them; `labels` if they are known."""

    images: Tensor
    features: Tensor
    answers: Tensor
    labels: Tensor | None


class StudentMeasured(NamedTuple):
    """The metrics of a student, and its logits [N, C] on probe and examiners' images, if there are any."""

    metrics: Metrics
    answers: Tensor | None


class Measurement:
    """The teacher's network on a device, and the images that students are compared on, with the teacher's answers to them.

    `probe`: images that need no data. `examiners`: images of other runs, used in addition. `test`: labelled real images. Each may
    be absent; then its measurements are absent, too. Nothing here changes as students train: all runs of a process can share one.
    """

    def __init__(
        self,
        teacher: Teacher,
        device: torch.device,
        *,
        probe: ProbeSet | None = None,
        examiners: ExamImages | None = None,
        test: Split | None = None,
        inception: InceptionReference | None = None,
    ) -> None:
        if probe is not None and probe.teacher_digest != teacher.digest:
            raise ConfigError("the probe set was made from another teacher: make one from this teacher")
        if examiners is not None and (probe is None or examiners.teacher_digest != teacher.digest):
            raise ConfigError("examiners' images need a probe set, and both must be made with this teacher")
        self.teacher, self.device = teacher, device
        self.network = teacher.build(device)
        self._networks: dict[Precision, nn.Module] = {}
        self._recorders: dict[nn.Module, StatisticsRecorder] = {}
        self._inception = inception
        self._probe = self._prepared(probe.images, None) if probe is not None else None
        self._examiners = examiners
        self._examined_on = self._prepared(examiners.images, None) if examiners is not None else None
        self._test = self._prepared(test.images, test.labels) if test is not None else None

    def network_in(self, precision: Precision) -> nn.Module:
        """The teacher for runs that use it under autocast in `precision`; its weights are cast once, not at every pass."""
        if not self.teacher.is_cast_for(precision):
            return self.network
        if precision not in self._networks:
            self._networks[precision] = self.teacher.build(self.device, precision=precision)
        return self._networks[precision]

    def recorder_in(self, precision: Precision) -> StatisticsRecorder:
        """Recorder of that network's batch-norm statistics, shared by all runs. ConfigError if it has none."""
        network = self.network_in(precision)
        if network not in self._recorders:
            self._recorders[network] = StatisticsRecorder(network)
        return self._recorders[network]

    @property
    def objectives(self) -> set[str]:
        """The metrics that a student can be chosen by."""
        blind = {"probe_agreement", "probe_overlap"} | ({"exam_score"} if self._examiners is not None else set())
        return blind | ({"test_accuracy"} if self._test is not None else set())

    @cached_property
    def teacher_answers(self) -> Tensor | None:
        """The teacher's logits [N, C] on the probe set, followed by the examiners' images."""
        if self._probe is None or self._examined_on is None:
            return None if self._probe is None else self._probe.answers
        return torch.cat([self._probe.answers, self._examined_on.answers])

    @cached_property
    def exam(self) -> Exam | None:
        """The exam on these images, with the source of each; None without a probe set."""
        if self._probe is None:
            return None
        ours = torch.full((len(self._probe.images),), PROBE)
        if self._examiners is None:
            return Exam(ours)
        sources = torch.cat([ours, self._examiners.sources])
        return Exam(sources, self._examiners.weights_by_source, fading=self._examiners.fading)

    def own_source(self, run: str) -> int | None:
        """The source of the images that the run with that `run_digest` made itself; None if there are none."""
        return None if self._examiners is None else self._examiners.source_of(run)

    def of_student(self, student: nn.Module, *, own: int | None = None) -> StudentMeasured:
        """`probe_agreement` and `probe_kl`; `test_accuracy` and `test_agreement` with the teacher.

        `probe_overlap` is the soft form of `probe_agreement`: the overlap of the two networks' probabilities. With examiners there
        are also `exam_score`, the overlap on the half of the probe and examiners' images that students are chosen by, and
        `held_out_agreement`, the agreement on the other half: see `Exam`. `own`: the source that does not count.
        """
        metrics: Metrics = {}
        answers = None
        if self._probe is not None:
            answers = predict(student, self._probe.images)
            metrics["probe_agreement"] = agreement(answers, self._probe.answers)
            metrics["probe_overlap"] = overlaps(answers, self._probe.answers).mean().item()
            metrics["probe_kl"] = mean_kl(answers, self._probe.answers)
        if self._examined_on is not None and answers is not None:
            answers = torch.cat([answers, predict(student, self._examined_on.images)])
            metrics |= self._exam_metrics(answers, own)
        if self._test is not None and self._test.labels is not None:
            logits = predict(student, self._test.images)
            metrics["test_accuracy"] = accuracy(logits, self._test.labels)
            metrics["test_agreement"] = agreement(logits, self._test.answers)
        return StudentMeasured(metrics, answers)

    def of_untrained(self, student: nn.Module) -> Metrics:
        """`untrained_agreement` of an untrained `student` with the teacher on the probe set. Empty without a probe set."""
        if self._probe is None:
            return {}
        return {"untrained_agreement": agreement(predict(student, self._probe.images), self._probe.answers)}

    def marks(self, answers: Tensor, *, own: int | None, by_probe_alone: bool) -> Marks:
        """Marks of a student from its `answers`, as returned by `of_student`: see `Exam.marks`. There must be a probe set."""
        assert self.exam is not None
        assert self.teacher_answers is not None
        return self.exam.marks(agreements(answers, self.teacher_answers), own=own, by_probe_alone=by_probe_alone)

    def _exam_metrics(self, answers: Tensor, own: int | None) -> Metrics:
        assert self.exam is not None
        assert self.teacher_answers is not None
        agrees = agreements(answers, self.teacher_answers)
        return {
            "exam_score": self.exam.scores(overlaps(answers, self.teacher_answers), own=own).for_choice,
            "held_out_agreement": self.exam.scores(agrees, own=own).held_out,
            "examiner_agreement": self.exam.by_examiners(agrees, own=own),
        }

    def of_images(self, images: Tensor) -> Metrics:
        """How far synthetic `images`, uint8 [N, K, H, W], are from real ones: `teacher_frechet_distance`, and `fid`.

        The first uses the teacher's features of the test images and cannot be compared between teachers; the second needs the
        original Inception's weights.
        """
        metrics: Metrics = {}
        if self._test is not None:
            synthetic = self._normalised(images)
            features, _ = features_and_logits(self.network, synthetic)
            metrics["teacher_frechet_distance"] = frechet_distance(self._test.features, features)
        if self._inception is not None:
            found = inception_fid(self._inception.real_images, images, self._inception.weights, device=self.device)
            metrics |= {"fid": found.distance, "fid_num_images": float(min(found.num_real, found.num_synthetic))}
        return metrics

    @property
    def num_wanted_images(self) -> int:
        """Number of synthetic images that `of_images` should get: as many as there are real ones to compare with; 0: none."""
        real = 0 if self._test is None else len(self._test.images)
        return real if self._inception is None else max(real, len(self._inception.real_images))

    def _prepared(self, images: Tensor, labels: Tensor | None) -> _ImageSet:
        normalised = self._normalised(images)
        features, answers = features_and_logits(self.network, normalised)
        return _ImageSet(normalised, features, answers, None if labels is None else labels.to(self.device))

    def _normalised(self, images: Tensor) -> Tensor:
        normalised = self.teacher.normalisation.normalise(images.to(self.device))
        return normalised.contiguous(memory_format=torch.channels_last)
