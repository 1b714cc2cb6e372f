"""What MLflow's UI says of a study, a launch and its trials: what is so at that stage, and how to go on from there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import Kind, made
from tests.support.studies import tiny_study
from tuning.launch import Journal
from tuning.launch.events import AttemptStart, Epoch, LaunchEnd, LaunchStart, TrialEnd, TrialStart
from tuning.outcome import Outcome
from tuning.study.config import resolve_study
from tuning.sweep.launch_notes import MAX_NOTE, LaunchNotes

Append = Callable[..., None]
METRICS = {"best_epoch": 1.0, "probe_agreement": 0.75, "best_probe_agreement": 0.75, "probe_kl": 0.5, "test_accuracy": 0.5}


@pytest.fixture
def launch(tmp_path: Path) -> tuple[LaunchNotes, Append]:
    """The notes of a launch that has begun, and what adds an event to it."""
    study = resolve_study(tiny_study() | {"storage": str(tmp_path)})
    (tmp_path / "tiny").mkdir()
    journal = Journal(tmp_path / "tiny")

    def append(kind: type[Kind], **fields: Any) -> None:
        journal.append(made(kind, **fields))

    append(LaunchStart)
    append(AttemptStart)
    return LaunchNotes(journal, study, "tiny"), append


def test_a_launch_is_told_as_it_is_at_every_stage(launch: tuple[LaunchNotes, Append]) -> None:
    notes, append = launch
    assert "**Running, as of 1970-01-01 00:00 UTC: 0 trials begun, none has ended" in notes.launch()
    assert "So far no trial has a result." in notes.launch()
    append(TrialStart, point={"weights.l2": 1.23456})
    append(Epoch, epoch=1, metrics=METRICS)
    assert "1 trials begun, 1 under way, 1 epochs run" in notes.launch()
    assert "So far chosen without a real image: trial 0 at epoch 1" in notes.launch()
    append(TrialEnd, outcome=Outcome.INTERRUPTED, epoch=1)
    append(LaunchEnd, status="KILLED")
    assert "**Interrupted, " in notes.launch()
    assert "continues where it stopped" in notes.launch()
    append(AttemptStart, attempt=1)
    append(TrialStart, point={"weights.l2": 1.23456})
    assert "**Running, " in notes.launch()
    append(TrialEnd, epoch=9)
    append(LaunchEnd)
    text = notes.launch()
    assert "**Finished, " in text
    assert "| 0 | completed | 1 | 75.00 % | 0.5000 | 50.00 % |" in text
    assert "Chosen without a real image: trial 0 at epoch 1, probe agreement 75.00 %, probe KL 0.5000; its test accuracy" in text
    assert "--num-trials 8` adds trials" in text
    assert "continues where it stopped" not in text


def test_a_study_says_what_is_searched_and_what_was_found(launch: tuple[LaunchNotes, Append]) -> None:
    notes, append = launch
    append(LaunchEnd)
    text = notes.study()
    assert "| weights.l2 | loguniform(0.1, 10) |" in text
    assert "4 trials of up to 3 epochs, sampler `tpe`, poor ones ended early by ASHA. Chosen by how often" in text
    assert text.startswith("No trial has a result. Launch `tiny`. Finished, as of"), "the UI shows the first lines only"


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (None, "**Begun**; how it ended is written here once it has."),
        (Outcome.COMPLETED, "**Completed**, all 9 epochs."),
        (Outcome.PRUNED, "**Pruned** after epoch 1 of 9: others were better there."),
        (Outcome.DIVERGED, "**Diverged** after epoch 1 of 9: no / number. The search is told"),
        (Outcome.FAILED, "**Failed** after epoch 1 of 9: no / number. That says nothing about its values."),
        (Outcome.INTERRUPTED, "**Interrupted** after epoch 1 of 9: no / number. A resume continues it."),
    ],
)
def test_a_trial_says_how_it_ended(launch: tuple[LaunchNotes, Append], outcome: Outcome | None, says: str) -> None:
    notes, append = launch
    append(TrialStart, point={"weights.l2": 1.23456})
    append(Epoch, epoch=1, metrics=METRICS)
    if outcome is not None:
        append(TrialEnd, outcome=outcome, epoch=1, reason="no |\nnumber" if "**" in says and "no /" in says else "")
    text = notes.trial(0)
    assert says in text
    assert "| weights.l2 | 1.23 |" in text
    has_result = outcome not in (None, Outcome.DIVERGED)
    assert ("Best at epoch 1: probe agreement 75.00 %, probe KL 0.5000, test accuracy 50.00 %." in text) == has_result
    assert ("cpsc-tune replay tiny:0" in text) == (outcome is not None)


def test_what_a_journal_says_of_trials_that_never_started_is_passed_over(launch: tuple[LaunchNotes, Append]) -> None:
    notes, append = launch
    append(Epoch, number=7, epoch=1, metrics=METRICS)
    append(TrialEnd, number=7, epoch=1)
    assert notes.trial(7) == ""
    assert "0 trials begun" in notes.launch()


def test_a_note_is_no_longer_than_a_tag_may_be(launch: tuple[LaunchNotes, Append]) -> None:
    notes, append = launch
    append(TrialStart, point={f"parameter_{number}": "x" * 400 for number in range(30)})
    assert len(notes.trial(0)) == MAX_NOTE
