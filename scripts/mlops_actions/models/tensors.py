"""Tensors of the Open Inference Protocol (v2) as tables for a model, and its values as tensors.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md · This runs in the
model's environment: the standard library, and pandas if it is there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Tensor = Mapping[str, Any]
"""`name`, `datatype`, `shape`, `data`, and `parameters`, of which `content_type` may be `datetime` or `categorical`."""

_PANDAS = {
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BOOL": "bool",
}  # fmt: skip
DATATYPES = (*_PANDAS, "BYTES")
"""The protocol's types of values."""
_FAMILIES = {"I": "whole numbers", "U": "whole numbers", "F": "numbers", "B": "true or false", "T": "texts"}


class WrongRequest(Exception):
    """A request does not fit the model: which tensor, what is wrong with it, and what would be right."""


def signature(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    """What tensors look like, for any number of rows."""
    return [
        {**{name: value for name, value in tensor.items() if name != "data"}, "shape": [-1, *tensor["shape"][1:]]}
        for tensor in tensors
    ]


class NoPandas(AttributeError, TypeError):
    """Code took rows for a table of pandas where there is no pandas; `missing` is the package."""

    missing = "pandas"


class Rows(list[dict[str, Any]]):
    """Rows as dictionaries, where there is no pandas; they say so to code that takes them for a table.

    Raises:
        NoPandas: they are asked for a column, or for what only a table has.
    """

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return Rows(super().__getitem__(key))
        if hasattr(key, "__index__"):
            return super().__getitem__(key)
        raise _no_pandas(f"[{key!r}]")

    def __getattr__(self, name: str) -> Any:
        raise _no_pandas(f".{name}")


def _no_pandas(what: str) -> NoPandas:
    return NoPandas(
        f"the rows have no `{what}`: they are a list of dictionaries, because this environment does not have pandas"
    )


def table(tensors: Sequence[Tensor], inputs: Sequence[Tensor] = ()) -> Any:
    """Tensors as the columns of a table of pandas, or as a list of dictionaries where there is no pandas.

    Tensors of more than two dimensions, such as images, stay what they are: one comes as an array of numpy, several as
    a dictionary of arrays by name.

    Args:
        tensors: of a request.
        inputs: what the model takes, as `signature` gives it; nothing is known of it when it is empty.

    Raises:
        WrongRequest: they are not what the model takes, or not what they say.
    """
    if inputs:
        tensors = _in_order(tensors, inputs)
    if not tensors:
        raise WrongRequest("the request has no inputs")
    if any(len(tensor["shape"]) > 2 for tensor in tensors):
        return _arrays(tensors)
    if len(tensors) == 1 and (matrix := _matrix(tensors[0])) is not None:
        return matrix
    columns = [column for tensor in tensors for column in _columns(tensor)]
    counts = {name: len(values) for name, _, values in columns}
    _check_rows(counts)
    try:
        import numpy
        import pandas
    except ImportError:
        names = list(counts)
        return Rows(dict(zip(names, row)) for row in zip(*(values for _, _, values in columns)))
    return pandas.DataFrame({name: _column(numpy, pandas, values, tensor) for name, tensor, values in columns})


def rows_of(tensors: Sequence[Tensor], start: int, stop: int) -> list[dict[str, Any]]:
    """Some of the rows of tensors, whose values are in one list each."""
    found = []
    for tensor in tensors:
        inner = list(tensor["shape"][1:])
        size = math.prod(inner)
        data = tensor["data"][start * size : stop * size]
        found.append({**tensor, "data": data, "shape": [len(data) // max(size, 1), *inner]})
    return found


def output(name: str, values: Any) -> dict[str, Any]:
    """A model's values as a tensor: `[rows]`, or `[rows, width]` where each row has several."""
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    size = getattr(getattr(values, "dtype", None), "itemsize", 8)
    listed = values.tolist() if hasattr(values, "tolist") else [_item(value) for value in values]
    shape = [len(listed)]
    while listed and isinstance(listed[0], (list, tuple)):
        shape.append(len(listed[0]))
        listed = [value for row in listed for value in row]
    if shape[1:] == [1]:
        shape.pop()
    if kind not in ("b", "i", "u", "f"):
        kind = _kind_of(listed)
        size = 8
    datatypes = {"b": "BOOL", "i": f"INT{size * 8}", "u": f"UINT{size * 8}", "f": f"FP{size * 8}"}
    datatype = datatypes.get(kind, "BYTES")
    if datatype == "BYTES":
        listed = [str(value) for value in listed]
    elif kind == "f":
        listed = [value if value is not None and math.isfinite(value) else None for value in listed]
    return {"name": name, "datatype": datatype, "shape": shape, "data": listed}


def _kind_of(values: Sequence[Any]) -> str:
    for kind, types in (("b", (bool,)), ("i", (int,)), ("f", (int, float))):
        if values and all(isinstance(value, types) for value in values):
            return kind
    return "T"


def _item(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _in_order(tensors: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The tensors as the model's inputs are in order, each with what is known of it."""
    given = {tensor["name"]: tensor for tensor in tensors}
    names = [one["name"] for one in inputs]
    if len(given) < len(tensors):
        raise WrongRequest("an input is given twice")
    for what, wrong in (("misses", set(names) - set(given)), ("has unknown", set(given) - set(names))):
        if wrong:
            listed = ", ".join(sorted(wrong))
            raise WrongRequest(f"the request {what} inputs: {listed}. The model takes {', '.join(names)}")
    found: list[Tensor] = []
    for one in inputs:
        tensor = given[one["name"]]
        if not _goes(tensor["datatype"], one["datatype"]):
            raise WrongRequest(
                f"input {one['name']!r} has datatype {tensor['datatype']}, and must be {one['datatype']}"
            )
        if (list(tensor["shape"][1:]) or [1]) != (list(one["shape"][1:]) or [1]):
            raise WrongRequest(f"input {one['name']!r} has shape {list(tensor['shape'])}, and must be {one['shape']}")
        found.append({**tensor, "parameters": one.get("parameters")})
    return found


def _goes(given: str, taken: str) -> bool:
    """Whether values of a datatype can be given for another one: a whole number is a number too."""
    families = {"FP": ("FP", "INT", "UINT"), "INT": ("INT", "UINT"), "UINT": ("INT", "UINT")}
    family = taken.rstrip("0123456789")
    return given.rstrip("0123456789") in families.get(family, (family,))


def _columns(tensor: Tensor) -> list[tuple[str, Tensor, list[Any]]]:
    """The columns of a tensor: name, tensor, values. One of shape `[rows, k]` is k of them."""
    name, shape, data = str(tensor["name"]), list(tensor["shape"]), _values(tensor)
    width = shape[1] if len(shape) > 1 else 1
    if width == 1:
        return [(name, tensor, data)]
    return [(f"{name}-{i}", tensor, data[i::width]) for i in range(width)]


def _matrix(tensor: Tensor) -> Any:
    """One tensor of several numbers a row as a table of pandas; None where columns are to be made one by one."""
    shape, dtype = tensor["shape"], _PANDAS.get(tensor["datatype"])
    if dtype is None or len(shape) != 2 or shape[0] < 1 or shape[1] < 2:
        return None
    try:
        import pandas
    except ImportError:
        return None
    values = _values(tensor)
    if isinstance(values, list) and None in values:
        return None
    array = pandas.array(values, dtype=dtype, copy=False).to_numpy().reshape(shape)
    return pandas.DataFrame(array, columns=[f"{tensor['name']}-{i}" for i in range(shape[1])])


def _arrays(tensors: Sequence[Tensor]) -> Any:
    """Tensors as an array of numpy, or as a dictionary of several."""
    import numpy

    found = {}
    for tensor in tensors:
        dtype = _PANDAS.get(tensor["datatype"], "object")
        values = _values(tensor)
        if None in values if isinstance(values, list) else False:
            dtype = dtype if dtype.startswith("float") else "object"
        found[str(tensor["name"])] = numpy.asarray(values, dtype=dtype).reshape(tensor["shape"])
    _check_rows({name: len(array) for name, array in found.items()})
    return next(iter(found.values())) if len(found) == 1 else found


def _check_rows(counts: Mapping[str, int]) -> None:
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise WrongRequest(f"the inputs have different numbers of rows ({listed})")
    if not next(iter(counts.values())):
        raise WrongRequest("the request has no rows")


def _values(tensor: Tensor) -> Any:
    """A tensor's values in one list, checked; from an array of numpy, which has no others, an array."""
    name, shape, data = str(tensor["name"]), list(tensor["shape"]), tensor["data"]
    if not shape or min(shape) < 0:
        raise WrongRequest(f"input {name!r} has shape {shape}, and must be [rows, 1]")
    if hasattr(data, "tolist"):
        data = data.reshape(-1)
    elif isinstance(data, (list, tuple)):
        data = _flat(data)
    else:
        raise WrongRequest(f"the data of input {name!r} is {data!r:.50}, and must be a list")
    if len(data) != math.prod(shape):
        raise WrongRequest(f"input {name!r} has shape {shape} and {len(data)} values")
    if isinstance(data, list):
        _check(name, tensor["datatype"], data)
    return data


def _flat(data: Sequence[Any]) -> list[Any]:
    if not any(isinstance(value, (list, tuple)) for value in data):
        return list(data)
    flat: list[Any] = []
    for value in data:
        flat += _flat(value) if isinstance(value, (list, tuple)) else [value]
    return flat


def _check(name: str, datatype: str, data: list[Any]) -> None:
    """Every value must be what the datatype says, or null."""
    if _is_all(data, datatype):
        return
    for i, value in enumerate(data):
        if isinstance(value, bytes):  # as gRPC has texts
            try:
                data[i] = value = value.decode()
            except UnicodeDecodeError:
                raise WrongRequest(f"input {name!r} has bytes that are not UTF-8") from None
        if value is not None and not _is(value, datatype):
            family = _FAMILIES["T" if datatype == "BYTES" else datatype[0]]
            raise WrongRequest(f"input {name!r} is {datatype}, which is {family}, and has {value!r:.50}")


def _is_all(data: list[Any], datatype: str) -> bool:
    """Whether all values are, by their types: fast, and in doubt False."""
    types = set(map(type, data))
    if datatype.startswith("FP"):
        return types <= {float, int, type(None)}
    if datatype in ("BYTES", "BOOL"):
        return types <= {str if datatype == "BYTES" else bool, type(None)}
    return types == {int} and _is(min(data), datatype) and _is(max(data), datatype)


def _is(value: Any, datatype: str) -> bool:
    if datatype == "BYTES":
        return isinstance(value, str)
    if datatype == "BOOL":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if datatype.startswith("FP"):
        return True
    bits = int(datatype.lstrip("UINT"))
    low, high = (0, 2**bits) if datatype[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return float(value).is_integer() and low <= value < high


def _column(numpy: Any, pandas: Any, values: list[Any], tensor: Tensor) -> Any:
    """A column as pandas reads it from a file: no value is NaN, and makes whole numbers floating point."""
    datatype = tensor["datatype"]
    content = (tensor.get("parameters") or {}).get("content_type")
    missing = isinstance(values, list) and None in values
    if datatype != "BYTES":
        kind = _PANDAS[datatype]
        if missing:
            kind = "object" if datatype == "BOOL" else kind if datatype.startswith("FP") else "float64"
        return numpy.asarray(values, dtype=kind)  # of which pandas makes a table ten times as fast as of series
    if content == "datetime":
        try:
            return pandas.Series(pandas.to_datetime(values, format="ISO8601"))
        except ValueError as error:
            raise WrongRequest(f"input {tensor['name']!r} has no times as ISO 8601 writes them: {error}") from None
    series = pandas.Series([math.nan if value is None else value for value in values] if missing else values)
    return series.astype("category") if content == "categorical" else series
