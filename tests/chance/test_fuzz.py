"""Whatever a file holds, what reads it says what is wrong, or reads it: nothing else comes out.

Each target starts from texts that are right and changes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from conftest import ROOT
from fuzzing import fuzz
from mlops_actions.data.contract import read_contract
from mlops_actions.errors import BadInput, MlopsError
from mlops_actions.pipelines.parameters import read_parameters
from mlops_actions.records import Record
from mlops_actions.registry.manifest import Alias, Manifest
from mlops_actions.registry.policy import read_policy
from mlops_actions.registry.registry import Registry, alias_path, manifest_path
from mlops_actions.reports.annotations import annotate
from mlops_actions.reports.changes import facts_of
from mlops_actions.reports.report import gather, markdown, page
from mlops_actions.reports.shared import read_shared
from mlops_actions.runtime import chain
from mlops_actions.runtime.chain import NAMES
from mlops_actions.runtime.config import read_project, resolve
from mlops_actions.stores.store import Store
from mlops_actions.tuning import reading
from mlops_actions.values import parse_lines, parse_mappings, parse_texts, parse_values

CONFIG = [path.read_text() for path in sorted((ROOT / "examples").glob("*/mlops.yaml"))]
EXPERIMENTS = [path.read_text() for path in sorted((ROOT / "tests" / "data" / "katib").glob("example-*.yaml"))]
CONTRACTS = [
    *(path.read_text() for path in sorted((ROOT / "examples").glob("*/*contract*.yaml"))),
    "columns:\n  a: {dtype: int64, nullable: false, checks: {in_range: {min_value: 1, max_value: 3}}}\n"
    "  b: {dtype: str, unique: true, checks: {isin: [x, y]}, regex: false}\nindex: null\nstrict: true\n"
    "table: {rows: {min: 1}, unique: [[a, b]], expressions: {e: 'a > 1'}, drift: {a: {psi: 0.1}}}\n",
]
POLICIES = ["requires: [evaluate-model]\naccept-unchecked: [test-model]\nmetrics: {auc: {min: 0.7, max: 1}}\n"]
PARAMETERS = [
    "n: 3\nrate: 1e-3\nnames: [a, 'b']\nnested: {a: {b: [1, {c: null}]}}\ntext: |\n  a\n  b\n",
    "a: &a [1]\nb: *a\n",
]
RECORDS = [
    Record(
        action="run-pipeline",
        started="2026-01-01T00:00:00+00:00",
        seconds=1.5,
        run="r",
        reason="x",
        inputs={"parameters": {"n": 1}},
        outputs={"metrics": {"auc": 0.5}, "artifacts": [{"uri": "s3://b/k"}]},
        details={"tasks": [{"name": "a", "state": "succeeded", "seconds": 1.0}], "edges": [["a", "b"]]},
    ).model_dump_json(),
    Record(
        action="validate-data", started="", seconds=0, verdict="rejected", details={"columns": [{"column": "a"}]}
    ).model_dump_json(),
    Record(
        action="evaluate-model",
        started="2026-01-01T00:00:02+00:00",
        seconds=1.0,
        outputs={"primary-metric": "auc", "metrics": {"auc": 0.7}, "champion-version": 1},
        details={
            "curves": {"roc": [[0, 0], [1, 1]], "confusion": {"classes": ["a", "b"], "counts": [[1, 2], [3, 4]]}},
            "gates": [{"kind": "k", "metric": "auc", "value": 0.7, "limit": ">= 0.5", "passed": True, "verdict": ""}],
            "comparisons": [{"metric": "auc", "challenger": 0.7, "champion": 0.6, "verdict": "better"}],
            "slices": [{"column": "a", "value": "b", "rows": 3, "metrics": {"auc": 0.7}}],
            "champion": {"alias": "champion", "version": 1},
        },
    ).model_dump_json(),
    Record(
        action="tune-hyperparams",
        started="2026-01-01T00:00:01+00:00",
        seconds=1.0,
        details={"objective": "auc", "type": "maximize", "history": [[1, 0.5], [2, 0.6]], "importances": {"a": 0.5}},
    ).model_dump_json(),
    Record(
        action="monitor-model",
        started="2026-01-01T00:00:03+00:00",
        seconds=1.0,
        details={"columns": [{"column": "a", "psi": 0.3, "drifted": True}]},
    ).model_dump_json(),
]
SHARED = [
    '{"jobs":{"train":"success"},"records":[{"action":"evaluate-model","verdict":"failed","reason":"r","reused":true,'
    '"started":"2026-01-01T00:00:00+00:00","seconds":3.0,"variant":"v","problem":{"exit_code":1,"what":"w","why":"y"},'
    '"metrics":{"auc":0.5},"gates":[{"kind":"k","metric":"m","value":0.4,"limit":">= 0.5","passed":false}]}]}'
]  # fmt: skip
_DIGEST = "sha256:" + "0" * 64
_FILE = {"path": "a/model.txt", "digest": _DIGEST, "size": 3}
MANIFEST = json.loads(
    Manifest(
        name="m", version=1, created="2026-01-01T00:00:00+00:00", digest=_DIGEST, identity="i", files=[_FILE],
        metrics={"auc": 0.5}, card=_FILE, tags={"a": 1},
        evidence=[{"action": "test-model", "verdict": "passed", "record": _DIGEST}],
    ).model_dump_json()
)  # fmt: skip
ALIAS = Alias(
    name="m", alias="champion", version=1, digest=_DIGEST, history=[{"version": 1, "at": "2026-01-01T00:00:00+00:00"}]
).model_dump(mode="json")
TOKENS = [
    "&a ", "*a", "<<: *a", "!!int ", "!!float ", "!!set ", "!!python/object:os.system ", "!<x> ", "{", "}", "[", "]",
    ": ", "- ", "? ", "|", ">", "'", '"', "#", "%YAML 9.9\n", "---\n", "...\n", "\t", "\n", "\r", "\x00", "\x1b[31m",
    "\u2028", "\ufeff", "\ud800", "null", "true", ".nan", ".inf", "-1", "1e999", "9" * 5000, "0x", "0o9", "=", "@", "`",
    "../../x", "a\\b", "[" * 200, "{a: " * 200, "é", "𝒳", "on", "12:30", "2020-01-01", "''", "{}", "[]", "x" * 3000,
]  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, texts: list[str]) -> str:
    """A text of a list with some of it taken away, doubled or replaced."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 2, 10, 100])))
        new = draw(st.one_of(st.sampled_from(TOKENS), st.text(max_size=8), st.just(text[start:end] * 2)))
        text = text[:start] + new + text[end:]
    return text


