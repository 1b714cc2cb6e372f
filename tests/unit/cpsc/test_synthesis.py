import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cpsc.augmentation import jitter
from cpsc.config import DistillConfig
from cpsc.data.dataset import augment
from cpsc.rng import RandomStreams, derive_seed, stream
from cpsc.synthesis import AbstractSynthesis, GeneratedImages, InvertedBatches, InvertedByGenerator
from cpsc.teacher import Teacher

CPU = torch.device("cpu")
BATCH = 8


@pytest.fixture
def settings(vary: Callable[..., DistillConfig]) -> Callable[..., DistillConfig]:
    def make(**changes: Any) -> DistillConfig:
        changes["generator"] = {"decay_lr": False} | changes.get("generator", {})
        return vary(**changes)

    return make


def generated(config: DistillConfig, teacher: Teacher, heads: tuple[nn.Module, ...] = ()) -> GeneratedImages:
    return GeneratedImages(config, teacher, RandomStreams(config.seed, CPU), CPU, heads=heads)


def inverted(config: DistillConfig, teacher: Teacher) -> InvertedBatches:
    return InvertedBatches(config, teacher, RandomStreams(config.seed, CPU), CPU)


def by_generator(config: DistillConfig, teacher: Teacher, heads: tuple[nn.Module, ...] = ()) -> InvertedByGenerator:
    return InvertedByGenerator(config, teacher, RandomStreams(config.seed, CPU), CPU, heads=heads)


def step(synthesis: AbstractSynthesis, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """One generator step down `loss` of its images, as the loop makes it; the loss before it."""
    for module in synthesis.modules:
        module.requires_grad_(True)
    value = loss(synthesis.batch().images)
    synthesis.on_loss(value.detach())
    for optimizer in synthesis.optimizers():
        optimizer.zero_grad(set_to_none=True)
    value.backward()
    for optimizer in synthesis.optimizers():
        optimizer.step()
    for module in synthesis.modules:
        module.requires_grad_(False)
    return value.detach()


def turn(synthesis: AbstractSynthesis, losses: int = 1) -> None:
    synthesis.begin()
    for _ in range(losses):
        step(synthesis, lambda images: images.square().mean())
    synthesis.end()


def latents_seen(synthesis: GeneratedImages) -> list[Tensor]:
    """Latents of every forward pass from now on."""
    seen: list[Tensor] = []
    synthesis.generator.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0]))
    return seen


# A generator that trains along


def test_fresh_images_are_made_of_new_latents_at_every_step_and_carry_no_graph(settings, teacher) -> None:
    synthesis = generated(settings(), teacher)
    seen = latents_seen(synthesis)
    batch = synthesis.batch()
    drawn = [synthesis.sample() for _ in range(2)]
    assert not any(torch.equal(a, b) for a, b in ((seen[0], seen[1]), (seen[1], seen[2])))
    assert all(not images.requires_grad and images.shape == batch.images.shape for images, _ in drawn)
    assert drawn[0][0] is not drawn[1][0]
    assert len(seen) == 3


def test_regenerated_images_are_the_generator_steps_latents_once_more_through_the_updated_generator(settings, teacher) -> None:
    synthesis = generated(settings(schedule={"student_images": "regenerated"}, generator={"family": "zskt"}), teacher)
    seen = latents_seen(synthesis)
    step(synthesis, lambda images: images.mean())
    images, labels = synthesis.sample()
    assert labels is None
    assert torch.equal(seen[0], seen[1])
    assert all(synthesis.sample()[0] is images for _ in range(9))  # the very same: nothing is run again
    assert len(seen) == 2
    with torch.no_grad():
        torch.testing.assert_close(images, synthesis.generator(seen[0]))
    step(synthesis, lambda images: images.mean())
    assert not torch.equal(synthesis.sample()[0], images)
    assert torch.equal(seen[-1], seen[-2])


def test_shared_images_are_the_generator_steps_own_from_before_its_update(settings, teacher) -> None:
    synthesis = generated(settings(schedule={"student_images": "shared"}, generator={"family": "dafl"}), teacher)
    seen, made = latents_seen(synthesis), []
    step(synthesis, lambda images: made.append(images) or images.mean())
    images, _ = synthesis.sample()
    assert torch.equal(images, made[0])
    assert not images.requires_grad
    assert synthesis.sample()[0] is images
    assert len(seen) == 1


