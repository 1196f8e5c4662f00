"""What is asked of a model, checked before an environment is made for it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..code_files import code_files, digest
from ..environments import MARK
from ..errors import BadInput
from .kinds import METHODS, NotLoadable, check_pickle, detect
from .predicting import CODE

_PACKAGES = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
"""Packages that are called otherwise than what is imported from them."""


def remedy(module: str, python: Path | str = "") -> str:
    """What to do about a module that a model's environment does not have.

    Args:
        module: that cannot be imported.
        python: the environment's interpreter on this machine; "" or a command for one that is in a container.
    """
    package, folder = _PACKAGES.get(module, module), Path(python).parent.parent
    if Path(python).is_absolute() and (folder / MARK).is_file():
        names = {line.partition("==")[0] for line in (folder / MARK).read_text().splitlines()}
        if package.lower().replace("_", "-") in names:
            return f"{package} was installed in {folder} and is gone: remove that folder, then run this again"
    return f"Add {package} to the `requirements` that the model is loaded with"


def check_loadable(model: Path, predict: str, root: Path) -> str:
    """The name of the kind that a model is loaded as: one of `kinds.KINDS`, or `python` for code of the consumer's.

    Raises:
        BadInput: `predict` is neither a method nor code that exists, or the model is of no kind.
    """
    code = CODE.fullmatch(predict)
    if predict and not code and predict not in METHODS:
        why = f"It must be {', '.join(METHODS)}, module:name or file.py:name"
        raise BadInput(f"`predict` is {predict!r}", why=why, fix="Correct it")
    if code:
        if code["where"].endswith(".py") and not (root / code["where"]).is_file():
            raise BadInput(f"`predict` is {predict!r}", why="The file does not exist", fix="Correct it")
        return "python"
    try:
        found = detect(model)
        kind = found.kind
        if kind.name == "sklearn":
            check_pickle(found.path)
    except NotLoadable as error:
        fix = error.fix or "Save it as one of these, or name code that loads it with `predict: module:name`"
        raise BadInput(f"The model {model.name} cannot be loaded", why=str(error), fix=fix) from None
    if kind.by_code:
        why = f"It is of the kind {kind.name}, which has weights and not the code that uses them"
        fix = "Name a class of yours with `load` and `predict` by `predict: module:name`"
        raise BadInput(f"The model {model.name} cannot be loaded by itself", why=why, fix=fix)
    return kind.name


def code_of(predict: str, root: Path) -> list[Path]:
    """The files of the code that `predict` names, with what they import from the consumer's folder; [] for none."""
    code = CODE.fullmatch(predict)
    if not code:
        return []
    return code_files([code["where"]] if code["where"].endswith(".py") else ["-m", code["where"]], root)


def copy_code(predict: str, root: Path, folder: Path) -> None:
    """Copy the code that `predict` names, see `code_of`, into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in code_of(predict, root):
        target = folder / file.relative_to(root.resolve())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def code_digest(predict: str, root: Path) -> str:
    """Digest of the code that `predict` names, see `code_of`; "" if it names none."""
    return digest(code_of(predict, root), root) if CODE.fullmatch(predict) else ""
