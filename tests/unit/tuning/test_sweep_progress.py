"""The sweep's progress: counts, the best trial, the line of each end, the bar on a terminal."""

import pickle
import re
from typing import Any

import pytest
from ray.tune.experiment import Trial

from tuning.launch import LaunchHistory, TrialHistory
from tuning.outcome import Outcome
from tuning.sweep import progress as module
from tuning.sweep.forecast import Forecast, Plan
from tuning.sweep.progress import SweepProgress

METRIC = "best_probe_agreement"


class Ended:
    """A search that proposes nothing more, and so many runs of finalists."""

    has_ended = True

    def __init__(self, finalists_left: int) -> None:
        self.finalists_left = finalists_left


def started(
    history: LaunchHistory | None = None, *, plan: Plan | None = None, quiet: bool = False, search: Ended | None = None
) -> SweepProgress:
    """As a driver has it: the forecast knows the trials that earlier attempts began."""
    history, forecast = history or LaunchHistory(), Forecast(plan or Plan(num_trials=4, epochs=9))
    for number, trial in history.trials.items():
        forecast.start(number, 0.0, length=9, is_finalist=trial.finalist_of is not None)
        forecast.end(number, 0.0, is_over=trial.is_over)
    progress = SweepProgress(history, forecast, metric=METRIC, quiet=quiet, search=search)
    progress.setup()
    return progress


def report(progress: SweepProgress, trial: Trial, value: float, epoch: int, *, diverged: bool = False) -> None:
    """As Tune does it: callbacks get the new result, and only then it becomes the trial's last."""
    result: dict[str, Any] = {METRIC: value, "epoch": epoch, "diverged": diverged}
    progress.on_trial_result(0, [], trial, result)
    trial.update_last_result(result | {"trial_id": trial.trial_id})


def new_trial(progress: SweepProgress, *, number: int = 0) -> Trial:
    trial = Trial("distill", config={"number": number}, stub=True)  # Ray's own way to a trial whose trainable nobody registered
    progress.on_trial_start(0, [trial], trial)
    return trial


def new_trials(progress: SweepProgress, count: int) -> list[Trial]:
    return [new_trial(progress, number=number) for number in range(count)]


def test_each_end_is_a_line_with_the_counts_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    progress = started()
    trials = new_trials(progress, 4)
    report(progress, trials[0], 0.8, 9)
    progress.on_trial_complete(0, [], trials[0])
    report(progress, trials[1], 0.3, 1)
    progress.on_trial_complete(0, [], trials[1])
    report(progress, trials[2], 0.0, 2, diverged=True)
    progress.on_trial_complete(0, [], trials[2])
    report(progress, trials[3], 0.9, 4)
    progress.on_trial_error(0, [], trials[3])
    lines = capsys.readouterr().err.splitlines()
    assert [line.rsplit(",", 1)[0] for line in lines] == [
        "trial   0 completed after epoch   9 at 80.00 % | 1/4 done, 3 running, 0 pruned, best 80.00 % (trial 0)",
        "trial   1 pruned    after epoch   1 at 30.00 % | 2/4 done, 2 running, 1 pruned, best 80.00 % (trial 0)",
        "trial   2 diverged  after epoch   2 at 0.00 % | 3/4 done, 1 running, 1 pruned, best 80.00 % (trial 0)",
        "trial   3 failed    after epoch   4 at 90.00 % | 4/4 done, 0 running, 1 pruned, best 90.00 % (trial 3)",
    ]
    assert all(line.endswith(" left") for line in lines)


def test_the_first_result_makes_the_time_left_known_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = started()
    progress.on_step_end(0, [])  # nothing has started: nothing is known
    first, _ = new_trials(progress, 2)
    report(progress, first, 0.3, 1)
    progress.on_trial_complete(0, [], first)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r", about \d+ s left$", line), line


def test_a_trial_that_fails_before_its_first_result_has_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    progress = started()
    progress.on_trial_error(0, [], new_trial(progress))
    assert capsys.readouterr().err.startswith(
        "trial   0 failed    after epoch   0 at - | 1/4 done, 0 running, 0 pruned, no result yet"
    )


def test_a_trial_that_starts_again_after_a_failure_is_not_counted_twice(capsys: pytest.CaptureFixture[str]) -> None:
    progress = started()
    trial = new_trial(progress)
    report(progress, trial, 0.5, 3)
    progress.on_trial_start(0, [trial], trial)
    report(progress, trial, 0.6, 9)
    progress.on_trial_complete(0, [], trial)
    assert "1/4 done, 0 running" in capsys.readouterr().err


def test_a_trial_keeps_its_number_whatever_the_order_of_starting(capsys: pytest.CaptureFixture[str]) -> None:
    progress = started()
    progress.on_trial_error(0, [], new_trial(progress, number=7))
    assert capsys.readouterr().err.startswith("trial   7 failed")


