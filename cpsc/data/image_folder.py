"""Any labelled images in folders: ``train/<class>/*`` and ``test/<class>/*`` or ``val/<class>/*``."""

from pathlib import Path

from cpsc.data import class_folders
from cpsc.data.dataset import TEST_PARTS, Dataset, Normalisation, of_any_images
from cpsc.data.decoding import OnFile, nobody_watches
from cpsc.errors import DataError


def load(
    location: str | Path,
    *,
    image_size: int | None = None,
    normalisation: Normalisation | None = None,
    flip: bool = True,
    on_file: OnFile = nobody_watches,
) -> Dataset:
    """Both parts; classes are the sorted names of the folders in ``train``. The test part is the first of `TEST_PARTS` there.

    Images of several sizes need an `image_size`: see `decode_images`. A `normalisation` of None is measured on the training
    part. Raises DataError where a part is missing or an image cannot be read. Nothing is downloaded.
    """
    folder = Path(location)
    test_folder = next((folder / part for part in TEST_PARTS if (folder / part).is_dir()), None)
    if not (folder / "train").is_dir() or test_folder is None:
        raise DataError(
            f"dataset image_folder: {folder} must hold train/ and {'/ or '.join(TEST_PARTS[:2])}/, each with a folder a class"
        )
    classes = class_folders.read_class_names(folder / "train")
    train, test = (
        class_folders.read_split(part, classes, resize_to=image_size, on_file=on_file) for part in (folder / "train", test_folder)
    )
    return of_any_images("image_folder", train, test, classes, normalisation, flip=flip)
