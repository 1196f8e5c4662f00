"""The report that a run without rights leaves: what is believed of it, and what is not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from live_markup import Live, as_html
from mlops_actions.errors import BadInput
from mlops_actions.records import Problem, Record
from mlops_actions.reports.report import Report, markdown, page
from mlops_actions.reports.shared import LIMIT, read_shared, write_shared

GATE = {
    "kind": "threshold",
    "metric": "auc",
    "value": 0.4,
    "limit": ">= 0.5",
    "passed": False,
    "note": "",
    "bound": 0.5,
}
EVIL = (
    "<img src=x onerror=alert(1)> @octocat https://evil.example #12 [x](javascript:alert(1)) \x1b[2J\u202e `a` |\n# h"
)
RECORDS = [
    Record(action="run-pipeline", started="2026-01-01T00:00:00.123+00:00", seconds=3.0, reason="Trained",
           outputs={"metrics": {"auc": 0.4, "bad": float("nan")}, "model-uri": "s3://b/m"},
           source={"url": "https://evil.example"}),
    Record(action="evaluate-model", verdict="rejected", started="2026-01-01T00:00:09+00:00", seconds=1.0, reason="No",
           details={"gates": [GATE], "variant": "x"}),
    Record(action="test-model", verdict="failed", started="2026-01-01T00:00:10+00:00", seconds=1.0,
           problem=Problem(exit_code=3, what="w" * 9000, log="l" * 90_000)),
]  # fmt: skip
SOURCE = {"repository": "o/r", "commit": "c0ffee", "url": "https://github.com/o/r/actions/runs/1"}


def test_what_is_shown_of_a_report_comes_through_and_nothing_else() -> None:
    found = read_shared(write_shared(Report({"train": "success"}, RECORDS)), SOURCE)
    assert found.jobs == {"train": "success"}
    assert [(r.action, r.verdict, r.reason) for r in found.records] == [
        ("run-pipeline", "passed", "Trained"), ("evaluate-model", "rejected", "No"), ("test-model", "failed", ""),
    ]  # fmt: skip
    assert found.records[0].outputs == {"metrics": {"auc": 0.4}}
    assert found.records[1].details["gates"][0]["value"] == 0.4 and found.records[1].details["variant"] == "x"
    assert all(record.source == SOURCE for record in found.records)
    assert found.headline == "The model is not good enough: No"


@pytest.mark.parametrize(
    "odd",
    [
        {"action": "Odd Action"}, {"seconds": float("inf")}, {"seconds": -1.0}, {"started": "now"},
        {"details": {"gates": [{**GATE, "value": float("nan")}]}}, {"details": {"gates": [{**GATE, "value": 10**400}]}},
        {"details": {"gates": [{**GATE, "verdict": "v" * 101}]}}, {"details": {"gates": [{**GATE, "passed": "no"}]}},
        {"details": {"gates": [{"kind": 7}, "x"]}}, {"details": {"variant": "v" * 200}}, {"reason": "\ud800"},
        {"problem": Problem(exit_code=-9, what="killed")}, {"outputs": {"metrics": {"a": 10**400, "b": "\ud800"}}},
    ],
    ids=lambda odd: str(odd)[:50],
)  # fmt: skip
def test_a_verdict_is_handed_on_whatever_else_is_in_its_record(odd: dict[str, Any]) -> None:
    found = read_shared(write_shared(Report({}, [RECORDS[0], RECORDS[1].model_copy(update=odd)])), {})
    assert [record.verdict for record in found.records] == ["passed", "rejected"]
    assert found.verdict == "rejected"
    assert found.records[1].action == "evaluate-model" or "left out here: action" in found.records[1].reason


def test_what_is_left_out_is_said_and_what_is_too_long_is_cut() -> None:
    gates = [{**GATE, "verdict": "v" * 101, "value": float("nan")}] + [{**GATE, "passed": True}] * 700
    odd = RECORDS[1].model_copy(update={"details": {"gates": gates}, "seconds": -1.0})
    (record,) = read_shared(write_shared(Report({}, [odd])), {}).records
    assert record.reason == "No (left out here: seconds, 201 gates)"
    first = record.details["gates"][0]
    assert (first["passed"], first["value"], first["verdict"]) == (False, None, "v" * 99 + "…")


@pytest.mark.parametrize("size", [250, 900])
def test_of_many_records_none_that_failed_is_lost(size: int) -> None:
    long = {"problem": Problem(exit_code=1, what="w" * 2000, log="\\" * 20_000), "verdict": "failed"}
    many = [RECORDS[0].model_copy(update={"details": {"variant": f"v{i}"}}) for i in range(size)]
    bad = [RECORDS[1].model_copy(update={"details": {"variant": f"b{i}"}, **long}) for i in range(100)]
    data = write_shared(Report({**{f"j{i}": "success" for i in range(900)}, "last": "failure"}, [*many, *bad]))
    found = read_shared(data, {})
    assert len(data) <= LIMIT and found.jobs["last"] == "failure"
    assert len(found.failed) == 100 and found.failed[0].problem
    assert found.failed[-1].reason.endswith("(the rest is in the run's summary)")
    assert len(found.records) == min(size + 100, 501)
    assert size == 250 or found.records[-1].reason == "500 records left out here"


def test_a_verdict_that_its_own_gates_contradict_is_not_believed() -> None:
    found = read_shared(json.dumps(valid(action="evaluate-model", gates=[{"passed": False}])).encode(), {})
    assert found.verdict == "rejected"


def test_a_report_of_any_size_is_handed_on_within_the_limit() -> None:
    gates = [{**GATE, "metric": "m" * 2000, "note": "n" * 2000} for _ in range(900)]
    many = [RECORDS[1].model_copy(update={"details": {"gates": gates, "variant": str(i)}}) for i in range(12)]
    data = write_shared(Report({f"job{i}": "success" for i in range(500)}, [*many, *RECORDS]))
    assert len(data) <= LIMIT and read_shared(data, {}).records
    worst = RECORDS[1].model_copy(update={"reason": "\x01" * 2000, "details": {"variant": "\x01" * 100}})
    data = write_shared(Report({"\x01" * 90 + str(i): "cancelled" for i in range(900)}, [worst] * 900))
    assert len(data) <= LIMIT and len(read_shared(data, {}).failed) == 500


def valid(**changed: Any) -> dict[str, Any]:
    record = {"action": "run-pipeline", "verdict": "passed", "started": "2026-01-01T00:00:00+00:00", "seconds": 1.0}
    return {"records": [{**record, **changed}]}


@pytest.mark.parametrize(
    "poison",
    [
        b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000,
        {"pull_request": 1}, {"number": 7}, {"jobs": {"a": "won"}}, {"schema_version": 2}, {"marker": "<!-- x -->"},
        valid(action="../../evil"), valid(action="run-pipeline\n"), valid(verdict="great"), valid(source={"url": "x"}),
        valid(seconds=-1.0), valid(seconds="1"), valid(seconds=1e300), valid(reason="x" * 3000), valid(reason=["x"]),
        valid(started="<b>"), valid(details={"markdown": "<script>"}), valid(metrics={"a": "<b>"}),
        valid(metrics={str(i): 1.0 for i in range(300)}), valid(gates=[{**GATE, "evidence": "http://x"}]),
        valid(problem={"exit_code": 1, "what": "x", "html": "<b>"}),
        {"records": [valid()["records"][0]] * 502},
    ],
    ids=lambda poison: str(poison)[:40],
)  # fmt: skip
def test_a_poisoned_file_is_refused_in_one_clear_error(poison: bytes | dict[str, Any]) -> None:
    data = poison if isinstance(poison, bytes) else json.dumps(poison).encode()
    with pytest.raises(BadInput, match="is not of the schema") as refused:
        read_shared(data, SOURCE)
    assert len(str(refused.value)) < 1000


def test_a_file_over_the_limit_is_not_read() -> None:
    with pytest.raises(BadInput, match="too long"):
        read_shared(b" " * (LIMIT + 1), {})


def test_hostile_text_of_the_right_shape_is_only_text() -> None:
    gate = {"kind": EVIL[:100], "metric": EVIL, "limit": EVIL, "passed": False, "note": EVIL}
    problem = {"exit_code": 1, "what": EVIL, "why": EVIL, "fix": EVIL, "place": EVIL, "log": EVIL}
    given = valid(reason=EVIL, variant=EVIL[:100], gates=[gate], metrics={EVIL[:100]: 1.0}, action="evaluate-model")
    failed = valid(verdict="failed", problem=problem, action="evil-action")
    whole = {"records": given["records"] + failed["records"], "jobs": {EVIL[:90]: "failure"}}
    found = read_shared(json.dumps(whole).encode(), SOURCE)
    assert Live(as_html(markdown(found))).found == []
    assert set(Live(page(replace(found, title=""))).found) <= {"style", "svg"}
