import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cpsc.errors import DivergedError
from cpsc.loop import Phase, TermLog, run_epoch, run_phase, trainable, weighted_sum

LIMIT = 1e6


def build_phase(name: str, module: nn.Module, terms: Callable[[], dict[str, Tensor]], *, steps: int = 2, **weights: float) -> Phase:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    return Phase(
        name=name,
        steps=steps,
        modules=(module,),
        terms=terms,
        weights=weights,
        optimizers=lambda: [optimizer],
        scaler=torch.amp.GradScaler("cpu", enabled=False),
    )


def frozen_linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 1).requires_grad_(False)


def test_the_loss_is_the_weighted_sum_of_batch_means_and_means_come_in_the_order_of_the_weights() -> None:
    terms = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor(5.0)}
    loss, means = weighted_sum(terms, {"b": 0.5, "a": 10.0})
    assert loss.item() == pytest.approx(0.5 * 5 + 10 * 2)
    assert means.tolist() == [5.0, 2.0]


def test_logged_means_carry_no_graph_while_the_loss_does() -> None:
    value = torch.ones(3, requires_grad=True)
    loss, means = weighted_sum({"a": value}, {"a": 2.0})
    loss.backward()
    assert not means.requires_grad
    assert value.grad.tolist() == pytest.approx([2 / 3] * 3)


@pytest.mark.parametrize(("terms", "odd"), [(["a"], "b"), (["a", "b", "c"], "c"), (["b"], "a")])
def test_terms_without_a_weight_and_weights_without_a_term_are_refused(terms: list[str], odd: str) -> None:
    with pytest.raises(KeyError, match=rf"disagree on \['{odd}'\]"):
        weighted_sum({name: torch.tensor(1.0) for name in terms}, {"a": 1.0, "b": 1.0})


def test_the_log_names_phase_term_and_step_of_the_first_value_that_is_not_finite() -> None:
    log = TermLog("student", {"kl": 1.0, "l2": 1.0}, diverged_above=LIMIT)
    log.append(torch.tensor([1.0, 2.0]))
    log.raise_if_diverged()
    log.append(torch.tensor([1.0, 2.0]))
    log.append(torch.tensor([1.0, math.inf]))
    log.append(torch.tensor([math.nan, 1.0]))
    with pytest.raises(DivergedError, match="student term l2 is not finite at step 3 of the epoch"):
        log.raise_if_diverged()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_term_whose_share_of_the_loss_exceeds_the_limit_has_diverged(sign: float) -> None:
    log = TermLog("generator", {"label": 1.0, "adversarial_kl": 10.0}, diverged_above=1e6)
    log.append(torch.tensor([1.0, sign * 9.9e4]))
    log.raise_if_diverged()
    log.append(torch.tensor([9.9e5, 1.0]))
    log.append(torch.tensor([1.0, sign * 1.1e5]))
    with pytest.raises(DivergedError) as caught:
        log.raise_if_diverged()
    term = f"generator term adversarial_kl times its weight is {sign * 1.1e6:.3g}"
    assert str(caught.value) == f"{term}, beyond diverged_above (1e+06) at step 3 of the epoch"


def test_a_term_of_little_weight_may_be_large() -> None:
    log = TermLog("generator", {"batch_statistics": 1e-3}, diverged_above=1e6)
    log.append(torch.tensor([9e8]))
    log.raise_if_diverged()


def test_a_loss_that_explodes_without_becoming_nan_ends_the_epoch_within_the_iteration() -> None:
    module, seen = frozen_linear(), []

    def terms() -> dict[str, Tensor]:
        seen.append(None)
        return {"kl": module.weight.sum() * 0 + 10.0 ** len(seen)}

    phase = build_phase("student", module, terms, steps=1, kl=1.0)
    with pytest.raises(DivergedError, match=r"student term kl times its weight is 1e\+07, beyond .* at step 7"):
        run_epoch([phase], iterations=20, check_each_iteration=True, diverged_above=LIMIT)
    assert len(seen) == 7


def test_the_log_averages_each_term_over_the_steps() -> None:
    log = TermLog("generator", {"kl": 1.0, "l2": 5.0}, diverged_above=LIMIT)
    log.append(torch.tensor([1.0, -2.0]))
    log.append(torch.tensor([2.0, -4.0]))
    assert log.means() == {"generator/kl": 1.5, "generator/l2": -3.0}


