"""Manifests, evidence and policies."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import ValidationError

from mlops_actions.errors import BadInput, Place, RemoteFailed
from mlops_actions.records import Record
from mlops_actions.registry.card import model_card
from mlops_actions.registry.manifest import CodeSource, Evidence, File, Lineage, Manifest, Pipeline, identity, newest
from mlops_actions.registry.policy import Policy, judge, read_policy
from mlops_actions.registry.promoting import move_now, name_of, registered, to_deploy
from mlops_actions.registry.registering import Registration, register, same_as_recorded
from mlops_actions.registry.registry import Registry, alias_path, manifest_path
from mlops_actions.registry.signing import GITHUB_ISSUER, signer_of_file
from mlops_actions.runtime.chain import NAMES
from mlops_actions.stores.digests import tree_digest
from mlops_actions.stores.store import EMPTY, Store, blob_path, files_in
from mlops_actions.waiting import Clock

DIGEST = "sha256:" + "a" * 64
Verdict = Literal["passed", "rejected"]


def evidence(action: str, verdict: Verdict = "passed", variant: str = "", started: str = "2026-01-01") -> Evidence:
    return Evidence(action=action, variant=variant, verdict=verdict, started=started, record=DIGEST, reason="because")


def manifest(**given: Any) -> Manifest:
    values: dict[str, Any] = {
        "name": "m",
        "version": 1,
        "created": "2026-01-01T00:00:00+00:00",
        "digest": DIGEST,
        "identity": "i",
        "files": [File(path="model.joblib", digest=DIGEST, size=1)],
    }
    return Manifest(**{**values, **given})


def record(action: str, subject: dict[str, str] | None = None, **given: Any) -> Record:
    values: dict[str, Any] = {"started": "2026-01-01T00:00:00", "seconds": 1.0, "subject": subject or {}}
    return Record(action=action, **{**values, **given})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(Store((tmp_path / "store").as_uri()))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.joblib"
    path.write_bytes(b"model one")
    return path


def trained(model: Path, **outputs: Any) -> Record:
    given = {"model-uri": "store", "pipeline": "train", "pipeline-digest": "sha256:p", "pipeline-key": "k1", **outputs}
    return record("run-pipeline", {"model": tree_digest(model)}, outputs=given)


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../b", "", "C:\\x", "c:/x"])
def test_a_manifest_cannot_name_a_file_outside_its_folder(path: str) -> None:
    with pytest.raises(ValidationError, match="not a path inside"):
        File(path=path, digest=DIGEST, size=1)


@pytest.mark.parametrize("name", ["my:model.joblib", "c:model.joblib", "a\\b.joblib", "a\nb", "model#1", EMPTY])
def test_a_model_whose_name_can_be_kept_is_registered_and_another_is_bad_input(
    registry: Registry, tmp_path: Path, name: str
) -> None:
    model = tmp_path / name
    model.write_bytes(b"one")
    if name == "my:model.joblib":
        version = register(registry, Registration("m", model)).manifest
        assert registry.fetch(registry.manifest("m", 1), tmp_path / "there") == tmp_path / "there" / name
        assert registry.changed(version) == ""
        return
    with pytest.raises(BadInput, match="cannot be kept: its name"):
        register(registry, Registration("m", model))
    with pytest.raises(BadInput, match="cannot be kept: its name"):
        files_in(tmp_path)
    assert registry.versions("m") == []


def test_identity_is_of_bytes_and_pipeline_run() -> None:
    one = identity(DIGEST, Pipeline(key="k"))
    assert identity(DIGEST, Pipeline(key="k", name="other")) == one
    assert identity(DIGEST, Pipeline(key="k2")) != one
    assert identity("sha256:" + "b" * 64, Pipeline(key="k")) != one


def test_the_newest_check_of_each_environment_counts() -> None:
    found = newest([
        evidence("test-model", "passed", "py3.12", "2026-01-02"),
        evidence("test-model", "rejected", "py3.12", "2026-01-03"),
        evidence("test-model", "passed", "py3.10", "2026-01-01"),
    ])  # fmt: skip
    assert [(item.variant, item.verdict) for item in found] == [("py3.10", "passed"), ("py3.12", "rejected")]


def test_of_two_checks_at_the_same_time_the_one_that_failed_counts() -> None:
    both = [evidence("test-model", "rejected"), evidence("test-model", "passed")]
    assert [item.verdict for item in newest(both)] == [item.verdict for item in newest(both[::-1])] == ["rejected"]


def test_what_was_never_checked_has_not_passed() -> None:
    answers = judge(Policy(), ["evaluate-model", "test-model"], manifest(), [evidence("evaluate-model")])
    assert [(a.requirement, a.met) for a in answers] == [("evaluate-model", True), ("test-model", False)]
    assert answers[1].found == "it was never run for these bytes"


def test_what_checked_nothing_has_not_passed_unless_the_policy_says_so(tmp_path: Path) -> None:
    checks = [evidence("evaluate-model", "unchecked")]
    assert [a.met for a in judge(Policy(), ["evaluate-model"], manifest(), checks)] == [False]
    (tmp_path / "policy.yaml").write_text("accept-unchecked: [evaluate-model]\n")
    policy = read_policy(tmp_path / "policy.yaml", NAMES)
    assert [a.met for a in judge(policy, ["evaluate-model"], manifest(), checks)] == [True]
    assert [a.met for a in judge(policy, ["evaluate-model"], manifest(), [evidence("evaluate-model", "rejected")])] == [
        False
    ]


def test_the_reason_of_a_check_is_shown_and_without_one_its_verdict() -> None:
    silent = evidence("test-model").model_copy(update={"reason": ""})
    found = judge(Policy(), ["test-model"], manifest(), [evidence("test-model", variant="a"), silent])
    assert [answer.found for answer in found] == ["because", "passed"]


def test_one_environment_that_failed_is_enough() -> None:
    checks = [evidence("test-model", variant="py3.10"), evidence("test-model", "rejected", "py3.12")]
    answers = judge(Policy(), ["test-model"], manifest(), checks)
    assert [(a.requirement, a.met) for a in answers] == [("test-model (py3.10)", True), ("test-model (py3.12)", False)]


def test_limits_of_metrics_include_their_bounds_and_an_absent_metric_breaks_them() -> None:
    policy = Policy.model_validate(
        {
            "metrics": {
                "auc": {"min": 0.7, "max": 0.7},
                "rmse": {"min": 3, "max": 2},
                "mae": {"max": 3},
                "f1": {"min": 0, "max": 1},
            }
        }
    )
    answers = judge(policy, [], manifest(metrics={"auc": 0.7, "rmse": 2.5, "mae": 2}), [])
    assert [(a.requirement, a.met, a.found) for a in answers] == [
        ("auc ≥ 0.7", True, "0.7"),
        ("auc ≤ 0.7", True, "0.7"),
        ("rmse ≥ 3", False, "2.5"),
        ("rmse ≤ 2", False, "2.5"),
        ("mae ≤ 3", True, "2"),
        ("f1 ≥ 0", False, "absent"),
        ("f1 ≤ 1", False, "absent"),
    ]


def test_requires_of_the_policy_come_before_those_of_the_input() -> None:
    assert [a.requirement for a in judge(Policy(requires=["a"]), ["b"], manifest(), [])] == ["a"]
    assert judge(Policy(requires=[]), ["b"], manifest(), []) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("requires: [a", "is not valid YAML"),
        ("require: [a]", r"`require` is unknown"),
        ("metrics: {auc: {minimum: 1}}", r"`metrics.auc.minimum`"),
        ("metrics: {}", "`metrics` must not be empty"),
        ("metrics: {auc: {}}", "`metrics.auc` must have `min` or `max`"),
        ("metrics: {auc: {min: }}", "`metrics.auc.min` has no value: give it one, or take it out"),
        ("metrics: {auc: }", "`metrics.auc` has no value"),
        ("metrics:", "`metrics` has no value"),
        ("requires:", "`requires` has no value"),
        ("requires: [null]", "`requires.0` has no value"),
        ("requires: [evaluate_model]", "`requires` names the unknown action 'evaluate_model'"),
        ("accept-unchecked: [test-modell]", "`accept-unchecked` names the unknown action 'test-modell'"),
        ("accept-unchecked:", "`accept-unchecked` has no value"),
        ("signed-by:", "`signed-by` has no value"),
        ("signed-by: ~", "`signed-by` has no value"),
        ("signed-by: [{key: }]", "`signed-by.0.key` has no value"),
        ("signed-by: [null]", "`signed-by.0` has no value"),
        ("metrics: {auc: {min: high}}", r"`metrics.auc.min` must be a number"),
        ("- a", "the file"),
        ("signed-by: []", "`signed-by` must not be empty"),
        ("signed-by: a.pub", "`signed-by` must be a list"),
        ("signed-by: [{key: 3}]", "`signed-by.0.key` must be text, in quotes where it looks like a number, not 3"),
        ("signed-by: [{key: ''}]", "`signed-by.0` must have `key`, or `issuer` and `subject`"),
        ("signed-by: [{}]", "`signed-by.0` must have `key`, or `issuer` and `subject`"),
        ("signed-by: [{issuer: https://i}]", "`signed-by.0` must have `key`, or `issuer` and `subject`"),
        ("signed-by: [{key: a, issuer: https://i, subject: s}]", "`signed-by.0` must have a key or an identity"),
        (f"signed-by: [{{issuer: '{GITHUB_ISSUER}', subject: s}}]", "must have `repository` and `ref` of the run"),
        ("signed-by: [{issuer: https://i, subject: s, ref: r}]", "must have both `repository` and `ref`"),
    ],
)
def test_policy_that_cannot_be_read(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(BadInput, match=said) as raised:
        read_policy(tmp_path / "policy.yaml", NAMES)
    assert raised.value.place and raised.value.place.file == "policy.yaml"


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("metrics:\n  f1: {min: 0}\n  auc:\n    min: high\n", "metrics.auc.min", 4),
        ("accept-unchecked:\n- a\n- [b]\n", "accept-unchecked.1", 3),
        ("metrics: {a: {min: 1}}\nrequire: [a]\n", "require", 2),
        ("metrics:\n\n  auc: {1: 2}\n", "metrics.auc.1", 3),
    ],
)
def test_what_is_wrong_in_a_policy_is_said_at_its_line_with_what_it_may_have(
    tmp_path: Path, text: str, key: str, line: int
) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(BadInput) as raised:
        read_policy(tmp_path / "policy.yaml", NAMES)
    assert f"`{key}`" in raised.value.what and "It may have `requires`" in raised.value.fix
    assert raised.value.place and raised.value.place.line == line


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "null\n", "{}\n", "[]\n"])
def test_an_empty_policy_is_refused_for_it_would_ask_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"The policy policy\.yaml is empty") as raised:
        read_policy(tmp_path / "policy.yaml", NAMES)
    assert "take `policy` out" in raised.value.fix and raised.value.place == Place("policy.yaml", 1)


def test_policy_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"policy\.yaml does not exist"):
        read_policy(tmp_path / "policy.yaml", NAMES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("no key", "is not a public key in PEM"),
        ("-----BEGIN PRIVATE KEY-----\n", "is a private key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is not a public key in PEM"),
    ],
)
def test_a_key_of_a_policy_that_cannot_be_used(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "a.pub").write_text(text)
    with pytest.raises(BadInput, match=said):
        signer_of_file(tmp_path / "a.pub")


def test_registering_keeps_lineage_and_evidence(registry: Registry, model: Path) -> None:
    digest = tree_digest(model)
    records = [
        record("validate-data", {"data": "sha256:d"}, outputs={"fingerprint": "sha256:d"}),
        record("materialize-features", outputs={"features-digest": "sha256:f", "views": [{"name": "w", "rows": 3}]}),
        record("build-image", outputs={"digest": "sha256:i"}),
        record("tune-hyperparams", outputs={"best-parameters": {"lr": 0.1}, "best-value": 0.9}),
        trained(
            model, metrics={"auc": 0.8}, parameters={"seed": 7, "lr": 0.1},
            **{"data-fingerprint": "sha256:d", "features-digest": "sha256:f"},
        ),
        record("evaluate-model", {"model": digest}, outputs={"metrics": {"auc": 0.81, "f1": 0.5}}),
        record("test-model", {"model": digest}, details={"variant": "py3.12"}, verdict="rejected"),
        record("test-model", {"model": DIGEST}, details={"variant": "another model's"}),
    ]  # fmt: skip
    source = {"repository": "o/r", "commit": "c" * 40, "branch": "main", "event": "push"}
    done = register(registry, Registration("m", model, records=records, source=source, run="7-1", dirty=False))
    found = registry.manifest("m", 1)
    assert done.created and done.manifest == found
    lineage = found.lineage
    assert (lineage.source.commit, lineage.source.dirty, lineage.source.run) == ("c" * 40, False, "7-1")
    assert (lineage.pipeline.name, lineage.pipeline.key, lineage.seed) == ("train", "k1", 7)
    assert (lineage.data_fingerprint, lineage.features.digest, lineage.image) == ("sha256:d", "sha256:f", "sha256:i")
    assert lineage.unknown == []
    assert lineage.tuning == {"best-parameters": {"lr": 0.1}, "best-value": 0.9}
    assert found.metrics == {"auc": 0.81, "f1": 0.5}
    assert [(e.action, e.variant, e.verdict) for e in found.evidence] == [
        ("validate-data", "", "passed"),
        ("run-pipeline", "", "passed"),
        ("evaluate-model", "", "passed"),
        ("test-model", "py3.12", "rejected"),
    ]
    kept = Record.model_validate(registry.store.get_json(blob_path(found.evidence[3].record)))
    assert kept == records[6]


def test_a_model_of_another_origin_gets_no_lineage_of_this_run(registry: Registry, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.joblib"
    other.write_bytes(b"by hand")
    found = register(registry, Registration("m", other, records=[trained(model, metrics={"auc": 1})])).manifest
    assert found.lineage.pipeline == Pipeline() and found.metrics == {} and found.evidence == []


def test_second_register_of_same_bytes_reuses_version(registry: Registry, model: Path) -> None:
    first = register(registry, Registration("m", model, records=[trained(model)]))
    again = register(registry, Registration("m", model, records=[trained(model)], tags={"new": "tag"}))
    assert first.created and not again.created
    assert again.manifest == first.manifest
    assert registry.versions("m") == [1]


def test_same_bytes_of_another_pipeline_run_are_another_version(registry: Registry, model: Path) -> None:
    register(registry, Registration("m", model, records=[trained(model)]))
    other = register(registry, Registration("m", model, records=[trained(model, **{"pipeline-key": "k2"})]))
    assert (other.created, other.manifest.version) == (True, 2)
    assert len([entry for entry in registry.store.list("blobs/") if entry.size == len(b"model one")]) == 1


def test_checks_made_later_are_added_once(registry: Registry, model: Path) -> None:
    digest = tree_digest(model)
    register(registry, Registration("m", model, records=[trained(model)]))
    late = record("test-model", {"model": digest}, started="2026-02-01T00:00:00", reason="all equal")
    again = register(registry, Registration("m", model, records=[trained(model), late]))
    assert (again.created, again.added) == (False, 1)
    assert register(registry, Registration("m", model, records=[trained(model), late])).added == 0
    assert [e.action for e in registry.evidence(again.manifest)] == ["run-pipeline", "test-model"]
    assert registry.versions("m") == [1]


@pytest.mark.parametrize("names", [["model.joblib", "deep/vocabulary.txt"], ["model.joblib"], ["deep/model.joblib"]])
def test_folder_model_comes_back_as_it_was(registry: Registry, tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "model"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    found = register(registry, Registration("m", folder)).manifest
    got = registry.fetch(found, tmp_path / "got")
    assert tree_digest(got) == found.digest == tree_digest(folder)


def test_empty_folder_is_no_model(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(BadInput, match="is an empty folder"):
        register(registry, Registration("m", tmp_path / "model"))


def test_damaged_blob_is_found_out(registry: Registry, model: Path, tmp_path: Path) -> None:
    found = register(registry, Registration("m", model)).manifest
    registry.store.put(blob_path(found.files[0].digest), b"something else")
    with pytest.raises(RemoteFailed, match="does not have the bytes that its name promises"):
        registry.fetch(found, tmp_path / "got")
    assert not (tmp_path / "got" / "model.joblib").exists()
    registry.store.delete(blob_path(found.files[0].digest))
    with pytest.raises(RemoteFailed, match="is gone") as raised:
        registry.fetch(found, tmp_path / "got")
    assert "register the same model again, which puts it back" in raised.value.fix
    assert register(registry, Registration("m", model)).created is False
    assert registry.fetch(found, tmp_path / "got").read_bytes() == b"model one"


def test_a_list_of_packages_that_somebody_changed_is_not_installed(registry: Registry) -> None:
    kept = registry.put_bytes(b"scikit-learn==1.7.0\n", "packages.txt").digest
    assert registry.read_blob(kept) == b"scikit-learn==1.7.0\n"
    registry.store.put(blob_path(kept), b"scikit-learn @ https://evil.test/x.whl\n")
    with pytest.raises(RemoteFailed, match="does not have the bytes that its name promises: found sha256:"):
        registry.read_blob(kept)


def test_model_that_changed_after_the_pipeline_is_refused(model: Path) -> None:
    run = trained(model)
    same_as_recorded(run, "store", model)
    model.write_bytes(b"tampered")
    same_as_recorded(run, "elsewhere", model)
    with pytest.raises(RemoteFailed, match="is not the one that the pipeline made"):
        same_as_recorded(run, "store", model)


def test_what_is_absent_is_named_with_what_there_is(registry: Registry, model: Path) -> None:
    with pytest.raises(BadInput, match="Unknown model 'm'"):
        registry.manifest("m", 1)
    with pytest.raises(BadInput, match="Unknown model 'm'"):
        registry.resolve("m", "champion")
    register(registry, Registration("m", model))
    with pytest.raises(BadInput, match=r"no version 4\. Its versions are 1\."):
        registry.resolve("m", "4")
    with pytest.raises(BadInput, match="no alias 'champion'"):
        registry.resolve("m", "champion")


def test_a_model_that_is_misspelt_is_told_with_those_there_are(registry: Registry, model: Path) -> None:
    register(registry, Registration("flights", model))
    with pytest.raises(BadInput, match=r"Unknown model 'flihgts'.*Did you mean `flights`\?"):
        registry.known("flihgts")
    with pytest.raises(BadInput, match=r"Unknown model 'churn'.*It has flights"):
        registry.manifest("churn", 1)
    registry.store.put("models/churn/deployments/local.lease", b"")
    with pytest.raises(BadInput, match=r"Unknown model 'churn'.*It has flights"):
        registry.known("churn")


def test_a_version_may_be_written_with_leading_zeros(registry: Registry, model: Path) -> None:
    one = register(registry, Registration("m", model)).manifest
    assert registry.resolve("m", "01") == one
    for wrong in ("²", "9" * 5000):
        with pytest.raises(BadInput):
            registry.resolve("m", wrong)


@pytest.mark.parametrize("kept", [0, 40])
def test_a_manifest_that_is_cut_off_is_told_so(registry: Registry, model: Path, kept: int) -> None:
    register(registry, Registration("m", model))
    path = manifest_path("m", 1)
    registry.store.put(path, registry.store.get(path)[:kept])
    with pytest.raises(RemoteFailed, match=r"It is not valid JSON: EOF while parsing .* at line") as raised:
        registry.manifest("m", 1)
    assert raised.value.fix == "Put it back from a backup of the store"


def test_manifest_of_a_newer_tool_is_not_guessed_at(registry: Registry) -> None:
    registry.store.put(manifest_path("m", 1), b'{"schema_version": 2}')
    with pytest.raises(RemoteFailed, match="Update mlops-actions"):
        registry.manifest("m", 1)


def test_alias_keeps_its_history(registry: Registry, model: Path) -> None:
    one = register(registry, Registration("m", model)).manifest
    model.write_bytes(b"model two")
    two = register(registry, Registration("m", model)).manifest
    assert registry.move_alias(one, "champion", move_now(one, "ann", "1-1", "first"))[1]
    assert registry.move_alias(two, "champion", move_now(two, "bob", "2-1", "better"))[1]
    alias, changed = registry.move_alias(two, "champion", move_now(two, "bob", "2-1", "again"))
    assert not changed
    assert alias.version == 2 and alias.digest == two.digest
    assert [(m.version, m.previous, m.by, m.reason) for m in alias.history] == [
        (2, 1, "bob", "better"),
        (1, None, "ann", "first"),
    ]
    assert registry.resolve("m", "champion") == two


class _Contended(Store):
    """A store in which somebody else moves an alias just before each of the first `races` writes of it."""

    races = 0

    def replace(self, path: str, data: bytes, tag: str) -> bool:
        if self.races:
            self.races -= 1
            self.put(path, self.get(path) + b" ")
        return super().replace(path, data, tag)


class _Jumps(Clock):
    """Half a minute goes by with each wait."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        self.time += 30.0
        return False


