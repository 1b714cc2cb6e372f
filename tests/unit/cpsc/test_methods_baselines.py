import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import DistillConfig, LossWeights
from cpsc.distiller import Distiller
from cpsc.errors import ConfigError
from cpsc.loop import Phase
from cpsc.losses.attention import attention_distance, attention_map
from cpsc.losses.disagreement import (
    agreement_by_clamped_divergence,
    agreement_by_elementwise_divergence,
    agreement_by_jensen_shannon,
    agreement_by_unbounded_divergence,
)
from cpsc.losses.distillation import distillation_kl
from cpsc.losses.image_prior import image_norm, mean_total_variation, total_variation
from cpsc.losses.instance_contrast import instance_discrimination
from cpsc.losses.statistics import batch_statistics_distance, gaussian_statistics_kl
from cpsc.methods import METHODS, AbstractMethod, BatchOutputs, check_method, config_class, effective_settings
from cpsc.methods.cmi import Cmi, feature_layers, num_input_channels
from cpsc.models import Output, build_model
from cpsc.presets import preset
from cpsc.schedule import student_lr
from cpsc.statistics import ChannelStatistics, channel_means, recorded
from tests.support.configs import flat
from tests.unit.cpsc.test_distiller import copy_of, differences
from tests.unit.cpsc.test_method_contract import small

BATCH, CLASSES, DIM = 6, 4, 5
NO_TERMS = dict.fromkeys(vars(LossWeights()), 0.0)


def configured(method: str, weights: dict[str, float], **changes: Any) -> DistillConfig:
    base = config_class(method)(method=method, weights=LossWeights(**(NO_TERMS | weights)))
    sections = {
        name: replace(getattr(base, name), **value) if isinstance(value, dict) else value for name, value in changes.items()
    }
    return replace(base, **sections)


def network(dim: int = DIM) -> nn.Module:
    module = nn.Module()
    module.feature_dim = dim
    return module


def build(method: str, weights: dict[str, float], **changes: Any) -> AbstractMethod:
    return METHODS[method](configured(method, weights, **changes), teacher=network(), student=network())


def leaves() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    shapes = {
        "teacher.features": (BATCH, DIM),
        "teacher.logits": (BATCH, CLASSES),
        "student.features": (BATCH, DIM),
        "student.logits": (BATCH, CLASSES),
        "pixels": (BATCH, 2, 4, 4),
        "mean": (3,),
        "var": (3,),
    }
    tensors = {name: torch.randn(shape, generator=rng, dtype=torch.float64) for name, shape in shapes.items()}
    tensors["var"] = tensors["var"].square() + 0.1
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}


def view_of(tensors: dict[str, Tensor]) -> BatchOutputs:
    return BatchOutputs(
        labels=torch.tensor([0, 1, 2, 3, 0, 1]),
        teacher=Output(tensors["teacher.features"], tensors["teacher.logits"]),
        student=Output(tensors["student.features"], tensors["student.logits"]),
        observed=[ChannelStatistics(tensors["mean"], tensors["var"])],
        stored=[ChannelStatistics(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))],
        pixels=tensors["pixels"],
    )


def reached(term: Tensor, tensors: dict[str, Tensor]) -> set[str]:
    gradients = torch.autograd.grad(term.mean(), list(tensors.values()), allow_unused=True)
    return {name for name, gradient in zip(tensors, gradients, strict=True) if gradient is not None and gradient.abs().max() > 0}


def kl_bm(view: BatchOutputs, temperature: float = 1.0) -> Tensor:
    """Of teacher to student, summed over classes and averaged over the batch, times the squared temperature."""
    log_student = (view.student.logits / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(log_student, (view.teacher.logits / temperature).softmax(1), reduction="batchmean")


def one_hot(view: BatchOutputs) -> Tensor:
    return -view.teacher.logits.softmax(1).amax(1).log().mean()


def balance(view: BatchOutputs, base: float = math.e) -> Tensor:
    mean = view.teacher.logits.softmax(1).mean(0)
    return (mean * mean.log()).sum() / math.log(base)


def means(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: term.mean() for name, term in terms.items()}


def tiny(method: str, name: str, **changes: Any) -> DistillConfig:
    """A preset's run in milliseconds, some of its settings changed."""
    return small(method, name, **dict(flat(changes)))


# DAFL

DAFL = {"kl": 1.0, "one_hot": 0.05, "balance": 5.0, "activation": 0.01}


@pytest.mark.parametrize(("name", "base"), [("10", 10.0), ("e", math.e)])
def test_dafl_makes_images_by_confidence_balance_and_activation_and_teaches_by_kl(name: str, base: float) -> None:
    tensors = leaves()
    view = view_of(tensors)
    method = build("dafl", DAFL, switches={"balance_base": name})
    expected = {"one_hot": one_hot(view), "balance": balance(view, base), "activation": -view.teacher.features.abs().mean()}
    torch.testing.assert_close(means(method.generator_terms(view)), expected)
    torch.testing.assert_close(means(method.student_terms(view)), {"kl": kl_bm(view)})
    assert method.generator_weights == {"one_hot": 0.05, "balance": 5.0, "activation": 0.01}


def test_the_student_has_no_part_in_dafls_images() -> None:
    tensors = leaves()
    method = build("dafl", DAFL)
    assert not method.needs_student
    assert not method.needs_statistics
    reach = {name: reached(term, tensors) for name, term in method.generator_terms(view_of(tensors)).items()}
    assert reach == {"one_hot": {"teacher.logits"}, "balance": {"teacher.logits"}, "activation": {"teacher.features"}}


def test_dafls_joint_step_teaches_on_the_very_images_the_generator_was_trained_on(teacher) -> None:
    distiller = Distiller(tiny("dafl", "original", schedule={"generator_steps": 1, "student_steps": 1}), teacher)
    seen: list[Tensor] = []
    distiller.teacher.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0].detach().clone()))
    distiller.run_epoch()
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    assert not torch.equal(seen[0], seen[2])


