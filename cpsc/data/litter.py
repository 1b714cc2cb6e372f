"""Litter in data folders: files that systems and tools leave there, unfinished downloads, and placeholders of files."""

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
"""Names, in lower case, used by macOS, Synology, Windows, Linux and Python. Others begin with a dot."""

UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".download", ".filepart", ".aria2", ".tmp", ".!ut")
"""Suffixes that the Hugging Face client, browsers and download tools append to a name until the file is complete."""

HEAD_BYTES = 64


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden or belongs to the system, so that it is never data."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_unfinished(name: str) -> bool:
    """Whether the name is that of an unfinished download."""
    return name.lower().endswith(UNFINISHED)


def stand_in(head: bytes) -> str | None:
    """What a file that cannot be read really is, by its first `HEAD_BYTES`; None if they do not tell."""
    if not head:
        return "it is empty, download it again"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "it is a Git LFS pointer, fetch the file with `git lfs pull`"
    if head.startswith((b"/annex/objects/", b"../.git/annex/", b".git/annex/")):
        return "it is a git-annex pointer, fetch the file with `git annex get`"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page instead of the file, download it again"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ")):
        return "it is a compressed archive, unpack it"
    return None
