"""Is a tracking server away, or does it refuse one record for good? The first is waited for, the second passed over."""

import requests
from mlflow.exceptions import MlflowException

MINE = (401, 403, 407, 408, 425, 429, 499)
"""4xx that speak of the caller or of the moment, not of what was sent: a new token, or patience, cures them."""


def is_refusal(error: Exception) -> bool:
    """Whether `error` is an answer that the same request would get again and again.

    No answer, 5xx, and answers that are not MLflow's own (a proxy before it knows no such path) are none; nor is what MLflow's
    client makes of one of them, as where it calls a model absent that it could not ask for.
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
