"""The chunked and gathered forms of model.py against the formulas, token by token in f64."""

import unittest

import torch

import model
from model import CHUNK

T = 4 * CHUNK


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


class MixersTest(unittest.TestCase):
    def setUp(self) -> None:
        torch.manual_seed(7)

    def near(self, got: torch.Tensor, expected: torch.Tensor, bound: float) -> None:
        self.assertLess(((got - expected).abs().max() / expected.abs().max()).item(), bound)

    def test_linear_attention_is_its_recurrence(self) -> None:
        shape = model.Shape(layers=("linear", "linear"))
        mixer = model.Linear(shape, 1).double()
        h = random(2 * T, shape.hidden)
        q, seen, added, gate = mixer.inside(h)
        got = mixer.outside(q, seen, mixer.before(added, 2), gate)
        silu = torch.nn.functional.silu
        q, k, v = (silu(h @ m.weight.t()).view(2, T, 8, 64) for m in (mixer.q, mixer.k, mixer.v))
        decay = torch.exp(-mixer.slopes).view(1, 8, 1, 1)
        state, rows = torch.zeros(2, 8, 64, 64, dtype=torch.float64), []
        for t in range(T):
            state = state * decay + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
            rows.append((q[:, t].unsqueeze(-2) @ state).squeeze(-2))
        o = torch.stack(rows, 1).reshape(2 * T, 8, 64)
        o = o * torch.rsqrt(o.square().mean(-1, keepdim=True) + model.EPS)
        o = (o * mixer.norm.view(8, 64)).flatten(1) * torch.sigmoid(h @ mixer.gate.weight.t())
        self.near(got, o @ mixer.o.weight.t(), 1e-5)  # norms and decays are f32

    def test_block_attention_is_masked_attention(self) -> None:
        q, k, v = (
            random(2, 12 * CHUNK, 8, 64),
            random(2, 12 * CHUNK, 4, 64),
            random(2, 12 * CHUNK, 4, 64),
        )
        for blocks in (lambda b: model.power_blocks(b, 2), lambda b: model.window_blocks(b, 192)):
            got = model.block_attention(q, k, v, blocks)
            n = torch.arange(12 * CHUNK)
            seen = torch.zeros(12 * CHUNK, 12 * CHUNK, dtype=torch.bool)
            for block in range(12):
                for other in blocks(block):
                    seen[
                        block * CHUNK : (block + 1) * CHUNK, other * CHUNK : (other + 1) * CHUNK
                    ] = True
            seen &= n[:, None] >= n
            kk, vv = k.repeat_interleave(2, 2), v.repeat_interleave(2, 2)
            scores = torch.einsum("bihd,bjhd->bhij", q, kk) / 8
            weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
            self.near(got, torch.einsum("bhij,bjhd->bihd", weights, vv), 1e-12)

    def test_power_blocks(self) -> None:
        self.assertEqual(model.power_blocks(0, 4), [0])
        self.assertEqual(model.power_blocks(21, 4), [0, 5, 13, 17, 18, 19, 20, 21])

    def test_experts_one_by_one(self) -> None:
        shape = model.Shape(layers=("linear",))
        moe = model.Moe(shape).double()
        moe.router.float()
        moe.down.data.normal_()
        h = random(5, shape.hidden)
        got, _ = moe(h)
        for row, out in zip(h, got):
            p = (moe.router.weight.double() @ row).float().softmax(-1)
            best = p.topk(2)
            expected = torch.zeros_like(out)
            for e, w in zip(best.indices, best.values / best.values.sum()):
                part = slice(e * shape.intermediate, (e + 1) * shape.intermediate)
                inner = torch.nn.functional.silu(moe.gate[part] @ row) * (moe.up[part] @ row)
                expected += w * (moe.down[e] @ inner)
            self.near(out, expected, 1e-5)

    def test_what_follows_does_not_change_a_token(self) -> None:
        shape = model.Shape(layers=("linear", "power", "softmax"))
        net = model.Model(shape)
        for p in net.parameters():
            p.data.normal_(0, 0.1)
        ids = torch.randint(4, 4096, (1, T))
        longer = torch.cat((ids, torch.randint(4, 4096, (1, T))), 1)
        with torch.no_grad():
            short, _ = net(ids, torch.float32)
            whole, _ = net(longer, torch.float32)
        self.near(whole[:T], short, 1e-4)

    def test_tensors_and_load_are_inverse(self) -> None:
        shape = model.Shape(layers=("linear", "power", "softmax"))
        first, second = model.Model(shape), model.Model(shape)
        second.load(first.tensors())
        for (name, a), b in zip(first.named_parameters(), second.parameters()):
            self.assertTrue(torch.equal(a.bfloat16(), b.bfloat16()), name)


if __name__ == "__main__":
    unittest.main()
