"""Networks of the user's own: found by import path, their features found by themselves."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cpsc.errors import ConfigError
from cpsc.models import Output, build_imported, check_import_path, is_import_path

CLASSES, CHANNELS, SIZE = 4, 1, 8


class Small(nn.Module):
    """Scores from a hidden layer of 6 values per image."""

    def __init__(self, num_classes: int = CLASSES, channels: int = CHANNELS) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.hidden = nn.Linear(3, 6)
        self.score = nn.Linear(6, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.hidden(self.norm(self.conv(x)).mean(dim=(2, 3))).relu()

    def forward(self, x: torch.Tensor) -> object:
        return self.score(self.features(x))


class FeaturesFirst(Small):
    def forward(self, x: torch.Tensor) -> object:
        features = self.features(x)
        return features[:, :, None, None], self.score(features)


class LogitsFirst(Small):
    def forward(self, x: torch.Tensor) -> object:
        features = self.features(x)
        return [self.score(features), features]


class Ours(Small):
    """As many features as classes: only the names tell them apart."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.score = nn.Linear(3, CLASSES), nn.Linear(CLASSES, CLASSES)

    def forward(self, x: torch.Tensor) -> object:
        features = self.features(x)
        return Output(features, self.score(features))


class OutOfOrder(Small):
    """The layer that is registered last runs first, and a layer of another head not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3, 6)
        self.unused = nn.Linear(6, 9)

    def forward(self, x: torch.Tensor) -> object:
        return self.score(input=self.features(x))


class TwoHeads(Small):
    """Another head runs after the one that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(3, CLASSES)

    def forward(self, x: torch.Tensor) -> object:
        scores = self.score(self.features(x))
        self.other(x.mean(dim=(2, 3)).expand(-1, 3))
        return scores


class Repeated(Small):
    """The classifier runs twice, and the second time counts."""

    def forward(self, x: torch.Tensor) -> object:
        self.score(self.features(-x))
        return self.score(self.features(x))


