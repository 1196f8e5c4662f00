"""`mlops catalog`: a registry as a static site, whatever is in it."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mlops_actions.cli import main
from mlops_actions.records import Record
from mlops_actions.registry.manifest import CodeSource, Environment, Evidence, File, Lineage, Manifest, Move
from mlops_actions.registry.registry import Registry
from mlops_actions.serving.history import Deployment, History, Step
from mlops_actions.stores.store import Store, to_json

HOSTILE = '<script>alert(1)</script>\u202e`x`" onload=\x1b[31m'
NOW = "2026-01-{:02}T00:00:00+00:00"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    return Store((tmp_path / "store").as_uri())


def catalog(store: Store, folder: Path) -> Result:
    return CliRunner().invoke(main, ["catalog", "--output", str(folder), "--store", store.url])


def register(store: Store, version: int, auc: float, name: str = "flights", text: str = "plain") -> Manifest:
    """A version as register-model writes it, with its records, packages and card."""
    registry = Registry(store)

    def check(action: str, outputs: dict[str, Any], details: dict[str, Any]) -> Evidence:
        record = Record(action=action, started=NOW.format(1), seconds=1.0, outputs=outputs, details=details)
        blob = registry.put_bytes(to_json(record.model_dump(mode="json")), "record")
        return Evidence(action=action, verdict="passed", reason=text, started=NOW.format(1), record=blob.digest)

    gate = {"kind": "threshold", "metric": "auc", "limit": ">= 0.8", "passed": auc >= 0.8, "value": auc}
    made = Manifest(
        name=name,
        version=version,
        created=NOW.format(version % 28 + 1),
        digest=f"sha256:{hashlib.sha256(str(version).encode()).hexdigest()}",
        identity=str(version),
        files=[File(path="model.joblib", digest=f"sha256:{version:064x}", size=1234)],
        lineage=Lineage(
            source=CodeSource(commit="c" * 40, branch=text, run=text, url="https://github.com/o/r/actions/runs/1"),
            parameters={"c": version, "note": text},
            data_fingerprint=f"sha256:{version // 10:064x}",
            environment=Environment(packages=registry.put_bytes(b"numpy==2.0\npandas==2.2\n", "p").digest),
        ),
        metrics={"auc": auc, "loss": 1 - auc},
        evidence=[
            check("evaluate-model", {"primary-metric": "auc"}, {"gates": [gate]}),
            check("validate-data", {"rows": 400}, {"columns": [{"column": text, "mean": 1.5, "nulls": version // 10}]}),
        ],
        card=registry.put_bytes(f"---\ntags: []\n---\n\n# {name}\n\n{text} ![x](https://evil/x.png)\n".encode(), "c"),
    )
    store.create(f"models/{name}/versions/{version}.json", to_json(made.model_dump(mode="json")))
    return made


def site(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in folder.rglob("*") if p.is_file()}


class _Checked(HTMLParser):
    """The elements of a page, each with what it loads or leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {name for name, _ in attrs}
        self.found.append((tag, next((value or "" for name, value in attrs if name in ("src", "href")), "")))


def test_a_registry_becomes_pages_that_lead_to_each_other(store: Store, tmp_path: Path) -> None:
    versions = [register(store, number, 0.75 + number / 100) for number in range(1, 11)]
    Registry(store).move_alias(versions[8], "champion", Move(version=9, at=NOW.format(9), by="ann", reason="better"))
    history = History(store, "flights", "prod")
    history.begin(Deployment(version=9, at=NOW.format(9), by="ann", steps=[Step(name="up", passed=True)]))
    history.end("live", "it serves", 12.0)
    register(store, 1, 0.5, name="other")
    found = catalog(store, tmp_path / "site")
    assert found.exit_code == 0, found.output
    assert "2 models, 11 versions" in found.stderr
    pages = site(tmp_path / "site")
    numbered = {f"models/flights/{number}.html" for number in range(1, 11)}
    named = {f"models/{name}/{page}.html" for name in ("flights", "other") for page in ("index", "compare")}
    assert set(pages["catalog.txt"].split()) == set(pages)
    assert set(pages) == {
        "index.html",
        "catalog.css",
        "catalog.js",
        "catalog.txt",
        "models/other/1.html",
        *numbered,
        *named,
    }
    page = pages["models/flights/index.html"]
    for told in (
        "champion is",
        "prod serves",
        "better",
        "it serves",
        "gate &gt;= 0.8",
        "<polyline",
        "History of champion",
    ):
        assert told in page
    assert 'class="dot no"' in page, "the versions below the gate"
    assert "pandas" in pages["models/flights/9.html"]
    assert "<p>plain" in pages["models/flights/9.html"]
    for name, text in pages.items():
        for tag, to in _Checked(text).found if name.endswith(".html") else ():
            if to and not to.startswith("https://github.com/"):
                there = (tmp_path / "site" / name).parent / to.partition("?")[0]
                assert there.is_file(), f"{name} leads to {to}"
                assert tag in ("a", "link", "script")


