import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cpsc.config import DistillConfig, LossWeights
from cpsc.losses.contrast import teacher_anchored_contrast, two_view_contrast
from cpsc.losses.distillation import distillation_kl, log_l2_distance, log_mse, mse
from cpsc.losses.label import double_softmax_cross_entropy, label_cross_entropy
from cpsc.methods import METHODS, BatchOutputs, config_class
from cpsc.methods.cpsc import Cpsc, CpscConfig
from cpsc.models import Output
from cpsc.presets import preset
from cpsc.statistics import ChannelStatistics

BATCH, CLASSES, DIM = 6, 4, 5


def network(dim: int) -> nn.Module:
    """As much of a classifier as a method asks for when it is built."""
    module = nn.Module()
    module.feature_dim = dim
    return module


def build(*, teacher_dim: int = DIM, student_dim: int = DIM, weights: LossWeights | None = None, **switches) -> Cpsc:
    torch.manual_seed(0)
    temperature = switches.pop("contrast_temperature", 0.07)
    config = config_class("cpsc")(weights=weights or LossWeights(), cpsc=CpscConfig(**switches), contrast_temperature=temperature)
    return METHODS["cpsc"](config, teacher=network(teacher_dim), student=network(student_dim))


def leaves(*, student_dim: int = DIM) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    shapes = {
        "teacher.features": (BATCH, DIM),
        "teacher.logits": (BATCH, CLASSES),
        "student.features": (BATCH, student_dim),
        "student.logits": (BATCH, CLASSES),
        "mean": (3,),
        "var": (3,),
    }
    return {name: torch.randn(shape, generator=rng).requires_grad_() for name, shape in shapes.items()}


def view_of(tensors: dict[str, Tensor]) -> BatchOutputs:
    return BatchOutputs(
        labels=torch.tensor([0, 1, 2, 3, 0, 1]),
        teacher=Output(tensors["teacher.features"], tensors["teacher.logits"]),
        student=Output(tensors["student.features"], tensors["student.logits"]),
        observed=[ChannelStatistics(tensors["mean"], tensors["var"])],
        stored=[ChannelStatistics(torch.zeros(3), torch.ones(3))],
    )


def reached(term: Tensor, tensors: dict[str, Tensor]) -> set[str]:
    gradients = torch.autograd.grad(term.mean(), list(tensors.values()), allow_unused=True)
    return {name for name, gradient in zip(tensors, gradients, strict=True) if gradient is not None and gradient.abs().max() > 0}


@pytest.mark.parametrize(
    ("term", "flows_through"),
    [
        ("adversarial_kl", {"teacher.logits", "student.logits"}),
        ("adversarial_l2", {"teacher.logits", "student.logits"}),
        ("batch_statistics", {"mean", "var"}),
        ("contrast", {"teacher.features", "student.features"}),
        ("label", {"teacher.logits"}),
    ],
)
def test_each_generator_term_reaches_the_generator_through_the_networks_it_should(term: str, flows_through: set[str]) -> None:
    tensors = leaves()
    assert reached(build().generator_terms(view_of(tensors))[term], tensors) == flows_through


@pytest.mark.parametrize("l2", ["log_norm", "log_mse", "mse"])
def test_detaching_the_teacher_leaves_the_l2_term_only_the_student(l2: str) -> None:
    tensors = leaves()
    terms = build(l2=l2, l2_detach_teacher=True).generator_terms(view_of(tensors))
    assert reached(terms["adversarial_l2"], tensors) == {"student.logits"}
    assert reached(terms["adversarial_kl"], tensors) == {"teacher.logits", "student.logits"}


def test_student_terms_reach_the_students_logits() -> None:
    tensors = leaves()
    for term in build().student_terms(view_of(tensors)).values():
        through = reached(term, tensors)
        assert "student.logits" in through
        assert through <= {"student.logits", "teacher.logits"}


