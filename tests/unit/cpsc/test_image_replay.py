"""MB-DFKD's memory: which images are kept, which are recalled, and what the student's step makes of them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cpsc.config import DistillConfig
from cpsc.distiller import Distiller
from cpsc.errors import ConfigError
from cpsc.models import Output
from cpsc.replay import ImageReplay
from cpsc.rng import RandomStreams
from cpsc.teacher import Teacher
from tests.support.configs import config_of

CPU = torch.device("cpu")
BATCH, FEATURES = 16, 5


@pytest.fixture
def settings(vary: Callable[..., DistillConfig]) -> Callable[..., DistillConfig]:
    def make(**replay: object) -> DistillConfig:
        return vary(replay={"kind": "images"} | replay, schedule={"batch_size": BATCH, "student_steps": 3})

    return make


def build(config: DistillConfig, teacher: Teacher) -> ImageReplay:
    return ImageReplay(config, teacher, num_features=FEATURES, streams=RandomStreams(config.seed, CPU), device=CPU)


def batch(number: int, teacher: Teacher) -> tuple[Tensor, Output]:
    """Images that tell their batch (fifties) and row, and answers that tell the same."""
    value = 50.0 * number + torch.arange(BATCH)
    images = value.view(-1, 1, 1, 1).expand(-1, teacher.channels, teacher.image_size, teacher.image_size)
    return images, Output(value[:, None].expand(-1, FEATURES), value[:, None].expand(-1, teacher.num_classes))


def told(images: Tensor) -> list[float]:
    return sorted(images[:, 0, 0, 0].tolist())


def test_of_every_fifth_epochs_last_batch_an_eighth_is_kept_the_first_epoch_included(settings, teacher) -> None:
    memory = build(settings(), teacher)
    stored = []
    for epoch in range(1, 12):
        for step in (0, 1):
            memory.remember(*batch(2 * epoch + step, teacher))
        memory.end_epoch(epoch)
        stored.append(memory.num_stored)
    assert stored == [2] * 5 + [4] * 5 + [6]
    assert told(memory.images[:6].float()) == [150.0, 151.0, 650.0, 651.0, 1150.0, 1151.0]


def test_beyond_its_capacity_the_oldest_go(settings, teacher) -> None:
    memory = build(settings(every_epochs=0, capacity=40), teacher)
    for number in range(4):
        memory.remember(*batch(number, teacher))
    assert told(memory.images.float()) == told(torch.cat([batch(number, teacher)[0] for number in range(4)])[-40:])
    small = build(settings(every_epochs=0, capacity=10), teacher)
    small.remember(*batch(1, teacher))
    assert told(small.images.float()) == [50.0 + row for row in range(6, 16)]


def test_it_recalls_other_images_each_time_none_of_them_twice_and_all_in_the_end(settings, teacher) -> None:
    memory = build(settings(every_epochs=0, capacity=64, fraction=0.5), teacher)
    assert memory.recall() is None
    for number in range(4):
        memory.remember(*batch(number, teacher))
    draws = [told(memory.recall().images) for _ in range(60)]
    assert all(len(set(draw)) == BATCH // 2 for draw in draws)
    assert draws[0] != draws[1]
    assert len({image for draw in draws for image in draw}) == 64


def test_a_batch_may_recall_more_than_it_has_new_ones_but_no_more_than_there_are(settings, teacher) -> None:
    memory = build(settings(every_epochs=0, capacity=64, fraction=3.0), teacher)
    memory.remember(*batch(0, teacher))
    assert len(memory.recall().images) == BATCH
    for number in range(3):
        memory.remember(*batch(number, teacher))
    assert len(memory.recall().images) == 3 * BATCH


def test_a_share_of_less_than_an_image_is_one_image_and_none_is_none(settings, teacher) -> None:
    assert build(settings(fraction=1e-6), teacher).num_images == 1
    memory = build(settings(every_epochs=0, fraction=0.0, rehearsals=1), teacher)
    memory.remember(*batch(0, teacher))
    assert memory.recall() is None
    assert len(memory.rehearsed().images) == BATCH


def test_answers_are_kept_with_their_images(settings, teacher) -> None:
    memory = build(settings(every_epochs=0, capacity=40, answers="kept"), teacher)
    for number in range(3):
        memory.remember(*batch(number, teacher))
    images, answers = memory.recall()
    assert torch.equal(answers.logits[:, 0], images[:, 0, 0, 0])
    assert torch.equal(answers.features[:, 0], images[:, 0, 0, 0])
    assert build(settings(), teacher).num_stored_bytes == 0
    assert memory.num_stored_bytes == 40 * (2 * images[0].numel() + 4 * (FEATURES + teacher.num_classes))


def test_a_run_with_kept_answers_asks_the_teacher_about_new_images_alone(settings, teacher) -> None:
    seen: dict[str, list[int]] = {}
    for answers in ("asked", "kept"):
        run = Distiller(settings(every_epochs=0, fraction=1.0, answers=answers), teacher)
        sizes = seen.setdefault(answers, [])
        handle = run.teacher.register_forward_hook(lambda layer, inputs, out, sizes=sizes: sizes.append(len(inputs[0])))
        run.train_epoch()
        handle.remove()
    assert set(seen["kept"]) == {BATCH}
    assert set(seen["asked"]) == {BATCH, 2 * BATCH}


def test_kept_answers_are_what_the_teacher_would_say_again(settings, teacher) -> None:
    run = Distiller(settings(every_epochs=0, fraction=1.0, answers="kept"), teacher)
    run.train_epoch()
    images, answers = run.replay.recall()
    with torch.no_grad():
        again = run.teacher(images)
    torch.testing.assert_close(answers.logits, again.logits, rtol=0.01, atol=0.02)  # float16 images


@pytest.mark.parametrize(
    "replay",
    [
        {},
        {"every_epochs": 0, "fraction": 2.0, "answers": "kept", "capacity": 50},
        {"every_epochs": 0, "fraction": 0.0, "rehearsals": 2, "answers": "kept", "capacity": 50},
    ],
)
def test_a_run_resumed_is_the_run_that_was_not_interrupted(settings, teacher, replay) -> None:
    config = replace(settings(**replay), epochs=4)
    whole, first = Distiller(config, teacher), Distiller(config, teacher)
    for _ in range(4):
        whole.train_epoch()
    for _ in range(2):
        first.train_epoch()
    second = Distiller(config, teacher)
    second.continue_after(2, first.parts_state())
    for _ in range(2):
        second.train_epoch()
    assert whole.replay.num_written == second.replay.num_written > 0
    assert all(torch.equal(value, second.student.state_dict()[name]) for name, value in whole.student.state_dict().items())


@pytest.mark.parametrize("answers", ["asked", "kept"])
def test_after_its_steps_on_new_images_the_student_rehearses_whole_batches_of_remembered_ones(settings, teacher, answers) -> None:
    config = settings(every_epochs=0, fraction=0.0, rehearsals=2, answers=answers)
    run = Distiller(config, teacher)
    seen: list[tuple[bool, int]] = []
    run.student.register_forward_hook(lambda layer, inputs, out: seen.append((torch.is_grad_enabled(), len(inputs[0]))))
    asked: list[int] = []
    run.teacher.register_forward_hook(lambda layer, inputs, out: asked.append(len(inputs[0])))
    metrics = run.train_epoch()
    turn = config.schedule.generator_steps + 3 + 2 * 3
    assert [size for _, size in seen] == [BATCH] * turn * config.schedule.iterations
    assert len(asked) == (turn - (6 if answers == "kept" else 0)) * config.schedule.iterations
    assert {name for name in metrics if name.startswith("rehearsal/")} == {"rehearsal/kl", "rehearsal/l2", "rehearsal/label"}
    assert config.images_per_epoch == turn * BATCH * config.schedule.iterations


def test_maps_that_are_compared_are_not_kept() -> None:
    with pytest.raises(ConfigError, match=r"replay.answers must be 'asked' with weights.attention"):
        config_of({"method": "zskt", "replay": {"kind": "images", "answers": "kept"}}, num_classes=10)


@pytest.mark.parametrize(
    ("replay", "rule"),
    [
        ({"kind": "vae", "rehearsals": 1}, "replay.rehearsals must be in 0..0 with replay.kind vae"),
        ({"kind": "images", "rehearsals": 1}, "replay.every_epochs must be 0 with replay.rehearsals"),
        ({"kind": "images", "fraction": 0.0}, r"replay.fraction must be in \(0, 64\]"),
        ({"kind": "vae", "fraction": 2.0}, r"replay.fraction must be in \(0, 1\]"),
        ({"kind": "images", "fraction": 65.0}, r"replay.fraction must be in \(0, 64\]"),
        ({"kind": "images", "capacity": 0}, "replay.capacity must be in 1"),
        ({"kind": "images", "every_epochs": -1}, "replay.every_epochs must be >= 0"),
    ],
)
def test_what_a_memory_cannot_be_is_refused(vary, replay, rule) -> None:
    with pytest.raises(ConfigError, match=rule):
        vary(replay=replay)
