"""Folders of Parquet files, local or at a URI that Arrow knows: which files belong to a part, and whether it is complete."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpsc.data.litter import HEAD_BYTES, is_litter, is_unfinished, stand_in
from cpsc.data.shards import check_shards
from cpsc.errors import DataError
from cpsc.redaction import redact

SUFFIX = ".parquet"


@dataclass(frozen=True)
class ParquetFile:
    """A file in an Arrow filesystem. As text it is the path, with the scheme if it is not local, and never with credentials."""

    filesystem: Any
    path: str

    def __str__(self) -> str:
        return _shown(self.filesystem, self.path)

    def why_unreadable(self, error: Exception) -> str:
        """What the file is instead of a Parquet file, if its first bytes tell; else the message of `error`."""
        try:
            with self.filesystem.open_input_file(self.path) as stream:
                found = stand_in(stream.read(HEAD_BYTES))
        except troubles():
            found = None
        return found or reason(error)


@dataclass(frozen=True)
class ParquetFolder:
    """A folder in an Arrow filesystem; as text like a `ParquetFile`."""

    filesystem: Any
    root: str

    @classmethod
    def at(cls, location: str | Path) -> "ParquetFolder":
        """The folder at a path, or at a URI, e.g. ``s3://bucket/folder?endpoint_override=host:port``.

        Raises DataError if Arrow does not know the storage.
        """
        from pyarrow import fs

        if "://" not in str(location):
            return cls(fs.LocalFileSystem(), str(Path(location)))
        try:
            filesystem, root = fs.FileSystem.from_uri(str(location))
        except troubles() as error:
            raise DataError(f"dataset.path: {redact(str(location))!r} is not a storage known to Arrow ({reason(error)})") from error
        return cls(filesystem, root.rstrip("/"))

    def __str__(self) -> str:
        return _shown(self.filesystem, self.root)

    @property
    def is_local(self) -> bool:
        from pyarrow import fs

        return isinstance(self.filesystem, fs.LocalFileSystem)

    def is_there(self) -> bool:
        """Whether it is a folder. Raises DataError if its storage cannot be accessed."""
        return self._is_folder(self.root)

    def files(self, part: str, *, say: Callable[[str], None] = lambda message: None) -> list[ParquetFile]:
        """Files of `part`, sorted: ``<part>.parquet`` or ``<part>-*.parquet`` here or in ``data``, or all in a folder ``<part>``.

        There may be none. Raises DataError if they are in several of these places, or not one complete set: see `check_shards`.
        """
        named = re.compile(rf"{re.escape(part)}([^A-Za-z0-9].*)?\{SUFFIX}", re.IGNORECASE)
        above = (self.root, f"{self.root}/data")
        places = {place: self._listed(place, named) for place in above}
        folders = [f"{place}/{part}{suffix}" for place in above for suffix in ("", SUFFIX)]  # train.parquet/ is Spark's
        places |= {folder: self._below(folder) for folder in folders}
        found = {place: names for place, names in places.items() if names}
        if len(found) > 1:
            first, second = (f"{place}/{names[0]}" for place, names in list(found.items())[:2])
            raise DataError(f"{self}: {self._relative(first)} and {self._relative(second)} are two {part} parts, keep only one")
        files = []
        for place, names in found.items():
            for folder in sorted({name.rpartition("/")[0] for name in names}):
                beside = [name.rpartition("/")[2] for name in names if name.rpartition("/")[0] == folder]
                check_shards(beside, _shown(self.filesystem, f"{place}/{folder}".rstrip("/")), say)
            files += [ParquetFile(self.filesystem, f"{place}/{name}") for name in names]
        return files

    def say_unread(self, read: Collection[ParquetFile], say: Callable[[str], None]) -> None:
        """Tell `say` about Parquet files that belong to neither of the parts that are read."""
        anything = re.compile(rf".*\{SUFFIX}", re.IGNORECASE)
        listed = [f"{place}/{name}" for place in (self.root, f"{self.root}/data") for name in self._listed(place, anything)]
        if left := [path for path in listed if path not in {file.path for file in read}]:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            say(f"{self}: ignores {self._relative(left[0])}{more}, outside of the two parts that are read")

    def _is_folder(self, path: str) -> bool:
        from pyarrow import fs

        try:
            return bool(self.filesystem.get_file_info(path).type == fs.FileType.Directory)
        except troubles() as error:
            raise DataError(f"{self}: cannot be read ({reason(error)})") from error

    def _listed(self, folder: str, wanted: re.Pattern[str]) -> list[str]:
        """The Parquet files directly in `folder` with a wanted name, sorted."""
        return [name for name in self._names(folder, wanted) if wanted.fullmatch(name)]

    def _below(self, folder: str) -> list[str]:
        """All Parquet files in `folder` and the folders below it, sorted."""
        found = self._names(folder, re.compile(rf".*\{SUFFIX}", re.IGNORECASE | re.DOTALL), recursive=True)
        return [name for name in found if name.lower().endswith(SUFFIX)]

    def _names(self, folder: str, wanted: re.Pattern[str], *, recursive: bool = False) -> list[str]:
        """Paths from `folder` to its files. Raises DataError if a wanted one is an unfinished download or a broken link."""
        from pyarrow import fs

        if not self._is_folder(folder):
            return []
        try:
            infos = self.filesystem.get_file_info(fs.FileSelector(folder, recursive=recursive))
        except troubles() as error:
            raise DataError(f"{self}: cannot be read ({reason(error)})") from error
        inside = [info for info in infos if info.is_file]
        paths = [info.path[len(folder) :].lstrip("/") if recursive else info.base_name for info in inside]
        names = sorted(path for path in paths if not any(map(is_litter, path.split("/"))))
        for name in names:
            if is_unfinished(name) and wanted.fullmatch(_awaited(name)):
                raise DataError(f"{_shown(self.filesystem, f'{folder}/{name}')}: is an unfinished download, download it again")
        if self.is_local:  # Arrow does not list them
            for path in sorted(Path(folder).rglob("*") if recursive else Path(folder).iterdir()):
                if path.is_symlink() and not path.exists() and not is_litter(path.name) and wanted.fullmatch(path.name):
                    raise DataError(f"{path}: is a link to a missing file, download it again")
        return names

    def _relative(self, path: str) -> str:
        return path.removeprefix(self.root).lstrip("/")


def troubles() -> tuple[type[Exception], ...]:
    """The exceptions that Arrow raises if there is a problem with a file or its storage."""
    import pyarrow as pa

    return (pa.ArrowException, OSError, ValueError)


def reason(error: Exception) -> str:
    """The first line of its message, without credentials."""
    lines = redact(str(error)).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _awaited(name: str) -> str:
    """The name of the Parquet file that this download will become; the download may have more than one suffix."""
    return name[: name.lower().rfind(SUFFIX) + len(SUFFIX)] if SUFFIX in name.lower() else ""


def _shown(filesystem: Any, path: str) -> str:
    return path if filesystem.type_name == "local" else f"{filesystem.type_name}://{path}"
