"""What must hold of `plain.py` whatever the recorded values: methods that coincide for particular parameters, and
gradients that agree with finite differences. `make.py --check` runs it."""

import jax
import numpy as np

import plain

HYPER = {"alpha": 0.6, "beta": 1.0, "reg_weight": 2.0}


def parameters_of(method, weights, numbers):
    width, embedding = weights["visual.proj"].shape
    text, space, rank = weights["text_projection"].shape[0], 6, 2
    if method == "coop":
        shapes = {"ctx": [4, text]}
    else:
        shapes = {"rep_tokens": [3, space], "vision.proj.rep": [width, embedding]}
        shapes |= {"vision.proj.lora_a": [width, rank], "vision.proj.lora_b": [rank, embedding]}
        towers = [("vision", width, "visual.transformer.resblocks."), ("text", text, "transformer.resblocks.")]
        for m, w, prefix in towers:
            shapes[f"{m}.aligner.weight"] = [w, space]
            for i in range(len(plain.representation_layers(weights, prefix, None))):
                shapes |= {f"{m}.aligner.{i}.weight": [w, space], f"{m}.aligner.{i}.bias": [w]}
                shapes |= {f"{m}.aligner.{i}.lora_a": [w, rank], f"{m}.aligner.{i}.lora_b": [rank, space]}
    return {name: numbers(name, shape, 0.2).astype(np.float64) for name, shape in shapes.items()}


def written_context(images, ids, weights):
    """CoOp whose context is the embeddings of "a photo of a" is zero-shot CLIP with the prompts `ids`, which start so."""
    written = {"ctx": weights["token_embedding.weight"][ids[0, 1:5]]}
    names = np.concatenate([ids[:, :1], ids[:, 5:], np.zeros((len(ids), 4), int)], 1)
    ours, theirs = plain.coop(written, images, names, weights, {}), plain.zero_shot({}, images, ids, weights, {})
    return np.abs(ours["logits"] - theirs["logits"]).max()


def shared_aligner(images, ids, weights, numbers):
    """MMRL whose layers share a weight, and whose second projection is CLIP's own, is MMRL++ without residuals, β = 1."""
    given = parameters_of("mmrl", weights, numbers) | {"vision.proj.rep": weights["visual.proj"]}
    for name in given:
        if name.endswith("lora_b"):
            given[name] = 0 * given[name]
        elif name.count(".") == 3 and name.endswith("weight"):
            given[name] = given[f"{name.split('.')[0]}.aligner.weight"]
    logits = lambda method: plain.representation(given, images, ids, weights, {"method": method, "overrides": HYPER})
    mmrl, mmrlpp = logits("mmrl"), logits("mmrlpp")
    return max(np.abs(mmrl[name] - mmrlpp[name]).max() for name in mmrl)


def slope(method, images, ids, weights, numbers):
    """The loss's slope along some direction in the space of all parameters: by JAX, and by a central difference."""
    given = parameters_of(method, weights, numbers)
    direction = {name: numbers(f"direction/{name}", value.shape, 1.0).astype(float) for name, value in given.items()}
    case, labels = {"method": method, "overrides": HYPER | {"beta": 0.3}}, np.arange(len(images)) % len(ids)
    loss = lambda given: plain.METHODS[method][1](given, images, labels, ids, weights, case)[0].sum()
    along = lambda step: loss({name: value + step * direction[name] for name, value in given.items()})
    gradients = jax.grad(loss)(given)
    exact = sum((gradients[name] * direction[name]).sum() for name in given)
    return abs(1 - (along(1e-6) - along(-1e-6)) / 2e-6 / exact)


def hold(weights, images, ids, numbers):
    found = {
        "CoOp with a written context, and zero-shot": (written_context(images, ids, weights), 1e-10),
        "MMRL with one aligner, and MMRL++": (shared_aligner(images, ids, weights, numbers), 1e-10),
    }
    for method in ("coop", "mmrl", "mmrlpp"):
        found[f"{method}'s gradient, and a finite difference"] = slope(method, images, ids, weights, numbers), 1e-5
    for name, (difference, tolerance) in found.items():
        print(f"{name}: difference {difference:.1e}{'' if difference <= tolerance else '  DIFFERS'}", flush=True)
    return all(difference <= tolerance for difference, tolerance in found.values())
