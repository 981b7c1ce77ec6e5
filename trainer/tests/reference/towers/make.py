"""Recomputes the recorded replays with `plain.py` and writes them, or compares them with the recorded ones.

    pip install --requirement requirements.txt
    python make.py golden                        # writes golden/<case>.safetensors
    python make.py --check golden                # compares, exit code 1 on a difference
    python make.py --check --only vit_b16 golden # only the cases whose names start so; --only may be repeated

`--check` also holds `plain.py` against identities between the methods and against finite differences (identities.py).

A case's weights, initial parameters and images are numbers of a fixed rule (`numbers`), so that only results are
recorded; of a large parameter only some numbers, and its shape (`recorded`). A case has 3 batches of 4 images and
evaluates 5, unless it says otherwise (`batches`, `batch`, `eval`). The test trainer/tests/integration/towers.rs has the
same rules and the same cases (cases.json).
"""

import argparse
import functools
import json
import os
import pathlib
import struct
import sys

# Read by JAX. Compiling takes longer than computing: as little optimisation as there is.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax.numpy as jnp
import numpy as np

import identities
import plain

HERE = pathlib.Path(__file__).parent
MINIATURE = HERE.parents[3] / "demo/clip-mini.safetensors"
DTYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64}
TOLERANCE = 1e-6
# A parameter of more than WHOLE numbers is recorded as every STRIDE-th of them.
WHOLE, STRIDE = 16384, 61


