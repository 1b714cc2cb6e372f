"""Answers of an MLflow server that are believed. Its client takes an empty 200 for an empty object, and so a lost list of runs
for a list of none; a page of HTML for a file that was stored; and an error in the words of a proxy for the server's own.
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
"""What may say in its header ``Retry-After`` when to ask again."""
_OWN = re.compile(r"/api/\d\.\d/mlflow/|/api/2\.0/mlflow-artifacts/artifacts/?$")
"""Addresses that answer in JSON, whatever the method."""
_ARTIFACT = re.compile(r"/api/2\.0/mlflow-artifacts/")
"""Addresses that answer a GET with a file, and whatever else with nothing, or, from 2.x servers, in JSON."""
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
"""What an answer must hold that is not allowed to be empty."""


class NoAnswerError(Exception):
    """What came back says nothing of what was asked: it may have been done, and must be asked again.

    `retry_after_s`: when the server wants to be asked again; 0 where it does not say.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def retry_after_s(error: BaseException) -> float:
    """When the server that caused `error` wants to be asked again; 0 where it does not say."""
    cause = error.__cause__ or error.__context__
    return cause.retry_after_s if isinstance(cause, NoAnswerError) else 0.0


@contextmanager
def checking_answers() -> Iterator[None]:
    """Within the block every answer to MLflow's client is checked: one that is none fails as no answer does."""
    send = rest_utils._get_http_response_with_retries  # all its requests pass here, and its plugins see none of the answers
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
    """Raise NoAnswerError where `response` is not what an MLflow server says to such a request."""
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
    """The seconds in ``Retry-After``; RFC 9110 allows a date there, which a clock other than ours would have to say."""
    said = response.headers.get("Retry-After", "") if response.status_code in BUSY else ""
    return float(said) if said.isascii() and said.isdecimal() else 0.0