# ZSKT

ZSKT = {"kl": 1.0, "adversarial": 1.0, "attention": 250.0}


def with_maps(view: BatchOutputs) -> BatchOutputs:
    rng = torch.Generator().manual_seed(9)
    sides = [[attention_map(torch.randn(BATCH, 3, size, size, generator=rng)) for size in (4, 2)] for _ in range(2)]
    return replace(view, attention=(sides[0], sides[1]))


@pytest.mark.parametrize(("kl_mean", "divisor"), [("batch", 1), ("element", CLASSES)])
def test_zskt_turns_the_kl_around_for_the_generator_and_adds_attention_for_the_student(kl_mean: str, divisor: int) -> None:
    view = with_maps(view_of(leaves()))
    method = build("zskt", ZSKT, switches={"kl_mean": kl_mean})
    torch.testing.assert_close(means(method.generator_terms(view)), {"adversarial_kl": -kl_bm(view) / divisor})
    attention = sum((a - b).square().mean() for a, b in zip(*view.attention, strict=True))
    terms = means(method.student_terms(view))
    torch.testing.assert_close(terms["kl"], kl_bm(view) / divisor)
    torch.testing.assert_close(terms["attention"], attention)
    assert method.student_weights == {"kl": 1.0, "attention": 250.0}
    assert method.needs_attention


def test_the_kls_elementwise_mean_is_pytorchs_default_reduction() -> None:
    view = view_of(leaves())
    term = build("zskt", {"kl": 1.0, "adversarial": 1.0}, switches={"kl_mean": "element"}).student_terms(view)["kl"].mean()
    elements = F.kl_div(view.student.logits.log_softmax(1), view.teacher.logits.softmax(1), reduction="none")
    torch.testing.assert_close(term, elements.mean())


def test_zskts_generator_reaches_its_images_through_both_networks() -> None:
    tensors = leaves()
    method = build("zskt", ZSKT)
    assert reached(method.generator_terms(view_of(tensors))["adversarial_kl"], tensors) == {"teacher.logits", "student.logits"}
    assert method.needs_student


def test_zskt_without_attention_asks_for_no_maps() -> None:
    method = build("zskt", {"kl": 1.0, "adversarial": 1.0})
    assert not method.needs_attention
    assert method.student_terms(view_of(leaves())).keys() == method.student_weights.keys() == {"kl"}


def test_the_attention_term_of_a_run_compares_the_three_stages_of_both_networks(make_teacher) -> None:
    distiller = Distiller(tiny("zskt", "original"), make_teacher("wrn_10_2"))
    views: list[BatchOutputs] = []
    student_terms = distiller.method.student_terms
    distiller.method.student_terms = lambda view: views.append(view) or student_terms(view)
    distiller.run_epoch()
    student, teacher_maps = views[0].attention
    assert [one.shape for one in student] == [one.shape for one in teacher_maps] == [(8, 64), (8, 16), (8, 4)]
    assert all(one.requires_grad for one in student)
    assert not any(one.requires_grad for one in teacher_maps)
    assert attention_distance(student, teacher_maps).mean() > 0


def test_zskts_ten_student_steps_see_one_pseudo_batch_of_which_the_teacher_is_asked_once(teacher) -> None:
    distiller = Distiller(tiny("zskt", "original", schedule={"iterations": 1, "generator_steps": 1, "student_steps": 10}), teacher)
    by_teacher, by_student = [], []
    distiller.teacher.register_forward_pre_hook(lambda net, inputs: by_teacher.append(inputs[0].detach().clone()))
    distiller.student.register_forward_pre_hook(lambda net, inputs: by_student.append(inputs[0].detach().clone()))
    distiller.run_epoch()
    assert [len(by_teacher), len(by_student)] == [2, 11]
    assert all(torch.equal(images, by_teacher[1]) for images in by_student[1:])
    assert not torch.equal(by_teacher[0], by_teacher[1])  # the updated generator


