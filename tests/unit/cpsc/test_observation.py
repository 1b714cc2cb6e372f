from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from cpsc.errors import ConfigError
from cpsc.losses.attention import attention_map
from cpsc.methods import AbstractMethod, BatchOutputs, Terms
from cpsc.methods.base import NO_OUTPUT
from cpsc.models import build_model
from cpsc.observation import BatchViews
from cpsc.statistics import batch_norm_layers
from cpsc.synthesis import Batch


class Wishes(AbstractMethod):
    """A method that asks for exactly what it is told to."""

    ADVERSARIAL = {"adversarial": ("adversarial_kl",)}  # noqa: RUF012

    def __init__(self, *generator: str, student: tuple[str, ...] = (), layers: tuple[nn.Module, ...] = ()) -> None:
        super().__init__()
        self.generator_weights, self.student_weights = dict.fromkeys(generator, 1.0), dict.fromkeys(student, 1.0)
        self._layers = list(layers)  # a list is no submodule

    @property
    def feature_layers(self):
        return self._layers

    def generator_terms(self, view: BatchOutputs) -> Terms:
        raise NotImplementedError  # what is seen is tested here: no terms are asked for

    def student_terms(self, view: BatchOutputs) -> Terms:
        raise NotImplementedError  # what is seen is tested here: no terms are asked for


def network(arch: str = "wrn_10_1", *, seed: int = 0, trains: bool = False) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(arch, num_classes=4, channels=1).train(trains).requires_grad_(False)


def images(rows: int = 6, *, seed: int = 1) -> Tensor:
    return torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def batch_of(seen: Tensor, local: Tensor | None = None) -> Batch:
    return Batch(seen, torch.arange(len(seen)) % 4, seen + 1.0, local)


@contextmanager
def asked(net: nn.Module) -> Iterator[list[Tensor]]:
    """The images of each forward pass inside the block."""
    seen: list[Tensor] = []
    handle = net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def num_hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules())


@pytest.mark.parametrize("wanted", [True, False])
def test_batch_norm_statistics_are_recorded_only_where_a_term_compares_them(wanted: bool) -> None:
    teacher = network()
    observer = BatchViews(teacher, network(seed=1), Wishes(*(["batch_statistics"] if wanted else ["one_hot"])))
    view = observer.generator_view(batch_of(images()))
    layers = batch_norm_layers(teacher) if wanted else []
    assert len(view.observed) == len(view.stored) == len(layers)
    if wanted:
        stem = teacher.conv1(images())
        torch.testing.assert_close(view.observed[0].mean, stem.mean(dim=(0, 2, 3)))
        torch.testing.assert_close(view.observed[0].var, stem.var(dim=(0, 2, 3), correction=0))
        assert torch.equal(view.stored[0].mean, layers[0].running_mean)


def test_the_statistics_carry_the_graph_to_the_images() -> None:
    teacher, seen = network(), images().requires_grad_()
    view = BatchViews(teacher, network(seed=1), Wishes("batch_statistics")).generator_view(batch_of(seen))
    view.observed[-1].var.sum().backward()
    assert seen.grad.abs().max() > 0


@pytest.mark.parametrize(("term", "is_asked"), [("adversarial_kl", True), ("one_hot", False)])
def test_the_student_is_asked_in_the_generator_phase_only_where_a_term_needs_it(term: str, is_asked: bool) -> None:
    teacher, student, seen = network(), network(seed=1), images()
    with asked(student) as passes:
        view = BatchViews(teacher, student, Wishes(term)).generator_view(batch_of(seen))
    assert len(passes) == is_asked
    if is_asked:
        torch.testing.assert_close(view.student.logits, student(seen).logits)
    else:
        assert view.student is NO_OUTPUT


def test_the_generator_phase_sees_both_networks_on_the_same_images_with_a_graph_and_hands_on_the_plain_ones() -> None:
    teacher, student, seen = network(), network(seed=1), images().requires_grad_()
    batch = batch_of(seen)
    with asked(teacher) as by_teacher, asked(student) as by_student:
        view = BatchViews(teacher, student, Wishes("adversarial_kl")).generator_view(batch)
    assert [len(by_teacher), len(by_student)] == [1, 1]
    assert by_teacher[0] is by_student[0] is seen
    assert view.pixels is batch.plain
    assert view.labels is batch.labels
    for output in (view.teacher, view.student):
        (gradient,) = torch.autograd.grad(output.logits.square().sum(), seen)
        assert gradient.abs().max() > 0


def test_channel_means_are_of_the_layers_inputs_on_the_local_view_first_and_on_the_global_one_second() -> None:
    teacher = network()
    seen, local = images(seed=1), images(seed=2)
    observer = BatchViews(teacher, network(seed=1), Wishes("contrast", layers=(teacher.bn1,)))
    view = observer.generator_view(batch_of(seen, local))
    for means, view_images in zip(view.channel_means, (local, seen), strict=True):
        inside = teacher.block3(teacher.block2(teacher.block1(teacher.conv1(view_images))))
        torch.testing.assert_close(means, inside.mean(dim=(2, 3)))


def test_channel_means_of_several_layers_stand_side_by_side_and_carry_the_graph() -> None:
    teacher, seen, local = network(), images(seed=1).requires_grad_(), images(seed=2).requires_grad_()
    layers = batch_norm_layers(teacher)
    view = BatchViews(teacher, network(seed=1), Wishes("contrast", layers=tuple(layers))).generator_view(batch_of(seen, local))
    width = sum(layer.num_features for layer in layers)
    assert [means.shape for means in view.channel_means] == [(6, width)] * 2
    for means, view_images in zip(view.channel_means, (local, seen), strict=True):
        (gradient,) = torch.autograd.grad(means.square().sum(), view_images)
        assert gradient.abs().max() > 0


