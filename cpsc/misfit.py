"""Misfit between a network and its weights, detected without data from the statistics that its batch norms have stored.

Keys and shapes do not reveal strides, pools and paddings, but the statistics do, in two ways. First, they reveal the size of the
maps: see `borders`. Second, in the right network there are images (those it was trained on) that reproduce the stored statistics in
all layers at once, so images inverted towards these statistics get close within a few steps. In a wrong network at least one layer
stays far off.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cpsc.borders import SMALLEST_MAP, Borders, image_norms, tell_borders
from cpsc.errors import DivergedError
from cpsc.loop import Phase, run_epoch
from cpsc.models import is_import_path, variants_of
from cpsc.optimizers import Adam
from cpsc.rng import stream
from cpsc.statistics import ChannelStatistics, channel_statistics
from cpsc.teacher import Teacher

BORDER_LIMIT = 1.22
"""Limit of the factor, up or down, between the share of border pixels in the maps and the share that the statistics imply."""
SMALLEST_MAP_LIMIT = 1.3
"""The upper limit on maps of 4 x 4 pixels. 12 of these are border already, so half their size gives at most 1.33. Between the two
limits there are wrong and right networks, so nothing is concluded there."""
LIMIT = 0.075
"""Nats per channel between stored and observed statistics, after the inversion, in the layer that is furthest off."""
HOPELESS = 20 * LIMIT
"""If the distance is larger than this after the first steps, the remaining steps do not bring it below the limit."""
STEPS_A_LOOK, MAX_LOOKS = 5, 4
LR, LR_DECAY, BETA1, BETA2 = 0.2, 0.8, 0.5, 0.9
SAMPLES, FEWEST_IMAGES, MOST_IMAGES = 512, 32, 64
"""Values per channel that the smallest map has over the batch; the number of images follows from it, within these limits."""
RIVAL = 2.0
"""Two networks fit equally well if their distances, after all steps, differ by at most this factor."""
MOST_LEFT = 0.2
"""Largest share of the initial values in the stored statistics; above it, a batch norm has seen too few batches to be compared."""


class Verdict(NamedTuple):
    """What the check found; both figures are None if nothing could be compared."""

    border_factor: float | None
    """The factor furthest from 1; None if no map is large enough to have an inside."""
    distance: float | None
    """Nats per channel; also None if the borders have already shown that the network is wrong."""
    fault: str | None
    """The layer that gives the network away, the figure and the limit; None if the network fits."""
    obstacle: str | None = None
    """Why nothing could be compared."""

    @property
    def is_sound(self) -> bool:
        """Whether the network was compared and fits."""
        return self.fault is None and self.obstacle is None


def examine(teacher: Teacher, device: torch.device, *, thorough: bool = False) -> Verdict:
    """Compare the stored batch-norm statistics of `teacher` with those that its network produces. Deterministic; needs no data.

    Takes one pass of noise, then up to 20 steps of inversion. With `thorough` all steps are run even if the first ones find a fit.
    """
    network = teacher.build(device)
    return examine_network(network, channels=teacher.channels, image_size=teacher.image_size, device=device, thorough=thorough)


def examine_network(network: nn.Module, *, channels: int, image_size: int, device: torch.device, thorough: bool = False) -> Verdict:
    """The same for a frozen network in eval mode on `device`."""
    layers = image_norms(network).values()
    if not layers:
        return Verdict(None, None, None, "it has no batch norm with statistics to compare")
    if max(share_left(layer) for layer in layers) > MOST_LEFT:
        return Verdict(None, None, None, "its batch norms have seen too few batches to be compared")
    noise = natural_noise(MOST_IMAGES, channels, image_size).to(device).contiguous(memory_format=torch.channels_last)
    with _one_thread():
        return _compare(network, noise, thorough=thorough)


def _compare(network: nn.Module, noise: Tensor, *, thorough: bool) -> Verdict:
    by_borders = _judge_borders(tell_borders(network, noise, stored_statistics))
    if not by_borders.is_sound:
        return by_borders
    factor = by_borders.border_factor
    try:
        misfit = _settle(Inversion(network, noise), thorough=thorough)
    except DivergedError:
        return Verdict(factor, math.inf, "no images give its batch norms their stored statistics: their inputs are not finite")
    if misfit is None:
        return Verdict(factor, None, None, None if factor is not None else "no batch norm runs exactly once per pass")
    if misfit.distance < LIMIT:
        return Verdict(factor, misfit.distance, None)
    fault = (
        f"{misfit.layer} gives it away: no images give all layers their stored batch statistics, "
        f"and this one stays {misfit.distance:.2g} nats per channel away from them (limit {LIMIT:g})"
    )
    return Verdict(factor, misfit.distance, fault)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread gives the same figures on every machine. On a busy machine several threads would often wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def examine_variants(teacher: Teacher, device: torch.device) -> dict[str, Verdict]:
    """Examine every network that the weights of `teacher` could belong to, by arch; of a user's own network, only that one.

    If several fit, they are examined thoroughly, so that they can be compared.
    """
    archs = (teacher.arch,) if is_import_path(teacher.arch) else variants_of(teacher.arch.partition("-")[0])
    examined = {arch: examine(teacher.named(arch), device) for arch in archs}
    sound = [arch for arch, verdict in examined.items() if verdict.is_sound]
    return examined if len(sound) < 2 else examined | {arch: examine(teacher.named(arch), device, thorough=True) for arch in sound}


def fitting(examined: Mapping[str, Verdict]) -> list[str]:
    """The networks that fit, except those that fit more than `RIVAL` times worse than the best."""
    sound = {arch: verdict.distance for arch, verdict in examined.items() if verdict.is_sound}
    nearest = min((distance for distance in sound.values() if distance is not None), default=0.0)
    return [arch for arch, distance in sound.items() if distance is None or distance <= RIVAL * nearest]


def _judge_borders(told: Sequence[Borders]) -> Verdict:
    """The verdict on the worst layers: those beyond their limit if there are any, else those with the factor furthest from 1."""
    at_fault = [borders for borders in told if abs(borders.log_factor) >= math.log(_border_limit(borders))]
    worst = max(at_fault or told, key=lambda borders: abs(borders.log_factor), default=None)
    if worst is None:
        return Verdict(None, None, None)
    factor, maps = math.exp(worst.log_factor), f"{worst.size}x{worst.size}"
    if at_fault:
        sizes = "smaller" if worst.log_factor > 0 else "larger"
        fault = (
            f"{worst.layer} gives it away: it was trained on {sizes} maps than the {maps} it has here, its batch statistics imply "
            f"{factor:.2f} times the share of border pixels (limit {_border_limit(worst):g} or its inverse)"
        )
        return Verdict(factor, None, fault)
    if abs(worst.log_factor) >= math.log(BORDER_LIMIT):
        return Verdict(factor, None, None, f"{worst.layer} has maps of {maps} pixels, nearly all border")
    return Verdict(factor, None, None)


def _border_limit(borders: Borders) -> float:
    return SMALLEST_MAP_LIMIT if borders.size <= SMALLEST_MAP and borders.log_factor > 0 else BORDER_LIMIT


class Misfit(NamedTuple):
    """The layer that is furthest off, and its distance: KL(seen || stored) of normal distributions, mean over channels, in nats."""

    layer: str
    distance: float


class Inversion:
    """Inverts images towards the stored batch-norm statistics of one network.

    `network` is frozen and in eval mode. The images start as `noise`, [`MOST_IMAGES`, K, H, W], or the first of it.
    """

    def __init__(self, network: nn.Module, noise: Tensor) -> None:
        self._network = network
        self._layers = image_norms(network)
        self._seen: dict[str, list[tuple[Tensor, int]]] = {}
        num_images = min(max(FEWEST_IMAGES, math.ceil(SAMPLES / self._smallest_map(noise[:2]))), MOST_IMAGES)
        self._holder = nn.ParameterList([nn.Parameter(noise[:num_images].clone(), requires_grad=False)])
        self._optimizer = Adam([self._holder[0]], lr=LR, betas=(BETA1, BETA2))
        self._phase = Phase(
            name="misfit",
            steps=STEPS_A_LOOK,
            modules=(self._holder,),
            terms=lambda: {"statistics": torch.stack(list(self._distances(self._holder[0]).values())).mean()},
            weights={"statistics": 1.0},
            optimizers=lambda: [self._optimizer],
            scaler=torch.amp.GradScaler(noise.device.type, enabled=False),
        )

    def improve(self) -> None:
        """Run `STEPS_A_LOOK` steps of the inversion."""
        run_epoch([self._phase], iterations=1, check_each_iteration=True, diverged_above=math.inf)
        self._optimizer.param_groups[0]["lr"] *= LR_DECAY

    @torch.no_grad()
    def misfit(self) -> Misfit | None:
        """Misfit of the current images; None if no batch norm runs exactly once per pass."""
        distances = {name: distance.item() for name, distance in self._distances(self._holder[0]).items()}
        # NaN counts as the largest
        layer = max(distances, key=lambda name: (math.isnan(distances[name]), distances[name]), default=None)
        return None if layer is None else Misfit(layer, distances[layer])

    @torch.no_grad()
    def _smallest_map(self, images: Tensor) -> int:
        """Number of pixels of the smallest map."""
        self._distances(images)
        return min((pixels for found in self._seen.values() for _, pixels in found), default=1)

    def _distances(self, images: Tensor) -> dict[str, Tensor]:
        """Distance [] of each layer that runs exactly once per pass; a layer that runs twice has stored a mixture."""
        self._seen = {name: [] for name in self._layers}
        handles = [layer.register_forward_pre_hook(self._note(name)) for name, layer in self._layers.items()]
        try:
            self._network(images)
        finally:
            for handle in handles:
                handle.remove()
        self._seen = {name: found for name, found in self._seen.items() if len(found) == 1}
        return {name: found[0][0] for name, found in self._seen.items()}

    def _note(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(layer, nn.BatchNorm2d)
            self._seen[name].append((_distance(inputs[0], layer), inputs[0].shape[2] * inputs[0].shape[3]))

        return hook


def stored_statistics(layer: nn.BatchNorm2d) -> ChannelStatistics:
    """Statistics that a batch norm has seen: its running averages, without the initial values left over from a short training."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    left = share_left(layer)
    if left == 0.0:
        return ChannelStatistics(layer.running_mean, layer.running_var)
    return ChannelStatistics(layer.running_mean / (1.0 - left), ((layer.running_var - left) / (1.0 - left)).clamp_min(0.0))