def test_equal_registries_give_equal_bytes(store: Store, tmp_path: Path) -> None:
    for number in (1, 2):
        register(store, number, 0.9)
    for folder in ("one", "two", "two"):
        assert catalog(store, tmp_path / folder).exit_code == 0
    assert site(tmp_path / "one") == site(tmp_path / "two")


def test_a_version_says_what_has_changed_and_any_two_are_compared(store: Store, tmp_path: Path) -> None:
    for number in (1, 2, 10):
        register(store, number, 0.9)
    catalog(store, tmp_path / "site")
    pages = site(tmp_path / "site")
    assert "Changed since" in pages["models/flights/10.html"]
    found = re.search(r'<script id="data"[^>]*>(.*?)</script>', pages["models/flights/compare.html"], re.DOTALL)
    assert found
    data = json.loads(found[1])
    assert data["versions"] == [1, 2, 10]
    assert data["groups"]["parameters"]["rows"] == [["1", "plain"], ["2", "plain"], ["10", "plain"]]
    assert data["groups"]["environment"]["rows"][1:] == [0, 0], "what stays is told once"


@pytest.mark.parametrize(
    ("about", "state"),
    [
        ({"kind": "drill"}, "under way"), ({"kind": "drill", "ended": "failed"}, "failed"),
        ({"kind": "drill", "ended": "cancelled"}, "cancelled"), ({"kind": "drill", "ended": "gone back"}, "gone back"),
        ({"kind": "stop", "ended": "failed"}, "failed"), ({"kind": "stop"}, "stopped"), ({"ended": "live"}, "live"),
    ],
)  # fmt: skip
def test_history_and_catalogue_say_how_a_deployment_ended(
    store: Store, tmp_path: Path, about: dict[str, Any], state: str
) -> None:
    register(store, 1, 0.9)
    History(store, "flights", "prod").add(Deployment(version=1, at=NOW.format(1), outcome="so it was", **about))
    told = CliRunner().invoke(main, ["history", "flights", "--store", store.url])
    assert f"  {state}" in told.stdout.splitlines()[-1]
    assert catalog(store, tmp_path / "site").exit_code == 0
    assert f">{state}</span>" in site(tmp_path / "site")["models/flights/index.html"]


def test_a_long_history_says_that_there_is_more(store: Store) -> None:
    for number in range(3):
        History(store, "flights", "prod").add(Deployment(version=number + 1, at=NOW.format(1), ended="live"))
    told = CliRunner().invoke(main, ["history", "flights", "--limit", "2", "--store", store.url])
    assert "3 deployments; `--limit 3` shows all" in told.stderr and len(told.stdout.splitlines()) == 4
    assert CliRunner().invoke(main, ["history", "flights", "--limit", "-2", "--store", store.url]).exit_code == 2


def test_what_cannot_be_read_is_a_line_and_ends_nothing(store: Store, tmp_path: Path) -> None:
    versions = [register(store, number, 0.9) for number in (1, 2, 3)]
    Registry(store).move_alias(versions[1], "champion", Move(version=2, at=NOW.format(2)))
    store.put("models/flights/versions/2.json", b"{")
    store.put("models/flights/versions/4.json", store.get("models/flights/versions/3.json"))
    store.put("models/flights/aliases/old.json", b"[]")
    assert versions[0].card
    store.delete(f"blobs/{versions[0].card.digest.replace(':', '/')}")
    found = catalog(store, tmp_path / "site")
    assert found.exit_code == 0
    assert "5 objects could not be read" in found.stderr
    page = site(tmp_path / "site")["models/flights/index.html"]
    for path in ("versions/2.json", "versions/4.json", "aliases/old.json"):
        assert f"<p>models/flights/{path} cannot be read" in page
    assert 'href="3.html"' in page
    assert 'href="2.html"' not in page


def test_what_is_lost_is_a_line_and_not_told_as_a_change(store: Store, tmp_path: Path) -> None:
    first, second = register(store, 1, 0.9), register(store, 2, 0.9)
    for one, data in (({**first.model_dump()}, b"numpy==2.0\n"), ({**second.model_dump()}, None)):
        packages = Registry(store).put_bytes(str(one["version"]).encode() if data is None else data, "p").digest
        one["lineage"]["environment"]["packages"] = packages
        store.put(f"models/flights/versions/{one['version']}.json", to_json(one))
    store.delete(f"blobs/{packages.replace(':', '/')}")
    store.put(f"blobs/{second.evidence[1].record.replace(':', '/')}", b"{")
    assert "3 objects could not be read" in catalog(store, tmp_path / "site").stderr
    pages = site(tmp_path / "site")
    assert "cannot be read: packages of version 2" in pages["models/flights/index.html"]
    assert "numpy" in pages["models/flights/1.html"] and "numpy" not in pages["models/flights/2.html"]
    found = re.search(r'<script id="data"[^>]*>(.*?)</script>', pages["models/flights/compare.html"], re.DOTALL)
    assert found and json.loads(found[1])["groups"]["environment"]["rows"] == [["2.0"], ["unknown"]]