# DFAD

DFAD = {"l1": 1.0, "adversarial": 1.0}


def test_dfads_generator_loss_is_minus_the_students_on_the_same_batch() -> None:
    view = view_of(leaves())
    method = build("dfad", DFAD)
    expected = (view.student.logits - view.teacher.logits).abs().mean()
    torch.testing.assert_close(means(method.student_terms(view)), {"l1": expected})
    torch.testing.assert_close(means(method.generator_terms(view)), {"adversarial_l1": -expected})
    assert method.generator_weights == {"adversarial_l1": 1.0}


def test_dfads_generator_reaches_its_images_through_both_networks() -> None:
    tensors = leaves()
    method = build("dfad", DFAD)
    assert reached(method.generator_terms(view_of(tensors))["adversarial_l1"], tensors) == {"teacher.logits", "student.logits"}
    assert method.needs_student


def test_the_original_dfad_teaches_first_and_the_toolbox_makes_images_first(teacher) -> None:
    orders = []
    for name in ("original", "toolbox"):
        distiller, order = Distiller(tiny("dfad", name, schedule={"iterations": 1}), teacher), []
        for phase in ("generator", "student"):
            terms = getattr(distiller.method, f"{phase}_terms")
            setattr(
                distiller.method,
                f"{phase}_terms",
                lambda view, name=phase, terms=terms, order=order: order.append(name[0]) or terms(view),
            )
        distiller.run_epoch()
        orders.append("".join(order))
    assert orders == ["sssgg", "ggsss"]


# PRE-DFKD

PRE = {"l1": 1.0, "adversarial": 1.0, "one_hot": 1.0, "balance": 5.0, "activation": 0.1}


@pytest.mark.parametrize(
    ("form", "agreement"), [("jensen_shannon", agreement_by_jensen_shannon), ("clamped", agreement_by_elementwise_divergence)]
)
def test_pre_dfkd_adds_the_students_disagreement_to_dafls_three_terms(form: str, agreement: Callable[..., Tensor]) -> None:
    view = view_of(leaves())
    method = build("pre_dfkd", PRE, switches={"disagreement": form, "balance_base": "10"})
    expected = {
        "one_hot": one_hot(view),
        "balance": balance(view, 10.0),
        "activation": -view.teacher.features.abs().mean(),
        "adversarial_agreement": agreement(view.student.logits, view.teacher.logits).mean(),
    }
    torch.testing.assert_close(means(method.generator_terms(view)), expected)
    torch.testing.assert_close(means(method.student_terms(view)), {"l1": (view.student.logits - view.teacher.logits).abs().mean()})
    assert method.generator_weights == {"one_hot": 1.0, "balance": 5.0, "activation": 0.1, "adversarial_agreement": 1.0}


def test_pre_dfkds_disagreement_reaches_the_images_through_the_student_alone() -> None:
    tensors = leaves()
    terms = build("pre_dfkd", PRE).generator_terms(view_of(tensors))
    assert reached(terms["adversarial_agreement"], tensors) == {"student.logits"}


def test_pre_dfkds_student_averages_over_new_and_memory_images_alike(teacher) -> None:
    distiller = Distiller(tiny("pre_dfkd", "original", schedule={"batch_size": 16}), teacher)
    views: list[BatchOutputs] = []
    student_terms = distiller.method.student_terms
    distiller.method.student_terms = lambda view: views.append(view) or student_terms(view)
    distiller.run_epoch()
    view = views[0]
    assert len(view.student.logits) == 16 + 2
    torch.testing.assert_close(student_terms(view)["l1"].mean(), (view.student.logits - view.teacher.logits).abs().mean())


# ADI

ADI = {"kl": 1.0, "adversarial": 10.0, "batch_statistics": 5.0, "label": 1.0, "total_variation": 2.5e-5, "image_norm": 3e-8}


