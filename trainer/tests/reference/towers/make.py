"""Recomputes the recorded replays with `plain.py` and writes them, or compares them with the recorded ones.

    python make.py golden            # writes golden/<case>.safetensors
    python make.py --check golden    # compares, exit code 1 on a difference

A case's weights, initial parameters and images are numbers of a fixed rule (`numbers`), so that only results are recorded. The test
trainer/tests/integration/towers.rs has the same rule and the same cases (cases.json).
"""

import json
import pathlib
import struct
import sys

import numpy as np

import plain

HERE = pathlib.Path(__file__).parent
MINIATURE = HERE.parents[3] / "demo/clip-mini.safetensors"
DTYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64}
TOLERANCE = 1e-6


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


def made_inputs(case, weights):
    """Initial parameters, three batches of four images, five images to evaluate, by the rule."""
    hyper = case["overrides"]
    inputs = {"eval/images": ([5], 2.0)}
    width, _, patch, _ = weights["visual.conv1.weight"].shape
    size = patch * round((weights["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    if case["method"] != "zero_shot":
        embedding = weights["visual.proj"].shape[1]
        space, rank, proj_rank = hyper["rep_dim"], hyper["res_lora_dim"], hyper["proj_lora_dim"]
        inputs["init/rep_tokens"] = ([hyper["n_rep_tokens"], space], 0.5)
        for m, prefix, w in [
            ("vision", "visual.transformer.resblocks.", width),
            ("text", "transformer.resblocks.", weights["text_projection"].shape[0]),
        ]:
            inputs[f"init/{m}.aligner.weight"] = ([w, space], 0.2)
            for i in range(len(plain.representation_layers(weights, prefix, hyper.get("rep_layers")))):
                inputs[f"init/{m}.aligner.{i}.lora_a"] = ([w, rank], 0.2)
                inputs[f"init/{m}.aligner.{i}.lora_b"] = ([rank, space], 0.2)
                inputs[f"init/{m}.aligner.{i}.bias"] = ([w], 0.2)
        inputs["init/vision.proj.lora_a"] = ([width, proj_rank], 0.2)
        inputs["init/vision.proj.lora_b"] = ([proj_rank, embedding], 0.2)
        for i in range(3):
            inputs[f"batch/{i}/images"] = ([4], 2.0)
    for name, (shape, scale) in inputs.items():
        shape = [*shape, 3, size, size] if name.endswith("images") else shape
        inputs[name] = numbers(name, shape, scale)
    for i in range(3 if case["method"] != "zero_shot" else 0):
        inputs[f"batch/{i}/labels"] = np.array([(i + j) % len(case["classnames"]) for j in range(4)])
    return inputs


def compute(case):
    stored = read_safetensors(MINIATURE) if case["weights"] == "miniature" else made_weights(case["weights"])
    inputs = made_inputs(case, stored)
    exact = lambda tensors: {
        name: tensor if tensor.dtype == np.int64 else tensor.astype(np.float64) for name, tensor in tensors.items()
    }
    ids = np.array([row + [0] * (77 - len(row)) for row in case["tokens"]])
    results = plain.replay(case, exact(stored), exact(inputs), ids)
    return {name: np.asarray(value) for name, value in results.items()}


def main():
    check, folder = "--check" in sys.argv, pathlib.Path(sys.argv[-1])
    same = True
    for name, case in json.loads((HERE / "cases.json").read_text()).items():
        results, path = compute(case), folder / f"{name}.safetensors"
        if not check:
            write_safetensors(path, results)
            print(f"{path.name}: {len(results)} tensors")
            continue
        recorded = read_safetensors(path)
        worst = max(
            np.abs(results[key] - recorded[key]).max() / max(np.abs(recorded[key]).max(), 1e-30)
            if key in recorded else np.inf
            for key in results
        )
        fits = worst <= TOLERANCE and results.keys() == recorded.keys()
        same &= fits
        print(f"{path.name}: {len(results)} tensors, largest relative difference {worst:.1e}{'' if fits else '  DIFFERS'}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
