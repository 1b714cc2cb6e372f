import pytest
import torch

from cpsc.rng import RandomStreams, derive_seed, seeded_init, stream

CPU = torch.device("cpu")


def draw(rng: torch.Generator) -> list[float]:
    return torch.randn(4, generator=rng).tolist()


def test_a_stream_is_decided_by_seed_and_name() -> None:
    first = draw(stream(3, "latents"))
    assert draw(stream(3, "latents")) == first
    assert draw(stream(3, "labels")) != first
    assert draw(stream(4, "latents")) != first


def test_neighbouring_seeds_and_names_share_no_stream() -> None:
    seeds = [derive_seed(seed, name) for seed in range(50) for name in ("latents", "labels", "student", "1/labels")]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_derivation_of_seeds_is_fixed_because_every_published_figure_hangs_on_it() -> None:
    assert derive_seed(0, "latents") == 5_240_439_897_593_002_519


def test_initial_weights_are_decided_by_seed_and_name_and_the_global_generator_is_put_back() -> None:
    torch.manual_seed(1)
    before, weights = torch.get_rng_state(), []
    for seed, name in ((0, "student"), (0, "student"), (0, "generator"), (1, "student")):
        with seeded_init(seed, name):
            weights.append(torch.nn.Linear(3, 3).weight.flatten().tolist())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]
    assert weights[0] != weights[3]
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_generator_is_put_back_when_building_fails() -> None:
    def fail() -> None:
        torch.randn(3)
        raise RuntimeError("half way")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="half way"), seeded_init(0, "student"):
        fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_streams_of_a_run_go_on_where_they_were_saved() -> None:
    first = RandomStreams(5, CPU)
    draw(first.latents)
    state = first.state_dict()
    expected = draw(first.latents), draw(first.labels)
    second = RandomStreams(9, CPU)
    second.load_state_dict(state)
    assert (draw(second.latents), draw(second.labels)) == expected


def test_latents_and_labels_are_separate_streams() -> None:
    first, second = RandomStreams(5, CPU), RandomStreams(5, CPU)
    draw(first.latents)
    assert draw(first.labels) == draw(second.labels)
    assert draw(second.latents) != draw(RandomStreams(5, CPU).labels)
