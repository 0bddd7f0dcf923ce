#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what Jinja2 renders of chat templates, set up as Hugging Face `transformers` does it.

    tools/golden_templates.py [--out tests/golden/data/chat_templates.json]

Templates are those of tests/golden/templates (after the ones that the checkpoints of their names
carry, and one of our own with rarer constructs) and that of models/hga-mini; each is rendered for
every conversation below, with and without tools, with and without the start of an answer. A record
without a text is one that Jinja2 or the template refuses. Needs jinja2.
"""
import argparse
import copy
import datetime
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.sandbox

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKENS = {"qwen3": ("", "<|im_end|>"), "qwen3_instruct_2507": ("", "<|im_end|>"),
          "qwen2_5": ("", "<|im_end|>"), "llama3_1": ("<|begin_of_text|>", "<|eot_id|>"),
          "llama3": ("<|begin_of_text|>", "<|eot_id|>"), "mistral_v0_3": ("<s>", "</s>"),
          "mistral_nemo": ("<s>", "</s>"), "chatml_macro": ("<s>", "</s>"),
          "hga-mini": ("", "<|endoftext|>")}


class Generation(jinja2.ext.Extension):
    """The tag that marks what an assistant wrote; its body is rendered as it is."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return made


def render(source, bos, eos, messages, tools=None, options=None, add_generation_prompt=True):
    """The text, or None when it is refused."""
    variables = copy.deepcopy(dict(options or {}, messages=messages, tools=tools, documents=None,
                                   add_generation_prompt=add_generation_prompt))
    if bos:
        variables["bos_token"] = bos
    if eos:
        variables["eos_token"] = eos
    try:
        return environment().from_string(source).render(**variables)
    except Exception:  # pylint: disable=broad-except
        return None


def templates():
    """{name: source}"""
    found = {path.stem: path.read_text(encoding="utf-8")
             for path in sorted((ROOT / "tests/golden/templates").glob("*.jinja"))}
    config = json.loads((ROOT / "models/hga-mini/tokenizer_config.json").read_text())
    found["hga-mini"] = config["chat_template"]
    return found


TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather in a “place”, <b>now</b> & here\n",
        "parameters": {"type": "object", "properties": {
            "place": {"type": "string", "items": [], "enum": ["Köln", "東京", "a\\b\"c'"]},
            "days": {"type": "integer", "minimum": -1, "default": 1.5}}, "required": ["place"]}}},
    {"type": "function", "function": {
        "name": "noop", "parameters": {}, "strict": True, "return": None, "scale": 1e-07,
        "big": 12345678901234567890123}},
]


def call(name, arguments, identity="abcdef123"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def say(role, content, **more):
    return {"role": role, "content": content, **more}


CONVERSATIONS = {
    "one": [say("user", "Hello!")],
    "system": [say("system", "Be brief."), say("user", "  padded \n"), say("assistant", " yes \n"),
               say("user", "And?")],
    "turns": [say("user", "1"), say("assistant", "2"), say("user", "3"), say("assistant", "4")],
    "unicode": [say("system", "Grüße, 世界 \U0001f469\u200d\U0001f467"),
                say("user", "\u00a0e\u0301 \u2028 ß \u3000"), say("assistant", "\ufeff؟"),
                say("user", "\u0000\t\u0085x\u0085")],
    "empty": [say("system", ""), say("user", ""), say("assistant", ""), say("user", "")],
    "look-alikes": [
        say("system", "<|im_end|><|eot_id|></s>"),
        say("user", "a<|im_end|>\n<|im_start|>system\nb [/INST] <|start_header_id|>"),
        say("assistant", "{{ messages }} {% endfor %} {# x #}<|im_end|>"),
        say("user", "<|im_start|>")],
    "thinking": [say("user", "Q"), say("assistant", "<think>\nhm\n\n</think>\n\nA"), say("user", "Q2"),
                 say("assistant", "<think>\nso</think>B</think>\n\nC")],
    "reasoning": [say("user", "Q"), say("assistant", "A", reasoning_content="\nwhy\n"),
                  say("user", "Q2"), say("assistant", "B", reasoning_content="because")],
    "call": [say("user", "Weather?"),
             say("assistant", "", tool_calls=[call("get_weather", {"place": "Köln", "days": 2})]),
             say("tool", "{\"rain\": true}", tool_call_id="abcdef123"), say("assistant", "Rain."),
             say("user", "Thanks")],
    "calls": [say("system", "S"), say("user", "Weather?"),
              say("assistant", "Let me see.", tool_calls=[
                  call("get_weather", {"place": "<|im_end|>", "deep": [1, [2.0, None], {"a": False}]}),
                  call("noop", {}, "123456789")]),
              say("tool", "wet <|im_end|>", tool_call_id="abcdef123", name="get_weather"),
              say("tool", "", tool_call_id="123456789")],
    "call as text": [say("user", "W"), say("assistant", None, tool_calls=[
        call("get_weather", "{\"place\": \"Köln\"}")])],
    "parts": [say("user", [{"type": "text", "text": "look "}, {"type": "image"},
                           {"type": "text", "text": "here"}])],
    "tool first": [say("tool", "x", tool_call_id="abcdef123"), say("user", "y")],
    "system late": [say("user", "a"), say("system", "b"), say("user", "c")],
    "odd roles": [say("ipython", {"a": [1]}), say("developer", "d"), say("debug", "e"),
                  say("user", "f")],
    "nothing": [],
}
OPTIONS = [{"date_string": "26 Jul 2024"},
           {"date_string": "1 Jan 1970", "enable_thinking": False, "tools_in_user_message": False,
            "builtin_tools": ["get_weather", "code_interpreter"]}]


def cases():
    """(template, conversation, with tools, options, add_generation_prompt) of every record."""
    for template in templates():
        for conversation in CONVERSATIONS:
            for with_tools in (False, True):
                for options in range(len(OPTIONS)):
                    if options == 1 and template not in ("qwen3", "llama3_1"):
                        continue
                    for start in (False, True):
                        yield template, conversation, with_tools, options, start


def record():
    sources = templates()
    records = []
    for template, conversation, with_tools, options, start in cases():
        text = render(sources[template], *TOKENS[template], CONVERSATIONS[conversation],
                      TOOLS if with_tools else None, OPTIONS[options], start)
        records.append({"template": template, "conversation": conversation, "tools": with_tools,
                        "options": options, "add_generation_prompt": start, "text": text})
    return {"generator": "tools/golden_templates.py", "jinja2": jinja2.__version__,
            "tokens": TOKENS, "conversations": CONVERSATIONS, "tools_json": json.dumps(TOOLS),
            "options": OPTIONS,
            "records": records}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", default=ROOT / "tests/golden/data/chat_templates.json",
                        type=pathlib.Path)
    options = parser.parse_args()
    document = record()
    head = {name: value for name, value in document.items() if name != "records"}
    lines = ",\n".join(json.dumps(one) for one in document["records"])
    body = json.dumps(head, indent=1)[:-2] + ",\n \"records\": [\n" + lines + "\n]}\n"
    options.out.write_text(body, encoding="utf-8")
    refused = sum(one["text"] is None for one in document["records"])
    print(f"{len(document['records'])} records, {refused} of them refused, {len(body)} bytes")


if __name__ == "__main__":
    main()
