# SPDX-License-Identifier: Apache-2.0
"""docs/openapi.yaml and the server's own table of routes say the same."""
import json
import pathlib
import unittest

from cli_support import ROOT, hga

try:
    import yaml
except ImportError:  # tools/test-requirements.txt has it
    yaml = None

METHODS = ("get", "post", "put", "delete", "patch")


@unittest.skipIf(yaml is None, "PyYAML is not installed")
class OpenApi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        text = (pathlib.Path(ROOT) / "docs/openapi.yaml").read_text(encoding="utf-8")
        cls.document = yaml.safe_load(text)
        cls.routes = json.loads(hga("serve", "--print-routes").stdout)

    def operations(self):
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield method.upper(), path, item[method]

    def test_paths_methods_and_keys(self):
        documented = {(method, path, operation.get("security") != [])
                      for method, path, operation in self.operations()}
        self.assertEqual(documented, {(r["method"], r["path"], r["key"]) for r in self.routes})

    def test_fields_of_bodies(self):
        known = {(route["method"], route["path"]): set(route["fields"]) for route in self.routes}
        for method, path, operation in self.operations():
            body = operation.get("requestBody")
            fields = set()
            if body:
                fields = set(body["content"]["application/json"]["schema"]["properties"])
            with self.subTest(method=method, path=path):
                self.assertEqual(fields, known[method, path])

    def test_references_lead_somewhere(self):
        def walk(value):
            if isinstance(value, dict):
                if "$ref" in value:
                    yield value["$ref"]
                value = list(value.values())
            if isinstance(value, list):
                for item in value:
                    yield from walk(item)
        for reference in walk(self.document):
            at = self.document
            for part in reference.removeprefix("#/").split("/"):
                at = at[part]


if __name__ == "__main__":
    unittest.main()
