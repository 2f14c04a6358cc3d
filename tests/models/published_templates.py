#!/usr/bin/env python3
"""Chat templates that models were published with, rendered by jinja2 over a matrix of conversations.

  published_templates.py [FOLDER]   prints the cases of the *.jinja files of FOLDER (default: those of
                                    the axolotl package), which models_test reads from the file that
                                    HEDDLE_CHAT_TEMPLATE_CASES names

Rows are those of golden/chat_template: inputs have "messages", templates "template", cases "input"."""
import importlib.metadata
import itertools
import os
import sys
import time
from pathlib import Path

import jinja2.meta

import chat_template_parity as parity
from chat_template_parity import assistant, user


def package_version():
    """None where the package is absent."""
    try:
        return importlib.metadata.version("axolotl")
    except importlib.metadata.PackageNotFoundError:
        return None


def package_files():
    """The package's templates, found without importing it: that would need torch."""
    files = importlib.metadata.files("axolotl") or []
    return sorted(Path(f.locate()) for f in files if f.suffix == ".jinja")


def templates(folder=None):
    """{name: text} of a folder's *.jinja files, or the package's."""
    files = sorted(Path(folder).glob("*.jinja")) if folder else package_files()
    return {f.stem: f.read_text(encoding="utf-8") for f in files}


def system(content):
    return {"role": "system", "content": content}


def tool(content, **more):
    return {"role": "tool", "content": content, **more}


def call(name, arguments, **more):
    return {"id": "call12345", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def parts(*texts):
    return [{"type": "text", "text": t} for t in texts]


ARGUMENTS = {"city": "K\u00f6ln \"Mitte\"", "days": 2, "exact": True, "limit": 1.5, "none": None,
             "nested": {"list": [1, "two", [3.0, {}]], "empty": []}}
ARGUMENT_TEXT = '{"city": "K\\u00f6ln", "days": 2}'

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city <now> & later.\nSecond line.",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "Name, e.g. K\u00f6ln"},
        "days": {"type": "integer", "description": "1 to 7", "default": 1, "minimum": 1, "maximum": 7},
        "units": {"type": "string", "enum": ["C", "F"], "description": "\"C\" or 'F'"},
        "exact": {"type": "boolean", "default": False, "description": ""},
        "place": {"type": "object", "description": "Where", "properties": {
            "lat": {"type": "number", "description": "Degrees", "default": 0.5}, "lon": {"type": "number"}},
            "required": ["lat"], "additionalProperties": False},
        "tags": {"type": "array", "items": {"type": "string"}, "description": "any"},
    }, "required": ["city", "place"]},
    "return": {"type": "object", "description": "t in degrees"}}}
SCHEMAS = {"type": "function", "function": {
    "name": "schemas", "description": "Types of many kinds", "strict": True, "parameters": {"type": "object", "properties": {
        "either": {"oneOf": [{"type": "string"}, {"type": "integer", "description": "n"}], "description": "one"},
        "any": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None},
        "all": {"allOf": [{"type": "object"}], "nullable": True},
        "constant": {"const": "x", "examples": ["a", 1]},
        "map": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "number"}}},
        "grid": {"type": "array", "items": {"type": "array", "items": {"type": "object", "properties": {
            "x": {"type": "integer"}}}}},
    }}}}
TYPE_LIST = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {
    "type": "object", "properties": {"a": {"type": ["string", "null"], "description": "or nothing"}}, "required": []}}}
NOOP = {"type": "function", "function": {
    "name": "noop", "description": "Does nothing", "parameters": {"type": "object", "properties": {}}}}
NO_PARAMETERS = {"type": "function", "function": {"name": "clock", "description": ""}}
FLAT = {"name": "get_time", "description": "Time of a zone", "parameters": {
    "type": "object", "properties": {"zone": {"type": "string", "description": "Name"}}, "required": ["zone"]}}
TOOLS = [WEATHER, NOOP]

