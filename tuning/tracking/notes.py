"""Descriptions of what stands in MLflow, in Markdown: where its UI shows them, and who writes them."""

from typing import Protocol

NOTE_TAG = "mlflow.note.content"
"""Of an experiment and of a run."""


class Notes(Protocol):
    """Says of a launch what is so at the moment: of the study, of the launch, and of each of its trials that has started."""

    def study(self) -> str:
        """What is searched, what the launch has found of it, and how to go on."""

    def launch(self) -> str:
        """How far the launch has come, its best trials, and how to go on."""

    def trial(self, number: int) -> str:
        """What the trial tries, how it ended, and how to run it again; empty where it has not started."""
