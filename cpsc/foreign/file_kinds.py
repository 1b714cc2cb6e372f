"""Recognises files that hold no readable weights by their first bytes: wrong files are more common than broken ones."""

import pickle
import re
import zipfile
from pathlib import Path

_FIRST_BYTES = 512
ZIP = b"PK\x03\x04"
LEGACY_MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19"
"""Magic number of torch.save before 1.6, in the form that it has in a pickle of any protocol."""
_LEGACY_BEGINS = 32
_PICKLE = b"\x80"
_TENSORFLOW_INDEX = bytes.fromhex("57fb808b247547db")
_TAR_AT, _TAR = 257, b"ustar"
_MAX_SAFETENSORS_HEADER = 100_000_000
_SHARD = re.compile(r"-([0-9]{5})-of-([0-9]{5})\.")
_TENSORFLOW_DATA = re.compile(r"\.data-[0-9]{5}-of-[0-9]{5}$")
_SAVE = "load it with the program that made it and torch.save the state_dict() of its network"
_BY_FIRST_BYTES = {
    b"\x89HDF\r\n\x1a\n": f"an HDF5 file, as Keras saves weights: {_SAVE}",
    b"\x93NUMPY": "a NumPy array: torch.save a dict of tensors by the names of the network's state_dict()",
    b"GGUF": "a GGUF file, which holds quantised weights of a language model: use those that it was made from",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"BZh": "compressed with bzip2: unpack it first",
    b"\xfd7zXZ\x00": "compressed with xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstandard: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"version https://git-lfs.github.com": "a Git LFS pointer instead of the file: fetch the file with git lfs pull",
}
_BY_FIRST_WORDS = {
    b"<!doctype html": "a web page instead of the file that it links to: download the file itself",
    b"<html": "a web page instead of the file that it links to: download the file itself",
    b"<?xml": "an XML document, which servers send if a file does not exist: download the file itself",
    b"model_checkpoint_path": f"the list of a TensorFlow checkpoint: {_SAVE}",
}


def told_kind(path: Path) -> str | None:
    """What `path` is and what to do, if it certainly holds no readable weights; else None. OSError if it cannot be read."""
    if path.is_dir():
        return _told_folder(path)
    with path.open("rb") as handle:
        first = handle.read(_FIRST_BYTES)
        size = handle.seek(0, 2)
        handle.seek(max(0, size - len(_TENSORFLOW_INDEX)))
        last = handle.read()
    if not first:
        return "an empty file: copy or download it again"
    if (shard := _SHARD.search(path.name)) and int(shard[2]) > 1:
        which = f"shard {int(shard[1])} of {int(shard[2])} of a checkpoint"
        return f"{which}: load all shards with the program that saved them and save one state_dict()"
    if _TENSORFLOW_DATA.search(path.name) or last == _TENSORFLOW_INDEX:
        return f"a part of a TensorFlow checkpoint: {_SAVE}"
    if first.startswith(ZIP):
        return _told_archive(path)
    return _told_by_bytes(first)


def is_safetensors(path: Path) -> bool:
    """Whether it begins like a safetensors file: with the length of a header, then the header, which is JSON."""
    with path.open("rb") as handle:
        length, brace = int.from_bytes(handle.read(8), "little"), handle.read(1)
    return brace == b"{" and 2 <= length <= _MAX_SAFETENSORS_HEADER


def pickle_protocol(path: Path) -> int:
    """Pickle protocol of a file that torch.save wrote (by default 2); 0 if it is not stated."""
    with path.open("rb") as handle:
        first = handle.read(len(ZIP))
    if first == ZIP:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            first = archive.read(name)[:2]
    return first[1] if first[:1] == _PICKLE and first[1] <= pickle.HIGHEST_PROTOCOL else 0


def _told_folder(path: Path) -> str:
    names = {entry.name for entry in path.iterdir()}
    if ".metadata" in names:
        return "a torch.distributed.checkpoint folder: convert it to one file (torch.distributed.checkpoint.format_utils)"
    if "saved_model.pb" in names:
        return f"a TensorFlow SavedModel folder: {_SAVE}"
    likely = sorted(name for name in names if name.endswith((".pt", ".pth", ".ckpt", ".bin", ".safetensors")))
    return f"a folder: name the file in it{f', e.g. {likely[0]}' if likely else ''}"


def _told_archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return None  # truncated or damaged; reading it will report that
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or "model.json" in inner:
        return "a TorchScript archive, a program with its weights: torch.save the state_dict() of torch.jit.load(...)"
    if any(name.endswith(("serialized_exported_program.json", "archive_format")) for name in names):
        return "a program saved by torch.export: torch.save the state_dict of torch.export.load(...)"
    if "model.weights.h5" in names:
        return f"a Keras model: {_SAVE}"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays: torch.save a dict of tensors by the names of the network's state_dict()"
    if "data.pkl" not in inner:
        shown = ", ".join(repr(name)[:60] for name in names[:3]) or "nothing"
        return f"a zip archive of {shown}{', ...' if len(names) > 3 else ''}, not written by torch.save: unpack it first"
    return None


def _told_by_bytes(first: bytes) -> str | None:
    if found := next((told for start, told in _BY_FIRST_BYTES.items() if first.startswith(start)), None):
        return found
    words = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if found := next((told for start, told in _BY_FIRST_WORDS.items() if words.startswith(start)), None):
        return found
    if first[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return "a tar archive: unpack it first"
    if first[:1] == _PICKLE and LEGACY_MAGIC not in first[:_LEGACY_BEGINS]:
        return "a pickle not written by torch.save: load it with the program that saved it and torch.save the state_dict()"
    # Models in protocol buffers begin with field 1, a small version number, followed by another field.
    if first[:1] == b"\x08" and first[1] < 0x20 and first[2:3] in b"\x12\x1a\x22\x28\x32\x3a\x42":
        return f"a protocol buffer, as ONNX and TensorFlow save models: {_SAVE}"
    return _told_text(first)


def _told_text(first: bytes) -> str | None:
    try:
        text = first.decode("utf-8", errors="strict" if len(first) < _FIRST_BYTES else "ignore")
    except UnicodeDecodeError:
        return None
    if not all(char.isprintable() or char.isspace() for char in text):
        return None
    if '"weight_map"' in text or text.lstrip().startswith('{"metadata"'):
        return "the index of a sharded checkpoint: load all shards with the program that saved them and save one state_dict()"
    return f"a text file that begins with {' '.join(text.split())[:40]!r}: name the file with the weights"
