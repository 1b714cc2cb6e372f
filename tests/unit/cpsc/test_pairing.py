"""Stored and observed statistics are of the same layer, whatever a network does with its batch norms."""

import copy
import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.errors import ConfigError
from cpsc.losses.statistics import batch_statistics_distance, gaussian_statistics_kl
from cpsc.methods.base import num_input_channels
from cpsc.models import Output
from cpsc.norms import survey_norms
from cpsc.observation import BatchViews
from cpsc.statistics import StatisticsRecorder, batch_norm_layers, channel_means, recorded
from tests.unit.cpsc.test_observation import Wishes, batch_of

WIDTH, SIZE, ROWS = 4, 8, 16


pytestmark = pytest.mark.slow  # networks of every family see images


class InOrder(nn.Module):
    """Three equally wide layers, declared as they run; each pushes its mean and variance elsewhere."""

    ORDER = ("a", "b", "c")

    def __init__(self) -> None:
        super().__init__()
        for name in self.ORDER:
            self.add_module(name, nn.BatchNorm2d(WIDTH))
        rng = torch.Generator().manual_seed(0)
        self.mix = nn.ParameterDict(
            {name: torch.randn(WIDTH, WIDTH, 1, 1, generator=rng) * scale for name, scale in (("a", 0.3), ("b", 3.0), ("c", 9.0))}
        )
        self.shift = {"a": 1.0, "b": -4.0, "c": 9.0}
        self.score = nn.Linear(WIDTH, 3)

    def enter(self, name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, self.mix[name]) + self.shift[name]

    def body(self, x: Tensor) -> Tensor:
        for name in ("a", "b", "c"):
            x = self.get_submodule(name)(self.enter(name, x)).relu()
        return x

    def forward(self, x: Tensor) -> Output:
        features = self.body(x).mean(dim=(2, 3))
        return Output(features, self.score(features))


class OutOfOrder(InOrder):
    """Declared in another order than they run in."""

    ORDER = ("c", "b", "a")


class Shared(InOrder):
    """The last layer, which is declared between the others, runs twice, on unlike inputs."""

    def body(self, x: Tensor) -> Tensor:
        x = self.a(self.enter("a", x)).relu()
        x = self.c(self.enter("b", x)).relu()
        return self.b(self.enter("a", x)) - self.b(self.enter("c", x))


class SharedEvenly(Shared):
    """Its stored statistics are plain averages."""

    def __init__(self) -> None:
        super().__init__()
        self.b.momentum = None


class Auxiliary(InOrder):
    """A layer in the middle of the declaration runs in training only."""

    ORDER = ("a", "extra", "b", "c")

    def body(self, x: Tensor) -> Tensor:
        if self.training:
            self.extra(x)
        return super().body(x)


class PartOfTheBatch(InOrder):
    """One layer sees the rows with an even number, and at times none."""

    def body(self, x: Tensor) -> Tensor:
        x = self.a(self.enter("a", x)).relu()
        seen = self.b(self.enter("b", x[::2])).relu()
        self.c(self.enter("c", x[:0])) if not self.training else None
        return self.c(self.enter("c", seen))


class Flat(InOrder):
    """A batch norm of values that have no place, among others."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor) -> Output:
        features = self.last(self.body(x).mean(dim=(2, 3)) * 5.0)
        return Output(features, self.score(features))


class Volumes(InOrder):
    """Three dimensions of places, one of them a single one."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.BatchNorm3d(WIDTH)

    def body(self, x: Tensor) -> Tensor:
        x = self.a(self.enter("a", x)).relu()
        x = self.b(self.enter("b", x)[:, :, None]).relu()[:, :, 0]
        return self.c(self.enter("c", x))


class Synchronised(OutOfOrder):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.SyncBatchNorm(WIDTH)

    def body(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().body(x)
        x = self.a(self.enter("a", x)).relu()  # it trains on several GPUs only: here its function is called
        entering, b = self.enter("b", x), self.b
        x = F.batch_norm(entering, b.running_mean, b.running_var, b.weight, b.bias, training=True, momentum=b.momentum)
        return self.c(self.enter("c", x.relu()))


class Untracked(OutOfOrder):
    """One that keeps no statistics, between those that do."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.BatchNorm2d(WIDTH, track_running_stats=False)


class OneInstance(OutOfOrder):
    """A norm of single images that keeps statistics all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.InstanceNorm2d(WIDTH, track_running_stats=True)


class Named(OutOfOrder):
    """What enters a layer is handed over by name."""

    def body(self, x: Tensor) -> Tensor:
        x = self.a(input=self.enter("a", x)).relu()
        x = self.b(input=self.enter("b", x)).relu()
        return self.c(input=self.enter("c", x))


class Own(nn.Module):
    """Batch norm as a user writes it, frozen."""

    def __init__(self, like: nn.BatchNorm2d) -> None:
        super().__init__()
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, getattr(like, name).clone())

    def forward(self, x: Tensor) -> Tensor:
        mean, var = (buffer[:, None, None] for buffer in (self.running_mean, self.running_var))
        return (x - mean) / (var + 1e-5).sqrt()


