"""`heddle serve` as its clients see it: fields, forms of answers, streams, limits, keys, drain. HEDDLE names the
executable; exit status 77: skipped."""
import concurrent.futures
import http.client
import json
import math
import pathlib
import signal
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import HEDDLE, as_json, heddle, run_with_tiny_models  # noqa: E402
from server import Server, statuses, tiny_model  # noqa: E402

FOLDER = SERVER = None
MODEL = HYBRID = ""
ASK = [{"role": "user", "content": "pear and word"}]
CHAT = {"messages": ASK, "max_tokens": 6, "temperature": 0}
TEXT = {"prompt": "pear and word", "max_tokens": 6, "temperature": 0}


def setUpModule():
    global FOLDER, SERVER, MODEL, HYBRID
    FOLDER = tempfile.TemporaryDirectory()
    MODEL, HYBRID = tiny_model(FOLDER.name), tiny_model(FOLDER.name, "minicpm_sala")
    SERVER = Server(MODEL, "--ctx", 2048, "--served-model-name", "other/name", "--max-reply-tokens", 32)


def tearDownModule():
    code, log = SERVER.stop()
    FOLDER.cleanup()
    assert code == 0, log


def chat(**fields):
    status, reply = SERVER.post("/v1/chat/completions", {**CHAT, **fields})
    assert status == 200, reply
    return reply


def complete(**fields):
    status, reply = SERVER.post("/v1/completions", {**TEXT, **fields})
    assert status == 200, reply
    return reply


