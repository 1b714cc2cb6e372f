from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import DistillConfig
from cpsc.data.dataset import Normalisation
from cpsc.distiller import Distiller
from cpsc.generator import Generator
from cpsc.losses.confidence import class_imbalance, one_hot_loss
from cpsc.losses.variational import latent_kl
from cpsc.memory import num_bytes
from cpsc.methods.base import NO_OUTPUT
from cpsc.replay.autoencoder import FAMILY, Encoder, GenerativeReplay
from cpsc.rng import RandomStreams
from cpsc.teacher import Teacher

CPU = torch.device("cpu")
LATENT_DIM, BATCH = 6, 16


@pytest.fixture
def settings(vary: Callable[..., DistillConfig]) -> Callable[..., DistillConfig]:
    def make(*, schedule: dict | None = None, **replay) -> DistillConfig:
        schedule = {"batch_size": BATCH, "student_steps": 5} | (schedule or {})
        return vary(replay={"kind": "vae", "latent_dim": LATENT_DIM, "updates": 2} | replay, schedule=schedule)

    return make


def build(config: DistillConfig, teacher: Teacher) -> GenerativeReplay:
    return GenerativeReplay(config, teacher, teacher.build(CPU), RandomStreams(config.seed, CPU), CPU)


@contextmanager
def calls(module: nn.Module) -> Iterator[list[tuple[Tensor, object, bool]]]:
    """(input, output, whether in train mode) of each forward pass inside the block."""
    seen: list[tuple[Tensor, object, bool]] = []
    handle = module.register_forward_hook(lambda layer, inputs, out: seen.append((inputs[0], out, layer.training)))
    try:
        yield seen
    finally:
        handle.remove()


def refinement_loss(replay: GenerativeReplay, latents: Tensor, *, balance: float = 5.0) -> Tensor:
    """As the published code states it, from the latents on."""
    logits = replay._teacher[0](replay.decoder(latents)).logits
    mean, var = latents.mean(dim=0), latents.var(dim=0)
    moments = ((var - 1) ** 2).mean() + (mean**2).mean()
    return balance * class_imbalance(logits, base=10.0) + one_hot_loss(logits).mean() + moments


def novel(rows: int = BATCH) -> Tensor:
    return torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(7))


def recalled(replay: GenerativeReplay) -> Tensor:
    """What it recalls for a student batch of `novel` images, which it is then shown."""
    recalled = replay.recall()
    replay.remember(novel(), NO_OUTPUT)
    return recalled.images


# Networks


@pytest.mark.parametrize(("size", "count", "flat"), [(32, 4_321_872, 2048), (64, 16_609_872, 8192)])
def test_the_encoder_has_the_published_number_of_parameters_and_of_features(size: int, count: int, flat: int) -> None:
    with torch.device("meta"):
        encoder = Encoder(latent_dim=1000, width=128, channels=3, image_size=size)
        assert encoder.features(torch.empty(2, 3, size, size)).shape == (2, flat)
        assert [out.shape for out in encoder(torch.empty(2, 3, size, size))] == [(2, 1000)] * 2
    assert encoder.num_features == flat
    assert sum(p.numel() for p in encoder.parameters()) == count


@pytest.mark.parametrize(("size", "count"), [(32, 8_423_939), (64, 33_024_515)])
def test_the_decoder_has_the_published_number_of_parameters(size: int, count: int) -> None:
    normalisation = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.device("meta"):
        decoder = Generator(FAMILY, latent_dim=1000, width=128, channels=3, image_size=size, normalisation=normalisation)
    assert sum(p.numel() for p in decoder.parameters()) == count


