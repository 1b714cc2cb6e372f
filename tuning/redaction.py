"""Redaction of errors for a message, a log or a record."""

from cpsc.redaction import redact

__all__ = ["reason", "redact"]


def reason(error: BaseException) -> str:
    """What `error` says, in a line that may be shown: redacted before it is cut, for half a URI would not be known as one."""
    said = f"no {error}" if isinstance(error, KeyError) else str(error)
    text = redact(said).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
