"""Ground of a search: figures of teacher and probe set, and floors below which agreement with the teacher says little or nothing.

A student is compared with its teacher on the teacher's probe set. If the teacher does not recognise those images, gives all of them
one class, or cannot distinguish the classes, students agree with it by chance, and a search finds the luckiest one. Floors are
measured from what guessing gives, and a share counts as beyond a floor only if there are enough images to be sure. docs/ground.md
says how they were found.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

DOUBT = 1e-3
"""A figure is surely beyond a floor if luck would bring it there in less than this share of all cases."""
RECOGNISED, WELL_RECOGNISED = 0.2, 0.6
"""Floors of the label rate, as fractions of the way from guessing to certainty: the set is useless below the first, poor below
the second."""
MOST_OF_ONE_CLASS, MUCH_OF_ONE_CLASS = 0.9, 0.5
NO_MARGIN, SMALL_MARGIN = 0.01, 0.1
"""Nats between the two likeliest classes, for half of the images: 1 % and 10 % difference in probability."""
LARGEST_MARGIN = 126 * math.log(2)
"""Nats beyond which the probability of the second class is too small for float32, whose smallest normal number is 2 ** -126."""
SAME, ALIKE = 1.0, 20.0
"""Grey levels, root mean square over pixels, between an image and its nearest other image."""
MUCH_AT_BOUNDS = 0.5
PREFIX = "ground."


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A figure that puts the ground in doubt. `is_fatal`: a search on it would not give a meaningful result."""

    name: str
    figure: str
    floor: str
    meaning: str
    remedy: str
    is_fatal: bool = False

    def __str__(self) -> str:
        return f"{self.figure} ({self.floor}): {self.meaning}; try {self.remedy}"


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the teacher says about its probe set, and other figures that show whether the two are usable."""

    num_images: int
    num_classes: int
    label_rate: float
    """Share of the images that the teacher gives the class they were made for."""
    confidence: float
    """Mean probability of the class that it gives."""
    margin: float
    """Nats between its two likeliest classes, for the median image."""
    largest_class: float
    """Share of the images that it gives its commonest class: the agreement of a student that always answers that class."""
    num_unasked: int
    """Number of classes that no image was made for."""
    num_lost: int
    """Number of classes that the teacher gives to none of the images made for them, if that is not bad luck."""
    finite: float
    """Share of the images on which its answers are finite."""
    variety: float
    """Grey levels between an image and its nearest other image, for the median image."""
    at_bounds: float
    """Share of pixels that are black or white."""
    untouched_norms: float
    """Share of its batch norms that still have their initial mean 0 and variance 1; 0 if it has none."""
    num_test: int
    """Number of labelled images that it and its students are measured on; 0: none."""
    teacher_accuracy: float | None
    """Its accuracy on those; None if unknown."""

    def to_params(self) -> dict[str, str]:
        """As parameters for the record of a launch."""
        return {f"{PREFIX}{name}": f"{value:.6g}" for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> "Ground | None":
        """Read what `to_params` wrote; None if a record does not have it, like those of earlier versions."""
        try:
            counts = {field.name: int(params[PREFIX + field.name]) for field in fields(cls) if field.type is int}
            shares = {field.name: float(params[PREFIX + field.name]) for field in fields(cls) if field.type is float}
            known = params.get(f"{PREFIX}teacher_accuracy")
            return cls(**counts, **shares, teacher_accuracy=None if known is None else float(known))  # type: ignore[arg-type]
        except (KeyError, ValueError):
            return None

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 1.0 / self.num_classes


def is_surely_below(share: float, floor: float, num: int) -> bool:
    """Whether a share of `num` draws shows that the true share is below `floor`: Chernoff's bound (Hoeffding 1963, eq. 2.1)."""
    return share < floor and num * _divergence(share, floor) > -math.log(DOUBT)


def is_surely_above(share: float, floor: float, num: int) -> bool:
    """The same for a true share above `floor`."""
    return is_surely_below(1.0 - share, 1.0 - floor, num)


def _divergence(one: float, other: float) -> float:
    """KL divergence of two coins, in nats; `other` may be 0 or 1."""
    parts = ((one, other), (1.0 - one, 1.0 - other))
    return sum(p * math.log(p / q) if q > 0.0 else math.inf for p, q in parts if p > 0.0)


def findings(ground: Ground) -> list[Finding]:
    """What puts `ground` in doubt, the worst first; empty if it is sound."""
    judges = (
        _not_finite,
        _label_rate,
        _class_balance,
        _confidence,
        _variety,
        _lost_classes,
        _unasked_classes,
        _at_bounds,
        _untouched_norms,
        _teacher_accuracy,
    )
    found = [finding for judge in judges if (finding := judge(ground)) is not None]
    return sorted(found, key=lambda finding: not finding.is_fatal)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _not_finite(ground: Ground) -> Finding | None:
    if ground.finite == 1.0:
        return None
    return Finding(
        name="not_finite",
        figure=f"the teacher answers NaN or infinity on {_percent(1.0 - ground.finite)} of the probe set",
        floor="floor: none",
        meaning="no student can be compared with that",
        remedy="another file with its weights, or training it again with a lower lr",
        is_fatal=True,
    )


