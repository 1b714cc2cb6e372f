"""Small networks in float64 on which a method's terms are compared, value and gradient, with a published form stated anew."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cpsc.config import DistillConfig
from cpsc.losses.attention import attention_map
from cpsc.methods import METHODS, AbstractMethod, BatchOutputs
from cpsc.methods.base import NO_OUTPUT
from cpsc.models import Output
from cpsc.statistics import ChannelStatistics
from tests.support.configs import config_of

RELATIVE = 1e-6
FLOORED = 1e-9
"""What a term's own floor on probabilities, 1e-12 each, may add to a value of no size: all of a batch in one class."""
NOISE = 0.1
BATCH, CHANNELS, SIZE, DIM = 6, 2, 6, 7
CLASSES = (10, 100)

GAINS = {
    "usual": (4.0, 3.0),
    "akin": (4.0, 3.0),
    "saturated": (700.0, 500.0),
    "flat": (1e-3, 1e-3),
    "opposed": (90.0, -90.0),
    "equal": (4.0, 4.0),
}
"""What multiplies the logits of teacher and student. `equal` has the very same network twice; `akin` one that has learnt from
the other, and chooses as it does on some images."""


class Net(nn.Module):
    """Two stages of convolution, batch norm and ReLU, a mean pool, a classifier; remembers what went into its batch norms."""

    def __init__(self, classes: int, *, gain: float, dim: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.convs = nn.ModuleList([nn.Conv2d(CHANNELS, 5, 3, padding=1), nn.Conv2d(5, dim, 3, stride=2, padding=1)])
            self.norms = nn.ModuleList([nn.BatchNorm2d(5), nn.BatchNorm2d(dim)])
            self.classifier = nn.Linear(dim, classes)
            for norm in self.norms:
                nn.init.uniform_(norm.running_mean, -0.5, 0.5)
                nn.init.uniform_(norm.running_var, 0.5, 1.5)
        self.feature_dim, self._gain = dim, gain
        self.entering: list[Tensor] = []
        self.stage_outputs: list[Tensor] = []
        self.double().eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Output:
        self.entering, self.stage_outputs = [], []
        x = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            self.entering.append(conv(x))
            x = norm(self.entering[-1]).relu()
            self.stage_outputs.append(x)
        features = x.mean(dim=(2, 3))
        return Output(features, self._gain * self.classifier(features))


@dataclass
class Scene:
    """A batch, what both networks say to it, and all that a term may send a gradient to, by name."""

    labels: Tensor
    images: Tensor
    teacher: Output
    student: Output
    entering: list[Tensor]
    norms: list[nn.BatchNorm2d]
    stages: tuple[list[Tensor], list[Tensor]]
    """The student's and the teacher's."""
    reach: dict[str, Tensor] = field(default_factory=dict)

    @property
    def view(self) -> BatchOutputs:
        return BatchOutputs(
            labels=self.labels,
            teacher=self.teacher,
            student=self.student,
            observed=[ChannelStatistics(x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)) for x in self.entering],
            stored=[ChannelStatistics(norm.running_mean, norm.running_var) for norm in self.norms],
            pixels=self.images,
            attention=([attention_map(x) for x in self.stages[0]], [attention_map(x) for x in self.stages[1]]),
        )


