"""Selection of a run's best epoch: one rule, for runs in training and for their records."""

from collections.abc import Mapping

CURVES = ("exam_score", "probe_overlap", "probe_agreement", "test_accuracy")
"""The metrics that a student may be chosen by."""


def best_epoch(objective: Mapping[int, float], probe_kl: Mapping[int, float]) -> int:
    """The epoch with the highest objective; ties go to the lower probe KL, then to the earlier epoch.

    Both arguments map epochs to values; `objective` must not be empty.
    """
    return max(objective, key=lambda epoch: (objective[epoch], -probe_kl.get(epoch, 0.0), -epoch))
