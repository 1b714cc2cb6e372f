"""Files that other programs write, each with the library that its users write it with."""

import argparse
import copy
import datetime
import enum
import gzip
import io
import os
import pickle
import tarfile
import uuid
import zipfile
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

State = dict[str, Tensor]


def saved(content: object, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def as_safetensors(state: State, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata={"format": "pt"})
    return path


def floats_as(state: State, dtype: torch.dtype) -> State:
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def lightning(state: State, **extra: Any) -> dict[str, Any]:
    """As Lightning's Trainer saves a module that has the network as an attribute."""
    network = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.zeros(1, 2)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "global_step": 300,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"completed": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_acc'}": {"best_model_score": torch.tensor(0.9), "dirpath": "ckpt"}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "data": PurePosixPath("data")},
    } | extra


def timm(state: State, ema: State) -> dict[str, Any]:
    """As timm's CheckpointSaver writes it."""
    return {
        "epoch": 3,
        "arch": "wide_resnet",
        "state_dict": state,
        "optimizer": torch.optim.SGD([torch.zeros(2, 2)], lr=0.1).state_dict(),
        "version": 2,
        "args": argparse.Namespace(model="wide_resnet"),
        "state_dict_ema": ema,
        "metric": np.float64(95.1),
    }


def averaged(network: nn.Module) -> State:
    """The state of torch's own average over steps, which counts them beside ``module``."""
    average = AveragedModel(network)
    average.update_parameters(network)
    return average.state_dict()


class Note:
    """Of a class that only the program that wrote it has."""

    def __init__(self) -> None:
        self.text = "made by hand"


class Colour(enum.Enum):
    RED = 1


class Settings(dict[str, Any]):
    """A dictionary whose items are attributes too, as many programs have one."""

    def __init__(self, **items: Any) -> None:
        super().__init__(items)
        self.__dict__.update(items)


BESIDE: dict[str, Any] = {
    "a NumPy scalar": np.float64(95.1),
    "a NumPy integer": np.int64(3),
    "an array": np.zeros(3),
    "an array of objects": np.array([Note(), None], dtype=object),
    "a NumPy dtype": np.dtype("f4"),
    "random states": {"numpy": np.random.RandomState(0).get_state(), "torch": torch.get_rng_state()},
    "an OrderedDict": OrderedDict(a=1),
    "a defaultdict": defaultdict(list, losses=[0.1]),
    "a deque": deque([1, 2], maxlen=3),
    "a time": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "a duration": datetime.timedelta(hours=3),
    "a path": Path("runs"),
    "a size": torch.Size([3]),
    "a device": torch.device("cuda:0"),
    "a dtype": torch.float16,
    "an enum": Colour.RED,
    "an object": Note(),
    "arguments": argparse.Namespace(note=Note(), lr=0.1),
    "a dictionary of its own": Settings(lr=0.1, inner=Settings(a=1)),
    "a frozenset": frozenset("ab"),
    "a class": Note,
    "a function": len,
    "a decimal": Decimal("0.1"),
    "an id": uuid.UUID(int=3),
    "a range": range(3),
}


def kinds_of_nothing() -> dict[str, tuple[Callable[[Path], object], str]]:
    """Files without weights that can be read, and how each one's refusal begins."""
    state = {"a.weight": torch.zeros(2, 2)}
    network = nn.Sequential(nn.Linear(2, 2))
    adam = torch.optim.Adam(network.parameters())
    network(torch.zeros(1, 2)).sum().backward()
    adam.step()
    buffer = io.BytesIO()
    torch.save(state, buffer)

    def tar(path: Path) -> None:
        (path.parent / "in.pt").write_bytes(buffer.getvalue())
        with tarfile.open(path, "w") as archive:
            archive.add(path.parent / "in.pt", "in.pt")

    def zipped(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("in.pt", buffer.getvalue())

    def exported(path: Path) -> None:
        torch.export.save(torch.export.export(network, (torch.zeros(1, 2),)), path)

    def arrays(path: Path) -> None:
        with path.open("wb") as handle:
            np.savez(handle, a=np.zeros(3))

    def array(path: Path) -> None:
        with path.open("wb") as handle:
            np.save(handle, np.zeros(3))

    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    page = "\ufeff\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
    return {
        "TorchScript": (
            lambda path: torch.jit.save(torch.jit.trace(network, torch.zeros(1, 2)), path),
            "a TorchScript archive, a program with its weights",
        ),
        "torch.export": (exported, "a program saved by torch.export"),
        "a tar": (tar, "a tar archive: unpack it first"),
        "a zip": (zipped, "a zip archive of 'in.pt', not written by torch.save: unpack it first"),
        "gzip": (lambda path: path.write_bytes(gzip.compress(buffer.getvalue())), "compressed with gzip: unpack it first"),
        "arrays": (arrays, "an archive of NumPy arrays"),
        "an array": (array, "a NumPy array"),
        "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600)), "an HDF5 file, as Keras saves weights"),
        "Git LFS": (lambda path: path.write_text(text), "a Git LFS pointer instead of the file"),
        "a web page": (lambda path: path.write_text(page), "a web page instead of the file that it links to"),
        "an answer": (lambda path: path.write_text("Not Found"), "a text file that begins with 'Not Found'"),
        "an index": (
            lambda path: path.write_text('{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}'),
            "the index of a sharded checkpoint",
        ),
        "nothing": (lambda path: path.write_bytes(b""), "an empty file: copy or download it again"),
        "noise": (
            lambda path: path.write_bytes(np.random.default_rng(0).bytes(2000)),
            "not a readable teacher file (truncated, corrupt or of another kind)",
        ),
        "a pickle": (lambda path: path.write_bytes(pickle.dumps(state)), "a pickle not written by torch.save"),
        "pickle protocol 4": (
            lambda path: saved(state, path, pickle_protocol=4),
            "not a readable teacher file, it was saved with pickle protocol 4: save it again without pickle_protocol",
        ),
        "an optimizer": (lambda path: saved(adam.state_dict(), path), "holds the state of an optimizer but no weights"),
        "an optimizer in a dict": (
            lambda path: saved({"epoch": 3, "optimizer": adam.state_dict()}, path),
            "holds the state of an optimizer (optimizer) but no weights",
        ),
        "arrays in a dict": (
            lambda path: saved({"state_dict": {"a.weight": np.zeros((2, 2))}}, path),
            "holds no tensors: 'a.weight' is a numpy.ndarray",
        ),
        "whole networks": (
            lambda path: saved({"epoch": 3, "model": None, "ema": copy.deepcopy(network)}, path),
            "holds no weights: 'ema' is a whole network, pickled with its class ('torch.nn.modules.container.Sequential')",
        ),
    }


class Planted:
    """Runs a program when it is unpickled."""

    def __init__(self, trace: Path, *, by_name: str) -> None:
        self.trace, self.by_name = trace, by_name

    def __reduce__(self) -> tuple[Any, ...]:
        if self.by_name == "os.system":
            return os.system, (f"touch {self.trace}",)
        return eval, (f"open({str(self.trace)!r}, 'w').close()",)