class Refusals(unittest.TestCase):
    def assertRefused(self, body, code, param=None, status=400, path="/v1/chat/completions"):
        for stream in ({}, {"stream": True}):
            if "tokenize" in path:
                stream = {}
            got, reply = SERVER.post(path, {**body, **stream})
            self.assertEqual(got, status, reply)
            self.assertEqual(set(reply["error"]), {"message", "type", "param", "code"})
            self.assertEqual(reply["error"]["code"], code, reply)
            if param:
                self.assertEqual(reply["error"]["param"], param, reply)

    # H13
    def test_numbers_outside_their_ranges(self):
        huge = [2**31, 2**53 + 1, 2**63, 1e308]
        for path, base in (("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)):
            for field, values in {
                "temperature": [-0.1, 2.1, 1e308], "top_p": [-0.1, 1.1], "top_k": [-2, *huge], "min_p": [-1, 1.01],
                "n": [0, -1, 17, 129, *huge], "presence_penalty": [-2.1, 2.1], "frequency_penalty": [-3, 3],
                "repetition_penalty": [0, -1, 10.1], "min_tokens": [-1, *huge], "priority": [-101, 101],
                "max_tokens": [-1, *huge], "seed": [2**63, -2**64],
            }.items():
                for value in values:
                    with self.subTest(f"{field} {value}"):
                        got, reply = SERVER.post(path, {**base, field: value})
                        self.assertEqual(got, 400, reply)
                        self.assertEqual(reply["error"]["param"], "messages" if "context" in reply["error"]["code"] else field)
                        self.assertIn(reply["error"]["code"], ("invalid_value", "invalid_type", "context_length_exceeded"))

    # H12, H13
    def test_edges_of_ranges_are_taken(self):
        for fields in [{"temperature": -0.0}, {"temperature": 2}, {"top_p": 0}, {"top_p": 1}, {"top_p": 5e-324}, {"top_k": -1}, {"n": 16},
                       {"max_tokens": 5.0}, {"seed": -2**63}, {"repetition_penalty": 1e-3}, {"temperature": 5e-324},
                       {"priority": 100}, {"stop": None}, {"temperature": None, "n": None, "logprobs": None, "stream": None}]:
            with self.subTest(fields):
                chat(**fields)

    # H12
    def test_wrong_types(self):
        for field, value in [("temperature", "1"), ("temperature", True), ("n", 1.5), ("n", "1"), ("stream", 1), ("stream", "true"), ("messages", "a"),
                             ("messages", {}), ("stop", 3), ("stop", [3]), ("logit_bias", []), ("model", 3), ("tools", {}), ("seed", [1])]:
            with self.subTest(field):
                got, reply = SERVER.post("/v1/chat/completions", {**CHAT, field: value})
                self.assertEqual((got, reply["error"]["code"], reply["error"]["param"]), (400, "invalid_type", field))

    def test_messages(self):
        for messages, code in [
            ([], "invalid_value"), ([3], "invalid_type"), ([{}], "missing_required_parameter"), ([{"role": "robot", "content": "a"}], "invalid_value"),
            ([{"role": "user"}], "missing_required_parameter"), ([{"role": "user", "content": 3}], "invalid_type"),
            ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a"}}]}], "unsupported_parameter"),
            ([{"role": "user", "content": [{"type": "text"}]}], "invalid_type"),
            ([{"role": "user", "content": "a"}] * 4097, "invalid_value"),
        ]:
            with self.subTest(str(messages)[:40]):
                self.assertRefused({**CHAT, "messages": messages}, code)
        self.assertRefused({}, "missing_required_parameter", "messages")
        self.assertRefused({}, "missing_required_parameter", "prompt", path="/v1/completions")

    # H14, S1
    def test_what_does_not_fit_the_context(self):
        self.assertRefused({**CHAT, "max_tokens": 2048}, "context_length_exceeded")
        self.assertRefused({**CHAT, "messages": [{"role": "user", "content": "pear " * 3000}]}, "context_length_exceeded")
        self.assertRefused({**TEXT, "prompt": [5] * 2048}, "context_length_exceeded", path="/v1/completions")
        status, reply = SERVER.post("/v1/completions", {**TEXT, "prompt": [5] * 3000})
        self.assertIn("3000", reply["error"]["message"])
        self.assertIn("2048", reply["error"]["message"])

    # H17
    def test_token_ids(self):
        for prompt in ([-1], [10**9], [1.5], ["a", 1], [[]], [[1], []], [[-1]], [], [None], {}, 3, ""):
            with self.subTest(prompt):
                self.assertEqual(SERVER.post("/v1/completions", {**TEXT, "prompt": prompt})[0], 400)
        for prompt, place in (([5, -1], "prompt[1] "), ([5, 6, 10**9], "prompt[2] "), ([[5], [6, 1.5]], "prompt[1][1] ")):
            self.assertRefused({**TEXT, "prompt": prompt}, "invalid_token_id", path="/v1/completions")
            self.assertIn(place, SERVER.post("/v1/completions", {**TEXT, "prompt": prompt})[1]["error"]["message"])

    # H15, H16
    def test_stops_and_biases(self):
        for stop in ("", ["a", ""], ["a"] * 33, "b" * 1025):
            self.assertRefused({**CHAT, "stop": stop}, "invalid_value", "stop")
        for bias in ({"a": 1}, {"-1": 1}, {"999999": 1}, {"1": 101}, {"1": "1"}, {str(i): 1 for i in range(1025)}, {"1 ": 1}, {"": 1}):
            self.assertRefused({**CHAT, "logit_bias": bias}, "invalid_value", "logit_bias")
        n_tokens = SERVER.post("/v1/completions", {**TEXT, "prompt": [10**9]})[1]["error"]["message"].split()[-1]
        for value in (-100, 100):  # all alike: that changes nothing
            bias = {str(i): value for i in range(int(n_tokens) + 1)}
            self.assertEqual(complete(logit_bias=bias, seed=1)["choices"][0]["text"], complete(seed=1)["choices"][0]["text"])

    # H20
    def test_what_is_known_and_lacks(self):
        for field, value in [("store", True), ("audio", {}), ("web_search_options", {}), ("prediction", {}), ("functions", []), ("chat_template", "a"),
                             ("modalities", ["audio"]), ("documents", [{}]), ("best_of", 2), ("grammar", "root ::= 'a'"), ("truncate_prompt_tokens", 5)]:
            self.assertRefused({**CHAT, field: value}, "unsupported_parameter", field)
        self.assertRefused({**TEXT, "suffix": "a"}, "unsupported_parameter", "suffix", path="/v1/completions")
        self.assertRefused({**TEXT, "best_of": 2}, "unsupported_parameter", "best_of", path="/v1/completions")
        chat(store=False, modalities=["text"], user="u", metadata={"a": "b"}, service_tier="auto")

    # H20
    def test_unknown_fields_are_named_and_ignored(self):
        status, headers, _ = SERVER.request("POST", "/v1/chat/completions", {**CHAT, "no_such_field": 1, "x\ny": 2})
        self.assertEqual((status, headers["x-ignored-fields"]), (200, "no_such_field, x?y"))

    # H24
    def test_objects_of_very_many_members_hold_nobody(self):
        many = {f"k{i}": 1 for i in range(200_000)}
        some = {f"k{i}": 1 for i in range(9_000)}

        def bodies(more):
            yield "/v1/chat/completions", {**CHAT, **more}
            yield "/v1/chat/completions", {**CHAT, "messages": [{**ASK[0], **more}]}
            yield "/v1/chat/completions", {**CHAT, "chat_template_kwargs": more}
            yield "/v1/completions", {**TEXT, **more}
            yield "/v1/responses", {"input": [{**ASK[0], **more}], "max_output_tokens": 16}
            yield "/v1/embeddings", {"input": "a", **more}
            yield "/tokenize", {"prompt": "a", **more}
            yield "/detokenize", {"tokens": [65], **more}
            yield "/apply-template", {"messages": ASK, **more}
        cases = [(path, json.dumps(body), body_of) for body_of in (many, some) for path, body in bodies(body_of)]
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(len(cases) + 1) as pool:
            sent = [pool.submit(SERVER.post, path, body) for path, body, _ in cases]
            self.assertEqual(SERVER.post("/tokenize", {"prompt": "pear"})[0], 200)
            for (path, _, body_of), reply in zip(cases, sent):
                status, answer = reply.result()
                refused = body_of is many or path == "/v1/embeddings"
                self.assertEqual(status, 400 if refused else 200, (path, str(answer)[:200]))
                if body_of is many:
                    self.assertRegex(answer["error"]["message"], "members of an object, got 20000[0-9], allowed up to 10000")
        self.assertLess(time.monotonic() - begin, 30)  # of minutes each

    def test_other_models(self):
        for model in ("nope", "../x", "", "Other/name"):
            self.assertRefused({**CHAT, "model": model}, "model_not_found", "model", status=404)
        self.assertEqual(chat(model="other/name")["model"], "other/name")
        self.assertEqual([m["id"] for m in SERVER.get("/v1/models")[1]["data"]], ["llama", "other/name"])
        self.assertEqual(SERVER.get("/v1/models/other/name")[1]["id"], "other/name")
        self.assertEqual(SERVER.get("/v1/models/other%2Fname")[1]["max_model_len"], 2048)

    def test_stream_options_need_a_stream(self):
        self.assertEqual(SERVER.post("/v1/chat/completions", {**CHAT, "stream_options": {"include_usage": True}})[0], 400)

    def test_tools(self):
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        for tools, choice in [([{"type": "web"}], None), ([{"type": "function", "function": {"name": "a b"}}], None), ([tool, tool], None),
                              ([tool] * 129, None), ([tool], "g"), ([tool], {"type": "function", "function": {"name": "g"}}), (None, "required"), ([3], None), ([{"type": {}}], None), ([tool], {"type": {}, "function": {"name": ""}}), ([tool], {"type": "function", "function": 3})]:
            with self.subTest(str(tools)[:40]):
                self.assertEqual(SERVER.post("/v1/chat/completions", {**CHAT, "tools": tools, "tool_choice": choice})[0], 400)

    def test_parameters_that_no_object_fits_are_refused(self):
        # The others are refused for another reason: this model's template has no tools.
        for schema, code in [({"type": "integer"}, "invalid_value"), ({"type": ["array", "null"]}, "invalid_value"),
                             ({"enum": [None]}, "invalid_value"), ({"const": 3}, "invalid_value"),
                             ({"type": ["object", "null"]}, "unsupported_parameter"), ({"properties": {}}, "unsupported_parameter"),
                             ({"enum": [{"a": 1}, 2]}, "unsupported_parameter")]:
            with self.subTest(schema):
                tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
                status, body = SERVER.post("/v1/chat/completions", {**CHAT, "max_tokens": 1, "tools": [tool]})
                self.assertEqual((status, body["error"]["code"]), (400, code), body)
                if code == "invalid_value":
                    self.assertEqual(body["error"]["param"], "tools[0].parameters")

    def test_seeds_are_64_bits(self):
        for seed, status in [(-2**63, 200), (-2**63 - 1, 400), (-2**63 - 2000, 400), (2**63 - 1, 200), (2**63, 400)]:
            with self.subTest(seed):
                self.assertEqual(SERVER.post("/v1/chat/completions", {**CHAT, "max_tokens": 1, "seed": seed})[0], status)

    # H19
    def test_schemas(self):
        def form(schema):
            return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}
        deep = {"type": "string"}
        for _ in range(40):
            deep = {"type": "array", "items": deep}
        for schema in ({"type": "string", "pattern": "(a"}, {"$ref": "#/nothing"}, {"type": "object", "patternProperties": {"a": {}}}, deep,
                       {"not": {}}, {"type": "array", "maxItems": 10**9, "minItems": 10**9}, False):
            with self.subTest(str(schema)[:50]):
                status, reply = SERVER.post("/v1/chat/completions", {**CHAT, **form(schema)})
                self.assertEqual(status, 400, reply)
                self.assertEqual(reply["error"]["code"], "unsupported_schema")
        for bad in ({"type": "xml"}, {}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"schema": {}}},
                    {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}):
            self.assertEqual(SERVER.post("/v1/chat/completions", {**CHAT, "response_format": bad})[0], 400)
        for bad in ({}, {"regex": "a", "choice": ["a"]}, {"regex": 3}, {"choice": []}, {"regex": "(a"}, {"grammar": "root ::= ("}, {"grammar": "a ::= b"}, {"no": 1}, {"regex": "(" * 30000}):
            with self.subTest(str(bad)[:40]):
                self.assertEqual(SERVER.post("/v1/chat/completions", {**CHAT, "structured_outputs": bad})[0], 400)
        said = SERVER.post("/v1/chat/completions", {**CHAT, "structured_outputs": {"choice": []}})[1]["error"]["message"]
        self.assertIn("structured_outputs.choice: got an empty list", said)


