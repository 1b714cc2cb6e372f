"""Check of the answers of an MLflow server. MLflow's client takes an empty 200 for an empty object, so a lost list of runs looks
like an empty list; it takes an HTML page for a stored file, and an error of a proxy for the server's own.
"""

import functools
import json
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import requests
from mlflow.utils import rest_utils

BUSY = (429, 503)
"""Status codes whose header ``Retry-After`` may say when to ask again."""
_OWN = re.compile(r"/api/\d\.\d/mlflow/|/api/2\.0/mlflow-artifacts/artifacts/?$")
"""Addresses that answer in JSON for every method."""
_ARTIFACT = re.compile(r"/api/2\.0/mlflow-artifacts/")
"""Addresses that answer a GET with a file, and other methods with nothing or, on 2.x servers, in JSON."""
_FIELDS = {
    ("POST", "mlflow/experiments/create"): "experiment_id",
    ("GET", "mlflow/experiments/get-by-name"): "experiment",
    ("GET", "mlflow/experiments/get"): "experiment",
    ("POST", "mlflow/runs/create"): "run",
    ("GET", "mlflow/runs/get"): "run",
    ("POST", "mlflow/logged-models"): "model",
    ("GET", "mlflow/registered-models/get"): "registered_model",
    ("POST", "mlflow/registered-models/create"): "registered_model",
    ("GET", "mlflow/registered-models/alias"): "model_version",
    ("POST", "mlflow/model-versions/create"): "model_version",
    ("GET", "mlflow/model-versions/get"): "model_version",
}
"""The field that an answer must contain, not empty."""


class NoAnswerError(Exception):
    """The response is not an answer to the request, which may or may not have been carried out and must be repeated.

    `retry_after_s`: seconds after which the server wants to be asked again; 0 if it does not say.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def retry_after_s(error: BaseException) -> float:
    """Seconds after which the server that caused `error` wants to be asked again; 0 if it does not say."""
    cause = error.__cause__ or error.__context__
    return cause.retry_after_s if isinstance(cause, NoAnswerError) else 0.0


@contextmanager
def checking_answers() -> Iterator[None]:
    """Check every answer to MLflow's client inside the block: an invalid one fails like a missing one."""
    send = rest_utils._get_http_response_with_retries  # all requests pass here; plugins do not see answers
    is_checked = isinstance(send, functools.partial) and send.func is _send_checked
    rest_utils._get_http_response_with_retries = send if is_checked else functools.partial(_send_checked, send)
    try:
        yield
    finally:
        rest_utils._get_http_response_with_retries = send


def _send_checked(
    send: Callable[..., requests.Response],
    method: str,
    url: str,
    max_retries: int,
    backoff_factor: int,
    backoff_jitter: float,
    retry_codes: Collection[int],
    raise_on_status: bool = True,
    **named: Any,
) -> requests.Response:
    response = send(method, url, max_retries, backoff_factor, backoff_jitter, retry_codes, False, **named)
    if raise_on_status and response.status_code in retry_codes:
        raise NoAnswerError(f"{response.status_code} {response.reason}", _wanted_pause(response))
    check_answer(method, url, response)
    return response


def check_answer(method: str, url: str, response: requests.Response) -> None:
    """Raise NoAnswerError if `response` is not what an MLflow server answers to such a request."""
    path = url.partition("?")[0]
    is_own = bool(_OWN.search(path))
    if response.status_code == 404 and is_own and "error_code" not in (_json_object(response) or {}):
        raise NoAnswerError("404, but not from MLflow")
    is_upload = not is_own and method != "GET" and bool(_ARTIFACT.search(path))
    if response.status_code != 200 or not (is_own or (is_upload and response.text)):
        return
    answer = _json_object(response)
    if answer is None or "error_code" in answer:
        raise NoAnswerError("200, but no JSON object" if answer is None else f"200, but {answer['error_code']}")
    field = next((field for (verb, end), field in _FIELDS.items() if verb == method and path.endswith(end)), None)
    if field is not None and not answer.get(field):
        raise NoAnswerError(f"200, but without {field!r}")


def _json_object(response: requests.Response) -> dict[str, Any] | None:
    try:
        answer = json.loads(response.text)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _wanted_pause(response: requests.Response) -> float:
    """The seconds in ``Retry-After``; a date, which RFC 9110 also allows, is ignored because the clocks may differ."""
    said = response.headers.get("Retry-After", "") if response.status_code in BUSY else ""
    return float(said) if said.isascii() and said.isdecimal() else 0.0
