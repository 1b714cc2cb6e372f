"""Arms compared on a record: what each holds when, by what target, as text and as numbers; and the command line."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cpsc.errors import ConfigError
from tests.support.command_line import call_cli
from tests.support.curves import drawn_record
from tests.support.events import made
from tests.support.studies import tiny_study, write_study
from tuning import simulate
from tuning.launch.events import Epoch, Event, TrialEnd
from tuning.outcome import Outcome
from tuning.simulation.arms import Arm
from tuning.simulation.comparison import NEVER, ArmRun, Comparison
from tuning.simulation.holding import Held, first_as_good, held_students
from tuning.simulation.lookup import CurveLookup
from tuning.simulation.tables import comparison_figures, quartiles
from tuning.study.config import resolve_study

Raw = dict[str, Any]


def epoch(number: int, at: float, score: float, accuracy: float, *, kl: float = 0.5) -> Epoch:
    metrics = {"probe_agreement": score, "test_accuracy": accuracy, "probe_kl": kl}
    return made(Epoch, number=number, time=at, epoch=1, metrics=metrics)


def test_held_is_the_highest_score_whatever_its_test_accuracy() -> None:
    events = [epoch(0, 1.0, 0.5, 0.9), epoch(1, 2.0, 0.4, 0.95), epoch(1, 3.0, 0.6, 0.8), epoch(0, 4.0, 0.6, 0.7, kl=0.4)]
    assert held_students(events, "probe_agreement") == [Held(1, 1.0, 0.9), Held(3, 3.0, 0.8), Held(4, 4.0, 0.7)]


def test_what_diverges_is_held_no_longer() -> None:
    gone = made(TrialEnd, number=1, time=3.0, epoch=2, outcome=Outcome.DIVERGED)
    events: list[Event] = [epoch(0, 1.0, 0.5, 0.6), epoch(1, 2.0, 0.9, 0.9), gone]
    assert held_students(events, "probe_agreement")[-1] == Held(2, 3.0, 0.6)


def test_as_good_is_reached_once_even_where_it_is_given_up_again() -> None:
    held = [Held(1, 1.0, 0.6), Held(3, 2.5, 0.9), Held(7, 6.0, 0.8)]
    assert first_as_good(held, 0.7) == held[1]
    assert first_as_good(held, 0.95) is None


@pytest.mark.parametrize("text", ["random", "tpe+asha", "tpe+2-epoch", "gp+1-epoch:40", "tpe+transfer", "prior+asha+misled+stop-8"])
def test_an_arm_is_its_own_name(text: str) -> None:
    assert str(Arm.parse(text)) == text


@pytest.mark.parametrize("text", ["tpe+", "tpe+none"])
def test_no_pruning_need_not_be_said(text: str) -> None:
    assert Arm.parse(text) == Arm("tpe")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("tpe+ahsa", "did you mean asha"),
        ("tpe+0-epoch", "1-epoch"),
        ("tpe+x", "name SAMPLER"),
        ("tpe+asha+transfr", "did you mean transfer"),
        ("tpe+stop-0", "did you mean stop-10"),
        ("tpe+asha+1-epoch", "unknown there"),
        ("tpe+transfer+misled", "unknown there"),
    ],
)
def test_an_unknown_arm_is_told(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        Arm.parse(text)


@pytest.mark.parametrize(
    ("text", "num_trials", "budget"),
    [("random", 4, None), ("tpe+asha", 36, 36), ("tpe+1-epoch", 6, None), ("tpe+2-epoch:7", 7, None)],
)
def test_an_arm_has_the_trials_that_the_budget_holds(tmp_path: Path, raw: Raw, text: str, num_trials: int, budget: int) -> None:
    raw["search"] = {"num_trials": 6}
    arm = Arm.parse(text)
    study = arm.within(arm.load(write_study(tmp_path / "study.yaml", raw), []), 36, 5)
    assert (study.search.num_trials, study.search.epoch_budget, study.search.seed) == (num_trials, budget, 5)
    assert (study.search.sampler, study.prune.scheduler) == (arm.sampler, arm.pruning)


def compare(raw: Raw, path: Path, *arms: str, seeds: int = 3, **options: Any) -> dict[str, list[ArmRun]]:
    study, file = resolve_study(raw), write_study(path / "study.yaml", raw)
    record = drawn_record(study, 30)
    comparison = Comparison(record, CurveLookup(record, study.space), epochs=36, workers=2, objective=study.objective)
    studies = {arm: arm.load(file, []) for arm in map(Arm.parse, arms)}
    return {str(arm): runs for arm, runs in comparison.run(studies, range(seeds), **options).items()}


def test_the_first_arm_reaches_its_own_target_and_all_have_the_same_budget(raw: Raw, tmp_path: Path) -> None:
    raw["search"] = {"num_trials": 4}
    found = compare(raw, tmp_path, "random", "random+asha", "tpe+asha", "random+1-epoch")
    assert all(run.epochs <= 36 for run in found["random"])
    assert [run.target for run in found["tpe+asha"]] == [run.test_accuracy for run in found["random"]]
    assert {run.epochs_run for arm in ("random", "random+asha", "tpe+asha") for run in found[arm]} == {36}
    assert {run.epochs_run for run in found["random+1-epoch"]} == {4 + 3 * 8}
    assert all(run.regret >= 0 and run.num_trials >= 4 for runs in found.values() for run in runs)


def test_a_quantile_of_the_record_is_a_target_for_all(raw: Raw, tmp_path: Path) -> None:
    found = compare(raw, tmp_path, "random", "tpe", quantile=1.0)
    best = max(run.test_accuracy + run.regret for runs in found.values() for run in runs)
    assert {run.target for runs in found.values() for run in runs} == {best}
    assert all((run.epochs == NEVER) or run.regret == 0 or run.epochs < 36 for runs in found.values() for run in runs)


def test_a_comparison_is_the_same_each_time(raw: Raw, tmp_path: Path) -> None:
    assert compare(raw, tmp_path, "tpe+asha") == compare(raw, tmp_path, "tpe+asha")


def searched_before(raw: Raw, path: Path, *arms: str) -> dict[str, list[ArmRun]]:
    """Arms that have searched the same curves before, with other seeds."""
    study, file = resolve_study(raw), write_study(path / "study.yaml", raw)
    record = drawn_record(study, 60)
    lookup = CurveLookup(record, study.space)
    comparison = Comparison(record, lookup, epochs=72, workers=1, objective=study.objective, earlier=lookup)
    return {
        str(arm): runs for arm, runs in comparison.run({arm: arm.load(file, []) for arm in map(Arm.parse, arms)}, range(5)).items()
    }


def test_whoever_has_searched_the_same_before_is_as_good_sooner_than_the_misled(raw: Raw, tmp_path: Path) -> None:
    found = searched_before(raw, tmp_path, "tpe", "tpe+transfer", "tpe+misled")
    transferred, misled = (quartiles([run.epochs for run in found[arm]])[0] for arm in ("tpe+transfer", "tpe+misled"))
    assert transferred < misled
    assert found["tpe+transfer"] == searched_before(raw, tmp_path, "tpe", "tpe+transfer")["tpe+transfer"]


def test_an_arm_that_stops_takes_fewer_epochs(raw: Raw, tmp_path: Path) -> None:
    found = compare(raw, tmp_path, "random", "random+stop-1", seeds=6)
    pairs = [(some.epochs_run, whole.epochs_run) for some, whole in zip(found["random+stop-1"], found["random"], strict=True)]
    assert all(some <= whole == 36 for some, whole in pairs)
    assert any(some < whole for some, whole in pairs)


def test_quartiles_are_values_that_occur_also_beside_never() -> None:
    assert quartiles([1.0, 2.0, 3.0, NEVER]) == (2.0, 1.0, 3.0)
    assert quartiles([1.0, NEVER, NEVER]) == (NEVER, 1.0, NEVER)


def test_never_is_null_for_a_script() -> None:
    run = ArmRun(seed=1, num_trials=2, epochs_run=3, target=0.9, epochs=NEVER, seconds=NEVER, test_accuracy=0.5, regret=0.25)
    (figures,) = comparison_figures({Arm("tpe"): [run]})
    assert (figures["arm"], figures["epochs"], figures["regret"]) == ("tpe", [None] * 3, [0.25] * 3)
    assert figures["runs"][0]["seconds"] is None
    json.dumps(figures, allow_nan=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a study and a record of it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    study = tiny_study()
    write_study(tmp_path / "study.yaml", study)
    drawn_record(resolve_study(study), 12).save(tmp_path / "record.parquet")
    return tmp_path


BESIDE = ("study.yaml", "--record", "record.parquet")


def test_the_command_line_compares_arms_in_a_table(folder: Path) -> None:
    done = call_cli("compare", *BESIDE, "--seeds", "2", "--arm", "random", "--arm", "tpe+asha", cwd=folder, main=simulate.main)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows] == ["arm", "-" * (len("tpe+asha") + 2), "random", "tpe+asha"]
    assert rows[2][1:3] == ["4", "12"]
    assert rows[2][5] == "2 of 2"
    assert "12 epochs, 2 at a time, 2 seeds" in done.stdout


def test_the_command_line_compares_arms_for_scripts(folder: Path) -> None:
    words = ("--seeds", "1", "--neighbours", "3", "--target", "0.5", "--workers", "1", "--json", "--quiet")
    done = call_cli("compare", *BESIDE, *words, cwd=folder, main=simulate.main)
    assert (done.returncode, done.stderr) == (0, "")
    assert [arm["arm"] for arm in json.loads(done.stdout)["arms"]] == simulate.ARMS


def test_the_command_line_has_arms_search_another_record_before(folder: Path) -> None:
    arms = ("--arm", "random", "--arm", "tpe+asha+transfer", "--source", "record.parquet")
    done = call_cli("compare", *BESIDE, "--seeds", "1", *arms, cwd=folder, main=simulate.main)
    assert done.returncode == 0, done.stderr
    assert "| tpe+asha+transfer |" in done.stdout


def test_a_record_of_other_settings_is_told(folder: Path) -> None:
    words = ("--seeds", "1", "--arm", "random", "--set", "config.examiners.epochs=2")
    done = call_cli("compare", *BESIDE, *words, cwd=folder, main=simulate.main)
    assert done.returncode == 0
    assert "other settings, which its curves reflect: examiners.epochs" in done.stderr


def test_the_command_line_says_how_well_neighbours_foretell(folder: Path) -> None:
    done = call_cli("check", *BESIDE, "--json", cwd=folder, main=simulate.main)
    assert done.returncode == 0, done.stderr
    assert [row["neighbours"] for row in json.loads(done.stdout)["lookups"]] == [1, 2, 3, 5, 10]
    assert "order of test accuracies" in call_cli("check", *BESIDE, cwd=folder, main=simulate.main).stdout
