"""What is advised about a network that is not its weights' own."""

import pytest

from cpsc.misfit import Verdict
from tests.support.malformed import sound_teacher
from tuning.trial.network_check import _also_fitting, _fault

AT_FAULT = Verdict(1.5, None, "block3 gives it away")
UNDECIDED = Verdict(1.25, None, None, "layer4 has maps of 4x4 pixels, nearly all border")
FITS = Verdict(1.0, 0.01, None)


@pytest.mark.parametrize(
    ("other", "advice"),
    [
        (FITS, "its statistics fit variant: stem_stride_2; name that, or pass --force"),
        (UNDECIDED, "its statistics leave it open whether it is variant: stem_stride_2; name that, or pass --force"),
        (AT_FAULT, "look at image_size, name the network that it was trained in by factory, or pass --force"),
    ],
)
def test_what_may_be_the_network_is_named(other: Verdict, advice: str) -> None:
    examined = {"wrn_10_1": AT_FAULT, "wrn_10_1-stem_stride_2": other}
    assert _fault(sound_teacher(), examined) == f"was not trained in this wrn_10_1: block3 gives it away; {advice}"


@pytest.mark.parametrize(
    ("verdict", "fault"),
    [
        (UNDECIDED, "may be of this wrn_10_1 or not, layer4 has maps of 4x4 pixels, nearly all border, but fits another: "),
        (
            Verdict(1.0, 0.05, None),
            "fits this wrn_10_1, where it stays 0.05 nats a channel from its own, 2 times worse than another: ",
        ),
        (Verdict(1.0, 0.019, None), ""),
        (FITS, ""),
    ],
)
def test_a_network_that_is_named_gives_way_to_one_that_fits_far_better(verdict: Verdict, fault: str) -> None:
    examined = {"wrn_10_1": verdict, "wrn_10_1-stem_stride_2": FITS}
    advice = "its statistics fit variant: stem_stride_2; name that, or pass --force"
    assert _fault(sound_teacher(), examined) == (fault and fault + advice)


def test_a_network_that_is_left_open_is_taken_where_no_other_fits() -> None:
    assert _fault(sound_teacher(), {"wrn_10_1": UNDECIDED, "wrn_10_1-stem_stride_2": AT_FAULT}) == ""


@pytest.mark.parametrize(
    ("verdict", "other", "said"),
    [
        (FITS, Verdict(1.0, 0.019, None), ", so would those of stem_stride_2: the name alone tells them apart"),
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
