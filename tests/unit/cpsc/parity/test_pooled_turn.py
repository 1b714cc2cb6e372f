"""Two whole turns of NAYER and of FastDFKD in float64, beside their published form stated anew."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import DistillConfig
from cpsc.data.dataset import LEVEL_SLACK
from cpsc.distiller import Distiller
from cpsc.loop import Phase, TermLog, run_phase
from cpsc.rng import derive_seed
from cpsc.synthesis import MetaGeneratorConfig
from cpsc.teacher import Teacher
from tests.unit.cpsc.parity.stage import RELATIVE, divergence, preset_of, surprise
from tests.unit.cpsc.parity.test_pooled import Moments, gap, moments
from tests.unit.cpsc.test_method_contract import small

STEPS, BATCH, CLASSES, PADDING = 6, 10, 4, 4
LATENTS, WIDTH = 8, 4
MEAN, STD = 0.4, 0.3
"""Of the teacher's normalisation."""
BETAS = (0.5, 0.999)
NAYER_LR = 0.1
"""So large that the lowest loss is not always the last."""


class Draws(NamedTuple):
    """Of one step: which images are mirrored, and how far each crop is from the top and from the left of the padded image."""

    mirrored: list[bool]
    tops: list[int]
    lefts: list[int]


class Turn(NamedTuple):
    losses: list[float]
    best: int
    """The step of the lowest loss."""
    pixels: Tensor
    """Its images in [0, 1]."""


@pytest.fixture
def doubles() -> Iterator[None]:
    """All that is built inside the test has double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# --- the published form ---


def published_generator(inputs: int) -> nn.Sequential:
    """Inputs -> pixels of one channel, 8x8."""
    return nn.Sequential(
        nn.Linear(inputs, WIDTH * 2 * 2),
        nn.Unflatten(1, (WIDTH, 2, 2)),
        nn.BatchNorm2d(WIDTH),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
        nn.BatchNorm2d(WIDTH),
        nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(WIDTH, WIDTH // 2, 3, padding=1, bias=False),
        nn.BatchNorm2d(WIDTH // 2),
        nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH // 2, 1, 3, padding=1),
        nn.Sigmoid(),
    )


class Published:
    """What both methods' turns have in common, with the statistics that they hand on."""

    def __init__(self, teacher: nn.Module, student: nn.Module, *, adversarial: float) -> None:
        self.teacher, self.student, self.adversarial = teacher, copy.deepcopy(student).eval(), adversarial
        self.norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
        self.earlier: Moments | None = None

    def turn(
        self,
        make: Callable[[], Tensor],
        labels: Tensor,
        adam: torch.optim.Adam,
        draws: Sequence[Draws],
        learned: Callable[[], None] = lambda: None,
    ) -> Turn:
        """`learned` runs between each backward pass and the step that it is for."""
        losses, lowest, best, kept, last = [], float("inf"), 0, torch.empty(0), []
        for number, drawn in enumerate(draws):
            pixels = make()
            loss, last = self.loss((views(pixels, drawn) - MEAN) / STD, labels)
            losses.append(loss.item())
            if loss.item() < lowest:
                lowest, best, kept = loss.item(), number, pixels.detach().clone()
            adam.zero_grad()
            loss.backward()
            learned()
            adam.step()
        self.take_in([(mean.detach(), var.detach()) for mean, var in last])
        return Turn(losses, best, kept)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Moments]:
        entering: list[Tensor] = []
        handles = [norm.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0])) for norm in self.norms]
        t = self.teacher(images).logits
        for handle in handles:
            handle.remove()
        s, seen = self.student(images).logits, moments(entering)
        agreed = [divergence(a, b) for a, b in zip(t, s, strict=True) if a.argmax() == b.argmax()]
        rivalry = -sum(agreed, torch.zeros(())) / len(labels)
        return 10.0 * gap(seen, self.norms, self.earlier) + 0.5 * surprise(t, labels) + self.adversarial * rivalry, seen

    def take_in(self, last: Moments) -> None:
        if self.earlier is None:
            self.earlier = last
        else:
            self.earlier = [
                (0.9 * old[0] + 0.1 * new[0], 0.9 * old[1] + 0.1 * new[1]) for old, new in zip(self.earlier, last, strict=True)
            ]


class PublishedNayer(Published):
    """One generator that goes on, three noisy layers for ten images of four classes."""

    def __init__(self, inputs: Tensor, *networks: nn.Module, adversarial: float) -> None:
        super().__init__(*networks, adversarial=adversarial)
        dim = inputs.shape[1]
        self.inputs, self.norm, self.body = inputs, nn.BatchNorm1d(dim), published_generator(LATENTS)
        self.noisy = nn.ModuleList(nn.Linear(dim, LATENTS) for _ in range(3))

    def make(self, labels: Tensor) -> Tensor:
        rows = self.norm(self.inputs[labels])
        return self.body(torch.cat([layer(block) for layer, block in zip(self.noisy, rows.split(CLASSES), strict=True)]))

    def batch(self, noise: Tensor, drawn: Tensor, lr: float, draws: Sequence[Draws]) -> Turn:
        """`noise`: the layers' new weights; `drawn`: labels of what whole rounds leave."""
        for layer, weight in zip(self.noisy, noise, strict=True):
            layer.weight.data.copy_(weight.T)
            layer.bias.data.zero_()
        labels = torch.cat([torch.arange(CLASSES), torch.arange(CLASSES), drawn])
        parameters = [*self.noisy.parameters(), *self.norm.parameters(), *self.body.parameters()]
        return self.turn(lambda: self.make(labels), labels, torch.optim.Adam(parameters, lr, BETAS), draws)


