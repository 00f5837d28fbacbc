"""Runs the packed network, with NumPy alone.

python predict.py                checks that the images of sample.npz get the predictions that were promised
python predict.py IMAGES.npy     prints the class of each image: uint8, of the size that the network was made for,
                                 (n, height, width) where it is grey, else (n, height, width, channels)
"""

import sys
from pathlib import Path

import loader
import numpy as np

HERE = Path(__file__).resolve().parent


def main(arguments):
    network = loader.load(HERE / "network.packed")
    classes = network.header["classes"]
    if hasattr(sys.stdout, "reconfigure"):  # names of classes may have letters that a terminal lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    if arguments:
        images = np.load(arguments[0])
        channels, height, width = network.header["network"]["shape"]
        size = (height, width) if channels == 1 else (height, width, channels)
        if images.dtype != np.uint8 or images.shape[1:] not in (size, (channels, height, width)):
            wanted = ", ".join(map(str, ("n", *size)))
            print(f"The images must be uint8 ({wanted}). Got {images.dtype} {images.shape} instead.", file=sys.stderr)
            return 2
        for index, scores in enumerate(network.logits(images)):
            print(index, classes[scores.argmax()])
        return 0
    sample = np.load(HERE / "sample.npz")
    found = network.logits(sample["images"]).argmax(1)
    for index, (own, label) in enumerate(zip(found[:10], sample["labels"])):  # noqa: B905
        print(f"image {index}: {classes[own]} (it is: {classes[label]})")
    same = int((found == sample["predictions"]).sum())
    print(f"{same} of {len(found)} images of the sample are predicted as promised.")
    return 0 if same == len(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
