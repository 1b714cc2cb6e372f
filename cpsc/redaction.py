"""Redacts secrets, in the forms in which programs and services write them, from logs, records and error messages."""

import base64
import binascii
import re
from collections.abc import Callable

HIDDEN = "***"

_WORDS = r"""pass(?:word|wd|phrase) | (?<=[_-])pass | pwd | secret | token | credentials? | signature | sig
    | (?:api|access|account|auth|encryption|master|private|secret|shared|signing|ssh|storage|subscription)[_-]?key(?:[_-]?id)?"""
_NAME = rf"(?<![\w/.-])(?P<name>(?:--)?[\w.-]{{0,60}}?(?:{_WORDS}))(?P<close>\\*[\"']?)"
_QUOTED = r"(?P<escape>\\*)(?P<quote>[\"'])(?P<quoted>.+?)(?P<end>(?<!\\)(?P=escape)(?P=quote))"
_BARE = r"(?P<bare>[^\s&;\"'*][^\s&;]*?)(?=[,)\]}\"']*(?:[\s&;]|\\n|\Z))"
_NO_SECRET = re.compile(r"(?:null|none|true|false|yes|no)[,.]?|[0-9]{1,5}", re.IGNORECASE)
_WEAK = re.compile(r"(?:token|credentials?|signature|sig)", re.IGNORECASE)
"""Words that also occur in ordinary sentences, as in "unexpected token: '}'"."""
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[\w.~+/=:-]{6,}|[\w.~+/=:-]{20,}")

_USER_INFO = re.compile(r"(?<=://)[^\s'\"]{1,4096}@")
"""Up to the last @, because a password may contain one, and hiding too much does no harm."""
_QUERY = re.compile(
    r"([?&][^=&?\s'\"]{0,60}?(?:token|secret|password|passwd|pwd|credential|signature|sig|key)[^=&?\s'\"]{0,60}=)[^&\s'\"]+",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"""(?P<front>\bauthorization\\*["']?\s*[:=]\s*b?\\*["']?)
    (?:(?P<scheme>[A-Za-z][\w-]*)[ ]+(?=[^\s"']))?(?:\w+=)?(?:"[^"]*"|[^\s"',;\\]+)(?:,\s*\w+=(?:"[^"]*"|[^\s"',]+))*""",
    re.IGNORECASE | re.VERBOSE,
)
_COOKIE = re.compile(r"(\b(?:set-)?cookie\\*[\"']?\s*:\s*\\*[\"']?)[^\s\"'][^\n\"']*", re.IGNORECASE)
_BEARER = re.compile(r"(\bbearer[ ]+)(?=[\w.~+/=-]*[0-9=]|[\w.~+/=-]{20})[\w.~+/=-]{6,}", re.IGNORECASE)
_BASIC = re.compile(r"(\bbasic[ ]+)([A-Za-z0-9+/]{4,}={0,2})(?![A-Za-z0-9+/=])", re.IGNORECASE)
_LINE = re.compile(
    rf"""^(?P<front>[ \t]*(?:-[ ])?["']?(?P<name>[\w.-]{{0,60}}?(?:{_WORDS}))["']?[ \t]*:[ \t]+)
    (?!["'|>{{\[*&!])(?P<value>[^\s\#].*?)(?=[ \t]*(?:[ ]\#.*)?$)""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_PAIR = re.compile(
    rf"""{_NAME}(?P<sep>[ \t]*(?:=>|:=|[=:](?!//|[=>]))[ \t]*|%3D)(?:[bru](?=["']))?(?:{_QUOTED}|{_BARE})""",
    re.IGNORECASE | re.VERBOSE,
)
_OPTION = re.compile(
    rf"""(?P<front>(?<!\S)--[\w-]{{0,40}}?(?:{_WORDS})[ ]+)(?!-)(?:"[^"]*"|'[^']*'|\S+)""", re.IGNORECASE | re.VERBOSE
)
_PAIRED = re.compile(r"(\bauth\s*=\s*)\([^)]*\)", re.IGNORECASE)
_PEM = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_SHAPES = re.compile(
    r"""(?<![A-Za-z0-9])(?:
    (?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}                             # AWS
    | gh[pousr]_(?:[A-Za-z0-9]{20,}|(?=\w*[0-9])[A-Za-z0-9]{8,}) | github_pat_\w{10,} | glpat-[\w-]{10,}
    | (?:hf|npm)_(?:[A-Za-z0-9]{20,}|(?=\w*[0-9])[A-Za-z0-9]{8,})     # Hugging Face, npm
    | dapi[0-9a-f]{16,}(?:-[0-9]+)?                                   # Databricks
    | xox[abeoprs]-[\w-]{10,} | sk-[\w-]{20,} | AIza[\w-]{20,} | ya29\.[\w.-]{10,} | pypi-[\w-]{20,}
    | eyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)?                            # JSON web tokens
    )""",
    re.VERBOSE,
)


def redact(text: str) -> str:
    """`text` without passwords, tokens and keys: in URIs and headers, after telling names, and in well-known formats."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def _hide_pair(match: re.Match[str]) -> str:
    """A name and its value in any notation: ``name=value``, ``name: value``, ``"name": "value"``."""
    name, value, separator = match["name"], match["quoted"] or match["bare"], match["sep"]
    word = name.lstrip("-")
    is_path = word.lower().endswith("pwd") and value.startswith(("/", "~"))
    is_prose = separator.strip() == ":" and not match["close"] and _WEAK.fullmatch(word) and not _RANDOM.fullmatch(value)
    if is_path or is_prose or _NO_SECRET.fullmatch(value) or (value == HIDDEN):
        return match[0]
    front = match[0][: match.start("quoted" if match["quoted"] else "bare") - match.start()]
    return f"{front}{HIDDEN}{match['end'] or ''}"


def _hide_line(match: re.Match[str]) -> str:
    """A line of YAML or of a listing that consists of a name and its value, which may contain spaces."""
    value = match["value"]
    is_prose = _WEAK.fullmatch(match["name"]) and (match["name"].lower() != "token" or not value.isalnum())
    return match[0] if is_prose or _NO_SECRET.fullmatch(value) else f"{match['front']}{HIDDEN}"


def _hide_header(match: re.Match[str]) -> str:
    scheme = f"{match['scheme']} " if match["scheme"] else ""
    return f"{match['front']}{scheme}{HIDDEN}"


def _hide_basic(match: re.Match[str]) -> str:
    """Hide only what decodes to ``name:password``, because "basic" is an ordinary word."""
    try:
        is_login = b":" in base64.b64decode(match[2], validate=True)
    except binascii.Error:
        is_login = False
    return f"{match[1]}{HIDDEN}" if is_login else match[0]


_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (_PEM, rf"\1 {HIDDEN} \2"),
    (_USER_INFO, f"{HIDDEN}@"),
    (_QUERY, rf"\1{HIDDEN}"),
    (_HEADER, _hide_header),
    (_COOKIE, rf"\1{HIDDEN}"),
    (_LINE, _hide_line),
    (_PAIR, _hide_pair),
    (_OPTION, rf"\g<front>{HIDDEN}"),
    (_PAIRED, rf"\1{HIDDEN}"),
    (_BEARER, rf"\1{HIDDEN}"),
    (_BASIC, _hide_basic),
    (_SHAPES, HIDDEN),
)