def networks(classes: int, kind: str, *, student_dim: int = DIM) -> tuple[Net, Net]:
    """Teacher and student."""
    of_teacher, of_student = GAINS[kind]
    teacher = Net(classes, gain=of_teacher, dim=DIM, seed=1)
    student = Net(classes, gain=of_student, dim=student_dim, seed=1 if kind in ("equal", "akin") else 2)
    if kind == "akin":
        noise = torch.randn(student.classifier.weight.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        student.classifier.weight += NOISE * noise
    return teacher, student


def images_and_labels(classes: int, *, seed: int = 3) -> tuple[Tensor, Tensor]:
    """A class of three, and lone ones."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(BATCH, CHANNELS, SIZE, SIZE, generator=rng, dtype=torch.float64)
    return images, torch.tensor([0, 1, 0, 2, 0, classes - 1])


def generator_scene(classes: int, kind: str = "usual", *, asks_student: bool = True, student_dim: int = DIM) -> Scene:
    """Both networks' answers with graphs to the images."""
    teacher, student = networks(classes, kind, student_dim=student_dim)
    images, labels = images_and_labels(classes)
    images.requires_grad_()
    t = teacher(images)
    s = student(images) if asks_student else NO_OUTPUT
    scene = Scene(labels, images, t, s, teacher.entering, list(teacher.norms), ([], []))
    scene.reach = {"images": images, "teacher.logits": t.logits, "teacher.features": t.features}
    if asks_student:
        scene.reach |= {"student.logits": s.logits, "student.features": s.features}
    return scene


def student_scene(classes: int, kind: str = "usual") -> Scene:
    """The student's answers with a graph to it alone."""
    teacher, student = networks(classes, kind)
    student.requires_grad_(True)
    images, labels = images_and_labels(classes)
    with torch.no_grad():
        t = teacher(images)
    s = student(images)
    scene = Scene(labels, images, t, s, [], [], (student.stage_outputs, teacher.stage_outputs))
    scene.reach = {"student.logits": s.logits, **dict(student.named_parameters())}
    return scene


def preset_of(method: str, preset: str, classes: int, **changes: object) -> DistillConfig:
    """A preset as a user gets it, some of its settings changed by dotted path with `__` for the dot."""
    point = {name.replace("__", "."): value for name, value in changes.items()}
    return config_of({"method": method}, point, name=preset, num_classes=classes)


def built(config: DistillConfig, classes: int, *, student_dim: int = DIM) -> AbstractMethod:
    """The method in float64, its heads included."""
    teacher, student = networks(classes, "usual", student_dim=student_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return METHODS[config.method](config, teacher=teacher, student=student).double()


Stated = Mapping[str, tuple[float, Tensor]]
"""A published loss: each term's factor and its value, by the name that the method gives it."""


def assert_parity(terms: Mapping[str, Tensor], weights: Mapping[str, float], stated: Stated, reach: Mapping[str, Tensor]) -> None:
    """Same terms, same factors, and value and gradient of each to `RELATIVE`; where nothing flows, nothing may."""
    assert terms.keys() == weights.keys() == stated.keys()
    for name, (factor, value) in stated.items():
        assert weights[name] == factor, name
        assert_same(name, terms[name].mean(), value, reach)


def assert_same(name: str, ours: Tensor, value: Tensor, reach: Mapping[str, Tensor]) -> None:
    assert ours.dtype == value.dtype == torch.float64
    _assert_close(name, ours.detach(), value.detach(), absolute=FLOORED)
    for target, mine, theirs in zip(reach, _gradients(ours, reach), _gradients(value, reach), strict=True):
        _assert_close(f"{name} by {target}", mine, theirs)


def gradient_norms(term: Tensor, reach: Mapping[str, Tensor]) -> dict[str, float]:
    """How much of `term` reaches each."""
    return {name: gradient.norm().item() for name, gradient in zip(reach, _gradients(term.mean(), reach), strict=True)}


def _gradients(value: Tensor, reach: Mapping[str, Tensor]) -> list[Tensor]:
    targets = list(reach.values())
    if not value.requires_grad:
        return [torch.zeros_like(target) for target in targets]
    found = torch.autograd.grad(value, targets, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(t) if gradient is None else gradient for t, gradient in zip(targets, found, strict=True)]


def _assert_close(name: str, ours: Tensor, stated: Tensor, *, absolute: float = 1e-13) -> None:
    assert stated.isfinite().all(), name
    gap, size = (ours - stated).abs().max().item(), stated.abs().max().item()
    assert gap <= RELATIVE * size + absolute, f"{name}: {gap:.3g} apart at a size of {size:.3g}"


# What several published losses are made of, in sums over samples and classes


def mean_over(samples: int, of: Callable[[int], Tensor]) -> Tensor:
    """The mean of what `of` says to each sample."""
    total = of(0)
    for index in range(1, samples):
        total = total + of(index)
    return total / samples


def chances(logits: Tensor) -> Tensor:
    """Of each class, of one sample's logits [C]."""
    powers = torch.exp(logits - logits.detach().max())
    return powers / powers.sum()


def log_chances(logits: Tensor) -> Tensor:
    top = logits.detach().max()
    return logits - top - torch.exp(logits - top).sum().log()


def divergence(of: Tensor, to: Tensor) -> Tensor:
    """KL of one sample's two answers [C]."""
    return (chances(of) * (log_chances(of) - log_chances(to))).sum()


def mean_divergence(teacher: Tensor, student: Tensor, *, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) of softened logits [B, C], averaged over the batch, times the temperature's square."""
    return temperature**2 * mean_over(len(teacher), lambda i: divergence(teacher[i] / temperature, student[i] / temperature))


def surprise(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy: minus the label's log-probability, averaged over the batch."""
    return mean_over(len(labels), lambda i: -log_chances(logits[i])[labels[i]])


def confidence(logits: Tensor) -> Tensor:
    """Cross-entropy with whatever class is largest."""
    return surprise(logits, torch.stack([row.detach().argmax() for row in logits]))


def imbalance(logits: Tensor) -> Tensor:
    """Of the batch's mean class, the sum of p ln p."""
    mean = mean_over(len(logits), lambda i: chances(logits[i]))
    return (mean * mean.log()).sum()


def statistics_gap(entering: list[Tensor], norms: list[nn.BatchNorm2d]) -> Tensor:
    """Over layers: how far the batch's means are from the stored ones, as a vector, and its variances, divided by N."""
    total = torch.tensor(0.0)
    for x, norm in zip(entering, norms, strict=True):
        by_channel = x.transpose(0, 1).reshape(x.shape[1], -1)
        means = by_channel.sum(1) / by_channel.shape[1]
        variances = ((by_channel - means[:, None]) ** 2).sum(1) / by_channel.shape[1]
        total = total + ((means - norm.running_mean) ** 2).sum().sqrt() + ((variances - norm.running_var) ** 2).sum().sqrt()
    return total


def unit(row: Tensor) -> Tensor:
    """One vector over its length."""
    return row / (row**2).sum().sqrt()


def kept_within(values: Tensor, low: float, high: float) -> Tensor:
    """Clamped; beyond the bounds a constant."""
    lowest, highest = torch.full_like(values, low), torch.full_like(values, high)
    return torch.where(values < low, lowest, torch.where(values > high, highest, values))


def mean_gap(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference of all entries."""
    difference = first - second
    return (difference * difference.detach().sign()).sum() / difference.numel()


def tempered_pieces(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The published codes' P, Q and M of JS', [B, C] each: at temperature 3, held to [0.01, 0.99], M before its sides are."""
    p, q = (torch.stack([chances(row / 3.0) for row in logits]) for logits in (student, teacher))
    return kept_within(p, 0.01, 0.99), kept_within(q, 0.01, 0.99), kept_within((p + q) / 2.0, 0.01, 0.99)


def reversed_jensen_shannon(student: Tensor, teacher: Tensor) -> Tensor:
    """Their JS' of each sample and class, [B, C]: half the sum of M log M / P and M log M / Q."""
    p, q, m = tempered_pieces(student, teacher)
    return (m * (m.log() - p.log()) + m * (m.log() - q.log())) / 2.0


def jensen_shannon(student: Tensor, teacher: Tensor) -> Tensor:
    """Its definition at temperature 3, averaged over the batch."""

    def of(index: int) -> Tensor:
        p, q = chances(teacher[index] / 3.0), chances(student[index] / 3.0)
        m = (p + q) / 2.0
        return (torch.special.xlogy(p, p / m).sum() + torch.special.xlogy(q, q / m).sum()) / 2.0

    return mean_over(len(student), of)