@pytest.mark.parametrize(
    ("form", "agreement"),
    [
        ("jensen_shannon", agreement_by_jensen_shannon),
        ("clamped", agreement_by_clamped_divergence),
        ("unbounded", agreement_by_unbounded_divergence),
    ],
)
@pytest.mark.parametrize(("variation", "prior"), [("norm", total_variation), ("mean", mean_total_variation)])
def test_adis_terms_are_label_statistics_priors_of_the_plain_pixels_and_disagreement(form, agreement, variation, prior) -> None:
    view = view_of(leaves())
    method = build("adi", ADI, switches={"disagreement": form, "total_variation": variation}, distillation_temperature=3.0)
    expected = {
        "label": F.cross_entropy(view.teacher.logits, view.labels),
        "batch_statistics": batch_statistics_distance(view.observed, view.stored),
        "total_variation": prior(view.pixels),
        "image_norm": image_norm(view.pixels),
        "adversarial_agreement": agreement(view.student.logits, view.teacher.logits).mean(),
    }
    torch.testing.assert_close(means(method.generator_terms(view)), expected)
    torch.testing.assert_close(means(method.student_terms(view)), {"kl": kl_bm(view, 3.0)})
    weights = {"label": 1.0, "batch_statistics": 5.0, "total_variation": 2.5e-5, "image_norm": 3e-8}
    assert method.generator_weights == {**weights, "adversarial_agreement": 10.0}


def test_plain_inversion_does_not_ask_the_student() -> None:
    assert not build("adi", ADI | {"adversarial": 0.0}).needs_student
    assert build("adi", ADI).needs_student


def test_the_student_is_in_eval_mode_while_pixels_are_inverted_and_in_train_mode_for_its_own_steps(teacher) -> None:
    for name in METHODS["adi"].PRESETS:
        distiller, modes = Distiller(tiny("adi", name), teacher), []
        distiller.student.register_forward_pre_hook(lambda net, inputs, modes=modes: modes.append(net.training))
        distiller.run_epoch()
        assert modes == [False, False, True, True, True] * 2


# DFQ

DFQ = {"kl": 1.0, "adversarial": 1.0, "batch_statistics": 1.0, "one_hot": 1.0, "balance": 20.0}


@pytest.mark.parametrize(("form", "distance"), [("norm", batch_statistics_distance), ("gaussian", gaussian_statistics_kl)])
def test_dfqs_terms_are_the_kl_turned_around_statistics_confidence_and_balance(form: str, distance) -> None:
    view = view_of(leaves())
    method = build("dfq", DFQ, switches={"statistics": form})
    expected = {
        "adversarial_kl": -kl_bm(view),
        "batch_statistics": distance(view.observed, view.stored),
        "one_hot": one_hot(view),
        "balance": balance(view),
    }
    torch.testing.assert_close(means(method.generator_terms(view)), expected)
    torch.testing.assert_close(means(method.student_terms(view)), {"kl": kl_bm(view)})
    assert method.generator_weights == {"adversarial_kl": 1.0, "batch_statistics": 1.0, "one_hot": 1.0, "balance": 20.0}


def test_dfqs_adversary_detaches_nothing() -> None:
    tensors = leaves()
    terms = build("dfq", DFQ).generator_terms(view_of(tensors))
    assert reached(terms["adversarial_kl"], tensors) == {"teacher.logits", "student.logits"}
    assert reached(terms["batch_statistics"], tensors) == {"mean", "var"}


def test_dfqs_warm_up_trains_the_generator_alone_and_without_an_adversary(teacher, monkeypatch) -> None:
    config = tiny("dfq", "original", schedule={"generator_warmup_epochs": 2})
    distiller = Distiller(config, teacher)
    before = copy_of(dict(distiller.student.named_parameters()))
    phases: list[list[tuple[str, float]]] = []
    begin_epoch = distiller._phases.begin_epoch

    def noted(epoch: int) -> list[Phase]:
        turns = begin_epoch(epoch)
        phases.append([(phase.name, phase.weights.get("adversarial_kl", 1.0)) for phase in turns])
        return turns

    monkeypatch.setattr(distiller._phases, "begin_epoch", noted)
    for epoch in range(1, 4):
        metrics = distiller.run_epoch()
        assert ("student/kl" in metrics) == (epoch > 2)
        assert "generator/adversarial_kl" in metrics
        assert bool(differences(before, dict(distiller.student.named_parameters()))) == (epoch > 2)
    assert phases == [[("generator", 0.0)], [("generator", 0.0)], [("generator", 1.0), ("student", 1.0)]]


def test_an_adversary_without_weight_does_not_move_the_generator_while_the_other_terms_do(teacher) -> None:
    trained = []
    for scale in (1.0, 1000.0):
        # In the warm-up it makes no difference how much the adversary would weigh.
        config = tiny("dfq", "original", weights={"adversarial": scale})
        distiller = Distiller(config, teacher)
        before = copy_of(dict(distiller.generator.named_parameters()))
        distiller.run_epoch()
        assert differences(before, dict(distiller.generator.named_parameters()))
        trained.append(copy_of(distiller.generator.state_dict()))
    assert differences(*trained) == []
    method = build("dfq", DFQ | {"adversarial": 3.0, "one_hot": 2.0, "balance": 0.0})
    assert method.warmup_weights == method.generator_weights | {"adversarial_kl": 0.0}
    assert method.warmup_weights["one_hot"] == 2.0


