"""What is advised about a network that is not its weights' own."""

from dataclasses import replace

import pytest
import torch

from cpsc.misfit import Verdict
from cpsc.models import build_model
from cpsc.published import PublishedConfig
from cpsc.teacher import UNKNOWN
from tests.support.malformed import sound_teacher
from tuning.display import Display
from tuning.study import TeacherSource
from tuning.trial.network_check import _also_fitting, _fault, settle_network

AT_FAULT = Verdict(1.5, None, "block3 gives it away")
UNDECIDED = Verdict(1.25, None, None, "layer4 has maps of 4x4 pixels, nearly all border")
FITS = Verdict(1.0, 0.01, None)


@pytest.mark.parametrize(
    ("other", "advice"),
    [
        (FITS, "its statistics fit variant: stem_stride_2; set that, or pass --force"),
        (UNDECIDED, "its statistics do not rule out variant: stem_stride_2; set that, or pass --force"),
        (AT_FAULT, "check image_size, name the network that it was trained in with factory, or pass --force"),
    ],
)
def test_what_may_be_the_network_is_named(other: Verdict, advice: str) -> None:
    examined = {"wrn_10_1": AT_FAULT, "wrn_10_1-stem_stride_2": other}
    assert _fault(sound_teacher(), examined) == f"was not trained in this wrn_10_1: block3 gives it away; {advice}"


@pytest.mark.parametrize(
    ("verdict", "fault"),
    [
        (UNDECIDED, "may or may not fit this wrn_10_1 (layer4 has maps of 4x4 pixels, nearly all border), but fits another: "),
        (
            Verdict(1.0, 0.05, None),
            "fits this wrn_10_1, where it stays 0.05 nats per channel from its own statistics, 2 times worse than another: ",
        ),
        (Verdict(1.0, 0.019, None), ""),
        (FITS, ""),
    ],
)
def test_a_network_that_is_named_gives_way_to_one_that_fits_far_better(verdict: Verdict, fault: str) -> None:
    examined = {"wrn_10_1": verdict, "wrn_10_1-stem_stride_2": FITS}
    advice = "its statistics fit variant: stem_stride_2; set that, or pass --force"
    assert _fault(sound_teacher(), examined) == (fault and fault + advice)


def test_a_network_that_is_left_open_is_taken_where_no_other_fits() -> None:
    assert _fault(sound_teacher(), {"wrn_10_1": UNDECIDED, "wrn_10_1-stem_stride_2": AT_FAULT}) == ""


@pytest.mark.parametrize(
    ("verdict", "other", "said"),
    [
        (FITS, Verdict(1.0, 0.019, None), ", and so would those of stem_stride_2; only the name tells them apart"),
        (FITS, Verdict(1.0, 0.021, None), ""),
        (FITS, AT_FAULT, ""),
        (FITS, UNDECIDED, ""),
        (UNDECIDED, AT_FAULT, ""),
        (AT_FAULT, FITS, ""),
    ],
)
def test_a_network_that_is_named_is_not_taken_in_silence_where_another_fits_as_well(
    verdict: Verdict, other: Verdict, said: str
) -> None:
    assert _also_fitting(sound_teacher(), {"wrn_10_1": verdict, "wrn_10_1-stem_stride_2": other}) == said


def test_bare_weights_that_only_one_network_has_the_keys_of_are_not_asked_about_where_nothing_can_be_compared() -> None:
    torch.manual_seed(0)
    network = build_model("vgg11_pooled", num_classes=3, channels=1)
    teacher = replace(
        sound_teacher(), arch="vgg11_pooled", dataset=UNKNOWN, class_names=("a", "b", "c"), state=network.state_dict()
    )
    source = TeacherSource(
        path="vgg.pth",
        recipe=None,
        min_accuracy=0.0,
        published=PublishedConfig(normalisation="half", image_size=teacher.image_size),
    )
    settled, found = settle_network(teacher, source, "vgg.pth", torch.device("cpu"), Display(quiet=True), force=False)
    assert settled.arch == "vgg11_pooled"
    assert found == "not checked whether this is its network, because its batch norms have seen too few batches to be compared"
