"""A model, loaded and asked: by its kind, or by the consumer's own code.

`predict` says how: one of the methods of `kinds.METHODS`; or `module:name` or `file.py:name`, a class or a function of
the consumer's. The class is made without arguments; its `load` is given the model's path, and its `predict` (and
`predict_proba`, if it has one) a table. The function is given the path and returns such an object, or the function
that predicts. Without `predict`, a model of two classes is asked for the probability of the second, and another one
for its prediction.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .kinds import Asked, NotLoadable, detect, estimator
from .tensors import NoPandas

_PACKAGE = Path(__file__).resolve().parents[1]
CODE = re.compile(r"(?P<where>[A-Za-z_][\w.]*|.+\.py):(?P<name>[A-Za-z_]\w*)")
"""How `predict` names code of the consumer's."""


class Model:
    """A loaded model.

    Args:
        path: its file or folder.
        predict: see above.
        root: the consumer's folder, which modules are imported from.

    Raises:
        NotLoadable: it is of no kind, or it cannot be asked for what `predict` says.
    """

    def __init__(self, path: Path, predict: str = "", root: Path = Path()) -> None:
        code = CODE.fullmatch(predict)
        self._asked = _own(path, code["where"], code["name"], root) if code else _of_kind(path)
        self._method = "" if code else predict
        if self._method and self._method not in self._asked.methods:
            raise NotLoadable(f"it has no `{predict}`, only {', '.join(self._asked.methods)}")

    @property
    def methods(self) -> list[str]:
        """What it can be asked for; of a stated one, only that."""
        return [self._method] if self._method else list(self._asked.methods)

    def ask(self, method: str, rows: Any) -> Any:
        """What a method gives for a table: an array, series or list with a value, or several, for each row."""
        rows = self._columns(rows)
        ask = self._asked.methods[method]
        texts = _texts(rows) if self._asked.takes_texts else None
        if texts is None:
            return ask(_numbers(rows) if self._asked.unnamed else rows)
        try:
            return ask(texts)  # first: a vectorizer would take the names of a table's columns for its rows
        except Exception as error:
            try:
                return ask(rows)
            except Exception:
                raise error from None

    def scores(self, rows: Any) -> Any:
        """The score of each row: of two probabilities the second, else what it is asked for."""
        if "predict_proba" in self.methods:
            values = self.ask("predict_proba", rows)
            if width(values) == 2:
                return values[:, 1] if hasattr(values, "shape") else [row[1] for row in values]
            if self._method:
                raise ValueError(f"predict_proba gives {width(values)} values a row, and a golden score is one")
        return self.ask(self._method or "predict", rows)

    def lacking(self, rows: Any) -> list[str]:
        """The features that the model was trained with, as far as it knows them, which a table does not have."""
        names = set(map(str, rows.columns)) if hasattr(rows, "columns") else None
        return [] if names is None else [name for name in self._asked.features or () if name not in names]

    def _columns(self, rows: Any) -> Any:
        """The model's own columns in its order, if the table has them all."""
        names = self._asked.features
        if not names or not hasattr(rows, "columns") or set(names) - set(map(str, rows.columns)):
            return rows
        return rows[list(names)]


def _numbers(rows: Any) -> Any:
    """A table of numbers as an array; any other one as it is."""
    if not hasattr(rows, "to_numpy"):
        return rows
    values = rows.to_numpy()
    return values if values.dtype.kind in "fiub" else rows


def missing_package(error: BaseException) -> str:
    """The package for whose lack an exception was raised, by the name that it is imported by; "" if it is another."""
    if isinstance(error, NoPandas):
        return error.missing
    return (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""


def told(error: BaseException) -> dict[str, str]:
    """What a worker says of an exception: its `type`, `message`, the package that is `missing`, and the `traceback`."""
    return {
        "type": type(error).__name__,
        "message": str(error)[:2000],
        "missing": missing_package(error),
        "traceback": own_traceback(error),
    }


def own_traceback(error: BaseException) -> str:
    """An exception's traceback from the first frame that is not ours on, at most 4,000 characters of it."""
    frame = error.__traceback__
    while frame and _is_ours(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))[-4000:]


def _is_ours(file: str) -> bool:
    return file.startswith("<frozen importlib") or _PACKAGE in Path(file).resolve().parents


def width(values: Any) -> int:
    """How many values there are for each row; 0 if it is one by itself."""
    shape = getattr(values, "shape", None)
    if shape is not None:
        return shape[1] if len(shape) > 1 else 0
    return len(values[0]) if len(values) and isinstance(values[0], (list, tuple)) else 0


def _of_kind(path: Path) -> Asked:
    found = detect(path)
    sys.dont_write_bytecode = True  # a pickle imports the consumer's modules, see `_module`
    return found.kind.load(found.path)


def named(code: str, root: Path) -> Any:
    """What `module:name` or `file.py:name` names in the consumer's folder.

    Raises:
        NotLoadable: there is no such file, or it has no such name.
    """
    where, _, name = code.rpartition(":")
    module = _module(where, root)
    if not hasattr(module, name):
        raise NotLoadable(f"{where} has no `{name}`")
    return getattr(module, name)


def _own(path: Path, where: str, name: str, root: Path) -> Asked:
    made = named(f"{where}:{name}", root)
    if isinstance(made, type):
        made = made()
        loaded = made.load(path)
        made = made if loaded is None else loaded
    else:
        made = made(path)
    if callable(getattr(made, "predict", None)):
        methods: dict[str, Callable[[Any], Any]] = dict(estimator(made).methods)
    elif callable(made):
        methods = {"predict": made}
    else:
        raise NotLoadable(f"{where}:{name} gives a {type(made).__name__}, which is not a function and has no `predict`")
    return Asked(methods)


def _module(where: str, root: Path) -> Any:
    if where.endswith(".py") and not (root / where).is_file():
        raise NotLoadable(f"The file {where} does not exist")
    folder = (root / where).absolute().parent if where.endswith(".py") else root.absolute()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # nothing of ours stays in the consumer's folder
    if not where.endswith(".py"):
        return importlib.import_module(where)
    spec = importlib.util.spec_from_file_location(Path(where).stem, root / where)
    if spec is None or spec.loader is None:
        raise ImportError(f"{where} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pickles look for classes of it by name
    spec.loader.exec_module(module)
    return module


def _texts(rows: Any) -> Any:
    """The one column of texts of a table; None if it has other columns."""
    if not hasattr(rows, "dtypes") or rows.shape[1] != 1 or rows.dtypes.iloc[0].kind in "biufcmM":
        return None
    return rows.iloc[:, 0]
