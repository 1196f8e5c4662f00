"""KFP's published REST description, held against every request and every answer.

Swagger 2.0 schemas are JSON Schema (draft 4) but for one thing: they tolerate unknown fields. Here those are refused
in both directions, so that a misspelt field is found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator, FormatChecker

from .nodes import seconds

DESCRIPTION = Path(__file__).resolve().parents[2] / "data" / "kfp" / "v2beta1.swagger.json"
_SHOWN = 5  # problems that are told of one message

Json = Any


@dataclass(frozen=True)
class Operation:
    """One entry of the description: its id such as `RunService_GetRun`, and what it takes and gives."""

    name: str
    method: str
    template: str
    entry: Mapping[str, Any]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the paths of this operation."""
        parts = re.split(r"\{([^}]+)\}", self.template)
        literal = [re.escape(part) for part in parts[::2]]
        return re.compile("([^/]+)".join(literal) + "$")

    @cached_property
    def path_names(self) -> list[str]:
        """The names of the path's parameters, in order."""
        return re.findall(r"\{([^}]+)\}", self.template)

    def parameters(self, place: str) -> dict[str, Mapping[str, Any]]:
        """The parameters in `path`, `query`, `body` or `formData`, by name."""
        return {p["name"]: p for p in self.entry.get("parameters", []) if p["in"] == place}


class Contract:
    """What the description allows."""

    def __init__(self, path: Path = DESCRIPTION) -> None:
        self._description = json.loads(path.read_text(encoding="utf-8"))
        definitions = self._description["definitions"].items()
        self._answered = {name: _strict(schema) for name, schema in definitions}
        self._asked = {name: _strict(schema, asked=True) for name, schema in definitions}
        self._right: set[str] = set()
        operations = [
            Operation(entry["operationId"], method.upper(), template, entry)
            for template, methods in self._description["paths"].items()
            for method, entry in methods.items()
        ]
        # `/pipelines/names/{name}` before `/pipelines/{pipeline_id}/versions`: the most literal one fits best.
        self.operations = sorted(operations, key=lambda o: len(re.sub(r"\{[^}]+\}", "", o.template)), reverse=True)

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation of a request, and the raw values of its path's parameters."""
        for operation in self.operations:
            if operation.method == method and (found := operation.pattern.match(path)):
                return operation, dict(zip(operation.path_names, found.groups()))
        return None

    def request_problems(self, operation: Operation, query: Mapping[str, Sequence[str]], body: Json) -> list[str]:
        """What a request has that the description does not allow; of an upload, only its query is looked at."""
        allowed = operation.parameters("query")
        problems = [f"there is no query parameter {name!r}" for name in query if name not in allowed]
        for name, values in query.items():
            if name in allowed:
                problems += [_query_problem(name, value, allowed[name]["type"]) for value in values]
        for parameter in operation.parameters("body").values():
            problems += _problems(parameter["schema"], self._asked, body)
        return [problem for problem in problems if problem]

    def answer_problems(self, operation: Operation, status: int, body: Json) -> list[str]:
        """What an answer has that the description does not allow."""
        responses = operation.entry["responses"]
        response = responses.get(str(status), responses["default"])
        if status >= 400 and isinstance(body, dict):
            # Servers say more than is described: grpc-gateway repeats the message, uploads have words of their own.
            body = {k: v for k, v in body.items() if k not in ("error", "error_message", "error_details")}
        return _problems(response["schema"], self._answered, self._without_known_tasks(body))

    def _without_known_tasks(self, body: Json) -> Json:
        """A run without the tasks that were found right before: looking at 1,500 again takes most of a second."""
        tasks = body.get("run_details", {}).get("task_details") if isinstance(body, dict) else None
        if not tasks:
            return body
        unknown = {text: task for task in tasks if (text := json.dumps(task)) not in self._right}
        schema = {"$ref": "#/definitions/v2beta1PipelineTaskDetail"}
        wrong = {text: task for text, task in unknown.items() if _problems(schema, self._answered, task)}
        self._right |= unknown.keys() - wrong.keys()
        return {**body, "run_details": {**body["run_details"], "task_details": list(wrong.values())}}


def _problems(schema: Mapping[str, Any], definitions: Mapping[str, Any], value: Json) -> list[str]:
    validator = Draft4Validator({**schema, "definitions": definitions}, format_checker=_FORMATS)
    errors = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
    return [f"{'.'.join(map(str, e.absolute_path)) or 'body'}: {e.message[:300]}" for e in errors[:_SHOWN]]


def _strict(schema: Any, asked: bool = False) -> Any:
    """A schema that refuses unknown fields. `asked`: of a request, where protojson takes an int64 as a number too."""
    if isinstance(schema, list):
        return [_strict(item, asked) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value, asked) for key, value in schema.items()}
    if asked and made.get("format") == "int64":
        made["type"] = ["string", "integer"]
    if "properties" in made and "additionalProperties" not in made and made.get("type") == "object":
        made["additionalProperties"] = False
    return made


def _query_problem(name: str, value: str, kind: str) -> str:
    if kind == "integer" and not re.fullmatch(r"-?\d+", value):
        return f"{name}={value!r} is no integer"
    if kind == "boolean" and value not in ("true", "false"):
        return f"{name}={value!r} is neither true nor false"
    return ""


_FORMATS = FormatChecker(formats=[])


@_FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or seconds(value) is not None


@_FORMATS.checks("int64")
def _is_int64(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(r"-?\d+", value))