def test_a_lost_race_is_tried_again_until_a_minute_is_over(tmp_path: Path, model: Path) -> None:
    store = _Contended((tmp_path / "store").as_uri())
    registry = Registry(store, _Jumps())
    one = register(registry, Registration("m", model)).manifest
    model.write_bytes(b"model two")
    two = register(registry, Registration("m", model)).manifest
    registry.move_alias(one, "champion", move_now(one, "", "", ""))
    store.races = 1
    assert registry.move_alias(two, "champion", move_now(two, "", "", ""))[0].version == 2
    store.races = 3
    with pytest.raises(RemoteFailed, match="others keep changing it at the same time"):
        registry.move_alias(one, "champion", move_now(one, "", "", ""))
    found = registry.alias("m", "champion")
    assert found and found.version == 2 and store.exists(alias_path("m", "champion"))


class _Forgets(Store):
    """Says yes to every new manifest and keeps none."""

    def create(self, path: str, data: bytes) -> bool:
        return True if "/versions/" in path else super().create(path, data)


def test_a_store_that_says_yes_and_keeps_nothing_is_noticed(tmp_path: Path, model: Path) -> None:
    registry = Registry(_Forgets((tmp_path / "store").as_uri()))
    with pytest.raises(RemoteFailed, match="was written, and is not there"):
        register(registry, Registration("m", model))