ALL = (
    InOrder,
    OutOfOrder,
    Shared,
    SharedEvenly,
    Auxiliary,
    PartOfTheBatch,
    Flat,
    Volumes,
    Synchronised,
    Untracked,
    OneInstance,
    Named,
)


def images(seed: int = 1, rows: int = ROWS) -> Tensor:
    return torch.randn(rows, WIDTH, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def trained(make: Callable[[], nn.Module]) -> nn.Module:
    """A network whose statistics have settled on one batch of images."""
    return copy.deepcopy(_trained(make))


@functools.cache
def _trained(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    network = make().requires_grad_(False)
    for _ in range(100):
        network(images())
    return network.eval()


def distance(network: nn.Module, x: Tensor, compare: Callable[..., Tensor] = batch_statistics_distance) -> float:
    recorder = StatisticsRecorder(network)
    _, observed = recorder.observe(network, x)
    return compare(observed, recorder.stored).item()


@pytest.mark.parametrize("compare", [batch_statistics_distance, gaussian_statistics_kl])
@pytest.mark.parametrize("make", ALL)
def test_the_images_that_a_network_was_trained_on_match_its_statistics_and_others_do_not(make, compare) -> None:
    network = trained(make)
    # What is left is the unbiased variance, which is kept and normalised by.
    assert distance(network, images(), compare) < 0.01 * distance(network, 2.0 * images() + 1.0, compare)


def test_the_order_of_declaration_changes_no_value() -> None:
    here, there = trained(InOrder), trained(OutOfOrder)
    for x in (images(), 2.0 * images()):
        assert distance(there, x) == pytest.approx(distance(here, x), rel=1e-6)
    recorder = StatisticsRecorder(there)
    _, observed = recorder.observe(there, images())
    assert list(recorder.layers) == [there.c, there.b, there.a]
    torch.testing.assert_close(observed[2].mean, there.enter("a", images()).mean(dim=(0, 2, 3)))


def test_the_uses_of_a_layer_count_as_its_momentum_weighs_them() -> None:
    network = trained(Shared)
    seen = []
    network.b.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    recorder = StatisticsRecorder(network)
    _, observed = recorder.observe(network, images())
    (first, second), at = seen, recorder.layers.index(network.b)
    mean = (0.9 * first.mean(dim=(0, 2, 3)) + second.mean(dim=(0, 2, 3))) / 1.9
    var = (0.9 * first.var(dim=(0, 2, 3), correction=0) + second.var(dim=(0, 2, 3), correction=0)) / 1.9
    torch.testing.assert_close(observed[at].mean, mean)
    torch.testing.assert_close(observed[at].var, var, rtol=1e-4, atol=1e-5)


def test_both_uses_of_a_layer_carry_the_graph_to_the_images() -> None:
    network, x = trained(Shared), images().requires_grad_()
    recorder = StatisticsRecorder(network)
    _, observed = recorder.observe(network, x)
    at = recorder.layers.index(network.b)
    (both,) = torch.autograd.grad(observed[at].mean.sum(), x)
    branch = network.enter("c", network.c(network.enter("b", network.a(network.enter("a", x)).relu())).relu())
    (second,) = torch.autograd.grad(branch.mean(dim=(0, 2, 3)).sum() / 1.9, x)
    assert (both - second).abs().max() > 0.01 * both.abs().max()  # the first use's share
    assert second.abs().max() > 0


def test_a_layer_that_does_not_run_is_not_in_the_sum_and_moves_no_other() -> None:
    network = trained(Auxiliary)
    recorder = StatisticsRecorder(network)
    _, observed = recorder.observe(network, images())
    assert [seen is None for seen in observed] == [False, True, False, False]
    assert len(recorder.stored) == 4


def test_a_batch_norm_of_the_users_own_class_is_one() -> None:
    network = trained(OutOfOrder)
    expected = distance(network, images(3))
    network.b = Own(network.b)
    assert distance(network, images(3)) == pytest.approx(expected, rel=1e-2)


def test_a_network_none_of_whose_batch_norms_runs_is_refused_where_its_statistics_are_needed() -> None:
    network = trained(InOrder)
    network.body = lambda x: x
    observer = BatchViews(network, network, Wishes("batch_statistics"))
    with pytest.raises(ConfigError, match=r"none of the teacher's batch norms runs, so weights\.batch_statistics must be 0"):
        observer.generator_view(batch_of(images()))


@pytest.mark.parametrize(
    ("make", "compared", "left_out", "said"),
    [
        (OutOfOrder, 3, {}, ""),
        (Flat, 4, {}, ""),
        (Auxiliary, 3, {"extra": "does not run"}, "1 of 4 batch norms are left out of batch statistics: extra does not run"),
        (
            Untracked,
            2,
            {"b": "keeps no statistics"},
            "1 of 3 batch norms are left out of batch statistics: b keeps no statistics",
        ),
        (OneInstance, 2, {}, ""),
    ],
)
def test_a_survey_tells_which_layers_are_compared_and_why_others_are_not(make, compared, left_out, said) -> None:
    network = trained(make)
    found = survey_norms(network, images(rows=2))
    assert (len(found.compared), dict(found.left_out), str(found)) == (compared, left_out, said)
    assert not any(layer._forward_pre_hooks for layer in network.modules())


def test_a_survey_of_a_network_without_batch_norms_tells_what_norms_it_has() -> None:
    network = nn.Sequential(nn.GroupNorm(2, WIDTH), nn.LayerNorm(SIZE), nn.LayerNorm(SIZE))
    assert str(survey_norms(network, images())) == "no batch norm with statistics to compare (1 GroupNorm, 2 LayerNorm)"
    assert str(survey_norms(nn.Flatten(), images())) == "no batch norm with statistics to compare (no norm at all)"
    idle = trained(InOrder)
    idle.body = lambda x: x
    about = "a does not run, b does not run, c does not run"
    assert str(survey_norms(idle, images())) == f"no batch norm with statistics to compare ({about})"


def test_a_layer_whose_channels_stand_elsewhere_is_left_out_and_told() -> None:
    class Last(nn.BatchNorm1d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.movedim(-1, 1)).movedim(1, -1)

    network = nn.Sequential(nn.BatchNorm2d(WIDTH), nn.Flatten(2), Last(SIZE * SIZE)).eval()
    found = survey_norms(network, images(rows=2))
    assert dict(found.left_out) == {"2": f"sees (2, {WIDTH}, {SIZE * SIZE}), not [B, {SIZE * SIZE}, ...]"}
    _, observed = StatisticsRecorder(network).observe(network, images())
    assert [seen is None for seen in observed] == [False, True]


@pytest.mark.parametrize("make", [OutOfOrder, Shared, Auxiliary, Flat, Volumes])
def test_channel_means_stand_in_the_order_of_layers_with_a_width_that_no_pass_changes(make) -> None:
    network = trained(make)
    layers = batch_norm_layers(network)
    observer = BatchViews(network, network, Wishes("contrast", layers=tuple(layers)))
    view = observer.generator_view(batch_of(images(2), images(3)))
    assert [side.shape for side in view.channel_means] == [(ROWS, sum(map(num_input_channels, layers)))] * 2
    with recorded(layers, channel_means) as seen:
        network(images(2))
    start = 0
    for layer, means in zip(layers, seen, strict=True):
        found = view.channel_means[1][:, start : start + WIDTH]
        torch.testing.assert_close(found, torch.zeros(ROWS, WIDTH) if means is None else means)
        assert (means is None) == (layer is getattr(network, "extra", None))
        start += WIDTH
    at = layers.index(network.a)
    if make is OutOfOrder:
        entering = network.enter("a", images(3)).mean(dim=(2, 3))
        torch.testing.assert_close(view.channel_means[0][:, at * WIDTH : (at + 1) * WIDTH], entering)


def test_contrast_over_a_layer_that_sees_a_part_of_the_batch_is_refused_in_a_line() -> None:
    network = trained(PartOfTheBatch)
    observer = BatchViews(network, network, Wishes("contrast", layers=tuple(batch_norm_layers(network))))
    with pytest.raises(ConfigError, match=r"weights\.contrast: a batch norm of the teacher does not see the whole batch"):
        observer.generator_view(batch_of(images(2), images(3)))