def test_hostile_text_is_text(store: Store, tmp_path: Path) -> None:
    Registry(store).move_alias(
        register(store, 1, 0.9, text=HOSTILE), "champion", Move(version=1, at=HOSTILE, by=HOSTILE, reason=HOSTILE)
    )
    register(store, 2, 0.9, text=HOSTILE)
    store.put("models/<script>/versions/1.json", b"{}")
    assert catalog(store, tmp_path / "site").exit_code == 0
    for name, text in site(tmp_path / "site").items():
        if name.endswith(".html"):
            page = _Checked(text)
            scripts = [to for tag, to in page.found if tag == "script" and to]
            assert scripts in (["../../catalog.js"], ["catalog.js"])
            assert not {tag for tag, _ in page.found} & {"img", "iframe", "style", "object", "base"}
            assert not any(one.startswith("on") for one in page.names)
            assert "alert(1)</script>" not in text
            assert not {"\x1b", "\u202e"} & set(text)
            assert "default-src 'none'" in text


def test_whom_a_signature_names_is_shown_as_a_claim(store: Store, tmp_path: Path) -> None:
    manifest = register(store, 1, 0.8)
    for hint in ("ab" * 32, HOSTILE):
        bundle = {"verificationMaterial": {"publicKey": {"hint": hint}}}
        Registry(store).add_signature(manifest, json.dumps(bundle).encode())
    assert catalog(store, tmp_path / "site").exit_code == 0
    page = (tmp_path / "site/models/flights/1.html").read_text()
    assert f"signature of the key sha256:{'ab' * 32} (not verified here)" in page
    assert "<script>alert" not in page and "\u202e" not in page


def test_a_folder_that_is_not_a_catalogue_stays_as_it_is(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    found = catalog(store, tmp_path / "mine")
    assert found.exit_code == 2
    assert "thesis.tex is not part of a catalogue" in found.stderr
    assert [one.name for one in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("other", ["site/CNAME", "site/models/flights/notes.md", ".site.old/CNAME", ".site.part/a/b"])
def test_what_the_catalogue_has_not_written_is_never_removed(store: Store, tmp_path: Path, other: str) -> None:
    register(store, 1, 0.9)
    assert catalog(store, tmp_path / "site").exit_code == 0
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).write_text("mine")
    (tmp_path / other).with_name("catalog.css").touch()
    before = site(tmp_path)
    found = catalog(store, tmp_path / "site")
    assert found.exit_code == 2 and "is not part of a catalogue" in found.stderr
    assert site(tmp_path) == before


def test_a_site_is_replaced_as_a_whole(store: Store, tmp_path: Path) -> None:
    register(store, 1, 0.9)
    register(store, 2, 0.9)
    assert catalog(store, tmp_path / "site").exit_code == 0
    store.delete("models/flights/versions/2.json")
    assert catalog(store, tmp_path / "site").exit_code == 0
    assert "models/flights/2.html" not in site(tmp_path / "site")
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".site")]


def test_a_registry_without_models_does_not_replace_a_catalogue(store: Store, tmp_path: Path) -> None:
    register(store, 1, 0.9)
    assert catalog(store, tmp_path / "site").exit_code == 0
    before = site(tmp_path / "site")
    found = catalog(Store((tmp_path / "other").as_uri()), tmp_path / "site")
    assert found.exit_code == 2 and "has no model. It would replace the catalogue" in found.stderr
    assert site(tmp_path / "site") == before


def test_a_thousand_versions_stay_small_pages(store: Store, tmp_path: Path) -> None:
    for number in range(1, 1001):
        register(store, number, 0.7 + number % 100 / 400)
    assert catalog(store, tmp_path / "site").exit_code == 0
    sizes = {name: len(text) for name, text in site(tmp_path / "site").items()}
    assert len([name for name in sizes if re.search(r"/\d+\.html", name)]) == 1000
    assert sizes["models/flights/index.html"] < 500_000
    assert sizes["models/flights/compare.html"] < 500_000
    assert max(size for name, size in sizes.items() if re.search(r"/\d+\.html", name)) < 20_000


def test_an_empty_registry_is_a_page_that_says_so(store: Store, tmp_path: Path) -> None:
    assert catalog(store, tmp_path / "site").exit_code == 0
    assert "No model has been registered yet" in site(tmp_path / "site")["index.html"]