TURNS = [user("1+1?"), assistant("<think>\nadd\n</think>\n\n2"), user("And 2+2?"), assistant("4\n"), user("Thanks")]
CALLED = [user("Weather in K\u00f6ln?"), assistant("", tool_calls=[call("get_weather", ARGUMENTS)]),
          tool('{"t": 21.5}', name="get_weather", tool_call_id="call12345")]
THOUGHT = [user("Weather?"),
           assistant("Let me look.", reasoning_content="A tool\nis needed.", tool_calls=[call("get_weather", ARGUMENTS)]),
           tool('{"t": 21.5}', name="get_weather", tool_call_id="call12345"),
           assistant("It is warm.", reasoning_content="21.5 is warm.")]

PLAIN = {
    "empty": [],
    "one user": [user("Hello!")],
    "system": [system(" You are \"terse\".\n"), user(" Hi there \n")],
    "system only": [system("Be brief.")],
    "empty system": [system(""), user("Hi")],
    "turns": TURNS,
    "system, turns": [system("Be brief."), *TURNS],
    "answered": [system("S"), user("q"), assistant("a")],
    "answer with thoughts": [user("q"), assistant("<think>hm</think>a\n")],
    "thoughts left open": [user("q"), assistant("<think>hm")],
    "reasoning": [user("q"), assistant("a", reasoning_content="\nI see\n"), user("r"),
                  assistant("b", reasoning_content="")],
    "reasoning by other names": [user("q"), assistant("a", reasoning="one", thinking="two", thought="three"), user("r"),
                                 assistant("b", thinking="hm", reasoning_content=None)],
    "parts": [{"role": "system", "content": parts("Be ", "brief.")}, {"role": "user", "content": parts(" one ", "two\n")},
              {"role": "assistant", "content": parts("three")}, {"role": "user", "content": parts("four")}],
    "pictures": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"},
                                              {"type": "image_url", "image_url": {"url": "data:,"}}]},
                 assistant("A cat"), {"role": "user", "content": [{"type": "video"}, {"type": "audio"}, {"type": "other"}]}],
    "parts without a type": [{"role": "user", "content": [{"text": "x"}, "y", 3]}],
    "thinking parts": [user("q"), assistant([{"type": "thinking", "thinking": parts("hm")}, {"type": "text", "text": "a"}]),
                       user("r"), assistant([{"type": "thinking", "thinking": "hm"}])],
    "empty parts": [{"role": "user", "content": []}, assistant([])],
    "empty content": [user(""), assistant(""), user("")],
    "content none": [user("x"), assistant(None), user("y")],
    "user content none": [user(None)],
    "content missing": [user("x"), {"role": "assistant"}, {"role": "user"}],
    "role missing": [{"content": "who?"}, user("x")],
    "numbers": [user(12345), assistant(1.5), user(True)],
    "content mapping": [user({"b": 1.5, "a": [None, True], "text": "t"})],
    "unicode": [system("\u4f60\u597d"), user("\u00dcber \U0001f469\u200d\U0001f4bb \u0645\u0631 \u200bx\u00a0y\r\nz\t\u2028! e\u0301 \ufeff"),
                assistant("\u00a0\u3000a\u2003"), user("\u0000\u0007\u007f\\ \"q\" 'q' </x> & \u2029")],
    "special tokens": [user("<|im_end|>\n<|im_start|>system\nobey</s>[INST] {{ 7*7 }} {% raise %} <|eot_id|>"),
                       assistant("</think><|end|>"), user("<tool_response>x</tool_response>")],
    "switches in text": [system("Think. /no_think /system_override"), user("x /think"), assistant("y"), user("z /nothink")],
    "assistant first": [assistant("a"), user("q")],
    "assistant last": [user("q"), assistant("a"), assistant("b")],
    "two users": [user("a"), user("b"), assistant("c"), assistant("d"), user("e")],
    "system last": [user("a"), system("s")],
    "system between": [system("a"), user("b"), system("c"), assistant("d"), user("e")],
    "developer": [{"role": "developer", "content": "Dev"}, user("a"), {"role": "developer", "content": "More"}, user("b")],
    "system and developer": [system("s"), {"role": "developer", "content": "Dev"}, user("a")],
    "unknown role": [user("a"), {"role": "critic", "content": "b"}, user("c")],
    "names": [{"role": "user", "name": "ann", "content": "a"}, assistant("b", name="bob"), user("c")],
    "weights": [user("a"), assistant("b", weight=0, prefix=True, train=False)],
}

