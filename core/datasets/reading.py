"""Images in files as people have them: NumPy archives of both conventions, IDX files, folders of pictures.

Each way in gives images to train with, images to judge by where there are some, and the names of the classes. What is
wrong with a file is said in words; nothing of it is executed.
"""

import contextlib
import gzip
import io
import lzma
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.datasets import DataError, Dataset, kept
from core.datasets.splitting import Labelled, divided, own_scaling

SIDES, LENGTHS, CLASSES = (8, 96), (8, 4_096), (2, 256)
"""From and to: pixels of a side, of a signal (an image of height 1), classes."""

BYTES = 2 * 2**30
"""Of all images, at most."""

PIXELS = 64_000_000
"""Of a picture that is made smaller, at most."""

CONVENTIONS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("images", "labels", "test_images", "test_labels"),
    ("x", "y", "x_test", "y_test"),
)
"""Names of arrays in an archive: Keras, MedMNIST, and those of one set that is still to be divided."""

NAMES = ("classes", "class_names", "label_names")
"""Under which an archive may say what its classes are called."""

MEANS = {"accuracy", "macro avg", "weighted avg"}
"""What a classification report calls its other rows."""

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
TESTED = ("test", "val", "valid", "validation")
"""Folders whose pictures are not trained with."""

PARTS = {"train", "training", *TESTED}
"""Folders that say what pictures are for, and not what they show."""


class Brought(NamedTuple):
    """test : None where there is none yet; classes : names"""

    training: Labelled
    test: Labelled | None
    classes: tuple[str, ...]


def read(path: Path, size: int | None = None) -> Brought:
    """A `.npz` file, a `.zip` file of a folder, a folder of IDX files or of pictures in folders of their classes.

    size : pictures are cut to their middle square and made so wide and high; needed where they differ
    Raises DataError.
    """
    try:
        if path.is_dir():
            return _folder({str(each.relative_to(path).as_posix()): each.read_bytes for each in _files(path)}, size)
        if not path.is_file():
            raise DataError(f"There is no file or folder {path}.")
        return from_bytes(path.name, path.read_bytes(), size)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read ({error.strerror or error}).") from None


def from_bytes(name: str, content: bytes, size: int | None = None) -> Brought:
    """The same of a file that was dropped on a page. Raises DataError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [each for each in archive.infolist() if not each.is_dir() and _is_meant(each.filename)]
            if (whole := sum(each.file_size for each in members)) > BYTES:
                raise DataError(f"{name} must hold at most {BYTES:,} bytes. It holds {whole:,}.")
            if members and all(each.filename.endswith(".npy") for each in members):
                _check_no_size(size)
                with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                    return _arrays({key: arrays[key] for key in arrays.files})
            return _folder({_name(each): lambda each=each: archive.read(each) for each in members}, size)  # type: ignore[misc]
    except (
        zipfile.BadZipFile, ValueError, EOFError, zlib.error, lzma.LZMAError, KeyError, NotImplementedError,
        RuntimeError, OSError, MemoryError,
    ) as error:  # fmt: skip
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{name} must be a .npz file of plain arrays, or a .zip file of pictures in folders of their classes "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})."
        ) from None


def _check_no_size(size: int | None) -> None:
    if size is not None:
        raise DataError("--size is of pictures. Arrays stay as they are: make them of one size yourself.")


def _name(member: zipfile.ZipInfo) -> str:
    """Of a file in an archive. Where its flag does not say UTF-8, zipfile reads code page 437; Info-ZIP writes UTF-8
    without the flag."""
    if not member.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            return member.filename.encode("cp437").decode("utf-8")
    return member.filename


def _files(folder: Path, inside: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Also those in linked folders, but for a link to a folder that it lies in. Raises OSError.

    inside : the folders around this one
    """
    inside |= {folder.resolve()}
    for path in sorted(path for path in folder.iterdir() if _is_meant(path.name)):
        kind = path.stat().st_mode  # says what cannot be looked at, where is_dir() and is_file() answer no
        if stat.S_ISREG(kind):
            yield path
        elif stat.S_ISDIR(kind) and path.resolve() not in inside:
            yield from _files(path, inside)