class Answers(unittest.TestCase):
    def test_a_chat_is_what_generate_says(self):
        want = as_json("generate", MODEL, "-p", "pear and word", "-n", 6, "--temp", 0, "--ctx", 2048)
        reply = chat(return_token_ids=True)
        self.assertEqual(reply["choices"][0]["message"], {"role": "assistant", "content": want["text"], "refusal": None})
        self.assertEqual(reply["choices"][0]["token_ids"], want["tokens"])
        self.assertEqual(reply["prompt_token_ids"], want["prompt_token_ids"])
        self.assertEqual(reply["object"], "chat.completion")
        self.assertEqual(reply["usage"]["completion_tokens"], len(want["tokens"]))

    def test_a_seed_decides_whatever_else_runs(self):
        fields = {"temperature": 1.5, "seed": 7, "n": 2, "max_tokens": 12, "top_p": 0.9}
        alone = [c["message"]["content"] for c in chat(**fields)["choices"]]
        self.assertNotEqual(*alone)
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            runs = list(pool.map(lambda i: chat(**fields, max_completion_tokens=12) if i % 2 else chat(temperature=2, max_tokens=30), range(24)))
        for reply in runs[1::2]:
            self.assertEqual([c["message"]["content"] for c in reply["choices"]], alone)

    def test_streams_say_what_answers_say(self):
        for path, body in (("/v1/chat/completions", {**CHAT, "n": 3, "temperature": 1, "seed": 3, "logprobs": True, "top_logprobs": 2}),
                           ("/v1/completions", {**TEXT, "n": 2, "temperature": 1, "seed": 3, "logprobs": 2, "echo": True}),
                           ("/v1/completions", {**TEXT, "prompt": ["pear", [5, 6]], "seed": 3})):
            whole = SERVER.post(path, body)[1]
            events = list(SERVER.events(path, {**body, "stream_options": {"include_usage": True}}))
            self.assertEqual(events[-1], "[DONE]")
            chunks = [json.loads(e) for e in events[:-1]]
            self.assertEqual(len({(c["id"], c["created"], c["model"]) for c in chunks}), 1)
            self.assertEqual(chunks[-1]["choices"], [])
            self.assertEqual(chunks[-1]["usage"]["completion_tokens"], whole["usage"]["completion_tokens"])
            self.assertTrue(all(c["usage"] is None and c["choices"] for c in chunks[:-1]))
            for choice in whole["choices"]:
                mine = [c["choices"][0] for c in chunks[:-1] if c["choices"][0]["index"] == choice["index"]]
                self.assertEqual([m["finish_reason"] for m in mine if m["finish_reason"]], [choice["finish_reason"]])
                if "message" in choice:
                    self.assertEqual(mine[0]["delta"], {"role": "assistant", "content": ""})
                    self.assertEqual("".join(m["delta"].get("content", "") for m in mine), choice["message"]["content"])
                    self.assertEqual(sum((m["logprobs"]["content"] for m in mine if m["logprobs"]), []), choice["logprobs"]["content"])
                else:
                    self.assertEqual("".join(m["text"] for m in mine), choice["text"])
                    if choice["logprobs"]:
                        for key, value in choice["logprobs"].items():
                            self.assertEqual(sum((m["logprobs"][key] for m in mine if m["logprobs"]), []), value, key)

    def test_a_stream_of_many_prompts_loses_nothing(self):
        for i in range(6):
            body = {**TEXT, "prompt": [f"pear {i} {k}" for k in range(40)], "max_tokens": 4, "temperature": 1, "seed": i}
            texts = {c["index"]: c["text"] for c in complete(**body)["choices"]}
            streamed = dict.fromkeys(texts, "")
            for event in list(SERVER.events("/v1/completions", body))[:-1]:
                choice = json.loads(event)["choices"][0]
                streamed[choice["index"]] += choice["text"]
            self.assertEqual(streamed, texts)

    def test_echo_and_logprobs_are_what_score_says(self):
        text = "pear and word or pear"
        path = pathlib.Path(FOLDER.name) / "text"
        path.write_text(text)
        out = pathlib.Path(FOLDER.name) / "scores"
        as_json("score", MODEL, "-f", path, "--logprobs", out)
        want = [json.loads(x) for x in out.read_text().splitlines()]
        ids = [x["token"] for x in want]
        for prompt in (text, ids):
            for fields in ({"max_tokens": 0}, {"max_tokens": 1}, {"max_tokens": 1, "n": 2}):
                choice = complete(prompt=prompt, echo=True, logprobs=1, **fields)["choices"][0]
                got = choice["logprobs"]
                n = len(ids) + fields["max_tokens"]
                self.assertEqual([len(got[k]) for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")], [n] * 4)
                self.assertIsNone(got["token_logprobs"][0])
                for mine, theirs in zip(got["token_logprobs"][1:len(ids)], want[1:]):
                    self.assertAlmostEqual(mine, theirs["logprob"], delta=2e-5)
                self.assertEqual(got["text_offset"], sorted(got["text_offset"]))
        greedy = complete(prompt=ids, echo=True, logprobs=1, max_tokens=1)["choices"][0]["logprobs"]
        self.assertEqual(greedy["token_logprobs"][-1], max(greedy["top_logprobs"][-1].values()))

    def test_prompt_logprobs(self):
        reply = chat(prompt_logprobs=2)
        entries = reply["prompt_logprobs"]
        self.assertEqual(len(entries), reply["usage"]["prompt_tokens"])
        self.assertIsNone(entries[0])
        for entry in entries[1:]:
            self.assertIn(len(entry), (2, 3))
            self.assertTrue(all(x["logprob"] <= 0 for x in entry.values()))
        self.assertEqual(reply["choices"][0]["message"], chat()["choices"][0]["message"])

    def test_logprobs_of_a_chat(self):
        content = chat(logprobs=True, top_logprobs=3)["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(content), 6)
        for token in content:
            self.assertEqual(len(token["top_logprobs"]), 3)
            self.assertEqual(token["logprob"], max(t["logprob"] for t in token["top_logprobs"]))
            self.assertEqual(bytes(token["bytes"]).decode(errors="replace") == token["token"] or token["token"].startswith("bytes:"), True)

    def test_what_is_reused_is_told(self):
        words = " ".join(f"word{i}" for i in range(80))
        first = chat(messages=[{"role": "user", "content": words}])["usage"]
        second = chat(messages=[{"role": "user", "content": words}])["usage"]
        self.assertEqual(second["prompt_tokens_details"]["cached_tokens"], second["prompt_tokens"] - 1)
        self.assertEqual(second["heddle"]["not_reused"], "none")
        self.assertNotEqual(first["heddle"]["not_reused"], "none")
        salted = chat(messages=[{"role": "user", "content": words}], cache_salt="a1")["usage"]
        self.assertEqual(salted["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertGreater(SERVER.metric("vllm:prefix_cache_hits_total"), 0)

    def test_lengths_and_stops(self):
        self.assertEqual(chat(max_tokens=None, ignore_eos=True)["usage"]["completion_tokens"], 32)  # --max-reply-tokens
        self.assertEqual(chat(max_tokens=3, max_completion_tokens=5, ignore_eos=True)["usage"]["completion_tokens"], 5)
        text = chat(max_tokens=24, ignore_eos=True)["choices"][0]["message"]["content"]
        stop = text[len(text) // 2:][:3]
        cut = chat(max_tokens=24, ignore_eos=True, stop=[stop])["choices"][0]
        self.assertEqual((cut["message"]["content"], cut["finish_reason"]), (text[:text.index(stop)], "stop"))
        ids = chat(max_tokens=8, ignore_eos=True, return_token_ids=True)["choices"][0]["token_ids"]
        got = chat(max_tokens=8, ignore_eos=True, return_token_ids=True, stop_token_ids=[ids[3]])["choices"][0]
        self.assertEqual((got["token_ids"], got["finish_reason"]), (ids[:ids.index(ids[3]) + 1], "stop"))
        self.assertGreaterEqual(chat(max_tokens=20, min_tokens=10, temperature=2, seed=5)["usage"]["completion_tokens"], 10)

    def test_progress_of_a_long_prompt(self):
        events = list(SERVER.events("/v1/completions", {**TEXT, "prompt": [5 + i % 50 for i in range(1800)], "return_progress": True}))
        seen = [json.loads(e)["prompt_progress"] for e in events if "prompt_progress" in e]
        self.assertGreater(len(seen), 1)
        self.assertEqual([p["processed"] for p in seen], sorted(p["processed"] for p in seen))
        self.assertTrue(all(p["total"] == 1800 for p in seen))

    def test_structured_answers_have_their_form(self):
        schema = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}, "n": {"type": "integer", "minimum": 3, "maximum": 12}},
                  "required": ["city", "n"], "additionalProperties": False}
        form = {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": schema}}}
        for seed in range(8):
            choice = chat(**form, temperature=1.5, seed=seed, max_tokens=60)["choices"][0]
            value = json.loads(choice["message"]["content"])
            self.assertIn(value["city"], ("Rome", "Oslo"))
            self.assertTrue(3 <= value["n"] <= 12)
            self.assertEqual(choice["finish_reason"], "stop")
        cut = chat(**form, max_tokens=3)["choices"][0]
        self.assertEqual(cut["finish_reason"], "length")
        self.assertIn(chat(structured_outputs={"choice": ["yes", "no"]}, max_tokens=9)["choices"][0]["message"]["content"], ("yes", "no"))
        self.assertRegex(complete(structured_outputs={"regex": "[a-c]{3}-[0-9]{2}"}, max_tokens=9, temperature=1)["choices"][0]["text"], r"^[a-c]{3}-[0-9]{2}$")
        self.assertRegex(complete(structured_outputs={"grammar": 'root ::= "x" ("y" | "z"){2}'}, max_tokens=9)["choices"][0]["text"], r"^x[yz]{2}$")
        for seed in range(4):
            choice = chat(response_format={"type": "json_object"}, temperature=1, seed=seed, max_tokens=120)["choices"][0]
            if choice["finish_reason"] == "stop":
                self.assertIsInstance(json.loads(choice["message"]["content"]), dict)

    def test_messages_may_be_parts_and_hold_more(self):
        plain = chat(messages=[{"role": "system", "content": "a"}, {"role": "user", "content": "b\nc"}], return_token_ids=True)
        parts = chat(messages=[{"role": "developer", "content": "a"}, {"role": "user", "name": "x", "type": "m", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]}],
                     return_token_ids=True)
        self.assertEqual(plain["prompt_token_ids"], parts["prompt_token_ids"])

    # H18
    def test_special_tokens_in_a_message_are_text(self):
        special = SERVER.post("/tokenize", {"prompt": "<|im_end|></s><s>", "add_special_tokens": False})[1]["tokens"]
        self.assertTrue(special)
        known = [i for i in special if SERVER.post("/detokenize", {"tokens": [i]})[1]["prompt"] in ("<|im_end|>", "</s>", "<s>")]
        self.assertTrue(known, "the model has none of these: another text is needed")
        plain = SERVER.post("/tokenize", {"messages": [{"role": "user", "content": ""}]})[1]["tokens"]
        ids = SERVER.post("/tokenize", {"messages": [{"role": "user", "content": "<|im_end|></s><s>"}]})[1]["tokens"]
        for i in known:
            self.assertEqual(ids.count(i), plain.count(i), "a message wrote a special token")
        self.assertGreater(len(ids), len(plain))

    # H18
    def test_hostile_texts_come_back_as_they_were(self):
        zalgo = "".join("h" + "\u0300\u0316\u0334" * 30 for _ in range(2000))
        planes = "".join(chr(c) for c in range(1, 0x110000, 97) if not 0xd800 <= c < 0xe000)
        for text in ("a" * 400000, "\n" * 400000, " " * 400000, "7" * 400000, "e" + "\u0301" * 100000, zalgo, "שלום עולם " * 20000, planes,
                     "<|im_end|></s><s>" * 20000):
            with self.subTest(text[:10]):
                ids = SERVER.post("/tokenize", {"prompt": text, "add_special_tokens": False})[1]["tokens"]
                self.assertEqual(SERVER.post("/detokenize", {"tokens": ids})[1]["prompt"], text)
                status, reply = SERVER.post("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": text}]})
                self.assertEqual((status, reply["error"]["code"]), (400, "context_length_exceeded"))

    def test_tokens(self):
        text = "pear und wörd 語 🙂"
        ids = SERVER.post("/tokenize", {"prompt": text, "return_token_strs": True})[1]
        self.assertEqual(ids["count"], len(ids["tokens"]))
        self.assertEqual(len(ids["token_strs"]), ids["count"])
        self.assertEqual(ids["max_model_len"], 2048)
        body = SERVER.post("/tokenize", {"content": text, "add_special_tokens": False})[1]["tokens"]
        self.assertEqual(SERVER.post("/detokenize", {"tokens": body})[1]["prompt"], text)
        self.assertEqual(SERVER.post("/detokenize", {"tokens": [10**7]})[0], 400)
        rendered = SERVER.post("/apply-template", {"messages": ASK})[1]
        self.assertIn("pear and word", rendered["prompt"])
        self.assertEqual(rendered["tokens"], chat(return_token_ids=True)["prompt_token_ids"])

    def test_embeddings_are_refused_in_words(self):
        status, reply = SERVER.post("/v1/embeddings", {"input": "a"})
        self.assertEqual((status, reply["error"]["code"]), (400, "unsupported_model"))

    def test_responses(self):
        body = {"input": "pear and word", "max_output_tokens": 16, "temperature": 0}
        status, whole = SERVER.post("/v1/responses", body)
        self.assertEqual(status, 200)
        self.assertIn(whole["status"], ("completed", "incomplete"))
        text = whole["output"][0]["content"][0]["text"]
        self.assertEqual(text, chat(max_tokens=16)["choices"][0]["message"]["content"])
        events = [json.loads(e) for e in SERVER.events("/v1/responses", body)]
        self.assertEqual([e["sequence_number"] for e in events], list(range(len(events))))
        self.assertEqual("".join(e["delta"] for e in events if e["type"] == "response.output_text.delta"), text)
        self.assertEqual([e["type"] for e in events[:2]], ["response.created", "response.in_progress"])
        self.assertEqual(events[-1]["type"], "response." + whole["status"])
        for bad in ({"previous_response_id": "a"}, {"background": True}, {"store": True}, {"max_output_tokens": 3}, {"input": []}, {"input": [{"type": "item_reference"}]}):
            self.assertEqual(SERVER.post("/v1/responses", {**body, **bad})[0], 400)

    def test_metrics_are_well_formed(self):
        _, headers, data = SERVER.request("GET", "/metrics")
        self.assertTrue(headers["content-type"].startswith("text/plain"))
        types = {}
        for line in data.decode().splitlines():
            if line.startswith("# TYPE"):
                types[line.split()[2]] = line.split()[3]
            elif not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                base = name.split("{")[0]
                family = base if base in types else base.rsplit("_", 1)[0]
                self.assertIn(family, types, line)
                self.assertTrue(math.isfinite(float(value)), line)
                self.assertTrue(types[base].endswith("counter") if base.endswith("_total") else True, line)
        for name in ("vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"):
            self.assertEqual(types[name], "gauge")

    def test_openapi_names_every_field(self):
        status, document = SERVER.get("/openapi.json")
        self.assertEqual(document["openapi"], "3.1.0")
        for path in BODIES:
            schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
            self.assertGreater(len(schema), 1)
            for name, field in schema.items():
                inner = field["anyOf"][0] if "description" not in field else field
                self.assertTrue(inner["description"], name)
                self.assertTrue(set(inner) & {"type", "anyOf", "enum"}, name)
                self.assertTrue("enum" in inner or "properties" in inner or "type" in inner or "anyOf" in inner, name)

    def test_openapi_is_honest(self):
        document = SERVER.get("/openapi.json")[1]

        def schema(path, name):
            field = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"][name]
            return field, field["anyOf"][0]
        chat_path = "/v1/chat/completions"
        self.assertEqual(schema(chat_path, "stream")[0]["default"], False)
        self.assertEqual(schema(chat_path, "n")[0]["default"], 1)
        self.assertEqual(schema("/v1/completions", "max_tokens")[0]["default"], 16)
        self.assertNotIn("default", schema(chat_path, "temperature")[0])
        seed = schema(chat_path, "seed")[1]
        self.assertEqual((seed["minimum"], seed["maximum"]), (-2**63, 2**63 - 1))
        self.assertIn(str(2**63 - 1), SERVER.post(chat_path, {**CHAT, "seed": 2**63})[1]["error"]["message"])
        chat(seed=seed["maximum"])
        self.assertEqual([schema(chat_path, "stop")[1]["anyOf"][i].get("maxItems") for i in (0, 1)], [None, 32])
        self.assertEqual(schema(chat_path, "stop")[1]["anyOf"][0]["maxLength"], 1024)
        self.assertEqual(schema(chat_path, "stop_token_ids")[1]["maxItems"], 1024)
        prompt = document["paths"]["/v1/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]["prompt"]
        self.assertEqual([way.get("maxItems") for way in prompt["anyOf"]], [None, 128, None, 128])
        self.assertIn("name", schema("/v1/responses", "tools")[1]["items"]["properties"])
        self.assertIn("function", schema(chat_path, "tools")[1]["items"]["properties"])
        for path, entry in document["paths"].items():
            for operation in entry.values():
                for status in ("408", "414", "431", "500", "503"):
                    self.assertIn(status, operation["responses"], path)
                self.assertIn("413", operation["responses"])
        self.assertIn("/v1/tokenize", document["paths"]["/tokenize"]["post"]["description"])


BODIES = {"/v1/chat/completions": CHAT, "/v1/completions": TEXT, "/v1/responses": {"input": "pear", "max_output_tokens": 16}, "/v1/embeddings": {"input": "pear"},
          "/tokenize": {"prompt": "pear"}, "/detokenize": {"tokens": [5]}, "/apply-template": {"messages": ASK}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}


class EveryField(unittest.TestCase):
    def assertError(self, path, fields, code, param=None, status=400):
        got, reply = SERVER.post(path, {**BODIES[path], **fields})
        self.assertEqual((got, reply.get("error", {}).get("code")), (status, code), reply)
        if param:
            self.assertEqual(reply["error"]["param"], param)

    def test_what_is_no_field_of_an_endpoint_has_no_effect(self):
        for path, fields in [("/v1/embeddings", {"messages": 3, "stream": "x"}), ("/tokenize", {"echo": 5, "stream": [1], "n": "x"}),
                             ("/detokenize", {"prompt": 3, "add_special_tokens": 4}), ("/apply-template", {"temperature": "x", "prompt": 3})]:
            status, headers, data = SERVER.request("POST", path, {**BODIES[path], **fields})
            self.assertEqual(status, 400 if "embed" in path else 200, data)
            if status == 200:
                self.assertEqual(sorted(headers["x-ignored-fields"].split(", ")), sorted(fields))
                self.assertEqual(json.loads(data), SERVER.post(path, BODIES[path])[1])

    def test_extras_are_checked_on_every_endpoint_that_has_them(self):
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses"):
            for field in ("ignore_eos", "min_tokens", "stop", "seed", "top_k", "min_p", "logit_bias", "priority", "session_id", "stop_token_ids", "structured_outputs"):
                self.assertError(path, {field: 1.5 if field != "min_p" else "x"}, "invalid_type", field)
        for field in ("tools", "tool_choice", "chat_template_kwargs"):
            self.assertEqual(SERVER.post("/tokenize", {"messages": ASK, field: 5})[0], 400)
        reply = SERVER.post("/v1/responses", {**BODIES["/v1/responses"], "ignore_eos": True, "min_tokens": 4, "seed": 3, "top_k": 2})[1]
        self.assertEqual(reply["usage"]["output_tokens"], 16)
        self.assertError("/v1/responses", {"n": 2}, "unsupported_parameter", "n")
        self.assertError("/v1/responses", {"response_format": {"type": "json_object"}}, "unsupported_parameter", "response_format")

    def test_response_format(self):
        schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
        for form in ({"type": "json_object", "schema": schema}, {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}):
            for text in (chat(response_format=form, max_tokens=30)["choices"][0]["message"]["content"], complete(response_format=form, max_tokens=30)["choices"][0]["text"]):
                self.assertIn(json.loads(text), ({"a": 1}, {"a": 2}))
        self.assertError("/v1/chat/completions", {"response_format": {"type": "json_object", "schema": {"not": {}}}}, "unsupported_schema")
        for bad, code in [({"type": "json_object", "schema": 3}, "invalid_type"), ({"type": "json_object", "json_schema": {"name": "s"}}, "invalid_value"),
                          ({"type": "json_schema", "json_schema": {"name": "s", "strict": "yes"}}, "invalid_type"), ({"type": "text", "schema": {}}, "invalid_value"),
                          ({"type": "json_schema", "json_schema": {"name": 3}}, "invalid_type")]:
            self.assertError("/v1/chat/completions", {"response_format": bad}, code)
        self.assertError("/v1/responses", {"text": {"format": {"type": "json_schema", "name": "s", "strict": 3, "schema": {}}}}, "invalid_type")
        self.assertEqual(SERVER.post("/v1/responses", {**BODIES["/v1/responses"], "text": {"format": None}})[0], 200)

    def test_nested_types(self):
        for fields, code in [({"stream": True, "stream_options": {"foo": 1}}, "unknown_parameter"), ({"stream": True, "stream_options": {"include_usage": 1}}, "invalid_type"),
                             ({"messages": [{"role": "assistant", "content": "a", "tool_calls": {}}]}, "invalid_type"), ({"messages": [{"role": "user", "content": "a", "name": 3}]}, "invalid_type"),
                             ({"metadata": {"a": 3}}, "invalid_type"), ({"metadata": {"a": "b" * 513}}, "invalid_value"), ({"metadata": {"a" * 65: "b"}}, "invalid_value"),
                             ({"metadata": {str(i): "" for i in range(17)}}, "invalid_value"), ({"cache_salt": ""}, "invalid_value")]:
            self.assertError("/v1/chat/completions", fields, code)
        chat(metadata={"\u00e9" * 64: "\u00e9" * 512})
        self.assertError("/v1/responses", {"include": ["message.output_text.logprobs"]}, "unsupported_parameter", "include")
        self.assertError("/v1/responses", {"include": ["x"]}, "invalid_value", "include")
        self.assertEqual(SERVER.post("/v1/responses", {**BODIES["/v1/responses"], "include": ["reasoning.encrypted_content"]})[0], 200)

    def test_min_tokens_is_named(self):
        for path, length in (("/v1/chat/completions", "max_tokens"), ("/v1/completions", "max_tokens"), ("/v1/responses", "max_output_tokens")):
            self.assertError(path, {length: 20, "min_tokens": 21}, "invalid_value", "min_tokens")
        self.assertError("/v1/completions", {"max_tokens": 0, "echo": True, "min_tokens": 1}, "invalid_value", "min_tokens")

    def test_models_and_unknown_fields_on_every_route(self):
        for path in BODIES:
            self.assertError(path, {"model": "nope"}, "model_not_found", "model", 404)
        status, headers, _ = SERVER.request("POST", "/tokenize", {"prompt": "a", "model": "other/name", "odd": 1})
        self.assertEqual((status, headers.get("x-ignored-fields")), (200, "odd"))
        self.assertError("/tokenize", {"messages": ASK}, "invalid_value")
        self.assertError("/tokenize", {"content": "a"}, "invalid_value")

    def test_tool_choices(self):
        tools = [TOOL, {"type": "function", "function": {"name": "g"}}]
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}}
        for bad, code in [({**allowed, "allowed_tools": {"mode": "x", "tools": []}}, "invalid_value"), ({"type": "custom", "custom": {"name": "f"}}, "unsupported_value"),
                          ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "h"}}]}}, "invalid_value"),
                          ({"name": "f"}, "invalid_type")]:
            self.assertError("/v1/chat/completions", {"tools": tools, "tool_choice": bad}, code, "tool_choice")
        self.assertError("/v1/completions", {"tools": tools}, "unsupported_parameter", "tools")

    def test_tools_need_a_place_in_the_template(self):
        template = json.loads((pathlib.Path(MODEL) / "tokenizer_config.json").read_text()).get("chat_template", "")
        got, reply = SERVER.post("/v1/chat/completions", {**CHAT, "tools": [TOOL]})
        if "tools" in template:
            self.assertEqual(got, 200, reply)
        else:
            self.assertEqual((got, reply["error"]["param"]), (400, "tools"), reply)
        self.assertEqual(SERVER.post("/v1/chat/completions", {**CHAT, "tools": [TOOL], "tool_choice": "none"})[0], 200)

    def test_offsets_where_special_tokens_are_echoed(self):
        whole = SERVER.post("/tokenize", {"prompt": "<s>pear</s> word<|im_end|>or"})[1]["tokens"]
        for prompt in (whole, "<s>pear</s> word<|im_end|>or", "pear"):
            choice = complete(prompt=prompt, echo=True, logprobs=0, max_tokens=1)["choices"][0]
            got = choice["logprobs"]
            for token, at, end in zip(got["tokens"], got["text_offset"], got["text_offset"][1:]):
                if end > at and not token.startswith("bytes:"):
                    self.assertEqual(choice["text"][at:end].strip(), token.strip(), (prompt, got))

    def test_streams_tell_ids_and_what_is_cached(self):
        body = {**TEXT, "prompt": ["pear " * 40, "word"], "n": 2, "return_token_ids": True, "seed": 1}
        whole = complete(**body)
        seen = {}
        for event in list(SERVER.events("/v1/completions", body))[:-1]:
            choice = json.loads(event)["choices"][0]
            seen.setdefault(choice["index"], []).append(choice)
        for choice in whole["choices"]:
            mine = seen[choice["index"]]
            self.assertEqual(mine[0]["prompt_token_ids"], choice["prompt_token_ids"])
            self.assertFalse(any("prompt_token_ids" in c for c in mine[1:]))
            self.assertEqual(sum((c.get("token_ids", []) for c in mine), []), choice["token_ids"])
        for path, fields in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "pear " * 60}]}), ("/v1/completions", {"prompt": "pear " * 60})):
            body = {**BODIES[path], **fields}
            SERVER.post(path, body)
            chunks = [json.loads(e) for e in list(SERVER.events(path, {**body, "stream_options": {"continuous_usage_stats": True}}))[:-1]]
            cached = {c["usage"]["prompt_tokens_details"]["cached_tokens"] for c in chunks}
            self.assertEqual(len(cached), 1, cached)
            self.assertGreater(cached.pop(), 20)
            self.assertFalse(any("prompt_progress" in c for c in chunks))

    def test_usage_of_several_prompts_is_a_sum(self):
        prompts = ["alpha " * 30, "beta " * 30]
        single = [complete(prompt=p)["usage"] for p in prompts]
        single = [complete(prompt=p)["usage"] for p in prompts]
        both = complete(prompt=prompts)["usage"]
        for key in ("cached_tokens", "known_tokens", "replayed_tokens"):
            self.assertEqual(both["heddle"][key], sum(u["heddle"][key] for u in single), key)
        self.assertEqual(both["heddle"]["not_reused"], "none")
        mixed = complete(prompt=[prompts[0], "gamma delta"])["usage"]["heddle"]
        self.assertNotEqual(mixed["not_reused"], "none")