def share_left(layer: nn.BatchNorm2d) -> float:
    """Share of the initial mean 0 and variance 1 in the running averages: 1 if they are unchanged; 0 if it cannot be determined."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    if not layer.running_mean.any() and (layer.running_var == 1.0).all():
        return 1.0
    if layer.num_batches_tracked is None or layer.momentum is None:
        return 0.0
    batches = int(layer.num_batches_tracked)
    left = (1.0 - layer.momentum) ** batches if batches else 0.0
    return float(left) if left > 1e-4 else 0.0


def _distance(activations: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    """Mean over channels of KL(N(seen) || N(stored)) -> []; variances include the layer's epsilon, as in its own division."""
    seen, kept = channel_statistics(activations), stored_statistics(layer)
    stored_var = kept.var + layer.eps
    ratio = (seen.var + layer.eps) / stored_var
    shift = (seen.mean - kept.mean).square() / stored_var
    return (0.5 * (ratio - 1.0 - ratio.log() + shift)).mean()


def natural_noise(num_images: int, channels: int, size: int) -> Tensor:
    """Noise with the spectrum of natural images, whose amplitude falls as 1 / frequency; mean 0 and variance 1."""
    rng = stream(0, "misfit/images", torch.device("cpu"))
    frequency = (torch.fft.fftfreq(size)[:, None].square() + torch.fft.rfftfreq(size).square()).sqrt()
    frequency[0, 0] = 1.0 / size
    spectrum = torch.fft.rfft2(torch.randn(num_images, channels, size, size, generator=rng)) / frequency
    images = torch.fft.irfft2(spectrum, s=(size, size))
    return (images - images.mean()) / images.std()


def _settle(inversion: Inversion, *, thorough: bool) -> Misfit | None:
    """Run steps until the misfit is below the limit (not if `thorough`), is hopeless, or all steps are done -> the misfit."""
    misfit = inversion.misfit()
    for look in range(MAX_LOOKS):
        is_settled = misfit is None or (misfit.distance < LIMIT and not thorough)
        if misfit is None or is_settled or (look > 0 and misfit.distance > HOPELESS):
            break
        inversion.improve()
        misfit = inversion.misfit()
    return misfit
