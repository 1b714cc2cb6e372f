"""No secret in what people and files get to see: the forms in which it is written, and the sentences that only look so."""

import time

import pytest

from cpsc.redaction import redact

SECRETS = [
    "http://user:hidden@host:5000/path",
    "postgresql+psycopg2://user:hid@den@host/db",
    "s3://key:hid/den@bucket/folder",
    "redis://:hidden@h",
    "https://user:hid%40den@h/p",
    "Authorization: Bearer hidden",
    "authorization: bearer hiddenA1.b-c",
    "{'Authorization': 'Bearer hidden'}",
    '{"Authorization": "Basic aGlkZGVuOng="}',
    "Authorization: token hidden",
    "Authorization=Bearer hidden",
    "'Authorization': b'Bearer hidden'",
    "Authorization: AWS4-HMAC-SHA256 Credential=hidden/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=hidden",
    'Authorization: Digest username="hidden", realm="x", response="hidden"',
    "401 for Bearer hiddenhidden123",
    "sent Basic aGlkZGVuOmhpZGRlbg== to x",
    "password=hidden",
    "password: hidden",
    "Password = hidden",
    "passwd=hidden",
    "pwd=hidden;Server=x",
    "PGPASSWORD=hidden",
    "MLFLOW_TRACKING_PASSWORD=hidden",
    "AWS_SECRET_ACCESS_KEY=hid/den+x==",
    "aws_secret_access_key = hidden",
    "AWS_SESSION_TOKEN=hidden",
    "export HF_TOKEN=hidden",
    "DB_PASS=hidden",
    "client_secret=hidden",
    "api_key=hidden",
    "apikey: hidden",
    "X-Api-Key: hidden",
    "x-auth-token: hidden",
    "secret=hidden",
    "secret: hidden",
    "token=hidden",
    "token: hidden1",
    "access_token: hidden",
    "accessToken=hidden",
    '{"password": "hidden"}',
    "{'token': 'hidden'}",
    "{'password': 'hid\"den', 'x': 1}",
    '{"api_key":"hidden"}',
    '{\\"password\\": \\"hidden\\"}',
    "password='hidden'",
    'password="hid den hidden"',
    "db: {password: hidden, host: x}",
    "Config(password='hidden', host='x')",
    "Config(password=hidden, host=x)",
    "environ({'AWS_SECRET_ACCESS_KEY': 'hidden', 'HOME': '/root'})",
    "['PASSWORD=hidden', 'HOME=/root']",
    "https://h/x?X-Amz-Signature=hidden&X-Amz-Credential=hidden&X-Amz-Date=1",
    "https://a.blob/x?sv=2020&sig=hidden%3D&se=1",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=hid/den==;EndpointSuffix=core",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Da%3BPWD%3Dhidden%3B",
    "--password hidden",
    "--token=hidden x",
    "cmd --api-key 'hidden' --x",
    "auth=('user', 'hidden')",
    "Cookie: session=hidden; a=hidden",
    "key is AKIAHIDDENHIDDEN1234 here",
    "ghp_hiddenhidden123456",
    "hf_hiddenHiddenHiddenHidden",
    "jwt eyJhbGciOiJI.eyJzdWIiOiIx.hidden-x ok",
    "-----BEGIN RSA PRIVATE KEY-----\nhidden\n-----END RSA PRIVATE KEY-----",
    "a:\n  password: correct hidden staple # c\n  b: 1",
    "MYSQL_PASSWORD: 'hidden'",
    "- token: hidden",
    "password => hidden",
    "password := hidden",
    "password:hidden",
    "password=hid'den",
    "password=hid,den",
    "refused: password=hidden, user=x)",
    "secret_key: hidden",
    "abfs://box@account?sas_token=hidden&retries=3",
    "b'password=hidden'",
    'password="hid\\"den"',
    "wandb_api_key=hidden\\nHOME=/x",
    "SecretAccessKey: hidden",
    "session.token=hidden",
    "http://h/?password=hidden#frag",
    "http://user:hidden@h, http://u:hidden@k",
]
"""In each the secret is spelt with ``hid``, whatever stands beside it, or is of a well-known shape."""
SHAPES = ["dapi0123456789abcdef0123456789abcdef"]
ORDINARY = [
    "auth=BasicAuth",
    "tokens: 5",
    "max_tokens=100",
    "num_token: 5",
    "max-pool",
    "the secret",
    "a secret without value",
    "secret",
    "unexpected token: '}' at line 3",
    "unknown token: identifier",
    "models:/digits@champion",
    "s3://bucket/folder?region=eu-west-1",
    "RAY_AUTH_TOKEN_PATH=/a/b",
    "/etc/passwd: Permission denied",
    "PWD=/home/me",
    "OLDPWD=/x",
    "password=None",
    "token: null",
    "key=value",
    "keys: 3",
    "the key: x",
    "monkey=1",
    "weights.l2=0.5",
    "Basic settings of ResNet",
    "Bearer of news",
    "basic block",
    "signature: (x: int) -> int",
    "sigma=0.5",
    "design=x",
    "a password is wanted",
    "no token, no run",
    "tokenizer=bert",
    "secretary: Jane",
    "compass=3",
    "bypass: yes",
    "first pass: 3",
    "hf_hub_download",
    "sk-learn",
    "skip-connection",
    "dapi",
    "authorization is needed",
    "author: me",
    "passive=1",
    "token",
    "the cluster asks for its token; name the file that holds it in RAY_AUTH_TOKEN_PATH",
    "config.teacher.path: must be a file's path, got 'x'",
    "name: small\nspace:\n  student.lr:\n    loguniform: [0.001, 1]\n",
    "AWS Error NO_CREDENTIALS: no credentials found",
    "credentials: missing",
    "step 3: pass",
    "password: ",
    "password=''",
    "line 3: key 'a' stands twice",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_hidden_in_whatever_notation(text: str) -> None:
    shown = redact(text)
    assert "***" in shown
    assert "hid" not in shown.lower()
    assert redact(shown) == shown


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("shape", SHAPES)
def test_a_token_of_a_known_shape_is_hidden_wherever_it_stands(shape: str) -> None:
    assert redact(f"it is {shape}.") == "it is ***."


def test_what_stands_around_a_secret_is_kept() -> None:
    assert redact("401: Authorization: Bearer abc was refused") == "401: Authorization: Bearer *** was refused"
    assert redact('{"user": "me", "password": "x", "host": "h"}') == '{"user": "me", "password": "***", "host": "h"}'
    assert redact("f(password=x, host=y) failed") == "f(password=***, host=y) failed"
    assert redact("AccountName=a;AccountKey=b==;Suffix=c") == "AccountName=a;AccountKey=***;Suffix=c"
    assert redact("db:\n  password: a b c  # mine\n  host: h\n") == "db:\n  password: ***  # mine\n  host: h\n"


@pytest.mark.parametrize("part", ["a", "a_", "?a", "password=", "'", "--", "eyJ", "Bearer ", "Authorization: a ", "http://"])
def test_no_text_takes_long(part: str) -> None:
    started = time.monotonic()
    redact(part * (20_000 // len(part)))
    assert time.monotonic() - started < 5
