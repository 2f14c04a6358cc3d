"""The tiny model in Heddle's own format (docs/native_format.md): every kind of mixer, feed-forward layer and frame.

Blocks, windows and thresholds are so small that a few hundred tokens take every path.
"""
from tiny_families import Random
from tiny_tokenizer import BOS, EOS, SPECIALS, VOCAB


def expand(entries):
    """"layers" with its repetitions written out."""
    for entry in entries:
        for _ in range(entry.get("repeat", 1)):
            yield from expand(entry["layers"]) if "layers" in entry else [entry]


class Native:
    name, gguf, takes_rope_scaling = "heddle", None, False

    def __init__(self, options):
        self.options = options
        self.hidden, self.head_dim = (256, 64) if options.wide else (64, 16)

    # --- config.json

    def config(self):
        return {
            "model_type": self.name, "format": 1, "name": f"tiny {self.name}",
            "vocab_size": VOCAB, "hidden_size": self.hidden, "context": 4096, "tied_head": False,
            "embedding_scale": 1.5, "logit_scale": 0.5, "final_soft_cap": 10.0, "norm_eps": 1e-5,
            "bos_token_id": SPECIALS.index(BOS), "eos_token_id": SPECIALS.index(EOS),
            "layers": [*self.like_published(), *self.heads_and_blocks(), *self.frames()],
        }

    def softmax(self, heads=4, kv_heads=2, **more):
        return {"kind": "softmax", "heads": heads, "kv_heads": kv_heads, "head_dim": self.head_dim, **more}

    def linear(self, heads=4, **more):
        return {"kind": "linear", "heads": heads, "head_dim": self.head_dim, **more}

    def dense(self, **more):
        return {"kind": "dense", "intermediate": 2 * self.hidden, **more}

    def moe(self, experts=8, top_k=2, shared=None, **more):
        joined = {"shared": {"intermediate": self.hidden, "join": shared}} if shared else {}
        return {"kind": "moe", "experts": experts, "top_k": top_k, "intermediate": self.hidden // 2, **more, **joined}

    @staticmethod
    def layer(*mixers, ffn, **more):
        return {"mixers": list(mixers), "ffn": ffn, **more}

    def like_published(self):
        """In the manner of MiniMax, Qwen3-MoE, TransNormerLLM, OLMoE with DeepSeek's router, Ring-linear, gpt-oss,
        StreamingLLM and Gemma 2."""
        yarn = {"rope_type": "yarn", "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
                "original_max_position_embeddings": 256}
        return [
            self.layer(self.linear(slope_rule="alibi_by_layer", scale=1.0, activation="silu", v_activation="silu",
                                   norm="all", gate="sigmoid"),
                       ffn=self.dense(),
                       mixer_residual={"residual": 1.5, "branch": 0.75, "of_norm": True},
                       ffn_residual={"residual": 2.0, "branch": 0.875, "of_norm": True}),
            self.layer(self.softmax(qk_norm="head", rope={"rope_theta": 1e6}), ffn=self.moe(renormalise=True)),
            self.layer(self.linear(slope_rule="alibi_by_layer", slope_layer_offset=1, activation="silu", lrpe=True,
                                   norm="all", norm_weight=False, gate="multiply"),
                       ffn=self.dense(activation="gelu"), norm_weights=False),
            self.layer(self.softmax(qk_norm="all_heads", qk_norm_eps=1e-3, log_scale=32),
                       ffn=self.moe(16, 4, score="sigmoid", groups=4, top_groups=2, choice_bias=True, renormalise=True,
                                    scale=2.5, shared="added")),
            self.layer(self.linear(slopes=[1.5, 0.25, 0.03125, 0.0], qk_norm="head", norm="group", norm_groups=2,
                                   norm_eps=1e-3, gate="sigmoid",
                                   rope={"rope_theta": 600000.0, "partial_rotary_factor": 0.5}),
                       ffn=self.dense()),
            self.layer(self.softmax(window=48, sinks=True, bias="qkvo",
                                    rope={"rope_theta": 150000.0, "rope_scaling": yarn}),
                       ffn=self.moe(top_k=3, score="softmax_of_chosen", router_bias=True, bias=True,
                                    activation="quick_gelu", limit=7.0, up_add=1.0)),
            self.layer(self.softmax(window=32, first_keys=4, bias="qkv", rope={}),
                       ffn=self.dense(), norms="post"),
            self.layer(self.softmax(soft_cap=5.0, output_gate=True, scale=0.3, rope={
                           "rope_theta": 30000.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
                       ffn=self.moe(shared="gated", activation="gelu_tanh"), norms="both"),
        ]

    def heads_and_blocks(self):
        """Mixtures of heads and block-sparse attention."""
        llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 512}
        infllm = {"kind": "infllm", "block": 16, "top_k": 4, "local_blocks": 2, "dense_below": 128}
        rope = {"rope_theta": 20000.0}
        return [
            self.layer(self.softmax(8, 4, head_router={"shared": 2, "top_k": 3}, rope=rope),
                       ffn=self.dense(activation="gelu_tanh")),
            self.layer(self.softmax(8, 4, head_router={"shared": 4, "top_k": 2, "score": "query_norm"},
                                    rope={"rope_theta": 500000.0, "rope_scaling": llama3}),
                       ffn=self.moe(shared="blended", renormalise=True)),
            self.layer(self.softmax(head_router={"top_k": 2}, sparse={"kind": "power", "block": 16, "local": 3},
                                    rope=rope),
                       ffn=self.dense()),
            self.layer(self.softmax(sinks=True, sparse={"kind": "strided", "block": 16, "step": 5}, rope=rope),
                       ffn=self.dense()),
            self.layer(self.softmax(sparse={"kind": "dilated", "block": 16, "step": 3}, rope=rope), ffn=self.dense()),
            self.layer(self.softmax(8, 2, output_gate=True, sparse=infllm), ffn=self.dense(),
                       mixer_residual={"branch": 0.5}, ffn_residual={"branch": 0.5}),
        ]

    def frames(self):
        """Mixers side by side, a parallel layer, and a repeated group."""
        return [
            self.layer(self.linear(6, slope_rule="alibi", activation="elu1", v_activation="gelu", norm="head"),
                       self.softmax(4, 1, window=64, rope={"rope_theta": 5000.0}), ffn=self.dense(activation="relu")),
            self.layer(self.softmax(4, 4, rope={"rope_theta": 1000.0}), ffn=self.dense(), parallel=True, norm_eps=0.01),
            {"repeat": 2, "layers": [
                self.layer(self.linear(slope_rule="alibi"), ffn=self.moe(), mixer_residual={"residual": 0.75},
                           ffn_residual={"residual": 0.875, "branch": 1.25}),
                self.layer(self.softmax(4, 4), ffn=self.dense(), norms="both",
                           mixer_residual={"residual": 1.25, "branch": 0.75, "of_norm": True},
                           ffn_residual={"residual": 1.5, "of_norm": True}),
            ]},
        ]

    # --- weights

    def weights(self):
        r = Random(self.options.seed)
        tensors = {"embedding.weight": r.uniform((VOCAB, self.hidden), -1.0, 1.0)}
        for i, layer in enumerate(expand(self.config()["layers"])):
            p = f"layers.{i}."
            if layer.get("norm_weights", True):
                tensors.update({f"{p}{name}.weight": self.norm(r, self.hidden) for name in self.layer_norms(layer)})
            for m, mixer in enumerate(layer["mixers"]):
                tensors.update(self.mixer(r, f"{p}mixers.{m}.", mixer))
            tensors.update(self.ffn(r, p + "ffn.", layer["ffn"]))
        tensors["final_norm.weight"] = self.norm(r, self.hidden)
        tensors["head.weight"] = r.matrix(VOCAB, self.hidden, 4.0)
        return tensors

    @staticmethod
    def norm(r, n):
        return r.uniform((n,), 0.8, 1.2)

    @staticmethod
    def layer_norms(layer):
        before = ["mixer_norm"] if layer.get("parallel") else ["mixer_norm", "ffn_norm"]
        after = ["mixer_post_norm", "ffn_post_norm"]
        return {"pre": before, "post": after, "both": before + after}[layer.get("norms", "pre")]

    def mixer(self, r, p, c):
        """Of either kind; the names that both have mean the same in both."""
        softmax, qk_norm, head_dim = c["kind"] == "softmax", c.get("qk_norm", "none"), c["head_dim"]
        q, kv = c["heads"] * head_dim, c.get("kv_heads", c["heads"]) * head_dim
        # A sum over all keys that nothing normalises must not outgrow the stream.
        gain = 1.5 if softmax else 1.0 if "norm" in c else 0.5
        rows = {"q": q, "k": kv, "v": kv, "o": self.hidden}
        tensors = {f"{p}{name}.weight": r.matrix(rows[name], self.hidden, gain if name != "v" else 1.0)
                   for name in ("q", "k", "v")}
        tensors[p + "o.weight"] = r.matrix(self.hidden, q)
        for name in c.get("bias", ""):
            tensors[f"{p}{name}.bias"] = r.uniform((rows[name],), -0.5, 0.5)
        if qk_norm != "none":
            for name, width in (("q", q), ("k", kv)):
                tensors[f"{p}{name}_norm.weight"] = self.norm(r, head_dim if qk_norm == "head" else width)
        if c.get("output_gate") or c.get("gate", "none") != "none":
            tensors[p + "gate.weight"] = r.matrix(q, self.hidden)
        if c.get("norm", "none") != "none" and c.get("norm_weight", True):
            tensors[p + "norm.weight"] = self.norm(r, q)
        if c.get("lrpe"):
            tensors[p + "theta"] = r.uniform((q,), 0.0, 0.75)
        if c.get("sinks"):
            tensors[p + "sinks"] = r.uniform((c["heads"],), -1.0, 3.0)
        if c.get("head_router", {"score": ""}).get("score", "router") == "router":
            tensors.update(self.head_router(r, p, c["heads"], c["head_router"].get("shared", 0)))
        return tensors

    def head_router(self, r, p, heads, shared):
        tensors = {p + "routed_heads.weight": r.matrix(heads - shared, self.hidden, 2.0)}
        if shared:
            tensors[p + "shared_heads.weight"] = r.matrix(shared, self.hidden)
            tensors[p + "head_stages.weight"] = r.matrix(2, self.hidden)
        return tensors

    def ffn(self, r, p, c):
        if c["kind"] == "dense":
            return self.glu(r, p, c["intermediate"])
        tensors = {p + "router.weight": r.matrix(c["experts"], self.hidden, 3.0)}
        if c.get("router_bias"):
            tensors[p + "router.bias"] = r.uniform((c["experts"],), -0.5, 0.5)
        if c.get("choice_bias"):
            tensors[p + "choice_bias"] = r.uniform((c["experts"],), -0.2, 0.2)
        for e in range(c["experts"]):
            expert = f"{p}experts.{e}."
            # With a limit, gates and ups reach it.
            tensors.update(self.glu(r, expert, c["intermediate"], (3.0, 0.25) if "limit" in c else (1.0, 1.0)))
            if c.get("bias"):
                for name in ("gate", "up", "down"):
                    rows = self.hidden if name == "down" else c["intermediate"]
                    tensors[f"{expert}{name}.bias"] = r.uniform((rows,), -0.5, 0.5)
        if "shared" in c:
            tensors.update(self.glu(r, p + "shared.", c["shared"]["intermediate"]))
            if c["shared"]["join"] != "added":
                tensors[p + "shared_gate.weight"] = r.matrix(1, self.hidden)
        return tensors

    def glu(self, r, p, width, gains=(1.0, 1.0)):
        return {p + "gate.weight": r.matrix(width, self.hidden, gains[0]),
                p + "up.weight": r.matrix(width, self.hidden, gains[0]),
                p + "down.weight": r.matrix(self.hidden, width, gains[1])}


FAMILIES = {"heddle": Native}
