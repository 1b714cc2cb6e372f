"""The MLflow runs of one launch: found by their tags, created once, and deduplicated if a lost answer led to two."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import INVALID_STATE, RESOURCE_DOES_NOT_EXIST, MlflowException

from tuning.redaction import redact
from tuning.study import Study
from tuning.tracking.client import artifact_location, deleted_experiment_message, ensure_store, store_uri
from tuning.tracking.retry import Patience
from tuning.tracking.tags import KIND_TAG, LAUNCH_ID_TAG, LAUNCH_TAG, NUMBER_TAG

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI then opens on runs, not on chat traces
SOURCE_TAGS = {"mlflow.source.name": "cpsc-tune", "mlflow.source.type": "LOCAL"}
PAGE = 1000
EXISTS = "RESOURCE_ALREADY_EXISTS"


class ForgottenError(Exception):
    """The server does not know the launch, or not any more: its database was lost, or the study names another server."""


class LaunchRuns:
    """Finds and creates the runs of `launch`: one for itself, and one for each of its trials.

    `patience` repeats requests that are not answered, in the methods that say so.
    """

    def __init__(self, study: Study, launch: str, launch_id: str, patience: Patience) -> None:
        self._study = study
        self.launch = launch
        self._launch_id = launch_id  # two users of one server may give their launches the same name
        self._patience = patience
        self._known: dict[int | None, str] = {}
        self._doubtful: set[int | None] = set()
        self._experiment = ""
        self._is_new = False
        self.told_again = False
        """Whether everything is delivered again, and the launch's run has not been created again yet."""

    @functools.cached_property
    def client(self) -> MlflowClient:
        ensure_store(self._study)
        return MlflowClient(tracking_uri=store_uri(self._study))  # connects if it is a database: only in the thread

    def start_over(self) -> None:
        """Forget what was looked up: the server does not know the launch, and everything is delivered again."""
        self._known, self._doubtful, self._experiment, self._is_new, self.told_again = {}, set(), "", False, True

    def open_experiment(self) -> str:
        """The ID of the study's experiment, which is created if there is none. Safe to repeat."""
        if not self.experiment_id():
            try:
                self.client.create_experiment(self._study.name, artifact_location(self._study), tags=EXPERIMENT_TAGS)
            except MlflowException as error:
                if error.error_code != EXISTS:  # made by an unanswered request, or by another launch
                    raise
        return self.experiment_id()

    def experiment_id(self, *, anew: bool = False) -> str:
        """The ID of the study's experiment; empty if the server has none of that name. Safe to repeat."""
        if not self._experiment or anew:
            experiment = self.client.get_experiment_by_name(self._study.name)
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                # a person can restore it: wait for that
                raise MlflowException(deleted_experiment_message(experiment), INVALID_STATE)
            self._experiment = str(experiment.experiment_id) if experiment is not None else ""
        return self._experiment

    def find(self, number: int | None) -> str | None:
        """The run of a trial, or of the launch itself; None if there is none. Safe to repeat."""
        if number not in self._known:
            if self._is_new and number not in self._doubtful:
                return None  # the launch's own run was made here, so its trials' are, too
            found = self._search(number)
            if found is None and number in self._doubtful:
                self._patience.pause()  # a server that hung may still be working on an abandoned request
                found = self._search(number)
            if found is None:
                return None
            self._known[number] = found
        return self._known[number]

    def run_id(self, number: int | None = None) -> str:
        """`find`, repeated until answered. ForgottenError if the launch has no run, MlflowException if a trial has none."""
        found = self._patience.ask(self.find, number)
        if found is not None:
            return found
        if number is None and not self.told_again:
            raise ForgottenError
        whose = f"launch {self.launch}" if number is None else f"trial {number} of launch {self.launch}"
        raise MlflowException(f"{whose} has no run in {redact(store_uri(self._study))}", RESOURCE_DOES_NOT_EXIST)

    def make(self, number: int | None, name: str, tags: Mapping[str, str], *, start_ms: int) -> bool:
        """Make sure that the run exists -> whether it was created now. Repeated until answered."""
        return self._patience.ask(self._make_once, number, name, tags, start_ms)

    def _make_once(self, number: int | None, name: str, tags: Mapping[str, str], start_ms: int) -> bool:
        if self.find(number) is not None:
            return False
        self._doubtful.add(number)  # until the answer arrives, the run may or may not exist
        own = {LAUNCH_TAG: self.launch, LAUNCH_ID_TAG: self._launch_id}
        run = self.client.create_run(self.experiment_id(), start_ms, {**tags, **own, **SOURCE_TAGS}, run_name=name)
        self._doubtful.discard(number)
        self._known[number] = run.info.run_id
        if number is None:
            self._is_new, self.told_again = True, False
        return True

    def settle(self, close: Callable[[Run], None]) -> None:
        """Delete duplicate runs, and pass every other run to `close`. Safe to repeat.

        To be called last, because a server may carry out an unanswered request late.
        """
        runs = list(self._all(f"tags.{LAUNCH_ID_TAG} = '{self._launch_id}'"))
        kept = {run.info.run_id for run in one_each(runs, known=self._known.values())}
        for run in runs:
            if run.info.run_id in kept:
                close(run)
            else:
                self.client.delete_run(run.info.run_id)

    def _search(self, number: int | None) -> str | None:
        if not self.experiment_id():
            return None
        query = f"tags.{LAUNCH_ID_TAG} = '{self._launch_id}' AND "
        query += f"tags.{KIND_TAG} = 'launch'" if number is None else f"tags.{NUMBER_TAG} = '{number}'"
        found = one_each(self._all(query))
        return str(found[0].info.run_id) if found else None

    def _all(self, query: str) -> list[Run]:
        return all_runs(self.client, [self.experiment_id()], query)


def all_runs(client: MlflowClient, experiment_ids: list[str], query: str, *, order_by: list[str] | None = None) -> list[Run]:
    """Every run that `query` finds, on all pages."""
    return list(
        on_all_pages(lambda token: client.search_runs(experiment_ids, query, max_results=PAGE, order_by=order_by, page_token=token))
    )


def on_all_pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """All items that `ask` returns, page by page; it is given the token of a page."""
    token: str | None = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def one_each(runs: Iterable[Run], known: Iterable[str] = ()) -> list[Run]:
    """Keep one run per trial, or per launch: the one with more records; in the order in which they come.

    Of a run that was created twice, only one gets records: the one whose ID is in `known`, if either is. Runs without a launch's
    ID, as those of earlier versions, are never duplicates.
    """
    chosen: dict[tuple[str, str | None], Run] = {}
    mine = set(known)
    for run in runs:
        tags = run.data.tags
        whose = (tags.get(LAUNCH_ID_TAG, run.info.run_id), tags.get(NUMBER_TAG))
        chosen[whose] = max(
            (other for other in (chosen.get(whose), run) if other is not None),
            key=lambda run: (run.info.run_id in mine, len(run.data.metrics) > 0, len(run.data.params) > 0, run.info.run_id),
        )
    return list(chosen.values())