def about(action: str, version: int, verdict: Verdict = "passed") -> Record:
    return record(action, {"name": "m", "version": str(version), "model": DIGEST}, verdict=verdict)


def test_which_version_a_run_means(registry: Registry, model: Path) -> None:
    for content in (b"1", b"2", b"3"):
        model.write_bytes(content)
        latest = register(registry, Registration("m", model)).manifest
    first = registry.manifest("m", 1)
    registry.move_alias(first, "champion", move_now(first, "", "", ""))
    registered_2, promoted_2, refused_2 = about("register-model", 2), about("promote-model", 2), about(
        "promote-model", 2, "rejected"
    )  # fmt: skip

    def deployed(*records: Record, wanted: str = "") -> int:
        return to_deploy(registry, records, "m", wanted)[0].version

    assert deployed(registered_2) == 2
    assert deployed(registered_2, promoted_2) == 2
    assert deployed(registered_2, refused_2) == 1, "what was refused is not deployed behind the policy's back"
    assert deployed() == 1
    assert deployed(registered_2, refused_2, wanted="3") == latest.version == 3
    assert deployed(registered_2, record("run-pipeline"), about("test-model", 3, "rejected")) == 2
    assert deployed(record("register-model", {"name": "another", "version": "2"})) == 1

    def meant(*records: Record, wanted: str = "") -> int:
        return registered(registry, records, "m", wanted).version

    assert meant(registered_2) == meant(about("register-model", 1), registered_2, about("test-model", 3)) == 2
    assert meant(registered_2, wanted="champion") == 1
    for records in ([], [about("promote-model", 2)], [record("register-model", {"name": "another", "version": "2"})]):
        with pytest.raises(BadInput, match=r"No version is named\. Give `version`, or run register-model first"):
            meant(*records)