def _label_rate(ground: Ground) -> Finding | None:
    chance, rate = ground.chance, ground.label_rate
    floor, good = (chance + share * (1.0 - chance) for share in (RECOGNISED, WELL_RECOGNISED))
    if rate >= good:
        return None
    fatal = is_surely_below(rate, floor, ground.num_images)
    return Finding(
        name="label_rate",
        figure=f"the teacher gives {_percent(rate)} of {ground.num_images} probe images the class they were made for",
        floor=f"floor {_percent(floor)}, good from {_percent(good)}, guessing gives {_percent(chance)}",
        meaning="it does not recognise its own probe set, and agreement there says " + ("nothing" if fatal else "little"),
        remedy="more probe.steps, another probe.lr or less probe.batch_statistics; else its weights, normalisation and image_size",
        is_fatal=fatal,
    )


def _class_balance(ground: Ground) -> Finding | None:
    share = ground.largest_class
    if share <= max(MUCH_OF_ONE_CLASS, 1.5 * ground.chance):
        return None
    fatal = is_surely_above(share, MOST_OF_ONE_CLASS, ground.num_images)
    return Finding(
        name="class_balance",
        figure=f"the teacher gives {_percent(share)} of {ground.num_images} probe images one class",
        floor=f"a student that always answers that class agrees as often, limit {_percent(MOST_OF_ONE_CLASS)}",
        meaning="a student that has learned nothing gets that agreement, too",
        remedy="the bias of its last layer and its normalisation, or more probe.steps",
        is_fatal=fatal,
    )


def _confidence(ground: Ground) -> Finding | None:
    if SMALL_MARGIN <= ground.margin <= LARGEST_MARGIN:
        return None
    if ground.margin < SMALL_MARGIN:
        meaning, when = "its probabilities do not distinguish classes, and any flat student overlaps with them", "after"
    else:
        meaning, when = "the probability of its second class is too small for float32, so its answers are bare labels", "before"
    return Finding(
        name="confidence",
        figure=f"the teacher's two likeliest classes are {ground.margin:.2g} nats apart, "
        f"its mean confidence is {_percent(ground.confidence)}",
        floor=f"floor {NO_MARGIN:g}, good from {SMALL_MARGIN:g} to {LARGEST_MARGIN:.0f}",
        meaning=meaning,
        remedy=f"the scale of its logits: it may have been saved {when} a division by a temperature",
        is_fatal=ground.margin < NO_MARGIN,
    )


def _variety(ground: Ground) -> Finding | None:
    if ground.variety >= ALIKE:
        return None
    return Finding(
        name="variety",
        figure=f"half of the probe images have another within {ground.variety:.2g} grey levels",
        floor=f"floor {SAME:g}, good from {ALIKE:g}",
        meaning="they are " + ("one image many times" if ground.variety < SAME else "nearly identical, or lack contrast"),
        remedy="the teacher's normalisation, whose std scales its pixels; less probe.total_variation and probe.image_norm",
        is_fatal=ground.variety < SAME,
    )


def _lost_classes(ground: Ground) -> Finding | None:
    if not ground.num_lost:
        return None
    return Finding(
        name="lost_classes",
        figure=f"the teacher never sees {ground.num_lost} of its {ground.num_classes} classes in the images made for them",
        floor="floor: none lost",
        meaning="nothing is known about these classes, and students will not learn them",
        remedy="its list of classes and the bias of its last layer; if it never learned them, name the classes it has",
    )


def _unasked_classes(ground: Ground) -> Finding | None:
    if not ground.num_unasked:
        return None
    return Finding(
        name="unasked_classes",
        figure=f"the probe set has no image for {ground.num_unasked} of {ground.num_classes} classes",
        floor="floor: one image per class",
        meaning="what students know about these classes does not count",
        remedy="a larger probe.num_images, or, if it is large enough, deleting its file so that it is made again",
    )


def _at_bounds(ground: Ground) -> Finding | None:
    if ground.at_bounds <= MUCH_AT_BOUNDS:
        return None
    return Finding(
        name="at_bounds",
        figure=f"{_percent(ground.at_bounds)} of the probe set's pixels are black or white",
        floor=f"limit {_percent(MUCH_AT_BOUNDS)}",
        meaning="its pixels are stuck at their bounds, where further steps do not move them",
        remedy="the teacher's normalisation, or a lower probe.lr",
    )


def _untouched_norms(ground: Ground) -> Finding | None:
    if not ground.untouched_norms:
        return None
    return Finding(
        name="untouched_norms",
        figure=f"{_percent(ground.untouched_norms)} of the teacher's batch norms have the mean 0 and variance 1 of a new one",
        floor="floor: none",
        meaning="they have seen no images or lost their statistics, and images inverted towards them look like nothing it knows",
        remedy="a file with its buffers (running_mean, running_var), or probe.batch_statistics and weights.batch_statistics of 0",
    )


def _teacher_accuracy(ground: Ground) -> Finding | None:
    accuracy, num = ground.teacher_accuracy, ground.num_test
    if accuracy is None or not num or is_surely_above(accuracy, ground.chance, num):
        return None
    return Finding(
        name="teacher_accuracy",
        figure=f"the teacher's own test accuracy is {_percent(accuracy)}",
        floor=f"guessing gives {_percent(ground.chance)}, give or take what {num} images can tell",
        meaning="it knows nothing that a student could learn",
        remedy="longer training, or another teacher",
    )
