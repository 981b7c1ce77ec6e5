"""CLIP's towers, the methods that prompt them, their losses and optimisers, in the plain order of the formulas: both
towers in full, all 77 positions, nothing cached, nothing fused, 64-bit floats, gradients by JAX. Some functions are
compiled (`jax.jit`), each once for a shape, only because that is faster than compiling their operations one by one.

Written from the published descriptions, not from the trainer's code: CLIP (Radford et al. 2021), CoOp (Zhou et al.,
IJCV 2022), MMRL (Guo and Gu, CVPR 2025), MMRL++ (IJCV 2026), AlignedNorm (Ma et al., ICML 2026), AdamW (Loshchilov and
Hutter 2019). Tensors are dictionaries by CLIP's original names; parameters have the names of a replay's file.
"""

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

HEAD = 64


@jax.jit
def layer_norm(x, weight, bias):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * weight + bias


def attention(x, weights, mask):
    sequences, length, width = x.shape
    projected = x @ weights["attn.in_proj_weight"].T + weights["attn.in_proj_bias"]
    heads = lambda part: part.reshape(sequences, length, width // HEAD, HEAD).transpose(0, 2, 1, 3)
    query, key, value = map(heads, jnp.split(projected, 3, -1))
    scores = query @ key.transpose(0, 1, 3, 2) / HEAD**0.5
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    mixed = jax.nn.softmax(scores, -1) @ value
    mixed = mixed.transpose(0, 2, 1, 3).reshape(sequences, length, width)
    return mixed @ weights["attn.out_proj.weight"].T + weights["attn.out_proj.bias"]


@jax.jit
def block(x, weights, mask=None):
    x = x + attention(layer_norm(x, weights["ln_1.weight"], weights["ln_1.bias"]), weights, mask)
    hidden = layer_norm(x, weights["ln_2.weight"], weights["ln_2.bias"])
    hidden = hidden @ weights["mlp.c_fc.weight"].T + weights["mlp.c_fc.bias"]
    hidden = hidden / (1 + jnp.exp(-1.702 * hidden))
    return x + hidden @ weights["mlp.c_proj.weight"].T + weights["mlp.c_proj.bias"]


@jax.jit
def inserted(x, token):
    token = jnp.broadcast_to(token, (x.shape[0], *token.shape))
    return jnp.concatenate([x[:, :1], token, x[:, 1:]], 1)


@jax.jit
def replaced(x, token, beta):
    """`token` in place of what the previous layer left in the slots, or mixed with that where there is a `beta`."""
    end = 1 + token.shape[0]
    token = jnp.broadcast_to(token, (x.shape[0], *token.shape))
    if beta is not None:
        token = beta * token + (1 - beta) * x[:, 1:end]
    return jnp.concatenate([x[:, :1], token, x[:, end:]], 1)


def depth(weights, prefix):
    return 1 + max(int(name[len(prefix):].split(".")[0]) for name in weights if name.startswith(prefix))


def tower(x, weights, prefix, mask_of, layers=(), tokens=(), beta=None):
    """All layers; `tokens[i]` [K, W] go in before layer `layers[i]` (numbered from 1), the first as new positions.
    Returns the last layer's output and what each of `layers` put out."""
    seen = []
    for layer in range(1, depth(weights, prefix) + 1):
        if layer in layers:
            token = tokens[layers.index(layer)]
            x = inserted(x, token) if layer == layers[0] else replaced(x, token, beta)
        mine = f"{prefix}{layer - 1}."
        own = {name.removeprefix(mine): tensor for name, tensor in weights.items() if name.startswith(mine)}
        x = block(x, own, mask_of(x.shape[1]))
        if layer in layers:
            seen.append(x)
    return x, seen


def image_tower(images, weights, layers=(), tokens=(), beta=None):
    """The last layer's output after ln_post, and the representation layers' outputs."""
    kernel = weights["visual.conv1.weight"]
    width, _, patch, _ = kernel.shape
    batch, channels, size, _ = images.shape
    grid = size // patch
    patches = images.reshape(batch, channels, grid, patch, grid, patch).transpose(0, 2, 4, 1, 3, 5)
    x = patches.reshape(batch, grid * grid, -1) @ kernel.reshape(width, -1).T
    first = jnp.broadcast_to(weights["visual.class_embedding"], (batch, 1, width))
    x = jnp.concatenate([first, x], 1) + weights["visual.positional_embedding"]
    x = layer_norm(x, weights["visual.ln_pre.weight"], weights["visual.ln_pre.bias"])
    x, seen = tower(x, weights, "visual.transformer.resblocks.", lambda _: None, layers, tokens, beta)
    return layer_norm(x, weights["visual.ln_post.weight"], weights["visual.ln_post.bias"]), seen


def embedded(ids, weights):
    """`ids` [C, 77]; their embeddings [C, 77, W], and where the end token, the highest id, stands [C]."""
    return weights["token_embedding.weight"][ids], ids.argmax(-1)


def text_features(words, ends, weights, layers=(), tokens=(), beta=None):
    """`words` [C, 77, W], before the positions are added; the feature is read at `ends` [C] of them."""
    x = words + weights["positional_embedding"]
    causal = lambda length: np.tril(np.ones((length, length), bool))
    x, _ = tower(x, weights, "transformer.resblocks.", causal, layers, tokens, beta)
    ends = ends + (tokens[0].shape[0] if layers else 0)
    x = layer_norm(x, weights["ln_final.weight"], weights["ln_final.bias"])
    return x[np.arange(len(ends)), ends] @ weights["text_projection"]


@jax.jit
def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def frozen_features(images, ids, weights):
    image = image_tower(images, weights)[0][:, 0] @ weights["visual.proj"]
    return unit(image), unit(text_features(*embedded(ids, weights), weights))


def zero_shot(parameters, images, ids, weights, case):
    image, texts = frozen_features(images, ids, weights)
    return {"logits": 100 * image @ texts.T}


def coop(parameters, images, ids, weights, case):
    """CoOp with one context for all classes and the class name at the end: `ids` [C, 77] are the names with a dot, and
    the context's vectors stand between the start token and the name."""
    words, ends = embedded(ids, weights)
    context = parameters["ctx"]
    contexts = jnp.broadcast_to(context, (len(ids), *context.shape))
    prompts = jnp.concatenate([words[:, :1], contexts, words[:, 1:]], 1)[:, : ids.shape[1]]
    image = image_tower(images, weights)[0][:, 0] @ weights["visual.proj"]
    texts = unit(text_features(prompts, ends + context.shape[0], weights))
    return {"logits": 100 * unit(image) @ texts.T}


def representation_layers(weights, prefix, given):
    if given is not None:
        return list(given)
    count = depth(weights, prefix)
    return list(range(count - -(-7 * count // 12) + 1, count + 1))


def space_token(parameters, m, i, method):
    """The space tokens through the aligner of tower m's i-th representation layer: MMRL has a weight for each layer,
    the others one for all layers and a residual of low rank for each."""
    if method == "mmrl":
        weight = parameters[f"{m}.aligner.{i}.weight"]
    else:
        residual = parameters[f"{m}.aligner.{i}.lora_a"] @ parameters[f"{m}.aligner.{i}.lora_b"]
        weight = parameters[f"{m}.aligner.weight"] + residual
    return parameters["rep_tokens"] @ weight.T + parameters[f"{m}.aligner.{i}.bias"]


def rep_projection(parameters, weights, method):
    if method == "mmrl":
        return parameters["vision.proj.rep"]
    return weights["visual.proj"] + parameters["vision.proj.lora_a"] @ parameters["vision.proj.lora_b"]


def represent(parameters, images, ids, weights, case):
    """Representation tokens in both towers. Returns the class and the representation feature, the texts' unit features,
    and of the vision tower's representation layers the class token and the representation tokens."""
    method, hyper = case["method"], case["overrides"]
    beta = None if method == "mmrl" else hyper["beta"]
    slots = {}
    for m, prefix in [("vision", "visual.transformer.resblocks."), ("text", "transformer.resblocks.")]:
        layers = representation_layers(weights, prefix, hyper.get("rep_layers"))
        slots[m] = layers, [space_token(parameters, m, i, method) for i in range(len(layers))], beta
    count = parameters["rep_tokens"].shape[0]
    normed, seen = image_tower(images, weights, *slots["vision"])
    class_feature = normed[:, 0] @ weights["visual.proj"]
    rep_feature = normed[:, 1 : 1 + count].mean(1) @ rep_projection(parameters, weights, method)
    texts = unit(text_features(*embedded(ids, weights), weights, *slots["text"]))
    return class_feature, rep_feature, texts, [x[:, : 1 + count] for x in seen]


def both_logits(class_feature, rep_feature, texts):
    return {"logits": 100 * unit(class_feature) @ texts.T, "logits_rep": 100 * unit(rep_feature) @ texts.T}


def representation(parameters, images, ids, weights, case):
    class_feature, rep_feature, texts, _ = represent(parameters, images, ids, weights, case)
    return both_logits(class_feature, rep_feature, texts)


@jax.jit
def cross_entropy(logits, labels):
    return -jax.nn.log_softmax(logits, -1)[np.arange(len(labels)), labels].mean()


def coop_loss(parameters, images, labels, ids, weights, case):
    """The terms of the loss [7], and the logits."""
    logits = coop(parameters, images, ids, weights, case)
    return jnp.stack([cross_entropy(logits["logits"], labels)] + 6 * [0.0]), logits


def representation_loss(parameters, images, labels, ids, weights, case):
    """The terms of the loss [7], and the logits. Only AlignedNorm has the two terms of norms."""
    class_feature, rep_feature, texts, seen = represent(parameters, images, ids, weights, case)
    logits = both_logits(class_feature, rep_feature, texts)
    frozen_image, frozen_texts = frozen_features(images, ids, weights)
    cosine = lambda a, b: (a * b).sum(-1).mean()
    length = lambda x: jnp.linalg.norm(x, axis=-1)
    stop = jax.lax.stop_gradient
    hyper = case["overrides"]
    alpha, weight = hyper["alpha"], hyper["reg_weight"]
    final = seq = 0.0
    if case["method"] == "alignednorm":
        final = hyper["final_norm"] * jnp.abs(length(rep_feature) - stop(length(class_feature))).mean()
        gaps = [jnp.abs(length(x[:, 1:]).mean(0) - stop(length(x[:, 0]).mean())) for x in seen]
        seq = hyper["seq_norm"] * jnp.stack(gaps).mean()
    terms = jnp.stack([
        alpha * cross_entropy(logits["logits"], labels),
        (1 - alpha) * cross_entropy(logits["logits_rep"], labels),
        weight * (1 - cosine(unit(class_feature), frozen_image)),
        weight * (1 - cosine(texts, frozen_texts)),
        final,
        seq,
        0.0,
    ])
    return terms, logits


@jax.jit
def adamw(parameters, gradients, state, step, lr, weight_decay):
    """One step, counted from 1, with the defaults of torch.optim.AdamW. Returns the new parameters and state."""
    new, kept, beta1, beta2, epsilon = {}, {}, 0.9, 0.999, 1e-8
    for name, value in parameters.items():
        gradient = gradients[name]
        mean, square = state.get(name, (0.0, 0.0))
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        kept[name] = (mean, square)
        value = value * (1 - lr * weight_decay)
        corrected = mean / (1 - beta1**step), square / (1 - beta2**step)
        new[name] = value - lr * corrected[0] / (jnp.sqrt(corrected[1]) + epsilon)
    return new, kept


def sgd(parameters, gradients, state, step, lr, weight_decay):
    """One step as torch.optim.SGD does it with momentum 0.9: decay added to the gradient, no dampening, not Nesterov's.
    Returns the new parameters and state."""
    new, kept = {}, {}
    for name, value in parameters.items():
        gradient = gradients[name] + weight_decay * value
        kept[name] = 0.9 * state[name] + gradient if step > 1 else gradient
        new[name] = value - lr * kept[name]
    return new, kept


# What gives the logits, what gives the loss, and who takes the step.
METHODS = {
    "zero_shot": (zero_shot, None, None),
    "coop": (coop, coop_loss, sgd),
    "mmrl": (representation, representation_loss, adamw),
    "mmrlpp": (representation, representation_loss, adamw),
    "alignednorm": (representation, representation_loss, adamw),
}


def replay(case, weights, inputs, ids):
    """The results of a replay as interfaces.md describes it, as a dictionary of arrays."""
    logits_of, terms_of, step = METHODS[case["method"]]
    parameters = {name.removeprefix("init/"): value for name, value in inputs.items() if name.startswith("init/")}
    results, state = {}, {}

    def loss(parameters, images, labels):
        terms, logits = terms_of(parameters, images, labels, ids, weights, case)
        return terms.sum(), (terms, logits)

    for i in range(len([name for name in inputs if name.endswith("/labels")])):
        batch = inputs[f"batch/{i}/images"], inputs[f"batch/{i}/labels"]
        (total, (terms, logits)), gradients = jax.value_and_grad(loss, has_aux=True)(parameters, *batch)
        results |= {f"loss/{i}": total, f"loss_terms/{i}": terms}
        results |= {f"{name}/{i}": value for name, value in logits.items()}
        parameters, state = step(parameters, gradients, state, i + 1, case["lr"], case["weight_decay"])
    results |= {f"param/{name}": value for name, value in parameters.items()}
    logits = logits_of(parameters, inputs["eval/images"], ids, weights, case)
    fused = logits["logits"]
    if "logits_rep" in logits:
        alpha = case["overrides"]["alpha"]
        fused = alpha * fused + (1 - alpha) * logits["logits_rep"]
    return results | {f"eval/{name}": value for name, value in logits.items()} | {"eval/fused": fused}
