"""A request to end a launch's search now: a file in its folder, since only the driver may write the journal."""

from pathlib import Path

from cpsc.errors import ConfigError

FINISH_FILE = "finish"


class FinishRequest:
    """Made by whoever wants the end; removed by the driver once it has recorded the request."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FINISH_FILE

    def make(self) -> None:
        """Make the request. ConfigError if it cannot be written."""
        try:
            self.path.touch()
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written ({error.strerror}), make its folder writable") from error

    @property
    def is_made(self) -> bool:
        """Whether there is a request that was not taken yet."""
        return self.path.exists()

    def take(self) -> None:
        """Remove the request, once it is recorded."""
        self.path.unlink(missing_ok=True)
