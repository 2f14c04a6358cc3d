"""Muon (momentum, orthogonalised) for matrices; AdamW for embeddings, norms and routers."""

import torch
from torch import Tensor, nn

import model as reference

MUON_RATE, MOMENTUM, DECAY = 0.02, 0.95, 0.01
ADAM_RATE, ADAM_BETAS = 0.003, (0.9, 0.95)


def orthogonalised(g: Tensor, steps: int = 5) -> Tensor:
    """Matrices [n, rows, cols] with their singular values moved near 1, by Newton-Schulz iterations
    with the quintic of Muon (Jordan et al. 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(b * gram, gram, gram, alpha=c) @ x
    return x.mT if tall else x


class Muon:
    """Both optimizers; matrices of one shape go through one batch of products."""

    def __init__(self, net: reference.Model):
        self.groups: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
        adam: list[nn.Parameter] = [net.embedding, net.final_norm]
        self.matrices: list[nn.Parameter] = []
        experts = net.shape.experts
        for layer in net.layers:
            for name, p in layer.named_parameters():
                if p.dim() == 1 or "router" in name:
                    adam.append(p)
                    continue
                self.matrices.append(p)
                per_expert = name in ("ffn.gate", "ffn.up")
                view = p.data.view(experts, -1, p.shape[-1]) if per_expert else p.data
                view = view if view.dim() == 3 else view.unsqueeze(0)
                self.groups.setdefault(tuple(view.shape[1:]), []).append((p, view))
        self.momentum = {
            shape: torch.zeros(
                sum(v.shape[0] for _, v in members), *shape, device=net.embedding.device
            )
            for shape, members in self.groups.items()
        }
        self.adam = torch.optim.AdamW(adam, ADAM_RATE, ADAM_BETAS, weight_decay=0.0, fused=True)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step at `rate` times the peak learning rates; clears the gradients."""
        for shape, members in self.groups.items():
            grads = torch.cat([p.grad.view(v.shape) for p, v in members])
            momentum = self.momentum[shape]
            momentum.lerp_(grads, 1 - MOMENTUM)
            update = orthogonalised(grads.lerp_(momentum, MOMENTUM)).float()
            lr = MUON_RATE * rate
            views = [v for _, v in members]
            torch._foreach_mul_(views, 1 - lr * DECAY)
            scale = lr * max(1.0, shape[0] / shape[1]) ** 0.5
            parts = list(update.split([v.shape[0] for v in views]))
            torch._foreach_add_(views, parts, alpha=-scale)
        for group in self.adam.param_groups:
            group["lr"] = ADAM_RATE * rate
        self.adam.step()
        self.adam.zero_grad()
        for p in self.matrices:
            p.grad = None
