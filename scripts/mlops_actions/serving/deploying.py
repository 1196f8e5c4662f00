"""What is done to a place where a model is served: deploy a version, go back to one, try how that works, stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ..console import Console
from ..errors import BadInput, MlopsError, RemoteFailed
from ..evaluation.golden import Tolerance
from ..evaluation.golden_rows import Golden
from ..registry.manifest import Manifest
from ..registry.promoting import move_now
from ..registry.registry import Registry, listed, number_of
from ..stores.lease import Held, Lease, lease
from .drill import Drilled, drill, make_wrong
from .engine import Release, Serving, ServingEngine, folder_of
from .history import Deployment, Deployments, History
from .releases import Releases
from .rollout import Outcome, Questions, Rollout, Rules


@dataclass(frozen=True)
class Deployed:
    """What became of it.

    Attributes:
        manifest: of the version that was to serve.
        golden: its rows.
        outcome: of the rollout.
        promoted: whether an alias was moved.
    """

    manifest: Manifest
    golden: Golden | None
    outcome: Outcome
    promoted: bool = False


@dataclass(frozen=True)
class Place:
    """A model at a place.

    Attributes:
        name: the model.
        engine: serves it there.
        registry: has its versions, and the history.
        releases: makes what is served.
        rules: that a version must keep to.
        who: does it, when and why: the beginning of an entry of the history.
        alias: names what serves in the end; "" for none.
        wait: seconds for another rollout to end.
        console: is told what is done.
        check: raises an error for a version that is not signed as it must be, which `deploy` is never given; None where
            no signature is asked for.
    """

    name: str
    engine: ServingEngine
    registry: Registry
    releases: Releases
    rules: Rules
    who: Deployment
    alias: str
    wait: float
    console: Console
    check: Callable[[Manifest], None] | None = None

    @property
    def history(self) -> History:
        """Of the deployments there."""
        return History(self.registry.store, self.name, self.engine.place)

    def deploy(self, manifest: Manifest) -> Deployed:
        """Let a version serve, and then the alias name it.

        Raises:
            BadInput, RemoteFailed: see `Rollout.run`; or another rollout is under way there.
        """
        with self._held() as held:
            return self._roll_out(manifest, held)

    def go_back(self, wanted: str) -> Deployed:
        """Let the last good release serve again, with the packages and the way of asking that it had.

        Args:
            wanted: a version that has served; "" for the last one that served before.

        Raises:
            BadInput: none did; and as `deploy`.
            Rejected: it may not serve again.
        """
        with self._held() as held:
            earlier = self._earlier(wanted)
            manifest = self.registry.manifest(self.name, earlier.version)
            return self._roll_out(manifest, held, self._trusted(manifest, earlier))

    def drill(self) -> tuple[Manifest, Drilled]:
        """Let a wrong release take requests, and see it go.

        Raises:
            BadInput: nothing serves, or it has no golden rows; and as `deploy`.
        """
        with self._held() as held:
            live = self.history.read().live
            if live is None:
                raise BadInput(f"Nothing serves {self.name}, so a drill would show nothing", fix="Deploy a version")
            manifest = self.registry.manifest(self.name, live.version)
            release, golden = self._release(manifest, self._trusted(manifest, live))
            if golden is None:
                what = f"Version {manifest.version} of {self.name} has no golden rows, so no answer can be called wrong"
                raise BadInput(what, fix="Set `golden`")
            wrong = make_wrong(release, folder_of(self.releases.workspace, self.name) / "drill")
            rollout = self._rollout(held, self._questions(golden))
            return manifest, drill(rollout, wrong, self._deployment(wrong))

    def stop(self) -> Serving | None:
        """End what serves the model; what did.

        Raises:
            HandedOver: another tool ends it.
        """
        with self._held():
            was = self.engine.stop(self.name)
            ended = was if was and was.version else self.history.read().live  # its server may have died
            if ended:
                outcome = f"version {ended.version} was stopped"
                told = {"version": ended.version, "release": ended.release, "outcome": outcome}
                self.history.stopped(self.who.model_copy(update=told))
            return was

    @contextmanager
    def _held(self) -> Iterator[Lease]:
        """Hold the lease of the place: one rollout of a model at a time.

        Raises:
            RemoteFailed: another one holds it for longer than `wait`.
        """

        def waiting(holder: str) -> None:
            self.console.say(f"Waiting for another rollout of {self.name}: {holder}")

        owner = self.who.url or f"run {self.who.run}"
        try:
            with lease(self.registry.store, self.history.lease, owner, waiting, patience=self.wait) as held:
                yield held
        except Held as holder:
            raise RemoteFailed(
                f"Another rollout of {self.name} is under way",
                why=f"It is {holder}",
                fix="Wait until it has ended, or raise `wait`",
            ) from None

    def _earlier(self, wanted: str) -> Deployment:
        known = self.history.read()
        number = number_of(wanted)
        if wanted and number is None:
            raise BadInput(f"`version` is {wanted!r}", fix="Give the number of a version that has served")
        found = known.good_before() if number is None else known.good_of(number)
        if found is None:
            raise self._no_earlier(known, str(number) if wanted else "")
        return found

    def _no_earlier(self, known: Deployments, wanted: str) -> BadInput:
        """Why there is no deployment to go back to."""
        served = sorted({one.version for one in known.history if one.ended == "live"})
        others = [one for one in served if one != known.live.version] if known.live else []
        if wanted or not served:
            what = f"Version {wanted} of {self.name} has not" if wanted else f"No version of {self.name} has"
            why = f"Those that have: {listed(served)}" if served else ""
            fix = "`mlops history` shows what was deployed"
            given = sorted({one.version for one in known.history if one.ended == "handed over"})
            if given and not served:
                why = f"Versions that were handed over to another tool: {listed(given)}; nothing here saw them serve"
                fix = f"Hand one over again: `mlops deploy-model --model {self.name} --version {wanted or 'N'}`"
            return BadInput(f"{what} served at {known.place}", why=why, fix=fix)
        what = f"There is no version of {self.name} to go back to at {known.place}"
        if not others:
            return BadInput(what, why=f"Only version {listed(served)} has served", fix="Deploy another version")
        fix = f"`mlops rollback --to {others[-1]}` lets one serve all the same"
        return BadInput(what, why=f"All others were gone back from: {listed(others)}", fix=fix)

    def _trusted(self, manifest: Manifest, earlier: Deployment) -> Deployment | None:
        """An earlier deployment, with its code and packages; None where signatures are asked for, as it has none."""
        if self.check is None:
            return earlier
        self.check(manifest)
        return None

    def _roll_out(self, manifest: Manifest, held: Lease, earlier: Deployment | None = None) -> Deployed:
        try:
            release, golden = self._release(manifest, earlier)
        except MlopsError as error:
            ended = "failed" if error.exit_code < 100 else "cancelled"
            told = {"version": manifest.version, "digest": manifest.digest, "ended": ended, "outcome": str(error)}
            with suppress(MlopsError):  # the error that is under way is what is told
                self.history.add(self.who.model_copy(update=told))
            raise
        rollout = self._rollout(held, self._questions(golden), self._asked_of_stable(manifest))
        deployment = self._deployment(release)
        if earlier and earlier.python:
            deployment = deployment.model_copy(update={"python": earlier.python})
        outcome = rollout.run(release, deployment)
        promoted = outcome.how in ("deployed", "reused") and self._move_alias(manifest, release)
        return Deployed(manifest, golden, outcome, promoted)

    def _release(self, manifest: Manifest, earlier: Deployment | None = None) -> tuple[Release, Golden | None]:
        """The version as it is to be served, or was `earlier`, and its golden rows."""
        releases = self.releases.as_it_was(self.name, earlier) if earlier else self.releases
        golden = releases.golden(manifest)
        if golden is None:
            self.console.warning(
                f"Version {manifest.version} has no golden rows: it is only asked who it is, and its metadata does not"
                " say what its inputs are"
            )
        return releases.make(manifest, golden, releases.environment(manifest, earlier)), golden

    def _questions(self, golden: Golden | None) -> Questions:
        inputs = self.releases.inputs
        return Questions(golden, Tolerance(inputs.absolute_tolerance, inputs.relative_tolerance))

    def _asked_of_stable(self, manifest: Manifest) -> Questions | None:
        """What the version that serves is asked: its own golden rows, since it may take other inputs."""
        live = self.history.read().live
        if live is None or live.version == manifest.version:
            return None
        golden = self.releases.own_golden(self.registry.manifest(self.name, live.version))
        return self._questions(golden) if golden else None

    def _rollout(self, held: Lease, questions: Questions, stable: Questions | None = None) -> Rollout:
        return Rollout(self.engine, self.history, self.rules, questions, self.console.say, held.check, stable)

    def _deployment(self, release: Release) -> Deployment:
        live = self.history.read().live
        why = f"rollback from version {live.version}" if self.who.kind == "rollback" and live else ""
        return self.who.model_copy(
            update={
                "version": release.version,
                "release": release.id,
                "digest": release.digest,
                "predict": release.predict,
                "code": self.releases.keep_code(release),
                "environment": release.python.parent.parent.name,
                "packages": self.registry.put_bytes(release.lock.encode(), "installed.txt").digest,
                "reason": self.who.reason or why,
            }
        )

    def _move_alias(self, manifest: Manifest, release: Release) -> bool:
        """Let the alias name what serves; in a rollback the one that was moved for what is gone back from."""
        known, alias = self.history.read(), self.alias
        if not alias and self.who.kind == "rollback":
            alias = next((one.alias for one in known.history if one.alias and one.release != release.id), "")
        if not alias:
            return False
        reason = self.who.reason or (known.live.reason if known.live else "")
        move = move_now(manifest, self.who.by, self.who.run, reason)
        named, changed = self.registry.move_alias(manifest, alias, move)
        if changed:
            before = named.history[0].previous
            self.history.note(release.id, alias=alias, alias_before=before)
            after = f", after version {before}" if before else ""
            self.console.say(f"Version {manifest.version} of {self.name} is the {alias}{after}")
        return changed
