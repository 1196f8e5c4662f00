"""Evidence for one line of the rubric each: what is kept that shows it, or why nothing does.

A record shows only what its action did: nothing here is taken from configuration, and nothing is guessed. The last
record about the version decides; one that did not pass shows nothing, but that it was tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any

from ..records import Record
from ..serving.history import Deployment
from ..text import duration, many
from .known import BY_HAND, Kept, Known


@dataclass(frozen=True)
class Found:
    """What shows it, in words and by URI; `automatic`: it is done without a person."""

    what: str
    uri: str
    automatic: bool = True


@dataclass(frozen=True)
class Missing:
    """Why nothing shows it."""

    why: str


Answer = Found | Missing
Evidence = Callable[[Known], Answer]

_TESTS = re.compile(r"\b(pytest|unittest|nose2|tox|nox)\b")
_SCHEDULED = ("create", "replace", "enable", "same")
"""What was done to a recurring run that is there afterwards."""
_SHARE = re.compile(r"(\d+) %")


def nothing(_: Known) -> Answer:
    """Of what no action does."""
    return Missing("no action shows this")


def _shown(
    known: Known, action: str, says: Callable[[Record], str], lacking: str, *, whatever_verdict: bool = False
) -> Answer:
    """What the records of an action about the version show.

    Args:
        known: what is kept.
        action: its name.
        says: what a record shows, as a sentence; "" when it does not.
        lacking: why not, when the last record does not show it.
        whatever_verdict: a record that did not pass shows it too: the question was asked.
    """
    records = known.of(action)
    if not records:
        return Missing(f"no record of {action} speaks of this version")
    last = records[0].record
    if last.verdict != "passed" and not (whatever_verdict and last.verdict == "rejected"):
        return Missing(f"{action}: {last.reason or (last.problem.what if last.problem else last.verdict)}")
    if not says(last):
        return Missing(lacking)
    shown = [kept for kept in records if kept.record.verdict in ("passed", last.verdict) and says(kept.record)]
    best = next((kept for kept in shown if kept.automatic), shown[0])
    return _of(best, says(best.record))


def _of(kept: Kept, what: str) -> Found:
    return Found(what, kept.uri, kept.automatic)


def _checks(record: Record, name: str) -> list[Mapping[str, Any]]:
    """The checks of validate-data with a name, with whatever arguments."""
    return [one for one in record.details["checks"] if re.fullmatch(rf"{name}(\(.*\))?", one["check"], re.DOTALL)]


def _gates(record: Record, kind: str) -> list[Mapping[str, Any]]:
    return [gate for gate in record.details["gates"] if gate["kind"] == kind]


def _live(known: Known) -> list[tuple[Deployment, str]]:
    """Deployments of the version that went live, at any place, the last one first."""
    return [
        (one, uri)
        for place, uri in known.places
        for one in place.history
        if one.ended == "live" and one.version == known.manifest.version
    ]


def _deployed(known: Known, one: Deployment, what: str, uri: str) -> Found:
    """What a deployment shows; who started it is in the record of its run."""
    records = [kept for kept in (*known.records, *known.others) if kept.record.action == "deploy-model"]
    return Found(what, uri, any(kept.automatic and kept.record.run == one.run for kept in records))


# Data


def schema(known: Known) -> Answer:
    """Expectations of the training data are in a contract, and it passed."""

    def says(record: Record) -> str:
        contract = record.inputs.get("contract")
        return f"{many(len(record.details['checks']), 'check')} of {contract} passed" if contract else ""

    return _shown(known, "validate-data", says, "validate-data was given no contract")


def meta_level(known: Known) -> Answer:
    """Features that must not be used are forbidden by the contract."""

    def says(record: Record) -> str:
        rules = len(_checks(record, "forbidden"))
        return f"no column is one of {many(rules, 'forbidden name')}" if rules else ""

    return _shown(known, "validate-data", says, "the contract forbids no columns")


def privacy(known: Known) -> Answer:
    """Personal data fails the validation."""

    def says(record: Record) -> str:
        return "no column looks personal" if _checks(record, "no_personal_data") else ""

    return _shown(known, "validate-data", says, "personal data does not fail the validation")


# Model


def checked_in(known: Known) -> Answer:
    """The code is a commit. Who reviewed it is in no record, so it is never more than half a point."""
    source = known.manifest.lineage.source
    if not source.commit:
        return Missing("the manifest names no commit")
    if source.dirty is not False:
        return Missing(f"it was trained with changes that are not in commit {source.commit[:7]}")
    where = f" of {source.repository}" if source.repository else ""
    return Found(f"commit {source.commit[:7]}{where}; no record shows a review", known.uri, automatic=False)


def offline_and_online(known: Known) -> Answer:
    """A metric in use orders the versions as the registered one does."""
    by_version: dict[str, tuple[float, float]] = {}
    seen: list[Kept] = []
    for kept in (*known.of("monitor-model"), *known.others):
        quality = kept.record.details.get("quality")
        digest = kept.record.subject.get("model", "")
        if kept.record.action == "monitor-model" and quality and digest not in by_version:
            by_version[digest] = (quality["registered"], quality["live"])
            seen.append(kept)
    if len(by_version) < 2:
        return Missing("no metric in use is known of two versions")
    pairs = [*combinations(by_version.values(), 2)]
    same = sum((a[0] - b[0]) * (a[1] - b[1]) > 0 for a, b in pairs)
    if same < len(pairs):
        return Missing(f"{same} of {len(pairs)} pairs of versions are in the same order in use as before")
    what = f"{len(by_version)} versions are in the same order in use as before"
    return Found(what, seen[0].uri, all(kept.automatic for kept in seen))


def tuned(known: Known) -> Answer:
    """An Experiment chose the parameters."""
    return _shown(known, "tune-hyperparams", lambda record: record.reason, "the Experiment has no result")


def staleness(known: Known) -> Answer:
    """An older version was compared on the same rows."""

    def says(record: Record) -> str:
        older = known.versions.get(record.details["champion"]["version"] or 0)
        paired = [one for one in record.details.get("comparisons", []) if one.get("method") != "recorded"]
        if not older or not paired:
            return ""
        age = datetime.fromisoformat(known.manifest.created) - datetime.fromisoformat(older.created)
        if age.total_seconds() <= 0:
            return ""
        one = paired[0]
        values = f"{one['metric']} {one['champion']:.4g} where this one has {one['challenger']:.4g}"
        older_by = many(age.days, "day") if age.days else duration(age.total_seconds())
        return f"version {older.version}, {older_by} older, has {values} on the same rows"

    return _shown(known, "evaluate-model", says, "no older version was asked for the same rows")


def simpler_model(known: Known) -> Answer:
    """It is better than a baseline that learns."""

    def says(record: Record) -> str:
        found = [gate for gate in _gates(record, "baseline") if "knows no features" not in gate["note"]]
        return "; ".join(f"{gate['metric']} {gate['value']:.4g} {gate['limit']}, {gate['note']}" for gate in found)

    return _shown(known, "evaluate-model", says, "it was compared with no baseline that learns")


def slices(known: Known) -> Answer:
    """Slices have limits, and keep them."""

    def says(record: Record) -> str:
        found = _gates(record, "slice")
        return f"{many(len(found), 'gate')} of slices passed" if found else ""

    return _shown(known, "evaluate-model", says, "no slice has a limit")


def inclusion(known: Known) -> Answer:
    """Differences between groups have limits, and keep them."""

    def says(record: Record) -> str:
        found = _gates(record, "fairness")
        return f"{many(len(found), 'gate')} between groups passed" if found else ""

    return _shown(known, "evaluate-model", says, "no groups were compared")


# Infrastructure


def reproducible(known: Known) -> Answer:
    """The same training was done twice, and gave the same bytes."""
    key = known.manifest.lineage.pipeline.key
    if not key:
        return Missing("the manifest names no run of a pipeline")
    trained = [
        kept
        for kept in (*known.records, *known.others)
        if kept.record.action == "run-pipeline"
        and kept.record.outputs.get("pipeline-key") == key
        and kept.record.verdict == "passed"
        and not kept.record.reused
    ]
    if len({kept.record.run for kept in trained}) < 2:
        return Missing("it was trained once")
    if len({kept.record.subject.get("model") for kept in trained}) > 1:
        return Missing(f"{len(trained)} trainings of the same gave different bytes")
    return _of(trained[0], f"{len(trained)} trainings of the same gave the same bytes")


def unit_tested(known: Known) -> Answer:
    """The image's test is one of a test runner."""

    def says(record: Record) -> str:
        test = str(record.details.get("test") or record.inputs.get("test") or "")
        return f"the image passed `{test}`" if _TESTS.search(test) else ""

    return _shown(known, "build-image", says, "the image was built without a test of a test runner")