def test_the_students_schedule_begins_after_the_generators_warm_up(teacher) -> None:
    config = tiny("dfq", "original", schedule={"generator_warmup_epochs": 2}, epochs=6, student={"warmup_epochs": 0})
    distiller = Distiller(config, teacher)
    rates = [distiller.run_epoch()["student_lr"] for _ in range(6)]
    expected = [student_lr(config.student, epoch=epoch, epochs=4) for epoch in (1, 1, 1, 2, 3, 4)]
    assert rates == pytest.approx(expected)
    assert rates[0] == rates[2] == config.student.lr > rates[3]


# CMI

CMI = {"kl": 1.0, "adversarial": 0.5, "batch_statistics": 1.0, "label": 1.0, "contrast": 0.8}
BANK = {"bank_size": 12, "candidates": 4, "projection_dim": 3}


def teacher_network(arch: str = "wrn_10_1") -> nn.Module:
    torch.manual_seed(0)
    return build_model(arch, num_classes=CLASSES, channels=1).eval().requires_grad_(False)


def cmi(**changes: Any) -> Cmi:
    config = configured("cmi", CMI, cmi=BANK, schedule={"batch_size": BATCH}, contrast_temperature=0.2, **changes)
    torch.manual_seed(1)
    method = METHODS["cmi"](config, teacher=teacher_network(), student=network())
    assert isinstance(method, Cmi)
    return method


def cmi_view(method: Cmi, *, seed: int = 0) -> BatchOutputs:
    dim = method.bank.features.shape[2]
    rng = torch.Generator().manual_seed(seed)
    pair = tuple(torch.rand(BATCH, dim, generator=rng, requires_grad=True) for _ in range(2))
    return replace(view_of(leaves()), channel_means=pair)


@pytest.mark.parametrize(
    ("arch", "num_layers", "width"),
    [("wrn_40_2", 37, 2704), ("vgg11", 8, 2752), ("resnet18", 20, 4800), ("resnet34", 4, 512)],
)
def test_cmis_features_have_the_published_widths(arch: str, num_layers: int, width: int) -> None:
    with torch.device("meta"):
        teacher = build_model(arch, num_classes=10, channels=3).eval()
        layers = feature_layers(teacher)
        with recorded(layers, channel_means) as seen:
            teacher(torch.empty(2, 3, 32, 32))
    assert len(layers) == len(seen) == num_layers
    assert torch.cat(seen, dim=1).shape == (2, width)
    assert sum(num_input_channels(layer) for layer in layers) == width


def test_cmis_head_is_two_linear_layers_of_the_features_width_and_projects_to_unit_vectors() -> None:
    method = cmi()
    dim = method.bank.features.shape[2]
    assert [tuple(p.shape) for p in method.head.parameters()] == [(dim, dim), (dim,), (3, dim), (3,)]
    assert method.generator_heads == (method.head,)
    projected = method._project(torch.rand(5, dim))
    torch.testing.assert_close(projected.norm(dim=1), torch.ones(5))


def test_cmis_bank_of_published_size_takes_845_mebibytes() -> None:
    assert 40_960 * 2 * 2704 * 4 / 2**20 == 845.0
    assert (configured("cmi", CMI).cmi.bank_size, configured("cmi", CMI).cmi.candidates) == (40_960, 4096)
    method = cmi()
    assert method.num_stored_bytes == 12 * 2 * method.bank.features.shape[2] * 4


def test_cmis_terms_are_label_statistics_decisions_and_contrast() -> None:
    method = cmi(distillation_temperature=20.0)
    view = cmi_view(method)
    agree = view.student.logits.argmax(1) == view.teacher.logits.argmax(1)
    assert 0 < agree.sum() < BATCH
    local, global_ = (F.normalize(method.head(side), dim=1) for side in view.channel_means)
    expected = {
        "label": F.cross_entropy(view.teacher.logits, view.labels),
        "batch_statistics": batch_statistics_distance(view.observed, view.stored),
        "adversarial_decision": -(agree * distillation_kl(view.student.logits, view.teacher.logits, temperature=1.0)).mean(),
        "contrast": instance_discrimination(local, global_, num_new=BATCH, temperature=0.2),
    }
    torch.testing.assert_close(means(method.generator_terms(view)), expected)
    torch.testing.assert_close(means(method.student_terms(view)), {"kl": kl_bm(view, 20.0)})
    assert method.generator_weights == {"label": 1.0, "batch_statistics": 1.0, "adversarial_decision": 0.5, "contrast": 0.8}


def test_the_contrast_trains_the_head_and_the_local_side_of_the_new_images_alone() -> None:
    method = cmi()
    view = cmi_view(method)
    method.generator_terms(view)["contrast"].backward()
    local, global_ = view.channel_means
    assert local.grad.abs().max() > 0
    assert global_.grad is None
    assert all(p.grad.abs().max() > 0 for p in method.head.parameters())


