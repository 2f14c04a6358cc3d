"""`heddle serve` with the official openai client, which checks every answer against its types. HEDDLE names the
executable; exit status 77: skipped."""
import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import run_with_tiny_models  # noqa: E402
from server import Server, tiny_model  # noqa: E402

try:
    import openai
    import pydantic
except ImportError:
    openai = None

FOLDER = SERVER = CLIENT = None
ASK = [{"role": "user", "content": "pear and word"}]
WEATHER = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {
    "type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city", "days"], "additionalProperties": False}}}


def model_with_tools(folder):
    """A tiny model whose chat template has a place for tools."""
    model = tiny_model(folder)
    path = pathlib.Path(model) / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["chat_template"] = ("{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool | tojson }}{{ '\n' }}{% endfor %}"
                               "{{ '<|im_end|>\n' }}{% endif %}" + config["chat_template"])
    path.write_text(json.dumps(config))
    return model


def setUpModule():
    global FOLDER, SERVER, CLIENT
    FOLDER = tempfile.TemporaryDirectory()
    SERVER = Server(model_with_tools(FOLDER.name), "--ctx", 4096, "--tool-parser", "hermes", "--api-key", "k")
    CLIENT = openai.OpenAI(base_url=f"http://127.0.0.1:{SERVER.port}/v1", api_key="k", max_retries=0, _strict_response_validation=True)


def tearDownModule():
    code, log = SERVER.stop()
    FOLDER.cleanup()
    assert code == 0, log


def chat(**fields):
    return CLIENT.chat.completions.create(**{"model": "llama", "messages": ASK, "max_tokens": 8, "temperature": 0, **fields})