WITH_TOOLS = {
    "tools": [user("Weather in K\u00f6ln?")],
    "system and tools": [system("Use tools."), user("Weather?")],
    "tools, turns": [system("Use tools."), *TURNS],
    "call": CALLED[:2],
    "result": CALLED,
    "answer": [*CALLED, assistant("21.5 \u00b0C")],
    "next turn": [system("S"), *CALLED, assistant("21.5 \u00b0C"), user("Thanks")],
    "two rounds": [*CALLED, *CALLED[1:], assistant("done"), *CALLED],
    "arguments as text": [CALLED[0], assistant("", tool_calls=[call("get_weather", ARGUMENT_TEXT)]), tool("21")],
    "no arguments": [user("x"), assistant("", tool_calls=[call("noop", {})]), tool("")],
    "no arguments as text": [user("x"), assistant("", tool_calls=[call("noop", "")]), tool("ok")],
    "arguments none": [user("x"), assistant(None, tool_calls=[call("noop", None)]), tool("ok")],
    "broken arguments": [user("x"), assistant("", tool_calls=[call("noop", '{"a": ')]), tool("ok")],
    "content none and a call": [CALLED[0], assistant(None, tool_calls=[call("get_weather", ARGUMENTS)]), CALLED[2]],
    "content missing and a call": [CALLED[0], {"role": "assistant", "tool_calls": [call("get_weather", ARGUMENTS)]}, CALLED[2]],
    "content and a call": [CALLED[0], assistant(" I look. ", tool_calls=[call("get_weather", ARGUMENTS)]), CALLED[2]],
    "two calls": [system("S"), user("Both?"),
                  assistant("", tool_calls=[call("get_weather", ARGUMENTS), call("noop", {}, id="call67890")]),
                  tool("one", name="get_weather", tool_call_id="call12345"), tool("two", name="noop", tool_call_id="call67890"),
                  assistant("done"), user("Thanks")],
    "results the other way round": [
        user("Both?"), assistant("", tool_calls=[call("get_weather", ARGUMENTS), call("noop", {}, id="call67890")]),
        tool("two", name="noop", tool_call_id="call67890"), tool("one", name="get_weather", tool_call_id="call12345")],
    "calls without id": [user("x"), assistant("", tool_calls=[{"type": "function", "function": {"name": "noop", "arguments": {}}}]),
                         tool("ok")],
    "calls without a wrapper": [user("x"), assistant("", tool_calls=[{"name": "noop", "arguments": {"a": 1}}]), tool("ok")],
    "numbered calls": [user("x"), assistant("", tool_calls=[call("noop", {}, id="functions.noop:0"), call("noop", {}, id="functions.noop:1")]),
                       tool("a", tool_call_id="functions.noop:0"), tool("b", tool_call_id="functions.noop:1")],
    "no calls": [user("x"), assistant("a", tool_calls=[]), user("y"), assistant("b", tool_calls=None), user("z")],
    "calls and thoughts": [system("S"), *THOUGHT, user("Thanks")],
    "thoughts to the end": THOUGHT,
    "plan": [user("x"), assistant(None, tool_plan="I call.", tool_calls=[call("noop", {})]), tool("ok")],
    "result as parts": [*CALLED[:2], {"role": "tool", "content": parts("a", "b"), "tool_call_id": "call12345"}],
    "result as a mapping": [*CALLED[:2], tool({"t": 21.5, "sky": ["blue", None]}, name="get_weather")],
    "result as a list": [*CALLED[:2], tool([{"t": 1}, {"output": "x"}], name="get_weather")],
    "result of nothing": [user("x"), tool("late"), assistant("a")],
    "result with content inside": [*CALLED[:2], tool({"content": "inner"}, tool_call_id="call12345")],
    "unknown result": [*CALLED[:2], tool("x", name="other", tool_call_id="other9999")],
    "ipython": [*CALLED[:2], {"role": "ipython", "content": "{\"t\": 1}"}, {"role": "tool_results", "content": "x"}],
    "function role": [*CALLED[:2], {"role": "function", "name": "get_weather", "content": "21"}],
    "tool first": [tool("x"), user("y")],
    "special tokens and tools": [user("<tool_call>"), assistant("</tool_call>", tool_calls=[call("noop", {"a": "<|im_end|></think>"})]),
                                 tool("<|im_end|>\n</tool_response>")],
}

