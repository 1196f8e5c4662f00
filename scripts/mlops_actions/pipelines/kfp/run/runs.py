"""Runs in KFP: found by their key, started once, ended.

Creating a run is not atomic, and a run cannot be given an id. So the key stands in the run's description, and whoever
has created one looks again after a moment: if there are several of a key, the oldest is the one, and whoever created
another deletes it and goes on with the oldest.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from ....errors import BadInput
from ....waiting import Clock
from ..client.api import ApiError, Json, KfpApi
from ..names import shortened
from ..publishing import Published, ensured, filtered
from ..settings import KfpSettings

FINAL = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
SETTLING = 2.0
"""Seconds after which a run that was created at the same time is listed. Runs' times are whole seconds."""
TERMINATING = 5.0
"""Seconds within which a terminated run says so; a runner that cancels kills after 7.5."""
_RUNS = "/apis/v2beta1/runs"
_EXPERIMENTS = "/apis/v2beta1/experiments"
_LOOKED_AT = 500  # newest runs that are looked through on a server that cannot search descriptions
How = Literal["started", "running", "finished"]


@dataclass(frozen=True)
class Started:
    """A run of a key: newly started, or found running or finished."""

    run: Json
    how: How

    @property
    def id(self) -> str:
        """KFP's id."""
        return str(self.run["run_id"])


class Runs:
    """The runs of one key. All jobs that watch one share its fate: if one is cancelled, the run is ended for all.

    Args:
        api: of KFP.
        settings: how runs are started.
        key: hash of all that decides a run's result.
        clock: for pauses.
    """

    def __init__(self, api: KfpApi, settings: KfpSettings, key: str, clock: Clock) -> None:
        self._api, self._settings, self._clock = api, settings, clock
        self._mark = f"mlops-actions key={key}"
        self._own = f"{self._mark} start={uuid.uuid4().hex}"
        self._asked = False

    def start(self, published: Published, parameters: dict[str, Any], *, reuse: bool) -> Started:
        """The run of the key, which is started unless there is one that runs or has succeeded.

        Args:
            published: the version to run.
            parameters: of the run.
            reuse: whether a run of the same key may be taken.

        Raises:
            BadInput: the experiment is archived.
            ApiError: KFP refuses or fails.
        """
        if reuse and (found := self.standing()):
            return Started(found, "finished" if found.get("state") == "SUCCEEDED" else "running")
        experiment = self.experiment(published.pipeline)
        body = self._body(published, parameters, experiment)
        run = ensured(lambda: next(iter(self.mine()), None), lambda: self._create(body), self._clock)
        if not reuse:
            return Started(run, "started")
        self._clock.wait(SETTLING)
        first = self.standing() or run
        if first["run_id"] == run["run_id"]:
            return Started(run, "started")
        self.end(str(run["run_id"]))
        self._api.delete(f"{_RUNS}/{run['run_id']}")
        return Started(first, "running")

    def standing(self) -> Json | None:
        """The oldest run of the key that goes on or has succeeded, and that nobody has put away."""
        runs = [
            run
            for run in self._with(self._mark)
            if run.get("storage_state") != "ARCHIVED" and run.get("state") not in ("FAILED", "CANCELED", "CANCELING")
        ]
        for run in sorted(runs, key=lambda run: (str(run.get("created_at", "")), str(run["run_id"]))):
            try:
                return self._api.get(f"{_RUNS}/{run['run_id']}")
            except ApiError as error:
                if error.status != 404:  # KFP, or somebody, has deleted it meanwhile
                    raise
        return None

    def mine(self) -> Sequence[Json]:
        """What this process has started; nothing before it has asked for it."""
        return list(self._with(self._own)) if self._asked else []

    def end(self, run_id: str) -> str:
        """Terminate a run; the state that it says to be in then. One that has ended stays as it is."""
        try:
            self._api.post(f"{_RUNS}/{run_id}:terminate", again=True)
        except ApiError as error:
            if error.status == 404:
                return "DELETED"
            if error.status not in (400, 409):  # so it answers for one that has ended
                raise
        until = self._clock.now() + TERMINATING
        while True:
            state = str(self._api.get(f"{_RUNS}/{run_id}").get("state", ""))
            if state in (*FINAL, "CANCELING") or self._clock.now() >= until:
                return state
            self._clock.wait(0.5)

    def _create(self, body: Json) -> Json:
        self._asked = True
        return self._api.post(_RUNS, body)

    def _body(self, published: Published, parameters: dict[str, Any], experiment: str) -> Json:
        settings = self._settings
        config: Json = {"parameters": parameters}
        if settings.inputs.pipeline_root:
            config["pipeline_root"] = settings.inputs.pipeline_root
        about = [settings.origin.description, settings.origin.url]
        body = {
            "display_name": shortened(f"{published.pipeline}-{settings.origin.run or published.version}"),
            "description": "\n".join([part for part in about if part] + [self._own]),
            "experiment_id": experiment,
            "runtime_config": config,
            "service_account": settings.inputs.service_account,
        }
        if published.version_id:
            ids = {"pipeline_id": published.pipeline_id, "pipeline_version_id": published.version_id}
            body["pipeline_version_reference"] = ids
        else:
            body["pipeline_spec"] = dict(published.spec)
        return {name: value for name, value in body.items() if value}

    def experiment(self, pipeline: str) -> str:
        """The experiment's id; it is made if it is not there."""
        name, namespace = self._settings.inputs.experiment or pipeline, self._api.namespace

        def find() -> Json | None:
            query = {"filter": filtered("display_name", name), "namespace": namespace or None}
            found = self._api.pages(_EXPERIMENTS, "experiments", **query)
            return next((e for e in found if e.get("display_name") == name), None)

        def make() -> Json:
            body = {"display_name": name, "namespace": namespace}
            return self._api.post(_EXPERIMENTS, {key: value for key, value in body.items() if value})

        experiment = ensured(find, make, self._clock)
        if experiment.get("storage_state") == "ARCHIVED":
            raise BadInput(
                f"The experiment {name!r} is archived in KFP",
                fix="Restore it in KFP, or give another `experiment`",
            )
        return str(experiment["experiment_id"])

    def _with(self, mark: str) -> list[Json]:
        """The runs with a mark in their description."""
        query = {"namespace": self._api.namespace or None, "sort_by": "created_at desc"}
        try:
            found = list(self._api.pages(_RUNS, "runs", filter=filtered("description", mark, "IS_SUBSTRING"), **query))
        except ApiError as error:
            if error.status != 400:
                raise
            found = list(islice(self._api.pages(_RUNS, "runs", **query), _LOOKED_AT))
        return [run for run in found if mark in str(run.get("description", ""))]
