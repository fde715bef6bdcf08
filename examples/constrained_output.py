"""Answers that fit a JSON schema, or a grammar, whatever the model would rather say.

python examples/constrained_output.py [model.gguf]
"""

import json
import sys

import pyllama

SCHEMA = {
    "type": "object",
    "properties": {
        "sum": {"type": "integer"},
        "unit": {"enum": ["apples", "pears"]},
        "sure": {"type": "boolean"},
    },
    "required": ["sum", "unit", "sure"],
    "additionalProperties": False,
}
GRAMMAR = 'root ::= ("yes" | "no") ", because " [a-z ]{1,40} "."'


def main() -> None:
    with pyllama.SyncEngine(sys.argv[1] if len(sys.argv) > 1 else None, n_ctx=4096) as engine:
        question = [{"role": "user", "content": "What is 17 + 25?"}]
        answer = engine.chat(
            question,
            response_format={"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}},
            chat_template_kwargs={"enable_thinking": False},
            max_tokens=200,
        ).result()
        print("schema:", json.loads(answer.content))

        answer = engine.chat(
            question,
            grammar=GRAMMAR,
            chat_template_kwargs={"enable_thinking": False},
            max_tokens=200,
        ).result()
        print("grammar:", answer.content)


if __name__ == "__main__":
    main()
