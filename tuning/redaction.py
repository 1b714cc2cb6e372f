"""What must not reach a log, a record or an error message."""

import re

# Up to the last @ : a password may hold one, and hiding too much harms nobody.
_USER_INFO = re.compile(r"(\w+://)[^\s'\"]*@")
_QUERY = re.compile(
    r"([?&][^=&\s'\"]*(?:token|secret|password|passwd|credential|signature|sig|key)[^=&\s'\"]*=)[^&\s'\"]+", re.IGNORECASE
)


def redact(text: str) -> str:
    """`text` without the names, passwords and tokens that URIs in it carry before their host or in their query."""
    return _QUERY.sub(r"\1***", _USER_INFO.sub(r"\1***@", text))


def reason(error: BaseException) -> str:
    """What `error` says, in a line that may be shown: redacted before it is cut, for half a URI would not be known as one."""
    said = f"no {error}" if isinstance(error, KeyError) else str(error)
    text = redact(said).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