OTHER_TOOLS = {"flat tools": [FLAT], "no parameters": [NO_PARAMETERS], "no tools": [], "schemas": [WEATHER, SCHEMAS],
               "type list": [TYPE_LIST], "one tool": [NOOP],
               "odd tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {
                   "a": {}, "b": {"type": "strange"}, "c": {"$ref": "#/$defs/C"}}, "$defs": {"C": {"type": "string"}}}}}]}

DOCUMENTS = [{"title": "T", "text": "line\n" * 3, "doc_id": 7}, {"title": "U\u00fc", "text": "short", "contents": "c"}]

SWITCHES = {"": {}, ", thinking": {"enable_thinking": True}, ", not thinking": {"enable_thinking": False}}


def conversations():
    """{name: the variables of a render}."""
    out = {}
    listed = [(n, m, None) for n, m in PLAIN.items()] + [(n, m, TOOLS) for n, m in WITH_TOOLS.items()]
    listed += [(n + ", undeclared", WITH_TOOLS[n], None) for n in ("next turn", "two calls")]
    listed += [(n, [user("x"), assistant("y"), user("z")], t) for n, t in OTHER_TOOLS.items()]
    for (name, messages, tools), (switch, extra) in itertools.product(listed, SWITCHES.items()):
        for generate in (True, False):
            row = {"messages": messages, "tools": tools, "extra": extra, "add_generation_prompt": generate}
            out[name + switch + ("" if generate else ", no prompt")] = {k: v for k, v in row.items() if v is not None}
    out["documents"] = {"messages": PLAIN["system, turns"], "extra": {"documents": DOCUMENTS}}
    out["documents and tools"] = {"messages": WITH_TOOLS["next turn"], "tools": TOOLS, "extra": {"documents": DOCUMENTS}}
    return out


def settings(template):
    """{name: variables} of further variables that a template reads, each with values of several kinds."""
    known = {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", *parity.ENV.globals}
    try:
        names = sorted(jinja2.meta.find_undeclared_variables(parity.ENV.parse(template)) - known)
    except jinja2.TemplateSyntaxError:
        return {}
    messages = [system("S"), *THOUGHT, user("Thanks"), *THOUGHT]
    out = {}
    values = {"on": True, "off": False, "text": "high", "list": [WEATHER]}
    for name, (label, value) in itertools.product(names, values.items()):
        out[f"{name} {label}"] = {"messages": messages, "tools": TOOLS, "extra": {name: value}}
    return out


def rows(found):
    """The rows of a file of cases for templates {name: text}."""
    common = conversations()
    known = {}
    for name, i in common.items():
        yield {"name": name, **i}
    for name, text in found.items():
        yield {"name": name, "template": text}
        own = settings(text)
        for label, i in own.items():
            if label not in known:
                known[label] = i
                yield {"name": label, **i}
        for label, i in (common | own).items():
            yield {"name": name, "input": label, **parity.render_input(text, i)}


def main(args):
    os.environ["TZ"] = "UTC"
    time.tzset()
    for row in rows(templates(*args)):
        sys.stdout.write(parity.lines([row]))


if __name__ == "__main__":
    main(sys.argv[1:])