def reads(file: Path, text: str, read: Callable[[Path], object]) -> None:
    """Read a file with the text; a refusal is one line with a place that is in the file."""
    file.write_bytes(text.encode(errors="surrogatepass"))
    try:
        read(file)
    except BadInput as error:
        assert error.what and "Traceback" not in str(error)
        assert error.place is None or error.place.file == file.name, "an annotation is on the file"
        if error.place and error.place.line:
            assert (
                1
                <= error.place.line
                <= text.count("\n") + text.count("\r") + text.count("\u2028") + text.count("\x85") + 2
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@fuzz
@given(text=changed(CONFIG))
def test_config(folder: Path, text: str) -> None:
    def all_of_it(file: Path) -> None:
        project = read_project(file)
        for name in NAMES:
            try:
                resolve(chain.load(name), {}, {}, project)
            except BadInput as error:
                assert error.what

    reads(folder / "mlops.yaml", text, all_of_it)


@fuzz
@given(text=changed(EXPERIMENTS))
def test_experiment(folder: Path, text: str) -> None:
    reads(folder / "experiment.yaml", text, lambda file: reading.read(file, file.name))


@fuzz
@given(text=changed(CONTRACTS))
def test_contract(folder: Path, text: str) -> None:
    reads(folder / "contract.yaml", text, lambda file: read_contract(file, file.name))


@fuzz
@given(text=changed(POLICIES))
def test_policy(folder: Path, text: str) -> None:
    reads(folder / "policy.yaml", text, lambda path: read_policy(path, NAMES))


@fuzz
@given(text=changed(PARAMETERS), suffix=st.sampled_from(["yaml", "json"]))
def test_parameters(folder: Path, text: str, suffix: str) -> None:
    reads(folder / f"parameters.{suffix}", text, read_parameters)


@fuzz
@given(text=changed([*PARAMETERS, "a=1\nb=[1, 2]\n", "a, b\nc", "[a, b]"]))
@pytest.mark.parametrize("parse", [parse_lines, parse_values, parse_mappings, parse_texts])
def test_values(parse: Callable[[object], object], text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert str(error)


def _leaves(value: Any, new: Any) -> Any:
    """The value with each leaf replaced by another value now and then, as `new` draws it."""
    if isinstance(value, dict):
        return {key: _leaves(item, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_leaves(item, new) for item in value]
    return new(value)


@fuzz
@given(data=st.data())
def test_records_of_another_shape_are_refused_or_shown(data: st.DataObject) -> None:
    values = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.just([]), st.just({})
    )
    given = json.loads(data.draw(st.sampled_from(RECORDS)))
    given = _leaves(given, lambda value: data.draw(values) if data.draw(st.integers(0, 4)) == 0 else value)
    text = json.dumps(given)
    try:
        report = gather(json.dumps({"train": {"result": "success", "outputs": {"record": text}}}), [], NAMES)
    except BadInput:
        with pytest.raises(ValidationError):
            Record.model_validate_json(text)
        return
    report = replace(report, before=[facts_of(report.records, "passed", "the last run")], places=["production"])
    assert markdown(report) and page(report) and annotate(report.records, "mlops.yaml") is not None


@fuzz
@given(text=changed(SHARED))
def test_reports_of_strangers(text: str) -> None:
    try:
        report = read_shared(text.encode(errors="surrogatepass"), {})
    except BadInput as error:
        assert "\n" not in error.what
        return
    assert markdown(report) and page(report) and annotate(report.records, "mlops.yaml") is not None


@fuzz
@given(text=changed([json.dumps({"train": {"result": "success", "outputs": {"record": RECORDS[0]}}})]))
def test_needs(text: str) -> None:
    try:
        markdown(gather(text, [], NAMES))
    except BadInput as error:
        assert error.what


@fuzz
@given(data=st.data(), kept=st.sampled_from([MANIFEST, ALIAS]))
def test_manifests_and_aliases_of_another_shape_are_refused(folder: Path, data: st.DataObject, kept: Any) -> None:
    registry = Registry(Store((folder / "store").as_uri()))
    values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.just({}))
    given = _leaves(kept, lambda value: data.draw(values) if data.draw(st.integers(0, 9)) == 0 else value)
    text = data.draw(changed([json.dumps(given)]))
    path = manifest_path("m", 1) if kept is MANIFEST else alias_path("m", "champion")
    registry.store.put(path, text.encode(errors="surrogatepass"))
    try:
        found = registry.manifest("m", 1) if kept is MANIFEST else registry.alias("m", "champion")
    except MlopsError as error:
        assert "is not what the registry writes" in error.what
    else:
        assert type(found).model_validate_json(text) == found
