"""Where MLflow's UI shows a run: an address that a browser can open, without secrets."""

from collections.abc import Callable
from urllib.parse import quote, urlsplit

from mlflow import MlflowClient

from tuning.results import Launch, TrialRecord
from tuning.tracking.client import FAILURES
from tuning.tracking.ui_view import LOCAL_UI

RunLink = Callable[[TrialRecord], str]
"""The address of a trial's run; empty if there is none."""


def ui_address(tracking_uri: str) -> str:
    """The UI's address of a store: a server's own, without user and password; for a database, that of `cpsc-tune ui`.

    Empty if no browser can reach it, as with a vendor's URI scheme.
    """
    parts = urlsplit(tracking_uri)
    if parts.scheme in ("http", "https"):
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return LOCAL_UI if parts.scheme.startswith(("sqlite", "postgresql", "mysql", "mssql")) else ""


def run_link(client: MlflowClient, launch: Launch, tracking_uri: str) -> RunLink:
    """Where the UI of the store at `tracking_uri` shows each trial of `launch`."""
    try:
        experiment = client.get_experiment_by_name(launch.study)
    except FAILURES:
        experiment = None
    address = ui_address(tracking_uri)
    if experiment is None or not address:
        return lambda trial: ""
    before = f"{address}/#/experiments/{quote(experiment.experiment_id)}/runs/"
    return lambda trial: before + quote(trial.run_id) if trial.run_id else ""
