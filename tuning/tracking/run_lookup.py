"""The MLflow runs of one launch: found by their tags, made once, and one of two kept where an answer was lost."""

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
    """The server knows the launch no longer, or never did: its database was lost, or the study names another server."""


class LaunchRuns:
    """Finds and makes the runs of `launch`: one for itself, and one for each of its trials.

    `patience` repeats what is not answered; the methods that it repeats for its caller say so.
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
        """Whether the launch's run, of which all is told once more, has not been made anew yet."""

    @functools.cached_property
    def client(self) -> MlflowClient:
        ensure_store(self._study)
        return MlflowClient(tracking_uri=store_uri(self._study))  # which connects where that is a database: not before the thread

    def start_over(self) -> None:
        """Look everything up anew: the server knows nothing of the launch, and is told all of it again."""
        self._known, self._doubtful, self._experiment, self._is_new, self.told_again = {}, set(), "", False, True

    def open_experiment(self) -> str:
        """The study's experiment, which is made where there is none. Safe to repeat."""
        if not self.experiment_id():
            try:
                self.client.create_experiment(self._study.name, artifact_location(self._study), tags=EXPERIMENT_TAGS)
            except MlflowException as error:
                if error.error_code != EXISTS:  # by a request that was not answered, or by another launch
                    raise
        return self.experiment_id()

    def experiment_id(self, *, anew: bool = False) -> str:
        """Empty where the server has none of the study's name. Safe to repeat."""
        if not self._experiment or anew:
            experiment = self.client.get_experiment_by_name(self._study.name)
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                # somebody can take it out: wait for that
                raise MlflowException(deleted_experiment_message(experiment), INVALID_STATE)
            self._experiment = str(experiment.experiment_id) if experiment is not None else ""
        return self._experiment

    def find(self, number: int | None) -> str | None:
        """The run of a trial, or of the launch itself; None where there is none. Safe to repeat."""
        if number not in self._known:
            if self._is_new and number not in self._doubtful:
                return None  # the launch's own run was made here: so are all its trials'
            found = self._search(number)
            if found is None and number in self._doubtful:
                self._patience.pause()  # a server that hung may still be at work on a request that was given up
                found = self._search(number)
            if found is None:
                return None
            self._known[number] = found
        return self._known[number]

    def run_id(self, number: int | None = None) -> str:
        """The same, repeated until it is answered. ForgottenError where the launch has none, MlflowException where a trial has."""
        found = self._patience.ask(self.find, number)
        if found is not None:
            return found
        if number is None and not self.told_again:
            raise ForgottenError
        whose = f"launch {self.launch}" if number is None else f"trial {number} of launch {self.launch}"
        raise MlflowException(f"{whose} has no run in {redact(store_uri(self._study))}", RESOURCE_DOES_NOT_EXIST)

    def make(self, number: int | None, name: str, tags: Mapping[str, str], *, start_ms: int) -> bool:
        """See to it that the run is there -> whether it was made now. Repeated until it is answered."""
        return self._patience.ask(self._make_once, number, name, tags, start_ms)

    def _make_once(self, number: int | None, name: str, tags: Mapping[str, str], start_ms: int) -> bool:
        if self.find(number) is not None:
            return False
        self._doubtful.add(number)  # until its answer is here, the run may have been made
        own = {LAUNCH_TAG: self.launch, LAUNCH_ID_TAG: self._launch_id}
        run = self.client.create_run(self.experiment_id(), start_ms, {**tags, **own, **SOURCE_TAGS}, run_name=name)
        self._doubtful.discard(number)
        self._known[number] = run.info.run_id
        if number is None:
            self._is_new, self.told_again = True, False
        return True

    def settle(self, close: Callable[[Run], None]) -> None:
        """Delete what was made twice, and pass every run that stays to `close`. Safe to repeat.

        A server may do late what it was asked for and had not answered: after all else.
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
    """Every run that `query` finds, over as many pages as it takes."""
    return list(
        on_all_pages(lambda token: client.search_runs(experiment_ids, query, max_results=PAGE, order_by=order_by, page_token=token))
    )


def on_all_pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """Every item that `ask`, which is given the token of a page, answers with."""
    token: str | None = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def one_each(runs: Iterable[Run], known: Iterable[str] = ()) -> list[Run]:
    """Of the runs of one trial, or of one launch, that of which more is told; in the order in which they come.

    A run that was made twice is told about under one id, the one in `known` where that says; the other stays bare. One that
    names no launch's id, as those of earlier versions, is nobody's twin.
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
