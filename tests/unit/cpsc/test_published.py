"""Teachers that other programs trained: every published layout of a weights file, and what is refused in which words."""

import argparse
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cpsc import checkpoint
from cpsc.data.dataset import Normalisation
from cpsc.device import place
from cpsc.errors import CheckpointError, ConfigError, MissingSettingError
from cpsc.metrics import predict
from cpsc.models import build_model
from cpsc.published import NORMALISATIONS, PublishedConfig, load_teacher
from cpsc.recognition import KINDS
from cpsc.teacher import Teacher
from cpsc.torchvision_cure import import_torchvision
from tests.unit.cpsc.models.published_keys import published_keys

pytestmark = pytest.mark.slow  # networks of every published family
CPU = torch.device("cpu")
CONFIG = PublishedConfig(normalisation="cifar10", image_size=16)
State = dict[str, Tensor]


def trained(arch: str, *, num_classes: int = 10, channels: int = 3, seed: int = 0) -> nn.Module:
    """Random weights, and batch norms that have seen images."""
    torch.manual_seed(seed)
    network = build_model(arch, num_classes=num_classes, channels=channels)
    network(torch.randn(8, channels, 16, 16))
    return network.eval()


def weights(network: nn.Module, arch: str) -> State:
    """Its weights, as the published file lists them."""
    state = network.state_dict()
    return OrderedDict((name, state[name]) for name in published_keys(arch))


