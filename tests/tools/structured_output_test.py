"""generate --json-schema, --regex, --grammar and --choice: whatever a random model says, an independent validator
(jsonschema, re) accepts it. HEDDLE names the executable; exit status 77: skipped."""
import datetime
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import Cli, good, heddle, run_with_tiny_models  # noqa: E402

FOLDER = None  # of this run
MODEL = ""
N_SCHEMAS = 60
N_SEEDS = 12


def setUpModule():
    global FOLDER, MODEL
    FOLDER = tempfile.TemporaryDirectory()
    MODEL = str(pathlib.Path(FOLDER.name) / "llama")
    subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", "--family", "llama", "--format",
                    "safetensors", "--seed", "17", "--out", MODEL], check=True, capture_output=True)


def tearDownModule():
    FOLDER.cleanup()


def answers(*flags, n=N_SEEDS, tokens=400):
    """Texts and reasons of n answers at temperature 1, each with a seed of its own."""
    lines = "".join(json.dumps({"prompt": "some text", "seed": seed}) + "\n" for seed in range(n))
    out = good("generate", MODEL, "--raw", "--temp", 1, "-n", tokens, "--ctx", 512, "--prompts", "-", *flags,
               stdin=lines.encode())
    return [(a["text"], a["finish_reason"]) for a in map(json.loads, out.splitlines())]


def random_number_schema(r):
    kind = r.choice(["integer", "number"])
    low = r.choice([None, r.randint(-300, 300), round(r.uniform(-5, 5), 3)])
    schema = {"type": kind}
    if low is not None:
        schema[r.choice(["minimum", "exclusiveMinimum"])] = low
    if r.random() < 0.5:
        schema[r.choice(["maximum", "exclusiveMaximum"])] = (low or 0) + r.choice([1.5, 3, 250, 0.125 + 1])
    return schema


def random_string_schema(r):
    return {"type": "string", **r.choice([
        {"minLength": 1, "maxLength": r.randint(1, 9)}, {"maxLength": r.randint(0, 5)},
        {"pattern": "^[a-f]{2,5}$"}, {"pattern": r'^(\w-?){1,4}[^a-z"]$'}, {"pattern": "^(a|\u20ac|\\\\|\")+b{2}$"},
        {"format": r.choice(["date", "time", "date-time", "uuid", "ipv4", "email"])},
        {"enum": ["red", "\"", "\u00e9\n", "blue"]}, {"const": "x"}])}


