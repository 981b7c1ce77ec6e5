"""AlignedNorm in plain PyTorch: the order of operations of the formulas, both towers in full, all 77 positions, every image
through both towers at every step, nothing cached but the frozen tower's features of the prompts, as the published code has
it. Operations are PyTorch's own fused ones where it has them (attention, layer norm, AdamW).

    python plain_trainer.py JOB WEIGHTS INPUT THREADS

JOB is that of a replay with all of AlignedNorm's values under "overrides", and the prompts' token ids under "tokens"; INPUT
holds initial parameters, batches and images as a replay's does. Prints one line of JSON.
"""

import json
import os
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

HEAD = 64


def cpu_seconds():
    """What all threads have run until now."""
    total = 0
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/schedstat") as stat:
            total += int(stat.read().split()[0])
    return total / 1e9


def peak_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


class Clip:
    """The frozen towers."""

    def __init__(self, weights):
        self.weights = {name: tensor.float() for name, tensor in weights.items()}

    def __getitem__(self, name):
        return self.weights[name]

    def depth(self, tower):
        prefix = f"{tower}transformer.resblocks."
        return 1 + max(int(name[len(prefix) :].split(".")[0]) for name in self.weights if name.startswith(prefix))

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self[f"{name}.weight"], self[f"{name}.bias"], 1e-5)

    def block(self, x, name, causal):
        """The block's output, and what its attention adds."""
        sequences, length, width = x.shape
        projected = F.linear(
            self.norm(x, f"{name}.ln_1"), self[f"{name}.attn.in_proj_weight"], self[f"{name}.attn.in_proj_bias"]
        )
        query, key, value = projected.view(sequences, length, 3, width // HEAD, HEAD).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        mixed = mixed.transpose(1, 2).reshape(sequences, length, width)
        attention = F.linear(mixed, self[f"{name}.attn.out_proj.weight"], self[f"{name}.attn.out_proj.bias"])
        x = x + attention
        hidden = F.linear(
            self.norm(x, f"{name}.ln_2"), self[f"{name}.mlp.c_fc.weight"], self[f"{name}.mlp.c_fc.bias"]
        )
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        return x + F.linear(hidden, self[f"{name}.mlp.c_proj.weight"], self[f"{name}.mlp.c_proj.bias"]), attention

    def tower(self, x, tower, causal, first=None, tokens=(), beta=None):
        """The last layer's output, and of each layer from `first` on its output and its attention's."""
        seen = []
        for layer in range(self.depth(tower)):
            if first is not None and layer >= first:
                token = tokens[layer - first].expand(x.shape[0], -1, -1)
                count = token.shape[1]
                if layer == first:
                    x = torch.cat([x[:, :1], token, x[:, 1:]], 1)
                else:
                    mixed = beta * token + (1 - beta) * x[:, 1 : 1 + count]
                    x = torch.cat([x[:, :1], mixed, x[:, 1 + count :]], 1)
            x, attention = self.block(x, f"{tower}transformer.resblocks.{layer}", causal)
            if first is not None and layer >= first:
                seen.append((x, attention))
        return x, seen

    def images(self, images, *prompted):
        patch = self["visual.conv1.weight"].shape[-1]
        x = F.conv2d(images, self["visual.conv1.weight"], stride=patch).flatten(2).transpose(1, 2)
        first = self["visual.class_embedding"].expand(x.shape[0], 1, -1)
        x = self.norm(torch.cat([first, x], 1) + self["visual.positional_embedding"], "visual.ln_pre")
        x, seen = self.tower(x, "visual.", False, *prompted)
        return self.norm(x, "visual.ln_post"), seen

    def texts(self, tokens, *prompted):
        x = self["token_embedding.weight"][tokens] + self["positional_embedding"]
        x, _ = self.tower(x, "", True, *prompted)
        ends = tokens.argmax(-1) + (prompted[1][0].shape[0] if prompted else 0)
        x = self.norm(x, "ln_final")
        return x[torch.arange(len(ends)), ends] @ self["text_projection"]


class AlignedNorm(torch.nn.Module):
    def __init__(self, clip, parameters, tokens, hyper):
        super().__init__()
        self.clip, self.tokens, self.hyper = clip, tokens, hyper
        self.named = {name: torch.nn.Parameter(value) for name, value in parameters.items()}
        for name, value in self.named.items():
            self.register_parameter(name.replace(".", "_"), value)
        with torch.no_grad():
            self.frozen_texts = F.normalize(clip.texts(tokens), dim=-1)

    def prompted(self, tower, prefix):
        depth = self.clip.depth(prefix)
        first = depth - -(-7 * depth // 12)
        space, named = self.named["rep_tokens"], lambda part: self.named[f"{tower}.aligner.{part}"]
        tokens = [
            F.linear(space, named("weight") + named(f"{i}.lora_a") @ named(f"{i}.lora_b"), named(f"{i}.bias"))
            for i in range(depth - first)
        ]
        return first, tokens, self.hyper["beta"]

    def text_features(self):
        return F.normalize(self.clip.texts(self.tokens, *self.prompted("text", "")), dim=-1)

    def image_features(self, images):
        x, seen = self.clip.images(images, *self.prompted("vision", "visual."))
        count = self.named["rep_tokens"].shape[0]
        proj = self.clip["visual.proj"]
        rep_proj = proj + self.named["vision.proj.lora_a"] @ self.named["vision.proj.lora_b"]
        normed = x[:, 0], x[:, 1 : 1 + count].mean(1)
        return normed[0] @ proj, normed[1] @ rep_proj, normed, [(x[:, : 1 + count], a[:, : 1 + count]) for x, a in seen]

    def forward(self, images, labels):
        hyper = self.hyper
        with torch.no_grad():
            frozen, _ = self.clip.images(images)
            frozen = F.normalize(frozen[:, 0] @ self.clip["visual.proj"], dim=-1)
        class_feature, rep_feature, normed, seen = self.image_features(images)
        image, rep = F.normalize(class_feature, dim=-1), F.normalize(rep_feature, dim=-1)
        texts = self.text_features()
        cosine = lambda a, b: (a * b).sum(-1).mean()
        gap = lambda a, b: (a.norm(dim=-1) - b.detach().norm(dim=-1)).abs().mean()

        def token_gap(x):
            norms = x.norm(dim=-1).mean(0)
            return (norms[1:] - norms[0].detach()).abs().mean()

        loss = (
            hyper["alpha"] * F.cross_entropy(100 * image @ texts.T, labels)
            + (1 - hyper["alpha"]) * F.cross_entropy(100 * rep @ texts.T, labels)
            + hyper["reg_weight"] * (1 - cosine(image, frozen))
            + hyper["reg_weight"] * (1 - cosine(texts, self.frozen_texts))
            + hyper["final_norm"] * gap(rep_feature, class_feature)
            + hyper["seq_norm"] * torch.stack([token_gap(x) for x, _ in seen]).mean()
        )
        with torch.no_grad():
            watched = 0.1 * gap(normed[1], normed[0]), 0.1 * torch.stack([token_gap(a) for _, a in seen]).mean()
        return loss, watched


def main():
    job, weights, given, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    job, given = json.load(open(job)), load_file(given)
    parameters = {name[len("init/") :]: value for name, value in given.items() if name.startswith("init/")}
    model = AlignedNorm(Clip(load_file(weights)), parameters, torch.tensor(job["tokens"]), job["overrides"])
    optimiser = torch.optim.AdamW(model.parameters(), lr=job["lr"], weight_decay=job["weight_decay"])
    losses, step_s, step_cpu_s = [], [], []
    # From here on the peak counts.
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    while f"batch/{len(losses)}/images" in given:
        batch = [given[f"batch/{len(losses)}/{part}"] for part in ("images", "labels")]
        began, cpu = time.perf_counter(), cpu_seconds()
        loss, _ = model(*batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        step_s.append(time.perf_counter() - began)
        step_cpu_s.append(cpu_seconds() - cpu)
    peak, images = peak_bytes(), given["eval/images"]
    evaluation_s, evaluation_cpu_s = [], []
    with torch.no_grad():
        texts = model.text_features()
        for _ in range(3):
            began, cpu = time.perf_counter(), cpu_seconds()
            image, rep, _, _ = model.image_features(images)
            native, rep = (100 * F.normalize(x, dim=-1) @ texts.T for x in (image, rep))
            (job["overrides"]["alpha"] * native + (1 - job["overrides"]["alpha"]) * rep).argmax(-1).tolist()
            evaluation_s.append(time.perf_counter() - began)
            evaluation_cpu_s.append(cpu_seconds() - cpu)
    measured = {"version": torch.__version__, "losses": losses, "step_s": step_s, "step_cpu_s": step_cpu_s}
    measured |= {"peak_bytes": peak, "evaluation_s": evaluation_s, "evaluation_cpu_s": evaluation_cpu_s}
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
