"""The model in plain PyTorch: every mixer as its formula says, in forms fast enough to train with.

It doubles as an oracle for Heddle: the weights have the names of docs/native_format.md and `config`
writes the config.json that belongs to them. Chunked and gathered forms are compared with
token-by-token ones in mixers_test.py. Shapes: N tokens, B sequences of T tokens (N = B T, T a
multiple of 64), H heads of D = 64, E experts.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 64  # tokens of a chunk of linear attention, and of a block of power attention
EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class Shape:
    """What config.json says. `layers`: linear, power, softmax (mixture of heads)."""

    layers: tuple[str, ...]
    hidden: int = 256
    vocab: int = 4096
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 64
    shared_heads: int = 4  # always on, of a softmax layer
    routed_heads: int = 2  # chosen of the others
    experts: int = 8
    top_k: int = 2
    intermediate: int = 96
    local_blocks: int = 4  # of power attention
    log_scale: int = 128  # 0: none
    context: int = 131072

    def slopes(self, layer: int) -> list[float]:
        """MiniMax-Text-01's rule: ALiBi's slopes, smaller in later layers."""
        factor = 1 - layer / max(1, len(self.layers) - 1) + 1e-5
        return [2.0 ** (-8 * (h + 1) / self.heads) * factor for h in range(self.heads)]

    @classmethod
    def of_config(cls, config: dict[str, Any]) -> "Shape":
        """The inverse of config(); throws ValueError for what config() does not write."""
        mixers = [layer["mixers"][0] for layer in config["layers"]]
        kinds = tuple("power" if "sparse" in m else m["kind"] for m in mixers)
        by_kind = dict(zip(kinds, mixers))
        softmax, ffn = by_kind["softmax"], config["layers"][0]["ffn"]
        local = {"local_blocks": by_kind["power"]["sparse"]["local"]} if "power" in by_kind else {}
        shape = cls(
            layers=kinds, hidden=config["hidden_size"], vocab=config["vocab_size"],
            heads=softmax["heads"], kv_heads=softmax["kv_heads"], head_dim=softmax["head_dim"],
            shared_heads=softmax["head_router"]["shared"],
            routed_heads=softmax["head_router"]["top_k"], experts=ffn["experts"],
            top_k=ffn["top_k"], intermediate=ffn["intermediate"],
            log_scale=softmax.get("log_scale", 0), context=config["context"], **local,
        )  # fmt: skip
        if shape.config() != config:
            raise ValueError("config.json: not what Shape.config() writes")
        return shape

    def config(self) -> dict[str, Any]:
        """config.json of Heddle's native format."""
        ffn = {
            "kind": "moe", "experts": self.experts, "top_k": self.top_k,
            "intermediate": self.intermediate, "renormalise": True,
        }  # fmt: skip
        softmax: dict[str, Any] = {
            "kind": "softmax", "heads": self.heads, "kv_heads": self.kv_heads,
            "head_dim": self.head_dim, "qk_norm": "head",
        }  # fmt: skip
        if self.log_scale:
            softmax["log_scale"] = self.log_scale
        sparse = {"kind": "power", "block": CHUNK, "local": self.local_blocks}
        router = {"shared": self.shared_heads, "top_k": self.routed_heads, "score": "router"}
        linear = {
            "kind": "linear", "heads": self.heads, "head_dim": self.head_dim, "scale": 1.0,
            "slope_rule": "alibi_by_layer", "activation": "silu", "v_activation": "silu",
            "norm": "head", "gate": "sigmoid",
        }  # fmt: skip
        mixers = {
            "linear": linear,
            "power": softmax | {"sparse": sparse},
            "softmax": softmax | {"head_router": router},
        }
        return {
            "model_type": "heddle", "format": 1, "name": "needle-hybrid",
            "vocab_size": self.vocab, "hidden_size": self.hidden, "context": self.context,
            "tied_head": True, "norm_eps": EPS, "bos_token_id": 1, "eos_token_id": 2,
            "layers": [{"mixers": [mixers[kind]], "ffn": ffn} for kind in self.layers],
        }  # fmt: skip


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """In f32, rounded to x's type."""
    f = x.float()
    return (f * torch.rsqrt(f.square().mean(-1, keepdim=True) + EPS) * weight.float()).to(x.dtype)


