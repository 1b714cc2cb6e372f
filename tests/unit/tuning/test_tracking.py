"""Delivery of a journal: everything once, whatever the store answers, and nothing waits behind what it will never take."""

import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import INVALID_PARAMETER_VALUE, UNAUTHENTICATED, MlflowException

from cpsc.errors import ConfigError
from tests.support.events import Kind, made
from tests.support.studies import tiny_study
from tuning.launch import Journal
from tuning.launch.events import AttemptStart, Epoch, LaunchEnd, LaunchStart, Proposed, Retry, TrialEnd, TrialStart
from tuning.launch.journal import Event
from tuning.outcome import Outcome
from tuning.redaction import reason
from tuning.results.from_mlflow import load_launch
from tuning.study import Study
from tuning.study.config import TrackingConfig, resolve_study
from tuning.tracking import MlflowWriter, check_tracking, delivering, store_uri
from tuning.tracking import delivery as tracking
from tuning.tracking import retry as patience
from tuning.tracking.client import HTTP_TIMEOUT
from tuning.tracking.retry import Patience
from tuning.tracking.translation import Translator

pytestmark = pytest.mark.slow  # some hundred deliveries, each to an MLflow store of its own
SECRET = "hidden-secret"


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables made, which takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def study(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(patience, "RETRY_S", 0.01)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(tracking, "RETRY_S", 0.01)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    shutil.copy(empty_store, tmp_path / "runs" / "mlflow.db")
    return resolve_study(tiny_study() | {"storage": str(tmp_path / "runs")})


@pytest.fixture
def journal(study: Study) -> Journal:
    """Two trials of two epochs, the first with a checkpoint."""
    journal = Journal(study.local / "tiny")
    settings = {"epochs": "2", "objective": "probe_agreement"}
    journal.append(now(LaunchStart, launch_id="launch", params=settings, study="name: tiny\n"))
    journal.append(now(AttemptStart, attempt=0))
    checkpoint = study.local / "tiny" / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "best_student.pt").write_bytes(b"student")
    for number in range(2):
        journal.append(now(Proposed, number=number, point={}))
        journal.append(now(TrialStart, number=number, point={}, params={"epochs": "2"}, ray_trial_id="a"))
        for epoch in (1, 2):
            journal.append(now(Epoch, number=number, epoch=epoch, metrics={"probe_kl": float(epoch)}, note=""))
        path = None if number else str(checkpoint)
        journal.append(now(TrialEnd, number=number, outcome=Outcome.COMPLETED, reason="", epoch=2, checkpoint=path))
    journal.append(now(LaunchEnd, status="FINISHED", metrics={"elapsed_s": 1.0}))
    return journal


def now(kind: type[Kind], **fields: Any) -> Kind:
    return made(kind, time=time.time(), **fields)


def deliver(journal: Journal, study: Study, *, deadline_s: float = 0.0) -> MlflowWriter:
    with delivering(MlflowWriter(journal, study, "tiny", "launch"), deadline_s=deadline_s) as writer:
        pass
    return writer


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def client(study: Study) -> MlflowClient:
    return MlflowClient(tracking_uri=store_uri(study))


def runs(study: Study) -> dict[str, Run]:
    """Every run by its name, of which there may be one each."""
    experiment = client(study).get_experiment_by_name(study.name)
    found = client(study).search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def curve(study: Study, run: Run) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client(study).get_metric_history(run.info.run_id, "probe_kl")]


def check_all_there(study: Study, beside: Mapping[str, str] = MappingProxyType({})) -> None:
    """`beside`: more runs, with their status."""
    found, expected = runs(study), dict.fromkeys(("tiny", "trial-000", "trial-001"), "FINISHED")
    assert {name: run.info.status for name, run in found.items()} == expected | beside
    for name in ("trial-000", "trial-001"):
        assert curve(study, found[name]) == [(1, 1.0), (2, 2.0)]