def test_the_contrast_takes_up_to_so_many_remembered_images_behind_the_new_ones() -> None:
    method = cmi()
    view = cmi_view(method)
    method.generator_terms(view)
    method.on_improvement(None)
    method.end_turn()
    later = cmi_view(method, seed=5)
    state = method.bank._rng.get_state()
    term = method.generator_terms(later)["contrast"]
    method.bank._rng.set_state(state)
    remembered = method.bank.draw(4)
    assert [side.shape[0] for side in remembered] == [4, 4]
    local, global_ = (
        F.normalize(method.head(torch.cat([new, old])), dim=1) for new, old in zip(later.channel_means, remembered, strict=True)
    )
    torch.testing.assert_close(term, instance_discrimination(local, global_, num_new=BATCH, temperature=0.2))


def test_the_best_steps_features_enter_the_bank_local_ones_first() -> None:
    method = cmi()
    views = [cmi_view(method, seed=seed) for seed in range(3)]
    for view, improved in zip(views, (True, True, False), strict=True):
        method.generator_terms(view)
        method.on_improvement(torch.tensor(improved))
    method.end_turn()
    kept = method.bank.features[:BATCH]
    assert torch.equal(kept[:, 0], views[1].channel_means[0].detach())
    assert torch.equal(kept[:, 1], views[1].channel_means[1].detach())
    assert method.bank.num_written == BATCH


def test_the_last_steps_features_enter_the_bank_where_the_last_images_enter_the_pool() -> None:
    method = cmi()
    views = [cmi_view(method, seed=seed) for seed in range(2)]
    for view in views:
        method.generator_terms(view)
        method.on_improvement(None)
    method.end_turn()
    assert torch.equal(method.bank.features[:BATCH, 0], views[1].channel_means[0].detach())


def test_one_turns_best_features_do_not_linger_into_the_next() -> None:
    method = cmi()
    views = [cmi_view(method, seed=seed) for seed in range(2)]
    for view in views:
        method.generator_terms(view)
        method.on_improvement(torch.tensor(False))  # of a first step it does not matter: there is none to compare it with
        method.end_turn()
    assert torch.equal(method.bank.features[BATCH : 2 * BATCH, 0], views[1].channel_means[0].detach())


def test_without_contrast_cmi_has_neither_head_nor_bank() -> None:
    config = configured("cmi", CMI | {"contrast": 0.0}, schedule={"batch_size": 256})
    method = METHODS["cmi"](config, teacher=teacher_network(), student=network())
    assert (method.head, method.bank, method.num_stored_bytes) == (None, None, 0)
    assert (method.generator_heads, list(method.feature_layers)) == ((), [])
    view = view_of(leaves())
    assert method.generator_terms(view).keys() == {"label", "batch_statistics", "adversarial_decision"}
    method.on_improvement(torch.tensor(True))
    method.end_turn()


def test_a_bank_must_hold_whole_batches() -> None:
    with pytest.raises(ConfigError) as caught:
        check_method(configured("cmi", CMI, generator={"family": "small"}, cmi={"bank_size": 1000}, schedule={"batch_size": 256}))
    assert str(caught.value) == "cmi.bank_size must be a multiple of schedule.batch_size (256), got 1000"
    check_method(configured("dfad", DFAD, schedule={"batch_size": 300}))  # who has no bank need not mind it


def test_in_a_run_pool_and_bank_hold_the_same_step_of_each_turn(teacher) -> None:
    config = tiny("cmi", "toolbox", schedule={"generator_steps": 3, "student_steps": 1})
    distiller = Distiller(config, teacher)
    pool, kept = distiller.synthesis, []
    terms, observe = distiller.method.generator_terms, distiller.method.on_improvement
    steps: list[tuple[Tensor, Tensor]] = []

    def noted(view: BatchOutputs):
        steps.append((view.pixels.detach().clone(), view.channel_means[0].detach().clone()))
        return terms(view)

    def judged(improved: Tensor) -> None:
        if bool(improved):
            kept.append(len(steps) - 1)
        observe(improved)

    distiller.method.generator_terms, distiller.method.on_improvement = noted, judged
    distiller.run_epoch()
    best = [max(i for i in kept if i < 3), max(i for i in kept if i >= 3)]
    expected = torch.cat([teacher.normalisation.to_pixels(steps[i][0], truncate=True) for i in best])
    assert torch.equal(pool._pool.images, expected)
    assert torch.equal(distiller.method.bank.features[:16, 0], torch.cat([steps[i][1] for i in best]))


# What a method does not have


