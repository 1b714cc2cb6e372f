"""Which answers of a tracking server are believed."""

import json
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils import rest_utils
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from tuning.tracking.answers import NoAnswerError, check_answer, checking_answers, retry_after_s
from tuning.tracking.refusal import is_refusal

API = "http://127.0.0.1:5000/prefix/api/2.0/mlflow"
FILES = "http://127.0.0.1:5000/api/2.0/mlflow-artifacts/artifacts"
HTML = "<html>Sign in</html>"


def response(status: int, text: str, **headers: str) -> requests.Response:
    made = requests.Response()
    made.status_code, made._content = status, text.encode()
    made.headers.update({key.replace("_", "-"): value for key, value in headers.items()})
    return made


@pytest.mark.parametrize("text", [HTML, '{"run": {"in', "[]", "null", '{"error_code": "INTERNAL_ERROR"}', ""])
@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", f"{API}/runs/search"),
        ("POST", f"{API}/runs/log-batch"),
        ("GET", f"{API}/experiments/get-by-name"),
        ("GET", FILES),
        ("PUT", f"{FILES}/1/abc/artifacts/study.yaml"),
    ],
)
def test_a_200_that_is_no_object_of_mlflow_is_no_answer(method: str, url: str, text: str) -> None:
    if method == "PUT" and not text:
        check_answer(method, url, response(200, text))  # what servers from 3.x on answer to a file
        return
    with pytest.raises(NoAnswerError, match="200, but"):
        check_answer(method, url, response(200, text))


@pytest.mark.parametrize(
    ("method", "end", "field"),
    [
        ("POST", "runs/create", "run"),
        ("GET", "runs/get", "run"),
        ("GET", "experiments/get-by-name", "experiment"),
        ("POST", "logged-models", "model"),
        ("POST", "model-versions/create", "model_version"),
        ("GET", "registered-models/alias", "model_version"),
    ],
)
def test_what_was_made_or_asked_for_must_be_in_the_answer(method: str, end: str, field: str) -> None:
    check_answer(method, f"{API}/{end}", response(200, json.dumps({field: {"name": "there"}})))
    for empty in ({}, {field: {}}, {"other": 1}):
        with pytest.raises(NoAnswerError, match=f"200, but without '{field}'"):
            check_answer(method, f"{API}/{end}", response(200, json.dumps(empty)))


@pytest.mark.parametrize(
    ("method", "url", "status", "text"),
    [
        ("POST", f"{API}/runs/search", 200, "{}"),
        ("POST", f"{API}/runs/log-batch", 200, "{}"),
        ("PUT", f"{FILES}/1/abc/artifacts/study.yaml", 200, "{}"),
        ("GET", f"{FILES}/1/abc/artifacts/page.html", 200, HTML),
        ("GET", "http://127.0.0.1:5000/version", 200, "3.17.0"),
        ("GET", f"{API}/experiments/get-by-name", 404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}'),
    ],
)
def test_what_mlflow_itself_answers_is_believed(method: str, url: str, status: int, text: str) -> None:
    check_answer(method, url, response(status, text))


def test_a_404_in_the_words_of_a_proxy_does_not_say_that_there_is_no_such_experiment() -> None:
    with pytest.raises(NoAnswerError, match="404, but not from MLflow"):
        check_answer("GET", f"{API}/experiments/get-by-name", response(404, HTML))


@pytest.mark.parametrize(
    ("answer", "pause_s"),
    [
        (response(429, "slow down", Retry_After="7"), 7.0),
        (response(503, "", Retry_After="Fri, 31 Dec 1999 23:59:59 GMT"), 0.0),
        (response(429, ""), 0.0),
        (response(500, '{"error_code": "RESOURCE_DOES_NOT_EXIST"}', Retry_After="7"), 0.0),
        (response(200, ""), 0.0),
    ],
)
def test_the_client_fails_as_if_no_answer_had_come_and_knows_when_to_ask_again(
    monkeypatch: pytest.MonkeyPatch, answer: requests.Response, pause_s: float
) -> None:
    sent: list[tuple[str, str]] = []

    def request(self: requests.Session, method: str, url: str, **named: Any) -> requests.Response:
        sent.append((method, url))
        return answer

    monkeypatch.setattr(requests.Session, "request", request)
    with checking_answers(), pytest.raises(MlflowException) as failed:
        http_request(MlflowHostCreds("http://127.0.0.1:5000"), "/api/2.0/mlflow/runs/log-batch", "POST", json={})
    assert sent == [("POST", "http://127.0.0.1:5000/api/2.0/mlflow/runs/log-batch")]
    assert retry_after_s(failed.value) == pause_s
    assert not is_refusal(failed.value), "whatever the body claims"


def test_answers_are_checked_once_however_often_that_is_asked_for() -> None:
    unchecked = rest_utils._get_http_response_with_retries
    with checking_answers():
        checked = rest_utils._get_http_response_with_retries
        assert checked is not unchecked
        with checking_answers():
            assert rest_utils._get_http_response_with_retries is checked
        assert rest_utils._get_http_response_with_retries is checked
    assert rest_utils._get_http_response_with_retries is unchecked
