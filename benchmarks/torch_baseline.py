"""The default model in PyTorch, as one would write it for speed.

channels_last, autocast to bfloat16 (or float32), `torch.compile`, fused AdamW, and the
average by one multi-tensor operation. Imported only where PyTorch is installed.
"""

import copy
import math
import time
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

WIDTHS = (32, 64, 96, 128)
DEPTH = 2
EMA = 0.999


class ResidualBlock(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.normalization = nn.BatchNorm2d(
            channels, eps=1e-3, momentum=0.01, affine=False
        )
        self.conv_1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        changes = channels != width
        self.shortcut = nn.Conv2d(channels, width, 1) if changes else nn.Identity()

    def forward(self, x):
        y = functional.silu(self.conv_1(self.normalization(x)))
        return self.conv_2(y) + self.shortcut(x)


class UNet(nn.Module):
    def __init__(self, widths=WIDTHS, depth=DEPTH, dims=32):
        super().__init__()
        speeds = 2 * math.pi * torch.logspace(0, 3, dims // 2)
        self.register_buffer("speeds", speeds.reshape(1, -1, 1, 1))
        self.image_embedding = nn.Conv2d(3, widths[0], 1)
        channels, skips = widths[0] + dims, []
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for width in widths[:-1]:
            blocks = nn.ModuleList()
            for _ in range(depth):
                blocks.append(ResidualBlock(channels, width))
                channels = width
                skips.append(width)
            self.down.append(blocks)
        self.bottom = nn.Sequential()
        for _ in range(depth):
            self.bottom.append(ResidualBlock(channels, widths[-1]))
            channels = widths[-1]
        for width in reversed(widths[:-1]):
            blocks = nn.ModuleList()
            for _ in range(depth):
                blocks.append(ResidualBlock(channels + skips.pop(), width))
                channels = width
            self.up.append(blocks)
        self.prediction = nn.Conv2d(channels, 3, 1)
        nn.init.zeros_(self.prediction.weight)
        nn.init.zeros_(self.prediction.bias)

    def forward(self, noisy_images, variances):
        phases = variances * self.speeds
        e = torch.cat([phases.sin(), phases.cos()], 1)
        e = e.expand(-1, -1, *noisy_images.shape[2:])
        x = torch.cat([self.image_embedding(noisy_images), e], 1)
        skips = []
        for blocks in self.down:
            for block in blocks:
                x = block(x)
                skips.append(x)
            x = functional.avg_pool2d(x, 2)
        x = self.bottom(x)
        for blocks in self.up:
            x = functional.interpolate(x, scale_factor=2, mode="bilinear")
            for block in blocks:
                x = block(torch.cat([x, skips.pop()], 1))
        return self.prediction(x).float()


def rates(times):
    start, end = math.acos(0.95), math.acos(0.02)
    angles = start + times * (end - start)
    return angles.cos(), angles.sin()


class Trainer:
    """Training steps and sampling on `device`; images are uint8 (n, h, w, c)."""

    def __init__(self, images, precision, widths=WIDTHS, depth=DEPTH, compiled=True):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        self.autocast = torch.autocast(
            self.device, torch.bfloat16, enabled=precision == "bfloat16"
        )
        network = UNet(widths, depth).to(self.device, memory_format=torch.channels_last)
        self.network = network
        self.ema = copy.deepcopy(network).eval()
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=1e-3, weight_decay=1e-4, fused=True
        )
        nchw = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        self.images = nchw.to(self.device)
        compile_ = torch.compile if compiled else lambda function: function
        self.loss = compile_(self._loss)
        self.separate = compile_(self._separate)

    def _loss(self, pixels):
        images = (pixels.float() / 255 - 0.4) / 0.27
        images = images.contiguous(memory_format=torch.channels_last)
        noises = torch.randn_like(images)
        times = torch.rand(len(images), 1, 1, 1, device=self.device)
        signal_rates, noise_rates = rates(times)
        noisy_images = signal_rates * images + noise_rates * noises
        with self.autocast:
            predicted = self.network(noisy_images, noise_rates**2)
        return (noises - predicted).abs().mean()

    def step(self, rows):
        """One training step on the images of these rows."""
        loss = self.loss(self.images[rows])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            averages = [*self.ema.parameters(), *floats(self.ema.buffers())]
            weights = [*self.network.parameters(), *floats(self.network.buffers())]
            torch._foreach_lerp_(averages, weights, 1 - EMA)
        return loss

    def _separate(self, noisy_images, signal_rates, noise_rates):
        variances = (noise_rates**2).expand(len(noisy_images), 1, 1, 1)
        with self.autocast:
            noises = self.ema(noisy_images, variances)
        return noises, (noisy_images - noise_rates * noises) / signal_rates

    @torch.no_grad()
    def sample(self, count, steps):
        """DDIM from fresh noise; pixels as (n, c, h, w) in the network's scale."""
        shape = (count, 3, *self.images.shape[2:])
        noisy_images = torch.randn(shape, device=self.device)
        noisy_images = noisy_images.contiguous(memory_format=torch.channels_last)
        times = torch.linspace(1, 0, steps + 1, device=self.device)
        levels = [rates(t.reshape(1, 1, 1, 1)) for t in times]
        for now, after in pairwise(levels):
            noises, images = self.separate(noisy_images, *now)
            noisy_images = after[0] * images + after[1] * noises
        return images

    def synchronize(self):
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def floats(tensors):
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def step_seconds(
    images, precision, widths, depth, batch_size, *, steps=50, repetitions=3
):
    """Median seconds of a training step, after a warm-up."""
    trainer = Trainer(images, precision, widths, depth)
    rows = torch.randperm(len(images), device=trainer.device)[:batch_size]
    for _ in range(3):
        trainer.step(rows)
    seconds = []
    for _ in range(repetitions):
        trainer.synchronize()
        started = time.perf_counter()
        for _ in range(steps):
            trainer.step(rows)
        trainer.synchronize()
        seconds.append((time.perf_counter() - started) / steps)
    return float(np.median(seconds))
