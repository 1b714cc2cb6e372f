"""What ``init`` tells of a weights file, what it asks, and the one line where nobody can be asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cpsc.errors import CheckpointError, ConfigError
from cpsc.models import build_model
from tests.support.malformed import sound_teacher
from tests.unit.cpsc.foreign_files import as_safetensors, saved, under
from tuning.display import Display
from tuning.init.identifying import Identified, described, identify
from tuning.init.questions import Ask

SAID = {"normalisation": "half", "image_size": 16}
CONSTANTS = "--image-size PIXELS --normalisation cifar10|cifar100|tiny_imagenet|imagenet|mnist|half|identity"
QUIET = Display(quiet=True)
FACTORY = f"{__name__}:flat"


class Flat(nn.Module):
    """A user's network that takes one size of images, 28 pixels a side."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(channels, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.scores = nn.Linear(4 * 14 * 14, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(self.maps(images).flatten(1))


def flat(num_classes: int, channels: int) -> Flat:
    return Flat(num_classes, channels)


def weights_of(arch: str, *, num_classes: int = 10, channels: int = 3) -> dict[str, Tensor]:
    """Drawn, not trained: names and shapes are what is told of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(arch, num_classes=num_classes, channels=channels).state_dict()


def refusal(path: Path, **said: Any) -> str:
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        identify(path, said, None, QUIET)
    (line,) = str(caught.value).splitlines()
    return line


def answering(*answers: str) -> tuple[Ask, list[tuple[str, str | None]]]:
    """A person who gives these answers, "" for what is offered, and what was asked."""
    left, questions = iter(answers), []

    def ask(text: str, default: str | None) -> str:
        questions.append((text, default))
        return next(left) or str(default)

    return ask, questions


# Where nobody can be asked


@pytest.mark.parametrize(
    ("arch", "channels", "network"),
    [
        ("wrn_16_1", 3, "wrn_16_1, 175,066 weights, 10 classes, 3 channels"),
        ("wrn_16_1", 1, "wrn_16_1, 174,778 weights, 10 classes, 1 channel"),
        ("resnet20", 3, "resnet20, "),
        ("resnet8x4", 3, "resnet8x4, "),
        ("vgg8", 1, "vgg8, "),
        ("mobilenet_v2", 3, "mobilenet_v2, "),
        ("shufflenet_v2_x0_5", 3, "shufflenet_v2_x0_5, "),
        ("lenet5", 1, "lenet5, 61,706 weights, 10 classes, 1 channel"),
        ("resnet18", 3, "resnet18, "),
    ],
)
def test_a_known_network_is_told_and_the_flags_for_the_rest_in_one_line(
    arch: str, channels: int, network: str, tmp_path: Path
) -> None:
    path = saved(weights_of(arch, channels=channels), tmp_path / "net.pth")
    told = refusal(path)
    assert told.startswith(f"{path}: {network}")
    assert told.endswith(f"; weights do not tell their image size and input constants: pass {CONSTANTS}")
    assert refusal(path, image_size=32).endswith("pass --normalisation cifar10|cifar100|tiny_imagenet|imagenet|mnist|half|identity")
    assert refusal(path, normalisation="half").endswith("pass --image-size PIXELS")


FORMS: dict[str, Callable[[dict[str, Tensor], Path], Path]] = {
    "bare": saved,
    "safetensors": as_safetensors,
    "state_dict": lambda state, path: saved({"state_dict": state, "epoch": 3}, path),
    "model": lambda state, path: saved({"model": state, "optimizer": {"state": {}, "param_groups": []}}, path),
    "net, parallel": lambda state, path: saved({"net": under("module.", state), "acc": 95.1}, path),
    "compiled": lambda state, path: saved(under("_orig_mod.", state), path),
    "of one channel": lambda state, path: saved(state | {"conv1.weight": state["conv1.weight"][:, :1].clone()}, path),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_found_in_whatever_a_script_has_saved(form: str, tmp_path: Path) -> None:
    path = FORMS[form](weights_of("wrn_10_1", num_classes=7), tmp_path / "net.pth")
    found = identify(path, {**SAID, "variant": "standard"}, None, QUIET)
    assert (found.teacher.arch, found.teacher.num_classes) == ("wrn_10_1", 7)
    assert found.teacher.channels == (1 if form == "of one channel" else 3)
    assert "not checked whether this is its network" in found.finding


def test_weights_of_several_networks_by_name_and_shape_ask_which(tmp_path: Path) -> None:
    path = saved(weights_of("wrn_10_1"), tmp_path / "net.pth")
    told = refusal(path, **SAID)
    assert told.startswith(f"{path} has the keys of several networks and its batch norms have seen too few batches")
    assert told.endswith(": pass --variant standard|stem_stride_2")


def test_several_networks_in_a_file_ask_which(tmp_path: Path) -> None:
    state = weights_of("wrn_10_1")
    path = saved({"state_dict": state, "state_dict_ema": state}, tmp_path / "net.pth")
    assert refusal(path, **SAID).endswith(": pass --weights state_dict|state_dict_ema")
    assert refusal(path).endswith(f": pass --weights state_dict|state_dict_ema {CONSTANTS}")


def test_a_network_that_is_not_known_asks_for_what_makes_it(tmp_path: Path) -> None:
    path = saved(Flat(10, 1).state_dict(), tmp_path / "net.pth")
    told = refusal(path)
    assert "not a known network" in told
    assert told.endswith(f": pass --factory MODULE:FUNCTION {CONSTANTS}")


def test_a_users_network_for_one_size_of_images_is_looked_at_in_that(tmp_path: Path) -> None:
    path = saved(Flat(6, 1).state_dict(), tmp_path / "net.pth")
    told = refusal(path, factory=FACTORY)
    assert told.startswith(f"{path}: {FACTORY}, 4,758 weights, 6 classes, 1 channel; weights do not tell")
    found = identify(path, {"factory": FACTORY, "image_size": 28, "normalisation": "mnist"}, None, QUIET)
    assert (found.teacher.num_classes, found.teacher.channels, found.teacher.image_size) == (6, 1, 28)


def test_a_bundle_says_all_of_itself(tmp_path: Path) -> None:
    sound_teacher().save(tmp_path / "bundle.pt")
    found = identify(tmp_path / "bundle.pt", {}, None, QUIET)
    assert found.is_bundle
    assert described(found.teacher) == "wrn_10_1, 77,562 weights, 10 classes, 1 channel"


class _Whole(nn.Linear):
    pass


def _scripted(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), str(path))


def _cut(path: Path) -> None:
    whole = saved(weights_of("wrn_10_1"), path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda path: None, "no such teacher file"),
    "empty": (lambda path: path.touch(), "an empty file: copy or download it again"),
    "cut short": (_cut, "not a readable teacher file (truncated, corrupt or of another kind)"),
    "folder": (lambda path: path.mkdir(), "a folder: name the file in it"),
    "TorchScript": (_scripted, "a TorchScript archive, a program with its weights: torch.save the state_dict()"),
    "whole module": (lambda path: torch.save(_Whole(2, 2), path), "a whole network, pickled with its class"),
    "ONNX": (lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch"), "a protocol buffer, as ONNX and TensorFlow save models"),
    "text": (lambda path: path.write_text("hello"), "a text file that begins with 'hello': name the file with the weights"),
    "optimizer": (lambda path: torch.save({"state": {}, "param_groups": []}, path), "holds the state of an optimizer"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", FILES)
def test_what_holds_no_weights_is_refused_by_what_it_is_and_nothing_is_asked(kind: str, tmp_path: Path) -> None:
    write, words = FILES[kind]
    path = tmp_path / "net.pth"
    write(path)
    told = refusal(path)
    assert words in told
    assert "pass --" not in told


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"image_size": 30}, "--image-size must be a multiple of 4 in 4..1024, got 30"),
        ({"normalisation": "cifar"}, "--normalisation must be one of cifar10, "),
        ({"normalisation": {"mean": [0.5]}}, "--normalisation.std: is missing"),
        ({"channels": 1}, "--channels must be left out without a factory: the weights tell them, got 1"),
        ({"factory": "mine"}, "--factory must have the form package.module:function, got 'mine'"),
    ],
)
def test_a_flag_that_breaks_a_rule_is_named(said: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = saved(weights_of("wrn_10_1"), tmp_path / "net.pth")
    assert refusal(path, **said).startswith(message)


# Where a person answers


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    return saved(weights_of("lenet5", channels=1), tmp_path / "grey.pth")


def test_a_person_is_asked_for_what_is_missing_with_what_is_likely(grey: Path) -> None:
    ask, questions = answering("", "", "smooth")
    found = identify(grey, {}, ask, QUIET)
    assert found.said == {"image_size": 28, "normalisation": "mnist", "variant": "smooth"}
    assert found.teacher.arch == "lenet5-smooth"
    assert [default for _, default in questions] == ["28", "mnist", "standard"]
    assert "(standard, smooth)" in questions[-1][0]


def test_an_answer_that_breaks_a_rule_is_told_and_asked_again(tmp_path: Path) -> None:
    path = saved(Flat(10, 3).state_dict(), tmp_path / "net.pth")
    constants = "{mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}"
    ask, questions = answering("mine", FACTORY, "", "imagnet", constants)
    found = identify(path, {}, ask, QUIET)
    assert isinstance(found, Identified)
    assert found.said["normalisation"] == {"mean": [0.5] * 3, "std": [0.2] * 3}
    assert [default for _, default in questions] == [None, None, "28", "cifar10", "cifar10"]
