"""Selection of a run's result among its epochs: one rule, for runs as they train and for records of them."""

from collections.abc import Mapping

CURVES = ("exam_score", "probe_overlap", "probe_agreement", "test_accuracy")
"""What a student may be chosen by."""


def best_epoch(objective: Mapping[int, float], probe_kl: Mapping[int, float]) -> int:
    """The epoch with the highest objective; of equal ones that with the lower probe KL, and of those the first.

    Both by epoch; `objective` must not be empty.
    """
    return max(objective, key=lambda epoch: (objective[epoch], -probe_kl.get(epoch, 0.0), -epoch))