@pytest.mark.parametrize("student_images", ["regenerated", "shared"])
def test_a_student_step_before_any_generator_step_draws_its_own_latents(student_images: str, settings, teacher) -> None:
    images, _ = generated(settings(schedule={"student_images": student_images}), teacher).sample()
    assert images.isfinite().all()


@pytest.mark.parametrize(("eval_mode", "modes"), [(False, [True, True, True]), (True, [True, False, True])])
def test_the_generators_mode_in_the_student_phase_is_a_setting(eval_mode: bool, modes: list[bool], settings, teacher) -> None:
    synthesis = generated(settings(generator={"family": "large", "eval_mode_in_student_phase": eval_mode}), teacher)
    seen: list[bool] = []
    synthesis.generator.project.register_forward_pre_hook(lambda layer, inputs: seen.append(synthesis.generator.training))
    synthesis.batch()
    before = synthesis.generator.norm1.num_batches_tracked.item()
    synthesis.sample()
    assert synthesis.generator.norm1.num_batches_tracked.item() == before + (not eval_mode)
    synthesis.batch()
    assert seen == modes


@pytest.mark.parametrize("family", ["conditional", "dafl"])
@pytest.mark.parametrize("num", [3, 4, 10])
def test_no_more_images_are_finished_than_are_asked_for(num: int, family: str, settings, teacher) -> None:
    """A distance to 10,000 real images needs 10,000, not plenty for each class."""
    synthesis = generated(settings(generator={"family": family}), teacher)
    seen = latents_seen(synthesis)
    images = synthesis.current_images(num)
    assert images.dtype == torch.uint8
    assert len(images) == num
    assert num <= sum(len(latents) for latents in seen) < num + teacher.num_classes
    assert synthesis.generator.training


@pytest.mark.parametrize(("family", "has_labels"), [("conditional", True), ("dafl", False)])
def test_only_the_conditional_generators_images_have_labels(family: str, has_labels: bool, settings, teacher) -> None:
    synthesis = generated(settings(generator={"family": family}), teacher)
    batch = synthesis.batch()
    assert batch.labels.shape == (BATCH,)
    _, labels = synthesis.sample()
    assert (labels is not None) == has_labels
    _, labels = synthesis.examples(3)
    assert (labels is not None) == has_labels


def test_the_grid_has_as_many_of_each_class_or_plenty_of_images_and_is_always_of_the_same_latents(settings, teacher) -> None:
    _, labels = generated(settings(), teacher).examples(3)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    synthesis = generated(settings(generator={"family": "dafl"}), teacher)
    seen = latents_seen(synthesis)
    images, _ = synthesis.examples(3)
    assert len(images) == 4 * 3 * 4
    assert torch.equal(synthesis.examples(3)[0], images)
    synthesis.sample()
    synthesis.examples(3)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[3])


def test_one_adam_trains_generator_and_heads_and_is_made_anew_only_where_wished(settings, teacher) -> None:
    head = nn.Linear(2, 2)
    for kind, is_same in (("persistent", True), ("fresh", False)):
        synthesis = generated(settings(generator={"optimizer": kind}), teacher, heads=(head,))
        synthesis.begin_epoch(2, lr=0.25)
        first, second = synthesis.optimizers(), synthesis.optimizers()
        assert (first[0] is second[0]) == is_same
        assert [optimizer.param_groups[0]["lr"] for optimizer in first] == [0.25]
        assert any(p is head.weight for p in first[0].param_groups[0]["params"])
        assert synthesis.modules == (synthesis.generator, head)


# Pixels, inverted


def test_labels_are_balanced_or_drawn_and_sorted(settings, teacher) -> None:
    synthesis = inverted(settings(schedule={"batch_size": 10}), teacher)
    synthesis.begin()
    assert synthesis.batch().labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    synthesis = inverted(settings(inversion={"labels": "random"}, schedule={"batch_size": 400}), teacher)
    drawn = []
    for _ in range(2):
        synthesis.begin()
        drawn.append(synthesis.batch().labels)
        assert drawn[-1].tolist() == sorted(drawn[-1].tolist())
        assert min(drawn[-1].bincount().tolist()) > 60
    assert not torch.equal(*drawn)


def test_256_images_of_ten_classes_are_25_or_26_of_each(settings, make_teacher) -> None:
    synthesis = inverted(settings(schedule={"batch_size": 256}), make_teacher(classes=tuple("abcdefghij")))
    synthesis.begin()
    assert set(synthesis.batch().labels.bincount().tolist()) == {25, 26}


