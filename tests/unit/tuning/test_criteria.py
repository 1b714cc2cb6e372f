"""Criteria against test accuracy: ranks, pairs and regret of values that are known, and of what a store holds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mlflow.exceptions import MlflowException

from cpsc.answers import AnswerLog
from cpsc.criteria import CRITERIA
from tuning.outcome import Outcome
from tuning.report.criteria import CriterionRank, criteria_rows, rank_criteria
from tuning.results import Launch, TrialRecord

TEACHER = 3.0 * torch.eye(5).repeat(4, 1)


def agreeing_on(images: int) -> torch.Tensor:
    """Logits of a student that says what the teacher says of so many of the twenty images."""
    return torch.cat([TEACHER[:images], -TEACHER[images:]])


class Store:
    """Runs' answers as MLflow would hand them out; by run, the number of images that agree after each epoch."""

    def __init__(self, folder: Path, runs: dict[str, dict[int, int]]) -> None:
        self._folder, self._runs = folder, runs

    def download_artifacts(self, run_id: str, name: str, target: str) -> str:
        if run_id not in self._runs:
            raise MlflowException(f"no artifact {name}")
        log = AnswerLog(TEACHER)
        for epoch, images in self._runs[run_id].items():
            log.add(epoch, agreeing_on(images))
        log.save(Path(target) / name)
        return str(Path(target) / name)


def launch_of(accuracies: dict[str, dict[int, float]]) -> Launch:
    trials = [
        TrialRecord(number=number, run_id=run, outcome=Outcome.COMPLETED, reason="", params={}, curves={"test_accuracy": curve})
        for number, (run, curve) in enumerate(accuracies.items())
    ]
    return Launch(name="made", run_id="parent", objective="probe_agreement", epochs=3, trials=trials)


def ranks(folder: Path, answers: dict[str, dict[int, int]], accuracies: dict[str, dict[int, float]]) -> dict[str, CriterionRank]:
    client: Any = Store(folder, answers)
    return {rank.criterion: rank for rank in rank_criteria(client, launch_of(accuracies))}


def test_a_criterion_is_ranked_by_its_order_of_students(tmp_path: Path) -> None:
    """Agreement of 4, 10, 12 and 16 images; accuracies 0.2, 0.6, 0.5, 0.9: of six pairs one is in the wrong order."""
    found = ranks(tmp_path, {"a": {1: 4, 2: 10}, "b": {1: 12, 2: 16}}, {"a": {1: 0.2, 2: 0.6}, "b": {1: 0.5, 2: 0.9}})
    rank = found["probe agreement"]
    assert rank == CriterionRank("probe agreement", 4, pytest.approx(0.8), pytest.approx(1 / 6), pytest.approx(0.0))
    assert found.keys() == CRITERIA.keys() | {"agreement with other trials' students", "agreement on discriminating images"}
    assert [row[1] for row in criteria_rows([rank])] == ["0.800"]


def test_ties_are_wrong_pairs_and_the_first_of_them_is_the_pick(tmp_path: Path) -> None:
    rank = ranks(tmp_path, {"a": {1: 5, 2: 8, 3: 8}}, {"a": {1: 0.1, 2: 0.5, 3: 0.7}})["probe agreement"]
    assert rank.wrong_pairs == pytest.approx(1 / 3)
    assert rank.regret == pytest.approx(0.2)


def test_students_nearer_than_three_points_need_not_be_told_apart(tmp_path: Path) -> None:
    rank = ranks(tmp_path, {"a": {1: 9, 2: 8, 3: 7}}, {"a": {1: 0.50, 2: 0.51, 3: 0.52}})["probe agreement"]
    assert rank.wrong_pairs is None
    assert criteria_rows([rank])[0][2] == "-"
    assert rank.spearman == pytest.approx(-1.0)


def test_epochs_without_answers_or_accuracy_and_trials_without_a_file_are_left_out(tmp_path: Path) -> None:
    answers = {"a": {1: 4, 2: 8, 4: 19}, "b": {2: 12}}
    accuracies = {"a": {1: 0.2, 2: 0.4, 3: 0.5}, "b": {1: 0.3, 2: 0.6}, "gone": {1: 0.9}}
    rank = ranks(tmp_path, answers, accuracies)["probe agreement"]
    assert (rank.num_students, rank.spearman, rank.regret) == (3, pytest.approx(1.0), pytest.approx(0.0))


@pytest.mark.parametrize(
    "accuracies",
    [{}, {"a": {}}, {"a": {1: 0.2, 2: 0.4}}, {"a": {1: 0.4, 2: 0.4, 3: 0.4}}],
    ids=["no trials", "no labels", "two students", "all alike"],
)
def test_where_there_is_nothing_to_rank_there_is_no_table(accuracies: dict[str, dict[int, float]], tmp_path: Path) -> None:
    assert ranks(tmp_path, {"a": {1: 4, 2: 8, 3: 9}}, accuracies) == {}


def test_a_criterion_that_says_the_same_of_all_ranks_nothing(tmp_path: Path) -> None:
    found = ranks(tmp_path, {"a": {1: 20, 2: 20, 3: 20}}, {"a": {1: 0.1, 2: 0.5, 3: 0.7}})
    assert {rank.spearman for rank in found.values()} == {0.0}
    assert {rank.wrong_pairs for rank in found.values()} == {1.0}


def test_answers_to_other_images_than_the_first_trials_are_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path, {"a": {1: 4, 2: 8, 3: 9}})

    def download(run_id: str, name: str, target: str) -> str:
        if run_id == "a":
            return Store.download_artifacts(store, run_id, name, target)
        log = AnswerLog(TEACHER[:7])
        log.add(1, TEACHER[:7])
        log.save(Path(target) / name)
        return str(Path(target) / name)

    client: Any = SimpleNamespace(download_artifacts=download)
    launch = launch_of({"a": {1: 0.2, 2: 0.4, 3: 0.6}, "other": {1: 0.9}})
    assert {rank.num_students for rank in rank_criteria(client, launch)} == {3}


def test_examiners_criteria_are_there_of_a_single_run_too(tmp_path: Path) -> None:
    class Examined(Store):
        def download_artifacts(self, run_id: str, name: str, target: str) -> str:
            log = AnswerLog(TEACHER, torch.tensor([0] * 12 + [1] * 4 + [2] * 4), weights={1: 0.5, 2: 0.5})
            for epoch, images in self._runs[run_id].items():
                log.add(epoch, agreeing_on(images))
            log.save(Path(target) / name)
            return str(Path(target) / name)

    client: Any = Examined(tmp_path, {"a": {1: 4, 2: 11, 3: 20}})
    found = {rank.criterion: rank for rank in rank_criteria(client, launch_of({"a": {1: 0.2, 2: 0.5, 3: 0.9}}))}
    assert {"exam score", "exam score, held out", "agreement on examiners' images"} <= found.keys()
    assert found["exam score"].spearman == pytest.approx(1.0)
    assert "agreement with other trials' students" not in found
