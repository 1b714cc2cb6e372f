"""Training of a teacher. It takes up to hours, so an interrupted one continues where it was."""

import torch

from cpsc.data import Dataset
from cpsc.teacher_training import TeacherRecipe, UnfinishedTeacher, train_teacher
from tuning.display import Display
from tuning.storage import Storage
from tuning.trial.unfinished import Unfinished


def make_teacher(
    recipe: TeacherRecipe, dataset: Dataset, storage: Storage, name: str, device: torch.device, display: Display
) -> None:
    """Train a teacher as `name` in `storage`, continuing where an earlier process was interrupted.

    The result is bit-identical to that of an uninterrupted training. The bar moves with every batch and shows the loss of the last
    epoch.
    """
    unfinished = Unfinished[UnfinishedTeacher](storage, name)
    begun = unfinished.load(lambda path: UnfinishedTeacher.load(path, recipe, dataset, device))
    title, state = f"teacher {recipe.arch}", ""
    if begun is not None:
        display.say(f"{title}: continues in epoch {begun.epoch} of {recipe.epochs}, where it was interrupted")
    with display.bar(title, recipe.epochs, done=begun.epochs if begun else 0) as advance:

        def on_epoch(epoch: int, loss: float) -> None:
            nonlocal state
            state = f"epoch {epoch} loss {loss:.4f}"
            advance(epoch, state)

        teacher = train_teacher(
            recipe,
            dataset,
            device,
            on_epoch=on_epoch,
            on_batch=lambda epochs: advance(epochs, state),
            begun=begun,
            keep=unfinished.keep,
        )
    unfinished.complete(teacher)