def test_each_turn_starts_from_new_standard_normal_pixels(settings, teacher) -> None:
    synthesis = inverted(settings(schedule={"batch_size": 64}), teacher)
    starts = []
    for _ in range(2):
        synthesis.begin()
        starts.append(synthesis.batch().plain.detach().clone())
        assert starts[-1].mean().item() == pytest.approx(0.0, abs=0.06)
        assert starts[-1].std().item() == pytest.approx(1.0, abs=0.06)
        step(synthesis, lambda images: images.square().mean())
        synthesis.end()
    assert not torch.equal(*starts)


def test_the_networks_see_shifted_pixels_and_the_priors_the_plain_ones(settings, teacher) -> None:
    synthesis = inverted(settings(inversion={"jitter": 3, "flip": True}), teacher)
    synthesis.begin()
    state = synthesis._jitter_rng.get_state()
    seen, differing = [], 0
    for _ in range(6):
        batch = synthesis.batch()
        seen.append(batch.images.detach().clone())
        differing += not torch.equal(batch.images, batch.plain)
    rng = torch.Generator()
    rng.set_state(state)
    assert all(torch.equal(images, jitter(batch.plain, pixels=3, flip=True, rng=rng)) for images in seen)
    assert differing >= 4


@pytest.mark.parametrize("clips", [True, False])
def test_pixels_are_held_to_valid_values_after_every_step_only_where_wished(clips: bool, settings, teacher) -> None:
    synthesis = inverted(settings(inversion={"clip": clips, "jitter": 0}, generator={"lr": 5.0}), teacher)
    black, white = (bound.item() for bound in teacher.normalisation.bounds(torch.zeros(1)))
    synthesis.begin()
    for _ in range(3):
        step(synthesis, lambda images: -images.square().mean())  # pushes them outwards
        batch = synthesis.batch()
        inside = bool((batch.plain >= black - 1e-6).all() and (batch.plain <= white + 1e-6).all())
        assert inside == clips


@pytest.mark.parametrize("clips_noise", [True, False])
def test_the_first_step_sees_the_noise_as_it_was_drawn_unless_that_is_clipped_too(clips_noise: bool, settings, teacher) -> None:
    synthesis = inverted(settings(inversion={"clip": True, "clip_noise": clips_noise, "jitter": 0}), teacher)
    black, white = teacher.normalisation.bounds(torch.zeros(1))
    for _ in range(2):  # of each turn
        rng = torch.Generator()
        rng.set_state(synthesis._latent_rng.get_state())
        synthesis.begin()
        noise = torch.empty_like(synthesis._holder[0]).normal_(generator=rng)
        assert (noise > white).any()
        assert torch.equal(synthesis.batch().plain, noise.clamp(black, white) if clips_noise else noise)
        synthesis.on_loss(torch.zeros(()))
        synthesis.end()


