"""A launch that is asked to finish: nothing new is begun, what runs goes on, and a resume knows."""

from pathlib import Path
from typing import Any

import pytest

from cpsc.errors import ConfigError
from tests.support.events import made
from tests.unit.tuning.conftest import Write
from tuning import cli
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.events import AttemptStart, Epoch, FinishAsked, LaunchEnd, LaunchStart, Proposed, TrialEnd, TrialStart
from tuning.launch.finish import FinishRequest
from tuning.launch.journal import DriverLock
from tuning.launch.launch import new_launch
from tuning.outcome import Outcome
from tuning.search.optuna_search import StudySearch, build_search, has_work
from tuning.study import Study, load_study
from tuning.sweep.enqueue import enqueue_point
from tuning.sweep.finish import finish_launch
from tuning.sweep.forecast import plan_of
from tuning.sweep.going_on import going_on

RATE = "student.lr"
POINT = {RATE: 0.1}


@pytest.fixture
def study(raw: dict[str, Any], write: Write, tmp_path: Path) -> Study:
    search = {"num_trials": 5, "sampler": "random", "finalists": {"top": 1, "seeds": 2}}
    return load_study(write(raw | {"space": {RATE: {"uniform": [0.02, 0.3]}}, "search": search, "storage": str(tmp_path / "runs")}))


@pytest.fixture
def journal(study: Study) -> Journal:
    """Of a launch with a trial that is over and one that runs."""
    with new_launch(study, made(LaunchStart, params={"objective": study.objective, "epochs": "9"})) as name:
        pass
    journal = Journal(study.local / name)
    journal.append(made(AttemptStart))
    for number in range(2):
        journal.append(made(Proposed, number=number, point=POINT))
        journal.append(made(TrialStart, number=number, point=POINT))
        journal.append(made(Epoch, number=number, epoch=1, metrics={study.metric: 0.5}))
    journal.append(made(TrialEnd, number=0, outcome=Outcome.PRUNED, epoch=1))
    return journal


def history_of(study: Study, journal: Journal) -> LaunchHistory:
    return replay_events(journal.events(), metric=study.metric)


def searching(study: Study, journal: Journal) -> StudySearch:
    history, finish = history_of(study, journal), FinishRequest(journal.path.parent)
    return build_search(study, history, journal, [], finish=finish)


def test_a_search_that_is_asked_to_finish_lets_what_runs_go_on_and_then_runs_the_finalists(study: Study, journal: Journal) -> None:
    search = searching(study, journal)
    config = search.suggest("goes on")
    assert isinstance(config, dict)
    assert config["number"] == 1
    finish_launch(str(study.local), study.name)
    assert search.suggest("none") is None, "the finalists wait for the trial that runs"
    assert (search.has_ended, search.ended_early) == (True, "it was asked to finish")
    journal.append(made(TrialEnd, number=1, outcome=Outcome.PRUNED, epoch=1))
    search.on_trial_complete("goes on", {search.metric: 0.5, "epoch": 1, "diverged": False})
    finalists = [search.suggest(name) for name in "ab"]
    assert [config["finalist_of"] for config in finalists if isinstance(config, dict)] == [0, 0]
    assert search.suggest("c") == "FINISHED"
    asked = [event for event in journal.events() if isinstance(event, FinishAsked)]
    assert [event.num_trials for event in asked] == [5]


def test_a_resume_knows_and_another_budget_has_it_go_on(study: Study, journal: Journal) -> None:
    search = searching(study, journal)
    finish_launch(str(study.local), study.name)
    search.suggest("goes on")
    search.suggest("none")
    again = history_of(study, journal)
    assert not FinishRequest(journal.path.parent).is_made
    assert plan_of(study, again).num_trials == 2
    assert "asked to finish" in going_on(study, "tiny", again)
    resumed = searching(study, journal)
    assert [resumed.suggest(name) is None for name in "ab"] == [False, True]
    more = load_study(study.local / study.name / "study.yaml", ["search.num_trials=6"])
    assert plan_of(more, again).num_trials == 6
    assert "asked to finish" not in going_on(more, "tiny", again)
    with pytest.raises(ConfigError, match=r"was asked to finish; continue anyway: .* --num-trials 6"):
        enqueue_point(str(study.local), study.name, POINT)


def test_it_says_who_will_end_the_launch(study: Study, journal: Journal) -> None:
    assert "by: cpsc-tune resume " in finish_launch(str(study.local), study.name)
    with DriverLock(journal.path.parent):
        assert "cpsc-tune resume" not in finish_launch(str(study.local), study.name)


def test_a_launch_that_has_nothing_left_to_do_is_not_finished(study: Study, journal: Journal) -> None:
    journal.append(made(TrialEnd, number=1, outcome=Outcome.PRUNED, epoch=1))
    journal.append(made(FinishAsked, num_trials=5))
    for number in (2, 3):
        point = {**POINT, "seed": number - 1}
        journal.append(made(Proposed, number=number, point=point, finalist_of=0))
        journal.append(made(TrialStart, number=number, point=point, finalist_of=0))
        journal.append(made(Epoch, number=number, epoch=1, metrics={study.metric: 0.5}))
        journal.append(made(TrialEnd, number=number, outcome=Outcome.COMPLETED, epoch=1))
    journal.append(made(LaunchEnd))
    assert not has_work(study, history_of(study, journal))
    with pytest.raises(ConfigError, match="has ended"):
        finish_launch(str(study.local), study.name)


def test_what_a_resume_goes_on_with_is_said(study: Study, journal: Journal) -> None:
    said = going_on(study, "tiny", history_of(study, journal))
    assert said.startswith("tiny: 1 trials done in 0 s, 1 continue (trial 1 after epoch 1), 3 to come")


@pytest.mark.parametrize("named", ["a name", "a folder"])
def test_the_verb_takes_a_launch_as_the_others_do(
    named: str, study: Study, journal: Journal, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [study.name, "--storage", str(study.local)] if named == "a name" else [str(journal.path.parent)]
    monkeypatch.setattr("sys.argv", ["cpsc-tune", "finish", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "no new trials will start" in capsys.readouterr().out
    assert FinishRequest(journal.path.parent).is_made