def test_the_reason_for_the_version_that_is_deployed_is_told(registry: Registry, model: Path) -> None:
    one = register(registry, Registration("m", model)).manifest
    registry.move_alias(one, "champion", move_now(one, "", "", ""))
    both = [about("register-model", 1), about("promote-model", 1)]
    given: list[tuple[list[Record], str]] = [([], "1"), (both, ""), (both[:1], ""), ([], "")]
    reasons = [to_deploy(registry, records, "m", wanted)[1] for records, wanted in given]
    assert reasons == [
        "1 was asked for", "promote-model gave it in this run", "register-model gave it in this run",
        "it is the champion",
    ]  # fmt: skip


def test_the_name_is_the_given_one_or_what_was_registered_last() -> None:
    named = [record("register-model", {"name": name}) for name in ("first", "second", "last")]
    others = [record("register-model"), record("promote-model", {"name": "promoted"})]
    assert name_of([*named, *others], "") == "last"
    assert name_of(named, "given") == name_of([], "given") == "given"
    with pytest.raises(BadInput, match=r"No model is named\. Give `model`"):
        name_of(others, "")


def test_a_move_says_when_by_whom_and_in_which_run() -> None:
    made = move_now(manifest(version=3), "ann", "7-1", "better")
    assert (made.version, made.by, made.run, made.reason) == (3, "ann", "7-1", "better")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", made.at)


