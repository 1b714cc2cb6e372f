"""PRE-DFKD's replay (methods, sec. 3.2 c and d): what is recalled, and what its autoencoder learns."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cpsc.methods.base import NO_OUTPUT
from cpsc.replay.autoencoder import GenerativeReplay
from cpsc.rng import RandomStreams
from cpsc.teacher import Teacher
from tests.unit.cpsc.parity.stage import Stated, assert_parity, assert_same, confidence, imbalance, mean_gap, mean_over, preset_of

CPU = torch.device("cpu")
BATCH, LATENTS = 16, 6
RECALLED = BATCH // 8
SMALL: dict[str, Any] = {"schedule__batch_size": BATCH, "generator__width": 4, "replay__latent_dim": LATENTS}


@pytest.fixture(autouse=True)
def draws_in_float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


def built(teacher: Teacher, preset: str) -> tuple[GenerativeReplay, nn.Module]:
    """The replay, and the teacher's network, in float64."""
    config, network = preset_of("pre_dfkd", preset, 10, **SMALL), teacher.build(CPU).double()
    replay = GenerativeReplay(config, teacher, network, RandomStreams(3, CPU), CPU).double().requires_grad_(True)
    torch.set_default_dtype(torch.float64)
    return replay, network


def novel() -> Tensor:
    return torch.randn(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(7))


def recalled(replay: GenerativeReplay) -> Tensor:
    """What it recalls for a student batch of `novel` images, which it is then shown."""
    recalled = replay.recall()
    replay.remember(novel(), NO_OUTPUT)
    return recalled.images


def stream_of(replay: GenerativeReplay) -> torch.Generator:
    rng = torch.Generator()
    rng.set_state(replay._rng.get_state())
    return rng


def unease(latents: Tensor, decoder: nn.Module, network: nn.Module) -> Tensor:
    """How unbalanced and unsure the teacher is about latents' images, and how far these are from a normal distribution."""
    logits = network(decoder(latents)).logits
    centred = latents - latents.sum(0) / len(latents)
    variance = (centred**2).sum(0) / (len(latents) - 1)
    to_normal = ((variance - 1.0) ** 2).sum() / LATENTS + ((latents.sum(0) / len(latents)) ** 2).sum() / LATENTS
    return 5.0 * imbalance(logits) / math.log(10.0) + confidence(logits) + to_normal


def refined(latents: Tensor, decoder: nn.Module, network: nn.Module) -> Tensor:
    """By the first step of an Adam of its own."""
    latents = latents.clone().requires_grad_()
    adam = torch.optim.Adam([latents], lr=0.02)
    (latents.grad,) = torch.autograd.grad(unease(latents, decoder, network), latents)
    adam.step()
    return latents.detach()


@pytest.mark.parametrize("preset", ["original", "reference"])
def test_what_is_recalled_is_an_eighth_as_many_images_of_refined_latents(preset: str, teacher: Teacher) -> None:
    replay, network = built(teacher, preset)
    latents = torch.randn(RECALLED, LATENTS, generator=stream_of(replay))
    decoder = copy.deepcopy(replay.decoder).eval()
    expected = decoder(refined(latents, decoder, network)).detach()
    assert_same("images", recalled(replay), expected, {})


def learnt(replay: GenerativeReplay, images: Tensor, noise: Callable[[Tensor], Tensor], network: nn.Module) -> Stated:
    """Images by pixel and by what the teacher says to them, the noise of the latents drawn in, and the pull to normal ones."""
    mean, log_variance = replay.encoder(images)
    restored = replay.decoder(mean + torch.exp(log_variance / 2.0) * noise(mean))
    excess = mean_over(len(images), lambda i: (mean[i] ** 2 + log_variance[i].exp() - log_variance[i] - 1.0).sum() / 2.0)
    return {
        "reconstruction": (1.0, mean_gap(restored, images)),
        "response": (1.0, mean_gap(network(restored).logits, network(images).logits.detach())),
        "latent_kl": (1e-5, excess),
    }


@pytest.mark.parametrize("preset", ["original", "reference"])
@pytest.mark.parametrize("is_first", [True, False])
def test_the_autoencoder_learns_half_the_new_images_and_after_the_first_iteration_its_own(
    is_first: bool, preset: str, teacher: Teacher
) -> None:
    replay, network = built(teacher, preset)
    replay._num_updates = 0 if is_first else 4
    recalled(replay)
    rng = stream_of(replay)
    images, leak = novel()[: BATCH // 2], torch.zeros(())
    if not is_first:
        twin = copy.deepcopy(replay.decoder)
        latents = torch.randn(RECALLED, LATENTS, generator=rng)
        images = torch.cat([images, twin(refined(latents, twin, network)).detach()])
        leak = unease(latents, replay.decoder, network)
    stated = dict(learnt(replay, images, lambda mean: torch.randn(mean.shape, generator=rng), network))
    if preset == "reference":
        stated["leak"] = (1.0, leak)
    assert_parity(replay.terms(), replay.weights, stated, dict(replay.named_parameters()))