def integrated(known: Known) -> Answer:
    """The whole chain ran for the version: trained, evaluated, tested."""
    wanted = ("run-pipeline", "evaluate-model", "test-model")
    last = [next(iter(known.of(action)), None) for action in wanted]
    for action, kept in zip(wanted, last):
        if kept is None or kept.record.verdict != "passed":
            return Missing(f"{action} {'was not run' if kept is None else 'did not pass'} for this version")
    found = [kept for kept in last if kept]
    whole = all(kept.automatic for kept in found)
    return Found(f"{', '.join(wanted)} passed for it", found[0].uri, whole)


def validated(known: Known) -> Answer:
    """Gates passed before it served."""
    answer = _shown(
        known,
        "evaluate-model",
        lambda record: f"{many(record.outputs['gates-passed'], 'gate')} passed" if record.details["gates"] else "",
        "no gate was checked",
    )
    first = min((one.at for one, _ in _live(known)), default="")
    began = min((kept.record.started for kept in known.of("evaluate-model")), default="")
    if isinstance(answer, Found) and first and datetime.fromisoformat(began) > datetime.fromisoformat(first):
        return Missing("it served before it was evaluated")
    return answer


def canaried(known: Known) -> Answer:
    """It took a part of the requests first."""
    for one, uri in _live(known):
        shares = [int(share[1]) for step in one.steps if step.passed and (share := _SHARE.fullmatch(step.name))]
        if shares and shares[0] < 100:
            listed = ", ".join(map(str, shares))
            return _deployed(known, one, f"it took {listed} % of the requests, step by step", uri)
    return Missing("it took all requests at once" if _live(known) else "it was not deployed")


