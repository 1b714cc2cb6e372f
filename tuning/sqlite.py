"""A SQLite file by the address that SQLAlchemy, and with it MLflow and Optuna, knows it by."""

from pathlib import Path

from sqlalchemy import URL


def sqlite_uri(file: Path) -> str:
    """The address of `file`, whose path may hold what means something in a URL: percent signs, question marks, quotes."""
    plain = f"sqlite:///{file}"
    quoted = URL.create("sqlite", database=str(file)).render_as_string()
    # MLflow makes the folder of a path that it takes out of the address as it stands, unless the driver is named too.
    return plain if quoted == plain else quoted.replace("sqlite:", "sqlite+pysqlite:", 1)
