"""Descriptions of a study, a launch and its trials in Markdown, for MLflow's UI."""

from typing import Protocol

NOTE_TAG = "mlflow.note.content"
"""Tag of the description of an experiment or a run."""


class Notes(Protocol):
    """Describes the current state of a launch: its study, itself, and each of its trials that has started."""

    def study(self) -> str:
        """What is searched, what the launch has found so far, and how to continue."""

    def launch(self) -> str:
        """The launch's progress, its best trials, and how to continue."""

    def trial(self, number: int) -> str:
        """What the trial tries, how it ended, and how to run it again; empty if it has not started."""