def test_a_jitter_of_null_is_an_eighth_of_the_side(settings, teacher) -> None:
    for size, shift in ((8, 1), (32, 4), (64, 8), (28, 3)):
        synthesis = inverted(settings(inversion={"jitter": None}), replace(teacher, image_size=size))
        synthesis.begin()
        moved = set()
        synthesis._holder[0].data.zero_()
        synthesis._holder[0].data[..., 0, 0] = 1.0
        for _ in range(200):
            row, column = synthesis.batch().images[0, 0].nonzero()[0].tolist()
            moved |= {(row + size // 2) % size - size // 2, (column + size // 2) % size - size // 2}
        assert moved == set(range(-shift, shift + 1))


@pytest.mark.parametrize(("prior", "seen"), [("plain", False), ("jittered", True)])
def test_the_priors_judge_the_pixels_or_what_the_shift_made_of_them(prior: str, seen: bool, settings, teacher) -> None:
    config = settings(method="adi", inversion={"jitter": 2, "flip": True}, switches={"image_prior": prior})
    synthesis = inverted(config, teacher)
    synthesis.begin()
    batches = [synthesis.batch() for _ in range(6)]
    assert all(torch.equal(batch.plain, batch.images if seen else synthesis._holder[0]) for batch in batches)
    assert not all(torch.equal(batch.images, synthesis._holder[0]) for batch in batches)


@pytest.mark.parametrize("build", [inverted, by_generator])
@pytest.mark.parametrize(("quantise", "truncates"), [("round", False), ("truncate", True)])
def test_the_pool_holds_the_nearest_grey_levels_or_the_next_lower(build, quantise: str, truncates: bool, settings, teacher) -> None:
    synthesis = build(settings(generator={"family": "small"}, inversion={"quantise": quantise}), teacher)
    synthesis.begin()
    images = synthesis.batch().plain.detach().clone()
    synthesis.on_loss(torch.zeros(()))
    synthesis.end()
    assert torch.equal(synthesis._pool.images, teacher.normalisation.to_pixels(images, truncate=truncates))
    assert not torch.equal(synthesis._pool.images, teacher.normalisation.to_pixels(images, truncate=not truncates))


def run_whose_loss_rises_at_the_end(synthesis: AbstractSynthesis, losses: list[float]) -> tuple[list[Tensor], list[Tensor | None]]:
    """Real optimizer steps, which write into the images in place, with these losses told; images by step, and the answers."""
    synthesis.begin()
    images, answers = [], []
    for loss in losses:
        for module in synthesis.modules:
            module.requires_grad_(True)
        batch = synthesis.batch()
        images.append(batch.plain.detach().clone())
        answers.append(synthesis.on_loss(torch.tensor(loss)))
        (optimizer, *_) = synthesis.optimizers()
        optimizer.zero_grad()
        batch.images.square().mean().backward()
        optimizer.step()
        for module in synthesis.modules:
            module.requires_grad_(False)
    synthesis.end()
    return images, answers


@pytest.mark.parametrize("build", [inverted, by_generator])
@pytest.mark.parametrize(
    ("losses", "best", "improved"),
    [([3.0, 1.0, 2.0, 5.0], 1, [True, True, False, False]), ([1.0, 2.0, 4.0, 5.0], 0, [True, False, False, False])],
)
def test_the_best_steps_images_enter_the_pool_where_the_loss_rises_at_the_end(
    build, losses: list[float], best: int, improved: list[bool], settings, teacher
) -> None:
    config = settings(generator={"family": "small", "lr": 0.5}, inversion={"keep": "best"})
    synthesis = build(config, teacher)
    images, answers = run_whose_loss_rises_at_the_end(synthesis, losses)
    kept = synthesis._pool.images
    assert torch.equal(kept, teacher.normalisation.to_pixels(images[best]))
    assert not torch.equal(kept, teacher.normalisation.to_pixels(images[3]))
    assert [bool(answer) for answer in answers] == improved


def test_the_last_iterate_enters_the_pool_where_that_is_wished_and_it_is_another(settings, teacher) -> None:
    pools = []
    for keep in ("best", "last"):
        synthesis = inverted(settings(generator={"lr": 0.5}, inversion={"keep": keep}), teacher)
        _, answers = run_whose_loss_rises_at_the_end(synthesis, [3.0, 1.0, 2.0, 5.0])
        pools.append(synthesis._pool.images)
        assert (answers[0] is None) == (keep == "last")
    assert torch.equal(pools[1], teacher.normalisation.to_pixels(synthesis._holder[0]))
    assert not torch.equal(*pools)


def test_the_best_of_one_turn_does_not_compete_with_the_next(settings, teacher) -> None:
    synthesis = inverted(settings(), teacher)
    run_whose_loss_rises_at_the_end(synthesis, [1.0, 2.0])
    images, _ = run_whose_loss_rises_at_the_end(synthesis, [9.0, 8.0])
    assert torch.equal(synthesis._pool.images[BATCH:], teacher.normalisation.to_pixels(images[1]))


def test_an_inversions_adam_has_the_epochs_rate_and_the_generators_betas_and_starts_anew(settings, teacher) -> None:
    synthesis = inverted(settings(generator={"beta1": 0.5, "beta2": 0.99}), teacher)
    synthesis.begin_epoch(2, lr=0.3)
    synthesis.begin()
    step(synthesis, lambda images: images.square().mean())
    (first,) = synthesis.optimizers()
    assert (first.param_groups[0]["lr"], first.param_groups[0]["betas"]) == (0.3, (0.5, 0.99))
    synthesis.end()
    synthesis.begin()
    (second,) = synthesis.optimizers()
    assert not second.state


@pytest.mark.parametrize("build", [inverted, by_generator])
def test_an_annealed_batch_begins_at_the_rate_and_ends_near_nothing_each_time(build, settings, teacher) -> None:
    config = settings(generator={"family": "small"}, inversion={"annealing": "cosine"}, schedule={"generator_steps": 4})
    synthesis = build(config, teacher)
    synthesis.begin_epoch(1, lr=0.2)
    for _ in range(2):
        synthesis.begin()
        rates = []
        for _ in range(4):
            step(synthesis, lambda images: images.square().mean())
            rates.append(synthesis.optimizers()[0].param_groups[0]["lr"])
        assert rates == pytest.approx([0.2 * (1 + math.cos(math.pi * done / 4)) / 2 for done in range(4)])
        synthesis.end()


# The pool and what the student draws from it


def test_the_student_sees_every_image_of_the_pool_once_before_any_twice_in_whole_batches(settings, teacher) -> None:
    config = settings(schedule={"student_batch_size": 4}, inversion={"crop_padding": 0, "mirror": False})
    synthesis = inverted(config, teacher)
    turn(synthesis)
    turn(synthesis)
    pool = teacher.normalisation.normalise(synthesis._pool.images)
    for _ in range(3):
        seen = torch.cat([synthesis.sample()[0] for _ in range(4)])
        assert (seen[:, None] == pool[None]).all(dim=(2, 3, 4)).sum(dim=0).tolist() == [1] * 16
    assert synthesis.sample()[1] is None


def test_a_new_batch_in_the_pool_is_drawn_from_at_once(settings, teacher) -> None:
    config = settings(schedule={"student_batch_size": 4}, inversion={"crop_padding": 0, "mirror": False})
    synthesis = inverted(config, teacher)
    turn(synthesis)
    synthesis.sample()  # half an order is left over
    turn(synthesis)
    newest = teacher.normalisation.normalise(synthesis._pool.images[BATCH:])
    seen = torch.cat([synthesis.sample()[0] for _ in range(4)])
    assert (seen[:, None] == newest[None]).all(dim=(2, 3, 4)).sum() == BATCH


def test_the_pools_images_are_cropped_and_mirrored_as_bytes_and_then_normalised(settings, teacher) -> None:
    synthesis = inverted(settings(inversion={"crop_padding": 2, "mirror": True}), teacher)
    turn(synthesis)
    rng = torch.Generator()
    rng.set_state(synthesis._pool_rng.get_state())
    images, _ = synthesis.sample()
    chosen = synthesis._pool.images[torch.randperm(BATCH, generator=rng)]
    expected = teacher.normalisation.normalise(augment(chosen, crop_padding=2, flip=True, rng=rng))
    assert torch.equal(images, expected)
    black = teacher.normalisation.bounds(images)[0]
    assert (images == black).any()  # of the padding


def test_a_student_batch_is_never_larger_than_the_pool(settings, teacher) -> None:
    synthesis = inverted(settings(schedule={"student_batch_size": 50}), teacher)
    turn(synthesis)
    assert synthesis.sample()[0].shape[0] == BATCH


def test_beyond_its_size_the_pool_forgets_the_oldest_batches(settings, teacher) -> None:
    synthesis = inverted(settings(inversion={"pool_size": 12}), teacher)
    turn(synthesis)
    first = synthesis._pool.images.clone()
    turn(synthesis)
    assert len(synthesis._pool) == 12
    assert torch.equal(synthesis._pool.images[:4], first[4:])
    assert synthesis.num_stored_bytes == 12 * 64


def test_the_grid_of_an_inversion_is_its_newest_images_without_labels(settings, teacher) -> None:
    synthesis = inverted(settings(schedule={"batch_size": 10}), teacher)
    for _ in range(3):
        turn(synthesis)
    images, labels = synthesis.examples(1)
    assert labels is None
    assert torch.equal(images, synthesis._pool.images[-16:])
    assert torch.equal(synthesis.current_images(12), synthesis._pool.images[-12:])
    assert torch.equal(synthesis.current_images(1000), synthesis._pool.images)


# A generator that is drawn anew for each batch


def test_cmi_draws_its_generator_and_latents_anew_each_turn_whatever_torchs_global_generator_holds(settings, teacher) -> None:
    config = settings(generator={"family": "small"})
    runs = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        synthesis, states = by_generator(config, teacher), []
        for _ in range(2):
            before = torch.get_rng_state()
            synthesis.begin()
            assert torch.equal(torch.get_rng_state(), before)
            weights = torch.cat([tensor.float().flatten() for tensor in synthesis._generator.state_dict().values()])
            states.append(torch.cat([weights, synthesis._latents[0].detach().flatten()]).clone())
            step(synthesis, lambda images: images.square().mean())
            step(synthesis, lambda images: images.square().mean())
            synthesis.end()
        runs.append(states)
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][0], runs[0][1])


