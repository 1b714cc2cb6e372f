"""What must not reach a log, a record or an error message."""

import re

_USER_INFO = re.compile(r"(\w+://)[^/@\s'\"]+@")


def redact(text: str) -> str:
    """`text` without the names, passwords and tokens that URIs in it carry before their host."""
    return _USER_INFO.sub(r"\1***@", text)
