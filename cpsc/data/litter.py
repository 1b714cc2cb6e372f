"""Litter in folders of data: what systems and tools leave there, downloads that did not end, files' stand-ins."""

SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        "@eadir",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "__pycache__",
    }
)
"""In lower case: of macOS, Synology, Windows, Linux and Python. Others begin with a dot."""

UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".download", ".filepart", ".aria2", ".tmp", ".!ut")
"""What the Hub's client, browsers and download tools append to a name until the file is whole."""

HEAD_BYTES = 64


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden or a system's own: nobody's data, at any depth."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_unfinished(name: str) -> bool:
    """Whether it is named as a download that has not ended."""
    return name.lower().endswith(UNFINISHED)


def stand_in(head: bytes) -> str | None:
    """What a file that cannot be read is instead, by its first `HEAD_BYTES`; None where they do not tell."""
    if not head:
        return "it is empty, fetch it anew"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "it is a Git LFS pointer and not the file, fetch that with `git lfs pull`"
    if head.startswith((b"/annex/objects/", b"../.git/annex/", b".git/annex/")):
        return "it is a git-annex pointer and not the file, fetch that with `git annex get`"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page and not the file, fetch it anew"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ")):
        return "it is packed, unpack it"
    return None