def test_cmis_new_generator_is_drawn_from_normals_and_has_forgotten_its_batch_statistics(settings, teacher) -> None:
    synthesis = by_generator(settings(generator={"family": "small", "width": 16, "latent_dim": 32}), teacher)
    turn(synthesis, 2)
    synthesis.begin()
    generator = synthesis._generator
    assert generator.project.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert generator.conv1.weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert generator.norm1.num_batches_tracked.item() == 0
    assert generator.training
    assert synthesis._latents[0].std().item() == pytest.approx(1.0, abs=0.2)


def test_cmi_trains_latents_and_generator_with_one_adam_and_its_head_with_another_that_persists(settings, teacher) -> None:
    head = nn.Linear(1, 1)
    synthesis = by_generator(settings(generator={"family": "small", "lr": 0.01}), teacher, heads=(head,))
    assert synthesis.modules == (synthesis._generator, synthesis._latents, head)
    pairs = []
    for _ in range(2):
        synthesis.begin()
        pairs.append(synthesis.optimizers())
        step(synthesis, lambda images: images.square().mean() + head(torch.ones(1)).sum())
        synthesis.end()
    (first, first_head), (second, second_head) = pairs
    assert first is not second
    assert first_head is second_head
    assert first_head.state[head.weight]["step"] == 2
    assert (first.param_groups[0]["betas"], first_head.param_groups[0]["betas"]) == ((0.5, 0.999), (0.9, 0.999))
    assert first_head.param_groups[0]["lr"] == 0.01
    trained = {id(p) for p in first.param_groups[0]["params"]}
    assert id(synthesis._latents[0]) in trained
    assert id(head.weight) not in trained
    assert synthesis.parts().keys() == {"pool", "head_optimizer"}


