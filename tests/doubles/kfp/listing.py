"""Lists: filter, order, pages (backend/src/apiserver/list, server/list_request_util.go, filter/filter.go)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

from .nodes import seconds, timestamp
from .refusals import invalid

Item = dict[str, Any]
_PAGE, _LARGEST = 20, 200
_OPERATIONS = (
    "OPERATION_UNSPECIFIED", "EQUALS", "NOT_EQUALS", "GREATER_THAN", "GREATER_THAN_EQUALS", "LESS_THAN",
    "LESS_THAN_EQUALS", "IN", "IS_SUBSTRING",
)  # fmt: skip
_VALUES = ("int_value", "long_value", "string_value", "timestamp_value", "int_values", "long_values", "string_values")

EXPERIMENT = {"experiment_id": "experiment_id", "id": "experiment_id", "name": "display_name"} | {
    name: name for name in ("display_name", "created_at", "description", "namespace", "storage_state")
}
PIPELINE = {"pipeline_id": "pipeline_id", "id": "pipeline_id"} | {
    name: name for name in ("name", "display_name", "created_at", "description", "namespace")
}
VERSION = {"pipeline_version_id": "pipeline_version_id", "id": "pipeline_version_id"} | {
    name: name for name in ("name", "display_name", "created_at", "description", "code_source_url", "pipeline_id")
}
RUN = {"run_id": "run_id", "id": "run_id", "name": "display_name", "status": "state"} | {
    name: name
    for name in (
        "display_name", "created_at", "finished_at", "scheduled_at", "description", "storage_state", "namespace",
        "experiment_id", "state", "recurring_run_id",
    )
}  # fmt: skip
RECURRING = {"recurring_run_id": "recurring_run_id", "id": "recurring_run_id", "name": "display_name"} | {
    name: name for name in ("display_name", "created_at", "updated_at", "description", "namespace", "experiment_id",
                            "status")
}  # fmt: skip


def page(
    items: Sequence[Item],
    query: Mapping[str, str],
    fields: Mapping[str, str],
    key: str,
    show: Callable[[Item], Item] = lambda item: item,
) -> Item:
    """One page of a list, as `{key: […], total_size, next_page_token}`; what is empty is left out, as protobuf does.

    Args:
        items: all that the caller may see.
        query: page_token, page_size, sort_by, filter.
        fields: which fields of an item can be filtered and sorted by, by their names in the API.
        key: the name of the list in the answer.
        show: makes an entry of the answer from an item.
    """
    size = int(query.get("page_size") or 0)
    if size < 0:
        raise invalid(f"The page size should be greater than 0. Got {size}")
    size = min(size or _PAGE, _LARGEST)
    order, wanted = query.get("sort_by", ""), query.get("filter", "")
    start = 0
    if token := query.get("page_token", ""):
        try:
            kept = json.loads(base64.b64decode(token, validate=True))
        except ValueError as error:
            raise invalid("Invalid package token.") from error
        if (order or wanted) and (order, wanted) != (kept["order"], kept["filter"]):
            raise invalid(
                "page token does not match the supplied sort by and/or filtering criteria. Either specify the same"
                " criteria or leave the latter empty if page token is specified."
            )
        start, order, wanted = kept["start"], kept["order"], kept["filter"]
    matches = _filter(wanted, fields)
    found = [item for item in items if matches(item)]
    name, descending = _order(order, fields)
    found.sort(key=lambda item: str(item.get(name, "")), reverse=descending)
    answer: Item = {key: [show(item) for item in found[start : start + size]], "total_size": len(found)}
    if start + size < len(found):
        place = json.dumps({"start": start + size, "order": order, "filter": wanted})
        answer["next_page_token"] = base64.b64encode(place.encode()).decode()
    return {name: value for name, value in answer.items() if value}


def _order(text: str, fields: Mapping[str, str]) -> tuple[str, bool]:
    words = text.lower().split()
    if len(words) > 2 or (len(words) == 2 and words[1] not in ("asc", "desc")):
        raise invalid(
            f'Received invalid sort by format "{text}". Supported format: "field_name", "field_name desc", or'
            ' "field_name asc"'
        )
    if words and words[0] not in fields:
        raise invalid(f'Invalid sorting field: "{words[0]}" on listable type')
    return (fields[words[0]] if words else "created_at"), words[1:] == ["desc"]


def _filter(encoded: str, fields: Mapping[str, str]) -> Callable[[Item], bool]:
    if not encoded:
        return lambda _: True
    try:
        # The server decodes it a second time: a plus sign or a per cent sign in a value must be encoded twice.
        given = json.loads(unquote_plus(encoded))
        tests = [_predicate(_snake(predicate), fields) for predicate in given.get("predicates", [])]
    except (ValueError, AttributeError, KeyError) as error:
        raise invalid(f"failed to parse valid filter from {json.dumps(encoded)}: {error}") from error
    return lambda item: all(test(item) for test in tests)


def _predicate(predicate: Item, fields: Mapping[str, str]) -> Callable[[Item], bool]:
    unknown = set(predicate) - {"operation", "key", *_VALUES}
    if unknown:
        raise ValueError(f'unknown field "{min(unknown)}"')
    operation = predicate.get("operation", 0)
    operation = _OPERATIONS[operation] if isinstance(operation, int) else operation
    if operation not in _OPERATIONS[1:]:
        raise invalid(f"invalid predicate operation: {operation}")
    key = predicate.get("key", "")
    if key not in fields:
        raise invalid(f'no support for filtering on unrecognized field "{key}"')
    given = [name for name in _VALUES if name in predicate]
    if len(given) != 1:
        raise invalid(f"predicate of {key} must have exactly one value")
    value, field = predicate[given[0]], fields[key]
    if given[0] == "timestamp_value":
        value = timestamp(seconds(value))
    if operation == "IN":
        wanted = [str(item) for item in value.get("values", [])]
        return lambda item: str(item.get(field, "")) in wanted
    text = str(value)
    if operation == "IS_SUBSTRING":
        return lambda item: text in str(item.get(field, ""))
    compare: dict[str, Callable[[str], bool]] = {
        "EQUALS": lambda found: found == text,
        "NOT_EQUALS": lambda found: found != text,
        "GREATER_THAN": lambda found: found > text,
        "GREATER_THAN_EQUALS": lambda found: found >= text,
        "LESS_THAN": lambda found: found < text,
        "LESS_THAN_EQUALS": lambda found: found <= text,
    }
    return lambda item: compare[operation](str(item.get(field, "")))


def _snake(predicate: Item) -> Item:
    """protojson takes both spellings of a field's name."""
    return {re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower(): value for name, value in predicate.items()}