def rolled_back(known: Known) -> Answer:
    """The model was gone back to an earlier version, in earnest or in a drill."""
    drills = [
        kept
        for kept in (*known.records, *known.others)
        if kept.record.action == "deploy-model" and kept.record.details.get("drill") and kept.record.verdict == "passed"
    ]
    if drills:
        best = next((kept for kept in drills if kept.automatic), drills[0])
        return _of(best, f"a drill gave {best.record.details['drill']['seconds']:g} s of wrong answers")
    for place, uri in known.places:
        for one in place.history:
            if one.kind == "rollback" and one.ended == "live":
                what = f"version {one.previous} was replaced by version {one.version} in {duration(one.seconds)}"
                return Found(what, uri, automatic=False)
    return Missing("nothing was rolled back, and there was no drill")


# Monitoring


def invariants(known: Known) -> Answer:
    """What comes in is compared with what the version was trained on, whose contract passed."""
    captured = schema(known)
    if isinstance(captured, Missing):
        return captured
    return monitored(known)


def not_skewed(known: Known) -> Answer:
    """What is served equals what it was trained on."""

    def says_contract(record: Record) -> str:
        found = _checks(record, "no_skew")
        return f"{many(len(found), 'column')} served as in training" if found else ""

    def says_views(record: Record) -> str:
        read = sum(view["compared"] for view in record.details["views"])
        return f"{many(read, 'row')} read back from the online store as the source has them" if read else ""

    answer = _shown(known, "validate-data", says_contract, "the contract does not compare with what is served")
    if isinstance(answer, Found):
        return answer
    views = _shown(known, "materialize-features", says_views, "no feature was read back")
    return views if isinstance(views, Found) or known.of("materialize-features") else answer


def fresh(known: Known) -> Answer:
    """It is trained again on a schedule."""
    for kept in known.of("run-pipeline"):
        scheduled = [one for one in kept.record.outputs.get("schedules") or () if one["action"] in _SCHEDULED]
        if scheduled:
            return Found(f"{many(len(scheduled), 'recurring run')} of Kubeflow Pipelines", kept.uri)
        if kept.record.source.get("event") == "schedule":
            return _of(kept, f"trained on a schedule, on {kept.record.started[:10]}")
    return Missing("it was not trained on a schedule")


