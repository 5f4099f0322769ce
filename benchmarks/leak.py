#!/usr/bin/env python3
"""How much of a result lies outside its object, where only the object's masks are known.

    paintover propagate FOLDER/car-shadow/frames -k 8=car_red_8.png -o 'red/%05d.png'
    python benchmarks/leak.py FOLDER/car-shadow red

Per frame, and on the mean: `leak`, the share of the changed pixels that lie more than 3 pixels outside the mask, and
`covered`, the share of the mask that is changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

GROWN = np.ones((7, 7), np.uint8)  # 3 pixels on each side


def main() -> None:
    """Prints a line a frame."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequence", type=Path, help="a folder with frames/ and masks/, as DAVIS has them")
    parser.add_argument("result", type=Path, help="a folder with as many pictures")
    given = parser.parse_args()
    folders = (given.sequence / "frames", given.sequence / "masks", given.result)
    shares = []
    for number, paths in enumerate(zip(*(sorted(folder.glob("*.[jp][pn]g")) for folder in folders), strict=True)):
        plate, mask, result = (cv2.imread(str(path)) for path in paths)
        changed, inside = (plate != result).any(-1), mask.any(-1)
        near = cv2.dilate(inside.astype(np.uint8), GROWN) > 0
        leak = (changed & ~near).sum() / max(1, changed.sum())
        shares.append((float(leak), float(changed[inside].mean())))
        print(f"{number:5d}  leak {shares[-1][0]:.3f}  covered {shares[-1][1]:.2f}")
    leak, covered = np.mean(shares, 0)
    print(f" mean  leak {leak:.3f}  covered {covered:.2f}; leak of 6 to 26 {np.mean(shares[6:27], 0)[0]:.3f}")


if __name__ == "__main__":
    main()