def images(channels: int = 3, *, size: int = 16) -> Tensor:
    return torch.randint(0, 256, (4, channels, size, size), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def check_same(teacher: Teacher, network: nn.Module, normalisation: Normalisation = NORMALISATIONS["cifar10"]) -> None:
    x = images(teacher.channels)
    expected = predict(place(network, CPU), normalisation.normalise(x))
    assert torch.equal(predict(teacher.build(CPU), teacher.normalisation.normalise(x)), expected)
    assert expected.std() > 0


def refusal(path: Path, config: PublishedConfig | None = CONFIG) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_teacher(path, config)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


def saved(content: object, path: Path, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


# Layouts


def datafree(state: State) -> object:
    """The toolbox's, with all that its training script keeps."""
    network = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.zeros(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [120, 150, 180])
    parts = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    return {"epoch": 200, "arch": "net", "state_dict": state, "best_acc1": 95.7} | parts


def zskt(state: State) -> object:
    return {"args": argparse.Namespace(dataset="CIFAR10", lr=0.1), "epoch": 3, "state_dict": state, "test_acc": 0.95}


def zskt_student(state: State) -> object:
    args = argparse.Namespace(dataset="CIFAR10")
    return {"args": args, "generator_state_dict": {"a": torch.zeros(1)}, "student_state_dict": state, "test_acc": 0.5}


def adapted(state: State) -> object:
    """CPSC-DFKD's students, wrapped with a projection head."""
    head = {"head.0.weight": torch.zeros(4, 4), "head.0.bias": torch.zeros(4), "head.2.weight": torch.zeros(2, 4)}
    return {f"model.{name}": tensor for name, tensor in state.items()} | head


def torchvision_names(state: State) -> object:
    renamed = {name.replace("shortcut", "downsample"): tensor for name, tensor in state.items()}
    return {name.replace("linear.", "fc."): tensor for name, tensor in renamed.items()}


def prefixed(prefix: str) -> Callable[[State], object]:
    return lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()}


def as_parameters(state: State) -> object:
    return {name: nn.Parameter(tensor, requires_grad=tensor.is_floating_point()) for name, tensor in state.items()}


LAYOUTS: dict[str, tuple[str, Callable[[State], object]]] = {
    "DataFree": ("wrn_16_2", datafree),
    "CPSC and DFAD": ("wrn_16_1", lambda state: state),
    "CPSC's student": ("wrn_16_2", adapted),
    "ZSKT": ("wrn_16_1", zskt),
    "ZSKT's student": ("wrn_16_1", zskt_student),
    "several devices": ("wrn_16_1", prefixed("module.")),
    "several devices, in a dict, adapted": ("wrn_16_1", lambda state: {"net": prefixed("module.")(adapted(state))}),
    "compiled": ("wrn_16_1", prefixed("_orig_mod.")),
    "wrapped twice": ("wrn_16_1", lambda state: {"model": {"state_dict": state}, "epoch": 3}),
    "torchvision's names": ("resnet18", torchvision_names),
    "parameters": ("wrn_16_1", as_parameters),
    "our best student": ("wrn_16_1", lambda state: {"version": 1, "student": state, "arch": "wrn_16_1"}),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_of_each_published_layout_computes_what_it_did_before(layout: str, legacy: bool, tmp_path: Path) -> None:
    arch, wrap = LAYOUTS[layout]
    network = trained(arch)
    teacher = load_teacher(saved(wrap(weights(network, arch)), tmp_path / "teacher.pth", legacy=legacy), CONFIG)
    assert (teacher.arch, teacher.num_classes, teacher.channels, teacher.image_size) == (arch, 10, 3, 16)
    check_same(teacher, network)


@pytest.mark.parametrize(
    ("arch", "num_classes", "channels"),
    [
        ("resnet18", 10, 3),
        ("resnet34", 100, 3),
        ("vgg11", 200, 3),
        ("wrn_40_2", 100, 3),
        ("wrn_40_1", 10, 1),
        ("wrn_28_10", 5, 3),
        ("mobilenet_v2", 100, 3),
    ],
)
def test_family_depth_width_classes_and_channels_are_told_by_the_weights(
    arch: str, num_classes: int, channels: int, tmp_path: Path
) -> None:
    with torch.device("meta"):
        shapes = build_model(arch, num_classes=num_classes, channels=channels).state_dict()
    state = {name: torch.zeros_like(shapes[name], device="cpu") for name in published_keys(arch)}
    config = PublishedConfig(normalisation="half", image_size=8)
    teacher = load_teacher(saved(state, tmp_path / "teacher"), config)
    assert (teacher.arch, teacher.num_classes, teacher.channels) == (arch, num_classes, channels)
    assert teacher.normalisation == Normalisation(mean=(0.5,) * channels, std=(0.5,) * channels)


def test_a_resnet_34_and_a_vgg_compute_what_they_did_before(tmp_path: Path) -> None:
    for arch in ("resnet34", "vgg11", "mobilenet_v2"):
        network = trained(arch, num_classes=7)
        check_same(load_teacher(saved(weights(network, arch), tmp_path / arch), CONFIG), network)


def test_torchvisions_own_resnet_with_a_small_stem_computes_what_it_did_before(tmp_path: Path) -> None:
    import_torchvision()
    from torchvision.models import resnet18

    torch.manual_seed(0)
    theirs = resnet18(num_classes=10)
    refused = refusal(saved(theirs.state_dict(), tmp_path / "large.pth"))
    assert refused.startswith("its stem conv1.weight is 7x7, made for large images")
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    theirs(torch.randn(8, 3, 16, 16))
    teacher = load_teacher(saved(theirs.state_dict(), tmp_path / "small.pth"), CONFIG)
    x = teacher.normalisation.normalise(images())
    with torch.no_grad():
        torch.testing.assert_close(predict(teacher.build(CPU), x), theirs.eval()(x))


def test_an_imported_teacher_says_what_it_is_and_what_is_not_known(tmp_path: Path) -> None:
    path = saved(weights(trained("wrn_16_1"), "wrn_16_1"), tmp_path / "teacher.pt")
    teacher = load_teacher(path, CONFIG)
    assert teacher.class_names == tuple("0123456789")
    assert teacher.normalisation == Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
    assert (teacher.dataset, teacher.test_accuracy) == ("unknown", None)
    named = load_teacher(path, replace(CONFIG, class_names=tuple("abcdefghij")))
    assert named.class_names == tuple("abcdefghij")
    assert named.digest == teacher.digest


def test_an_imported_teacher_can_be_kept_as_a_bundle(tmp_path: Path) -> None:
    teacher = load_teacher(saved(weights(trained("wrn_16_1"), "wrn_16_1"), tmp_path / "raw.pt"), CONFIG)
    teacher.save(tmp_path / "bundle.pt")
    loaded = load_teacher(tmp_path / "bundle.pt")
    assert (loaded.digest, loaded.test_accuracy) == (teacher.digest, None)


def test_its_weights_are_its_own_and_not_a_view_of_the_file(tmp_path: Path) -> None:
    state = weights(trained("wrn_16_1"), "wrn_16_1")
    storage = torch.cat([torch.zeros(10**6), state["fc.weight"].flatten()])
    state["fc.weight"] = storage[10**6 :].view_as(state["fc.weight"])
    teacher = load_teacher(saved(state, tmp_path / "teacher.pt"), CONFIG)
    assert teacher.state["fc.weight"].untyped_storage().nbytes() == state["fc.weight"].numel() * 4


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cifar10", Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))),
        ("cifar100", Normalisation(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))),
        ("tiny_imagenet", Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))),
        ("imagenet", Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))),
        ("half", Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)),
        ("identity", Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3)),
        (Normalisation(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)), Normalisation(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))),
    ],
)
def test_the_constants_it_was_trained_with_are_stated(given: Any, expected: Normalisation, tmp_path: Path) -> None:
    network = trained("wrn_16_1")
    path = saved(weights(network, "wrn_16_1"), tmp_path / "teacher.pt")
    teacher = load_teacher(path, replace(CONFIG, normalisation=given))
    assert teacher.normalisation == expected
    check_same(teacher, network, expected)


