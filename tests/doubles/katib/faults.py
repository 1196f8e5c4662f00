"""What can be made to go wrong, for all Experiments or, by an annotation, for one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

ANNOTATION = "doubles/faults"


@dataclass(frozen=True)
class Faults:
    """Faults on demand; none by default.

    Attributes:
        suggestion: the algorithm's service: `never-ready` (its Deployment's image cannot be pulled), `fails` (it
            refuses the settings), `ends` (it has no more suggestions after `suggestions` of them).
        suggestions: after how many.
        unschedulable: pods of trials ask for a node that there is not.
        database_down: the database manager does not respond to the metrics collectors.
        not_injected: the webhook that adds the metrics collector is not asked, as when it cannot be reached.
        not_validated: the webhooks that default and validate Experiments are not asked; the controller does their work,
            and an Experiment that Katib would refuse fails.
        stops_after: the controllers stop when so many trials have ended since they were started.
        status_late: seconds between a change of trials and the Experiment's status that tells it.
        optimal_after: `currentOptimalTrial` stays empty until so many trials have ended.
        conditions: `reversed`: the list of conditions is written in reverse order.
    """

    suggestion: Literal["", "never-ready", "fails", "ends"] = ""
    suggestions: int = 0
    unschedulable: bool = False
    database_down: bool = False
    not_injected: bool = False
    not_validated: bool = False
    stops_after: int | None = None
    status_late: float = 0.0
    optimal_after: int = 0
    conditions: Literal["", "reversed"] = ""

    def of(self, experiment: Mapping[str, Any]) -> Faults:
        """These, changed by the Experiment's annotation `doubles/faults`, a JSON object.

        Raises:
            ValueError: the annotation names a fault that there is not.
        """
        given = (experiment["metadata"].get("annotations") or {}).get(ANNOTATION)
        if not given:
            return self
        asked = json.loads(given)
        unknown = sorted(set(asked) - {f.name for f in fields(self)})
        if unknown:
            raise ValueError(f"{ANNOTATION}: there is no fault {', '.join(unknown)}")
        return replace(self, **asked)
