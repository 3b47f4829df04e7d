"""The run folders in tests/data, as each released version wrote them, and the radiographs they are about.

For a new version, in a checkout of it: `python tests/released_runs.py tests/data/run-VERSION`.
"""

import os
import shutil
import struct
import sys
from pathlib import Path

import numpy as np

SIDE = 16
COUNTS = {"train": 48, "val": 24, "test": 24}
CLASSES = ("NORMAL", "PNEUMONIA")
HOME = "/data/radiographs"  # where the radiographs lay, as the run folders have it
FINISHED = "compact-cnn-e28e7038"  # the name that the run gave itself: a hash of settings and data
INTERRUPTED = "interrupted"


def draw_radiographs(folder):
    """Write noise, with a bright spot where it is PNEUMONIA: the same bytes on any machine, no encoder."""
    rng = np.random.default_rng(1)
    for hundred, (split, count) in enumerate(COUNTS.items()):
        for number in range(count):
            label = number % 2
            pixels = rng.integers(60, 120, (SIDE, SIDE)).astype(np.uint8)
            row, column = rng.integers(1, SIDE - 7, 2)
            pixels[row : row + 6, column : column + 6] += np.uint8(30 * label)
            kind = "bacteria" if number % 8 < 4 else "virus"
            patient = 100 * hundred + number // 4
            name = f"person{patient}_{kind}_{number}.bmp" if label else f"IM-{patient:04}-{number:04}.bmp"
            path = Path(folder, split, CLASSES[label], name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_bitmap(pixels))


def _bitmap(pixels):
    height, width = pixels.shape
    palette = b"".join(bytes((level, level, level, 0)) for level in range(256))
    start = 14 + 40 + len(palette)
    header = struct.pack("<2sIHHI", b"BM", start + pixels.size, 0, 0, start)
    header += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 0, pixels.size, 2835, 2835, 256, 0)
    return header + palette + pixels[::-1].tobytes()


def searched(radiographs, **options):
    """Tune the smallest network there is on these radiographs; the same call finds a run again."""
    import pneumokeras as pk

    hypermodel = pk.CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1), width=(2, 4, 2), depth=(1, 2))
    splits = pk.load_splits(radiographs, keep_val=True)
    options = {"epochs": 3} | options
    return pk.tune(hypermodel, splits, max_trials=2, batch_size=16, seed=3, **options)


def _pull_the_plug(progress):
    if progress.trial == 2:
        raise KeyboardInterrupt


def _write(target):
    """Write a finished run, its report.json, and a run that was killed in its second trial."""
    import pneumokeras as pk

    scratch = target / "scratch"
    radiographs = scratch / "radiographs"
    draw_radiographs(radiographs)
    target = target.absolute()
    os.chdir(scratch)
    finished = searched(radiographs).run
    pk.report_run(finished, out="report", images=False)
    shutil.move(finished, target / finished.name)
    shutil.copy("report/report.json", target / "report.json")
    try:
        searched(radiographs, run=target / INTERRUPTED, progress=_pull_the_plug)
    except KeyboardInterrupt:
        os.chdir(target)
        shutil.rmtree(scratch.name)
    for file in target.rglob("*"):
        if file.suffix in (".json", ".csv"):
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(str(radiographs.absolute()), HOME), encoding="utf-8")


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