def log_scale(positions: Tensor, n0: int) -> Tensor:
    """What q is multiplied with at each position: max(1, ln(t + 1) / ln n0)."""
    return torch.clamp(torch.log(positions.float() + 1) / math.log(n0), min=1.0)


class Router(nn.Module):
    """Scores in f32: a choice must not depend on how an activation was rounded."""

    def __init__(self, hidden: int, n: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n, hidden) * hidden**-0.5)

    def forward(self, h: Tensor) -> Tensor:
        return h.float() @ self.weight.t()


def balance(probabilities: Tensor, chosen: Tensor) -> Tensor:
    """n times the sum over experts of (share of choices) (mean probability): 1 if even."""
    n = probabilities.shape[-1]
    share = chosen.float().mean(0) / chosen.float().sum(-1).mean()
    return n * (share * probabilities.mean(0)).sum()


def top_k_mask(scores: Tensor, k: int) -> Tensor:
    """Which of the last dimension are the k largest."""
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, scores.topk(k).indices, True)


class Moe(nn.Module):
    """down_e(silu(gate_e x) * up_e x) of the two best experts, weighted by softmax among them. All
    experts are computed and the others' results multiplied by 0: with experts this narrow that is
    faster than sorting tokens."""

    def __init__(self, s: Shape):
        super().__init__()
        wide = s.experts * s.intermediate
        self.experts, self.top_k = s.experts, s.top_k
        self.router = Router(s.hidden, s.experts)
        self.gate = nn.Parameter(torch.randn(wide, s.hidden) * s.hidden**-0.5)
        self.up = nn.Parameter(torch.randn(wide, s.hidden) * s.hidden**-0.5)
        self.down = nn.Parameter(torch.zeros(s.experts, s.hidden, s.intermediate))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        p = self.router(h).softmax(-1)
        mask = top_k_mask(p, self.top_k)
        w = p * mask
        w = (w / w.sum(-1, keepdim=True)).to(h.dtype)
        inner = F.silu(h @ self.gate.to(h.dtype).t()) * (h @ self.up.to(h.dtype).t())
        inner = (inner.unflatten(-1, (self.experts, -1)) * w.unsqueeze(-1)).flatten(-2)
        down = self.down.to(h.dtype).transpose(1, 2).flatten(0, 1)  # [E intermediate, hidden]
        return inner @ down, balance(p, mask)


class HeadRouter(nn.Module):
    """Mixture of heads (arXiv 2410.11842): a gate for each head, 0 for those not chosen."""

    def __init__(self, s: Shape):
        super().__init__()
        self.shared, self.top_k = s.shared_heads, s.routed_heads
        self.shared_heads = Router(s.hidden, s.shared_heads)
        self.routed_heads = Router(s.hidden, s.heads - s.shared_heads)
        self.head_stages = Router(s.hidden, 2)

    def forward(self, h: Tensor, all_heads: bool = False) -> tuple[Tensor, Tensor]:
        """Gates [N, H], and the balance of the routed heads."""
        stages = 2 * self.head_stages(h).softmax(-1)
        shared = self.shared * self.shared_heads(h).softmax(-1)
        p = self.routed_heads(h).softmax(-1)
        mask = top_k_mask(p, self.top_k)
        chosen = p if all_heads else p * mask
        chosen = self.top_k * chosen / chosen.sum(-1, keepdim=True)
        return torch.cat((stages[:, :1] * shared, stages[:, 1:] * chosen), -1), balance(p, mask)


