"""No secret in what people and files get to see."""

import pytest

from tuning.redaction import reason, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:hidden@host:5000/path", "http://***@host:5000/path"),
        ("postgresql+psycopg2://user:hid@den@host/db", "postgresql+psycopg2://***@host/db"),
        ("s3://key:hid/den@bucket/folder", "s3://***@bucket/folder"),
        ("at 's3://key:hidden@bucket' and http://hidden@host", "at 's3://***@bucket' and http://***@host"),
        ("abfs://box@account?sas_token=hidden&retries=3", "abfs://***@account?sas_token=***&retries=3"),
        ("s3://bucket?secret_key=hidden&endpoint_override=host%3A1", "s3://bucket?secret_key=***&endpoint_override=host%3A1"),
        ("models:/digits@champion", "models:/digits@champion"),
        ("s3://bucket/folder?region=eu-west-1", "s3://bucket/folder?region=eu-west-1"),
    ],
)
def test_secrets_of_uris_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert "hidden" not in redact(text)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("first\nsecond"), "first"),
        (KeyError("experiments"), "no 'experiments'"),
        (OSError("http://user:hidden@host is away"), "http://***@host is away"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("x" * 500), "x" * 200),
    ],
)
def test_a_reason_is_a_line_that_may_be_shown(error: Exception, said: str) -> None:
    assert reason(error) == said
