"""Defaults of teacher and probe set that adapt if they conflict with what the study file sets."""

from collections.abc import Mapping
from typing import Any

from cpsc.kinds import is_count
from cpsc.presets import short_warm_up
from cpsc.probe import ProbeConfig
from cpsc.teacher_training import TeacherRecipe

FEWEST_ALIKE = 20
"""Fewest images in a default batch of the probe set: their statistics are matched together, and fewer images say too little."""


def fitting_recipe(raw: Mapping[Any, Any]) -> dict[Any, Any]:
    """The teacher's recipe as written; without a warm-up of its own it gets one that fits into its epochs."""
    epochs = raw.get("epochs")
    if "warmup_epochs" in raw or not is_count(epochs) or epochs >= TeacherRecipe.warmup_epochs:
        return dict(raw)
    return {**raw, "warmup_epochs": short_warm_up(epochs)}


def fitting_probe(raw: Any, *, num_classes: int) -> Any:
    """``probe`` as written; if it does not set both sizes, they are chosen to fit together and to cover every class.

    A batch has labels of as many classes as it has images, the same in every batch.
    """
    if not isinstance(raw, Mapping) or {"num_images", "batch_size"} <= raw.keys():
        return raw
    if "batch_size" in raw:
        batch = raw["batch_size"]
        return {**raw, "num_images": _filled(ProbeConfig.num_images, batch)} if is_count(batch) else raw
    wanted = max(ProbeConfig.batch_size, num_classes)
    images = raw.get("num_images", _filled(ProbeConfig.num_images, wanted))
    if not is_count(images) or (batch := _largest_divisor(images, wanted)) == ProbeConfig.batch_size:
        return raw
    return {**raw, "num_images": images, "batch_size": batch} if batch >= min(images, FEWEST_ALIKE) else raw


def _filled(images: int, batch: int) -> int:
    """`images`, rounded up to whole batches."""
    return -(-images // batch) * batch


def _largest_divisor(images: int, most: int) -> int:
    return next(size for size in range(min(images, most), 0, -1) if images % size == 0)
