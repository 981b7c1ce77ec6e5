"""CLIP's towers, the representation tokens of AlignedNorm and MMRL++, their losses and AdamW, in the plain order of the formulas:
both towers in full, all 77 positions, nothing cached, nothing fused, 64-bit floats, gradients by JAX.

Written from the published descriptions (CLIP: Radford et al. 2021; MMRL++; AlignedNorm; AdamW: Loshchilov and Hutter 2019), not
from the trainer's code. Tensors are dictionaries by CLIP's original names.
"""

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

HEAD = 64


def layer_norm(x, weights, name):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * weights[name + ".weight"] + weights[name + ".bias"]


def attention(x, weights, name, mask):
    sequences, length, width = x.shape
    projected = x @ weights[name + ".in_proj_weight"].T + weights[name + ".in_proj_bias"]
    query, key, value = (
        part.reshape(sequences, length, width // HEAD, HEAD).transpose(0, 2, 1, 3) for part in jnp.split(projected, 3, -1)
    )
    scores = query @ key.transpose(0, 1, 3, 2) / HEAD**0.5
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    mixed = jax.nn.softmax(scores, -1) @ value
    mixed = mixed.transpose(0, 2, 1, 3).reshape(sequences, length, width)
    return mixed @ weights[name + ".out_proj.weight"].T + weights[name + ".out_proj.bias"]


def block(x, weights, name, mask=None):
    x = x + attention(layer_norm(x, weights, name + ".ln_1"), weights, name + ".attn", mask)
    hidden = layer_norm(x, weights, name + ".ln_2") @ weights[name + ".mlp.c_fc.weight"].T + weights[name + ".mlp.c_fc.bias"]
    hidden = hidden / (1 + jnp.exp(-1.702 * hidden))
    return x + hidden @ weights[name + ".mlp.c_proj.weight"].T + weights[name + ".mlp.c_proj.bias"]


def depth(weights, prefix):
    return 1 + max(int(name[len(prefix):].split(".")[0]) for name in weights if name.startswith(prefix))


def tower(x, weights, prefix, mask_of, layers=(), tokens=(), beta=None):
    """All layers; `tokens[i]` [K, W] go in before layer `layers[i]` (numbered from 1). Returns the last layer's output and what
    each of `layers` put out."""
    seen = []
    for layer in range(1, depth(weights, prefix) + 1):
        if layer in layers:
            token = jnp.broadcast_to(tokens[layers.index(layer)], (x.shape[0], *tokens[0].shape))
            if layer == layers[0]:
                x = jnp.concatenate([x[:, :1], token, x[:, 1:]], 1)
            else:
                count = token.shape[1]
                mixed = beta * token + (1 - beta) * x[:, 1 : 1 + count]
                x = jnp.concatenate([x[:, :1], mixed, x[:, 1 + count :]], 1)
        x = block(x, weights, f"{prefix}{layer - 1}", mask_of(x.shape[1]))
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
    x = layer_norm(x, weights, "visual.ln_pre")
    x, seen = tower(x, weights, "visual.transformer.resblocks.", lambda _: None, layers, tokens, beta)
    return layer_norm(x, weights, "visual.ln_post"), seen


def text_features(ids, weights, layers=(), tokens=(), beta=None):
    """`ids` [C, 77]; the feature is read at the highest id."""
    x = weights["token_embedding.weight"][ids] + weights["positional_embedding"]
    x, _ = tower(x, weights, "transformer.resblocks.", lambda n: np.tril(np.ones((n, n), bool)), layers, tokens, beta)
    ends = ids.argmax(-1) + (tokens[0].shape[0] if layers else 0)
    x = layer_norm(x, weights, "ln_final")
    return x[np.arange(len(ids)), ends] @ weights["text_projection"]


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def zero_shot_logits(images, ids, weights):
    image = image_tower(images, weights)[0][:, 0] @ weights["visual.proj"]
    return 100 * unit(image) @ unit(text_features(ids, weights)).T


def representation_layers(weights, prefix, given):
    if given is not None:
        return list(given)
    count = depth(weights, prefix)
    return list(range(count - -(-7 * count // 12) + 1, count + 1))


def tokens_of(parameters, m, layers):
    space = parameters["rep_tokens"]
    return [
        space @ (parameters[f"{m}.aligner.weight"] + parameters[f"{m}.aligner.{i}.lora_a"] @ parameters[f"{m}.aligner.{i}.lora_b"]).T
        + parameters[f"{m}.aligner.{i}.bias"]
        for i in range(len(layers))
    ]


def forward(parameters, images, ids, weights, hyper):
    """Both kinds of logits, and what the loss needs besides them."""
    vision_layers = representation_layers(weights, "visual.transformer.resblocks.", hyper.get("rep_layers"))
    text_layers = representation_layers(weights, "transformer.resblocks.", hyper.get("rep_layers"))
    vision_tokens = tokens_of(parameters, "vision", vision_layers)
    text_tokens = tokens_of(parameters, "text", text_layers)
    count = parameters["rep_tokens"].shape[0]
    normed, seen = image_tower(images, weights, vision_layers, vision_tokens, hyper["beta"])
    class_feature = normed[:, 0] @ weights["visual.proj"]
    projection = weights["visual.proj"] + parameters["vision.proj.lora_a"] @ parameters["vision.proj.lora_b"]
    rep_feature = normed[:, 1 : 1 + count].mean(1) @ projection
    texts = unit(text_features(ids, weights, text_layers, text_tokens, hyper["beta"]))
    logits = 100 * unit(class_feature) @ texts.T
    logits_rep = 100 * unit(rep_feature) @ texts.T
    return logits, logits_rep, class_feature, rep_feature, texts, [x[:, : 1 + count] for x in seen]


def cross_entropy(logits, labels):
    return -jax.nn.log_softmax(logits, -1)[np.arange(len(labels)), labels].mean()


def loss(parameters, images, labels, ids, weights, hyper, norms):
    logits, logits_rep, class_feature, rep_feature, texts, seen = forward(parameters, images, ids, weights, hyper)
    frozen_image = unit(image_tower(images, weights)[0][:, 0] @ weights["visual.proj"])
    frozen_texts = unit(text_features(ids, weights))
    cosine = lambda a, b: (a * b).sum(-1).mean()
    length = lambda x: jnp.linalg.norm(x, axis=-1)
    stop = jax.lax.stop_gradient
    alpha, weight = hyper["alpha"], hyper["reg_weight"]
    final = seq = 0.0
    if norms:
        final = hyper["final_norm"] * jnp.abs(length(rep_feature) - stop(length(class_feature))).mean()
        gaps = [jnp.abs(length(x[:, 1:]).mean(0) - stop(length(x[:, 0]).mean())) for x in seen]
        seq = hyper["seq_norm"] * jnp.stack(gaps).mean()
    terms = jnp.stack([
        alpha * cross_entropy(logits, labels),
        (1 - alpha) * cross_entropy(logits_rep, labels),
        weight * (1 - cosine(unit(class_feature), frozen_image)),
        weight * (1 - cosine(texts, frozen_texts)),
        final,
        seq,
        0.0,
    ])
    return terms.sum(), (terms, logits, logits_rep)


def adamw(parameters, gradients, state, step, lr, weight_decay):
    """One step, counted from 1, with the defaults of torch.optim.AdamW."""
    new, beta1, beta2, epsilon = {}, 0.9, 0.999, 1e-8
    for name, value in parameters.items():
        gradient = gradients[name]
        mean, square = state.get(name, (0.0, 0.0))
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        state[name] = (mean, square)
        value = value * (1 - lr * weight_decay)
        corrected = mean / (1 - beta1**step), square / (1 - beta2**step)
        new[name] = value - lr * corrected[0] / (jnp.sqrt(corrected[1]) + epsilon)
    return new


def replay(case, weights, inputs, ids):
    """The results of a replay as interfaces.md describes it, as a dictionary of arrays."""
    method, hyper, results = case["method"], case["overrides"], {}
    batches = range(len([name for name in inputs if name.endswith("/labels")]))
    if method == "zero_shot":
        results["eval/logits"] = results["eval/fused"] = zero_shot_logits(inputs["eval/images"], ids, weights)
        return results
    parameters = {name.removeprefix("init/"): value for name, value in inputs.items() if name.startswith("init/")}
    loss_of = lambda p, x, y, w: loss(p, x, y, ids, w, hyper, method == "alignednorm")
    gradient = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
    state = {}
    for i in batches:
        (total, aux), gradients = gradient(
            parameters, inputs[f"batch/{i}/images"], inputs[f"batch/{i}/labels"], weights
        )
        results[f"loss/{i}"] = total
        results[f"loss_terms/{i}"], results[f"logits/{i}"], results[f"logits_rep/{i}"] = aux
        parameters = adamw(parameters, gradients, state, i + 1, case["lr"], case["weight_decay"])
    results |= {f"param/{name}": value for name, value in parameters.items()}
    logits, logits_rep, *_ = forward(parameters, inputs["eval/images"], ids, weights, hyper)
    results |= {"eval/logits": logits, "eval/logits_rep": logits_rep}
    results["eval/fused"] = hyper["alpha"] * logits + (1 - hyper["alpha"]) * logits_rep
    return results