def fail(
    monkeypatch: pytest.MonkeyPatch, method: str, error: Exception, *, times: int, after: bool = False, about: str = ""
) -> None:
    """Let the first calls of a client's method (`about` something) fail.

    `after`: having done their work, so that only the answer is lost.
    """
    original: Callable[..., Any] = getattr(MlflowClient, method)
    left = iter(range(times))

    def failing(self: MlflowClient, *arguments: Any, **named: Any) -> Any:
        result = original(self, *arguments, **named) if after else None
        if about in str(arguments) and next(left, None) is not None:
            raise error
        return result if after else original(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, method, failing)


def no_answer(what: str = "no answer") -> MlflowException:
    return MlflowException(what)


def test_everything_arrives_and_meeting_it_again_changes_nothing(study: Study, journal: Journal) -> None:
    deliver(journal, study)
    check_all_there(study)
    before = {name: run.info.run_id for name, run in runs(study).items()}
    journal.acknowledge(0)
    deliver(journal, study)
    check_all_there(study)
    assert {name: run.info.run_id for name, run in runs(study).items()} == before


def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, set[int], set[str], set[str]]]:
    """Every `log_batch` to come: its run, the epochs of its metrics, and the names of its params and tags."""
    seen = []
    original = MlflowClient.log_batch

    def noting(self: MlflowClient, run_id: str, **named: Any) -> None:
        names = [{item.key for item in named.get(kind, ())} for kind in ("params", "tags")]
        seen.append((run_id, {metric.step for metric in named.get("metrics", ())}, *names))
        original(self, run_id, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", noting)
    return seen


def test_what_a_trial_did_since_the_last_delivery_is_one_batch(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = batches(monkeypatch)
    deliver(journal, study)
    check_all_there(study)
    trials = [runs(study)[name].info.run_id for name in ("trial-000", "trial-001")]
    told = ({1, 2}, {"epochs"}, {"outcome", "epochs"})
    assert [batch for batch in seen if batch[0] in trials] == [(run_id, *told) for run_id in trials]


def test_a_tag_that_a_run_has_is_not_sent_again_unless_its_arrival_is_in_doubt(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(journal, study)
    writer = MlflowWriter(journal, study, "tiny", "launch")
    seen = batches(monkeypatch)
    for epoch in (3, 4, 5):
        journal.append(now(Epoch, number=1, epoch=epoch, metrics={"probe_kl": 1.0}, note="", node="here"))
        if epoch == 5:
            fail(monkeypatch, "log_batch", MlflowException("never", INVALID_PARAMETER_VALUE), times=1)
        assert writer._deliver_pending()
    assert [(steps, tags) for _, steps, _, tags in seen] == [({3}, {"node"}), ({4}, set()), ({5}, {"node"})]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_portions_that_end_in_the_middle_of_a_trial_are_joined(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(tracking, "EVENTS_AT_ONCE", size)
    deliver(journal, study)
    check_all_there(study)


def test_of_the_records_that_travel_together_only_the_one_that_is_refused_is_passed_over(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MlflowClient.log_batch

    def refusing(self: MlflowClient, run_id: str, **named: Any) -> None:
        if any(metric.step == 1 for metric in named.get("metrics", ())):
            raise MlflowException("not that one", INVALID_PARAMETER_VALUE)
        original(self, run_id, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", refusing)
    assert deliver(journal, study).num_refused == 2
    assert [(refused["kind"], refused["number"], refused["epoch"]) for refused in refusals(study)] == [
        ("epoch", 0, 1),
        ("epoch", 1, 1),
    ]
    for run in (runs(study)[name] for name in ("trial-000", "trial-001")):
        assert curve(study, run) == [(2, 2.0)]
        assert (run.data.params, run.data.tags["outcome"], run.info.status) == ({"epochs": "2"}, "completed", "FINISHED")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", ["create_run", "log_batch", "log_artifact", "set_terminated"])
def test_whatever_fails_first_among_records_that_travel_together_each_arrives_once(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch, method: str, after: bool
) -> None:
    deliver(journal, study)
    for number in (2, 3):
        journal.append(now(Proposed, number=number, point={}))
        journal.append(now(TrialStart, number=number, point={}, params={"epochs": "2"}, ray_trial_id="a"))
    checkpoint = str(study.local / "tiny" / "checkpoint")
    for number in (2, 3):
        journal.append(now(Epoch, number=number, epoch=1, metrics={"probe_kl": 1.0}, note="", node="here"))
        journal.append(now(TrialEnd, number=number, outcome=Outcome.PRUNED, reason="", epoch=1, checkpoint=checkpoint))
    fail(monkeypatch, method, no_answer(), times=2, after=after)
    assert deliver(journal, study, deadline_s=20).undelivered == 0
    for name in ("trial-002", "trial-003"):
        run = runs(study)[name]
        assert curve(study, run) == [(1, 1.0)]
        assert (run.info.status, run.data.tags["outcome"], run.data.tags["node"]) == ("KILLED", "pruned", "here")
        assert [file.path for file in client(study).list_artifacts(run.info.run_id, "checkpoint")] == ["checkpoint/best_student.pt"]


def test_the_journal_is_on_the_disk_before_mlflow_is_told(study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    size = journal.path.stat().st_size
    monkeypatch.setattr(Journal, "sync", lambda self: order.append("sync") or size)
    monkeypatch.setattr(Translator, "tell", lambda self, events: order.append(events[0].kind))
    deliver(journal, study)
    assert order[:2] == ["sync", "launch_start"]


def test_an_outage_is_said_once_and_loses_nothing(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail(monkeypatch, "log_batch", no_answer(), times=5)
    deliver(journal, study, deadline_s=20)
    check_all_there(study)
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "the tracking server cannot be reached; metrics are kept and delivered later"
    ]


def test_one_lost_connection_is_not_worth_a_word(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail(monkeypatch, "log_batch", requests.ConnectionError("reset"), times=1)
    deliver(journal, study, deadline_s=20)
    check_all_there(study)
    assert caplog.records == []


def test_a_run_whose_answer_was_lost_is_found_again(study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, "create_run", no_answer(), times=2, after=True)
    deliver(journal, study, deadline_s=20)
    check_all_there(study)


def test_a_run_that_a_hung_server_makes_late_is_found_again(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, late = MlflowClient.create_run, []

    def hang(self: MlflowClient, *arguments: Any, **named: Any) -> Run:
        if not late:
            late.append((arguments, named))
            raise no_answer()
        return original(self, *arguments, **named)

    def wait_and_finish(self: Patience) -> None:
        if len(late) == 1:
            late.append(original(client(study), *late[0][0], **late[0][1]))

    monkeypatch.setattr(MlflowClient, "create_run", hang)
    monkeypatch.setattr(Patience, "pause", wait_and_finish)
    deliver(journal, study, deadline_s=20)
    check_all_there(study)


CALLS = ("get_experiment_by_name", "create_experiment", "set_experiment_tag", "create_run", "search_runs", "log_inputs")
CALLS += ("log_batch", "log_artifact", "set_terminated", "update_run")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", CALLS)
def test_a_call_that_is_not_answered_is_repeated_by_itself(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch, method: str, after: bool
) -> None:
    """Not with all that was told since the last acknowledgement: of a hundred calls one would always fail."""
    entry = {"name": "probe-set", "digest": "abc", "source": "{}", "profile": "{}", "context": "probe"}
    journal.append(now(Proposed, number=2, point={}))
    journal.append(now(TrialStart, number=2, point={}, params={}, ray_trial_id="a", inputs=[entry]))
    called: Counter[str] = Counter()
    for name in CALLS:
        original = getattr(MlflowClient, name)

        def counting(*arguments: Any, original: Any = original, name: str = name, **named: Any) -> Any:
            called[name] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(MlflowClient, name, counting)
    deliver(journal, study)
    undisturbed, told = Counter(called), client(study).get_experiment_by_name(study.name)
    client(study).rename_experiment(told.experiment_id, "before")
    called.clear()
    journal.acknowledge(0)
    fail(monkeypatch, method, no_answer(), times=3, after=after)
    writer = deliver(journal, study, deadline_s=20)
    extra = {name: count - undisturbed[name] for name, count in called.items() if count != undisturbed[name]}
    assert (writer.undelivered, writer.num_refused) == (0, 0)
    check_all_there(study, beside={"trial-002": "RUNNING"})
    assert len(runs(study)["trial-002"].inputs.dataset_inputs) == 1
    assert extra.pop(method, 0) <= 3
    assert set(extra) <= {"search_runs", "get_experiment_by_name", "update_run"}, "to look for what may have been made"


def test_a_server_that_answers_questions_but_takes_nothing_is_given_up(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(journal, study)
    journal.append(now(Epoch, number=1, epoch=3, metrics={"probe_kl": 3.0}, note=""))
    for method in ("log_batch", "update_run", "set_terminated"):
        fail(monkeypatch, method, no_answer(), times=10**9)
    started = time.monotonic()
    assert deliver(journal, study, deadline_s=0.3).undelivered == 1
    assert time.monotonic() - started < 10


def test_runs_that_a_server_makes_late_are_deleted_at_the_end(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although each was looked for: the request that was given up is done after the one that took its place."""
    original = MlflowClient.create_run

    def make_two(self: MlflowClient, *arguments: Any, **named: Any) -> Run:
        made = original(self, *arguments, **named)
        original(self, *arguments, **named)
        return made

    monkeypatch.setattr(MlflowClient, "create_run", make_two)
    *events, end = journal.events()
    journal.path.unlink()
    for known in events:
        journal.append(known)
    deliver(journal, study)
    launch = load_launch(client(study), study.name)
    assert [trial.num_epochs for trial in sorted(launch.trials, key=lambda trial: trial.number)] == [2, 2], "before they are"
    journal.append(end)
    deliver(journal, study)
    check_all_there(study)


def test_what_a_server_does_late_reopens_no_run(study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    original, late = MlflowClient.set_terminated, []

    def reopen_the_first(self: MlflowClient, run_id: str, *arguments: Any, **named: Any) -> None:
        original(self, run_id, *arguments, **named)
        if not late:
            late.append(run_id)
            self.update_run(run_id, status="RUNNING")  # a request of long ago, given up and only now done

    monkeypatch.setattr(MlflowClient, "set_terminated", reopen_the_first)
    deliver(journal, study)
    assert len(late) == 1
    check_all_there(study)


def test_more_metrics_than_a_request_may_hold_travel_in_several(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = batches(monkeypatch)
    metrics = {f"metric.{index}": 1.0 for index in range(30)}
    for epoch in range(3, 103):
        journal.append(now(Epoch, number=1, epoch=epoch, metrics=metrics, note="", node="here"))
    original, sizes = MlflowClient.log_batch, []

    def sizing(self: MlflowClient, run_id: str, **named: Any) -> None:
        sizes.append(sum(len(items) for items in named.values()))
        original(self, run_id, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", sizing)
    deliver(journal, study)
    check_all_there(study)
    assert max(sizes) <= 1000
    assert len([steps for _, steps, _, _ in seen if len(steps) > 30]) == 3
    history = client(study).get_metric_history(runs(study)["trial-001"].info.run_id, "metric.29")
    assert [point.step for point in history] == list(range(3, 103))


def test_wrong_credentials_are_waited_out(study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, "log_batch", MlflowException("who are you", UNAUTHENTICATED), times=3)
    assert deliver(journal, study, deadline_s=20).num_refused == 0
    check_all_there(study)


def test_an_artifact_that_is_too_large_for_the_server_costs_itself_only(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    response = requests.Response()
    response.status_code = 413
    fail(monkeypatch, "log_artifact", requests.HTTPError("413 Request Entity Too Large", response=response), times=2, about="best")
    assert deliver(journal, study, deadline_s=20).num_refused == 1
    check_all_there(study)
    (record,) = caplog.records
    assert record.message.startswith(
        "MLflow refuses a record (trial_end, number 0, epoch 2), which is skipped and listed in refused.jsonl: 413"
    )
    (refused,) = refusals(study)
    assert (refused["kind"], refused["number"], refused["reason"]) == ("trial_end", 0, "413 Request Entity Too Large")


def test_a_file_is_given_more_time_than_a_metric(study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HTTP_TIMEOUT, "10")
    limits: dict[str, set[str]] = {"log_artifact": set(), "log_batch": set()}
    for method, seen in limits.items():
        original = getattr(MlflowClient, method)

        def noting(*arguments: Any, original: Any = original, seen: set[str] = seen, **named: Any) -> Any:
            seen.add(os.environ[HTTP_TIMEOUT])
            return original(*arguments, **named)

        monkeypatch.setattr(MlflowClient, method, noting)
    deliver(journal, study)
    assert limits == {"log_artifact": {"120"}, "log_batch": {"10"}}


def refusals(study: Study) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (study.local / "tiny" / tracking.REFUSED_FILE).read_text().splitlines()]


@pytest.mark.parametrize("about", ["study.yaml", "best_student.pt"])
def test_a_storage_of_artifacts_that_fails_in_its_own_way_is_waited_for(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch, about: str
) -> None:
    fail(monkeypatch, "log_artifact", RuntimeError("Unable to locate credentials"), times=3, about=about)
    assert deliver(journal, study, deadline_s=20).num_refused == 0
    check_all_there(study)


def test_a_run_that_somebody_has_deleted_holds_up_no_other(
    study: Study, journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Translator._epoch

    def delete_before(self: Translator, event: Epoch, batch: Any) -> None:
        if event.number == 0 and event.epoch == 1:
            client(study).delete_run(self._runs.run_id(0))
        original(self, event, batch)

    monkeypatch.setattr(Translator, "_epoch", delete_before)
    assert deliver(journal, study).undelivered == 0
    found = runs(study)
    assert sorted(found) == ["tiny", "trial-001"]
    assert found["tiny"].info.status == "FINISHED"
    assert curve(study, found["trial-001"]) == [(1, 1.0), (2, 2.0)]
    said = [record.message for record in caplog.records if "MLflow refuses a record" in record.message]
    assert len(said) == len({refused["kind"] for refused in refusals(study)}), "once for all epochs of the trial"
    assert [refused["epoch"] for refused in refusals(study) if refused["kind"] == "epoch"] == [1, 2]


def test_a_param_that_a_resume_changed_becomes_a_tag(study: Study, journal: Journal) -> None:
    deliver(journal, study)
    journal.append(now(AttemptStart, attempt=1))
    journal.append(now(TrialStart, number=1, point={}, params={"epochs": "3", "new": "1"}, ray_trial_id="b"))
    journal.append(now(Epoch, number=1, epoch=3, metrics={"probe_kl": 3.0}, note=""))
    assert deliver(journal, study).num_refused == 0
    trial = runs(study)["trial-001"]
    assert trial.data.params == {"epochs": "2", "new": "1"}
    assert trial.data.tags["resumed.epochs"] == "3"
    assert curve(study, trial)[-1] == (3, 3.0)


INTERRUPTED = {"outcome": Outcome.INTERRUPTED, "reason": "the sweep was interrupted", "epoch": 2}


def test_a_trial_that_went_on_after_an_interruption_has_no_reason(study: Study, journal: Journal) -> None:
    journal.append(now(AttemptStart, attempt=1))
    journal.append(now(TrialStart, number=0, point={}, params={}, ray_trial_id="b"))
    journal.append(now(TrialEnd, number=0, **INTERRUPTED))
    deliver(journal, study)
    assert runs(study)["trial-000"].data.tags["reason"] == "the sweep was interrupted"
    journal.append(now(AttemptStart, attempt=2))
    journal.append(now(TrialStart, number=0, point={}, params={}, ray_trial_id="c"))
    deliver(journal, study)
    assert runs(study)["trial-000"].data.tags["reason"] == ""
    journal.append(now(TrialEnd, number=0, outcome=Outcome.PRUNED, epoch=2))
    deliver(journal, study)
    assert runs(study)["trial-000"].data.tags["reason"] == ""


def test_a_trial_that_had_ended_before_its_driver_was_missed_has_no_reason(study: Study, journal: Journal) -> None:
    journal.append(now(TrialEnd, number=0, **INTERRUPTED))
    journal.append(now(LaunchEnd, status="KILLED", metrics={}))
    deliver(journal, study)
    journal.append(now(TrialEnd, number=0, outcome=Outcome.COMPLETED, epoch=2))
    deliver(journal, study)
    trial = runs(study)["trial-000"]
    assert (trial.data.tags["reason"], trial.data.tags["outcome"]) == ("", "completed")


@pytest.mark.parametrize(("outcome", "reason"), [("pruned", ""), ("interrupted", "the sweep was interrupted")])
def test_a_reason_that_an_earlier_version_left_behind_is_not_shown(
    study: Study, journal: Journal, outcome: str, reason: str
) -> None:
    deliver(journal, study)
    trial = runs(study)["trial-000"].info.run_id
    for tag, text in (("reason", "the sweep was interrupted"), ("outcome", outcome)):
        client(study).set_tag(trial, tag, text)
    found = load_launch(client(study), study.name)
    assert {trial.number: trial.reason for trial in found.trials} == {0: reason, 1: ""}


def test_a_deleted_experiment_is_named_before_the_sweep_and_waited_for_in_it(
    study: Study, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    check_tracking(study)
    experiment = client(study).create_experiment(study.name)
    check_tracking(study)
    client(study).delete_experiment(experiment)
    with pytest.raises(ConfigError, match=f"mlflow experiments restore --experiment-id {experiment}"):
        check_tracking(study)
    writer = deliver(journal, study, deadline_s=0.5)
    assert writer.undelivered == len(list(journal.events()))
    assert "experiment 'tiny' is deleted on the tracking server" in caplog.text
    client(study).restore_experiment(experiment)
    deliver(journal, study)
    check_all_there(study)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("nowhere://user:hidden-secret@host", "unsupported URI 'nowhere://***@host'"),
        ("./mlruns", "filesystem tracking backend"),
        ("http://[host", "Invalid IPv6 URL"),
        ("http://user:hidden-secret@host:99999", "Invalid url: http://***@host:99999"),
        ("mysql+absent://user:hidden-secret@host/db", "Can't load plugin"),
        ("sqlite:////dev/null/store.db", "File exists"),
    ],
)
def test_a_store_that_can_never_be_used_is_named_before_the_sweep(study: Study, uri: str, reason: str) -> None:
    with pytest.raises(ConfigError, match="MLflow cannot write to") as refused:
        check_tracking(replace(study, tracking=TrackingConfig(uri=uri)))
    assert reason in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql+psycopg2://user@127.0.0.1:1/db"])
def test_a_store_that_is_away_refuses_no_sweep(study: Study, uri: str) -> None:
    started = time.monotonic()
    check_tracking(replace(study, tracking=TrackingConfig(uri=uri)))
    assert time.monotonic() - started < 5


def test_a_database_that_cannot_be_opened_is_waited_for(study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # instead of trying for 100 s each time
    unusable = replace(study, tracking=TrackingConfig(uri=f"sqlite:///{study.storage}"))
    assert deliver(journal, unusable, deadline_s=0.1).undelivered == len(list(journal.events()))


def test_an_experiment_that_is_deleted_in_mid_sweep_is_waited_for(study: Study, journal: Journal) -> None:
    writer = MlflowWriter(journal, study, "tiny", "launch")
    for known, position in list(journal.pending())[:5]:
        writer._translator.tell([known])
        journal.acknowledge(position)
    experiment = client(study).get_experiment_by_name(study.name).experiment_id
    client(study).delete_experiment(experiment)
    with delivering(writer, deadline_s=20):
        wait_until(lambda: writer._patience.waited_s > 0.05)
        assert len(list(journal.pending())) > 0
        client(study).restore_experiment(experiment)
    assert (writer.num_refused, writer.undelivered) == (0, 0)
    check_all_there(study)


def test_another_server_than_before_is_told_everything_again(
    study: Study, journal: Journal, empty_store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deliver(journal, study)
    moved = replace(study, tracking=TrackingConfig(uri=f"sqlite:///{study.local / 'other.db'}"))
    shutil.copy(empty_store, study.local / "other.db")
    journal.append(now(AttemptStart, attempt=1))
    journal.append(now(LaunchEnd, status="FINISHED", metrics={}))
    assert deliver(journal, moved, deadline_s=20).undelivered == 0
    check_all_there(moved)
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "the tracking server does not know launch tiny (any more)"
    ]


def test_a_server_that_loses_its_database_in_mid_sweep_is_told_everything_again(
    study: Study, journal: Journal, empty_store: Path
) -> None:
    writer = MlflowWriter(journal, study, "tiny", "launch")
    for known, position in list(journal.pending())[:5]:
        writer._translator.tell([known])
        journal.acknowledge(position)
    shutil.copy(empty_store, study.local / "other.db")
    writer._runs.client = MlflowClient(tracking_uri=f"sqlite:///{study.local / 'other.db'}")
    assert writer._deliver_pending()
    assert writer.num_refused == 0
    check_all_there(replace(study, tracking=TrackingConfig(uri=f"sqlite:///{study.local / 'other.db'}")))


def test_a_server_that_takes_nothing_at_all_is_given_up_and_the_records_are_counted(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, "get_experiment_by_name", no_answer(), times=10**9)
    started = time.monotonic()
    writer = deliver(journal, study, deadline_s=0.3)
    assert writer.undelivered == len(list(journal.events()))
    assert 0.3 < time.monotonic() - started < 3


def test_an_outage_that_outlasts_the_sweep_is_said_once(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail(monkeypatch, "get_experiment_by_name", no_answer(), times=10**9)
    writer = MlflowWriter(journal, study, "tiny", "launch")
    with delivering(writer, deadline_s=0.1):
        wait_until(lambda: len(caplog.records) > 0)
    assert writer.undelivered == len(list(journal.events()))
    assert len(caplog.records) == 1


def test_as_long_as_records_arrive_the_end_waits_for_the_rest(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MlflowClient.log_batch

    def slow(self: MlflowClient, *arguments: Any, **named: Any) -> None:
        time.sleep(0.2)
        original(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", slow)
    assert deliver(journal, study, deadline_s=0.3).undelivered == 0
    check_all_there(study)


def test_a_bug_in_the_delivery_surfaces_where_the_sweep_ends(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Translator, events: list[Event]) -> None:
        raise KeyError("something else")

    monkeypatch.setattr(Translator, "tell", fail)
    with pytest.raises(KeyError, match="something else"):
        deliver(journal, study)


def test_no_password_is_left_of_an_error_that_is_cut(
    study: Study, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"http://user:{SECRET}@127.0.0.1/"
    for padding in range(220, 300):
        assert SECRET[:4] not in reason(no_answer("x" * padding + url))
    fail(monkeypatch, "get_experiment_by_name", no_answer(f"API request to {url} failed"), times=10**9)
    with caplog.at_level(logging.DEBUG):
        deliver(journal, study, deadline_s=0.1)
    assert "http://***@127.0.0.1/ failed" in caplog.text
    assert SECRET not in caplog.text


def test_a_trials_run_is_called_by_its_number_and_the_words_of_its_values(study: Study, journal: Journal) -> None:
    point = {"weights.l2": 0.123456, "method": "cpsc", "student.lr": 1e-05, "generator.lr": 1.0}
    journal.append(now(Proposed, number=2, point=point))
    journal.append(now(TrialStart, number=2, point=point, params={}, ray_trial_id="a"))
    deliver(journal, study)
    assert "trial-002 cpsc" in runs(study)


def test_inputs_are_listed_once_however_often_they_are_told(study: Study, journal: Journal) -> None:
    entry = {"name": "probe-set", "digest": "abc", "source": "{}", "profile": '{"num_images": 20}', "context": "probe"}
    journal.append(now(Proposed, number=2, point={}))
    journal.append(now(TrialStart, number=2, point={}, params={}, ray_trial_id="a", inputs=[entry]))
    for _ in range(2):
        deliver(journal, study)
        journal.acknowledge(0)
    (found,) = runs(study)["trial-002"].inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest, found.tags[0].value) == ("probe-set", "abc", "probe")


def test_each_retry_is_kept_with_its_moment(study: Study, journal: Journal) -> None:
    told = [now(Retry, number=1, epoch=2, count=count) for count in (1, 2)]
    for retry in told:
        journal.append(retry)
    deliver(journal, study)
    launch = load_launch(client(study), study.name)
    trials = {trial.number: trial for trial in launch.trials}
    assert trials[1].course.retried == [int(retry.time * 1000) / 1000 for retry in told]
    assert trials[0].course.retried == []
    assert "retries" not in trials[1].curves
