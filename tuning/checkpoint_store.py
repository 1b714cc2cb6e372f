"""Where trials' checkpoints lie: a folder, or any storage that `pyarrow.fs` knows by URI."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from cpsc.errors import CheckpointError, ConfigError
from tuning.redaction import redact


class CheckpointStore:
    """The storage of one launch's checkpoints. Paths are those that Ray reports, without a scheme.

    `uri`: e.g. ``s3://bucket/folder?endpoint_override=host:port``; None: the launch's own `folder`.
    """

    def __init__(self, uri: str | None, folder: Path) -> None:
        self.uri = uri
        if uri is None:
            self.filesystem: fs.FileSystem = fs.LocalFileSystem()
            self.root = str(folder)
            return
        try:
            self.filesystem, root = fs.FileSystem.from_uri(uri)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ConfigError(f"checkpoint.storage: {redact(uri)!r} is no storage that Arrow knows ({error})") from error
        self.root = f"{root.rstrip('/')}/{folder.name}"

    def check(self) -> None:
        """Write, read and delete a file there: ConfigError now rather than at the first checkpoint, after the work is done.

        The launch's own folder is checked with the rest of the study's storage.
        """
        if self.uri is None:
            return
        path = f"{self.root}/.writable"
        try:
            self.filesystem.create_dir(self.root, recursive=True)
            with self.filesystem.open_output_stream(path) as stream:
                stream.write(b"written")
            with self.filesystem.open_input_stream(path) as stream:
                if stream.read() != b"written":
                    raise OSError("what was written does not come back")
            self.filesystem.delete_file(path)
        except (pa.ArrowException, OSError) as error:
            reason = redact(str(error)).splitlines()[0][:200]
            raise ConfigError(f"checkpoint.storage: {redact(self.uri)} cannot be written and read ({reason})") from error

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """Yields a local folder with the files of the checkpoint at `path`. CheckpointError where they cannot be had."""
        if isinstance(self.filesystem, fs.LocalFileSystem):
            yield Path(path)
            return
        with tempfile.TemporaryDirectory() as folder:
            try:
                fs.copy_files(path, folder, source_filesystem=self.filesystem)
            except (pa.ArrowException, OSError) as error:
                raise CheckpointError(f"{path}: cannot be fetched ({redact(str(error)).splitlines()[0][:200]})") from error
            yield Path(folder)