def read_safetensors(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[start:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    header, blobs, offset = {}, [], 0
    for name, tensor in sorted(tensors.items()):
        blob = np.ascontiguousarray(tensor, np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(np.shape(tensor)), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def numbers(name, shape, scale, offset=0.0):
    """float32 numbers from offset − scale to offset + scale: SplitMix64 (Steele, Lea and Flood 2014) from the name's FNV-1a hash."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    uniform = (z >> np.uint64(11)).astype(np.float64) / 2.0**53
    return (offset + scale * (2 * uniform - 1)).astype(np.float32).reshape(shape)


def made_weights(sizes):
    """A CLIP of these sizes, by the rule."""
    width, text = sizes["vision_width"], sizes["text_width"]
    patches = (sizes["image_size"] // sizes["patch"]) ** 2
    shapes = {
        "visual.conv1.weight": [width, 3, sizes["patch"], sizes["patch"]],
        "visual.class_embedding": [width],
        "visual.positional_embedding": [1 + patches, width],
        "visual.ln_pre.weight": [width],
        "visual.ln_pre.bias": [width],
        "visual.ln_post.weight": [width],
        "visual.ln_post.bias": [width],
        "visual.proj": [width, sizes["embedding"]],
        "token_embedding.weight": [49408, text],
        "positional_embedding": [77, text],
        "ln_final.weight": [text],
        "ln_final.bias": [text],
        "text_projection": [text, sizes["embedding"]],
    }
    for prefix, layers, w in [("visual.", sizes["vision_layers"], width), ("", sizes["text_layers"], text)]:
        for layer in range(layers):
            block = f"{prefix}transformer.resblocks.{layer}"
            for part in ("ln_1", "ln_2"):
                shapes[f"{block}.{part}.weight"] = shapes[f"{block}.{part}.bias"] = [w]
            shapes[f"{block}.attn.in_proj_weight"] = [3 * w, w]
            shapes[f"{block}.attn.in_proj_bias"] = [3 * w]
            shapes[f"{block}.attn.out_proj.weight"] = [w, w]
            shapes[f"{block}.attn.out_proj.bias"] = [w]
            shapes[f"{block}.mlp.c_fc.weight"] = [4 * w, w]
            shapes[f"{block}.mlp.c_fc.bias"] = [4 * w]
            shapes[f"{block}.mlp.c_proj.weight"] = [w, 4 * w]
            shapes[f"{block}.mlp.c_proj.bias"] = [w]
    # Norms around 1, so that activations keep their size; everything else around 0.
    is_norm = lambda name: ".ln_" in f".{name}" and name.endswith("weight")
    return {name: numbers(name, shape, 0.1, float(is_norm(name))) for name, shape in shapes.items()}


@functools.lru_cache(maxsize=1)
def weights_of(description):
    """What a case's `weights`, as JSON, stand for, in 64 bits. The last ones are kept for the next case."""
    sizes = json.loads(description)
    stored = read_safetensors(MINIATURE) if sizes == "miniature" else made_weights(sizes)
    return {name: jnp.asarray(tensor, float) for name, tensor in stored.items()}


def parameter_shapes(case, weights):
    hyper, width, text = case["overrides"], weights["visual.proj"].shape[0], weights["text_projection"].shape[0]
    if case["method"] == "zero_shot":
        return {}
    if case["method"] == "coop":
        return {"ctx": [hyper["n_ctx"], text]}
    space, embedding = hyper["rep_dim"], weights["visual.proj"].shape[1]
    shapes = {"rep_tokens": [hyper["n_rep_tokens"], space]}
    for m, prefix, w in [("vision", "visual.transformer.resblocks.", width), ("text", "transformer.resblocks.", text)]:
        layers = range(len(plain.representation_layers(weights, prefix, hyper.get("rep_layers"))))
        shapes |= {f"{m}.aligner.{i}.bias": [w] for i in layers}
        if case["method"] == "mmrl":
            shapes |= {f"{m}.aligner.{i}.weight": [w, space] for i in layers}
        else:
            shapes[f"{m}.aligner.weight"] = [w, space]
            shapes |= {f"{m}.aligner.{i}.lora_a": [w, hyper["res_lora_dim"]] for i in layers}
            shapes |= {f"{m}.aligner.{i}.lora_b": [hyper["res_lora_dim"], space] for i in layers}
    if case["method"] == "mmrl":
        return shapes | {"vision.proj.rep": [width, embedding]}
    rank = hyper["proj_lora_dim"]
    return shapes | {"vision.proj.lora_a": [width, rank], "vision.proj.lora_b": [rank, embedding]}


def made_inputs(case, weights):
    """Initial parameters, the batches and the images to evaluate, by the rule."""
    width, _, patch, _ = weights["visual.conv1.weight"].shape
    size = patch * round((weights["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    images = lambda name, count: {name: numbers(name, [count, 3, size, size], 2.0).astype(np.float64)}
    inputs = images("eval/images", case.get("eval", 5))
    for name, shape in parameter_shapes(case, weights).items():
        scale = 0.5 if name == "rep_tokens" else 0.2
        inputs[f"init/{name}"] = numbers(f"init/{name}", shape, scale).astype(np.float64)
    count = case.get("batch", 4)
    for i in range(case.get("batches", 3) if case["method"] != "zero_shot" else 0):
        inputs |= images(f"batch/{i}/images", count)
        inputs[f"batch/{i}/labels"] = np.array([(i + j) % len(case["classnames"]) for j in range(count)])
    return inputs


def prompts_of(case):
    return np.array([row + [0] * (77 - len(row)) for row in case["tokens"]])


def recorded(results):
    """A large `param/x` as every STRIDE-th of its numbers in row-major order, and beside it `shape/x`."""
    record = {}
    for name, value in results.items():
        value = np.asarray(value)
        if name.startswith("param/") and value.size > WHOLE:
            record[name.replace("param/", "shape/", 1)] = np.array(value.shape, float)
            value = value.reshape(-1)[::STRIDE]
        record[name] = value
    return record


def compute(case):
    weights = weights_of(json.dumps(case["weights"]))
    return recorded(plain.replay(case, weights, made_inputs(case, weights), prompts_of(case)))


def difference(ours, theirs):
    """max |a − b| / max |b|."""
    if theirs is None or ours.shape != theirs.shape:
        return np.inf
    return np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", action="append", metavar="PREFIX")
    options = parser.parse_args()
    cases, same = json.loads((HERE / "cases.json").read_text()), True
    chosen = {name: case for name, case in cases.items() if name.startswith(tuple(options.only or [""]))}
    if not chosen:
        parser.error(f"no case's name starts with {' or '.join(options.only)}")
    if options.check:
        case = cases["miniature-zero_shot"]
        weights = weights_of(json.dumps(case["weights"]))
        same = identities.hold(weights, made_inputs(case, weights)["eval/images"][:2], prompts_of(case), numbers)
    for name, case in chosen.items():
        results, path = compute(case), options.folder / f"{name}.safetensors"
        if not options.check:
            write_safetensors(path, results)
            print(f"{path.name}: {len(results)} tensors", flush=True)
            continue
        golden = read_safetensors(path)
        worst = np.max([difference(value, golden.get(key)) for key, value in results.items()])
        fits = worst <= TOLERANCE and results.keys() == golden.keys()
        same &= fits
        verdict = f"largest relative difference {worst:.1e}{'' if fits else '  DIFFERS'}"
        print(f"{path.name}: {len(results)} tensors, {verdict}", flush=True)
    sys.exit(not same)


if __name__ == "__main__":
    main()
