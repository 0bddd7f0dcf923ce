# SPDX-License-Identifier: Apache-2.0
"""Random JSON schemas of the supported keywords, for tests of constrained answers."""

NAMES = ["name", "id", "n", "tags", "x y", "quote\"d", "\u00e9t\u00e9", "value", "left", "right"]
PATTERNS = [r"^[a-z]{1,8}$", r"\d{2}", r"^(?:ab|cd)+x?$", r"^[^\"\\\d]*$", r"^\S+@\w+\.(com|org)$",
            r"^v\d+(\.\d+){0,2}", r"q$", r"^(a+)+$"]
FORMATS = ["date", "time", "date-time", "uuid", "email"]
LITERALS = ["red", "green", "a\"b\\c", "\u00fc\n", "", 0, 7, -3, 2.5, True, False, None, [1, "x"],
            {"k": [None]}]


class Maker:
    """Draws schemas from one generator of random numbers."""

    def __init__(self, random):
        self.random = random

    def chance(self, share):
        return self.random.random() < share

    def document(self):
        """A whole schema; some have definitions that refer to themselves."""
        schema = self.schema(3)
        if self.chance(0.3) and isinstance(schema, dict) and "$ref" not in schema:
            schema.setdefault("$defs", {})["node"] = {
                "type": "object",
                "properties": {"value": self.schema(1), "next": {"anyOf": [
                    {"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["next"], "additionalProperties": False}
            schema = {"$defs": schema.pop("$defs"), "type": "object", "required": ["list"],
                      "properties": {"list": {"$ref": "#/$defs/node"}, "rest": schema},
                      "additionalProperties": False}
        return schema

    def schema(self, depth):
        kinds = [self.string, self.number, self.integer, self.literal, self.simple]
        if depth > 0:
            kinds += [self.object, self.object, self.array, self.any_of, self.one_of, self.all_of]
        schema = self.random.choice(kinds)(depth - 1)
        if isinstance(schema, dict) and self.chance(0.2):
            schema["description"] = "some text"
        return schema

    def simple(self, _):
        return self.random.choice([{"type": "boolean"}, {"type": "null"}, {}, True,
                                   {"type": ["integer", "null"]}, {"type": ["string", "boolean"]}])

    def literal(self, _):
        if self.chance(0.3):
            return {"const": self.random.choice(LITERALS)}
        return {"enum": self.random.sample(LITERALS, self.random.randint(1, 4))}

    def string(self, _):
        schema = {"type": "string"}
        kind = self.random.randrange(5)
        if kind == 0:
            schema["pattern"] = self.random.choice(PATTERNS)
        elif kind == 1:
            schema["format"] = self.random.choice(FORMATS)
        elif kind >= 3:
            schema["minLength"] = self.random.randint(0, 5)
            schema["maxLength"] = schema["minLength"] + self.random.randint(0, 12)
        return schema

    def integer(self, _):
        return self.bounds({"type": "integer"}, lambda: self.random.randint(-2000, 2000))

    def number(self, _):
        return self.bounds({"type": "number"}, lambda: self.random.choice(
            [self.random.randint(-50, 50), round(self.random.uniform(-20, 20), 3), 0.1, -0.001]))

    def bounds(self, schema, draw):
        low, high = sorted([draw(), draw()])
        if self.chance(0.5):
            schema[self.random.choice(["minimum", "exclusiveMinimum"])] = low
        if self.chance(0.5):
            schema[self.random.choice(["maximum", "exclusiveMaximum"])] = high + 2
        return schema

    def object(self, depth):
        names = self.random.sample(NAMES, self.random.randint(0, 4))
        schema = {"type": "object", "properties": {name: self.schema(depth) for name in names}}
        schema["required"] = [name for name in names if self.chance(0.6)]
        if self.chance(0.1):
            schema["required"].append("extra")
        more = self.random.randrange(3)
        if more == 0 and "extra" not in schema["required"]:
            schema["additionalProperties"] = False
        elif more == 1:
            schema["additionalProperties"] = self.schema(0)
        return schema

    def array(self, depth):
        schema = {"type": "array", "items": self.schema(depth)}
        if self.chance(0.3):
            schema["prefixItems"] = [self.schema(depth) for _ in range(self.random.randint(1, 3))]
        if self.chance(0.6):
            schema["minItems"] = self.random.randint(0, 2)
            schema["maxItems"] = schema["minItems"] + self.random.randint(0, 3)
        return schema

    def any_of(self, depth):
        return {"anyOf": [self.schema(depth) for _ in range(self.random.randint(1, 3))]}

    def one_of(self, depth):
        branches = []
        for tag in self.random.sample(["a", "b", "c", "d"], self.random.randint(1, 3)):
            branches.append({"type": "object", "required": ["tag"],
                             "properties": {"tag": {"const": tag}, "v": self.schema(depth)},
                             "additionalProperties": self.chance(0.5)})
        return {"oneOf": branches + [{"type": "null"}]}

    def all_of(self, depth):
        first, second = self.object(depth), {"properties": {}}
        for name in first["properties"]:
            if self.chance(0.5):
                second["properties"][name] = {"minLength": 1, "minimum": -5, "minItems": 1}
        return {"allOf": [first, second]}
