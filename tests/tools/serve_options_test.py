"""`heddle serve` with flags that change what its clients see: comments in silence, pages from elsewhere, fields that
nobody knows, thoughts apart from the answer; and what a client that left has paid for already. HEDDLE names the
executable; exit status 77: skipped."""
import http.client
import json
import pathlib
import socket
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import run_with_tiny_models  # noqa: E402
from server import Server, tiny_model  # noqa: E402

FOLDER = None
MODEL = HYBRID = ""
ASK = [{"role": "user", "content": "pear and word"}]
CHAT = {"messages": ASK, "max_tokens": 6, "temperature": 0}
ENDLESS = {"prompt": "pear", "max_tokens": 60000, "ignore_eos": True, "temperature": 0}


def set_json(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def long_context(folder, family):
    model = tiny_model(folder, family)
    set_json(pathlib.Path(model) / "config.json", lambda config: config.update(max_position_embeddings=200000))
    return model


def thinking_model(folder):
    """Its prompts end inside <think>, and </think> is one token, so that a bias makes it say that. Returns the token, too."""
    model = pathlib.Path(tiny_model(folder))

    def add_token(data):
        vocab, merges = data["model"]["vocab"], data["model"]["merges"]
        old = max(vocab, key=vocab.get)
        while any(old in pair for pair in merges):  # nothing may be made of it
            old = max((t for t in vocab if vocab[t] < vocab[old]), key=vocab.get)
        data["model"]["merges"] = [pair for pair in merges if "".join(pair) != old]
        vocab["</think>"] = add_token.id = vocab.pop(old)
        data["added_tokens"].append({**data["added_tokens"][0], "id": add_token.id, "content": "</think>", "special": False})

    def open_thoughts(data):
        data["chat_template"] = data["chat_template"].replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
        assert "<think>" in data["chat_template"]
        # Thoughts of earlier answers are left out, as templates of such models do.
        data["chat_template"] = data["chat_template"].replace("message['content']", "message['content'].split('</think>')[-1]")
    set_json(model / "tokenizer.json", add_token)
    set_json(model / "tokenizer_config.json", open_thoughts)
    return str(model), add_token.id


def setUpModule():
    global FOLDER, MODEL, HYBRID
    FOLDER = tempfile.TemporaryDirectory()
    MODEL, HYBRID = long_context(FOLDER.name, "llama"), long_context(FOLDER.name, "minicpm_sala")


def tearDownModule():
    FOLDER.cleanup()


class Options(unittest.TestCase):
    maxDiff = None

    def serve(self, model, *flags):
        server = Server(model, *flags)
        self.addCleanup(server.stop)
        return server

    def lines(self, server, path, body):
        """Of a stream, each as it comes; the connection is closed with the generator."""
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
        connection.request("POST", path, json.dumps({**body, "stream": True}), {"content-type": "application/json"})
        reply = connection.getresponse()
        self.assertEqual(reply.status, 200)
        try:
            for line in reply:
                yield line.rstrip(b"\r\n").decode()
        finally:
            connection.sock.shutdown(socket.SHUT_RDWR) if connection.sock else reply.close()
            connection.close()

    def test_a_comment_breaks_the_silence_of_a_stream(self):
        server = self.serve(MODEL, "--ctx", 65536, "--parallel", 1, "--ping-seconds", 0.05)
        running = self.lines(server, "/v1/completions", ENDLESS)
        while not next(running).startswith("data: "):
            pass
        waiting = self.lines(server, "/v1/chat/completions", CHAT)
        seen = []
        while seen.count(": ping") < 3:  # it waits for the other one
            seen.append(next(waiting))
        self.assertEqual({line for line in seen if line.startswith(":")}, {": ping"})
        self.assertEqual(sum("data: " in line for line in seen), 1, "the role alone")
        self.assertEqual(seen[seen.index(": ping") + 1], "", "a comment is an event of its own")
        running.close()
        rest = [json.loads(line[6:]) for line in waiting if line.startswith("data: {")]
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in rest)
        self.assertEqual(text, server.post("/v1/chat/completions", CHAT)[1]["choices"][0]["message"]["content"])

    def test_no_comments_if_none_are_wanted(self):
        server = self.serve(MODEL, "--ping-seconds", 0)
        lines = list(self.lines(server, "/v1/chat/completions", CHAT))
        self.assertEqual([line for line in lines if line.startswith(":")], [])

    def test_pages_from_elsewhere_may_ask_where_that_is_wanted(self):
        origin = {"origin": "https://pages.example"}
        preflight = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
        server = self.serve(MODEL, "--cors-origin", "https://pages.example", "--api-key", "k")
        status, headers, _ = server.request("OPTIONS", "/v1/chat/completions", headers=preflight)
        self.assertIn(status, (200, 204))
        self.assertEqual(headers["access-control-allow-origin"], "https://pages.example")
        self.assertIn("POST", headers["access-control-allow-methods"])
        self.assertIn("authorization", headers["access-control-allow-headers"].lower())
        self.assertIn("content-type", headers["access-control-allow-headers"].lower())
        key = {"authorization": "Bearer k"}
        for stream in (False, True):
            status, headers, _ = server.request("POST", "/v1/chat/completions", {**CHAT, "stream": stream}, {**origin, **key})
            self.assertEqual((status, headers["access-control-allow-origin"]), (200, "https://pages.example"))
        status, headers, _ = server.request("POST", "/v1/chat/completions", {**CHAT, "temperature": 9}, {**origin, **key})
        self.assertEqual((status, headers["access-control-allow-origin"]), (400, "https://pages.example"), "errors are to be read, too")
        status, headers, _ = server.request("POST", "/v1/chat/completions", CHAT, origin)
        self.assertEqual((status, headers["access-control-allow-origin"]), (401, "https://pages.example"))
        other = self.serve(MODEL)
        for method, body in (("OPTIONS", None), ("POST", CHAT)):
            _, headers, _ = other.request(method, "/v1/chat/completions", body, preflight)
            self.assertEqual([name for name in headers if name.startswith("access-control")], [])

    def test_fields_that_nobody_knows_are_refused_where_that_is_wanted(self):
        strict, loose = self.serve(MODEL, "--strict-fields"), self.serve(MODEL)
        for path, body in [("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": "pear", "max_tokens": 2}),
                           ("/v1/responses", {"input": "pear", "max_output_tokens": 16}), ("/tokenize", {"prompt": "pear"})]:
            with self.subTest(path):
                self.assertEqual(strict.post(path, body)[0], 200)
                status, reply = strict.post(path, {**body, "temprature": 1})
                self.assertEqual((status, reply["error"]["code"], reply["error"]["param"]), (400, "unknown_parameter", "temprature"))
                status, headers, _ = loose.request("POST", path, {**body, "temprature": 1})
                self.assertEqual((status, headers["x-ignored-fields"]), (200, "temprature"))

    def test_what_is_read_of_a_prompt_is_kept_when_its_client_leaves(self):
        for model in (MODEL, HYBRID):
            with self.subTest(model):
                server = self.serve(model, "--ctx", 100000, "--max-step-tokens", 128)
                prompt = [3 + i * 7 % 300 for i in range(90000)]
                body = {"prompt": prompt, "max_tokens": 2, "temperature": 0}
                stream = self.lines(server, "/v1/completions", {**body, "return_progress": True})
                for line in stream:
                    done = json.loads(line[6:]).get("prompt_progress", {}).get("processed", 0) if line.startswith("data: {") else 0
                    if done >= 2000:
                        break
                self.assertLess(done, 90000)
                stream.close()
                self.assertTrue(server.wait_idle(60))
                self.assertEqual(server.metric("vllm:generation_tokens_total"), 0, "it was cut while its prompt was read")
                self.assertEqual(server.metric("vllm:prompt_tokens_total"), 90000)
                self.assertEqual(server.metric("heddle:disconnected_total"), 1)
                again = server.post("/v1/completions", {**body, "prompt": prompt[:2500]})[1]["usage"]
                self.assertGreaterEqual(again["prompt_tokens_details"]["cached_tokens"], 1024)
                self.assertEqual(server.metric("heddle:snapshot_hits_total"), 1 if model == HYBRID else 0)

    def test_metrics_count_what_was_asked_and_said(self):
        server = self.serve(HYBRID, "--ctx", 4096)
        prompts = [[3 + (k + i * 7) % 300 for i in range(200)] for k in (0, 50, 100)]
        bodies = [{"prompt": prompts[0], "max_tokens": 21}, {"prompt": prompts[1], "max_tokens": 41, "n": 4}, {"prompt": prompts, "max_tokens": 5}]
        for body in bodies:
            before = [server.metric(f"vllm:{name}_seconds_sum") for name in ("inter_token_latency", "request_decode_time")]
            self.assertEqual(server.post("/v1/completions", {**body, "ignore_eos": True, "temperature": 1, "seed": 1})[0], 200)
            gaps, whole = (server.metric(f"vllm:{name}_seconds_sum") - b for name, b in zip(("inter_token_latency", "request_decode_time"), before))
            if "n" in body:
                self.assertGreater(gaps, 2 * whole, "four choices side by side, each of them with gaps that fill this time")
            elif body is bodies[0]:
                self.assertAlmostEqual(gaps, whole, delta=1e-3)
        self.assertEqual(server.post("/v1/completions", {**bodies[0], "max_tokens": 5000})[0], 400)
        self.assertTrue(server.wait_idle(60))
        n_prompt = 200 + 4 * 200 + 3 * 200
        want = {"vllm:prompt_tokens_total": n_prompt, "vllm:prefix_cache_queries_total": n_prompt, "vllm:generation_tokens_total": 21 + 4 * 41 + 3 * 5,
                "vllm:request_success_total": 1 + 4 + 3, "vllm:inter_token_latency_seconds_count": 20 + 4 * 40 + 3 * 4,
                "vllm:request_prompt_tokens_sum": 200 + 200 + 600, "vllm:request_generation_tokens_sum": 200, "heddle:snapshot_hits_total": 2,
                "heddle:disconnected_total": 0}
        want.update({f"vllm:{name}_count": 3 for name in (
            "time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
            "request_decode_time_seconds", "request_inference_time_seconds", "request_prompt_tokens", "request_generation_tokens")})
        self.assertEqual({name: server.metric(name) for name in want}, want)
        # What steps computed: the rows of prompts that no cache had, and of each choice all tokens but the last.
        n_cached = server.metric("vllm:prefix_cache_hits_total")
        self.assertEqual(server.metric("vllm:iteration_tokens_total_sum"), n_prompt - n_cached + 200 - 8 + server.metric("heddle:replayed_tokens_total"))
        self.assertGreater(server.metric("heddle:snapshot_bytes"), 0)
        self.assertEqual(server.metric("heddle:snapshot_bytes") % server.metric("heddle:snapshots"), 0)

    def test_thoughts_are_apart_from_the_answer(self):
        with tempfile.TemporaryDirectory() as folder:
            model, token = thinking_model(folder)
            server = self.serve(model, "--ctx", 2048)
            self.assertEqual(server.post("/tokenize", {"prompt": "</think>"})[1]["tokens"], [token])
            for seed in range(100):
                body = {"messages": ASK, "temperature": 1, "seed": seed, "max_tokens": 300, "logit_bias": {token: 4}, "structured_outputs": {"choice": ["pear"]}}
                whole = server.post("/v1/chat/completions", body)[1]
                message = whole["choices"][0]["message"]
                if message["content"] == "pear" and len(message.get("reasoning_content", "")) > 5:
                    break
            self.assertEqual((message["content"], whole["choices"][0]["finish_reason"]), ("pear", "stop"))
            self.assertGreater(len(message["reasoning_content"]), 5)
            self.assertNotIn("</think>", message["reasoning_content"])
            self.assertGreater(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 0)
            chunks = [json.loads(e)["choices"][0]["delta"] for e in server.events("/v1/chat/completions", body) if e != "[DONE]"]
            for name in ("content", "reasoning_content"):
                self.assertEqual("".join(c.get(name) or "" for c in chunks), message[name])
            self.assertGreater(sum("reasoning_content" in c for c in chunks), 1, "thoughts stream")
            # A limit inside the thoughts: thoughts alone, and no content.
            cut = server.post("/v1/chat/completions", {**CHAT, "max_tokens": 20})[1]["choices"][0]
            self.assertEqual((cut["message"]["content"], cut["finish_reason"]), ("", "length"))
            self.assertTrue(cut["message"]["reasoning_content"])
            response = server.post("/v1/responses", {"input": "pear and word", "temperature": 0, "max_output_tokens": 20})[1]
            self.assertEqual([(i["type"], i["status"]) for i in response["output"]], [("reasoning", "incomplete")])
            self.assertEqual(response["output"][0]["content"][0]["text"], cut["message"]["reasoning_content"])
            plain = self.serve(model, "--ctx", 2048, "--no-reasoning")
            message = plain.post("/v1/chat/completions", {**CHAT, "max_tokens": 20})[1]["choices"][0]["message"]
            self.assertNotIn("reasoning_content", message)
            self.assertTrue(message["content"])


if __name__ == "__main__":
    run_with_tiny_models()