class PublishedFast(Published):
    """A meta-generator, its one Adam, and a copy of it for each batch."""

    def __init__(self, *networks: nn.Module, lr: float, latent_lr: float, learns_by: str, adversarial: float) -> None:
        super().__init__(*networks, adversarial=adversarial)
        self.lr, self.latent_lr, self.learns_by = lr, latent_lr, learns_by
        self.meta = published_generator(LATENTS)
        self.meta_adam = torch.optim.Adam(self.meta.parameters(), lr * STEPS, BETAS)

    def batch(self, latents: Tensor, labels: Tensor, draws: Sequence[Draws]) -> Turn:
        self.latents, self.fast = latents.clone().requires_grad_(), copy.deepcopy(self.meta)
        groups = [{"params": self.fast.parameters()}, {"params": [self.latents], "lr": self.latent_lr}]
        self.meta_adam.zero_grad()
        taken = self.turn(
            lambda: self.fast(self.latents), labels, torch.optim.Adam(groups, self.lr, BETAS), draws, learned=self.follow
        )
        if self.learns_by == "reptile":
            for began, ended in zip(self.meta.parameters(), self.fast.parameters(), strict=True):
                began.grad = 67.0 * (began.detach() - ended.detach())
        self.meta_adam.step()
        return taken

    def follow(self) -> None:
        for began, moved in zip(self.meta.parameters(), self.fast.parameters(), strict=True):
            began.grad = moved.grad.clone() if began.grad is None else began.grad + moved.grad

    def redraw(self, projection: Tensor, scale: Tensor) -> None:
        """Its first layer's weights and the scale of the norm behind it are `projection` and `scale`, from N(0, 0.02)."""
        for module, weight in ((self.meta[0], projection), (self.meta[2], scale)):
            module.weight.data.copy_(weight)
            module.bias.data.zero_()


def views(pixels: Tensor, draws: Draws) -> Tensor:
    """A crop of each image in a black frame, some of them mirrored after it."""
    seen = []
    size = pixels.shape[-1]
    for image, mirrored, top, left in zip(F.pad(pixels, (PADDING,) * 4), *draws, strict=True):
        if mirrored:  # ours mirrors before it crops: the same with the crop's place counted from the other side
            left = 2 * PADDING - left
        crop = image[:, top : top + size, left : left + size]
        seen.append(crop.flip(2) if mirrored else crop)
    return torch.stack(seen)


# --- both side by side ---


class Both:
    """A run of ours, and copies of its streams, which draw what its next turn is going to draw."""

    def __init__(self, config: DistillConfig, teacher: Teacher) -> None:
        self.distiller = Distiller(config, teacher)
        self.synthesis: Any = self.distiller.synthesis
        self.phases: list[Phase] = [phase for phase in self.distiller._phases.begin_epoch(1) if phase.name == "generator"]
        self.networks = self.distiller.teacher, self.distiller.student
        self.began = copy.deepcopy(self.distiller.student.state_dict())

    def stream(self, name: str) -> torch.Generator:
        copied = torch.Generator()
        copied.set_state(getattr(self.synthesis, f"_{name}_rng").get_state())
        return copied

    def draws(self) -> list[Draws]:
        rng, found = self.stream("view"), []
        for _ in range(STEPS):
            mirrored = (torch.rand(BATCH, generator=rng) < 0.5).tolist()
            found.append(Draws(mirrored, *torch.randint(0, 2 * PADDING + 1, (2, BATCH), generator=rng).tolist()))
        return found

    def turn(self, phase: Phase) -> list[float]:
        """Ours -> the loss of each step."""
        log = TermLog(phase.name, phase.weights, diverged_above=1e6)
        run_phase(phase, log)
        weights = torch.tensor(list(phase.weights.values()))
        return [(weights * step).sum().item() for step in log._steps]

    def assert_same(self, losses: list[float], taken: Turn, published: Published) -> None:
        """Losses, the images that have entered the pool, and the statistics that the next turn begins with."""
        assert_near(torch.tensor(losses), torch.tensor(taken.losses))
        levels = taken.pixels * 255.0
        written = (levels + LEVEL_SLACK).to(torch.uint8)  # truncated, but for what is a thousandth short of the next level
        assert torch.equal(self.synthesis._pool.images[-BATCH:], written)
        memory, earlier = self.distiller.method.statistics, published.earlier
        assert earlier is not None
        assert_near(memory.mean, torch.cat([mean for mean, _ in earlier]))
        assert_near(memory.var, torch.cat([var for _, var in earlier]))
        after = self.distiller.student.state_dict()
        assert all(torch.equal(after[name], value) for name, value in self.began.items()), "it stands still, its statistics, too"


