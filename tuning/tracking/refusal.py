"""Tells a tracking server that cannot be reached, which is waited for, from one that refuses a record, which is skipped."""

import requests
from mlflow.exceptions import MlflowException

MINE = (401, 403, 407, 408, 425, 429, 499)
"""4xx that concern the caller or the moment, not what was sent: a new token or waiting may help."""


def is_refusal(error: Exception) -> bool:
    """Whether `error` is an answer that the same request would always get.

    That is not so for a missing answer, 5xx, or an answer that is not from MLflow (a proxy may not know the path), nor for errors
    that MLflow's client derives from these, for example when it reports a model as absent that it could not ask for.
    """
    if isinstance(error.__cause__, (MlflowException, OSError)) and not is_refusal(error.__cause__):
        return False
    if isinstance(error, requests.HTTPError):
        return error.response is not None and _is_final(error.response.status_code)
    if isinstance(error, MlflowException):
        return error.error_code != "ENDPOINT_NOT_FOUND" and _is_final(error.get_http_status_code())
    return False


def _is_final(status: int) -> bool:
    return 400 <= status < 500 and status not in MINE