class Runs(unittest.TestCase):
    # H23
    def test_keys(self):
        server = Server(MODEL, "--api-key", "one", "--api-key", "two")
        try:
            for header, status in [(None, 401), ("Bearer one", 200), ("bearer two", 200), ("Bearer three", 401), ("Bearer on", 401), ("Bearer oneone", 401),
                                   ("one", 401), ("Basic one", 401), ("Bearer " + "a" * 60000, 401), ("Bearer \u00e9", 401)]:
                with self.subTest(str(header)[:20]):
                    headers = {"authorization": header.encode("latin-1")} if header else {}
                    got, sent, data = server.request("GET", "/v1/models", headers=headers)
                    self.assertEqual(got, status)
                    if status == 401:
                        self.assertEqual(sent["www-authenticate"], "Bearer")
                        self.assertEqual(json.loads(data)["error"]["code"], "invalid_api_key")
            self.assertEqual(server.request("GET", "/v1/models?key=one")[0], 401)
            for path in ("/health", "/"):
                self.assertEqual(server.request("GET", path)[0], 200)
            for path in ("/metrics", "/version", "/openapi.json", "/v1/sessions", "/models"):
                self.assertEqual(server.request("GET", path)[0], 401)
            self.assertEqual(server.post("/v1/chat/completions", CHAT)[0], 401)
            words = {**CHAT, "messages": [{"role": "user", "content": "word " * 100}]}
            usage = [server.post("/v1/chat/completions", words, headers={"authorization": "Bearer " + k})[1]["usage"] for k in ("one", "two", "one")]
            cached = [u["prompt_tokens_details"]["cached_tokens"] for u in usage]
            self.assertEqual(cached[:2], [0, 0], "a client sees the prefixes of another")
            self.assertGreater(cached[2], 50)
        finally:
            server.stop()

    # S4
    def test_a_full_queue_is_429_and_what_was_taken_ends(self):
        server = Server(MODEL, "--parallel", 1, "--max-queue", 3)
        try:
            with concurrent.futures.ThreadPoolExecutor(40) as pool:
                runs = list(pool.map(lambda i: server.request("POST", "/v1/completions", {**TEXT, "max_tokens": 400, "ignore_eos": True}), range(40)))
            codes = [status for status, _, _ in runs]
            self.assertLessEqual(set(codes), {200, 429})
            self.assertGreaterEqual(codes.count(200), 4)
            self.assertGreater(codes.count(429), 0)
            for status, headers, data in runs:
                if status == 429:
                    self.assertGreaterEqual(int(headers["retry-after"]), 1)
                    self.assertEqual(json.loads(data)["error"]["type"], "rate_limit_error")
            self.assertTrue(server.wait_idle())
            self.assertEqual(server.post("/v1/completions", TEXT)[0], 200)
        finally:
            server.stop()

    def test_no_key_fills_the_queue_for_others(self):
        keys = [{"authorization": "Bearer " + k} for k in ("one", "two")]
        server = Server(MODEL, "--ctx", 8192, "--parallel", 1, "--max-queue", 5, "--api-key", "one", "--api-key", "two")
        try:  # six places: three for each
            body = {**TEXT, "max_tokens": 8000, "ignore_eos": True}
            running = server.events("/v1/completions", body, headers=keys[0])
            next(running)
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                waiting = [pool.submit(server.request, "POST", "/v1/completions", {**body, "max_tokens": 1}, keys[0]) for _ in range(6)]
                done, _ = concurrent.futures.wait(waiting, 30, concurrent.futures.FIRST_COMPLETED)
                self.assertEqual(done.pop().result()[0], 429)
                other = pool.submit(server.request, "POST", "/v1/completions", {**TEXT, "max_tokens": 1}, keys[1])
                end = time.time() + 30
                while server.metric("vllm:num_requests_waiting", keys[1]) < 3 and time.time() < end:
                    time.sleep(0.01)  # two of the one, one of the other
                running.close()
                self.assertEqual(other.result()[0], 200)
                codes = [w.result()[0] for w in waiting]
            self.assertEqual((codes.count(200), codes.count(429)), (2, 4))
        finally:
            server.stop()

    def test_a_key_is_asked_for_before_the_body(self):
        server = Server(MODEL, "--api-key", "one")
        try:
            lines = ["POST /v1/completions HTTP/1.1", "Host: a", f"Content-Length: {8 << 20}", "", ""]
            self.assertEqual(statuses(server.raw("\r\n".join(lines).encode() + b"{")), [401])
            lines[1] += "\r\nAuthorization: Bearer one\r\nOrigin: http://other.example"
            self.assertEqual(statuses(server.raw("\r\n".join(lines).encode() + b"{")), [403])
        finally:
            server.stop()

    def test_pages_of_other_sites_ask_for_nothing(self):
        server = Server(MODEL)
        other = Server(MODEL, "--cors-origin", "http://other.example")
        try:
            for origin, host, status in (("http://other.example", "127.0.0.1:80", 403), ("null", "127.0.0.1", 403),
                                         ("http://127.0.0.1:81", "127.0.0.1:80", 403), ("http://127.0.0.1:80", "127.0.0.1:80", 200),
                                         ("https://chat.example", "chat.example", 200)):
                with self.subTest(origin=origin):
                    got, _, data = server.request("POST", "/v1/completions", TEXT, {"origin": origin, "host": host})
                    self.assertEqual(got, status, data)
                    if status == 403:
                        self.assertEqual(json.loads(data)["error"]["code"], "origin_not_allowed")
            self.assertEqual(other.request("POST", "/v1/completions", TEXT, {"origin": "http://other.example"})[0], 200)
            self.assertEqual(server.request("GET", "/v1/models", None, {"origin": "http://other.example"})[0], 200)
        finally:
            server.stop()
            other.stop()

    def test_log_probabilities_of_prompts_have_a_bound(self):
        server = Server(MODEL, "--ctx", 8192)
        try:
            ids = {**TEXT, "prompt": [[5] * 4000] * 4, "max_tokens": 1, "prompt_logprobs": 20}
            status, reply = server.post("/v1/completions", ids)
            self.assertEqual((status, reply["error"]["param"]), (400, "prompt"))
            self.assertEqual(server.post("/v1/completions", {**ids, "prompt": [[5] * 400] * 4})[0], 200)
        finally:
            server.stop()

    def test_prompts_that_no_queue_holds_are_400(self):
        server = Server(MODEL, "--parallel", 2, "--max-queue", 4)
        try:
            status, reply = server.post("/v1/completions", {**TEXT, "prompt": ["a"] * 7})
            self.assertEqual((status, reply["error"]["param"]), (400, "prompt"))
            self.assertEqual(server.post("/v1/completions", {**TEXT, "prompt": ["a"] * 6})[0], 200)
            status, reply = server.post("/v1/completions", {**TEXT, "structured_outputs": {"regex": "(a*){50000}"}})
            self.assertEqual(status, 400, reply)
        finally:
            server.stop()

    def test_no_key_goes_before_the_others(self):
        server = Server(MODEL, "--api-key", "one", "--api-key", "two")
        try:
            key = {"authorization": "Bearer one"}
            status, reply = server.post("/v1/completions", {**TEXT, "priority": -1}, headers=key)
            self.assertEqual((status, reply["error"]["code"], reply["error"]["param"]), (400, "invalid_value", "priority"))
            self.assertEqual(server.post("/v1/completions", {**TEXT, "priority": 1}, headers=key)[0], 200)
        finally:
            server.stop()

    def test_a_key_has_its_share_of_the_queue(self):
        server = Server(MODEL, "--ctx", 8192, "--api-key", "one", "--api-key", "two", "--max-per-key", 2)
        try:
            keys = [{"authorization": "Bearer " + k} for k in ("one", "two")]
            running = [server.events("/v1/completions", {**TEXT, "max_tokens": 8000, "ignore_eos": True}, headers=keys[0]) for _ in range(2)]
            for events in running:
                next(events)
            status, headers, data = server.request("POST", "/v1/completions", TEXT, keys[0])
            self.assertEqual((status, json.loads(data)["error"]["code"], headers["retry-after"]), (429, "rate_limit_exceeded", "1"))
            self.assertEqual(server.post("/v1/completions", TEXT, headers=keys[1])[0], 200)
            for events in running:
                events.close()
            self.assertTrue(server.wait_idle(headers=keys[1]))
            self.assertEqual(server.post("/v1/completions", TEXT, headers=keys[0])[0], 200)
        finally:
            server.stop()
        code, _, text = heddle("serve", MODEL, "--max-per-key", 2, "--api-key", "one")
        self.assertEqual(code, 2)
        self.assertIn("--max-per-key", text)

    # R1
    def test_drain(self):
        server = Server(MODEL, "--parallel", 8, "--ctx", 8192, "--drain-seconds", 60)
        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            body = {**TEXT, "max_tokens": 5000, "ignore_eos": True}
            runs = [pool.submit(lambda: list(server.events("/v1/completions", body))) for _ in range(8)]
            end = time.time() + 20
            while server.metric("vllm:num_requests_running") < 8 and time.time() < end:
                time.sleep(0.01)
            early = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            early.connect()
            server.process.send_signal(signal.SIGTERM)
            refused = None
            while refused is None:  # the signal has not been seen yet
                status, headers, data = server.request("GET", "/health")
                refused = (status, json.loads(data)["error"]["code"]) if status != 200 else None
            self.assertEqual(refused, (503, "draining"))
            early.request("GET", "/v1/models")  # a connection made before the signal gets its answer
            reply = early.getresponse()
            self.assertEqual((reply.status, reply.headers["connection"]), (200, "close"))
            early.close()
            self.assertEqual(server.post("/v1/completions", TEXT)[0], 503)
            texts = [r.result() for r in runs]
        self.assertTrue(all(t[-1] == "[DONE]" for t in texts))
        self.assertEqual(server.stop(sig=None)[0], 0)

    # R1
    def test_a_short_drain_tells_the_rest(self):
        server = Server(MODEL, "--drain-seconds", 0.05)
        events = server.events("/v1/completions", {**TEXT, "max_tokens": 8000, "ignore_eos": True})
        next(events)
        server.process.send_signal(signal.SIGTERM)
        last = list(events)[-1]
        self.assertEqual(json.loads(last)["error"]["code"], "draining")
        self.assertEqual(server.stop(sig=None)[0], 0)

    def test_sessions_are_a_key_s_own(self):
        with tempfile.TemporaryDirectory() as folder:
            words = {**CHAT, "messages": [{"role": "user", "content": "word " * 150}], "session_id": "talk"}
            keys = [{"authorization": "Bearer " + k} for k in ("one", "two")]
            server = Server(HYBRID, "--session-dir", folder, "--api-key", "one", "--api-key", "two")
            server.post("/v1/chat/completions", words, headers=keys[0])
            self.assertEqual(server.post("/v1/sessions/talk/save", {}, headers=keys[0])[0], 200)
            self.assertEqual(server.get("/v1/sessions", headers=keys[1])[1]["data"], [])
            for action in ("save", "restore", "delete"):
                self.assertEqual(server.post(f"/v1/sessions/talk/{action}", {}, headers=keys[1])[0], 404)
            server.stop()
            # A key's name does not depend on the others.
            server = Server(HYBRID, "--session-dir", folder, "--api-key", "two", "--api-key", "three", "--api-key", "one")
            try:
                self.assertEqual([s["id"] for s in server.get("/v1/sessions", headers=keys[0])[1]["data"]], ["talk"])
                self.assertEqual(server.post("/v1/sessions/talk/restore", {}, headers=keys[1])[0], 404)
                self.assertEqual(server.post("/v1/sessions/talk/restore", {}, headers=keys[0])[0], 200)
                cached = [server.post("/v1/chat/completions", words, headers=k)[1]["usage"]["prompt_tokens_details"]["cached_tokens"]
                          for k in (keys[1], keys[0])]
                self.assertEqual(cached[0], 0)
                self.assertGreater(cached[1], 100)
                self.assertEqual(server.post("/v1/sessions/talk/delete", {}, headers=keys[0])[0], 200)
                self.assertEqual(list(pathlib.Path(folder).iterdir()), [])
            finally:
                server.stop()

    def test_sessions(self):
        with tempfile.TemporaryDirectory() as folder:
            words = {**CHAT, "messages": [{"role": "user", "content": "word " * 150}], "session_id": "talk-1"}
            server = Server(HYBRID, "--session-dir", folder)
            self.assertEqual(server.post("/v1/sessions/talk-1/save", {})[0], 404)
            self.assertEqual(server.post("/v1/chat/completions", {**words, "cache_salt": "a"})[1]["error"]["param"], "session_id")
            server.post("/v1/chat/completions", words)
            status, saved = server.post("/v1/sessions/talk-1/save", {})
            self.assertEqual((status, saved["saved"]), (200, True))
            self.assertEqual([s["id"] for s in server.get("/v1/sessions")[1]["data"]], ["talk-1"])
            for path in ("/v1/sessions/../save", "/v1/sessions/a%2Fb/save", "/v1/sessions/talk-1/keep", "/v1/sessions//save"):
                self.assertEqual(server.post(path, {})[0], 404)
            server.stop()
            server = Server(HYBRID, "--session-dir", folder)
            self.assertEqual(server.post("/v1/sessions/none/restore", {})[0], 404)
            status, restored = server.post("/v1/sessions/talk-1/restore", {})
            self.assertEqual((status, restored["tokens"], restored["bytes"]), (200, saved["tokens"], saved["bytes"]))
            usage = server.post("/v1/chat/completions", words)[1]["usage"]
            self.assertGreater(usage["prompt_tokens_details"]["cached_tokens"], 100)
            file = next(pathlib.Path(folder).iterdir())
            file.write_bytes(file.read_bytes()[:-9])
            status, reply = server.post("/v1/sessions/talk-1/restore", {})
            self.assertEqual(status, 400)
            self.assertNotIn(folder, reply["error"]["message"])
            self.assertEqual(server.post("/v1/sessions/talk-1/delete", {})[1]["deleted"], True)
            self.assertEqual(server.post("/v1/sessions/talk-1/delete", {})[0], 404)
            server.stop()
        self.assertEqual(SERVER.post("/v1/sessions/a/save", {})[0], 501)

    # R9
    def test_what_is_wrong_is_told_before_a_model_is_loaded(self):
        for flags, text in [(["--port", SERVER.port], "--port"), (["--host", "no.such.host.invalid"], "--host"), (["--host", ""], "--host"), (["--cors-origin", "http://a/b"], "--cors-origin"), (["--tls-cert", "a"], "--tls-key"),
                            (["--tls-cert", "/nothing", "--tls-key", "/nothing"], "--tls-cert"), (["--session-dir", "/nothing"], "--session-dir"),
                            (["--api-key", ""], "--api-key"), (["--port", "70000"], "--port")]:
            with self.subTest(flags):
                code, out, err = heddle("serve", MODEL, *flags)
                self.assertEqual((code, out), (2, ""), err)
                self.assertIn(text, err)
        self.assertIn("body_bytes", heddle("serve", "--show-limits")[1])

    def test_tls(self):
        import ssl
        import subprocess
        with tempfile.TemporaryDirectory() as folder:
            made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder + "/key", "-out", folder + "/cert", "-days", "2",
                                   "-subj", "/CN=localhost"], capture_output=True)
            if made.returncode != 0:
                self.skipTest("no openssl")
            server = Server(MODEL, "--tls-cert", folder + "/cert", "--tls-key", folder + "/key")
            context = ssl.create_default_context(cafile=folder + "/cert")
            context.check_hostname = False
            connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=30)
            for _ in range(2):
                connection.request("POST", "/v1/completions", json.dumps({**TEXT, "stream": True}), {"content-type": "application/json"})
                self.assertTrue(connection.getresponse().read().endswith(b"[DONE]\n\n"))
            connection.close()
            self.assertEqual(server.stop()[0], 0)


if __name__ == "__main__":
    run_with_tiny_models()