def test_cmi_without_a_head_has_one_optimizer(settings, teacher) -> None:
    synthesis = by_generator(settings(generator={"family": "small"}), teacher)
    synthesis.begin()
    assert len(synthesis.optimizers()) == 1
    assert synthesis.parts().keys() == {"pool"}


def test_cmis_views_are_made_of_pixels_and_normalised_afterwards(settings, teacher) -> None:
    synthesis = by_generator(settings(generator={"family": "small"}, inversion={"crop_padding": 3}), teacher)
    synthesis.begin()
    batch = synthesis.batch()
    black, white = teacher.normalisation.bounds(batch.plain)
    assert batch.images.shape == batch.local.shape == batch.plain.shape
    assert (batch.images == black).any()  # the padding is black, not the mean colour
    assert ((batch.plain > black) & (batch.plain < white)).all()
    assert ((batch.local > black) & (batch.local < white)).all()
    assert not torch.equal(batch.local, batch.plain)
    with torch.no_grad():
        again = synthesis._generator.raw(synthesis._latents[0])
    torch.testing.assert_close(batch.plain, teacher.normalisation.from_unit(again))


def test_cmis_latents_and_generator_receive_gradients_through_both_views(settings, teacher) -> None:
    synthesis = by_generator(settings(generator={"family": "small"}), teacher)
    synthesis.begin()
    for view in ("images", "local"):
        for module in synthesis.modules:
            module.requires_grad_(True).zero_grad(set_to_none=True)
        getattr(synthesis.batch(), view).square().mean().backward()
        assert all(
            p.grad is not None and p.grad.abs().max() > 0 for p in (synthesis._latents[0], synthesis._generator.conv1.weight)
        )


def test_each_stream_of_an_inversion_is_its_own(settings, teacher) -> None:
    config = settings()
    streams = RandomStreams(config.seed, CPU)
    InvertedBatches(config, teacher, streams, CPU)
    assert streams.state_dict().keys() == {"latents", "labels", "jitter", "views", "pool"}
    assert stream(config.seed, "pool").initial_seed() == derive_seed(config.seed, "pool") != derive_seed(config.seed, "views")


def test_many_examples_are_made_in_batches_and_are_those_of_one(settings, teacher, monkeypatch) -> None:
    synthesis = generated(settings(), teacher)
    synthesis.batch()
    whole, labels = synthesis.examples(5)
    seen = latents_seen(synthesis)
    monkeypatch.setattr("cpsc.synthesis.generated.EXAMPLES_BATCH", 7)
    batched, again = synthesis.examples(5)
    assert whole.dtype == torch.uint8
    assert [len(latents) for latents in seen] == [7, 7, 6]
    assert (batched.int() - whole.int()).abs().max() <= 1
    assert torch.equal(labels, again)
    assert synthesis.generator.training
