"""Files of other programs: good ones load, and the others are refused for what they are. None is brought to life."""

import math
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from cpsc.errors import CheckpointError
from cpsc.models import build_model
from cpsc.published import PublishedConfig, load_teacher
from cpsc.teacher import Teacher
from tests.unit.cpsc.foreign_files import (
    BESIDE,
    Planted,
    as_safetensors,
    averaged,
    floats_as,
    kinds_of_nothing,
    lightning,
    saved,
    timm,
    under,
)

State = dict[str, Tensor]
pytestmark = pytest.mark.slow  # checkpoints of every kind are written and read
ARCH = "wrn_10_1"
FLOATS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64, "float8_e4m3fn": torch.float8_e4m3fn}


def config(**changes: Any) -> PublishedConfig:
    return PublishedConfig(normalisation="cifar10", image_size=8, **changes)


def made(arch: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = build_model(arch, num_classes=4, channels=3)
    network(torch.randn(8, 3, 8, 8))
    return network.eval()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return made(ARCH)


@pytest.fixture(scope="module")
def state(network: nn.Module) -> State:
    return network.state_dict()


@pytest.fixture(scope="module")
def other() -> State:
    """Of the same network, other weights."""
    return made(ARCH, seed=1).state_dict()


def load(path: Path, **changes: Any) -> tuple[Teacher, list[str]]:
    said: list[str] = []
    return load_teacher(path, config(**changes), say=said.append), [line.removeprefix(f"{path.name}: ") for line in said]


def holds(teacher: Teacher, expected: State) -> bool:
    return teacher.state.keys() == expected.keys() and all(torch.equal(teacher.state[name], expected[name]) for name in expected)


def refusal(path: Path, **changes: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_teacher(path, config(**changes))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


# Containers and kinds of numbers


def test_safetensors_are_told_by_their_content(state: State, tmp_path: Path) -> None:
    teacher, said = load(as_safetensors(state, tmp_path / "model.bin"))
    assert holds(teacher, state)
    assert said == []


@pytest.mark.parametrize("kept", [60, 100, -1])
def test_safetensors_cut_short_are_refused_in_a_line(kept: int, state: State, tmp_path: Path) -> None:
    path = as_safetensors(state, tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal(path).startswith("not a readable safetensors file (truncated or corrupt: ")


@pytest.mark.parametrize("dtype", FLOATS)
def test_other_floats_are_computed_with_as_float32_which_is_said(dtype: str, state: State, tmp_path: Path) -> None:
    stored = floats_as(state, FLOATS[dtype])
    teacher, said = load(saved(stored, tmp_path / "model.pt"))
    assert holds(teacher, floats_as(stored, torch.float32))
    number = sum(tensor.is_floating_point() for tensor in state.values())
    assert said == [f"{number} of {number} weights are {dtype} and converted to float32"]


def test_a_mixed_file_says_how_many_of_which(state: State, tmp_path: Path) -> None:
    stored = state | {"conv1.weight": state["conv1.weight"].half(), "fc.bias": state["fc.bias"].bfloat16()}
    teacher, said = load(saved(stored, tmp_path / "model.pt"))
    assert teacher.state["conv1.weight"].dtype == torch.float32
    assert [line.split(" of ")[0] + line.split(" are ")[1] for line in said] == [
        "1float16 and converted to float32",
        "1bfloat16 and converted to float32",
    ]


def test_equal_values_have_one_digest_in_whatever_file(state: State, tmp_path: Path) -> None:
    half = floats_as(state, torch.float16)
    files = [
        saved(half, tmp_path / "half.pt"),
        saved(floats_as(half, torch.float32), tmp_path / "widened.pt"),
        saved(floats_as(half, torch.float64), tmp_path / "double.pt"),
        as_safetensors(half, tmp_path / "half.safetensors"),
        saved({"state_dict": under("module.", half)}, tmp_path / "wrapped.pt"),
    ]
    assert len({load(path)[0].digest for path in files}) == 1
    assert load(saved(state, tmp_path / "whole.pt"))[0].digest != load(files[0])[0].digest


def test_weights_of_a_torch_that_counted_no_batches(state: State, tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    teacher, _ = load(saved(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False))
    assert holds(teacher, {name: old.get(name, torch.tensor(0)) for name in state})


@pytest.mark.parametrize("count", [3.0, math.inf, math.nan])
def test_counts_that_were_made_floats_are_whole_again(count: float, state: State, tmp_path: Path) -> None:
    names = [name for name in state if name.endswith("num_batches_tracked")]
    teacher, _ = load(saved(state | dict.fromkeys(names, torch.tensor(count).half()), tmp_path / "model.pt"))
    assert all(teacher.state[name].equal(torch.tensor(3 if count == 3.0 else 0)) for name in names)


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions:UserWarning")
@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "quantised (torch.qint8)"),
        (lambda tensor: tensor.to(torch.int8), "torch.int8, quantised or a mask"),
        (lambda tensor: tensor.to(torch.complex64), "complex (torch.complex64)"),
        (lambda tensor: tensor.to_sparse(), "sparse (torch.sparse_coo)"),
        (lambda tensor: tensor.to("meta"), "a shape without values (on the meta device)"),
        (lambda tensor: tensor.numpy(), "a numpy.ndarray, not a tensor"),
        (lambda tensor: tensor.double() * 1e300, "values too large for torch.float32"),
    ],
    ids=["quantised", "int8", "complex", "sparse", "meta", "array", "large"],
)
def test_what_no_network_computes_with_is_refused_by_its_kind(odd: Any, words: str, state: State, tmp_path: Path) -> None:
    message = refusal(saved(state | {"fc.weight": odd(state["fc.weight"])}, tmp_path / "model.pt"))
    assert message.startswith("its weight fc.weight ")
    assert words in message


@pytest.mark.parametrize("form", ["half", "no counts", "safetensors", "prefixed"])
def test_torchvisions_names_in_every_form(form: str, tmp_path: Path) -> None:
    network = made("resnet18")
    renamed = {
        name.replace("shortcut", "downsample").replace("linear.", "fc."): value for name, value in network.state_dict().items()
    }
    path = tmp_path / "model"
    if form == "half":
        saved(floats_as(renamed, torch.float16), path)
    elif form == "no counts":
        saved({name: tensor for name, tensor in renamed.items() if "num_batches" not in name}, path)
    elif form == "safetensors":
        as_safetensors(renamed, path)
    else:
        saved(lightning(under("net.", renamed)), path)
    assert load(path)[0].arch == "resnet18"


def test_a_file_that_holds_a_pair(state: State, tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    pair = [state, torch.optim.SGD(network.parameters(), lr=0.1).state_dict()]
    teacher, said = load(saved(pair, tmp_path / "pair.pt"))
    assert holds(teacher, state)
    assert said == ["uses the weights under 0"]


def test_tensors_of_another_class_are_refused_as_such(state: State, tmp_path: Path) -> None:
    shard = state["fc.weight"].as_subclass(Shard)
    with torch.serialization.safe_globals([Shard]):
        message = refusal(saved(state | {"fc.weight": shard}, tmp_path / "model.pt"))
    assert message == "its weight fc.weight is a Shard, not a plain tensor: gather shards and dequantize before you save it"
    message = refusal(saved(state | {"fc.weight": shard}, tmp_path / "model.pt"))
    assert message == "not a readable teacher file, it holds tensors of a custom class: save plain tensors"


class Shard(Tensor):
    """Stands for DTensor and the tensors of quantisers, which need several processes or another library."""


# Averages


def test_an_average_alone_loads(network: nn.Module, state: State, tmp_path: Path) -> None:
    assert holds(load(saved(averaged(network), tmp_path / "a.pt"))[0], state)
    for content, name in (
        ({"epoch": 3, "ema": state}, "ema"),
        ({"model_ema": averaged(network)}, "model_ema"),
        ({"ema_state_dict": {"decay": 0.99, "shadow": state}}, "ema_state_dict.shadow"),
    ):
        teacher, said = load(saved(content, tmp_path / "b.pt"))
        assert holds(teacher, state)
        assert said == [f"uses the weights under {name}"]


def both(raw: State, ema: State) -> dict[str, tuple[dict[str, Any], str, str]]:
    """Files with raw weights and their average, and where each lies."""
    flat = under("model.", raw) | under("model_ema.", ema) | {"model_ema.decay": torch.tensor(0.99)}
    return {
        "timm": (timm(raw, ema), "state_dict", "state_dict_ema"),
        "ema_state_dict": ({"model": raw, "ema_state_dict": ema}, "model", "ema_state_dict"),
        "a shadow": ({"net": raw, "ema": {"decay": 0.99, "shadow": ema}}, "net", "ema.shadow"),
        "torch's": ({"model": raw, "swa_model": under("module.", ema) | {"n_averaged": torch.tensor(3)}}, "model", "swa_model"),
        "Lightning's": (lightning(ema, current_model_state=raw, averaging_state={}), "current_model_state", "state_dict"),
        "under another prefix": ({"state_dict": under("model.", raw), "ema": ema}, "state_dict", "ema"),
        "flat": (flat, "model", "model_ema"),
        "flat in Lightning": (lightning(flat), "state_dict.model", "state_dict.model_ema"),
        "flat, the raw ones bare": (raw | under("ema.", ema), ".", "ema"),
        "ema_pytorch's": (under("online_model.", raw) | under("ema_model.", ema), "online_model", "ema_model"),
    }


@pytest.mark.parametrize("kind", both({}, {}))
def test_of_raw_and_averaged_weights_neither_is_taken_unsaid(kind: str, state: State, other: State, tmp_path: Path) -> None:
    content, raw, ema = both(state, other)[kind]
    path = saved(content, tmp_path / "model.pt")
    message = refusal(path)
    assert message.startswith("holds several networks (")
    listed = message.partition("(")[2].partition(")")[0].split(", ")
    assert set(listed) == {raw, ema}
    assert "select one with weights, e.g. weights: " in message
    assert holds(load(path, weights=raw)[0], state)
    teacher, said = load(path, weights=ema)
    assert holds(teacher, other)
    assert said[0] == f"uses the weights under {ema}"


def test_another_networks_average_is_no_rival(state: State, tmp_path: Path) -> None:
    generator = {"conv1.weight": torch.zeros(9, 9, 3, 3), "up.weight": torch.zeros(9, 9), "up.bias": torch.zeros(9)}
    content = {"student_state_dict": state, "generator_ema": generator, "generator_state_dict": generator}
    assert holds(load(saved(content, tmp_path / "model.pt"))[0], state)


def test_an_average_without_names_is_told_and_passed_over_on_ones_word(state: State, tmp_path: Path) -> None:
    shadow = {"decay": 0.99, "num_updates": 3, "shadow_params": list(state.values()), "collected_params": None}
    path = saved({"model": state, "ema": shadow}, tmp_path / "model.pt")
    assert refusal(path).startswith("holds several networks (model, ema (averages without names)): select one with weights")
    assert holds(load(path, weights="model")[0], state)


def test_a_name_that_is_not_there_is_refused_with_those_that_are(state: State, tmp_path: Path) -> None:
    path = saved({"model": state, "ema": state}, tmp_path / "model.pt")
    assert refusal(path, weights="emo") == "weights: 'emo' is not a network in the file, which holds model, ema"


# Prefixes


PREFIXES = (
    "module. model. net. my.own.network. _orig_mod.module. module._orig_mod.model. _forward_module.model. _fsdp_wrapped_module. "
    "_forward_module._fsdp_wrapped_module.net."
)


@pytest.mark.parametrize("prefix", PREFIXES.split())
def test_the_network_is_found_under_every_prefix(prefix: str, state: State, tmp_path: Path) -> None:
    assert holds(load(saved(lightning(under(prefix, state)), tmp_path / "model.ckpt"))[0], state)


def test_wrappers_of_single_layers_are_seen_through(state: State, tmp_path: Path) -> None:
    inner = {name.replace("block1.", "block1._fsdp_wrapped_module.").replace("fc.", "fc.module."): state[name] for name in state}
    assert inner.keys() != state.keys()
    assert holds(load(saved(inner, tmp_path / "model.pt"))[0], state)


def test_what_judges_the_network_is_left_out_and_said(state: State, tmp_path: Path) -> None:
    judges = {"criterion.weight": torch.ones(4), "train_acc.total": torch.tensor(3), "lossFn.0.weight": torch.ones(2, 2)}
    teacher, said = load(saved(lightning(under("net.", state) | judges), tmp_path / "model.ckpt"))
    assert holds(teacher, state)
    assert "left out criterion, train_acc, lossFn, which the network does not use" in said
    assert holds(load(saved(state | judges, tmp_path / "model.pt"))[0], state)
    profiled = state | {"total_ops": torch.zeros(1), "conv1.total_ops": torch.zeros(1)}
    assert holds(load(saved(profiled, tmp_path / "model.pt"))[0], state)


def test_layers_beside_the_network_are_never_dropped_unsaid(state: State, tmp_path: Path) -> None:
    path = saved(lightning(under("backbone.", state) | {"head.weight": torch.ones(2, 4)}), tmp_path / "model.ckpt")
    message = refusal(path)
    assert message.startswith("it has head.weight outside of the network under backbone: if the network does not use that, select")
    assert message.endswith("with weights: state_dict.backbone")
    assert holds(load(path, weights="state_dict.backbone")[0], state)


def test_two_networks_under_two_prefixes_are_asked_about(state: State, other: State, tmp_path: Path) -> None:
    pair = under("module.encoder_q.", state) | under("module.encoder_k.", other)
    path = saved({"state_dict": pair}, tmp_path / "model.pt")
    assert refusal(path).startswith("holds several networks that fit (state_dict.encoder_k, state_dict.encoder_q): select one")
    assert holds(load(path, weights="state_dict.encoder_k")[0], other)


# Beside the weights


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
def test_what_lies_beside_the_weights_does_no_harm(legacy: bool, state: State, tmp_path: Path) -> None:
    for name, value in BESIDE.items():
        path = saved({"x": value, "state_dict": state}, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
        assert holds(load(path)[0], state), name
    path = saved({"state_dict": state} | BESIDE, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    teacher, said = load(path)
    assert holds(teacher, state)
    assert said[0].startswith("ignores objects other than weights: ")


@pytest.mark.parametrize("by_name", ["os.system", "eval"])
@pytest.mark.parametrize("place", ["beside", "instead", "within"])
def test_a_planted_program_is_never_run(place: str, by_name: str, state: State, tmp_path: Path) -> None:
    planted = Planted(tmp_path / "trace", by_name=by_name)
    contents: dict[str, Any] = {
        "beside": {"state_dict": state, "x": planted},
        "instead": {"state_dict": planted},
        "within": {"state_dict": state | {"fc.weight": planted}},
    }
    path = saved(contents[place], tmp_path / "model.pt")
    if place == "beside" and by_name == "eval":
        teacher, said = load(path)
        assert holds(teacher, state)
        assert said == ["ignores objects other than weights: 'builtins.eval'"]
    else:
        message = refusal(path)
        assert "posix.system" in message or "nt.system" in message or "builtins.eval" in message
    assert not (tmp_path / "trace").exists()


# Networks of the user's own


class Mine(nn.Module):
    """Its classifier is declared first, so the last matrix has not as many rows as there are classes."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(6, num_classes)
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.hidden = nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.hidden(self.norm(self.conv(x)).mean(dim=(2, 3))).relu())


class Holder(nn.Module):
    """Has the network as an attribute, as a training script's module has."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = Mine(num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = Mine(4), Mine(4)


MINE = f"{__name__}:Mine"
HOLDER = f"{__name__}:Holder"


@pytest.fixture
def own() -> State:
    torch.manual_seed(2)
    network = Mine(4)
    network(torch.randn(8, 3, 8, 8))
    return network.state_dict()


@pytest.mark.parametrize("factory", [MINE, HOLDER])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.", "model.net.", "my.own."])
def test_a_factorys_weights_are_found_under_every_prefix(prefix: str, factory: str, own: State, tmp_path: Path) -> None:
    content = lightning(under(prefix, own) | {"criterion.weight": torch.ones(4), "val_acc.confmat": torch.zeros(4, 4)})
    teacher, said = load(saved(content, tmp_path / "mine.ckpt"), factory=factory)
    assert holds(teacher, under("network." if factory == MINE else "network.net.", own))
    assert teacher.num_classes == 4
    assert "left out criterion, val_acc, which the network does not use" in said


@pytest.mark.parametrize("form", ["half", "double", "no counts", "safetensors", "averaged"])
def test_a_factorys_weights_in_every_form(form: str, own: State, tmp_path: Path) -> None:
    path, network = tmp_path / "mine", Mine(4)
    network.load_state_dict(own)
    counts = dict.fromkeys([name for name in own if name.endswith("num_batches_tracked")], torch.tensor(0))
    expected = own
    if form in ("half", "double"):
        stored = floats_as(own, torch.float16 if form == "half" else torch.float64)
        expected = floats_as(stored, torch.float32)
        saved(stored, path)
    elif form == "no counts":
        expected = own | counts
        saved({name: tensor for name, tensor in own.items() if name not in counts}, path)
    elif form == "safetensors":
        as_safetensors(own, path)
    else:
        saved(averaged(network), path)
    assert holds(load(path, factory=MINE)[0], under("network.", expected))


def test_a_factorys_layers_are_never_dropped_or_taken_from_two_unsaid(own: State, tmp_path: Path) -> None:
    path = saved(under("m.", own) | {"se.weight": torch.ones(2, 2)}, tmp_path / "mine.pt")
    assert refusal(path, factory=MINE).startswith(
        "it has se.weight outside of the network under m: if the network does not use that"
    )
    path = saved(own | {"se.weight": torch.ones(2, 2)}, tmp_path / "mine.pt")
    assert refusal(path, factory=MINE) == f"teacher weights do not fit {MINE}: network.se.weight is not one of its weights"
    path = saved(under("m.", {name: own[name] for name in own if name != "conv.bias"}), tmp_path / "mine.pt")
    assert refusal(path, factory=MINE) == f"teacher weights do not fit {MINE}: network.conv.bias is missing"
    twice = Twice().state_dict()
    path = saved(twice, tmp_path / "mine.pt")
    assert refusal(path, factory=MINE).startswith("holds several networks that fit (student, teacher): select one with weights")
    expected = {name.removeprefix("teacher."): value for name, value in twice.items() if name.startswith("teacher.")}
    assert holds(load(path, factory=MINE, weights="teacher")[0], under("network.", expected))


# Refused by what it is


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore:.*TorchScript.*:Warning")
@pytest.mark.parametrize("kind", kinds_of_nothing())
def test_each_kind_of_file_without_weights_is_told_by_name(kind: str, tmp_path: Path) -> None:
    write, beginning = kinds_of_nothing()[kind]
    write(tmp_path / "file.pt2")
    assert refusal(tmp_path / "file.pt2").startswith(beginning)


def test_an_onnx_model_is_told_as_one(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, producer_name="pytorch"), tmp_path / "model.pt")
    assert refusal(tmp_path / "model.pt").startswith("a protocol buffer, as ONNX and TensorFlow save models")


@pytest.mark.parametrize("name", ["pytorch_model-00001-of-00003.bin", "model-00001-of-00003.safetensors"])
def test_a_shard_is_refused_as_one(name: str, state: State, tmp_path: Path) -> None:
    write = as_safetensors if name.endswith("safetensors") else saved
    assert refusal(write(state, tmp_path / name)).startswith("shard 1 of 3 of a checkpoint")
    whole = name.replace("00003", "00001")
    assert holds(load(write(state, tmp_path / whole))[0], state)


def test_a_folder_is_refused_with_the_file_in_it(state: State, tmp_path: Path) -> None:
    folder = tmp_path / "step-100"
    folder.mkdir()
    assert refusal(folder) == "a folder: name the file in it"
    as_safetensors(state, folder / "model.safetensors")
    assert refusal(folder) == "a folder: name the file in it, e.g. model.safetensors"
    (folder / ".metadata").touch()
    assert refusal(folder).startswith("a torch.distributed.checkpoint folder")
