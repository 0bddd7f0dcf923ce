# SPDX-License-Identifier: Apache-2.0
"""The server as LangChain's ChatOpenAI uses it."""
import unittest

from server_support import Server

try:
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
    from langchain_openai import ChatOpenAI
except ImportError:  # tools/test-requirements.txt has it
    ChatOpenAI = None

SCHEMA = {"title": "Pet", "type": "object",
          "properties": {"kind": {"enum": ["cat", "dog"]}, "age": {"enum": [1, 2]}},
          "required": ["kind", "age"], "additionalProperties": False}


@unittest.skipIf(ChatOpenAI is None, "langchain-openai is not installed")
class LangChain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.close)

    def model(self, **options):
        return ChatOpenAI(base_url=self.server.url + "/v1", api_key="none", model="hga-mini",
                          temperature=0, max_tokens=12, max_retries=0, **options)

    def test_messages_and_usage(self):
        answer = self.model().invoke([SystemMessage("You tell stories."),
                                      HumanMessage("Of the sea."), AIMessage("The sea"),
                                      HumanMessage("Go on.")])
        self.assertIsInstance(answer.content, str)
        self.assertTrue(answer.content)
        usage = answer.usage_metadata
        self.assertEqual(usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])
        self.assertIn(answer.response_metadata["finish_reason"], ("length", "stop"))

    def test_a_stream_is_the_answer_in_pieces(self):
        question = [HumanMessage("Tell me of the sea.")]
        whole = self.model().invoke(question)
        pieces = list(self.model(stream_usage=True).stream(question))
        self.assertGreater(len(pieces), 3)
        self.assertEqual("".join(piece.content for piece in pieces), whole.content)
        usages = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
        self.assertEqual(usages[-1]["output_tokens"], whole.usage_metadata["output_tokens"])

    def test_structured_output(self):
        for method in ("json_schema", "function_calling"):
            with self.subTest(method=method):
                model = ChatOpenAI(base_url=self.server.url + "/v1", api_key="none",
                                   model="hga-mini", temperature=0, max_tokens=200, max_retries=0)
                pet = model.with_structured_output(SCHEMA, method=method).invoke("A pet, please.")
                self.assertEqual(set(pet), {"kind", "age"})
                self.assertIn(pet["kind"], ("cat", "dog"))
                self.assertIn(pet["age"], (1, 2))

    def test_a_tool_is_called(self):
        tool = {"type": "function", "function": {
            "name": "look_up", "description": "Looks a word up",
            "parameters": {"type": "object", "properties": {"word": {"enum": ["sea", "sky"]}},
                           "required": ["word"], "additionalProperties": False}}}
        model = ChatOpenAI(base_url=self.server.url + "/v1", api_key="none", model="hga-mini",
                           temperature=0, max_tokens=200, max_retries=0)
        answer = model.bind_tools([tool], tool_choice="look_up").invoke("What is the sea?")
        self.assertEqual([call["name"] for call in answer.tool_calls], ["look_up"])
        self.assertIn(answer.tool_calls[0]["args"]["word"], ("sea", "sky"))

    def test_logprobs(self):
        answer = self.model(logprobs=True, top_logprobs=2).invoke("Tell me of the sea.")
        content = answer.response_metadata["logprobs"]["content"]
        self.assertTrue(all(len(token["top_logprobs"]) == 2 for token in content))
        self.assertEqual("".join(token["token"] for token in content), answer.content)


if __name__ == "__main__":
    unittest.main()
