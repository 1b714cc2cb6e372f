"""Teachers and probe sets that were sound, each ruined in one way: what a search must not go on with in silence."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from cpsc.data.dataset import Normalisation
from cpsc.ground import Ground
from cpsc.models import build_model
from cpsc.probe import ProbeSet
from cpsc.rng import seeded_init, stream
from cpsc.teacher import Teacher

State = dict[str, Tensor]
SOUND = Ground(
    num_images=500,
    num_classes=10,
    label_rate=0.99,
    confidence=0.96,
    margin=4.0,
    largest_class=0.11,
    num_unasked=0,
    num_lost=0,
    finite=1.0,
    variety=80.0,
    at_bounds=0.2,
    untouched_norms=0.0,
    num_test=500,
    teacher_accuracy=0.99,
)
"""Of a good teacher and its probe set."""


def _with_state(ruin: Callable[[Teacher, State], None]) -> Callable[[Teacher], Teacher]:
    def ruined(teacher: Teacher) -> Teacher:
        state = {name: tensor.clone() for name, tensor in teacher.state.items()}
        ruin(teacher, state)
        return replace(teacher, state=state)

    return ruined


def _head(state: State) -> tuple[Tensor, Tensor]:
    """Weight [C, K] and bias [C] of the last layer, whatever it is called: the only matrix there is."""
    name = next(name for name, tensor in state.items() if name.endswith(".weight") and tensor.ndim == 2)
    return state[name], state[name.replace(".weight", ".bias")]


def _untrained(teacher: Teacher, state: State) -> None:
    with seeded_init(1, "ruined"):
        state |= build_model(teacher.arch, num_classes=teacher.num_classes, channels=teacher.channels).state_dict()


def _silenced(_teacher: Teacher, state: State) -> None:
    for part in _head(state):
        part.zero_()


def _one_class(_teacher: Teacher, state: State) -> None:
    _head(state)[1][-1] += 100.0


def _two_classes_lost(_teacher: Teacher, state: State) -> None:
    _head(state)[1][:2] -= 100.0


def _without_statistics(_teacher: Teacher, state: State) -> None:
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.zero_()
        if name.endswith("running_var"):
            tensor.fill_(1.0)


def _channels_shuffled(_teacher: Teacher, state: State) -> None:
    rng = stream(0, "ruined", torch.device("cpu"))
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            order = torch.randperm(len(tensor), generator=rng)
            for part in (tensor, state[name.replace("mean", "var")]):
                part.copy_(part[order])


def _scaled(factor: float) -> Callable[[Teacher, State], None]:
    def ruin(_teacher: Teacher, state: State) -> None:
        for part in _head(state):
            part.mul_(factor)

    return ruin


def _with_std(factor: float) -> Callable[[Teacher], Teacher]:
    def ruined(teacher: Teacher) -> Teacher:
        constants = teacher.normalisation
        return replace(teacher, normalisation=Normalisation(constants.mean, tuple(factor * value for value in constants.std)))

    return ruined


TEACHERS: dict[str, Callable[[Teacher], Teacher]] = {
    "untrained": _with_state(_untrained),
    "classifier zeroed": _with_state(_silenced),
    "one class dominates": _with_state(_one_class),
    "two classes lost": _with_state(_two_classes_lost),
    "batch norms reset": _with_state(_without_statistics),
    "batch norms shuffled": _with_state(_channels_shuffled),
    "logits x1000": _with_state(_scaled(1000.0)),
    "logits x0.001": _with_state(_scaled(0.001)),
    "std a tenth": _with_std(0.1),
    "std ten times": _with_std(10.0),
}
"""By what was done to it; its probe set is synthesised from it as it is then."""


def some_classes(probe: ProbeSet) -> ProbeSet:
    """Of the first half of the classes alone."""
    kept = probe.labels <= int(probe.labels.max()) // 2
    return replace(probe, images=probe.images[kept], labels=probe.labels[kept])


def grey(probe: ProbeSet) -> ProbeSet:
    """Every pixel of every image the same."""
    return replace(probe, images=torch.full_like(probe.images, 128))


def repeated(probe: ProbeSet) -> ProbeSet:
    """One image of each class, as often as there were images of it."""
    first = {int(label): int((probe.labels == label).nonzero()[0]) for label in probe.labels.unique()}
    places = torch.tensor([first[int(label)] for label in probe.labels])
    return replace(probe, images=probe.images[places])


def black_and_white(probe: ProbeSet) -> ProbeSet:
    """Every pixel at the bound that is nearer."""
    return replace(probe, images=torch.where(probe.images > 127, 255, 0).to(torch.uint8))


PROBES: dict[str, Callable[[ProbeSet], ProbeSet]] = {
    "some classes": some_classes,
    "grey": grey,
    "one image a class": repeated,
    "black and white": black_and_white,
}
"""By what was done to a sound teacher's sound probe set."""