class Linear(nn.Module):
    """Lightning attention: S_t = exp(-s) S_(t-1) + k_t v_t^T, o_t = S_t^T q_t, in chunks: what a
    token sees inside its chunk is a masked product, the rest comes with the state before it."""

    def __init__(self, s: Shape, layer: int):
        super().__init__()
        self.heads, self.dim = s.heads, s.head_dim
        width = s.heads * s.head_dim
        for name in ("q", "k", "v", "gate"):
            setattr(self, name, nn.Linear(s.hidden, width, bias=False))
        self.o = nn.Linear(width, s.hidden, bias=False)
        self.norm = nn.Parameter(torch.ones(width))
        self.register_buffer("slopes", torch.tensor(s.slopes(layer), dtype=torch.float64), False)

    def decay(self, steps: Tensor) -> Tensor:
        """exp(-s steps), 0 where steps are negative: [H, *steps]."""
        s = self.slopes.view(-1, *[1] * steps.dim())
        return torch.where(steps < 0, 0.0, torch.exp(-s * steps)).float()

    def inside(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each chunk: its decayed queries, what tokens see inside it, what it adds to the state
        [N / 64, H, D, D], the gate."""
        q, k, v = (
            F.silu(F.linear(h, m.weight.to(h.dtype))).view(-1, CHUNK, self.heads, self.dim)
            for m in (self.q, self.k, self.v)
        )
        gate = torch.sigmoid(F.linear(h, self.gate.weight.to(h.dtype)))
        i = torch.arange(CHUNK, device=h.device)
        scores = torch.einsum("nihd,njhd->nhij", q, k) * self.decay(i[:, None] - i).to(h.dtype)
        seen = torch.einsum("nhij,njhd->nihd", scores, v)
        k = k.float() * self.decay(CHUNK - 1 - i).t().unsqueeze(-1)
        added = torch.einsum("nihd,nihe->nhde", k, v.float())
        return q * self.decay(i + 1).t().unsqueeze(-1).to(h.dtype), seen, added, gate

    def before(self, added: Tensor, sequences: int) -> Tensor:
        """The state before each chunk: like `added`."""
        a = added.unflatten(0, (sequences, -1))
        n = torch.arange(a.shape[1], device=a.device)
        decay = self.decay((n[:, None] - 1 - n) * CHUNK)
        return torch.einsum("hnm,bmhde->bnhde", decay, a).flatten(0, 1)

    def outside(self, q: Tensor, seen: Tensor, state: Tensor, gate: Tensor) -> Tensor:
        o = seen + torch.einsum("nihd,nhde->nihe", q, state.to(q.dtype))
        o = rms_norm(o, self.norm.view(self.heads, self.dim)).reshape(gate.shape) * gate
        return F.linear(o, self.o.weight.to(o.dtype))


class Softmax(nn.Module):
    """Grouped-query attention without positions; norms on q and k; temperature by log n."""

    def __init__(self, s: Shape):
        super().__init__()
        self.shape = s
        self.q = nn.Linear(s.hidden, s.heads * s.head_dim, bias=False)
        self.k = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.v = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.o = nn.Linear(s.heads * s.head_dim, s.hidden, bias=False)
        self.q_norm = nn.Parameter(torch.ones(s.head_dim))
        self.k_norm = nn.Parameter(torch.ones(s.head_dim))

    def qkv(self, h: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, H, D] each. `scale` [N]: log_scale of each token's position."""
        d = self.shape.head_dim
        q = rms_norm(F.linear(h, self.q.weight.to(h.dtype)).unflatten(-1, (-1, d)), self.q_norm)
        k = rms_norm(F.linear(h, self.k.weight.to(h.dtype)).unflatten(-1, (-1, d)), self.k_norm)
        v = F.linear(h, self.v.weight.to(h.dtype)).unflatten(-1, (-1, d))
        return q * scale.to(q.dtype).view(-1, 1, 1), k, v

    def out(self, attended: Tensor, gates: Tensor | None) -> Tensor:
        if gates is not None:
            attended = attended * gates.to(attended.dtype).unsqueeze(-1)
        return F.linear(attended.flatten(-2), self.o.weight.to(attended.dtype))


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[B, T, H, D], k and v with fewer heads: every token sees itself and all before it."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)


def power_blocks(block: int, local: int) -> list[int]:
    """Blocks that the tokens of `block` see: those less than `local` or a power of two away, and
    block 0 (arXiv 2503.03588). Ascending."""
    distances = {*range(local), *(1 << i for i in range(block.bit_length()))}
    return sorted({block - d for d in distances if d <= block} | {0})


def window_blocks(block: int, window: int) -> list[int]:
    """The own block and those before it, `window` tokens in all: an ablation."""
    return list(range(max(0, block + 1 - window // CHUNK), block + 1))


def block_attention(q: Tensor, k: Tensor, v: Tensor, blocks: Callable[[int], list[int]]) -> Tensor:
    """[B, T, H, D]: causal attention to the keys of `blocks(own block)`. Keys are gathered, in
    groups of blocks with lists of one length: so only the own block, the last, needs a mask."""
    lists = [blocks(n) for n in range(q.shape[1] // CHUNK)]
    share = q.shape[2] // k.shape[2]  # query heads of a kv head
    q, k, v = (x.unflatten(1, (-1, CHUNK)) for x in (q, k, v))
    row = torch.arange(CHUNK, device=q.device)
    causal = row[:, None] >= row
    out = torch.empty_like(q)
    for size in sorted(set(map(len, lists))):
        at = torch.tensor([n for n, keys in enumerate(lists) if len(keys) == size], device=q.device)
        table = torch.tensor([keys for keys in lists if len(keys) == size], device=q.device)
        mask = torch.cat((causal.new_ones(CHUNK, (size - 1) * CHUNK), causal), 1).repeat(share, 1)
        # [B, blocks, kv heads, tokens (of the share's heads), D]
        keys, values = (x[:, table].flatten(2, 3).transpose(2, 3) for x in (k, v))
        rows = q[:, at].unflatten(3, (-1, share)).permute(0, 1, 3, 4, 2, 5).flatten(3, 4)
        rows, keys, values = (x.flatten(0, 1).contiguous() for x in (rows, keys, values))
        got = torch.cat(
            [
                F.scaled_dot_product_attention(*part, attn_mask=mask)
                for part in zip(rows.split(256), keys.split(256), values.split(256))
            ]
        )
        got = got.unflatten(0, (-1, len(at))).unflatten(3, (share, CHUNK))
        out = out.index_copy(1, at, got.permute(0, 1, 4, 2, 3, 5).flatten(3, 4))
    return out.flatten(1, 2)


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What an evaluation changes of a trained model."""

    softmax_window: int = 0  # tokens, a multiple of 64; 0: all
    all_heads: bool = False  # of mixture-of-heads layers; the routed ones weighted as if chosen
    power_off: bool = False  # power layers add nothing
    log_scale_off: bool = False


class Layer(nn.Module):
    """x += mixer(norm(x)); x += ffn(norm(x)). In two halves, around what depends on a sequence's
    length: the training compiles them once for all lengths."""

    def __init__(self, s: Shape, index: int):
        super().__init__()
        self.kind = s.layers[index]
        self.local_blocks = s.local_blocks
        self.mixer_norm = nn.Parameter(torch.ones(s.hidden))
        self.ffn_norm = nn.Parameter(torch.ones(s.hidden))
        self.mixer = Linear(s, index) if self.kind == "linear" else Softmax(s)
        self.head_router = HeadRouter(s) if self.kind == "softmax" else None
        self.ffn = Moe(s)

    def enter_linear(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.mixer.inside(rms_norm(x, self.mixer_norm))

    def leave_linear(
        self, x: Tensor, q: Tensor, seen: Tensor, state: Tensor, gate: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.feed_forward(x + self.mixer.outside(q, seen, state, gate))

    def enter_power(self, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.mixer.qkv(rms_norm(x, self.mixer_norm), scale)

    def leave_power(self, x: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        return self.feed_forward(x + self.mixer.out(attended, None))

    def enter_softmax(
        self, x: Tensor, scale: Tensor, all_heads: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        h = rms_norm(x, self.mixer_norm)
        gates, loss = self.head_router(h, all_heads)
        return *self.mixer.qkv(h, scale), gates, loss

    def leave_softmax(self, x: Tensor, attended: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
        return self.feed_forward(x + self.mixer.out(attended, gates))

    def feed_forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        added, loss = self.ffn(rms_norm(x, self.ffn_norm))
        return x + added, loss


class Model(nn.Module):
    """Embedding, layers, norm; the head is the embedding."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.randn(shape.vocab, shape.hidden) * 0.05)
        self.layers = nn.ModuleList(Layer(shape, i) for i in range(len(shape.layers)))
        self.final_norm = nn.Parameter(torch.ones(shape.hidden))
        self.power_attention = self.gathered_power_attention

    def gathered_power_attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return block_attention(q, k, v, lambda b: power_blocks(b, self.shape.local_blocks))

    def forward(
        self, ids: Tensor, dtype: torch.dtype, ablation: Ablation = Ablation()
    ) -> tuple[Tensor, Tensor]:
        """ids [B, T], T a multiple of 64 (what follows a sequence does not change it): the head's
        input [B T, hidden] in `dtype`, and the balance losses of all
        routers, added."""
        rows, length = ids.shape
        x = F.embedding(ids.flatten(), self.embedding).to(dtype)
        positions = torch.arange(length, device=ids.device)
        n0 = 0 if ablation.log_scale_off else self.shape.log_scale
        scale = log_scale(positions, n0) if n0 else torch.ones_like(positions, dtype=torch.float)
        scale = scale.repeat(rows)
        losses = []
        for layer in self.layers:
            if layer.kind == "linear":
                q, seen, added, gate = layer.enter_linear(x)
                state = layer.mixer.before(added, rows)
                x, loss = layer.leave_linear(x, q, seen, state, gate)
            elif layer.kind == "power":
                qkv = (part.unflatten(0, (rows, length)) for part in layer.enter_power(x, scale))
                attended = self.power_attention(*qkv).flatten(0, 1)
                if ablation.power_off:
                    attended = torch.zeros_like(attended)
                x, loss = layer.leave_power(x, attended)
            else:
                *qkv, gates, loss = layer.enter_softmax(x, scale, ablation.all_heads)
                losses.append(loss)
                q, k, v = (part.unflatten(0, (rows, length)) for part in qkv)
                if ablation.softmax_window:
                    window = ablation.softmax_window
                    attended = block_attention(q, k, v, lambda b: window_blocks(b, window))
                else:
                    attended = causal_attention(q, k, v)
                x, loss = layer.leave_softmax(x, attended.flatten(0, 1), gates)
            losses.append(loss)
        return rms_norm(x, self.final_norm), torch.stack(losses).sum()

    def logits(self, head_input: Tensor) -> Tensor:
        return F.linear(head_input, self.embedding.to(head_input.dtype))

    def tensors(self) -> dict[str, Tensor]:
        """The weights under the names of docs/native_format.md, in bf16."""
        out = {"embedding.weight": self.embedding, "final_norm.weight": self.final_norm}
        for i, layer in enumerate(self.layers):
            at = f"layers.{i}."
            out[at + "mixer_norm.weight"] = layer.mixer_norm
            out[at + "ffn_norm.weight"] = layer.ffn_norm
            mixer = {name: p for name, p in layer.mixer.named_parameters()}
            for name, p in mixer.items():
                out[at + "mixers.0." + name.removesuffix(".weight") + ".weight"] = p
            if layer.head_router is not None:
                for name, p in layer.head_router.named_parameters():
                    out[at + "mixers.0." + name] = p
            out[at + "ffn.router.weight"] = layer.ffn.router.weight
            for e in range(self.shape.experts):
                expert = at + f"ffn.experts.{e}."
                out[expert + "gate.weight"] = layer.ffn.gate.chunk(self.shape.experts)[e]
                out[expert + "up.weight"] = layer.ffn.up.chunk(self.shape.experts)[e]
                out[expert + "down.weight"] = layer.ffn.down[e]
        return {name: t.detach().to(torch.bfloat16).contiguous().cpu() for name, t in out.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of tensors()."""
        mine = self.tensors()
        if mine.keys() != tensors.keys():
            raise ValueError(f"tensors differ: {sorted(mine.keys() ^ tensors.keys())[:4]}")
        for i, layer in enumerate(self.layers):
            for part in ("gate", "up", "down"):
                name = f"layers.{i}.ffn.experts.{{}}.{part}.weight"
                parts = [tensors[name.format(e)].float() for e in range(self.shape.experts)]
                whole = torch.stack(parts) if part == "down" else torch.cat(parts)
                getattr(layer.ffn, part).data.copy_(whole)
            named = dict(layer.mixer.named_parameters())
            if layer.head_router is not None:
                named |= dict(layer.head_router.named_parameters())
            for name, p in named.items():
                key = f"layers.{i}.mixers.0.{name.removesuffix('.weight')}.weight"
                p.data.copy_(tensors[key].float())
            layer.ffn.router.weight.data.copy_(tensors[f"layers.{i}.ffn.router.weight"].float())
            layer.mixer_norm.data.copy_(tensors[f"layers.{i}.mixer_norm.weight"].float())
            layer.ffn_norm.data.copy_(tensors[f"layers.{i}.ffn_norm.weight"].float())
        self.embedding.data.copy_(tensors["embedding.weight"].float())
        self.final_norm.data.copy_(tensors["final_norm.weight"].float())