def assert_near(ours: Tensor, stated: Tensor) -> None:
    assert ours.dtype == stated.dtype == torch.float64
    assert ours.shape == stated.shape
    assert (ours - stated).abs().max() <= RELATIVE * max(1.0, stated.abs().max().item())


def assert_same_network(ours: nn.Module, published: nn.Module) -> None:
    """Weights and running statistics, in their order."""
    pairs = zip(ours.state_dict().values(), published.state_dict().values(), strict=True)
    for mine, theirs in ((mine, theirs) for mine, theirs in pairs if mine.is_floating_point()):
        assert_near(mine, theirs)


def copy_weights(ours: nn.Module, published: nn.Module) -> None:
    """From ours."""
    for mine, theirs in zip(ours.parameters(), published.parameters(), strict=True):
        theirs.data.copy_(mine)


def two_turns(method: str, **changes: Any) -> DistillConfig:
    schedule = {"generator_steps": STEPS, "generator_turns": 2, "batch_size": BATCH, "generator_warmup_epochs": 0}
    return small(method, "original", **{f"schedule.{name}": value for name, value in schedule.items()} | changes)


def assert_can_tell_best_from_last(turns: Sequence[Turn]) -> None:
    assert any(0 < turn.best < STEPS - 1 for turn in turns), "of a turn whose best step is its last this test would learn nothing"


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("is_warmup", [False, True])
def test_two_turns_of_nayer(is_warmup: bool, teacher: Teacher) -> None:
    warmup = {"schedule.generator_warmup_epochs": 1, "schedule.generator_warmup_turns": 2} if is_warmup else {}
    both = Both(two_turns("nayer", **{"generator.lr": NAYER_LR} | warmup), teacher)
    generator = both.synthesis._generator.double()  # the rows of the teacher's classifier came in float32
    published = PublishedNayer(generator.inputs, *both.networks, adversarial=0.0 if is_warmup else 1.33)
    copy_weights(generator.lasting.norm, published.norm)
    copy_weights(generator.lasting.body, published.body)
    turns = []
    for phase in both.phases:
        noise = torch.empty(3, generator.inputs.shape[1], LATENTS).normal_(generator=both.stream("latent"))
        drawn = torch.randint(CLASSES, (2,), generator=both.stream("label"))
        turns.append(published.batch(noise, drawn, NAYER_LR, both.draws()))
        both.assert_same(both.turn(phase), turns[-1], published)
        assert_same_network(generator.lasting.norm, published.norm)
        assert_same_network(generator.lasting.body, published.body)
        for index, layer in enumerate(published.noisy):
            assert_near(generator.noisy.weight[index], layer.weight.T.detach())
            assert_near(generator.noisy.bias[index, 0], layer.bias.detach())
    assert_can_tell_best_from_last(turns)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("learns_by", ["maml", "reptile"])
@pytest.mark.parametrize("redraws", [False, True])
def test_two_turns_of_fast_dfkd(redraws: bool, learns_by: str, teacher: Teacher) -> None:
    changes = {"meta_generator.redraw_after": 1 if redraws else 100, "meta_generator.learns_by": learns_by}
    both = Both(two_turns("fast_dfkd", **{"generator.lr": 0.05, "meta_generator.latent_lr": 0.3} | changes), teacher)
    published = PublishedFast(*both.networks, lr=0.05, latent_lr=0.3, learns_by=learns_by, adversarial=1.33)
    copy_weights(both.synthesis._meta, published.meta)
    turns = []
    for number, phase in enumerate(both.phases, start=1):
        latents = torch.empty(BATCH, LATENTS).normal_(generator=both.stream("latent"))
        labels = torch.randint(CLASSES, (BATCH,), generator=both.stream("label")).sort().values
        inits = both.stream("init")
        turns.append(published.batch(latents, labels, both.draws()))
        both.assert_same(both.turn(phase), turns[-1], published)
        if redraws and number == 1:  # the published code does it as the next turn begins
            published.redraw(*redrawn_weights(inits, seed=both.distiller.config.seed))
        assert_same_network(both.synthesis._meta, published.meta)
        assert_same_network(both.synthesis._generator, published.fast)
        assert_near(both.synthesis._latents[0].detach(), published.latents.detach())
    assert_can_tell_best_from_last(turns)


def test_the_preset_redraws_before_turn_140_as_the_published_code_does() -> None:
    assert preset_of("fast_dfkd", "original", 10).section(MetaGeneratorConfig).redraw_after == 140 - 1


def redrawn_weights(rng: torch.Generator, *, seed: int) -> tuple[Tensor, Tensor]:
    """What our run draws, whose every redrawing has a seed of its own."""
    number = int(torch.randint(2**31, (), generator=rng))
    drawing = torch.Generator().manual_seed(derive_seed(derive_seed(seed, "inits"), str(number)))
    return 0.02 * torch.randn(WIDTH * 2 * 2, LATENTS, generator=drawing), 0.02 * torch.randn(WIDTH, generator=drawing)
