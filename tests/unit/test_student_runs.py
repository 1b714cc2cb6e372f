"""The file that keeps the figures of the bench `minutes`."""

from pathlib import Path

import pytest

from tests.benchmarks.student_runs import ACCURACY, COSTS, RunKey, RunRecord, StudentRun, cost_row, spread_after


def run(method: str, seed: int, accuracies: list[float], *, chosen: int, seconds: float) -> StudentRun:
    epochs = range(1, len(accuracies) + 1)
    costs = {name: dict.fromkeys(epochs, 2000.0) for name in COSTS} | {"train_s": dict.fromkeys(epochs, seconds)}
    return StudentRun(RunKey(10.0, method, seed), chosen, {ACCURACY: dict(zip(epochs, accuracies, strict=True)), **costs})


def test_runs_are_read_as_they_were_and_others_can_be_added(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    first, second = run("dfq", 1, [0.1234, 0.5], chosen=2, seconds=250.5), run("cpsc", 0, [0.25], chosen=1, seconds=300.0)
    RunRecord(path).add(first)
    later = RunRecord(path)
    assert later.runs == {first.key: first}
    later.add(second)
    assert RunRecord(path).runs == {first.key: first, second.key: second}
    assert [line.split(",")[1] for line in path.read_text().splitlines()] == ["method", "cpsc", "dfq", "dfq"]


def test_other_seeds_have_as_many_epochs_as_the_first(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "runs.csv")
    record.add(run("dfq", 1, [0.1, 0.5, 0.4], chosen=2, seconds=1.0))
    assert record.epochs_of("dfq", 10.0) == 3
    assert record.epochs_of("dfq", 30.0) is None
    assert record.epochs_of("cpsc", 10.0) is None


def test_without_a_file_runs_are_kept_in_memory() -> None:
    record = RunRecord(None)
    record.add(only := run("dfq", 1, [0.1], chosen=1, seconds=1.0))
    assert record.runs == {only.key: only}


def test_a_row_has_the_last_student_the_chosen_one_and_means_over_seeds() -> None:
    runs = [run("dfq", 0, [0.5, 0.4], chosen=1, seconds=100.0), run("dfq", 1, [0.5, 0.6], chosen=2, seconds=200.0)]
    assert [made.last for made in runs] == pytest.approx([40.0, 60.0])
    assert [made.chosen for made in runs] == pytest.approx([50.0, 60.0])
    cells = cost_row("dfq", runs).strip("| ").split(" | ")
    assert cells[:2] == ["dfq", "2"]
    assert "50.0" in cells[2]
    assert cells[4:] == ["300", "4000", "4000", "4", "4", "0.0"]


def test_a_student_counts_from_the_end_of_its_epoch_on() -> None:
    made = run("dfq", 0, [0.5, 0.4], chosen=1, seconds=100.0)
    assert made.after(99.0) is None
    assert made.after(100.0) == pytest.approx(50.0)
    assert made.after(1000.0) == pytest.approx(40.0)
    assert spread_after([made], 1.0) == "-"