def test_the_published_memory_takes_not_two_but_48_megabytes(settings, teacher) -> None:
    replay = build(settings(), teacher)
    assert replay.num_stored_bytes == num_bytes(replay.encoder) + num_bytes(replay.decoder) > 0
    normalisation = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.device("meta"):
        replay.encoder = Encoder(latent_dim=1000, width=128, channels=3, image_size=32)
        replay.decoder = Generator(FAMILY, latent_dim=1000, width=128, channels=3, image_size=32, normalisation=normalisation)
    assert replay.num_stored_bytes / 2**20 == pytest.approx(48.6, abs=0.1)


def test_the_encoder_is_the_published_sequence_of_layers() -> None:
    torch.manual_seed(0)
    encoder = Encoder(latent_dim=3, width=8, channels=2, image_size=16).eval()
    images = torch.randn(4, 2, 16, 16)
    x = images / images.square().sum(dim=2, keepdim=True).sqrt()  # each column of each channel
    x = F.leaky_relu(encoder.norm1(encoder.conv1(x)), 0.2)
    x = F.leaky_relu(encoder.norm2(encoder.conv2(x)), 0.2)[..., ::2, ::2]
    x = encoder.norm3(encoder.conv3(x))
    assert x.shape == (4, 8, 4, 4)
    torch.testing.assert_close(encoder.features(images), x[..., ::2, ::2].flatten(1))
    mean, log_var = encoder(images)
    torch.testing.assert_close(mean, encoder.mean(encoder.features(images)))
    torch.testing.assert_close(log_var, encoder.log_var(encoder.features(images)))
    assert [norm.eps for norm in (encoder.norm1, encoder.norm2, encoder.norm3)] == [0.8, 0.8, 1e-5]


def test_the_encoder_starts_as_the_generators_do() -> None:
    torch.manual_seed(0)
    encoder = Encoder(latent_dim=50, width=16, channels=2, image_size=16)
    for layer in (encoder.conv2, encoder.conv3, encoder.mean, encoder.log_var):
        assert 0.078 < layer.weight.abs().max().item() <= 0.08
        assert layer.bias.abs().max() == 0.0


def test_the_encoder_looks_at_directions_and_not_at_brightness() -> None:
    torch.manual_seed(0)
    encoder, images = Encoder(latent_dim=3, width=4, channels=1, image_size=8).eval(), novel(4)
    torch.testing.assert_close(encoder(9.0 * images)[0], encoder(images)[0])


# Memory images


