"""Storage that all nodes share: a folder, or any URI that `pyarrow.fs` supports."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from cpsc.errors import CheckpointError, ConfigError
from tuning.redaction import reason, redact

PART = ".part"
"""Suffix of a file that is being copied, or whose copy was killed."""
TROUBLE = (pa.ArrowException, OSError, ValueError)


class Storage:
    """A folder of files that every node of a study can read and write.

    `location`: a path or a URI, e.g. ``s3://bucket/folder?endpoint_override=host:port``. Names are relative to it. ConfigError if
    Arrow does not support the storage. The object is sent to workers together with the credentials in its URI.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        if "://" not in location:
            self.filesystem: fs.FileSystem = fs.LocalFileSystem()
            self.root = str(Path(location).absolute())
            return
        try:
            self.filesystem, root = fs.FileSystem.from_uri(location)
        except TROUBLE as error:
            raise ConfigError(f"storage: {redact(location)!r} is not a storage that Arrow supports ({reason(error)})") from error
        self.root = root.rstrip("/")

    def __str__(self) -> str:
        return redact(self.location)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine: then nothing is copied."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def path(self, name: str) -> str:
        """The full path of `name` for the filesystem and for Ray, without a scheme."""
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name. ConfigError if the storage cannot be read."""
        with self._said_in_a_line("read"):
            return bool(self.filesystem.get_file_info(self.path(name)).type != fs.FileType.NotFound)

    def names(self, folder: str = "") -> list[str]:
        """The files and folders directly in `folder`, sorted; empty if it does not exist."""
        return self.listing(self.path(folder).rstrip("/"))

    def listing(self, path: str) -> list[str]:
        """The same for a full path, as returned by `path()`."""
        with self._said_in_a_line("read"):
            found = self.filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return sorted(info.base_name for info in found)

    def size(self, name: str) -> int:
        """Size of the file `name` in bytes; 0 if it does not exist."""
        with self._said_in_a_line("read"):
            return int(self.filesystem.get_file_info(self.path(name)).size or 0)

    @contextmanager
    def reading(self, path: str) -> Iterator[Path]:
        """Yields a local file or folder with the content at `path`, a full path as returned by `path()`.

        CheckpointError if it cannot be fetched.
        """
        if self.is_local:
            yield Path(path)
            return
        with tempfile.TemporaryDirectory(prefix="cpsc-") as folder:
            local = Path(folder) / path.rsplit("/", 1)[-1]
            try:
                kind = self.filesystem.get_file_info(path).type
                if kind == fs.FileType.NotFound:
                    raise OSError("it does not exist")
                if kind == fs.FileType.Directory:
                    local.mkdir()
                fs.copy_files(path, str(local), source_filesystem=self.filesystem)
            except TROUBLE as error:
                raise CheckpointError(f"{path}: cannot be fetched ({reason(error)})") from error
            yield local

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yields a local path to write to; when the block ends without an error, the file becomes `name`, whole or not at all.

        For a local folder it is the final path, so the caller must replace files atomically. CheckpointError if writing fails.
        """
        if self.is_local:
            yield Path(self.path(name))
            return
        with tempfile.TemporaryDirectory(prefix="cpsc-") as folder:
            local = Path(folder) / name.rsplit("/", 1)[-1]
            yield local
            self.put(local, name)

    def put(self, local: Path, name: str) -> None:
        """Copy the file `local` to `name`; a half-written file never appears under that name."""
        path, partial = self.path(name), self.path(f"{name}.{uuid.uuid4().hex}{PART}")
        try:
            self.filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
            fs.copy_files(str(local), partial, destination_filesystem=self.filesystem)
            self.filesystem.move(partial, path)
        except TROUBLE as error:
            with suppress(*TROUBLE):  # it may not exist, or the storage may be unreachable
                self.filesystem.delete_file(partial)
            raise CheckpointError(f"{self}/{name}: cannot be written ({reason(error)}), what was there before is intact") from error

    def delete(self, name: str) -> None:
        """Remove the file `name`."""
        with self._said_in_a_line("written"):
            self.filesystem.delete_file(self.path(name))

    def delete_folder(self, name: str) -> None:
        """Remove the folder `name` and everything in it."""
        with self._said_in_a_line("written"):
            self.filesystem.delete_dir(self.path(name))

    def write_token(self, name: str, token: bytes) -> None:
        """Write a small file for `read_token`. ConfigError if the storage cannot be written."""
        with self._said_in_a_line("written"):
            self.filesystem.create_dir(self.path(name).rpartition("/")[0], recursive=True)
            with self.filesystem.open_output_stream(self.path(name)) as stream:
                stream.write(token)

    def read_token(self, name: str) -> bytes:
        """Read what `write_token` wrote, here or on another node. ConfigError if it cannot be read."""
        with self._said_in_a_line("read"), self.filesystem.open_input_stream(self.path(name)) as stream:
            return bytes(stream.read())

    def check(self) -> None:
        """Write, read and delete a file: better a ConfigError now than at the first checkpoint, after the work is done."""
        if self.is_local:
            _check_folder(Path(self.root))
            return
        name, token = f".check-{uuid.uuid4().hex}", uuid.uuid4().bytes
        self.write_token(name, token)
        if self.read_token(name) != token:
            raise ConfigError(f"storage: {self}: a file that was written reads back differently")
        self.delete(name)

    @contextmanager
    def _said_in_a_line(self, what: str) -> Iterator[None]:
        """Turn Arrow's errors into a ConfigError in one line; `what`: "read" or "written"."""
        try:
            yield
        except TROUBLE as error:
            raise ConfigError(f"storage: {self} cannot be {what} ({reason(error)})") from error


def _check_folder(folder: Path) -> None:
    """ConfigError unless files can be created in `folder` or, if it does not exist yet, in its nearest existing parent."""
    try:
        nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
        with tempfile.TemporaryFile(dir=nearest) as handle:
            handle.write(b"written")
    except OSError as error:
        raise ConfigError(
            f"storage: {folder} cannot be written ({error.strerror}), choose another with --set storage=..."
        ) from error
