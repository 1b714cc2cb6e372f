"""Tiny-ImageNet (Le & Yang 2015; 200 classes, 64 px) from its archive's folder, or with ``val`` sorted into class folders.

Labels are positions in the sorted list of WordNet numbers, as for every published teacher; the archive's ``wnids.txt`` has another
order.
"""

from collections import Counter
from pathlib import Path

from cpsc.data import class_folders
from cpsc.data.dataset import Dataset, Normalisation, Split, check_size
from cpsc.data.decoding import OnFile, Say, nobody_listens, nobody_watches
from cpsc.errors import DataError

NORMALISATION = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""ImageNet's."""
NUM_CLASSES = 200
TRAIN_IMAGES_A_CLASS = 500
VAL_IMAGES_A_CLASS = 50
IMAGE_SIZE = 64
ARCHIVE_FOLDER = "tiny-imagenet-200"
ANNOTATIONS = "val_annotations.txt"


def load(location: str | Path, *, on_file: OnFile = nobody_watches, say: Say = nobody_listens) -> Dataset:
    """Load both parts from the folder or its ``tiny-imagenet-200``; the test part is ``val``, because ``test`` has no labels.

    Raises DataError if files are missing or corrupt. `say` is told how many images of a part are missing. Nothing is downloaded.
    """
    folder = Path(location)
    root = folder if (folder / "train").is_dir() else folder / ARCHIVE_FOLDER
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise DataError(
                f"dataset tiny_imagenet: {folder} holds no {part}/; point dataset.path at the archive's {ARCHIVE_FOLDER}"
            )
    wnids = class_folders.read_class_names(root / "train")
    _check_classes(root, wnids)
    train = class_folders.read_split(root / "train", wnids, exactly=IMAGE_SIZE, on_file=on_file, say=say)
    test = _read_val(root / "val", wnids, on_file, say)
    check_size("tiny_imagenet", "train", len(train), NUM_CLASSES * TRAIN_IMAGES_A_CLASS, say)
    check_size("tiny_imagenet", "val", len(test), NUM_CLASSES * VAL_IMAGES_A_CLASS, say)
    return Dataset(
        name="tiny_imagenet",
        train=train,
        test=test,
        class_names=_class_names(root / "words.txt", wnids),
        normalisation=NORMALISATION,
        crop_padding=4,
        flip=True,
    )


def _check_classes(root: Path, wnids: tuple[str, ...]) -> None:
    """Raise DataError if the training part does not have all classes of the archive."""
    if len(wnids) != NUM_CLASSES:
        raise DataError(
            f"{root / 'train'}: holds {len(wnids)} classes, but Tiny-ImageNet has {NUM_CLASSES}; "
            "unpack it again, or use image_folder"
        )
    listed = root / "wnids.txt"
    if listed.is_file() and (odd := sorted(set(_read_lines(listed)) ^ set(wnids))):
        raise DataError(f"{listed}: does not match train/ ({odd[0]} is in only one of them); unpack the archive again")


def _read_val(val: Path, wnids: tuple[str, ...], on_file: OnFile, say: Say) -> Split:
    annotations = val / ANNOTATIONS
    if not (val / "images").is_dir():
        return class_folders.read_split(val, wnids, exactly=IMAGE_SIZE, on_file=on_file, say=say)
    labels: dict[Path, int] = {}
    places = {wnid: place for place, wnid in enumerate(wnids)}
    for number, line in enumerate(_read_lines(annotations), start=1):
        name, wnid = [*line.split("\t"), ""][:2]
        if wnid not in places or not name or Path(name).name != name:
            raise DataError(f"{annotations}: line {number} must name an image and one of train's classes, got {line[:80]!r}")
        file = val / "images" / name
        if file in labels:
            raise DataError(f"{annotations}: line {number} names {name} again, unpack the archive again")
        labels[file] = places[wnid]
    held = len(class_folders.find_images(val / "images"))
    if held != len(labels) or not labels:
        raise DataError(f"{annotations}: names {len(labels)} images, {val / 'images'} holds {held}; unpack the archive again")
    return class_folders.decode_files(list(labels), list(labels.values()), exactly=IMAGE_SIZE, on_file=on_file, say=say)


def _class_names(words: Path, wnids: tuple[str, ...]) -> tuple[str, ...]:
    """The first English word of each WordNet number, with the number added if it is ambiguous; numbers if there is no list."""
    if not words.is_file():
        return wnids
    listed = dict(line.split("\t", 1) for line in _read_lines(words) if "\t" in line)
    names = [listed.get(wnid, wnid).split(",")[0].strip() for wnid in wnids]
    uses = Counter(names)
    return tuple(name if uses[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True))


def _read_lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text (corrupt or of another kind), unpack the archive again") from error
