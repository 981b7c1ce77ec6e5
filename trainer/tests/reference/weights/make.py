"""Writes script.pt and state_dict.pt: a small module as PyTorch itself archives it, with every kind of member that matters.

    pip install torch
    python make.py

The committed files were written by PyTorch 1.13.0. Each tensor counts up from 0 in steps of 1/8, exact in all three kinds;
`trainer/src/clip/weights/torch_archive.rs` holds what is read against that.
"""

import pathlib

import torch

HERE = pathlib.Path(__file__).parent


def eighths(*shape):
    return torch.arange(int(torch.Size(shape).numel())).view(shape) / 8


class Block(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.weight = torch.nn.Parameter(eighths(2, 3).to(kind))
        self.heads = 2

    def forward(self, x):
        return x


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.Sequential(*(Block(kind) for kind in [torch.half, torch.float, torch.bfloat16]))
        self.logit_scale = torch.nn.Parameter(eighths(1)[0])
        # The same numbers as they lie, read down the columns.
        self.transposed = torch.nn.Parameter(eighths(2, 3).t())
        # From the fifth number of its storage on.
        self.part = torch.nn.Parameter(eighths(10)[4:8])
        # What is no weight: integers as a tensor, and attributes.
        self.register_buffer("input_resolution", torch.tensor(224))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.name = "a model"
        self.sizes = [1, 2, 3]
        self.rate = 0.5

    def forward(self, x):
        return self.blocks(x) * self.logit_scale


model = Model().eval()
torch.jit.save(torch.jit.script(model), HERE / "script.pt")
torch.save(model.state_dict(), HERE / "state_dict.pt")
