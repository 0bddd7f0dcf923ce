# SPDX-License-Identifier: Apache-2.0
"""The server as openai-python uses it."""
import json
import unittest

from cli_support import ids_of
from server_support import SCHEMA, TOOLS, USER, ServerTest

try:
    import openai
except ImportError:  # tools/test-requirements.txt has it
    openai = None


@unittest.skipIf(openai is None, "openai is not installed")
class OpenAiPython(ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="any", max_retries=0)
        cls.addClassCleanup(cls.client.close)

    def chat(self, messages=None, **fields):
        fields.setdefault("max_tokens", 8)
        return self.client.chat.completions.create(model="hga-mini", messages=messages or USER,
                                                   **fields)

    def test_models(self):
        models = self.client.models.list().data
        self.assertEqual([model.id for model in models], ["hga-mini"])
        self.assertEqual(models[0].max_model_len, 4096)
        self.assertEqual(self.client.models.retrieve("hga-mini").object, "model")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("gpt-x")

    def test_chat_has_text_usage_and_a_reason(self):
        answer = self.chat()
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.choices[0].finish_reason, "length")
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertEqual(answer.usage.completion_tokens, 8)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + 8)

    def test_the_same_prompt_is_cached(self):
        self.chat()
        usage = self.chat().usage
        self.assertGreater(usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens - 8)
        usage = self.chat(extra_body={"cache_prompt": False}).usage
        self.assertEqual(usage.prompt_tokens_details.cached_tokens, 0)

    def test_a_stream_says_the_same_in_pieces(self):
        whole = self.chat(max_tokens=12).choices[0].message.content
        chunks = list(self.chat(max_tokens=12, stream=True,
                                stream_options={"include_usage": True}))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[0].choices[0].delta.content, "")
        self.assertEqual({chunk.id for chunk in chunks}, {chunks[0].id})
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, whole)
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, 12)
        self.assertTrue(all(chunk.usage is None for chunk in chunks[:-1]))
        self.assertEqual([c.choices[0].finish_reason for c in chunks if c.choices][-1], "length")
        self.assertGreater(len(chunks), 8)

    def test_stop_strings_are_not_shown_even_across_tokens(self):
        whole = self.chat(max_tokens=24).choices[0].message.content
        stop = whole[5:9]
        for stream in (False, True):
            answer = self.chat(max_tokens=24, stop=[stop, "never there"], stream=stream)
            if stream:
                chunks = list(answer)
                text = "".join(c.choices[0].delta.content or "" for c in chunks)
                reason = chunks[-1].choices[0].finish_reason
            else:
                text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
            self.assertEqual(text, whole[:whole.index(stop)])
            self.assertEqual(reason, "stop")

    def test_logprobs_have_bytes_and_the_greedy_token_first(self):
        choice = self.chat(logprobs=True, top_logprobs=3).choices[0]
        self.assertEqual(len(choice.logprobs.content), 8)
        joined = b"".join(bytes(token.bytes) for token in choice.logprobs.content)
        self.assertEqual(joined.decode(), choice.message.content)
        for token in choice.logprobs.content:
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.top_logprobs[0].token, token.token)
            self.assertLessEqual(token.logprob, 0)
        streamed = [token for c in self.chat(logprobs=True, top_logprobs=3, stream=True)
                    if c.choices[0].logprobs for token in c.choices[0].logprobs.content]
        self.assertEqual([t.token for t in streamed], [t.token for t in choice.logprobs.content])

    def test_a_seed_repeats_and_another_differs(self):
        def text(seed):
            return self.chat(temperature=1.5, seed=seed, max_tokens=24).choices[0].message.content
        self.assertEqual(text(7), text(7))
        self.assertNotEqual(text(7), text(8))

    def test_n_answers_are_those_of_the_seeds_that_follow(self):
        answer = self.chat(temperature=1.5, seed=7, n=3, max_tokens=16)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2])
        single = self.chat(temperature=1.5, seed=9, max_tokens=16)
        self.assertEqual(answer.choices[2].message.content, single.choices[0].message.content)
        self.assertEqual(answer.usage.completion_tokens, 48)
        chunks = list(self.chat(temperature=1.5, seed=7, n=3, max_tokens=16, stream=True))
        for i in range(3):
            text = "".join(c.choices[0].delta.content or "" for c in chunks
                           if c.choices[0].index == i)
            self.assertEqual(text, answer.choices[i].message.content)

    def test_logit_bias_forbids_and_forces(self):
        forced = ids_of("zebra")[0]
        answer = self.chat(logit_bias={str(forced): 100}, max_tokens=3, logprobs=True)
        self.assertEqual(len({t.token for t in answer.choices[0].logprobs.content}), 1)

    def test_json_by_schema_and_any_json_object(self):
        answer = self.chat(max_tokens=200, temperature=1, seed=3, response_format={
            "type": "json_schema",
            "json_schema": {"name": "pet", "strict": True, "schema": SCHEMA}})
        if answer.choices[0].finish_reason == "stop":
            pet = json.loads(answer.choices[0].message.content)
            self.assertIn(pet["kind"], ("cat", "dog"))
            self.assertEqual(set(pet), {"kind", "age"})
        answer = self.chat(max_tokens=30, response_format={"type": "json_object"})
        self.assertTrue(answer.choices[0].message.content.lstrip().startswith("{"))

    def test_tools_that_must_be_called(self):
        for stream in (False, True):
            answer = self.chat(max_tokens=200, temperature=1, seed=5, tools=TOOLS,
                               tool_choice={"type": "function", "function": {"name": "look_up"}},
                               stream=stream)
            if stream:
                chunks = list(answer)
                deltas = [d for c in chunks for d in c.choices[0].delta.tool_calls or []]
                name = deltas[0].function.name
                arguments = "".join(d.function.arguments or "" for d in deltas)
                reason = chunks[-1].choices[0].finish_reason
            else:
                call = answer.choices[0].message.tool_calls[0]
                name, arguments = call.function.name, call.function.arguments
                reason = answer.choices[0].finish_reason
                self.assertIsNone(answer.choices[0].message.content)
            self.assertEqual((name, reason), ("look_up", "tool_calls"))
            self.assertIn(json.loads(arguments)["word"], ("sea", "sky"))

    def test_tools_beside_a_format_are_called_or_the_answer_is_json(self):
        kinds = set()
        for seed in range(12):
            answer = self.chat(max_tokens=400, temperature=1.5, seed=seed, tools=TOOLS,
                               parallel_tool_calls=False, stream=seed % 2 == 1, response_format={
                                   "type": "json_schema",
                                   "json_schema": {"name": "pet", "schema": SCHEMA}})
            if seed % 2 == 1:
                chunks = list(answer)
                text = "".join(c.choices[0].delta.content or "" for c in chunks)
                arguments = "".join(d.function.arguments or "" for c in chunks
                                    for d in c.choices[0].delta.tool_calls or [])
                reason = chunks[-1].choices[0].finish_reason
            else:
                message = answer.choices[0].message
                text = message.content or ""
                arguments = message.tool_calls[0].function.arguments if message.tool_calls else ""
                reason = answer.choices[0].finish_reason
            if reason == "length":
                continue
            kinds.add(reason)
            if reason == "tool_calls":
                self.assertIn(json.loads(arguments)["word"], ("sea", "sky"))
                self.assertEqual(text.strip(), "")
            else:
                self.assertEqual(set(json.loads(text)), {"kind", "age"})
        self.assertTrue(kinds)

    def test_a_conversation_with_tools_is_taken(self):
        answer = self.chat([
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "What is"},
                                         {"type": "text", "text": "the sea?"}]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "a", "type": "function",
                 "function": {"name": "look_up", "arguments": '{"word": "sea"}'}}]},
            {"role": "tool", "tool_call_id": "a", "content": "water"}], tools=TOOLS, tool_choice="none")
        self.assertEqual(answer.usage.completion_tokens, 8)

    def test_max_completion_tokens_and_unknown_fields(self):
        answer = self.client.chat.completions.create(
            model="hga-mini", messages=USER, max_completion_tokens=3, user="me", store=False,
            extra_body={"something_new": {"a": 1}, "top_k": 5, "min_p": 0.1})
        self.assertEqual(answer.usage.completion_tokens, 3)
        self.assertEqual(self.server.text().count(b"'something_new' is not known"), 1)

    def test_errors_have_their_types(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(max_tokens=100000)
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(temperature=5)
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(model="gpt-x", messages=USER)
        self.assertEqual(caught.exception.code, "model_not_found")

    def test_completions_of_texts_and_ids(self):
        create = self.client.completions.create
        text = create(model="hga-mini", prompt="Once upon a time", max_tokens=8)
        ids = create(model="hga-mini", prompt=ids_of("Once upon a time"), max_tokens=8)
        self.assertEqual(text.choices[0].text, ids.choices[0].text)
        both = create(model="hga-mini", prompt=["Once upon a time", "The old house"], max_tokens=8,
                      echo=True)
        self.assertEqual(both.choices[0].text, "Once upon a time" + text.choices[0].text)
        self.assertTrue(both.choices[1].text.startswith("The old house"))
        streamed = "".join(chunk.choices[0].text for chunk in create(
            model="hga-mini", prompt="Once upon a time", max_tokens=8, stream=True))
        self.assertEqual(streamed, text.choices[0].text)

    def test_scoring_a_prompt(self):
        answer = self.client.completions.create(
            model="hga-mini", prompt="Once upon a time", max_tokens=0, echo=True, logprobs=2)
        choice = answer.choices[0]
        self.assertEqual(choice.text, "Once upon a time")
        self.assertEqual(len(choice.logprobs.tokens), len(ids_of("Once upon a time")))
        self.assertIsNone(choice.logprobs.token_logprobs[0])
        self.assertTrue(all(value <= 0 for value in choice.logprobs.token_logprobs[1:]))
        self.assertEqual("".join(choice.logprobs.tokens), choice.text)
        self.assertEqual(answer.usage.completion_tokens, 0)


if __name__ == "__main__":
    unittest.main()