def refused(method: str, weights: dict[str, float], **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check_method(configured(method, weights, **changes))
    return str(caught.value)


OWN = {"cpsc": {"kl": 1.0, "adversarial": 1.0, "label": 1.0}, "dafl": DAFL, "zskt": {"kl": 1.0, "adversarial": 1.0}}
OWN |= {"dfad": DFAD, "pre_dfkd": PRE, "adi": ADI, "dfq": DFQ, "cmi": CMI}
OWN |= {key: {"kl": 1.0, "adversarial": 1.0, "batch_statistics": 10.0, "label": 0.5} for key in ("nayer", "fast_dfkd")}
OF_PIXELS = ("cmi", "nayer", "fast_dfkd")
"""Methods whose generators make pixels."""
FOREIGN = [(method, term) for method in METHODS for term in vars(LossWeights()) if term not in METHODS[method].TERMS]


@pytest.mark.parametrize(("method", "term"), FOREIGN)
def test_a_weight_of_a_term_that_a_method_does_not_have_is_refused(method: str, term: str) -> None:
    message = refused(method, OWN[method] | {term: 0.25}, generator={"family": "small" if method in OF_PIXELS else "conditional"})
    assert message == f"weights.{term} must be 0 for method {method}, which has no such term, got 0.25"


def test_the_terms_of_each_method_are_the_published_ones() -> None:
    adversarial = {"kl", "adversarial"}
    assert {name: set(method.TERMS) for name, method in METHODS.items()} == {
        "cpsc": adversarial | {"l2", "batch_statistics", "contrast", "label"},
        "pre_dfkd": {"l1", "adversarial", "one_hot", "balance", "activation"},
        "dafl": {"kl", "one_hot", "balance", "activation"},
        "zskt": adversarial | {"attention"},
        "dfad": {"l1", "adversarial"},
        "adi": adversarial | {"batch_statistics", "label", "total_variation", "image_norm"},
        "dfq": adversarial | {"batch_statistics", "one_hot", "balance"},
        "cmi": adversarial | {"batch_statistics", "label", "contrast"},
        "nayer": adversarial | {"batch_statistics", "label"},
        "fast_dfkd": adversarial | {"batch_statistics", "label"},
    }


@pytest.mark.parametrize(
    ("method", "section", "field", "value"),
    [
        ("dafl", "cpsc", "l2", "mse"),
        ("dfad", "inversion", "jitter", 5),
        ("cpsc", "inversion", "keep", "last"),
        ("zskt", "cmi", "candidates", 7),
        ("adi", "cmi", "projection_dim", 7),
        ("adi", "replay", "kind", "vae"),
        ("cmi", "replay", "kind", "vae"),
        ("cmi", "cpsc", "label_input", "probs"),
    ],
)
def test_a_section_that_a_method_does_not_have_is_refused(method: str, section: str, field: str, value: object) -> None:
    family = {"family": "small"} if method == "cmi" else {}
    message = refused(method, OWN[method], generator=family, **{section: {field: value}})
    assert message == f"{section}.{field} must be left out for method {method}, which does not have it, got {value!r}"


SWITCHES = {
    "kl_mean": "element",
    "balance_base": "10",
    "disagreement": "clamped",
    "statistics": "gaussian",
    "total_variation": "mean",
    "image_prior": "jittered",
}
HAVE = {
    "kl_mean": {"zskt"},
    "balance_base": {"dafl", "pre_dfkd", "dfq"},
    "disagreement": {"pre_dfkd", "adi"},
    "statistics": {"dfq"},
    "total_variation": {"adi"},
    "image_prior": {"adi"},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_is_taken_by_the_methods_in_which_it_changes_something(method: str, switch: str) -> None:
    changes = {"generator": {"family": "small" if method in OF_PIXELS else "conditional"}, "switches": {switch: SWITCHES[switch]}}
    if method in HAVE[switch]:
        check_method(configured(method, OWN[method], **changes))
    else:
        message = refused(method, OWN[method], **changes)
        assert message.startswith(f"switches.{switch} must be left out for method {method}, which does not have it, got ")


@pytest.mark.parametrize("method", METHODS)
def test_every_preset_passes_its_own_methods_check(method: str) -> None:
    for name in METHODS[method].PRESETS:
        changes = preset(name, method=method, num_classes=10)
        weights = changes.pop("weights", vars(LossWeights()))
        check_method(configured(method, weights, **changes))


@pytest.mark.parametrize(
    ("method", "weights", "message"),
    [
        ("dfad", {"kl": 1.0, "adversarial": 1.0}, "weights.kl must be 0 for method dfad, which has no such term, got 1.0"),
        ("dafl", {"l1": 1.0, "one_hot": 1.0}, "weights.l1 must be 0 for method dafl, which has no such term, got 1.0"),
    ],
)
def test_a_student_that_would_learn_by_another_methods_term_is_refused(method: str, weights: dict, message: str) -> None:
    assert refused(method, weights) == message


@pytest.mark.parametrize(
    ("method", "weights", "terms"),
    [
        ("dafl", {"kl": 1.0}, "one_hot, balance, activation"),
        ("zskt", {"kl": 1.0, "attention": 1.0}, "adversarial"),
        ("adi", {"kl": 1.0}, "adversarial, batch_statistics, label, total_variation, image_norm"),
    ],
)
def test_a_generator_that_would_learn_nothing_is_refused(method: str, weights: dict[str, float], terms: str) -> None:
    config = configured(method, weights | {"one_hot": 1.0})
    object.__setattr__(config.weights, "one_hot", 0.0)  # past the check that knows no method
    with pytest.raises(ConfigError) as caught:
        check_method(config)
    assert str(caught.value) == f"weights: one of {terms} must be > 0 for method {method}: the generator would learn nothing"


def test_a_warm_up_with_nothing_but_an_adversary_is_refused() -> None:
    message = refused("dfad", DFAD, schedule={"generator_warmup_epochs": 3})
    rule = "schedule.generator_warmup_epochs must be 0 if the generator learns from weights.adversarial only"
    assert message == f"{rule}, got 3"
    check_method(configured("dfq", DFQ, schedule={"generator_warmup_epochs": 3}))


@pytest.mark.parametrize("family", ["conditional", "dafl", "pre", "zskt", "dfad"])
def test_cmi_needs_a_generator_of_pixels(family: str) -> None:
    assert refused("cmi", CMI, generator={"family": family}) == (
        f"generator.family must be one of small, large for method cmi, got {family!r}"
    )


@pytest.mark.parametrize("weights", [{"label": 1.0}, {"contrast": 1.0}])
def test_labels_need_a_generator_that_is_told_them(weights: dict[str, float]) -> None:
    message = refused("cpsc", {"kl": 1.0, "adversarial": 1.0} | weights, generator={"family": "large"})
    assert message == (
        "generator.family must be 'conditional' for method cpsc with labels (weights.label, weights.contrast), got 'large'"
    )
    check_method(configured("cpsc", {"kl": 1.0, "adversarial": 1.0}, generator={"family": "large"}))


@pytest.mark.parametrize("method", ["adi", "cmi"])
@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"schedule": {"order": "student_first"}}, "schedule.student_images and schedule.order"),
        ({"schedule": {"student_images": "shared"}}, "schedule.student_images and schedule.order"),
        ({"generator": {"optimizer": "fresh"}}, "generator.optimizer"),
    ],
)
def test_what_an_inversion_cannot_do_is_refused(method: str, changes: dict, rule: str) -> None:
    changes = {**changes, "generator": {"family": "small"} | changes.get("generator", {})}
    assert refused(method, OWN[method], **changes) == f"{rule} must be left out for method {method}"


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("dfad", {"distillation_temperature": 4.0}, "distillation_temperature must be left out for method dfad"),
        ("dafl", {"contrast_temperature": 0.5}, "contrast_temperature must be left out for method dafl"),
        ("zskt", {"schedule.student_batch_size": 8}, "schedule.student_batch_size must be left out for method zskt"),
        ("cmi", {"inversion.jitter": 3}, "inversion.jitter must be left out for method cmi"),
        ("cmi", {"inversion.jitter": None}, "inversion.jitter must be left out for method cmi"),
        ("cmi", {"inversion.clip": True, "inversion.clip_noise": True}, "inversion.clip must be left out for method cmi"),
        ("adi", {"inversion.clip_noise": True}, "inversion.clip must be true with inversion.clip_noise, got False"),
        ("dafl", {"generator.spectral_norm": "cold"}, "generator.spectral_norm must be left out for generator.family dafl"),
        (
            "pre_dfkd",
            {"switches.disagreement": "unbounded"},
            "switches.disagreement must be one of jensen_shannon, clamped for method pre_dfkd, got 'unbounded'",
        ),
        ("dafl", {"generator.embedding": "none"}, "generator.embedding must be left out for generator.family dafl"),
    ],
)
def test_a_setting_without_effect_is_refused(method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(method, next(iter(METHODS[method].PRESETS)), **settings)


def test_what_is_said_of_a_run_is_what_its_method_has() -> None:
    said = effective_settings(small("dafl", "original"))
    assert said["weights"].keys() == {"kl", "one_hot", "balance", "activation"}
    assert said["switches"].keys() == {"balance_base"}
    assert said["replay"]["kind"] == "none"
    assert not {"cpsc", "inversion", "cmi"} & said.keys()
    assert said["student"]["arch"] == "wrn_10_1"
    assert effective_settings(small("cmi", "toolbox"))["cmi"]["bank_size"] == 16