def test_the_terms_of_the_paper_are_equations_9_and_10() -> None:
    tensors = leaves()
    view = view_of(tensors)
    teacher, student, labels = view.teacher, view.student, view.labels
    method = build()
    unit_teacher, unit_student = (f / f.norm(dim=1, keepdim=True) for f in (teacher.features, student.features))
    expected = {
        "adversarial_kl": -distillation_kl(student.logits, teacher.logits, temperature=1.0),
        "adversarial_l2": -log_l2_distance(student.logits, teacher.logits),
        "batch_statistics": tensors["mean"].norm() + (tensors["var"] - 1).norm(),
        "contrast": teacher_anchored_contrast(unit_teacher, unit_student, labels, temperature=0.07),
        "label": label_cross_entropy(teacher.logits, labels),
    }
    torch.testing.assert_close(method.generator_terms(view), expected)
    expected = {
        "kl": distillation_kl(student.logits, teacher.logits, temperature=1.0),
        "l2": log_l2_distance(student.logits, teacher.logits),
        "label": label_cross_entropy(student.logits, labels),
    }
    torch.testing.assert_close(method.student_terms(view), expected)


def test_the_terms_of_the_reference_are_the_published_codes() -> None:
    view = view_of(leaves())
    teacher, student, labels = view.teacher, view.student, view.labels
    method = build(**preset("reference", num_classes=10)["cpsc"])
    features = [torch.nn.functional.normalize(f, dim=1) for f in (teacher.features, student.features)]
    terms = method.generator_terms(view)
    torch.testing.assert_close(terms["adversarial_l2"], -log_mse(student.logits, teacher.logits))
    torch.testing.assert_close(terms["contrast"], two_view_contrast(*features, labels, temperature=0.07))
    torch.testing.assert_close(terms["label"], double_softmax_cross_entropy(teacher.logits, labels))
    terms = method.student_terms(view)
    torch.testing.assert_close(terms["l2"], log_l2_distance(student.logits, teacher.logits))
    torch.testing.assert_close(terms["label"], double_softmax_cross_entropy(student.logits, labels))


def test_the_mse_form_is_used_in_both_phases() -> None:
    view = view_of(leaves())
    method, expected = build(l2="mse"), mse(view.student.logits, view.teacher.logits)
    torch.testing.assert_close(method.generator_terms(view)["adversarial_l2"], -expected)
    torch.testing.assert_close(method.student_terms(view)["l2"], expected)


def test_weights_are_handed_out_as_configured_and_the_adversarial_factor_multiplies_all_of_eq_6() -> None:
    weights = LossWeights(kl=2.0, l2=3.0, adversarial=0.5, batch_statistics=0.1, contrast=0.2, label=0.3)
    method = build(weights=weights)
    assert method.generator_weights == pytest.approx(
        {"adversarial_kl": 1.0, "adversarial_l2": 1.5, "batch_statistics": 0.1, "contrast": 0.2, "label": 0.3}
    )
    assert method.student_weights == {"kl": 2.0, "l2": 3.0, "label": 0.3}


@pytest.mark.parametrize(
    ("name", "generator", "student"),
    [
        ("kl", {"adversarial_kl"}, {"kl"}),
        ("l2", {"adversarial_l2"}, {"l2"}),
        ("adversarial", {"adversarial_kl", "adversarial_l2"}, set()),
        ("batch_statistics", {"batch_statistics"}, set()),
        ("contrast", {"contrast"}, set()),
        ("label", {"label"}, {"label"}),
    ],
)
def test_a_weight_of_zero_drops_its_term_and_no_other(name: str, generator: set[str], student: set[str]) -> None:
    view, full = view_of(leaves()), build()
    method = build(weights=replace(LossWeights(), **{name: 0.0}))
    assert method.generator_terms(view).keys() == full.generator_terms(view).keys() - generator
    assert method.student_terms(view).keys() == full.student_terms(view).keys() - student
    assert method.needs_statistics == (name != "batch_statistics")


def test_without_the_extra_weights_only_the_kl_remains() -> None:
    method = build(weights=LossWeights(l2=0, batch_statistics=0, contrast=0, label=0), student_dim=3)
    view = view_of(leaves(student_dim=3))
    assert method.generator_terms(view).keys() == method.generator_weights.keys() == {"adversarial_kl"}
    assert method.student_terms(view).keys() == method.student_weights.keys() == {"kl"}
    assert method.adapter is None


