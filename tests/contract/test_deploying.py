"""A model at a place: which version comes, with which packages, which alias moves, and what the history says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from memory_engine import Behaviour, MemoryEngine
from mlops_actions.environments import Environment
from mlops_actions.errors import BadInput, Rejected, RemoteFailed
from mlops_actions.inputs import CodeInputs, GoldenInputs
from mlops_actions.registry.manifest import Manifest
from mlops_actions.registry.promoting import move_now
from mlops_actions.registry.registering import Registration, register
from mlops_actions.registry.registry import Registry
from mlops_actions.scoring.score import score
from mlops_actions.serving.deploying import Place
from mlops_actions.serving.engine import HandedOver, Release
from mlops_actions.serving.history import Deployment, Kind, now
from mlops_actions.serving.protocol import Client
from mlops_actions.serving.releases import Releases
from mlops_actions.serving.rollout import Rules
from mlops_actions.stores.lease import lease
from mlops_actions.workspace import Workspace
from workspaces import Remembering, workspace

CODE = "def load(path):\n    return lambda rows: [2 * row['x'] for row in rows]\n"


@dataclass(frozen=True)
class Prepared(Workspace):
    """Its environments are made without uv: their packages are what was asked for."""

    def environment(self, group: str, inputs: CodeInputs | None = None, packages: Sequence[str] = ()) -> Environment:
        if "gone==1" in packages:
            raise RemoteFailed("Cannot prepare the Python environment")
        folder = self.home / "environments" / str(abs(hash(tuple(packages))))
        folder.mkdir(parents=True, exist_ok=True)
        asked = [inputs.requirements] if inputs and inputs.requirements else []
        (folder / "installed.txt").write_text(
            "".join(f"{one}\n" for one in dict.fromkeys(("server==1", *asked, *packages)))
        )
        return Environment(folder, folder.name)


@dataclass
class World:
    """Versions 1 to 3 of the model `m`, and an engine."""

    workspace: Prepared
    registry: Registry
    engine: MemoryEngine

    def place(self, kind: Kind = "deploy", alias: str = "", reason: str = "", **inputs: str) -> Place:
        asked = GoldenInputs.model_validate({"predict": "own.py:load", **inputs})
        who = Deployment(kind=kind, version=0, at=now(), by="me", run="run-1", reason=reason, python="3.12")
        releases = Releases(self.workspace, self.registry, asked)
        rules = Rules(drill=kind == "drill")
        console = self.workspace.console
        return Place("m", self.engine, self.registry, releases, rules, who, alias, 0.0, console)

    def deploy(self, version: int, alias: str = "champion", **inputs: str) -> str:
        return self.place(alias=alias, **inputs).deploy(self.registry.manifest("m", version)).outcome.how

    @property
    def champion(self) -> int | None:
        named = self.registry.alias("m", "champion")
        return named.version if named else None

    @property
    def live(self) -> Deployment:
        found = self.place().history.read().live
        assert found
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "own.py").write_text(CODE)
    made = Prepared(**vars(workspace(tmp_path)))
    registry = Registry(made.store)
    (tmp_path / "golden.csv").write_text("x,score\n" + "".join(f"{x}.0,{2 * x}\n" for x in range(1, 5)))
    for number in (1, 2, 3):
        model = tmp_path / f"{number}.bin"
        model.write_text(str(number))
        register(registry, Registration("m", model, golden=tmp_path / "golden.csv"))
    return World(made, registry, MemoryEngine())


def test_the_alias_moves_when_the_version_serves_and_not_when_it_failed(world: World) -> None:
    assert world.deploy(1) == "deployed" and world.champion == 1
    world.engine.behaviours[2] = Behaviour(predict=lambda x: x)
    assert world.deploy(2) == "failed" and world.champion == 1
    assert world.deploy(3) == "deployed" and world.champion == 3
    assert (world.live.alias, world.live.alias_before, world.live.previous) == ("champion", 1, 1)
    assert world.deploy(3, alias="") == "reused" and world.deploy(3, alias="live") == "reused"
    named = world.registry.alias("m", "live")
    assert named and named.version == 3, "what serves and is right may get another alias"


def test_going_back_takes_the_last_good_release_with_what_it_had(world: World) -> None:
    world.deploy(1, requirements="numpy==1")
    world.deploy(2, requirements="numpy==2")
    world.engine.behaviours[3] = Behaviour(starts=False)
    world.deploy(3)
    done = world.place("rollback").go_back("")
    assert (done.outcome.how, done.promoted, world.champion) == ("deployed", True, 1)
    assert world.engine.stable and world.engine.stable.lock.split() == ["server==1", "numpy==1"]
    assert (world.live.kind, world.live.reason) == ("rollback", "rollback from version 2")
    assert world.place("rollback", reason="again").go_back("2").outcome.how == "deployed"
    assert (world.live.version, world.live.reason, world.champion) == (2, "again", 2)
    with pytest.raises(BadInput, match="Version 3 of m has not served at memory"):
        world.place("rollback").go_back("3")
    with pytest.raises(BadInput, match="Give the number"):
        world.place("rollback").go_back("champion")


def test_going_back_takes_the_code_that_the_release_was_asked_by(world: World) -> None:
    world.deploy(1)
    served = world.live.release
    (world.workspace.root / "own.py").write_text(CODE.replace("2 *", "2.0 *"))
    assert world.deploy(1) == "deployed", "other code, another release"
    assert world.place("rollback").go_back("").outcome.how == "deployed"
    assert world.live.release == served and world.engine.stable
    assert (world.engine.stable.root / "own.py").read_text() == CODE
    with pytest.raises(BadInput, match="Only version 1 has served"):
        world.place("rollback").go_back("")  # what was gone back from is not good


def test_going_back_takes_nothing_unsigned_where_a_signature_is_asked_for(world: World) -> None:
    world.deploy(1)
    world.deploy(2, requirements="numpy==2")
    (world.workspace.root / "own.py").write_text(CODE.replace("2 *", "2.0 *"))

    def refuse(manifest: Manifest) -> None:
        raise Rejected(f"version {manifest.version} is not signed")

    for act in (lambda place: place.go_back(""), lambda place: place.drill()):
        with pytest.raises(Rejected, match="is not signed"):
            act(replace(world.place("rollback"), check=refuse))
        assert world.live.version == 2
    signed = replace(world.place("rollback"), check=lambda _: None)
    assert signed.go_back("").outcome.how == "deployed" and world.live.version == 1
    assert world.engine.stable and world.engine.stable.root == world.workspace.root, "not the code in the history"


def test_going_back_twice_goes_further_back(world: World) -> None:
    for version in (1, 2, 3):
        world.deploy(version)
    assert world.place("rollback").go_back("").outcome.how == "deployed" and world.live.version == 2
    assert world.place("rollback").go_back("").outcome.how == "deployed" and world.live.version == 1
    assert world.deploy(3) == "deployed" and world.deploy(2) == "deployed"
    assert world.place("rollback").go_back("").outcome.how == "deployed" and world.live.version == 3, "deployed again"


def test_when_there_is_nothing_to_go_back_to_it_says_why_and_what_can_be_done(world: World) -> None:
    world.deploy(1)
    with pytest.raises(BadInput, match="no version of m to go back to at memory") as only:
        world.place("rollback").go_back("")
    assert "Only version 1 has served" in str(only.value)
    for version in (2, 3):
        world.deploy(version)
        world.place("rollback").go_back("")
    with pytest.raises(BadInput, match="All others were gone back from: 2, 3") as back:
        world.place("rollback").go_back("")
    assert "`mlops rollback --to 3`" in str(back.value)
    assert world.place("rollback").go_back("3").outcome.how == "deployed" and world.live.version == 3
    with pytest.raises(BadInput, match=r"Version 7 of m has not served at memory[.] Those that have: 1, 2, 3"):
        world.place("rollback").go_back("7")


def test_going_back_from_what_was_handed_over_says_how(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: Release) -> Client:
        raise HandedOver("commit 1a2b")

    monkeypatch.setattr(world.engine, "start", start)
    assert world.deploy(1, alias="") == world.deploy(2, alias="") == "handed over"
    for wanted, named in (("", "N"), ("1", "1")):
        with pytest.raises(BadInput, match="were handed over to another tool: 1, 2; nothing here saw them serve") as no:
            world.place("rollback").go_back(wanted)
        assert f"`mlops deploy-model --model m --version {named}`" in str(no.value)


def test_packages_that_cannot_be_installed_any_more_do_not_keep_it_from_going_back(world: World) -> None:
    world.deploy(1)
    kept = world.registry.put_bytes(b"gone==1\n", "installed.txt").digest
    world.place().history.note(world.live.release, packages=kept)
    world.deploy(2)
    assert world.place("rollback").go_back("").outcome.how == "deployed"
    console = world.workspace.console
    assert isinstance(console, Remembering)
    assert any("Cannot install the packages that it was served with" in text for text in console.warnings)


def test_an_alias_that_was_not_moved_for_the_version_is_left_alone(world: World) -> None:
    one = world.registry.manifest("m", 1)
    world.registry.move_alias(one, "champion", move_now(one, "", "", ""))
    for version in (1, 2):
        world.deploy(version, alias="")
    assert world.place("rollback").go_back("").promoted is False and world.champion == 1


def test_nothing_was_ever_deployed(world: World) -> None:
    with pytest.raises(BadInput, match=r"^No version of m has served at memory"):
        world.place("rollback").go_back("")
    with pytest.raises(BadInput, match="Nothing serves m"):
        world.place("drill").drill()
    assert world.place("stop").stop() is None


def test_a_version_that_cannot_be_loaded_is_in_the_history(world: World) -> None:
    world.deploy(1)
    model = world.workspace.root / "model.joblib"
    model.write_text("garbage")
    register(world.registry, Registration("m", model))
    with pytest.raises(BadInput, match=r"The model model[.]joblib cannot be loaded"):
        world.deploy(4, predict="")
    known = world.place().history.read()
    failed = known.history[0]
    assert (failed.version, failed.ended, failed.kind, failed.by) == (4, "failed", "deploy", "me")
    assert "cannot be loaded" in failed.outcome and known.live and known.live.version == 1 and known.under_way is None


def test_what_has_died_is_told_by_a_drill_and_is_not_in_the_history_once_it_is_stopped(world: World) -> None:
    world.deploy(1)
    world.engine.stop("m")
    with pytest.raises(RemoteFailed, match="`mlops deploy-model --model m --version 1`"):
        world.place("drill").drill()
    assert world.place("stop").stop() is None
    known = world.place().history.read()
    assert known.live is None and (known.history[0].kind, known.history[0].version) == ("stop", 1)


def test_a_drill_leaves_what_serves(world: World) -> None:
    world.deploy(1)
    served = world.engine.stable
    drilled = world.place("drill").drill()[1]
    assert not drilled.passed, "in this engine a version predicts the same whatever code is around it"
    assert world.engine.stable == served and world.live.release == served.id if served else False


def test_what_was_stopped_can_be_gone_back_to(world: World) -> None:
    world.deploy(1)
    was = world.place("stop").stop()
    history = world.place().history.read()
    assert was and was.version == 1 and history.live is None and history.history[0].kind == "stop"
    assert world.place("rollback").go_back("").outcome.how == "deployed" and world.live.version == 1


def test_another_rollout_of_the_place_is_named(world: World) -> None:
    place = world.place()
    with lease(world.registry.store, place.history.lease, "https://github.com/o/r/actions/runs/7", print):
        with pytest.raises(RemoteFailed, match=r"Another rollout of m is under way.*It is https://github.com/o/r/act"):
            world.deploy(1)
        other = replace(place, engine=MemoryEngine(place="elsewhere"))
        assert other.deploy(world.registry.manifest("m", 1)).outcome.how == "deployed"


def test_what_was_deployed_and_gone_back_from_is_scored(world: World) -> None:
    def lines() -> dict[str, float]:
        found = score(world.workspace.store, "m", "2")
        return {line.key: line.points for part in (*found.sections, *found.level_2_sections) for line in part.lines}

    asked = ("infrastructure-6", "infrastructure-7", "monitoring-6", "component-3")
    world.deploy(1)
    assert [lines()[key] for key in asked] == [0, 0, 0, 1], "version 2 did not serve yet"
    world.deploy(2)
    assert [lines()[key] for key in asked] == [0.5, 0, 0.5, 1]
    world.place("rollback").go_back("")
    assert [lines()[key] for key in asked] == [0.5, 0.5, 0.5, 1]
