"""Survey of a search's ground: evaluates the teacher once on its probe set and examines both."""

import math

import torch
from torch import Tensor, nn

from cpsc.ground import DOUBT, Ground
from cpsc.metrics import accuracy, predict
from cpsc.probe import ProbeSet
from cpsc.statistics import batch_norms, keeps_statistics
from cpsc.teacher import Teacher

MOST_COMPARED = 1000


def survey_ground(teacher: Teacher, probe: ProbeSet, device: torch.device, *, num_test: int = 0) -> Ground:
    """Evaluate `teacher` once on its `probe` set. `num_test`: number of available labelled images, which are not used here."""
    network = teacher.build(device)
    logits = predict(network, teacher.normalisation.normalise(probe.images.to(device))).cpu()
    finite = logits.isfinite().all(dim=1)
    counts = torch.bincount(logits.argmax(dim=1), minlength=teacher.num_classes)
    rate = accuracy(logits, probe.labels)
    return Ground(
        num_images=len(probe.images),
        num_classes=teacher.num_classes,
        label_rate=rate,
        confidence=_mean(logits.softmax(dim=1).amax(dim=1)[finite]),
        margin=_margin(logits[finite]),
        largest_class=counts.max().item() / len(logits),
        num_unasked=teacher.num_classes - len(probe.labels.unique()),
        num_lost=_num_lost(logits.argmax(dim=1), probe.labels, rate, teacher.num_classes),
        finite=_mean(finite.float()),
        variety=variety(probe.images),
        at_bounds=_mean(((probe.images == 0) | (probe.images == 255)).float()),
        untouched_norms=_untouched(network),
        num_test=num_test,
        teacher_accuracy=teacher.test_accuracy if num_test else None,
    )


def _mean(values: Tensor) -> float:
    return values.mean().item() if len(values) else 0.0


def _margin(logits: Tensor) -> float:
    if not len(logits):
        return 0.0
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    return (first - second).median().item()


def _num_lost(given: Tensor, asked: Tensor, rate: float, num_classes: int) -> int:
    """How many classes are recognised in none of their images although, at the mean `rate`, that would hardly ever happen."""
    sizes = torch.bincount(asked, minlength=num_classes)
    hits = torch.bincount(asked[given == asked], minlength=num_classes)
    luck = (1.0 - rate) ** sizes.double()
    return int(((sizes > 0) & (hits == 0) & (luck < DOUBT / num_classes)).sum())


def variety(images: Tensor) -> float:
    """Root mean square difference, in grey levels, of an image of [N, K, H, W] to its nearest; median of the first thousand."""
    if len(images) < 2:
        return math.inf
    flat = images[:MOST_COMPARED].flatten(1).float()
    distances = torch.cdist(flat, flat).fill_diagonal_(math.inf)
    return distances.amin(dim=1).median().item() / math.sqrt(flat.shape[1])


def _untouched(network: nn.Module) -> float:
    layers = [layer for layer in batch_norms(network).values() if keeps_statistics(layer)]
    return sum(map(_is_untouched, layers)) / len(layers) if layers else 0.0


def _is_untouched(layer: nn.Module) -> bool:
    return not layer.get_buffer("running_mean").any() and bool((layer.get_buffer("running_var") == 1.0).all())
