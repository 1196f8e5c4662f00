"""The kinds of models that can be loaded: how a file shows its kind, what it needs, and how it is loaded.

A kind is one entry of `KINDS`. A file is never unpickled to see what it is. This runs in the model's own environment
too, so only the standard library is imported before a model is loaded.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

METHODS = ("predict", "predict_proba", "decision_function")
"""What a model may be asked for, by scikit-learn's names."""
_PICKLED = re.compile(
    rb"\x80[\x02-\x0f]|c[\w.]+\r?\n\w|[(\]}]|x[\x01\x5e\x9c\xda]|\x1f\x8b|BZh|\x5d\x00|\xfd7zXZ|\x04\x22\x4d\x18"
)
_HEAD = 4096  # bytes of a file that are looked at


class NotLoadable(Exception):
    """No kind fits, or the file says itself that it must not be loaded like this; `fix` is what to do, if known."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix


@dataclass(frozen=True)
class Asked:
    """A loaded model, as it can be asked.

    Attributes:
        methods: what it can be asked for, by name: a function from rows (a table, see `tensors.table`) to values.
        features: the columns that it takes, in order; None where it does not tell.
        takes_texts: whether it may be a model of texts, which takes the one column of a table as a series.
        unnamed: whether it was fitted on rows without names: scikit-learn then warns of every table, at length.
    """

    methods: Mapping[str, Callable[[Any], Any]]
    features: Sequence[str] | None = None
    takes_texts: bool = False
    unnamed: bool = False


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Attributes:
        name: as the registry's manifests have it.
        title: for messages: what it is, and how its files are named.
        load: from a file (or a folder, where `marker` is set) to what can be asked.
        suffixes: names of its files end with one of these.
        head: what the first bytes of a file match; with `suffixes`, both must, or the file has no suffix.
        always: whether a suffix alone is enough.
        marker: the file that a folder of this kind has.
        member: a file of this kind is a ZIP archive (APPNOTE 4.3.7) with a file of this name in it.
        by_code: only code of the consumer's can load it.
    """

    name: str
    title: str
    load: Callable[[Path], Asked]
    suffixes: tuple[str, ...] = ()
    head: re.Pattern[bytes] = field(default=re.compile(rb"(?!)"))
    always: bool = True
    marker: str = ""
    member: str = ""
    by_code: bool = False

    def fits(self, file: Path) -> bool:
        """Whether a file is of this kind, by its name and its first bytes."""
        suffix = file.suffix.lower()
        if self.member:
            return suffix in ("", *self.suffixes) and _has_member(file, self.member)
        if suffix in self.suffixes and self.always:
            return True
        if suffix not in ("", *self.suffixes):
            return False
        with file.open("rb") as stream:
            return self.head.match(_uncompressed(stream.read(_HEAD))) is not None


@dataclass(frozen=True)
class Found:
    """A model's kind, and the file or folder that has it."""

    kind: Kind
    path: Path