class Maps(Small):
    """Features that are not averaged: the classifier sees a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(3 * SIZE * SIZE, CLASSES)

    def forward(self, x: torch.Tensor) -> object:
        return self.score(self.norm(self.conv(x)).flatten(1))


class Convolutional(Small):
    def forward(self, x: torch.Tensor) -> object:
        return torch.cat([self.norm(self.conv(x)).mean(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1)


class Probabilities(Small):
    def forward(self, x: torch.Tensor) -> object:
        return self.score(self.features(x)).softmax(dim=1)


class Ambiguous(Ours):
    def forward(self, x: torch.Tensor) -> object:
        return tuple(super().forward(x))


class Mapping(Small):
    def forward(self, x: torch.Tensor) -> object:
        return {"logits": self.score(self.features(x))}


class PerPixel(Small):
    def forward(self, x: torch.Tensor) -> object:
        pixels = self.norm(self.conv(x)).movedim(1, -1).reshape(-1, 3)
        return self.score(self.hidden(pixels)).reshape(len(x), -1, CLASSES).mean(dim=1)


class NotAFloat(Small):
    def forward(self, x: torch.Tensor) -> object:
        return self.score(self.features(x)).long()


class Failing(Small):
    def forward(self, x: torch.Tensor) -> object:
        raise RuntimeError("cannot\nrun")


def no_network() -> str:
    return "network"


def failing_factory() -> nn.Module:
    raise ValueError("weights are away\nand more")


def of_its_size(image_size: int, num_classes: int, **others: int) -> nn.Module:
    assert not others
    return nn.Sequential(nn.Conv2d(CHANNELS, 2, 1), nn.Flatten(), nn.Linear(2 * image_size**2, num_classes))


def of_depth(num_classes: int, depth: int, kind: str, width: int = 1) -> nn.Module:
    return Small(num_classes)


def with_options(**options: int) -> nn.Module:
    return Small(**options)


def ending_factory() -> nn.Module:
    sys.exit(2)


def a_class() -> object:
    return Small


def traced(num_classes: int) -> nn.Module:
    return torch.jit.trace(Small(num_classes).eval(), torch.zeros(1, CHANNELS, SIZE, SIZE))


def compiled(num_classes: int) -> object:
    return torch.compile(Small(num_classes))


def spread(num_classes: int) -> nn.Module:
    return nn.DataParallel(Small(num_classes))


def narrow(num_classes: int) -> nn.Module:
    return Small(num_classes).to(torch.bfloat16)


def wide(num_classes: int) -> nn.Module:
    return Small(num_classes).double()


def by_position(num_classes: int, channels: int, /) -> nn.Module:
    return Small(num_classes, channels)


def printing() -> nn.Module:
    print("building")
    return Small()


NOT_CALLABLE = 3


def build(name: str, *, num_classes: int = CLASSES, channels: int = CHANNELS, image_size: int = SIZE) -> nn.Module:
    torch.manual_seed(0)
    return build_imported(f"{__name__}:{name}", num_classes=num_classes, channels=channels, image_size=image_size)


def images(channels: int = CHANNELS) -> torch.Tensor:
    return torch.randn(5, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["Small", "FeaturesFirst", "LogitsFirst", "Ours", "OutOfOrder", "TwoHeads", "Repeated"])
def test_features_and_logits_are_found_whatever_the_network_returns(name: str) -> None:
    wrapped = build(name).eval()
    inner = wrapped.network
    with torch.no_grad():
        output = wrapped(images())
        features = inner.features(images())
        assert isinstance(output, Output)
        assert torch.equal(output.features, features)
        assert torch.equal(output.logits, inner.score(features))
    assert wrapped.feature_dim == features.shape[1]
    assert wrapped.stages == ()


def test_features_of_any_shape_are_flattened_to_a_row_per_image() -> None:
    wrapped = build("Maps").eval()
    assert wrapped.feature_dim == 3 * SIZE * SIZE
    assert wrapped(images()).features.shape == (5, 3 * SIZE * SIZE)


def test_gradients_reach_the_images_through_features_and_logits() -> None:
    wrapped = build("Small").eval().requires_grad_(False)
    for part in (0, 1):
        x = images().requires_grad_()
        wrapped(x)[part].sum().backward()
        assert x.grad is not None
        assert x.grad.abs().sum() > 0


def test_the_factory_is_told_what_its_signature_names() -> None:
    assert build("Small", num_classes=7, channels=2)(images(2)).logits.shape == (5, 7)
    assert build("of_its_size", num_classes=3).feature_dim == 2 * SIZE**2


def test_a_factory_that_takes_any_options_is_given_the_classes_among_them() -> None:
    assert build("with_options", num_classes=7)(images()).logits.shape == (5, 7)
    network = build_imported("torchvision.models:shufflenet_v2_x0_5", num_classes=7, channels=3, image_size=32)
    assert network.eval()(torch.randn(2, 3, 32, 32)).logits.shape == (2, 7)


def test_probing_leaves_no_trace_in_the_network() -> None:
    wrapped = build("Small")
    assert wrapped.training
    assert all(module.training for module in wrapped.modules())
    assert wrapped.network.norm.num_batches_tracked == 0
    wrapped(images())
    assert not any(module._forward_pre_hooks for module in wrapped.modules())
    assert wrapped.state_dict().keys() == {f"network.{name}" for name in Small().state_dict()}


def test_its_batch_norms_are_found_like_those_of_every_network() -> None:
    assert [type(module) for module in build("Small").modules()].count(nn.BatchNorm2d) == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Convolutional", "no nn.Linear runs in its forward pass, so its features are unknown: return the scores"),
        ("Probabilities", "returns probabilities, must return the scores before softmax"),
        ("Ambiguous", r"returns \(2, 4\) and \(2, 4\), either could be scores of 4 classes: return"),
        ("Mapping", r"returns a dict, not scores or a pair of tensors: return .* cpsc\.models\.Output"),
        ("PerPixel", r"its features are \(128, 6\) for 2 images, must be a row per image"),
        ("NotAFloat", r"returns torch\.int64 \(2, 4\) for 2 images, must be floating scores \(2, 4\)"),
        ("Failing", r"its network fails on images \(2, 1, 8, 8\): RuntimeError cannot$"),
        ("failing_factory", "fails when called: ValueError weights are away$"),
        ("no_network", r"must return a torch\.nn\.Module, got a str"),
        ("NOT_CALLABLE", "must be a function or class that makes a network, got a int"),
        ("absent", r"module tests\.unit\.cpsc\.models\.test_imported \(.*test_imported\.py\) has no 'absent'"),
        (
            "of_depth",
            "needs depth, kind, but gets only num_classes, channels, image_size: give other arguments defaults",
        ),
        ("ending_factory", "fails when called: SystemExit 2$"),
        ("a_class", r"must return a torch\.nn\.Module, got a type"),
        ("traced", "returns TorchScript, whose layers cannot be observed: return the original module"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line_that_names_the_factory(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^factory {__name__}:{name}: .*{message}") as caught:
        build(name)
    assert "\n" not in str(caught.value)


def test_a_network_of_other_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"returns torch\.float32 \(2, 4\) for 2 images, must be floating scores \(2, 9\)"):
        build("Ours", num_classes=9)
    with pytest.raises(ConfigError, match=r"returns \(2, 6, 1, 1\) and \(2, 9\), neither could be scores of 3 classes"):
        build_imported(f"{__name__}:nine_classes", num_classes=3, channels=CHANNELS, image_size=SIZE)


def nine_classes() -> nn.Module:
    return FeaturesFirst(num_classes=9)


def test_a_module_that_is_not_there_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        ConfigError, match="factory not_there:make: there is no module not_there: make it importable here"
    ) as caught:
        build_imported("not_there:make", num_classes=CLASSES, channels=CHANNELS, image_size=SIZE)
    assert "PYTHONPATH" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (r'raise RuntimeError("first line\nsecond line")', "RuntimeError first line"),
        ("import a_library_that_is_away", "ModuleNotFoundError No module named 'a_library_that_is_away'"),
        ("from textwrap import no_such_function", "ImportError cannot import name 'no_such_function' from 'textwrap'"),
        ("def make(:", "SyntaxError invalid syntax"),
        ("import sys; sys.exit('usage: train')", "SystemExit usage: train"),
    ],
)
def test_a_module_that_fails_on_import_is_refused_in_one_line_with_the_reason(
    source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_on_import.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as caught:
        build_imported("broken_on_import:make", num_classes=CLASSES, channels=CHANNELS, image_size=SIZE)
    beginning = f"factory broken_on_import:make: its module broken_on_import fails when imported: {reason}"
    assert str(caught.value).startswith(beginning)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["compiled", "spread", "narrow", "wide", "by_position"])
def test_what_a_factory_does_beside_the_network_is_undone(name: str) -> None:
    wrapped = build(name, num_classes=5)
    assert wrapped.state_dict().keys() == {f"network.{own}" for own in Small().state_dict()}
    assert {value.dtype for value in wrapped.state_dict().values()} == {torch.float32, torch.int64}
    assert wrapped(images()).logits.shape == (5, 5)


def test_what_a_factory_prints_leaves_stdout_to_results(capsys: pytest.CaptureFixture[str]) -> None:
    build("printing")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "building\n")


@pytest.mark.parametrize(
    "path", ["", ":", "module:", ":make", "a b:make", "module:make()", "a:b:c", "a.:b", "../a:b", "a-b:c", "1a:b"]
)
def test_what_is_no_import_path_is_refused_before_anything_is_imported(path: str) -> None:
    with pytest.raises(ConfigError, match=r"factory must have the form package\.module:function"):
        check_import_path(path)
    with pytest.raises(ConfigError, match=r"factory must have the form package\.module:function"):
        build_imported(path, num_classes=CLASSES, channels=CHANNELS, image_size=SIZE)


def test_import_paths_are_told_from_names() -> None:
    check_import_path("package.module:make_it")
    assert is_import_path("package.module:make")
    assert not is_import_path("wrn_16_2")
    assert not is_import_path(["a:b"])