def test_a_student_batch_of_b_gets_an_eighth_of_b_from_the_memory_without_a_graph(settings, teacher) -> None:
    replay = build(settings(), teacher)
    images = recalled(replay)
    assert images.shape == (BATCH // 8, 1, 8, 8)
    assert not images.requires_grad
    assert recalled(build(settings(fraction=0.5), teacher)).shape[0] == BATCH // 2
    assert build(settings(fraction=1e-6), teacher).num_images == 2  # of one image the latents have no variance


def test_the_refinement_moves_each_coordinate_by_the_rate_against_the_gradient_of_the_published_loss(settings, teacher) -> None:
    replay = build(settings(refine_lr=0.03), teacher)
    with calls(replay.decoder) as seen:
        images = recalled(replay)
    assert [training for _, _, training in seen] == [False, False]
    drawn, refined = (latents.detach() for latents, _, _ in seen)
    probe = drawn.clone().requires_grad_()
    replay.decoder.eval()
    refinement_loss(replay, probe).backward()
    assert probe.grad.abs().min() > 1e-5
    torch.testing.assert_close(refined - drawn, -0.03 * probe.grad.sign(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(images, replay.decoder(refined).detach())


def test_the_balances_weight_in_the_refinement_is_a_setting(settings, teacher) -> None:
    replay = build(settings(balance=0.0), teacher)
    with calls(replay.decoder) as seen:
        recalled(replay)
    drawn = seen[0][0].detach().clone().requires_grad_()
    replay.decoder.eval()
    refinement_loss(replay, drawn, balance=0.0).backward()
    torch.testing.assert_close((seen[1][0] - drawn).detach(), -0.02 * drawn.grad.sign(), rtol=1e-3, atol=1e-5)


def test_each_recall_draws_other_latents_from_the_runs_own_stream(settings, teacher) -> None:
    first, second = build(settings(), teacher), build(settings(), teacher)
    images = recalled(first)
    torch.manual_seed(99)
    assert torch.equal(recalled(second), images)
    assert not torch.equal(recalled(first), images)


def test_recalling_leaves_all_parameters_without_gradient_and_the_batch_norms_as_they_were(settings, teacher) -> None:
    for leak in (False, True):
        replay = build(settings(leak=leak), teacher)
        before = {name: tensor.clone() for name, tensor in replay.state_dict().items() if isinstance(tensor, Tensor)}
        recalled(replay)
        assert all(p.grad is None for module in (replay, replay._teacher[0]) for p in module.parameters())
        after = replay.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        assert replay.decoder.training


# The autoencoder's own training


def test_the_first_iteration_trains_on_new_images_only_and_later_ones_also_on_the_memorys(settings, teacher) -> None:
    replay = build(settings(updates=2), teacher)
    sizes = []
    with calls(replay.encoder) as seen:
        for _ in range(4):
            recalled(replay)
            replay.terms()
        sizes = [len(images) for images, _, _ in seen]
    assert sizes == [BATCH // 2] * 2 + [BATCH // 2 + BATCH // 8] * 2
    assert torch.equal(seen[0][0], novel()[: BATCH // 2])
    assert torch.equal(seen[3][0][: BATCH // 2], novel()[: BATCH // 2])


def test_the_first_iteration_is_over_after_its_student_steps_where_those_are_fewer_than_the_updates(settings, teacher) -> None:
    replay = build(settings(updates=4, schedule={"student_steps": 1}), teacher)
    with calls(replay.encoder) as seen:
        for _ in range(2):
            recalled(replay)
            replay.terms()
    assert [len(images) for images, _, _ in seen] == [BATCH // 2, BATCH // 2 + BATCH // 8]


def test_the_autoencoder_trains_in_train_mode_the_refinement_included(settings, teacher) -> None:
    replay = build(settings(updates=1), teacher)
    recalled(replay)
    replay.terms()
    with calls(replay.decoder) as decoded, calls(replay.encoder) as encoded:
        replay.terms()
    assert [training for _, _, training in decoded] == [True, True, True]  # drawn, refined, restored
    assert [training for _, _, training in encoded] == [True]


def test_the_terms_are_pixels_responses_and_the_divergence_of_the_latents(settings, teacher) -> None:
    replay = build(settings(), teacher)
    with torch.no_grad():
        replay.encoder.log_var.bias.fill_(3.0)
    recalled(replay)
    with calls(replay.encoder) as encoded, calls(replay.decoder) as decoded:
        terms = replay.terms()
    images, (mean, log_var), _ = encoded[0]
    latents, restored, _ = decoded[0]
    teacher_network = replay._teacher[0]
    expected = {
        "reconstruction": (restored - images).abs().mean(),
        "response": (teacher_network(restored).logits - teacher_network(images).logits).abs().mean(),
        "latent_kl": latent_kl(mean, log_var),
    }
    torch.testing.assert_close(terms, expected)
    noise = (latents - mean) / (0.5 * log_var).exp()
    assert log_var.mean() > 2.0
    assert abs(noise.mean().item()) < 0.5
    assert 0.6 < noise.std().item() < 1.5
    assert replay.weights == {"reconstruction": 1.0, "response": 1.0, "latent_kl": 1e-5}


def gradients(replay: GenerativeReplay) -> dict[str, Tensor]:
    """Of the weighted terms of one update on a memory that has begun, at its parameters."""
    replay.requires_grad_(True).zero_grad(set_to_none=True)
    terms = replay.terms()
    sum(weight * terms[name].mean() for name, weight in replay.weights.items()).backward()
    return {name: parameter.grad.clone() for name, parameter in replay.named_parameters()}


def begun(config: DistillConfig, teacher: Teacher) -> GenerativeReplay:
    replay = build(config, teacher)
    recalled(replay)
    for _ in range(2):
        replay.terms()
    return replay


def test_a_leak_adds_exactly_the_refinements_gradient_to_the_decoder(settings, teacher) -> None:
    plain, leaking = begun(settings(), teacher), begun(settings(leak=True), teacher)
    assert leaking.weights == {**plain.weights, "leak": 1.0}
    without = gradients(plain)
    with calls(leaking.decoder) as seen:
        added = gradients(leaking)
    leaking.zero_grad(set_to_none=True)
    refinement_loss(leaking, seen[0][0].detach()).backward()
    leaked = 0.0
    for name, parameter in leaking.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(added[name] - without[name], expected, rtol=1e-3, atol=1e-5)
        leaked += expected.abs().sum().item()
        assert name.startswith("decoder") or parameter.grad is None
    assert leaked > 1e-2


def test_the_teacher_gets_no_gradient_from_the_memorys_training(settings, teacher) -> None:
    for leak in (False, True):
        replay = begun(settings(leak=leak), teacher)
        gradients(replay)
        assert all(p.grad is None and not p.requires_grad for p in replay._teacher[0].parameters())
        assert not any(name.startswith("_teacher") for name, _ in replay.named_parameters())


def test_the_response_term_reaches_encoder_and_decoder_through_the_teacher(settings, teacher) -> None:
    replay = build(settings(), teacher).requires_grad_(True)
    recalled(replay)
    replay.terms()["response"].backward()
    assert replay.encoder.conv1.weight.grad.abs().max() > 0
    assert replay.decoder.to_image.weight.grad.abs().max() > 0


def test_whether_the_first_iteration_is_over_is_saved(settings, teacher) -> None:
    first, second = begun(settings(), teacher), build(settings(), teacher)
    second.load_state_dict(first.state_dict())
    recalled(second)
    with calls(second.encoder) as seen:
        second.terms()
    assert len(seen[0][0]) == BATCH // 2 + BATCH // 8


# In a run


def test_a_student_steps_batch_is_new_and_memory_images_and_the_first_steps_are_followed_by_an_update(settings, teacher) -> None:
    config = settings(updates=2, schedule={"iterations": 2, "generator_steps": 1, "student_steps": 5})
    distiller = Distiller(config, teacher)
    order, sizes = [], []

    def noted(name, terms):
        def note(*arguments):
            order.append(name)
            return terms(*arguments)

        return note

    distiller.method.generator_terms = noted("G", distiller.method.generator_terms)
    distiller.method.student_terms = noted("S", distiller.method.student_terms)
    distiller.replay.terms = noted("R", distiller.replay.terms)
    distiller.student.register_forward_hook(lambda net, inputs, out: sizes.append(len(inputs[0])))
    metrics = distiller.run_epoch()
    assert "".join(order) == "GSRSRSSS" * 2
    assert sizes == ([BATCH] + [BATCH + BATCH // 8] * 5) * 2
    assert {name for name in metrics if name.startswith("replay/")} == {
        "replay/reconstruction",
        "replay/response",
        "replay/latent_kl",
    }


def test_the_updates_see_the_new_images_of_the_student_step_before_them(settings, teacher) -> None:
    distiller = Distiller(settings(schedule={"iterations": 1}), teacher)
    shown, encoded = [], []
    distiller.student.register_forward_hook(lambda net, inputs, out: shown.append(inputs[0].detach()))
    distiller.replay.encoder.register_forward_hook(lambda net, inputs, out: encoded.append(inputs[0].detach()))
    distiller.run_epoch()
    students = [images for images in shown if len(images) > BATCH]
    for images, expected in zip(encoded, students[:2], strict=True):
        assert torch.equal(images, expected[: BATCH // 2])