def test_a_log_says_that_the_sweep_goes_on_where_no_trial_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    progress = started()
    new_trial(progress)
    progress.on_step_end(0, [])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.0)
    progress.on_step_end(0, [])
    assert capsys.readouterr().err.startswith("sweep: 0/4 done, 1 running, 0 pruned, no result yet, ")


def test_more_trials_than_the_budget_has_are_all_counted() -> None:
    over = {number: TrialHistory(number, {}, values={9: 0.5}, outcome=Outcome.COMPLETED) for number in range(6)}
    progress = started(LaunchHistory(trials=over))
    new_trial(progress, number=6)
    assert progress._state().startswith("6/7 done, 1 running")


def test_a_search_that_has_ended_counts_what_is_there_and_the_finalists_it_has_yet_to_run() -> None:
    progress = started(plan=Plan(num_trials=9, epochs=9, finalists=6, finalist_epochs=9), search=Ended(2))
    new_trials(progress, 3)
    assert progress._state().startswith("0/5 done, 3 running")


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = started(quiet=True)
    trial = new_trial(progress)
    report(progress, trial, 0.5, 9)
    progress.on_trial_complete(0, [], trial)
    progress.on_experiment_end([trial])
    captured = capsys.readouterr()
    assert captured.err + captured.out == ""


def test_a_sweep_whose_trials_have_all_ended_was_not_interrupted() -> None:
    progress = started()
    first, second = new_trials(progress, 2)
    report(progress, first, 0.5, 9)
    progress.on_trial_complete(0, [], first)
    progress.on_trial_error(0, [], second)
    progress.on_experiment_end([first, second])
    assert progress.interrupted is False


def test_a_sweep_with_a_trial_that_never_ended_was_interrupted() -> None:
    progress = started()
    first, second = new_trials(progress, 2)
    report(progress, first, 0.5, 9)
    progress.on_trial_complete(0, [], first)
    progress.on_experiment_end([first, second])
    assert progress.interrupted is True


def test_on_a_terminal_a_bar_is_drawn_and_put_away(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    progress = started()
    trial = new_trial(progress)
    report(progress, trial, 0.5, 9)
    progress.on_trial_complete(0, [], trial)
    progress.on_experiment_end([trial])
    drawn = capsys.readouterr().err
    assert "1/4 done, 0 running" in drawn
    assert "trial   0 completed" not in drawn
    progress.close()  # a second time does no harm


def test_it_travels_by_pickle_while_a_bar_is_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    progress = started()
    report(progress, new_trial(progress), 0.5, 3)
    copy: SweepProgress = pickle.loads(pickle.dumps(progress))
    progress.close()
    assert copy._state() == "0/4 done, 1 running, 0 pruned, best 50.00 % (trial 0)"
    copy.close()


def test_a_resumed_sweep_counts_what_the_attempts_before_have_ended(capsys: pytest.CaptureFixture[str]) -> None:
    over = [
        TrialHistory(0, {}, values={1: 0.7, 9: 0.8}, outcome=Outcome.COMPLETED),
        TrialHistory(1, {}, values={1: 0.2}, outcome=Outcome.PRUNED),
    ]
    paused = TrialHistory(2, {}, values={1: 0.3, 2: 0.6}, outcome=Outcome.INTERRUPTED)
    progress = started(LaunchHistory(trials={trial.number: trial for trial in [*over, paused]}))
    assert progress._state() == "2/4 done, 0 running, 1 pruned, best 80.00 % (trial 0)"
    again = new_trial(progress, number=2)
    report(progress, again, 0.9, 9)
    progress.on_trial_complete(0, [], again)
    line = capsys.readouterr().err
    assert line.startswith("trial   2 completed after epoch   9 at 90.00 % | 3/4 done, 0 running, 1 pruned, best 90.00 % (trial 2)")


def test_finalists_say_whose_values_they_have(capsys: pytest.CaptureFixture[str]) -> None:
    searched = TrialHistory(0, {}, values={9: 0.8}, outcome=Outcome.COMPLETED)
    plan = Plan(num_trials=1, epochs=9, finalists=2, finalist_epochs=18)
    progress = started(LaunchHistory(trials={0: searched}), plan=plan)
    config = {"number": 1, "point": {"seed": 1, "epochs": 18}, "finalist_of": 0}
    trial = Trial("distill", config=config, stub=True)
    progress.on_trial_start(0, [trial], trial)
    report(progress, trial, 0.7, 18)
    progress.on_trial_complete(0, [], trial)
    line = capsys.readouterr().err
    ended = "trial   1 completed after epoch  18 at 70.00 % (finalist: trial 0 with seed 1)"
    assert line.startswith(f"{ended} | 2/3 done, 0 running, 0 pruned, best 80.00 % (trial 0)")