def test_card_has_front_matter_that_yaml_reads_whatever_the_tags_say() -> None:
    given = manifest(
        tags={"license": "apache-2.0", "language": "en", "owner": "a: b\n---\n# c"},
        metrics={"auc": 0.81, "f1": 0.5},
        evidence=[evidence("test-model", "rejected", "py3.12")],
        kind="sklearn",
        lineage=Lineage(
            source=CodeSource(commit="c" * 40, dirty=True),
            pipeline=Pipeline(name="t|rain", digest="d"),
            parameters={"p": "|"},
        ),
    )
    card = model_card(given, "For **pilots**.")
    values = yaml.safe_load(card[4 : card.index("\n---\n\n# m")])
    assert (values["license"], values["language"], values["library_name"]) == ("apache-2.0", "en", "sklearn")
    assert values["tags"] == ["owner:a: b\n---\n# c"]
    assert values["model-index"][0]["results"][0]["metrics"][0] == {"type": "auc", "value": 0.81, "name": "auc"}
    assert "For **pilots**." in card and "with uncommitted changes" in card
    assert "| test-model (py3.12) | ❌ rejected | because |" in card
    assert "t\\|rain" in card


def test_lineage_names_no_data_that_the_pipeline_was_not_run_with(registry: Registry, model: Path) -> None:
    validated = record("validate-data", {"data": "sha256:d"}, outputs={"fingerprint": "sha256:d"})
    done = register(registry, Registration("m", model, records=[validated, trained(model)]))
    assert (done.manifest.lineage.data_fingerprint, done.manifest.lineage.features.digest) == ("", "")
    assert "data" in done.manifest.lineage.unknown
    assert [item.action for item in done.manifest.evidence] == ["run-pipeline"]


def test_what_was_said_of_the_training_data_is_evidence_and_of_other_data_is_not(
    registry: Registry, model: Path
) -> None:
    records = [
        record("validate-data", {"data": "sha256:d"}, outputs={"fingerprint": "sha256:d"}, verdict="rejected"),
        record("validate-data", {"data": "sha256:other"}, outputs={"fingerprint": "sha256:other"}),
        trained(model, **{"data-fingerprint": "sha256:d"}),
    ]
    done = register(registry, Registration("m", model, records=records))
    checks = [item for item in done.manifest.evidence if item.action == "validate-data"]
    assert [item.verdict for item in checks] == ["rejected"]


@pytest.mark.parametrize("name", ["../../x", "a/b", "a\\b", "", ".", "..", "a\nb", "-a", "é", "x" * 129])
def test_what_is_not_a_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be the name of an alias"):
        alias_path("m", name)
    with pytest.raises(BadInput, match="cannot be the name of a model"):
        manifest_path(name, 1)
