"""Criteria: how good a student is, estimated from logits on the probe set without labels; higher should be better.

Each compares the student's logits with the teacher's, both float [N, C] for the same N images and C classes, and needs no forward
pass. Where there are labels, any launch that kept its answers shows which criteria rank students as their accuracy does.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cpsc.metrics import agreement, mean_kl, overlaps

Criterion = Callable[[Tensor, Tensor], float]
TEMPERATURES = tuple(2.0**power for power in torch.linspace(-2, 3, 11).tolist())
"""Temperatures for the student's answers, from a quarter to eight, to take its confidence out of the comparison."""


def teacher_class_probability(student: Tensor, teacher: Tensor) -> float:
    """Mean probability that the student gives the teacher's class: like agreement, but without steps of 1/N."""
    return student.softmax(dim=1).gather(1, teacher.argmax(dim=1, keepdim=True)).mean().item()


def logit_correlation(student: Tensor, teacher: Tensor) -> float:
    """Mean cosine of the two networks' centred logits of an image: independent of scale, hence of confidence, and without ties."""
    return _correlation(student, teacher)


def class_order(student: Tensor, teacher: Tensor) -> float:
    """Mean Spearman correlation of the two networks' rankings of the classes: what the teacher says beyond its top class."""
    return _correlation(_ranks(student), _ranks(teacher))


def negative_kl(student: Tensor, teacher: Tensor) -> float:
    """Negative mean KL(teacher || student), nats."""
    return -mean_kl(student, teacher)


def negative_matched_kl(student: Tensor, teacher: Tensor) -> float:
    """Negative mean KL at the student temperature in `TEMPERATURES` that fits best, so that its confidence does not matter."""
    return max(-mean_kl(student / temperature, teacher) for temperature in TEMPERATURES)


def overlap(student: Tensor, teacher: Tensor) -> float:
    """Mean overlap of the two networks' probabilities, 1 minus their total variation distance."""
    return overlaps(student, teacher).mean().item()


def doubtful_agreement(student: Tensor, teacher: Tensor) -> float:
    """Agreement weighted by exp(-margin / median margin) of the teacher's two highest logits: close images count more."""
    first, second = teacher.topk(2, dim=1).values.unbind(dim=1)
    margins = first - second
    weights = torch.exp(-margins / margins.median().clamp_min(torch.finfo(margins.dtype).tiny))
    return _weighted_agreement(student, teacher, weights)


def logit_cka(student: Tensor, teacher: Tensor) -> float:
    """Linear CKA of the two networks' logits with centred columns (Kornblith et al. 2019, arXiv:1905.00414)."""
    ours, theirs = student - student.mean(dim=0), teacher - teacher.mean(dim=0)
    norms = (ours.T @ ours).norm() * (theirs.T @ theirs).norm()
    return ((theirs.T @ ours).norm().square() / norms).nan_to_num().item()


def nuclear_norm(student: Tensor, teacher: Tensor) -> float:
    """Nuclear norm of the student's probabilities over sqrt(N C): high if confident and diverse (Deng et al. 2023). No teacher."""
    probabilities = student.softmax(dim=1)
    return (torch.linalg.matrix_norm(probabilities, ord="nuc") / probabilities.numel() ** 0.5).item()


def information(student: Tensor, teacher: Tensor) -> float:
    """Entropy of the student's mean answer minus the mean entropy of its answers, nats. Does not use the teacher."""
    probabilities = student.softmax(dim=1)
    return (_entropy(probabilities.mean(dim=0)) - _entropy(probabilities).mean()).item()


def confidence_norm(student: Tensor, teacher: Tensor) -> float:
    """Norm of the student's probabilities, (mean p^4)^(1/4) (MaNo, Xie et al. 2024, arXiv:2405.18979). Does not use the teacher."""
    return student.softmax(dim=1).pow(4).mean().pow(0.25).item()


CRITERIA: Mapping[str, Criterion] = {
    "probe agreement": agreement,
    "probability of the teacher's class": teacher_class_probability,
    "logit correlation": logit_correlation,
    "class ranking": class_order,
    "KL": negative_kl,
    "KL at the best temperature": negative_matched_kl,
    "overlap of probabilities": overlap,
    "agreement where the teacher is unsure": doubtful_agreement,
    "CKA of logits": logit_cka,
    "nuclear norm": nuclear_norm,
    "information": information,
    "confidence": confidence_norm,
}
"""Criteria that look at a single student, by display name."""


def peer_agreement(answers: Sequence[Tensor]) -> list[list[float]]:
    """Each student's mean agreement with the students of the other runs. `answers`: per run, logits [E, N, C] of E students.

    Agreement between independent students follows accuracy if most of them are good (Jiang et al. 2022, arXiv:2106.13799).
    """
    classes = [logits.argmax(dim=2) for logits in answers]
    return [
        [torch.stack([(other == student).float().mean() for other in _others(classes, run)]).mean().item() for student in students]
        for run, students in enumerate(classes)
    ]


def discriminating_agreement(answers: Sequence[Tensor], teacher: Tensor) -> list[list[float]]:
    """Agreement in which an image counts by how well it separates good from bad students of the other runs.

    The weight of an image is the correlation, over those students, of agreement on it with agreement on all images, clipped at
    zero: the item discrimination of test theory, with the teacher's answers in place of the correct ones.
    """
    agree = [(logits.argmax(dim=2) == teacher.argmax(dim=1)).float() for logits in answers]
    found = []
    for run, students in enumerate(agree):
        weights = _columns_with_mean(torch.stack(_others(agree, run))).clamp_min(0.0)
        weights = weights if weights.sum() > 0 else torch.ones_like(weights)
        found.append([((weights * student).sum() / weights.sum()).item() for student in students])
    return found


def _others(runs: Sequence[Tensor], run: int) -> list[Tensor]:
    """The students of all runs but one."""
    return [student for index, students in enumerate(runs) if index != run for student in students]


def _columns_with_mean(rows: Tensor) -> Tensor:
    """Correlation of each column of [S, N] with the mean of all columns -> [N]; 0 if either is constant."""
    columns, mean = rows - rows.mean(dim=0), rows.mean(dim=1) - rows.mean()
    return (columns.T @ mean / (columns.norm(dim=0) * mean.norm())).nan_to_num()


def _weighted_agreement(student: Tensor, teacher: Tensor, weights: Tensor) -> float:
    agrees = (student.argmax(dim=1) == teacher.argmax(dim=1)).to(weights.dtype)
    return ((weights * agrees).sum() / weights.sum()).item()


def _correlation(left: Tensor, right: Tensor) -> float:
    """Mean correlation over rows; 0 for a row that is constant over classes."""
    return F.cosine_similarity(left - left.mean(dim=1, keepdim=True), right - right.mean(dim=1, keepdim=True), dim=1).mean().item()


def _ranks(logits: Tensor) -> Tensor:
    """Ranks of each row's entries, from 0; equal entries share the mean of their ranks."""
    smaller = (logits[:, None, :] < logits[:, :, None]).sum(dim=2)
    equal = (logits[:, None, :] == logits[:, :, None]).sum(dim=2)
    return smaller + (equal - 1) / 2


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)