def random_schema(r, depth=0):
    """Of values with short texts, so that a random model comes to their end."""
    kinds = ["number", "string", "string", "enum", "type", "anyOf"] + ["object", "array"] * (2 if depth < 3 else 0)
    kind = "object" if depth == 0 else r.choice(kinds)
    if kind == "number":
        return random_number_schema(r)
    if kind == "string":
        return random_string_schema(r)
    if kind == "enum":
        return {"enum": r.sample([1, 2.5, None, True, "a", [1, "b"], {"c": {"d": []}}, -3, "\u20ac"], r.randint(1, 5))}
    if kind == "type":
        return {"type": r.choice([["boolean", "null"], "null", ["integer", "boolean"]])}
    if kind == "anyOf":
        return {r.choice(["anyOf", "oneOf"]): [{"type": "null"}, {"type": "boolean"}, random_string_schema(r)][:r.randint(1, 3)]}
    if kind == "array":
        if r.random() < 0.3:
            return {"type": "array", "prefixItems": [random_schema(r, depth + 1) for _ in range(r.randint(1, 3))],
                    "items": False, "minItems": r.randint(0, 1)}
        least = r.randint(0, 2)
        return {"type": "array", "items": random_schema(r, depth + 1), "minItems": least, "maxItems": least + r.randint(0, 3)}
    names = r.sample(["a", "b", "name", "a b", "\u00e9", "q\"", "long_name_of_a_property"], r.randint(0, 4))
    schema = {"type": "object", "properties": {n: random_schema(r, depth + 1) for n in names},
              "required": [n for n in names if r.random() < 0.6], "additionalProperties": False}
    if r.random() < 0.3:
        schema = {"allOf": [schema, {"properties": {n: {} for n in names}, "required": schema["required"][:1]}]}
    if depth == 0 and r.random() < 0.3 and "properties" in schema:
        schema["$defs"] = {"node": {"type": "object", "properties": {"v": {"type": "boolean"}, "next": {
            "anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}, "required": ["v", "next"]}}
        schema["properties"]["list"] = {"$ref": "#/$defs/node"}
    return schema


class StructuredOutput(Cli):
    def test_answers_are_valid(self):
        try:
            import jsonschema
        except ImportError:
            self.skipTest("jsonschema is not there")
        formats = jsonschema.FormatChecker(["date", "uuid", "ipv4", "email"])
        formats.checks("date-time", ValueError)(lambda x: "T" in x and datetime.datetime.fromisoformat(x).tzinfo)
        formats.checks("time", ValueError)(lambda x: datetime.time.fromisoformat(x).tzinfo)
        r = random.Random(3)
        n_whole = 0
        for _ in range(N_SCHEMAS):
            schema = random_schema(r)
            checker = jsonschema.Draft202012Validator(schema, format_checker=formats)
            for text, finish in answers("--json-schema", json.dumps(schema)):
                with self.subTest(schema=json.dumps(schema), text=text):
                    self.assertIn(finish, ("stop", "length"))
                    if finish == "stop":
                        checker.validate(json.loads(text))
                        n_whole += 1
        self.assertGreater(n_whole, N_SCHEMAS * N_SEEDS * 0.9, "most answers come to an end")

    def test_any_json_is_json(self):
        for schema in ("{}", '{"type":"object"}'):
            for text, finish in answers("--json-schema", schema, n=40):
                if finish == "stop":
                    json.loads(text)

    def test_regex_choice_and_grammar(self):
        pattern = r"(?:[A-F]\d|\w{2}-){1,4}[^a-z\s]{2}(?:yes|no)"
        for text, finish in answers("--regex", pattern):
            self.assertEqual(finish, "stop")
            self.assertRegex(text, "^(?:" + pattern + r")\Z")
        for text, _ in answers("--choice", "maybe", "--choice", "\u20ac 5", "--ignore-eos"):
            self.assertIn(text, ("maybe", "\u20ac 5"))
        grammar = pathlib.Path(FOLDER.name) / "sum.gbnf"
        grammar.write_text('root ::= n ("+" n){1,3}  # a sum\nn ::= [1-9] [0-9]{0,2} | "(" n ")"\n')
        for text, _ in answers("--grammar", f"@{grammar}"):
            self.assertTrue(re.fullmatch(r"[0-9+()]+", text), text)
            eval(text)  # noqa: S307  digits, plus signs and parentheses

    def test_schema_file_and_choices(self):
        file = pathlib.Path(FOLDER.name) / "schema.json"
        file.write_text('{"type": "integer", "minimum": 10, "maximum": 99}')
        out = json.loads(good("generate", MODEL, "--raw", "-p", "x", "--temp", 1, "--json", "--choices", 5, "--seed", 1,
                              "--json-schema", f"@{file}"))
        for choice in out["choices"]:
            self.assertTrue(10 <= int(choice["text"]) <= 99, choice)

    def test_min_tokens(self):
        out = json.loads(good("generate", MODEL, "--raw", "-p", "x", "--temp", 1, "--json", "--seed", 1, "--regex", "a*",
                              "--min-tokens", 9, "-n", 30))
        self.assertGreaterEqual(len(out["text"]), 9)
        self.assertRefused(["generate", MODEL, "--raw", "-p", "x", "--min-tokens", 9, "-n", 3], "min_new_tokens")

    def test_refusals(self):
        call = ["generate", MODEL, "-p", "x"]
        self.assertRefused([*call, "--regex", "a", "--choice", "b"], "only one of --json-schema")
        self.assertRefused([*call, "--json-schema", '{"not": {}}'], "unsupported_schema", "'not'")
        self.assertRefused([*call, "--json-schema", "@/no/such/file"], "/no/such/file")
        self.assertRefused([*call, "--regex", "("], "regex:2:")
        self.assertRefused([*call, "--grammar", "root ::= root"], "grammar:")
        self.assertRefused([*call, "--choice", ""], "choice")
        rc, _, err = heddle(*call, "--json-schema", '{"maxItems":1000000000}')
        self.assertEqual(rc, 2, err)


if __name__ == "__main__":
    run_with_tiny_models()
