"""Registers a study's result in MLflow's registry: a logged model, a version of it, and the alias that points to it.

Each step looks for what an earlier attempt has left, since any step may have been cut off by the driver's death or a lost response.
A step counts as done only once it is read back.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from cpsc.errors import CheckpointError
from cpsc.ground import Finding
from tuning.launch import Journal, replay_events
from tuning.launch.launch import resume_command
from tuning.redaction import reason
from tuning.results import Launch
from tuning.results.in_doubt import in_doubt
from tuning.storage import Storage
from tuning.study import Study
from tuning.tracking import MlflowWriter, store_uri
from tuning.tracking.champion import ALIAS, MODEL_ABSENT, Champion, champion_uri
from tuning.tracking.client import FAILURES, storing_artifacts, tracking_at, using_mlflow
from tuning.tracking.retry import PATIENCE_S, Patience
from tuning.tracking.run_lookup import EXISTS, on_all_pages
from tuning.tracking.tags import DIGEST_TAG, DOUBT_TAG
from tuning.trial import Assets

Found = TypeVar("Found")

MODEL_NAME = "student"
MODEL_URI = "models:/"
"""Prefix, before a logged model's id, of a version's source."""
PARAMS_AT_ONCE = 100
"""MLflow's limit for one request; given more, its client would create the model first and send the rest later."""
PAGE = 100


