"""What is mixed into the student's images, and images of no data."""

import pytest
import torch
from torch import Tensor

from cpsc.config import MixingConfig
from cpsc.dead_leaves import dead_leaves
from cpsc.distiller import Distiller
from cpsc.mixing import UNKNOWN, Mixing


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def marked(number: int) -> Tensor:
    """Images that are all of their row's number."""
    return torch.arange(float(number)).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()


def test_so_many_are_blends_of_two_neighbours_and_the_others_are_as_they_were(teacher) -> None:
    images = marked(4000)
    mixed, labels = Mixing(MixingConfig(blended=0.25), teacher, rng=rng()).mixed(images, torch.zeros(4000, dtype=torch.long))
    values, own = mixed[1:, 0, 0, 0], images[1:, 0, 0, 0]
    changed = values != own
    assert changed.float().mean().item() == pytest.approx(0.25, abs=0.03)
    shares = (values - own + 1)[changed]  # its predecessor's number is less by 1
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares.mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(labels[1:] == UNKNOWN, changed)


def test_so_many_of_a_batch_are_dead_leaves_which_have_no_label(teacher) -> None:
    images, labels = marked(16), torch.ones(16, dtype=torch.long)
    mixed, told = Mixing(MixingConfig(dead_leaves=0.25), teacher, rng=rng()).mixed(images, labels)
    assert torch.equal(mixed[:12], images[:12])
    assert told.tolist() == [1] * 12 + [UNKNOWN] * 4
    black, white = teacher.normalisation.bounds(mixed)
    assert bool((mixed[12:] >= black - 1e-6).all() & (mixed[12:] <= white + 1e-6).all())
    assert mixed[12:].std(dim=(1, 2, 3)).min() > 0.1
    unlabelled = Mixing(MixingConfig(dead_leaves=0.25), teacher, rng=rng()).mixed(images, None)
    assert torch.equal(unlabelled[0], mixed)
    assert unlabelled[1] is None


def test_the_same_draws_give_the_same_leaves_and_others_others() -> None:
    def leaves(seed: int) -> Tensor:
        return dead_leaves(5, channels=3, image_size=16, rng=rng(seed))

    assert torch.equal(leaves(1), leaves(1))
    assert not torch.equal(leaves(1), leaves(2))
    assert leaves(1).shape == (5, 3, 16, 16)
    assert 0 <= leaves(1).min() < leaves(1).max() <= 1


def test_leaves_look_alike_at_every_scale_as_photographs_do() -> None:
    """The power of frequency f falls about as f ** -2: the exponent is what photographs have, white noise has 0."""
    images = dead_leaves(200, channels=1, image_size=64, rng=rng())
    power = torch.fft.fft(images - images.mean(), dim=3).abs().square().mean(dim=(0, 1, 2))
    slope = (power[16].log() - power[2].log()) / (torch.tensor(16.0).log() - torch.tensor(2.0).log())
    assert -2.6 < slope.item() < -1.2


def test_a_label_that_is_not_known_is_what_the_teacher_says(make_teacher, vary, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Distiller(vary(mixing={"blended": 0.5, "dead_leaves": 0.25}), make_teacher())
    seen = []
    terms = run.method.student_terms
    monkeypatch.setattr(run.method, "student_terms", lambda view: seen.append(view) or terms(view))
    run.train_epoch()
    labels = torch.cat([view.labels for view in seen])
    answers = torch.cat([view.teacher.logits.argmax(dim=1) for view in seen])
    assert labels.min() >= 0
    assert (labels != answers).any()  # an untrained generator's images are not of their class
    for view in seen:
        quarter = len(view.labels) // 4
        assert torch.equal(view.labels[-quarter:], view.teacher.logits.argmax(dim=1)[-quarter:])