def detect(model: Path) -> Found:
    """The kind of a model, by names and first bytes; of a folder, the one file in it that is a model.

    Raises:
        NotLoadable: it is of no kind, or several files could be the model.
    """
    if model.is_dir():
        for kind in KINDS:
            if kind.marker and (markers := sorted(model.rglob(kind.marker))):
                return Found(kind, markers[0].parent)
    files = [model] if model.is_file() else sorted(path for path in model.rglob("*") if path.is_file())
    found = [Found(kind, file) for file in files for kind in KINDS if kind.fits(file)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotLoadable(f"several of its files could be the model: {', '.join(one.path.name for one in found)}")
    raise NotLoadable(f"it is of no kind that can be loaded: {'; '.join(kind.title for kind in KINDS)}")


def _has_member(file: Path, name: str) -> bool:
    """Whether a file is an archive with a file of that name, in whatever folder of it."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(member.rpartition("/")[2] == name for member in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _uncompressed(head: bytes) -> bytes:
    """The first bytes of a file that joblib has compressed, in the ways that it does by default."""
    try:
        return zlib.decompressobj(wbits=47).decompress(head, 64)
    except zlib.error:
        return head


def kind_of(model: Path) -> str:
    """The name of a model's kind; "" if it cannot be told."""
    try:
        return detect(model).kind.name
    except NotLoadable:
        return ""


def estimator(model: Any) -> Asked:
    """Anything with scikit-learn's interface.

    Raises:
        NotLoadable: it has no `predict`.
    """
    methods = {name: getattr(model, name) for name in METHODS if callable(getattr(model, name, None))}
    if "predict" not in methods:
        raise NotLoadable(f"it is a {type(model).__name__}, which has no `predict`")
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return Asked(methods, takes_texts=True, unnamed=hasattr(model, "n_features_in_"))
    return Asked(methods, [str(name) for name in names])


def check_pickle(file: Path) -> None:
    """Refuse a file that is called a pickle and is none: a text, a page, a pointer of Git LFS, an empty file.

    Raises:
        NotLoadable: it begins neither as pickle's protocols (https://docs.python.org/3/library/pickletools.html) do nor
            as what joblib compresses with (zlib, gzip, bz2, LZMA, xz, LZ4).
    """
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    if not _PICKLED.match(head):
        begins = f"it begins with {head[:16]!r}" if head else "it is empty"
        raise NotLoadable(f"{file.name} is not a joblib or pickle file: {begins}", "Save the model to it again")


def _pickle(file: Path) -> Asked:
    """By joblib if it is there (it reads plain pickles too), else by pickle."""
    try:
        import joblib
    except ImportError:
        import pickle

        with file.open("rb") as stream:
            return estimator(pickle.load(stream))
    return estimator(joblib.load(file))


def _skops(file: Path) -> Asked:
    """Types that skops does not know are not loaded: https://skops.readthedocs.io/en/stable/persistence.html."""
    import skops.io

    unknown = skops.io.get_untrusted_types(file=file)
    if unknown:
        raise NotLoadable(
            f"it has types that skops does not trust: {', '.join(unknown)}. If you do, load it in code of your own,"
            " named by `predict`, with `skops.io.load(path, trusted=[...])`"
        )
    return estimator(skops.io.load(file))


def _xgboost(file: Path) -> Asked:
    """As the class that saved it, which the file tells, else as a Booster."""
    import xgboost

    data = bytearray(file.read_bytes())  # of a file without a suffix XGBoost would guess the format
    booster = xgboost.Booster(model_file=data)
    saved_by = json.loads(booster.attr("scikit_learn") or "{}").get("_estimator_type")
    if saved_by in ("classifier", "regressor"):
        model = (xgboost.XGBClassifier if saved_by == "classifier" else xgboost.XGBRegressor)()
        model.load_model(data)
        methods = ("predict", "predict_proba") if saved_by == "classifier" else ("predict",)
        asked: dict[str, Callable[[Any], Any]] = {name: getattr(model, name) for name in methods}
    else:
        asked = {"predict": lambda rows: booster.predict(xgboost.DMatrix(rows, enable_categorical=True))}
    return Asked({name: _matrix(method) for name, method in asked.items()}, booster.feature_names)


def _lightgbm(file: Path) -> Asked:
    import lightgbm

    booster = lightgbm.Booster(model_file=str(file))
    return Asked({"predict": _matrix(booster.predict)}, booster.feature_name())


def _catboost(file: Path) -> Asked:
    import catboost

    model = catboost.CatBoost()
    model.load_model(str(file))
    methods: tuple[str, ...] = ("predict",)
    if len(model.classes_):
        model = catboost.CatBoostClassifier()
        model.load_model(str(file))
        methods = ("predict", "predict_proba")
    asked = {name: _matrix(getattr(model, name)) for name in methods}
    return Asked(asked, model.feature_names_)


def _onnx(file: Path) -> Asked:
    """The first output is the prediction; a second one, as skl2onnx writes it, the probabilities."""
    import numpy
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=onnxruntime.get_available_providers())
    inputs = session.get_inputs()
    types = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(double)": "f8", "tensor(int64)": "i8",
             "tensor(int32)": "i4", "tensor(uint8)": "u1", "tensor(int8)": "i1", "tensor(bool)": "?"}  # fmt: skip

    def array(values: Any, kind: str) -> Any:
        return numpy.asarray(values, dtype=types.get(kind, object))

    def run(rows: Any, output: int) -> Any:
        if isinstance(rows, dict):
            fed = {one.name: array(rows[one.name], one.type) for one in inputs}
        elif len(inputs) == 1:
            fed = {inputs[0].name: array(_plain(rows), inputs[0].type)}
        else:
            fed = {one.name: array(_column(rows, one.name), one.type).reshape(-1, 1) for one in inputs}
        values = session.run([session.get_outputs()[output].name], fed)[0]
        if isinstance(values, list) and values and isinstance(values[0], dict):
            return numpy.asarray([list(row.values()) for row in values])
        return values

    methods = {"predict": lambda rows: run(rows, 0)}
    if len(session.get_outputs()) == 2:
        methods["predict_proba"] = lambda rows: run(rows, 1)
    return Asked(methods, [one.name for one in inputs] if len(inputs) > 1 else None)


