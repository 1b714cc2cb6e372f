"""A whole turn of the toolbox's ADI (methods, sec. 7): noise, jitter, two networks, Adam, clipping, truncated pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.distiller import Distiller
from cpsc.loop import TermLog, run_phase
from tests.unit.cpsc.parity.stage import reversed_jensen_shannon
from tests.unit.cpsc.test_method_contract import small

STEPS = 6


def stated_turn(
    teacher: nn.Module, student: nn.Module, noise: Tensor, labels: Tensor, shifts: list[tuple[int, int, bool]], lr: float
):
    """As the toolbox goes about it, step by step, in a teacher's space of mean 0.4 and deviation 0.3.

    What each step saw, and the bytes that are written.
    """
    mean, std = 0.4, 0.3
    norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
    pixels, seen, entering = noise.clone().requires_grad_(), [], []
    handles = [norm.register_forward_pre_hook(lambda layer, inputs: entering.append((layer, inputs[0]))) for norm in norms]
    adam = torch.optim.Adam([pixels], lr, betas=(0.5, 0.99))
    for down, right, mirrored in shifts:
        seen.append(pixels.detach().clone())
        entering.clear()
        moved = torch.roll(pixels.flip(3) if mirrored else pixels, (down, right), (2, 3))
        t = teacher(moved).logits
        gaps = [
            (x.mean((0, 2, 3)) - layer.running_mean).norm() + (x.var((0, 2, 3), correction=0) - layer.running_var).norm()
            for layer, x in entering
        ]
        edges = pixels.diff(dim=3).abs().mean() + pixels.diff(dim=2).abs().mean()
        edges = edges + (pixels[..., 1:, 1:] - pixels[..., :-1, :-1]).abs().mean()
        edges = edges + (pixels[..., 1:, :-1] - pixels[..., :-1, 1:]).abs().mean()
        rivalry = -reversed_jensen_shannon(student(moved).logits, t).sum() / len(labels)
        loss = 10.0 * sum(gaps) + F.cross_entropy(t, labels) + 1.0 * rivalry + 1e-3 * edges
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            pixels.clamp_((0.0 - mean) / std, (1.0 - mean) / std)
    for handle in handles:
        handle.remove()
    unit = pixels.detach() * std + mean
    return seen, (unit.clamp(0.0, 1.0) * 255.0).to(torch.uint8)


def test_a_turn_makes_the_toolboxs_images(make_teacher) -> None:
    teacher = make_teacher("wrn_10_2")
    config = small("adi", "toolbox", **{"schedule.generator_steps": STEPS, "schedule.batch_size": 16})
    distiller = Distiller(config, teacher)
    synthesis, seen = distiller.synthesis, []
    latents, shifting = torch.Generator(), torch.Generator()
    latents.set_state(synthesis._latent_rng.get_state())
    shifting.set_state(synthesis._jitter_rng.get_state())
    observe = distiller.method.generator_terms
    distiller.method.generator_terms = lambda view: seen.append(view.pixels.detach().clone()) or observe(view)
    (phase, _) = distiller._phases.begin_epoch(1)
    run_phase(phase, TermLog(phase.name, phase.weights, diverged_above=1e6))

    noise = torch.empty(16, 1, 8, 8).contiguous(memory_format=torch.channels_last).normal_(generator=latents)
    shifts = []
    for _ in range(STEPS):
        down, right = torch.randint(-1, 2, (2,), generator=shifting).tolist()  # an eighth of 8 pixels
        shifts.append((down, right, torch.rand((), generator=shifting).item() < 0.5))
    assert synthesis._labels.tolist() == sorted(synthesis._labels.tolist())
    student = distiller.student.eval()
    expected, pool = stated_turn(distiller.teacher, student, noise, synthesis._labels, shifts, config.generator.lr)

    assert len(seen) == STEPS
    assert torch.equal(seen[0], noise)  # unclipped
    for ours, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-4)
    apart = (synthesis._pool.images.int() - pool.int()).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < 0.05