def test_the_distillation_temperature_softens_the_kl_of_both_phases() -> None:
    torch.manual_seed(0)
    view = view_of(leaves())
    method = METHODS["cpsc"](DistillConfig(distillation_temperature=4.0), teacher=network(DIM), student=network(DIM))
    expected = distillation_kl(view.student.logits, view.teacher.logits, temperature=4.0)
    torch.testing.assert_close(method.generator_terms(view)["adversarial_kl"], -expected)
    torch.testing.assert_close(method.student_terms(view)["kl"], expected)


@pytest.mark.parametrize(("temperature", "factor"), [(0.5, 7.142857), (0.07, 1.0)])
def test_the_reference_form_multiplies_the_contrast_by_temperature_over_base(temperature: float, factor: float) -> None:
    view = view_of(leaves())
    for contrast in ("two_view", "teacher_anchor"):
        plain = build(contrast=contrast, contrast_temperature=temperature)
        rescaled = build(contrast=contrast, contrast_temperature=temperature, contrast_base_temperature=0.07)
        ratio = rescaled.generator_terms(view)["contrast"].mean() / plain.generator_terms(view)["contrast"].mean()
        assert ratio.item() == pytest.approx(factor, rel=1e-5)


def test_networks_of_equal_width_need_no_adapter() -> None:
    method = build()
    assert method.adapter is None
    assert method.generator_heads == ()
    assert list(method.parameters()) == []


def test_the_adapter_maps_student_to_teacher_width_by_two_layers() -> None:
    method = build(student_dim=3)
    assert [tuple(p.shape) for p in method.adapter.parameters()] == [(3, 3), (3,), (DIM, 3), (DIM,)]
    assert method.generator_heads == (method.adapter,)


def test_a_fixed_adapter_is_no_head_of_the_generator() -> None:
    method = build(student_dim=3, adapter_train=False)
    assert method.adapter is not None
    assert method.generator_heads == ()


@pytest.mark.parametrize("renormalise", [True, False])
def test_the_adapted_feature_is_brought_back_to_unit_norm_unless_switched_off(renormalise: bool) -> None:
    method, view = build(student_dim=3, adapter_renormalise=renormalise), view_of(leaves(student_dim=3))
    normalize = torch.nn.functional.normalize
    adapted = method.adapter(normalize(view.student.features, dim=1))
    if renormalise:
        adapted = normalize(adapted, dim=1)
    expected = teacher_anchored_contrast(normalize(view.teacher.features, dim=1), adapted, view.labels, temperature=0.07)
    torch.testing.assert_close(method.generator_terms(view)["contrast"], expected)


def test_the_contrast_trains_the_adapter() -> None:
    method = build(student_dim=3)
    method.generator_terms(view_of(leaves(student_dim=3)))["contrast"].mean().backward()
    assert all(p.grad.abs().max() > 0 for p in method.adapter.parameters())


def test_the_length_of_features_does_not_matter_to_the_contrast() -> None:
    tensors = leaves()
    plain = build().generator_terms(view_of(tensors))["contrast"]
    longer = tensors | {"teacher.features": tensors["teacher.features"] * 9, "student.features": tensors["student.features"] * 4}
    torch.testing.assert_close(build().generator_terms(view_of(longer))["contrast"], plain)


@pytest.mark.parametrize("contrast", ["teacher_anchor", "two_view"])
@pytest.mark.parametrize("l2", ["log_norm", "log_mse", "mse"])
@pytest.mark.parametrize("label_input", ["logits", "probs"])
def test_terms_are_finite_per_sample_or_scalar_and_match_the_weights(contrast: str, l2: str, label_input: str) -> None:
    method, view = build(contrast=contrast, l2=l2, label_input=label_input), view_of(leaves())
    for terms, weights in (
        (method.generator_terms(view), method.generator_weights),
        (method.student_terms(view), method.student_weights),
    ):
        assert terms.keys() == weights.keys()
        assert all(math.prod(term.shape) in (1, BATCH, 2 * BATCH) and term.isfinite().all() for term in terms.values())