def _mlflow(folder: Path) -> Asked:
    """A model of scikit-learn as itself, which also tells probabilities; another one by MLflow's `pyfunc`."""
    text = (folder / "MLmodel").read_text(encoding="utf-8")
    if re.search(r"^  sklearn:", text, re.MULTILINE):
        import mlflow.sklearn

        return estimator(mlflow.sklearn.load_model(str(folder)))
    import mlflow.pyfunc

    return Asked({"predict": mlflow.pyfunc.load_model(str(folder)).predict})


def _torchscript(file: Path) -> Asked:
    """A program, which is called with one tensor, or with one for each input in order.

    Of several outputs the first one is the prediction.
    """
    import torch

    program = torch.jit.load(str(file), map_location="cpu").eval()

    def predict(rows: Any) -> Any:
        given = [_plain(rows)] if not isinstance(rows, dict) else list(rows.values())
        with torch.inference_mode():
            found = program(*[torch.from_numpy(_for_torch(array)) for array in given])
        return (found[0] if isinstance(found, (tuple, list)) else found).numpy()

    return Asked({"predict": predict})


def _for_torch(array: Any) -> Any:
    """Floating point as torch's layers have it by default, in memory of its own."""
    return array.astype("float32" if array.dtype.kind == "f" else array.dtype)


def _safetensors(file: Path) -> Asked:
    """Weights are no model: only code knows what to do with them."""
    raise NotLoadable(f"{file.name} has weights alone: name a class that loads them by `predict: module:name`")


def _matrix(method: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A method that takes a table of pandas or an array: where there is no pandas, it is given the latter."""
    return lambda rows: method(_plain(rows) if isinstance(rows, list) else rows)


def _plain(rows: Any) -> Any:
    """A table as an array of rows; an array as it is."""
    import numpy

    if isinstance(rows, numpy.ndarray):
        return rows
    return rows.to_numpy() if hasattr(rows, "to_numpy") else numpy.asarray([list(row.values()) for row in rows])


def _column(rows: Any, name: str) -> Any:
    return rows[name].to_numpy() if hasattr(rows, "columns") else [row[name] for row in rows]


KINDS = (
    Kind("mlflow", "MLflow (a folder with MLmodel)", _mlflow, marker="MLmodel"),
    Kind("skops", "skops (.skops)", _skops, (".skops",)),
    Kind(
        "xgboost", "XGBoost (.json, .ubj)", _xgboost, (".json", ".ubj"),
        re.compile(rb'\s*\{\s*"learner"|\{L.{8}learner', re.DOTALL), always=False,
    ),
    Kind("lightgbm", "LightGBM (.txt)", _lightgbm, (".txt",), re.compile(rb"tree\r?\nversion="), always=False),
    Kind("catboost", "CatBoost (.cbm)", _catboost, (".cbm",), re.compile(rb"CBM1")),
    Kind("onnx", "ONNX (.onnx)", _onnx, (".onnx",), re.compile(rb"\x08[\x03-\x1f][\x12\x3a\x42]")),
    Kind("torchscript", "TorchScript (.pt, .pth, .ts)", _torchscript, (".pt", ".pth", ".ts"), member="constants.pkl"),
    Kind(
        "safetensors", "safetensors with a class of yours (.safetensors)", _safetensors, (".safetensors",),
        re.compile(rb'.{8}\{"', re.DOTALL), by_code=True,
    ),
    Kind(
        "sklearn", "scikit-learn and what has its interface (.joblib, .pkl, .pickle)", _pickle,
        (".joblib", ".pkl", ".pickle"), re.compile(rb"\x80[\x02-\x0f]"),
    ),
)  # fmt: skip
"""All kinds. One that is found by its first bytes comes before one that a pickle could be taken for."""
