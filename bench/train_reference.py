#!/usr/bin/env python3
"""Training speed of the model of a training config in plain PyTorch with torch.compile.

The rival that `cajal train` is measured against: the same shapes, batch, precision (bf16 autocast
over fp32 weights, or bf16 weights with --precision bf16), AdamW (fused) and clipping, random ids.

    python3 bench/train_reference.py configs/opt-classics.json --batch 64 [--mode reduce-overhead]
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.epsilon)
        return (y * self.weight).to(x.dtype)


class Shape:
    def __init__(self, config):
        self.llama = config["model_type"] == "llama"
        self.width, self.layers = config["hidden_size"], config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads", self.heads)
        self.head = self.width // self.heads
        self.neurons = config["intermediate_size" if self.llama else "ffn_dim"]
        self.vocabulary, self.context = config["vocab_size"], config["max_position_embeddings"]
        self.bias = not self.llama

    def norm(self):
        return RMSNorm(self.width, 1e-5) if self.llama else nn.LayerNorm(self.width)


def rotate(x, cosine, sine):
    low, high = x.chunk(2, -1)
    return torch.cat([low * cosine - high * sine, high * cosine + low * sine], -1).to(x.dtype)


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s, self.norm1, self.norm2 = s, s.norm(), s.norm()
        self.qkv = nn.Linear(s.width, (s.heads + 2 * s.kv_heads) * s.head, bias=s.bias)
        self.out = nn.Linear(s.width, s.width, bias=s.bias)
        self.key = nn.Linear(s.width, s.neurons * (2 if s.llama else 1), bias=s.bias)
        self.value = nn.Linear(s.neurons, s.width, bias=s.bias)

    def forward(self, x, cosine, sine):
        s, (batch, tokens, _) = self.s, x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, -1, s.head).transpose(1, 2)
        q, k, v = qkv.split([s.heads, s.kv_heads, s.kv_heads], 1)
        if s.llama:
            q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=s.kv_heads < s.heads)
        x = x + self.out(z.transpose(1, 2).reshape(batch, tokens, -1))
        pre = self.key(self.norm2(x))
        if s.llama:
            gate, up = pre.chunk(2, -1)
            return x + self.value(F.silu(gate) * up)
        return x + self.value(F.relu(pre))


class Model(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s, self.tokens = s, nn.Embedding(s.vocabulary, s.width)
        self.positions = None if s.llama else nn.Embedding(s.context, s.width)
        self.blocks, self.norm = nn.ModuleList(Block(s) for _ in range(s.layers)), s.norm()
        angle = torch.outer(torch.arange(s.context), 1e4 ** (-torch.arange(0, s.head, 2) / s.head))
        self.register_buffer("cosine", angle.cos())
        self.register_buffer("sine", angle.sin())
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0, 0.02)

    def forward(self, ids, targets):
        x = self.tokens(ids)
        if self.positions is not None:
            x = x + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, self.s.vocabulary).float(), targets.reshape(-1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--mode", default="default")
    parser.add_argument("--precision", choices=["autocast", "bf16"], default="autocast")
    a = parser.parse_args()
    config = json.load(open(a.config))
    shape, batch = Shape(config["model"]), a.batch or config["batch"]
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    model = Model(shape).cuda()
    if a.precision == "bf16":
        model.bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1,
                                  fused=True)
    compiled = torch.compile(model, mode=None if a.mode == "default" else a.mode)
    windows = torch.randint(0, shape.vocabulary, (8, batch, shape.context + 1), device="cuda")

    def step(i):
        ids, targets = windows[i % 8, :, :-1].contiguous(), windows[i % 8, :, 1:].contiguous()
        with torch.autocast("cuda", torch.bfloat16, enabled=a.precision == "autocast"):
            loss = compiled(ids, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for i in range(10):
        step(i)
    rates = []
    for _ in range(5):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for i in range(a.steps // 5):
            step(i)
        torch.cuda.synchronize()
        rates.append(batch * shape.context * (a.steps // 5) / (time.perf_counter() - begin))
    print(json.dumps({
        "what": f"PyTorch {torch.__version__}, torch.compile ({a.mode}), {a.precision}",
        "device": torch.cuda.get_device_name(), "batch": batch,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_per_second": statistics.median(rates), "least": min(rates), "most": max(rates)}))


main()
