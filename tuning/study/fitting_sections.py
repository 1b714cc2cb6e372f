"""Defaults of teacher and probe set that give way where they could not stand beside what the study file says."""

from collections.abc import Mapping
from typing import Any

from cpsc.kinds import is_count
from cpsc.presets import short_warm_up
from cpsc.probe import ProbeConfig
from cpsc.teacher import TeacherRecipe

FEWEST_ALIKE = 20
"""Images of a batch of the probe set, whose statistics are matched together: fewer say too little to be chosen unasked."""


def fitting_recipe(raw: Mapping[Any, Any]) -> dict[Any, Any]:
    """A teacher's recipe, as written, with a warm-up that its epochs hold, where it names none."""
    epochs = raw.get("epochs")
    if "warmup_epochs" in raw or not is_count(epochs) or epochs >= TeacherRecipe.warmup_epochs:
        return dict(raw)
    return {**raw, "warmup_epochs": short_warm_up(epochs)}


def fitting_probe(raw: Any, *, num_classes: int) -> Any:
    """``probe``, as written, with sizes that go together and hold every class, where it does not name both.

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
    """`images`, or as many more as fill whole batches."""
    return -(-images // batch) * batch


def _largest_divisor(images: int, most: int) -> int:
    return next(size for size in range(min(images, most), 0, -1) if images % size == 0)
