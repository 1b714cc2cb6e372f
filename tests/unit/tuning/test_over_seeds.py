"""Groups of trials that differ in their seed: what is counted, averaged and shown of each."""

import pytest

from tuning.outcome import Outcome
from tuning.report.seed_table import comparison_table, group_trials, spread
from tuning.results import Launch, TrialRecord


def trial(
    number: int, method: str, accuracies: list[float], *, outcome: Outcome = Outcome.COMPLETED, metric: str = "test_accuracy"
):
    epochs = range(1, len(accuracies) + 1)
    curves = {
        "probe_agreement": {},
        "test_accuracy": {},
        "epoch_s": dict.fromkeys(epochs, 2.0 + number),
        "generation_s": dict.fromkeys(epochs, 1.5),
        "distillation_images": dict.fromkeys(epochs, 640.0),
        "replay_bytes": dict.fromkeys(epochs, 1.5e6 * number),
    }
    curves[metric] = dict(zip(epochs, accuracies, strict=True))
    return TrialRecord(
        number=number, run_id=None, outcome=outcome, reason="", params={"method": method, "seed": str(number)}, curves=curves
    )


def launch(*trials: TrialRecord) -> Launch:
    return Launch(name="methods", run_id=None, objective="probe_agreement", epochs=3, trials=trials)


def cells(found: Launch, *, target: float = 0.95) -> dict[str, list[str]]:
    table = comparison_table(found, ["method"], target=target)
    return {str(column.header): list(map(str, column.cells)) for column in table.columns}


def test_trials_with_equal_values_are_one_group_in_the_order_of_their_first_trial() -> None:
    groups = group_trials(launch(trial(2, "dafl", [0.5]), trial(1, "cpsc", [0.5]), trial(0, "dafl", [0.5])), ["method"])
    assert [(group.values, [record.number for record in group.trials]) for group in groups] == [
        (("dafl",), [0, 2]),
        (("cpsc",), [1]),
    ]


def test_a_trial_that_did_not_complete_is_counted_and_not_averaged() -> None:
    shown = cells(launch(trial(0, "cpsc", [0.9]), trial(1, "cpsc", [0.1], outcome=Outcome.DIVERGED)))
    assert shown["trials"] == ["1 (1 not completed)"]
    assert shown["last"] == ["90.00"]


def test_a_group_of_failures_alone_has_no_figures() -> None:
    shown = cells(launch(trial(0, "cpsc", [0.9]), trial(1, "dafl", [0.1], outcome=Outcome.FAILED)))
    assert shown["last"] == ["90.00", "-"]


def test_figures_are_means_and_sample_deviations_over_trials() -> None:
    shown = cells(launch(trial(0, "cpsc", [0.80, 0.98, 0.96]), trial(1, "cpsc", [0.90, 0.94, 0.92])))
    assert shown["last"] == ["94.00 ± 2.83"]
    assert shown["best"] == ["96.00 ± 2.83"]
    assert shown["mean over epochs"] == ["91.67 ± 0.47"]
    assert shown["deviation over epochs"] == ["4.84"]
    assert shown["of the 2nd half"] == ["1.00"]
    assert shown["epochs to 95 %"] == ["2.0 (1 of 2)"]
    assert shown["seconds"] == ["8 ± 2"]
    assert shown["seconds for images"] == ["4"]
    assert shown["thousand image-steps for the student"] == ["2"]
    assert shown["seconds for the student"] == ["-"]  # as in the record of an earlier version
    assert shown["replay MB"] == ["1.50"]


def test_a_target_that_nobody_reaches_is_said() -> None:
    assert cells(launch(trial(0, "cpsc", [0.8])), target=0.9)["epochs to 90 %"] == ["never"]


def test_without_labels_the_probe_agreement_is_compared() -> None:
    found = launch(trial(0, "cpsc", [0.7], metric="probe_agreement"))
    assert cells(found)["last"] == ["70.00"]
    assert "probe agreement" in str(comparison_table(found, ["method"], target=0.95).title)


@pytest.mark.parametrize(("values", "text"), [([1.0], "1.00"), ([1.0, 3.0], "2.00 ± 1.41")])
def test_a_single_value_has_no_spread(values: list[float], text: str) -> None:
    assert spread(values) == text