def stable(known: Known) -> Answer:
    """Its golden predictions are numbers, and the same ones, in every environment where it was tested."""
    tests = known.of("test-model")
    last = {str(kept.record.details.get("variant")): kept for kept in reversed(tests)}
    wrong = [name for name, kept in last.items() if kept.record.verdict != "passed"]
    if wrong:
        return Missing(f"test-model did not pass in {', '.join(sorted(wrong))}")

    def says(record: Record) -> str:
        rows = many(int(record.outputs["rows"]), "golden prediction")
        return f"{rows} agree in {many(len(last), 'environment')}, none of them NaN"

    return _shown(known, "test-model", says, "")


def fast(known: Known) -> Answer:
    """It was measured against the version before."""
    for one, uri in _live(known):
        for step in one.steps:
            if step.name == "latency" and step.passed:
                return _deployed(known, one, f"latency: {step.found}", uri)

    def says(record: Record) -> str:
        limit = record.details.get("max_latency_ms")
        return f"{record.outputs['latency-p95-ms']:g} ms a row, allowed are {limit:g}" if limit else ""

    return _shown(known, "test-model", says, "latency has no limit, and was not compared with the version before")


def quality_in_use(known: Known) -> Answer:
    """A metric of what was served, against the registered one."""

    def says(record: Record) -> str:
        quality = record.details.get("quality")
        if not quality or quality["worse"]:
            return ""
        return f"{quality['metric']} {quality['live']:.4g} in use, {quality['registered']:.4g} registered"

    lacking = "no predictions in use were looked at, or they are worse than registered"
    return _shown(known, "monitor-model", says, lacking, whatever_verdict=True)


# The scorecard of level 2


def registered(known: Known) -> Answer:
    """A manifest with a digest."""
    return Found(f"version {known.manifest.version}, {known.manifest.digest[:19]}", known.uri)


def source_controlled(known: Known) -> Answer:
    """The code is a commit without other changes."""
    answer = checked_in(known)
    return Found(answer.what.partition(";")[0], answer.uri) if isinstance(answer, Found) else answer


def built(known: Known) -> Answer:
    """An image was built for it."""
    return _shown(known, "build-image", lambda record: record.reason, "")


def deployed(known: Known) -> Answer:
    """It, or another version of the model, went live."""
    for place, uri in known.places:
        if place.live:
            return Found(f"version {place.live.version} serves at {place.place}", uri)
    return Missing("no version of the model serves")


def features(known: Known) -> Answer:
    """It was trained with features of a feature store."""
    digest = known.manifest.lineage.features.digest
    return Found(f"features {digest[:19]}", known.uri) if digest else Missing("the manifest names no features")


def traced(known: Known) -> Answer:
    """Data, pipeline, and the packages or the image are known."""
    lineage = known.manifest.lineage
    told = {
        "data": lineage.data_fingerprint[:19],
        "pipeline": lineage.pipeline.key[:8],
        "environment": lineage.environment.packages[:19] or lineage.image[:19],
    }
    lacking = dict.fromkeys([*lineage.unknown, *(name for name, value in told.items() if not value)])
    if lacking:
        return Missing(f"unknown: {', '.join(lacking)}")
    return Found(", ".join(f"{name} {value}" for name, value in told.items()), known.uri)


def orchestrated(known: Known) -> Answer:
    """A pipeline trained it."""
    pipeline = known.manifest.lineage.pipeline
    return Found(f"the pipeline {pipeline.name}", known.uri) if pipeline.key else Missing("no pipeline trained it")


def validation(known: Known) -> Answer:
    """Both the data and the model were judged."""
    data, model = schema(known), validated(known)
    if isinstance(data, Missing) or isinstance(model, Missing):
        return data if isinstance(data, Missing) else model
    return Found(f"{data.what}; {model.what}", model.uri, data.automatic and model.automatic)


def triggered(known: Known) -> Answer:
    """Training began by an event."""
    for kept in known.of("run-pipeline"):
        if (event := kept.record.source.get("event", "")) not in BY_HAND:
            return _of(kept, f"trained on the event {event}")
    return Missing("it was trained by hand")


def delivered(known: Known) -> Answer:
    """It was deployed by an event, and an alias moved when it had proved itself."""
    for one, uri in _live(known):
        if one.alias:
            return _deployed(known, one, f"{one.alias} moved to it when it served", uri)
    return Missing("no alias moved with a deployment of it")


def monitored(known: Known) -> Answer:
    """What comes in is watched."""
    return _shown(known, "monitor-model", lambda record: record.reason, "", whatever_verdict=True)
