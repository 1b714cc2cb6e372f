"""The address of a SQLite file for SQLAlchemy, and so for MLflow and Optuna."""

from pathlib import Path

from sqlalchemy import URL


def sqlite_uri(file: Path) -> str:
    """The URI of `file`; its path may contain characters with a meaning in URLs: percent signs, question marks, quotes."""
    plain = f"sqlite:///{file}"
    quoted = URL.create("sqlite", database=str(file)).render_as_string()
    # Without the driver's name, MLflow would create a folder for the path that it reads, still quoted, from the address.
    return plain if quoted == plain else quoted.replace("sqlite:", "sqlite+pysqlite:", 1)
