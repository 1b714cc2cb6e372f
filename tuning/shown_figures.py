"""A trial's result as people write it, with one heading for leaderboard, MLflow and registry.

MLflow's table prints a metric with all its digits, and its last value: there the result is in tags, those of the best epoch.
"""

from collections.abc import Mapping

from tuning.display import percent

NONE = "-"
EPOCHS_TAG = "epochs"


def shown_names(objective: str) -> dict[str, str]:
    """By metric the tag that shows it: the blind score, the probe set's KL divergence, the test accuracy where there are labels."""
    blind = "probe_agreement" if objective == "test_accuracy" else objective
    return {metric: shown_name(metric) for metric in (blind, "probe_kl", "test_accuracy")}


def shown_name(metric: str) -> str:
    """As the report heads its column."""
    return metric.replace("_", " ").replace("kl", "KL")


def shown_figures(metrics: Mapping[str, float], objective: str) -> dict[str, str]:
    """The tags of those that are among `metrics`, an epoch's."""
    known = {metric: name for metric, name in shown_names(objective).items() if metric in metrics}
    return {name: shown_value(metric, metrics[metric]) for metric, name in known.items()}


def no_figures(objective: str) -> dict[str, str]:
    """The tags of a trial without a result."""
    return dict.fromkeys(shown_names(objective).values(), NONE)


def shown_value(metric: str, value: float | None) -> str:
    """A share in percent; a divergence is none; a dash where there is nothing."""
    if value is None:
        return NONE
    return f"{value:.4f}" if metric == "probe_kl" else percent(value)