class Registry:
    """Registers champions in the store of `client`; `patience` retries unanswered requests. `doubts`: findings to record."""

    def __init__(
        self, client: MlflowClient, patience: Patience, say: Callable[[str], None], *, doubts: Sequence[Finding] = ()
    ) -> None:
        self._client = client
        self._patience = patience
        self._say = say
        self._doubts = doubts
        self._doubtful: set[str] = set()

    def register_newest(
        self, name: str, run_id: str, checkpoints: Sequence[str], storage: Storage, assets: Assets, *, trained: bool
    ) -> str:
        """Register the best student in the newest readable one of `checkpoints` as `name` -> its URI.

        Unless the attempt has `trained`, a champion of the same run is replaced only by a newer student: not by that of an earlier
        checkpoint, and not if it is unknown which student it is. CheckpointError if no checkpoint can be read; checkpoints that
        were skipped are reported.
        """
        kept = None if trained else self._patience.ask(self._whole_champion, name, run_id)
        if kept is not None and DIGEST_TAG not in kept.tags:
            return champion_uri(name)  # an earlier version of this package has registered it
        run, failures = self._patience.ask(self._client.get_run, run_id), []
        for path in reversed(checkpoints):
            try:
                with storage.reading(path) as folder:
                    champion = Champion.load(name, run, folder, assets, doubts=self._doubts)
            except CheckpointError as error:
                failures.append(error)
                if kept is not None:
                    return champion_uri(name)
            else:
                self.register(champion)
                for failure in failures:
                    self._say(f"{failure}; an earlier checkpoint's student is registered instead")
                return champion_uri(name)
        raise failures[0] if failures else CheckpointError("the chosen trial has no checkpoint")

    def register(self, champion: Champion) -> None:
        """Make `champion` one logged model and one version of its study's registered model, and point the alias to it."""
        with tracking_at(self._client.tracking_uri):
            model = self._log(champion)
            self._patience.ask(self._open_registered_model, champion)
            version = self._patience.ask(self._open_version, champion, model)
            self._patience.ask(self._point_alias, champion.name, version)
            try:
                self._patience.ask(self._remove_others, champion, model, version)
            except FAILURES as error:
                self._say(f"possible duplicates of {champion.name} in the registry are not removed ({reason(error)})")

    def _log(self, champion: Champion) -> LoggedModel:
        model = self._patience.ask(self._open_model, champion)
        if model.status == LoggedModelStatus.READY:
            return model
        self._patience.ask(self._log_params, model.model_id, champion)
        self._patience.ask(self._log_output, model.model_id, champion)
        with tempfile.TemporaryDirectory(prefix="cpsc-") as temporary:
            folder = Path(temporary) / "model"
            champion.save(model, folder)
            for file in _files(folder):
                self._patience.ask(self._upload, model.model_id, folder, file)
            self._patience.ask(self._complete, model.model_id, folder)
        return self._patience.ask(self._client.finalize_logged_model, model.model_id, LoggedModelStatus.READY)

    def _open_model(self, champion: Champion) -> LoggedModel:
        """The logged model of this student, which is created if there is none."""
        found = self._look("model", lambda: self._models(champion))
        if found:
            return found[0]
        self._doubtful.add("model")
        run = champion.run.info
        return self._client.create_logged_model(
            run.experiment_id, MODEL_NAME, source_run_id=run.run_id, tags={DIGEST_TAG: champion.digest}
        )

    def _models(self, champion: Champion) -> list[LoggedModel]:
        """Every logged model of this student; the one to keep comes first: one that is ready, or the oldest."""
        run = champion.run.info
        query = f"source_run_id = '{run.run_id}'"
        pages = on_all_pages(
            lambda token: self._client.search_logged_models([run.experiment_id], query, max_results=PAGE, page_token=token)
        )
        same = [model for model in pages if model.tags.get(DIGEST_TAG) == champion.digest]
        return sorted(same, key=lambda model: (model.status != LoggedModelStatus.READY, model.creation_timestamp, model.model_id))

    def _log_params(self, model_id: str, champion: Champion) -> None:
        """Log the trial's parameters. A model's parameters can be set only once, so existing ones are not sent again."""
        known = self._client.get_logged_model(model_id).params or {}
        missing = [(key, value) for key, value in champion.params.items() if key not in known]
        for start in range(0, len(missing), PARAMS_AT_ONCE):
            self._client.log_model_params(model_id, dict(missing[start : start + PARAMS_AT_ONCE]))

    def _log_output(self, model_id: str, champion: Champion) -> None:
        """List the model on its run's page, which would show it once per request."""
        outputs = self._client.get_run(champion.run.info.run_id).outputs
        known = outputs.model_outputs if outputs is not None else []
        if model_id not in [output.model_id for output in known]:
            self._client.log_outputs(champion.run.info.run_id, [LoggedModelOutput(model_id, step=0)])

    def _upload(self, model_id: str, folder: Path, file: str) -> None:
        with storing_artifacts():
            parent = Path(file).parent.as_posix()
            self._client.log_model_artifact(model_id, str(folder / file), None if parent == "." else parent)

    def _complete(self, model_id: str, folder: Path) -> None:
        """Upload missing or incomplete files again, and raise MlflowException if there were any."""
        stored = dict(self._stored(model_id))
        missing = [
            file for file in _files(folder) if file not in stored or stored[file] not in (None, (folder / file).stat().st_size)
        ]
        for file in missing:
            self._upload(model_id, folder, file)
        if missing:
            raise MlflowException(f"{', '.join(missing)} of the logged model {model_id} were not stored whole")

    def _stored(self, model_id: str, path: str | None = None) -> Iterator[tuple[str, int | None]]:
        for item in self._client.list_logged_model_artifacts(model_id, path):
            if item.is_dir:
                yield from self._stored(model_id, item.path)
            else:
                yield item.path, item.file_size

    def _open_registered_model(self, champion: Champion) -> None:
        try:
            self._client.get_registered_model(champion.name)
        except MlflowException as error:
            if error.error_code not in MODEL_ABSENT:
                raise
            try:
                self._client.create_registered_model(champion.name, description=champion.how_to_use())
            except MlflowException as refused:
                if refused.error_code != EXISTS:  # by a request that was not answered, or by another launch
                    raise

    def _open_version(self, champion: Champion, model: LoggedModel) -> ModelVersion:
        """The version of this logged model, which is created if there is none."""
        found = self._look("version", lambda: self._versions(champion, model))
        if found:
            self._retell(champion, found[0])
            return found[0]
        self._doubtful.add("version")
        return self._client.create_model_version(
            champion.name,
            source=model.model_uri,
            run_id=champion.run.info.run_id,
            model_id=model.model_id,
            tags=champion.labels(),
            description=champion.origin(),
            await_creation_for=0,  # readiness is checked later, with patience, once the alias points to it
        )

    def _retell(self, champion: Champion, version: ModelVersion) -> None:
        """Update the doubts about a student that is registered already: they may have changed."""
        if version.description != champion.origin():
            self._client.update_model_version(champion.name, str(version.version), champion.origin())
        doubts = champion.labels()[DOUBT_TAG]
        if version.tags.get(DOUBT_TAG) != doubts:
            self._client.set_model_version_tag(champion.name, str(version.version), DOUBT_TAG, doubts)

    def _versions(self, champion: Champion, model: LoggedModel) -> list[ModelVersion]:
        """Every version of this logged model, the first one first."""
        query = f"name = '{champion.name}' AND run_id = '{champion.run.info.run_id}'"
        pages = on_all_pages(lambda token: self._client.search_model_versions(query, max_results=PAGE, page_token=token))
        return sorted((found for found in pages if found.source == model.model_uri), key=lambda found: int(found.version))

    def _look(self, what: str, look: Callable[[], list[Found]]) -> list[Found]:
        """What `look` finds; if nothing, although it was requested before, look again after a pause: the server may be slow."""
        found = look()
        if not found and what in self._doubtful:
            self._patience.pause()
            found = look()
        return found

    def _point_alias(self, name: str, version: ModelVersion) -> None:
        """Point the alias to `version`. MlflowException if it reads back differently, or if the version is not complete."""
        pointed = self._pointed(name)
        if pointed is None or int(pointed.version) != int(version.version):
            self._client.set_registered_model_alias(name, ALIAS, str(version.version))
            pointed = self._pointed(name)
        if pointed is None or int(pointed.version) != int(version.version) or not self._is_whole(pointed):
            raise MlflowException(f"version {version.version} of {name} is not the {ALIAS}, or not ready")

    def _pointed(self, name: str) -> ModelVersion | None:
        try:
            return self._client.get_model_version_by_alias(name, ALIAS)
        except MlflowException as error:
            if error.error_code not in MODEL_ABSENT:
                raise
            return None

    def _whole_champion(self, name: str, run_id: str) -> ModelVersion | None:
        """The champion of the study `name`, if it is a complete student of the run `run_id`, else None."""
        version = self._pointed(name)
        return version if version is not None and version.run_id == run_id and self._is_whole(version) else None

    def _is_whole(self, version: ModelVersion) -> bool:
        """Whether the version is ready; a model is marked as ready only once its files were read back."""
        if not version.source.startswith(MODEL_URI):
            return bool(version.status == "READY")  # a store without logged models
        model = self._client.get_logged_model(version.source.removeprefix(MODEL_URI))
        return version.status == "READY" and model.status == LoggedModelStatus.READY

    def _remove_others(self, champion: Champion, model: LoggedModel, version: ModelVersion) -> None:
        """Delete duplicates, which exist if a server has executed an unanswered request late or twice."""
        for twin in self._versions(champion, model):
            if int(twin.version) != int(version.version):
                self._client.delete_model_version(champion.name, str(twin.version))
        for other in self._models(champion):
            if other.model_id != model.model_id:
                self._client.delete_logged_model(other.model_id)


