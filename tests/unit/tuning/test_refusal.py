"""Which answers of a tracking server are final, and which are waited out."""

import pytest
import requests
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException, RestException

from cpsc.errors import CheckpointError
from tuning.tracking.refusal import is_refusal


def http_error(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} for url: http://127.0.0.1/artifact", response=response)


@pytest.mark.parametrize(
    "code", ["INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "RESOURCE_CONFLICT"]
)
def test_what_is_wrong_with_a_record_itself_is_final(code: str) -> None:
    assert is_refusal(RestException({"error_code": code, "message": "never"}))


WAITED_OUT = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "INVALID_STATE")


@pytest.mark.parametrize("code", [*WAITED_OUT, "UNAUTHENTICATED", "PERMISSION_DENIED", "SOMETHING_NEW"])
def test_outages_limits_and_credentials_are_waited_out(code: str) -> None:
    assert not is_refusal(RestException({"error_code": code, "message": "not now"}))


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415])
def test_artifacts_that_a_server_will_not_take_are_final(status: int) -> None:
    assert is_refusal(http_error(status))


@pytest.mark.parametrize("status", [401, 403, 407, 408, 429, 500, 502, 503, 504])
def test_artifacts_that_it_cannot_take_now_are_not(status: int) -> None:
    assert not is_refusal(http_error(status))


def test_no_answer_is_none() -> None:
    assert not is_refusal(MlflowException("API request to http://127.0.0.1 failed with exception"))
    assert not is_refusal(requests.ConnectionError("refused"))
    assert not is_refusal(requests.HTTPError("no response came"))
    assert not is_refusal(CheckpointError("cannot be fetched"))


def test_a_path_that_some_other_server_does_not_know_is_none() -> None:
    assert not is_refusal(RestException({"error_code": 404, "message": "nginx"}))


@pytest.mark.parametrize("cause", [MlflowException("API request failed"), requests.ConnectionError("reset"), http_error(503)])
def test_what_the_client_itself_concludes_from_no_answer_is_none(cause: Exception) -> None:
    with pytest.raises(MlflowException) as concluded:
        raise MlflowException("you may not have access to the logged model", INVALID_PARAMETER_VALUE) from cause
    assert not is_refusal(concluded.value)
    with pytest.raises(MlflowException) as told:
        raise MlflowException("there is no such model", INVALID_PARAMETER_VALUE) from http_error(404)
    assert is_refusal(told.value)
