"""Unknown keys in a cluster file, which would be ignored: each is refused, with the key that was probably meant."""

from collections.abc import Collection, Mapping
from typing import Any

from cpsc.errors import ConfigError
from tuning.study.near_misses import hint


def check_keys(found: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raise ConfigError for the first key of `found` that is not known; `where`: "" for the top of a file."""
    for key in found:
        if key not in known:
            raise ConfigError(f"{where}.{key}".lstrip(".") + f": unknown key{hint(str(key), known)}")