@using_mlflow()
def register_result(
    study: Study,
    launch: Launch,
    writer: MlflowWriter,
    assets: Assets,
    say: Callable[[str], None],
    *,
    trained: bool,
) -> str | None:
    """Register the result -> the champion's URI; None if no trial has a result, or if registering fails now, which is reported.

    Gives up if the store does not answer for `PATIENCE_S` seconds. Registering the same student again changes nothing.
    CheckpointError if none of its checkpoints can be read, unless an attempt that has not `trained` finds its champion registered.
    """
    if launch.chosen is None:
        return None
    doubts = in_doubt(launch)
    for finding in doubts:
        say(f"in doubt: {finding}")
    number = launch.chosen.number
    checkpoints = replay_events(Journal(study.local / launch.name).events(), metric=study.metric).trials[number].checkpoints
    resume = resume_command(study, launch.name)
    try:
        run_id = writer.run_id(number)
        registry = Registry(MlflowClient(tracking_uri=store_uri(study)), Patience(PATIENCE_S), say, doubts=doubts)
        return registry.register_newest(study.name, run_id, checkpoints, Storage(study.storage), assets, trained=trained)
    except CheckpointError:
        raise
    except FAILURES as error:  # everything is recorded, so an outage now must not look like a failed sweep
        say(f"the chosen student is not registered ({reason(error)}); register it with: {resume}")
        return None


def _files(folder: Path) -> list[str]:
    """Every file in `folder`, by its relative path."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
