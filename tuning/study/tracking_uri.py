"""Validation of MLflow store addresses."""

import re

_SERVER = ("http", "https")
_DATABASE = ("sqlite", "postgresql", "mysql", "mssql")
_URI = re.compile(
    r"(?P<scheme>\w+)(?:\+\w+)?://(?:[^@/?#\s]*(?::[^@\s]*)?@|[^/?#\s]*@)?(?P<host>\[[^]\s]*\]|[^/:?#@\s]*)(?::(?P<port>[^/?#\s]*))?"
    r"(?:/(?P<path>[^?#\s]*))?(?:\?(?P<query>\S*))?(?:#\S*)?"
)
"""SQLAlchemy's form of a URI, which covers HTTP's; a password may contain a slash."""
_WITHOUT_HOST = re.compile(r"(?:^|&)(?:host|service|unix_socket|odbc_connect)=")
"""Query parameters by which some database drivers give the host."""
_DATABRICKS = re.compile(r"databricks(://\S*)?")


def is_tracking_uri(text: str) -> bool:
    """Whether `text` is complete: it names a server, a database on a host, or a SQLite file. Makes no connection."""
    if _DATABRICKS.fullmatch(text):
        return True
    found = _URI.fullmatch(text)
    if found is None or found["scheme"] not in (*_SERVER, *_DATABASE):
        return False
    if found["scheme"] == "sqlite":
        return not found["host"] and bool(found["path"]) and found["path"] != ":memory:"
    if found["port"] is not None and not (found["port"].isdecimal() and 0 < int(found["port"]) < 65536):
        return False
    has_host = re.search(r"\w", found["host"]) is not None
    if found["scheme"] in _SERVER:
        return has_host
    is_said = _WITHOUT_HOST.search(found["query"] or "") is not None
    return (has_host or is_said) and (bool(found["path"]) or is_said or found["scheme"] == "mssql")
