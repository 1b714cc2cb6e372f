"""Which addresses of MLflow stores are whole."""

import pytest

from cpsc.errors import ConfigError
from tests.support.studies import tiny_study
from tuning.study.config import resolve_study
from tuning.study.tracking_uri import is_tracking_uri

WHOLE = [
    "http://127.0.0.1:5000",
    "https://host/path",
    "http://user:p@host:5000/x",
    "http://user:p/w@host",
    "http://[::1]:5000",
    "http://host_name:80/a?b=c#d",
    "postgresql://u:p@h/db",
    "postgresql+psycopg2://u:hid@den@h:5432/db",
    "postgresql://u:p/w#x@h/db?sslmode=require",
    "postgresql:///db?host=/var/run/postgresql",
    "mysql+pymysql://h/db",
    "mssql+pyodbc://u:p@dsn",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3D",
    "sqlite:////a/b.db",
    "sqlite:///relative.db",
    "sqlite:////a/b%20c.db",
    "databricks",
    "databricks://profile",
]
BROKEN = [
    *("http://", "http://:5000", "http:///x", "https://?x", "http://#x", "http://@", "http://user@", "http://user:pw@:5000"),
    *("http://user:pw@/x", "http://host:", "http://host:abc", "http://host:0", "http://host:99999", "http://.", "http:/x"),
    *("postgresql://", "postgresql:///db", "postgresql://h", "postgresql://h/", "postgresql://:5432/db", "postgresql://u@/db"),
    *("mysql:///db", "mssql://", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://host/x.db"),
    *("file:///x", "ftp://h", "host:5000", "", "http://a b", "ws://h", "databricksx"),
]


@pytest.mark.parametrize("uri", WHOLE)
def test_an_address_that_says_where_is_taken(uri: str) -> None:
    assert is_tracking_uri(uri)


@pytest.mark.parametrize("uri", BROKEN)
def test_an_address_without_a_host_or_a_file_is_refused(uri: str) -> None:
    assert not is_tracking_uri(uri)
    with pytest.raises(ConfigError, match=r"^tracking\.uri: must be an MLflow server"):
        resolve_study(tiny_study() | {"tracking": {"uri": uri}})