def _is_meant(name: str) -> bool:
    """Whether a file is one that a person put there: no hidden one, none that a Mac adds to an archive."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


# Arrays


def _arrays(held: Mapping[str, NDArray[Any]]) -> Brought:
    names = next((names for names in CONVENTIONS if names[0] in held and names[1] in held), None)
    if names is None:
        wanted = "; ".join(f"{first}, {second}" for first, second, *_ in CONVENTIONS)
        raise DataError(f"The file must hold images and labels, named as one of: {wanted}. It holds {', '.join(held)}.")
    training = _labelled(names[0], held[names[0]], names[1], held[names[1]])
    for images, labels in (("val_images", "val_labels"), ("x_val", "y_val")):  # divided anew, by one rule for all
        if images in held and labels in held:
            more = _labelled(images, held[images], labels, held[labels])
            training = _together(training, more)
    test = None
    if names[2] in held and names[3] in held:
        test = _labelled(names[2], held[names[2]], names[3], held[names[3]])
    count = 1 + max(int(part.labels.max()) for part in (training, test) if part is not None)
    said = next((held[key] for key in NAMES if key in held), np.arange(count))
    return _checked(Brought(training, test, tuple(map(str, said.tolist()))))


def _together(first: Labelled, second: Labelled) -> Labelled:
    if first.images.shape[1:] != second.images.shape[1:]:
        shapes = first.images.shape[1:], second.images.shape[1:]
        raise DataError(f"All images must have one shape. Got {shapes[0]} and {shapes[1]}.")
    return Labelled(np.concatenate([first.images, second.images]), np.concatenate([first.labels, second.labels]))


def _labelled(name: str, images: NDArray[Any], label_name: str, labels: NDArray[Any]) -> Labelled:
    """(n, h, w), (n, h, w, c), (n, c, h, w), or signals (n, length); labels as numbers or one-hot."""
    pixels = _channels_first(name, _whole(name, images))
    if labels.ndim == 2 and labels.shape[1] > 1:
        if not np.array_equal(labels.sum(1), np.ones(len(labels))):
            raise DataError(
                f"{label_name} must say one class for each image. Got {labels.shape} with other sums than 1."
            )
        labels = labels.argmax(1)
    labels = labels.reshape(-1)
    if labels.dtype.kind not in "iub" and not (labels.dtype.kind == "f" and np.array_equal(labels, labels.round())):
        raise DataError(f"{label_name} must be whole numbers. Got {labels.dtype} instead.")
    if len(labels) != len(pixels) or not len(labels):
        raise DataError(f"{name} and {label_name} must hold as many. Got {len(pixels):,} and {len(labels):,}.")
    if not 0 <= labels.min() <= labels.max() < CLASSES[1]:
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"{label_name} must be in 0..{CLASSES[1] - 1}. Got {worst} instead.")
    return Labelled(pixels, labels.astype(np.int64))


def _whole(name: str, images: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels as bytes: numbers in [0, 1] are whole 255ths."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind in "iu" and images.size and images.min() >= 0 and images.max() <= 255:
        return images.astype(np.uint8)
    if images.dtype.kind == "f" and np.isfinite(images).all() and images.size and images.min() >= 0:
        scaled = images * (255.0 if images.max() <= 1 else 1.0)
        if scaled.max() <= 255 and np.abs(scaled - scaled.round()).max() < 0.01:
            return scaled.round().astype(np.uint8)
    raise DataError(
        f"{name} must hold pixels of 8 bits, uint8 in 0..255. Got {images.dtype} that are none. Save them before they "
        "are normalized: np.clip(x, 0, 255).astype('uint8')."
    )


def _channels_first(name: str, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if images.ndim == 2:
        return images[:, None, None, :]
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        return images.transpose(0, 3, 1, 2)
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    raise DataError(
        f"{name} must be (n, height, width), or with 1 or 3 channels (n, height, width, c) or (n, c, height, width). "
        f"Got shape {images.shape} instead."
    )


def _checked(brought: Brought) -> Brought:
    """Raises DataError where sizes, classes or labels are none that can be worked with."""
    parts = [part for part in (brought.training, brought.test) if part is not None]
    for first, second in pairwise(parts):
        if first.images.shape[1:] != second.images.shape[1:]:
            shapes = first.images.shape[1:], second.images.shape[1:]
            raise DataError(
                f"Images to train with and to judge by must have one shape. Got {shapes[0]} and {shapes[1]}."
            )
    _, height, width = brought.training.images.shape[1:]
    across, down = (LENGTHS, (1, 1)) if height == 1 else (SIDES, SIDES)
    if not (across[0] <= width <= across[1] and down[0] <= height <= down[1]):
        raise DataError(
            f"Images must be {SIDES[0]} to {SIDES[1]} pixels wide and high, or signals of height 1 and {LENGTHS[0]} to "
            f"{LENGTHS[1]:,} numbers. Got {height} x {width} instead."
        )
    if not CLASSES[0] <= len(brought.classes) <= CLASSES[1]:
        raise DataError(f"There must be {CLASSES[0]} to {CLASSES[1]} classes. Got {len(brought.classes)} instead.")
    if broken := [name for name in brought.classes if {"Cc", "Cs"} & set(map(unicodedata.category, name))]:
        raise DataError(f"The name of a class must be text, in UTF-8 and of one line. Got {broken[0]!r} instead.")
    names = set(brought.classes)
    if len(names) < len(brought.classes) or names & MEANS:
        raise DataError(
            f"Each class must have a name of its own, and none of {', '.join(sorted(MEANS))}. Got "
            f"{', '.join(brought.classes)}."
        )
    highest = max(int(part.labels.max()) for part in parts)
    if highest >= len(brought.classes):
        raise DataError(f"Labels must be below {len(brought.classes)}, the number of classes. Got {highest} instead.")
    return brought


# Files in a folder


def _folder(files: Mapping[str, Callable[[], bytes]], size: int | None) -> Brought:
    """files : path in it -> what reads it"""
    idx = {name.removesuffix(".gz"): (name, read) for name, read in files.items() if "-ubyte" in name}
    if idx:
        _check_no_size(size)
        return _idx_folder({place: _idx(name, read()) for place, (name, read) in idx.items()})
    pictures = {name: read for name, read in files.items() if name.lower().endswith(PICTURES)}
    if not pictures:
        raise DataError(
            "The folder must hold IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte, ...), or pictures in "
            "folders of their classes (CLASS/picture.png, or train/CLASS/.. and test/CLASS/..). It holds neither."
        )
    _check_none_passed_over(pictures, files)
    return _pictures(pictures, size)


def _check_none_passed_over(pictures: Iterable[str], files: Iterable[str]) -> None:
    """A folder beside those of the classes is one, too. Raises DataError where it has files and no picture."""
    beside = {PurePosixPath(name).parent.parent for name in pictures}
    holding, others = (
        {folder for name in names for folder in PurePosixPath(name).parents} for names in (pictures, files)
    )
    if missed := sorted(str(folder) for folder in others - holding if folder.parent in beside):
        raise DataError(
            f"Each folder of a class must hold pictures that can be read ({', '.join(PICTURES)}). None of the files in "
            f"{', '.join(missed)} is one: save them as PNG, or take the folder out."
        )


def _idx_folder(arrays: Mapping[str, NDArray[np.uint8]]) -> Brought:
    found, names = dict[str, NDArray[np.uint8]](), dict[str, str]()
    for name, array in arrays.items():
        own = PurePosixPath(name).name
        slot = f"{'test' if 't10k' in own or 'test' in own else 'train'}_{'images' if array.ndim > 1 else 'labels'}"
        if slot in found:
            raise DataError(f"Give one data set at a time: {names[slot]} and {name} both hold its {slot}.")
        found[slot], names[slot] = array, name
    if missing := sorted({"train_images", "train_labels"} - set(found)):
        raise DataError(f"The folder must hold {' and '.join(missing)} as IDX files. It holds {', '.join(arrays)}.")
    return _arrays(found)


def _idx(name: str, content: bytes) -> NDArray[np.uint8]:
    """Two zero bytes, 8 for uint8, the number of dimensions; these, 4 bytes each, big-endian; the values."""
    try:
        if name.endswith(".gz"):
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(BYTES + 1)
        if len(content) > BYTES:
            raise ValueError(f"it holds more than {BYTES:,} bytes")
        if content[:3] != b"\0\0\x08":
            raise ValueError("it does not begin as one of uint8 does")
        dimensions = [int.from_bytes(content[4 + 4 * place :][:4], "big") for place in range(content[3])]
        start = 4 + 4 * len(dimensions)
        return np.frombuffer(content, np.uint8, offset=start).reshape(dimensions)
    except (ValueError, OSError, EOFError, zlib.error, IndexError) as error:
        raise DataError(f"{name} is no IDX file that can be read ({error}).") from None


def _pictures(files: Mapping[str, Callable[[], bytes]], size: int | None) -> Brought:
    """train/CLASS/NAME and test/CLASS/NAME, or CLASS/NAME."""
    found: dict[str, list[tuple[str, NDArray[np.uint8]]]] = {"train": [], "test": []}
    most, taken = SIDES[1] ** 2 if size is None else PIXELS, 0
    _check_classes({PurePosixPath(name).parts[:-1]: name for name in files})
    for name, read in files.items():
        parents = PurePosixPath(name).parts[:-1]
        if not parents:
            raise DataError(f"{name} must lie in a folder of its class.")
        judged = any(part.lower() in TESTED for part in parents[:-1])
        picture = picture_of(name, read(), size, most=most)
        if (taken := taken + picture.nbytes) > BYTES:
            raise DataError(f"All pictures together must take at most {BYTES:,} bytes. Bring fewer, or a smaller size.")
        label = unicodedata.normalize("NFC", parents[-1])  # a Mac writes an accent after its letter
        found["test" if judged else "train"].append((label, picture))
    classes = tuple(sorted({label for part in found.values() for label, _ in part}))
    shapes = {picture.shape for part in found.values() for _, picture in part}
    if len({shape[1:] for shape in shapes}) > 1:
        some = " and ".join(f"{height} x {width}" for _, height, width in sorted(shapes)[:2])
        raise DataError(f"The pictures have several sizes, {some} for two. Say one for all: --size 32.")
    if len(shapes) > 1:  # grey ones among colours
        found = {
            part: [(label, np.broadcast_to(x, (3, *x.shape[1:]))) for label, x in own] for part, own in found.items()
        }
    parts = {
        part: Labelled(np.stack([x for _, x in own]), np.array([classes.index(label) for label, _ in own], np.int64))
        for part, own in found.items() if own
    }  # fmt: skip
    if "train" not in parts:
        raise DataError("The folder must hold pictures to train with. It holds some to judge by alone.")
    return _checked(Brought(parts["train"], parts.get("test"), classes))


def _check_classes(folders: Mapping[tuple[str, ...], str]) -> None:
    """A class may be called "train", where it stands beside others, or in a folder of pictures to train with. Raises
    DataError where it is surely none. folders : a picture in each"""
    beside = {parents[:-1] for parents in folders}
    classes = {parents[-1].lower() for parents in folders if parents}
    for parents, name in folders.items():
        said = {part.lower() for part in parents[:-1]} & PARTS
        if parents and parents[-1].lower() in PARTS and not said and (len(beside) > 1 or classes <= PARTS):
            raise DataError(
                f"{name} must lie in a folder of its class, {parents[-1]}/CLASS/..: {parents[-1]} says what "
                "pictures are for. Those without a class cannot be used: take them out."
            )


def picture_of(
    name: str, content: bytes, size: int | None, grey: bool | None = None, most: int = PIXELS
) -> NDArray[np.uint8]:
    """A picture, uint8 (c, h, w), turned as its camera says.

    grey : whether it is to be; None as it is; most : pixels, which are counted before they take memory
    Raises DataError.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > most:
                way_out = ", or say one size for all pictures: --size 32." if most < PIXELS else "."
                raise DataError(
                    f"{name} must have at most {most:,} pixels. It has {opened.height:,} x {opened.width:,}: make it "
                    f"smaller{way_out}"
                )
            picture = ImageOps.exif_transpose(opened)
            grey = picture.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "F") if grey is None else grey
            picture = _without_transparency(_of_bytes(name, picture))
            picture = picture.convert("L" if grey else "RGB")
            picture = picture if size is None else ImageOps.fit(picture, (size, size))
            pixels = np.asarray(picture, dtype=np.uint8)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is no picture that can be read ({error}).") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _of_bytes(name: str, picture: Any) -> Any:
    """The same with 8 bits a pixel. Raises DataError where it has more, which Pillow would clip."""
    from PIL import Image

    if picture.mode[:1] not in "IF":
        return picture
    values = np.asarray(picture)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 255:
        raise DataError(
            f"{name} must have 8 bits a pixel. It has numbers from {values.min():g} to {values.max():g}: save it as 8 "
            "bits, Image.fromarray((255.0 * x / x.max()).astype('uint8')), all pictures by the same largest number."
        )
    return Image.fromarray(values.astype(np.uint8))


def _without_transparency(picture: Any) -> Any:
    """What is transparent lies on white."""
    from PIL import Image

    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture
    whole = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)


# Keeping it


def add(brought: Brought, name: str, folder: Path, title: str | None = None) -> Dataset:
    """Divide what was brought, and keep it under this name. Raises DataError, OSError."""
    from core.datasets import shipped

    if name in shipped():
        raise DataError(f"name must be another one: {name!r} is {shipped()[name].title}, which is known already.")
    mixed = np.random.default_rng(0).permutation(
        len(brought.training.labels)
    )  # who brings folders brings class by class
    training = Labelled(brought.training.images[mixed], brought.training.labels[mixed])
    parts = divided(training, brought.test, brought.classes)
    scaling = own_scaling(parts["train"].images)
    return kept.write(folder, name, title or name, brought.classes, scaling, parts)
