"""Notebooks of lesson 02 as learners return them: each exercise right unless something else is given."""

import json

SETUP = """import math
import torch
import torch.nn.functional as F
import vit_edu
from torch import nn
from vit_edu import layers
"""
RIGHT = {
    "attention": """
def attention(q, k, v):
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
    return weights @ v, weights
""",
    "split_heads": """
def split_heads(qkv, num_heads):
    return [torch.stack(x.chunk(num_heads, -1), 1) for x in qkv.chunk(3, -1)]
""",
    "multi_head_attention": """
class MultiHeadAttention(nn.Module):
    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        mixed, _ = attention(*split_heads(self.qkv(x), self.num_heads))
        return self.proj(mixed.transpose(1, 2).flatten(2))
""",
    "attention_cost": """
def attention_cost(num_tokens, dim, num_heads):
    return 2 * num_tokens * dim * (2 * dim + num_tokens)
""",
}
NAMES = {name: name for name in RIGHT} | {"multi_head_attention": "MultiHeadAttention"}
SHORT = {"attention": "attention", "attention_cost": "attention_cost"}  # two exercises are enough for most attacks


def check(exercise: str) -> str:
    """The cell that checks an answer, as in the lesson."""
    return f'{NAMES[exercise]} = vit_edu.check("{exercise}", {NAMES[exercise]})'


def written(*cells: str) -> bytes:
    """A notebook's file with these cells of code."""
    made = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": cell.splitlines(True)} for cell in cells]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def lesson(*before: str, answers: dict[str, str] = NAMES, **given: str) -> bytes:
    """The lesson's notebook: `before` in front, and each of `answers` right but for those that are given."""
    cells = [SETUP, *before]
    for exercise in answers:
        cells += [given.get(exercise, RIGHT[exercise]), check(exercise)]
    return written(*cells)


def body(*lines: str, first: str = "") -> str:
    """A right `attention` that does these lines before; with `first` a cell that stands before it."""
    inside = "\n".join(f"    {line}" for text in lines for line in text.splitlines())
    return f"""{first}
def attention(q, k, v):
{inside}
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
    return weights @ v, weights
"""