# Refused


executed: list[str] = []


class Whole(nn.Module):
    """A network that is pickled whole, as PRE-DFKD's and DAFL's teachers are; coming back to life it leaves a trace."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def __setstate__(self, state: dict[str, Any]) -> None:
        executed.append("setstate")
        super().__setstate__(state)


class Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return executed.append, ("reduce",)


@pytest.mark.parametrize("config", [CONFIG, None], ids=["explained", "bare path"])
@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("content", [Whole(), {"epoch": 3, "net": Whole()}], ids=["module", "module in a dict"])
def test_a_pickled_network_is_refused_as_one_and_never_brought_to_life(
    content: object, legacy: bool, config: PublishedConfig | None, tmp_path: Path
) -> None:
    executed.clear()
    message = refusal(saved(content, tmp_path / "cifar100_teacher_resnet34", legacy=legacy), config)
    assert "a whole network, pickled with its class" in message
    assert legacy or "('tests.unit.cpsc.test_published.Whole'), which only the code of that program can restore" in message
    assert message.endswith("load it with the program that made it and save its state_dict()")
    assert executed == []


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
def test_planted_code_does_not_run(legacy: bool, tmp_path: Path) -> None:
    executed.clear()
    message = refusal(saved({"state_dict": Planted()}, tmp_path / "teacher.pt", legacy=legacy))
    assert (
        message
        == "not a readable teacher file, it holds an object created by a function call, and nothing is called: save tensors only"
    )
    assert executed == []


def with_state(**changes: Tensor | None) -> Callable[[], State]:
    def make() -> State:
        state = dict(weights(trained("wrn_16_1"), "wrn_16_1"))
        for name, tensor in changes.items():
            state[name.replace("__", ".")] = tensor
            if tensor is None:
                del state[name.replace("__", ".")]
        return state

    return make


def resnet(**changes: Tensor) -> Callable[[], State]:
    """Shapes that tell a ResNet apart, and nothing else."""
    names = [f"layer{stage}.{block}.conv1.weight" for stage in (1, 2, 3, 4) for block in (0, 1)]
    state = dict.fromkeys(names, torch.zeros(1)) | {"conv1.weight": torch.zeros(64, 3, 3, 3), "fc.weight": torch.zeros(10, 512)}
    return lambda: state | {name.replace("__", "."): tensor for name, tensor in changes.items()}


UNKNOWN: dict[str, tuple[Callable[[], object], str]] = {
    "a 7x7 stem": (
        resnet(conv1__weight=torch.zeros(64, 3, 7, 7)),
        f"stem conv1.weight is 7x7, made for large images: known are {KINDS}",
    ),
    "bottlenecks": (
        resnet(layer1__0__conv3__weight=torch.zeros(1)),
        "a ResNet whose stages have (2, 2, 2, 2) bottleneck blocks: known are",
    ),
    "another depth": (resnet(layer3__2__conv1__weight=torch.zeros(1)), "a ResNet whose stages have (2, 2, 3, 2) blocks: known are"),
    "a ResNet of other widths": (resnet(), "teacher weights do not fit resnet18: bn1.bias is missing"),
    "another VGG": (
        lambda: {f"block{group}.{index}.weight": torch.zeros(64, 3, 3, 3) for group in range(5) for index in (0, 3)},
        "a VGG whose groups have widths ((64, 64), (64, 64),",
    ),
    "torchvision's VGG": (
        lambda: {f"features.{index}.weight": torch.zeros(64, 3, 3, 3) for index in (0, 3, 6, 8)},
        f"not a known network ({KINDS}), name your own with factory: "
        "found 'features.0.weight', 'features.3.weight', 'features.6.weight', ...",
    ),
    "a wide ResNet of an odd width": (
        with_state(block1__layer__0__conv1__weight=torch.zeros(24, 16, 3, 3)),
        "a wide ResNet whose first group has 24 channels, not a multiple of 16",
    ),
    "an enormous wide ResNet": (
        with_state(block1__layer__0__conv1__weight=torch.zeros(1).expand(16 * 10**6, 16, 3, 3)),
        "arch 'wrn_16_1000000': unknown network",
    ),
    "a wide ResNet without a block": (with_state(block1__layer__0__conv2__weight=None), "block1.layer.0.conv2.weight is missing"),
    "a key too many": (with_state(extra=torch.zeros(1)), "teacher weights do not fit wrn_16_1: extra is not one of its weights"),
    "another shape": (with_state(bn1__weight=torch.zeros(3)), "bn1.weight must be torch.float32 (64,)"),
    "a NaN": (with_state(bn1__weight=torch.full((64,), math.nan)), "teacher weight bn1.weight holds NaN or infinity"),
    "no classifier": (with_state(fc__weight=None), "its weights lack fc.weight: found"),
    "a flat classifier": (with_state(fc__weight=torch.zeros(10)), "its weight fc.weight is (10,), must have 2 dimensions"),
    "one class": (with_state(fc__weight=torch.zeros(1, 64)), "its classifier has 1 classes, must be 2..100000"),
    "more classes than memory": (
        with_state(fc__weight=torch.zeros(1).expand(10**14, 64)),
        "its classifier has 100000000000000 classes, must be 2..100000",
    ),
    "four channels": (with_state(conv1__weight=torch.zeros(16, 4, 3, 3)), "normalisation has 3 channels, but the network takes 4"),
    "a strange name": (with_state(**{"a\nb": torch.zeros(1)}), r"the name of a weight must be printable, got 'a\nb'"),
    "no weights": (lambda: {"epoch": 3, "arch": "net"}, "holds no weights, neither at the top nor under state_dict, model, net"),
    "nothing": (dict, "holds no weights, neither at the top nor under state_dict"),
    "an empty state": (lambda: {"state_dict": {}}, "found nothing"),
    "numbers": (lambda: {"state_dict": {"a": 1.0}}, "found 'a'"),
    "keys that are numbers": (lambda: {1: torch.zeros(1)}, "found 1"),
    "two networks": (
        lambda: {"teacher": {"a": torch.zeros(1, 1)}, "student": {"a": torch.zeros(1, 1)}},
        "holds several networks (teacher, student): select one with weights, e.g. weights: teacher",
    ),
    "wraps without end": (lambda: {"model": {"model": {"model": {"model": {"a": torch.zeros(1)}}}}}, "holds no weights"),
    "a list": (lambda: [torch.zeros(1)], "not a teacher file, it holds a list"),
    "a tensor": (lambda: torch.zeros(1), "not a teacher file, it holds a Tensor"),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_not_known_is_refused_by_what_was_found(case: str, legacy: bool, tmp_path: Path) -> None:
    make, message = UNKNOWN[case]
    found = refusal(saved(make(), tmp_path / "teacher.pt", legacy=legacy))
    assert message in found, found


@pytest.mark.parametrize("config", [CONFIG, None], ids=["explained", "bare path"])
@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_file_cut_short_is_refused(share: float, legacy: bool, config: PublishedConfig | None, tmp_path: Path) -> None:
    path = saved(weights(trained("wrn_16_1"), "wrn_16_1"), tmp_path / "teacher.pt", legacy=legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "not a readable teacher file (truncated, corrupt or of another kind)" in refusal(path, config)


def test_a_bit_turned_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = saved(weights(trained("wrn_16_1"), "wrn_16_1"), tmp_path / "teacher.pt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "not a readable teacher file" in refusal(path)


@pytest.mark.parametrize("config", [CONFIG, None], ids=["explained", "bare path"])
def test_a_file_that_is_not_there_is_refused(config: PublishedConfig | None, tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.pt", config).startswith("no such teacher file")
    saved({}, tmp_path / "teacher.pth")
    assert refusal(tmp_path, config) == "a folder: name the file in it, e.g. teacher.pth"


# What is said of the file


def test_weights_that_nobody_explains_ask_for_what_they_need(tmp_path: Path) -> None:
    path = saved(datafree(weights(trained("wrn_16_1"), "wrn_16_1")), tmp_path / "teacher.pth")
    need = "not a teacher bundle but bare weights, which need normalisation beside the path: the constants it was trained with,"
    names = "one of cifar10, cifar100, tiny_imagenet, imagenet, mnist, half, identity or {mean: [...], std: [...]}"
    assert refusal(path, None) == f"{need} {names}"
    assert refusal(path, PublishedConfig()) == f"{need} {names}"
    assert refusal(path, PublishedConfig(image_size=16)) == f"{need} {names}"
    assert "need image_size beside the path" in refusal(path, PublishedConfig(normalisation="cifar10"))


def test_class_names_must_be_as_many_as_the_classes(tmp_path: Path) -> None:
    path = saved(weights(trained("wrn_16_1"), "wrn_16_1"), tmp_path / "teacher.pth")
    told = refusal(path, replace(CONFIG, class_names=("cat", "dog")))
    assert told == "class_names has 2 names, but its classifier has 10 classes"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"normalisation": "cifar"},
            "normalisation must be one of cifar10, cifar100, tiny_imagenet, imagenet, mnist, half, identity or {mean",
        ),
        ({"normalisation": Normalisation(mean=(), std=())}, "normalisation must be a finite mean and a finite std > 0"),
        ({"normalisation": Normalisation(mean=(0.5,), std=(0.5, 0.5))}, "normalisation must be a finite mean"),
        ({"normalisation": Normalisation(mean=(0.5,), std=(0.0,))}, "normalisation must be a finite mean"),
        ({"normalisation": Normalisation(mean=(math.nan,), std=(0.5,))}, "normalisation must be a finite mean"),
        ({"image_size": 0}, "image_size must be a multiple of 4 in 4..1024, got 0"),
        ({"image_size": 18}, "image_size must be a multiple of 4 in 4..1024, got 18"),
        ({"image_size": 2048}, "image_size must be a multiple of 4 in 4..1024, got 2048"),
        ({"class_names": ("cat",)}, "class_names must be two or more names"),
        ({"factory": "mine"}, "factory must have the form package.module:function, got 'mine'"),
        ({"factory": "mine:make", "channels": 0}, "channels must be in 1..64, got 0"),
        ({"factory": "mine:make", "channels": 65}, "channels must be in 1..64, got 65"),
        ({"weights": ""}, "weights must be a name in the file, got ''"),
        ({"weights": "a\nb"}, "weights must be a name in the file"),
        ({"num_classes": 10}, "num_classes must be left out without a factory: the weights tell them, got 10"),
        ({"factory": "mine:make", "num_classes": 1}, "num_classes must be in 2..100000, got 1"),
        (
            {"factory": "mine:make", "num_classes": 3, "class_names": ("cat", "dog")},
            "num_classes must be left out or 2, as many as class_names, got 3",
        ),
        ({"channels": 3}, "channels must be left out without a factory: the weights tell them, got 3"),
    ],
)
def test_a_broken_rule_of_what_is_said_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PublishedConfig(**changes)
    assert str(caught.value).startswith(message)


# Bundles


def test_a_bundle_is_loaded_as_it_is(teacher: Teacher, tmp_path: Path) -> None:
    teacher.save(tmp_path / "teacher.pt")
    assert load_teacher(tmp_path / "teacher.pt").digest == teacher.digest
    assert load_teacher(tmp_path / "teacher.pt", PublishedConfig()).digest == teacher.digest


@pytest.mark.parametrize("changes", [{"normalisation": "half"}, {"image_size": 8}, {"class_names": tuple("abcd")}])
def test_a_bundle_says_all_of_itself(changes: dict[str, Any], teacher: Teacher, tmp_path: Path) -> None:
    teacher.save(tmp_path / "teacher.pt")
    message = refusal(tmp_path / "teacher.pt", PublishedConfig(**changes))
    assert message == f"a teacher bundle already contains {next(iter(changes))}: leave that out"


def test_a_bundle_of_one_of_our_networks_takes_no_factory(teacher: Teacher, tmp_path: Path) -> None:
    teacher.save(tmp_path / "teacher.pt")
    message = refusal(tmp_path / "teacher.pt", PublishedConfig(factory="mine:make"))
    assert message == "factory mine:make would have no effect, this bundle's network is wrn_10_1"


def test_a_damaged_bundle_is_told_as_one(teacher: Teacher, tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher.save(path)
    whole = checkpoint.load(path, kind="teacher")
    checkpoint.save({name: value for name, value in whole.items() if name != "state"}, path)
    assert refusal(path, None) == "not a teacher bundle ('state'), make one with the teacher verb"
    checkpoint.save(whole | {"version": 2}, path)
    assert "teacher bundle has format 2, but this version reads format 1" in refusal(path, None)


# A network of the user's own


MINE = """
import torch
from torch import nn

