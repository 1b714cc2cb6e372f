"""A request that a launch end its search now: a file in its folder, for the journal is its driver's alone."""

from pathlib import Path

from cpsc.errors import ConfigError

FINISH_FILE = "finish"


class FinishRequest:
    """Made by whoever wants the end, taken by the driver once it has recorded it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FINISH_FILE

    def make(self) -> None:
        """ConfigError where it cannot be written."""
        try:
            self.path.touch()
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written ({error.strerror}), make its folder writable") from error

    @property
    def is_made(self) -> bool:
        """Whether it waits to be taken."""
        return self.path.exists()

    def take(self) -> None:
        """It has been recorded."""
        self.path.unlink(missing_ok=True)