@unittest.skipIf(openai is None, "openai is not installed")
class OpenAi(unittest.TestCase):
    def test_models(self):
        self.assertEqual([m.id for m in CLIENT.models.list().data], ["llama"])
        self.assertEqual(CLIENT.models.retrieve("llama").owned_by, "heddle")

    def test_chat_and_stream(self):
        whole = chat(n=2, seed=1, temperature=1, logprobs=True, top_logprobs=2)
        self.assertEqual(len(whole.choices), 2)
        self.assertEqual(len(whole.choices[0].logprobs.content[0].top_logprobs), 2)
        texts, ends, usage = ["", ""], [], None
        for chunk in chat(n=2, seed=1, temperature=1, stream=True, stream_options={"include_usage": True}):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                ends += [choice.finish_reason] if choice.finish_reason else []
            usage = chunk.usage or usage
        self.assertEqual(texts, [c.message.content for c in whole.choices])
        self.assertEqual(len(ends), 2)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)

    def test_the_streaming_helper(self):
        with CLIENT.chat.completions.stream(model="llama", messages=ASK, extra_body={"structured_outputs": {"choice": ["pear"]}}) as stream:
            self.assertEqual(stream.get_final_completion().choices[0].message.content, "pear")

    def test_structured_parse(self):
        class City(pydantic.BaseModel):
            name: str = pydantic.Field(pattern="^[A-Z][a-z]{2,6}$")
            size: int
            capital: bool
        for seed in range(3):
            parsed = CLIENT.chat.completions.parse(model="llama", messages=ASK, max_tokens=200, temperature=1, seed=seed, response_format=City)
            self.assertIsInstance(parsed.choices[0].message.parsed, City)

    def test_tools(self):
        for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
            for stream in (False, True):
                with self.subTest(f"{choice} {stream}"):
                    fields = {"tools": [WEATHER], "tool_choice": choice, "max_tokens": 300, "temperature": 1, "seed": 4, "parallel_tool_calls": False}
                    whole = chat(**fields).choices[0]
                    self.assertEqual(whole.finish_reason, "tool_calls")
                    self.assertIsNone(whole.message.content)
                    call = whole.message.tool_calls[0]
                    self.assertEqual(call.function.name, "weather")
                    self.assertIn(json.loads(call.function.arguments)["city"], ("Rome", "Oslo"))
                    arguments, names, ids = "", [], []
                    for chunk in chat(**fields, stream=True):
                        for piece in chunk.choices[0].delta.tool_calls or []:
                            arguments += piece.function.arguments or ""
                            names += [piece.function.name] if piece.function.name else []
                            ids += [piece.id] if piece.id else []
                    self.assertEqual((arguments, names, len(ids)), (call.function.arguments, ["weather"], 1))
        history = [*ASK, {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
        self.assertEqual(chat(messages=history, tools=[WEATHER], tool_choice="none").choices[0].message.role, "assistant")

    def test_completions(self):
        # Their types know no null for the first token's log probability, which is what their API gives.
        loose = openai.OpenAI(base_url=CLIENT.base_url, api_key="k")
        reply = loose.completions.create(model="llama", prompt=["pear", "word"], n=2, max_tokens=4, echo=True, logprobs=2, temperature=1, seed=2)
        self.assertEqual([c.index for c in reply.choices], [0, 1, 2, 3])
        self.assertTrue(reply.choices[3].text.startswith("word"))
        self.assertIsNone(reply.choices[0].logprobs.token_logprobs[0])
        pieces = loose.completions.create(model="llama", prompt="pear", max_tokens=4, temperature=0, stream=True)
        self.assertEqual("".join(p.choices[0].text for p in pieces), CLIENT.completions.create(model="llama", prompt="pear", max_tokens=4, temperature=0).choices[0].text)

    def test_responses(self):
        reply = CLIENT.responses.create(model="llama", input="pear and word", max_output_tokens=16, temperature=0)
        self.assertTrue(reply.output_text)
        kinds, text = [], ""
        for event in CLIENT.responses.create(model="llama", input="pear and word", max_output_tokens=16, temperature=0, stream=True):
            kinds.append(event.type)
            text += event.delta if event.type == "response.output_text.delta" else ""
        self.assertEqual(text, reply.output_text)
        self.assertEqual(kinds[0], "response.created")
        self.assertEqual((reply.service_tier, reply.top_logprobs, reply.reasoning.effort, reply.max_tool_calls), ("default", 0, None, None))
        self.assertEqual(reply.completed_at is None, reply.status == "incomplete")
        tool = {"type": "function", "name": "weather", "parameters": WEATHER["function"]["parameters"], "strict": True}
        called = CLIENT.responses.create(model="llama", input=[{"role": "user", "content": "pear"}], tools=[tool], tool_choice="required", max_output_tokens=300)
        self.assertEqual(called.output[0].type, "function_call")
        self.assertIn(json.loads(called.output[0].arguments)["city"], ("Rome", "Oslo"))
        again = CLIENT.responses.create(model="llama", max_output_tokens=16, input=[
            {"role": "user", "content": "pear"}, called.output[0].model_dump(exclude_none=True),
            {"type": "function_call_output", "call_id": called.output[0].call_id, "output": "rain"}])
        self.assertIn(again.status, ("completed", "incomplete"))

    def test_errors_are_the_clients_classes(self):
        for kind, code, call in [
            (openai.BadRequestError, "invalid_value", lambda: chat(temperature=9)),
            (openai.BadRequestError, "context_length_exceeded", lambda: chat(max_tokens=10**6)),
            (openai.NotFoundError, "model_not_found", lambda: chat(model="other")),
            (openai.AuthenticationError, "invalid_api_key", lambda: CLIENT.with_options(api_key="x").models.list()),
            (openai.BadRequestError, "unsupported_model", lambda: CLIENT.embeddings.create(model="llama", input="a")),
        ]:
            with self.assertRaises(kind) as caught:
                call()
            self.assertEqual(caught.exception.code, code)
            self.assertTrue(caught.exception.request_id)


if __name__ == "__main__":
    run_with_tiny_models()
