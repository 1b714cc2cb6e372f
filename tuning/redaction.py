"""Redaction of errors for a message, a log or a record."""

from cpsc.redaction import redact

__all__ = ["reason", "redact"]


def reason(error: BaseException) -> str:
    """The message of `error` in one line, with secrets removed. Redacted before it is cut: half a URI would not be recognised."""
    said = f"no {error}" if isinstance(error, KeyError) else str(error)
    text = redact(said).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