def test_a_log_without_new_values_has_nothing_to_complain_about() -> None:
    log = TermLog("generator", {"kl": 1.0}, diverged_above=LIMIT)
    log.raise_if_diverged()
    log.append(torch.tensor([1.0]))
    log.raise_if_diverged()
    log.raise_if_diverged()
    assert log.means() == {"generator/kl": 1.0}


@pytest.mark.parametrize("fails", [False, True])
def test_parameters_require_gradients_inside_the_block_only(fails: bool) -> None:
    module = frozen_linear()
    try:
        with trainable([module]):
            assert all(p.requires_grad for p in module.parameters())
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert not any(p.requires_grad for p in module.parameters())


def test_a_phase_makes_its_updates_with_fresh_gradients_and_leaves_the_other_module_alone() -> None:
    mine, other = frozen_linear(), frozen_linear()
    start = mine.weight.clone()
    x = torch.tensor([[1.0, -2.0]])
    phase = build_phase("p", mine, lambda: {"out": (mine(x) + other(x)).squeeze(1)}, steps=3, out=2.0)
    run_phase(phase, log := TermLog("p", {"out": 2.0}, diverged_above=LIMIT))
    # The loss is linear, so every step has the same gradient 2x; one that was not cleared would add up.
    torch.testing.assert_close(mine.weight, start - 3 * 0.1 * 2.0 * x)
    assert other.weight.grad is None
    assert torch.equal(other.weight, start)
    assert log.means()["p/out"] < (mine(x) + other(x)).item() + 3 * 0.1 * 2.0 * 6.0


def test_an_epoch_alternates_the_phases_and_averages_their_terms() -> None:
    order, module = [], frozen_linear()
    values = iter(range(100))

    def terms(name: str) -> dict[str, Tensor]:
        order.append(name)
        return {"t": module.weight.sum() * 0 + next(values)}

    phases = [
        build_phase("g", module, lambda: terms("g"), steps=2, t=1.0),
        build_phase("s", module, lambda: terms("s"), steps=1, t=1.0),
    ]
    metrics = run_epoch(phases, iterations=2, check_each_iteration=True, diverged_above=LIMIT)
    assert order == ["g", "g", "s", "g", "g", "s"]
    assert metrics == {"g/t": (0 + 1 + 3 + 4) / 4, "s/t": (2 + 5) / 2}


@pytest.mark.parametrize(("check_each_iteration", "calls"), [(True, 4), (False, 10)])
def test_a_nan_ends_the_epoch_within_the_iteration_or_where_looking_is_dear_at_its_end(
    check_each_iteration: bool, calls: int
) -> None:
    module, seen = frozen_linear(), []

    def terms() -> dict[str, Tensor]:
        seen.append(None)
        value = module.weight.sum()
        return {"fine": value, "bad": value * (math.nan if len(seen) == 3 else 1.0)}

    phase = build_phase("student", module, terms, steps=2, fine=1.0, bad=1.0)
    with pytest.raises(DivergedError, match="student term bad is not finite at step 3 of the epoch"):
        run_epoch([phase], iterations=5, check_each_iteration=check_each_iteration, diverged_above=LIMIT)
    assert len(seen) == calls
    assert not module.weight.requires_grad


def test_several_turns_of_one_phase_in_an_iteration_share_its_log() -> None:
    order, module = [], frozen_linear()
    values = iter(range(100))

    def terms(name: str) -> dict[str, Tensor]:
        order.append(name)
        return {"t": module.weight.sum() * 0 + next(values)}

    student = build_phase("student", module, lambda: terms("S"), steps=1, t=1.0)
    replay = build_phase("replay", module, lambda: terms("R"), steps=1, t=1.0)
    phases = [student, replay, student, replay, replace(student, steps=3)]
    metrics = run_epoch(phases, iterations=1, check_each_iteration=True, diverged_above=LIMIT)
    assert "".join(order) == "SRSRSSS"
    assert metrics == pytest.approx({"student/t": (0 + 2 + 4 + 5 + 6) / 5, "replay/t": (1 + 3) / 2})


def test_a_divergence_in_a_phases_second_turn_is_counted_on_from_the_first() -> None:
    module, seen = frozen_linear(), []

    def terms() -> dict[str, Tensor]:
        seen.append(None)
        return {"kl": module.weight.sum() * (math.nan if len(seen) == 3 else 1.0)}

    phase = build_phase("student", module, terms, steps=2, kl=1.0)
    with pytest.raises(DivergedError, match="student term kl is not finite at step 3 of the epoch"):
        run_epoch([phase, phase], iterations=1, check_each_iteration=True, diverged_above=LIMIT)