runs = []


class Mine(nn.Module):
    def __init__(self, num_classes, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.score = nn.Linear(5, num_classes)

    def forward(self, x):
        return self.score(self.norm(self.conv(x)).relu().mean(dim=(2, 3)))


def make(num_classes, channels):
    runs.append((num_classes, channels))
    return Mine(num_classes, channels)


def other(num_classes, channels):
    return make(num_classes, channels)


class Convolving(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.score = nn.Conv2d(5, num_classes, 1)

    def forward(self, x):
        features = self.conv(x).relu().mean(dim=(2, 3), keepdim=True)
        return features.flatten(1), self.score(features).flatten(1)


def convolving(**options):
    return Convolving(**options)
"""
FACTORY = "mine_of_a_test.networks:make"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package ``mine_of_a_test``, importable, and not imported yet."""
    package = tmp_path / "code" / "mine_of_a_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "networks.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "mine_of_a_test"]:
        del sys.modules[name]


def own_network(num_classes: int = 4, channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    from mine_of_a_test import networks  # type: ignore[import-not-found]

    network: nn.Module = networks.Mine(num_classes, channels)
    network(torch.randn(8, channels, 16, 16))
    return network.eval()


def convolutions(folder: Path) -> Path:
    """Weights of a network without a matrix."""
    from mine_of_a_test import networks

    torch.manual_seed(0)
    return saved(networks.Convolving(6).state_dict(), folder / "convolving.pt")


def own_logits(network: nn.Module, teacher: Teacher) -> Tensor:
    with torch.no_grad():
        logits: Tensor = place(network, CPU)(teacher.normalisation.normalise(images(teacher.channels)))
    return logits


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("wrap", [lambda state: state, prefixed("module."), datafree], ids=["raw", "module.", "DataFree"])
def test_the_users_own_network_is_loaded_by_its_factory(wrap: Callable[[State], object], tmp_path: Path) -> None:
    network = own_network()
    path = saved(wrap(network.state_dict()), tmp_path / "mine.pt")
    teacher = load_teacher(path, replace(CONFIG, factory=FACTORY))
    assert (teacher.arch, teacher.num_classes, teacher.channels) == (FACTORY, 4, 3)
    built = teacher.build(CPU)
    assert (built.feature_dim, built.stages) == (5, ())
    x = teacher.normalisation.normalise(images())
    assert torch.equal(predict(built, x), own_logits(network, teacher))
    assert not any(parameter.requires_grad for parameter in built.parameters())


@pytest.mark.usefixtures("mine")
def test_channels_and_classes_of_the_users_own_network_may_be_said(tmp_path: Path) -> None:
    path = saved(own_network(channels=2).state_dict(), tmp_path / "mine.pt")
    config = PublishedConfig(normalisation="half", image_size=16, factory=FACTORY)
    assert "need channels beside the path" in refusal(path, config)
    teacher = load_teacher(path, replace(config, channels=2, class_names=tuple("abcd")))
    assert (teacher.channels, teacher.class_names) == (2, tuple("abcd"))
    assert asdict(teacher.normalisation) == {"mean": (0.5, 0.5), "std": (0.5, 0.5)}
    assert "teacher weights do not fit" in refusal(path, replace(config, channels=3))
    assert "normalisation has 3 channels, but the network takes 2" in refusal(
        path, replace(config, channels=2, normalisation="cifar10")
    )


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_are_told_by_the_first_filters_of_the_users_own_network(channels: int, tmp_path: Path) -> None:
    path = saved(own_network(channels=channels).state_dict(), tmp_path / "mine.pt")
    teacher = load_teacher(path, PublishedConfig(normalisation="identity", image_size=16, factory=FACTORY))
    assert (teacher.channels, len(teacher.normalisation.mean)) == (channels, channels)


@pytest.mark.parametrize(
    ("content", "config", "settings", "options"),
    [
        ({"a.weight": torch.zeros(2, 2)}, PublishedConfig(), ("normalisation", "image_size"), ()),
        ({"a.weight": torch.zeros(2, 2)}, PublishedConfig(normalisation="half"), ("image_size",), ()),
        ({"a.weight": torch.zeros(2, 2)}, PublishedConfig(normalisation="half", image_size=16), ("factory",), ()),
        (
            {"teacher": {"a.weight": torch.zeros(2, 2)}, "student": {"a.weight": torch.zeros(2, 2)}},
            PublishedConfig(normalisation="half", image_size=16),
            ("weights",),
            ("teacher", "student"),
        ),
    ],
)
def test_what_a_file_leaves_unsaid_is_told_by_the_names_of_settings(
    content: Any, config: PublishedConfig, settings: tuple[str, ...], options: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(MissingSettingError) as caught:
        load_teacher(saved(content, tmp_path / "net.pth"), config)
    assert (caught.value.settings, caught.value.options) == (settings, options)
    assert str(caught.value).startswith(f"{tmp_path / 'net.pth'}: ")


@pytest.mark.usefixtures("mine")
def test_classes_that_no_matrix_of_the_users_own_network_tells_may_be_said(tmp_path: Path) -> None:
    path, config = convolutions(tmp_path), replace(CONFIG, factory="mine_of_a_test.networks:convolving")
    assert "need num_classes beside the path" in refusal(path, config)
    teacher = load_teacher(path, replace(config, num_classes=6))
    assert (teacher.arch, teacher.num_classes) == (config.factory, 6)
    other = saved(own_network(num_classes=6).state_dict(), tmp_path / "mine.pt")
    assert load_teacher(other, replace(CONFIG, factory=FACTORY, num_classes=6)).num_classes == 6


@pytest.mark.usefixtures("mine")
def test_a_factory_that_makes_another_network_is_refused(tmp_path: Path) -> None:
    state = own_network().state_dict() | {"score.extra": torch.zeros(1)}
    config = replace(CONFIG, factory=FACTORY)
    assert f"teacher weights do not fit {FACTORY}: network.score.extra is not one of its weights" in refusal(
        saved(state, tmp_path / "mine.pt"), config
    )
    convolutions = {name: tensor for name, tensor in state.items() if tensor.ndim != 2}
    assert "need num_classes beside the path" in refusal(saved(convolutions, tmp_path / "mine.pt"), config)


@pytest.mark.usefixtures("mine")
def test_a_factory_that_cannot_be_imported_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = saved(own_network().state_dict(), tmp_path / "mine.pt")
    with pytest.raises(ConfigError, match="factory not_there:make: there is no module not_there: make it importable here and"):
        load_teacher(path, replace(CONFIG, factory="not_there:make"))


@pytest.mark.usefixtures("mine")
def test_a_bundle_alone_has_nothing_imported(tmp_path: Path) -> None:
    path = saved(own_network().state_dict(), tmp_path / "mine.pt")
    load_teacher(path, replace(CONFIG, factory=FACTORY)).save(tmp_path / "bundle.pt")
    for name in ("mine_of_a_test.networks", "mine_of_a_test"):
        del sys.modules[name]
    for config in (None, PublishedConfig(factory="mine_of_a_test.networks:other")):
        message = refusal(tmp_path / "bundle.pt", config)
        assert message.startswith(f"its network is made by '{FACTORY}', which is imported only if you name it")
        assert "mine_of_a_test" not in sys.modules
    with pytest.raises(CheckpointError, match="imported only if you name it"):
        Teacher.load(tmp_path / "bundle.pt")
    assert "mine_of_a_test" not in sys.modules
    teacher = load_teacher(tmp_path / "bundle.pt", PublishedConfig(factory=FACTORY))
    assert torch.equal(predict(teacher.build(CPU), teacher.normalisation.normalise(images())), own_logits(own_network(), teacher))
