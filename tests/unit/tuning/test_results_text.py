"""What `print` shows of a launch and of a sweep."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.studies import tiny_study, write_study
from tuning.outcome import Outcome
from tuning.report.console import print_summary
from tuning.results import Launch, SweepSummary, TrialRecord
from tuning.results.trial_record import CURVES
from tuning.study import load_study


def trial(number: int, outcome: Outcome | None, *scores: float) -> TrialRecord:
    curves: dict[str, dict[int, float]] = {curve: {} for curve in CURVES} | {
        "probe_agreement": dict(enumerate(scores, start=1)),
        "probe_kl": dict.fromkeys(range(1, len(scores) + 1), 0.25),
    }
    return TrialRecord(number=number, run_id=None, outcome=outcome, reason="", params={}, curves=curves)


LAUNCH = Launch(
    name="small-2",
    run_id=None,
    objective="probe_agreement",
    epochs=9,
    trials=[trial(4, Outcome.COMPLETED, 0.5, 0.75), trial(12, Outcome.PRUNED, 0.25)],
)


def test_a_launch_is_printed_as_a_table_and_sentences() -> None:
    assert str(LAUNCH).splitlines() == [
        "small-2: the best 2 of 2 trials",
        "trial    outcome  epochs  probe agreement  probe KL  test accuracy",
        "    4  completed       2          75.00 %    0.2500              -",
        "   12     pruned       1          25.00 %    0.2500              -",
        "2 trials done, 0 running, 3 epochs run, best 75.00 % (trial 4)",
        "chosen without a real image: trial 4 at epoch 2, probe_agreement 75.00 %, probe KL 0.2500",
    ]


def test_a_summary_says_what_it_took_and_where_the_student_is(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "study.yaml", tiny_study()))
    summary = SweepSummary(
        study=study, launch=LAUNCH, model_uri="models:/small@champion", num_undelivered=0, elapsed_s=20.4, tracking_share=0.1
    )
    *above, took, where = str(summary).splitlines()
    assert above == str(LAUNCH).splitlines()
    assert (took, where) == ("the sweep took 20 s", "the chosen student is registered as models:/small@champion")
    waiting = SweepSummary(study=study, launch=LAUNCH, model_uri=None, num_undelivered=7, elapsed_s=1, tracking_share=0)
    assert str(waiting).splitlines()[-2:] == [
        "no student is registered",
        "7 records wait in the journal for the tracking server; a resume delivers them",
    ]


def test_the_time_of_a_resumed_launch_has_that_of_its_earlier_attempts(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "study.yaml", tiny_study()))
    summary = SweepSummary(
        study=study, launch=LAUNCH, model_uri=None, num_undelivered=0, elapsed_s=20.4, tracking_share=0.1, earlier_s=600.0
    )
    assert "the sweep took 620 s" in str(summary).splitlines()
    printed = io.StringIO()
    print_summary(summary, Console(file=printed, width=200))
    assert "this attempt took 20 s, 10.00 % of it in tracking calls; with earlier attempts 620 s" in printed.getvalue().splitlines()


@pytest.mark.parametrize(("storage", "shown"), [("runs", "runs/small-2"), ("{elsewhere}/a b", "'{elsewhere}/a b/small-2'")])
def test_the_way_to_the_ui_is_the_launch_as_seen_from_the_working_directory(
    storage: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the study file: what ``--set`` changed is not in it."""
    elsewhere, working = tmp_path / "elsewhere", tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    file = write_study(tmp_path / "study.yaml", tiny_study())
    study = load_study(file, [f"storage={storage.format(elsewhere=elsewhere)}"])
    printed = io.StringIO()
    print_summary(
        SweepSummary(study=study, launch=LAUNCH, model_uri=None, elapsed_s=1, num_undelivered=0, tracking_share=0),
        Console(file=printed, width=200),
    )
    assert f"look at it with: cpsc-tune ui {shown.format(elsewhere=elsewhere)}" in printed.getvalue().splitlines()
