"""Writes golden.json and fewshot.pkl: what CPython's `random` draws, and which images the reference code's few-shot
selection takes of the demo's Caltech-101. Or draws again and compares with golden.json. Needs nothing but Python.

    python make.py            # writes both
    python make.py --check    # compares, exit code 1 on a difference

The selection is the rule of the published code in a few lines of its own: seed Python's generator, group the list by
label in the order of first appearance, `random.sample` per class, train first, then val with at most 4 shots.
fewshot.pkl has the form in which the published code keeps its draw: objects of the class
`dassl.data.datasets.base_dataset.Datum` with absolute paths of the machine that wrote it.
"""

import hashlib
import json
import pathlib
import pickle
import platform
import random
import sys
import types

HERE = pathlib.Path(__file__).parent
SPLIT = HERE.parents[3] / "demo/caltech-101/split_zhou_Caltech101.json"
SEEDS = [0, 1, 2, 3, 42, 2**31, 2**32 - 1, 2**32, 12345678901, 2**63 + 5, 2**64 - 1]
# Both branches of `sample`, and sizes beside the border between them (21, 21 + 16, 21 + 64, 21 + 256).
SAMPLES = [(1, 1), (5, 5), (21, 5), (22, 5), (30, 4), (37, 6), (85, 16), (86, 16), (85, 17), (277, 30), (1300, 16), (10**6, 3)]


def draws(seed):
    generator = random.Random(seed)
    bits = [generator.getrandbits(k) for k in (1, 7, 31, 32, 33, 53, 64)]
    samples = [[n, k, generator.sample(range(n), k)] for n, k in SAMPLES]
    shuffled = list(range(30))
    generator.shuffle(shuffled)
    # A JSON number may lose the last bits of 64 in some readers: text.
    return {"seed": str(seed), "bits": [str(number) for number in bits], "samples": samples, "shuffled": shuffled}


def few_shot(split, shots, seed):
    random.seed(seed)
    drawn = []
    for items, count in ((split["train"], shots), (split["val"], min(shots, 4))):
        classes = {}
        for item in items:
            classes.setdefault(item[1], []).append(item)
        drawn.append([])
        for members in classes.values():
            drawn[-1] += random.sample(members, count) if len(members) >= count else members
    return drawn


def selection(split, shots, seed):
    train, val = few_shot(split, shots, seed)
    text = "".join(f"{path} {label}\n" for path, label, _ in train + val)
    return {"shots": shots, "seed": seed, "train": len(train), "val": len(val), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def write_pickle(split, path):
    module = types.ModuleType("dassl.data.datasets.base_dataset")

    class Datum:
        pass

    Datum.__module__, Datum.__qualname__ = module.__name__, "Datum"
    module.Datum = Datum
    for name in ("dassl", "dassl.data", "dassl.data.datasets"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules[module.__name__] = module
    data = {}
    for name, items in zip(("train", "val"), few_shot(split, 2, 99)):
        data[name] = []
        for image, label, classname in items:
            datum = Datum()
            datum._impath = f"/scratch/someone/data/caltech-101/101_ObjectCategories/{image}"
            datum._label, datum._domain, datum._classname = label, 0, classname
            data[name].append(datum)
    with open(path, "wb") as file:
        pickle.dump(data, file, protocol=pickle.HIGHEST_PROTOCOL)


def main():
    split, path = json.loads(SPLIT.read_text()), HERE / "golden.json"
    golden = {
        "python": platform.python_version(),
        "draws": [draws(seed) for seed in SEEDS],
        "few_shot": [selection(split, shots, seed) for shots in (1, 2, 4, 8, 16) for seed in (1, 2, 3)],
        "pickle": selection(split, 2, 99),
    }
    if "--check" in sys.argv:
        recorded = json.loads(path.read_text())
        keys = sorted((golden.keys() | recorded.keys()) - {"python"})
        different = [key for key in keys if golden.get(key) != recorded.get(key)]
        for key in keys:
            print(f"golden.json: {key}: {'DIFFERS' if key in different else 'the same'}")
        sys.exit(bool(different))
    lines = ",\n".join(f"{json.dumps(key)}: " + (
        "[\n" + ",\n".join(json.dumps(row) for row in value) + "\n]" if isinstance(value, list) else json.dumps(value)
    ) for key, value in golden.items())
    path.write_text(f"{{\n{lines}\n}}\n")
    write_pickle(split, HERE / "fewshot.pkl")


if __name__ == "__main__":
    main()