def test_statistics_come_from_the_global_view_alone_though_the_teacher_sees_two() -> None:
    teacher = network()
    layers = tuple(batch_norm_layers(teacher))
    with_local = BatchViews(teacher, network(seed=1), Wishes("batch_statistics", "contrast", layers=layers))
    alone = BatchViews(teacher, network(seed=1), Wishes("batch_statistics"))
    with asked(teacher) as passes:
        both = with_local.generator_view(batch_of(images(), images(seed=2)))
    assert len(passes) == 2
    torch.testing.assert_close(list(both.observed), list(alone.generator_view(batch_of(images())).observed))
    torch.testing.assert_close(both.teacher.logits, teacher(images()).logits)


def test_the_student_phases_graph_reaches_the_student_alone() -> None:
    teacher, student = network(), network(seed=1).requires_grad_(True)
    seen = images().requires_grad_()  # whoever made them: the teacher's answer is a constant here
    view = BatchViews(teacher, student, Wishes(student=("kl",))).student_view(seen, None)
    assert not view.teacher.logits.requires_grad
    view.student.logits.sum().backward()
    assert student.fc.weight.grad is not None
    assert view.attention == ([], [])


def test_the_same_images_are_not_asked_about_twice_but_equal_ones_are() -> None:
    teacher, student, seen = network(), network(seed=1), images()
    observer = BatchViews(teacher, student, Wishes(student=("kl", "attention")))
    with asked(teacher) as by_teacher, asked(student) as by_student:
        views = [observer.student_view(seen, None) for _ in range(3)]
        assert [len(by_teacher), len(by_student)] == [1, 3]
        other = observer.student_view(images(seed=5), None)
        again = observer.student_view(seen.clone(), None)
        assert len(by_teacher) == 3
    torch.testing.assert_close(views[2].teacher.logits, teacher(seen).logits)
    torch.testing.assert_close(again.teacher.logits, views[0].teacher.logits)
    assert not torch.equal(other.teacher.logits, views[0].teacher.logits)
    assert all(late is early for late, early in zip(views[2].attention[1], views[0].attention[1], strict=True))


def test_attention_maps_are_of_every_stages_output_the_students_with_a_graph_the_teachers_without() -> None:
    teacher, student = network("wrn_16_1"), network(seed=1).requires_grad_(True)
    observer = BatchViews(teacher, student, Wishes(student=("kl", "attention")))
    view = observer.student_view(images(), None)
    for net, maps, has_graph in ((student, view.attention[0], True), (teacher, view.attention[1], False)):
        first = net.block1(net.conv1(images()))
        third = net.block3(net.block2(first))  # before the last batch norm
        assert [one.shape for one in maps] == [(6, 64), (6, 16), (6, 4)]
        torch.testing.assert_close(maps[0], attention_map(first))
        torch.testing.assert_close(maps[2], attention_map(third))
        assert all(one.requires_grad == has_graph for one in maps)
    assert num_hooks(teacher) == num_hooks(student) == 0


def test_attention_between_families_with_different_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a teacher and a student of one family with stages to compare"):
        BatchViews(network("vgg11"), network(), Wishes(student=("attention",)))
    BatchViews(network("vgg11"), network(), Wishes(student=("kl",)))


def test_attention_between_networks_without_stages_is_refused() -> None:
    bare = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(ConfigError, match="needs a teacher and a student of one family with stages to compare"):
        BatchViews(bare, bare, Wishes(student=("attention",)))


def test_attention_between_stages_of_different_size_is_refused() -> None:
    student = network(seed=1)
    student.block3.layer[0].conv1.stride = (1, 1)
    student.block3.layer[0].convShortcut.stride = (1, 1)
    observer = BatchViews(network(), student, Wishes(student=("attention",)))
    with pytest.raises(ConfigError, match="the stages of teacher and student differ in size"):
        observer.student_view(images(), None)


@pytest.mark.parametrize(
    ("terms", "channels", "setting"),
    [(("attention",), (), "weights.attention"), (("kl",), (torch.arange(4),) * 3, "student.hints")],
)
def test_a_stage_that_does_not_run_is_told_by_the_setting_that_wants_it(terms, channels, setting: str) -> None:
    student = network(seed=1)
    student.forward = network(seed=2).forward  # so that none of its own stages does
    with pytest.raises(ConfigError, match=f"{setting}: a stage of the teacher or the student does not run, set it to 0"):
        BatchViews(network(), student, Wishes(student=terms)).student_view(images(), None, channels=channels)


@pytest.mark.parametrize("num_known", [None, 0, 4, 6])
def test_images_without_a_label_as_the_memorys_count_as_what_the_teacher_says(num_known: int | None) -> None:
    teacher = network()
    answers = teacher(images()).logits.argmax(1)
    wrong = (answers + 1) % 4
    labels = None if num_known is None else wrong[:num_known]
    view = BatchViews(teacher, network(seed=1), Wishes(student=("kl",))).student_view(images(), labels)
    split = num_known or 0
    assert torch.equal(view.labels, torch.cat([wrong[:split], answers[split:]]))


def test_outputs_are_float32_whatever_the_networks_compute_in() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        observer = BatchViews(network(), network(seed=1), Wishes("adversarial_kl", "batch_statistics", student=("kl", "attention")))
        views = [observer.generator_view(batch_of(images())), observer.student_view(images(), None)]
    for view in views:
        assert {t.dtype for output in (view.teacher, view.student) for t in output} == {torch.float32}
    assert views[0].observed[3].var.dtype == views[1].attention[0][0].dtype == torch.float32