def test_a_turn_begins_shows_each_loss_before_its_update_and_ends() -> None:
    module, events, losses = frozen_linear(), [], []
    x = torch.tensor([[1.0, 1.0]])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)

    def noted(name: str, value: object = None) -> None:
        events.append((name, round(module.weight.sum().item(), 5), module.weight.requires_grad))

    def observe(loss: Tensor) -> None:
        assert not loss.requires_grad
        losses.append(loss.item())
        noted("observe")

    def terms() -> dict[str, Tensor]:
        noted("terms")
        return {"out": module(x)}

    phase = build_phase("p", module, terms, steps=2, out=3.0)
    phase = replace(phase, optimizers=lambda: [optimizer], begin=lambda: noted("begin"), on_loss=observe, end=lambda: noted("end"))
    start = round(module.weight.sum().item(), 5)
    loss = 3 * (module(x).item())
    run_phase(phase, TermLog("p", {"out": 3.0}, diverged_above=LIMIT))
    names = [name for name, _, _ in events]
    assert names == ["begin", "terms", "observe", "terms", "observe", "end"]
    assert [grad for _, _, grad in events] == [False, True, True, True, True, False]
    # Each step moves both weights and the bias by 0.1 * 3, after the loss has been shown.
    weights = [start, start, start, start - 0.6, start - 0.6, start - 1.2]
    assert [value for _, value, _ in events] == pytest.approx(weights, abs=1e-4)
    assert losses == pytest.approx([loss, loss - 3 * 0.9], abs=1e-4)


def test_a_phase_whose_terms_fail_does_not_end() -> None:
    module, ended = frozen_linear(), []

    def terms() -> dict[str, Tensor]:
        raise RuntimeError

    phase = replace(build_phase("p", module, terms, t=1.0), end=lambda: ended.append(None))
    with pytest.raises(RuntimeError):
        run_phase(phase, TermLog("p", {"t": 1.0}, diverged_above=LIMIT))
    assert not ended
    assert not module.weight.requires_grad


@pytest.mark.parametrize(("clip_norm", "moved"), [(None, 50.0), (0.5, 0.5), (1e3, 50.0)])
def test_the_gradient_is_shortened_to_the_clip_norm_before_the_step(clip_norm: float | None, moved: float) -> None:
    module = nn.Linear(2, 1, bias=False).requires_grad_(False)
    start = module.weight.clone()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    phase = build_phase("p", module, lambda: {"out": module(torch.tensor([[30.0, 40.0]]))}, steps=1, out=1.0)
    phase = replace(phase, optimizers=lambda: [optimizer], clip_norm=clip_norm)
    run_phase(phase, TermLog("p", {"out": 1.0}, diverged_above=LIMIT))
    step = start - module.weight
    assert step.norm().item() == pytest.approx(moved, rel=1e-4)
    torch.testing.assert_close(step / step.norm(), torch.tensor([[0.6, 0.8]]))


def test_all_optimizers_of_a_phase_step_with_gradients_cleared_before() -> None:
    first, second = frozen_linear(), frozen_linear()
    x = torch.tensor([[1.0, -2.0]])
    pair = [torch.optim.SGD(first.parameters(), lr=0.1), torch.optim.SGD(second.parameters(), lr=0.01)]
    phase = Phase(
        name="generator",
        steps=2,
        modules=(first, second),
        terms=lambda: {"out": first(x) + second(x)},
        weights={"out": 1.0},
        optimizers=lambda: pair,
        scaler=torch.amp.GradScaler("cpu", enabled=False),
    )
    start = first.weight.clone()
    run_phase(phase, TermLog("generator", {"out": 1.0}, diverged_above=LIMIT))
    torch.testing.assert_close(first.weight, start - 2 * 0.1 * x)
    torch.testing.assert_close(second.weight, start - 2 * 0.01 * x)


def test_each_steps_optimizers_are_asked_for_anew() -> None:
    module, asked = frozen_linear(), []
    phase = build_phase("p", module, lambda: {"t": module.weight.sum()}, steps=3, t=1.0)
    make = phase.optimizers
    phase = replace(phase, optimizers=lambda: asked.append(None) or make())
    run_phase(phase, TermLog("p", {"t": 1.0}, diverged_above=LIMIT))
    assert len(asked) == 3
