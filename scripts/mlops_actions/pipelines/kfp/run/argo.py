"""How KFP and Argo name what a run is made of. What is bound to one version of either of them is in this module.

A run is an Argo Workflow, and `task_details` of KFP's API are its nodes. A task `train` is two nodes of the DAG that it
is in: a pod `train-driver`, and a DAG `train` with a pod `executor`, which is skipped when KFP has the result already.
An importer is a single pod. A nested pipeline, a condition and an exit handler are a driver and a DAG. A loop is a DAG
with `iteration-driver` and `iteration-iterations`, and for each item `iteration-iterations(0:0)` with
`iteration-item-driver` and `iteration-item`. An exit task is in a hook `<task>.onExit` of what it waits for. All is in
`root`, beside `root-driver`, in the workflow's own node. A node that may be tried again, as each may with KFP 2.17's
configuration of Argo, is a Retry node `x` with attempts `x(0)`, `x(1)`, …; what is in it is named after the attempt.

The API tells neither a node's id nor its full name, only its display name and the ids of its children. But an id is a
hash of the full name, and what full names there can be is known from the pipeline's spec.

Sources: backend/src/v2/compiler/argocompiler of kubeflow/pipelines (dag.go, container.go, importer.go);
`Workflow.NodeID` and workflow/util/pod_name.go of argoproj/argo-workflows, 3.4 to 4.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from ...labels import label

ITERATION = "iteration-item"
NODE_NAME = "workflows.argoproj.io/node-name"
"""The annotation of a pod with the full name of its node."""
RUN_LABEL = "pipeline/runid"
"""The label of a pod with KFP's id of its run."""
ONLY_ERRORS = (
    "KFP 2.17's configuration of Argo has `retryPolicy: OnError`, which retries errors of the cluster, such as a"
    " deleted pod, and no failures. The input `retries` retries a run from what failed"
)
"""Why a task that failed by itself may have had one attempt only (workflow-controller-configmap-patch.yaml)."""
_NUMBER = re.compile(r"\((\d+)(?::[^)]*)?\)")  # of an attempt, or of an iteration with its item

Json = Mapping[str, Any]


@lru_cache(maxsize=100_000)  # the same names are asked for with each snapshot of a run
def hash_of(name: str) -> str:
    """Argo's hash of a node's full name: FNV-1a of 32 bits, in decimal digits."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return str(value)


def hash_in(identity: str) -> str:
    """The hash that a node's id and the name of its pod end with."""
    return identity.rpartition("-")[2]


def pod_name(workflow: str, template: str, node: str) -> str:
    """The name of a node's pod."""
    return f"{workflow}-{template}"[:242] + f"-{hash_of(node)}"


def workflow_of(pod: str) -> str:
    """The name of the workflow that a pod is of."""
    template = r"(?:metadata-\d+-\d+-)?(?:retry-)?system-(?:container-impl|container-driver|dag-driver|importer)"
    return re.sub(rf"-{template}-\d+$", "", pod)


def executor_template(task: Json, settings: Json) -> str:
    """The template of a task's executor.

    Args:
        task: its PipelineTaskSpec.
        settings: of its executor for Kubernetes, as the platform spec has them.
    """
    about = settings.get("podMetadata") or {}
    counted = f"metadata-{len(about.get('annotations') or {})}-{len(about.get('labels') or {})}-" if about else ""
    return f"{counted}{'retry-' if task.get('retryPolicy') else ''}system-container-impl"


def label_of(node: str) -> str:
    """The label of the task that a node is of, by the node's full name: that of a driver is its task's."""
    path: list[str] = []
    for part in node.split(".")[1:]:
        bare = _NUMBER.sub("", part).removesuffix("-driver")
        number = _NUMBER.search(part)
        if bare == "onExit":
            path.pop()
        elif bare == "iteration-iterations" and number and path:
            path[-1] += f"-iteration-{number[1]}"
        elif bare not in ("iteration", "iteration-iterations", ITERATION):
            path.append(bare)
    if len(path) > 1 and path[0] == "root":
        path.pop(0)
    if len(path) > 1 and path[-1] == "executor":
        path.pop()
    *around, task = path or [""]
    if found := re.fullmatch(r"(.+)-iteration-(\d+)", task):  # a loop over a component without a DAG around it
        return label("/".join([*around, task]), found[1])
    return label("/".join(around), task)


class Nodes:
    """The nodes of a workflow by their full names.

    Args:
        details: the run's `task_details`, in any order; what is there twice, or has no name, does no harm.

    Attributes:
        workflow: its name; "" before it has a node with children.
    """

    def __init__(self, details: Sequence[Json]) -> None:
        rows = {str(row.get("task_id", number)): row for number, row in enumerate(details)}
        self._rows: dict[str, list[Json]] = {}  # by display name
        for row in rows.values():
            self._rows.setdefault(str(row.get("display_name", "")), []).append(row)
        children = [child for row in rows.values() for child in _children(row)]
        self.workflow = children[0].rpartition("-")[0] if children else ""
        self._hashes = {hash_in(child) for child in children}
        self._named: dict[str, str] = {}  # full names by their hashes
        self._displays: dict[str, list[str]] = {}  # full names by display names
        self._found: dict[str, Json] | None = None

    def has(self, name: str) -> bool:
        """Whether there is a node of this full name."""
        number = hash_of(name)
        if number not in self._hashes and name != self.workflow:
            return False
        if number not in self._named:
            self._named[number] = name
            self._displays.setdefault(_display(name), []).append(name)
            self._found = None
        return True

    def attempts(self, name: str) -> list[str]:
        """The attempts of a node, the last one last: itself when it is not tried again, nothing when there is none."""
        if not self.has(name):
            return []
        found: list[str] = []
        while self.has(f"{name}({len(found)})"):
            found.append(f"{name}({len(found)})")
        return found or [name]

    def iterations(self, name: str) -> Iterator[str]:
        """The nodes of a loop's iterations, without their attempts."""
        index = 0
        while self.has(one := f"{name}.iteration-iterations({index}:{index})"):
            yield one
            index += 1

    def row(self, name: str) -> Json:
        """What the API shows of a node; empty when it shows nothing. Ask when all names have been asked for."""
        if self._found is None:
            self._found = {}
            for names in sorted(self._displays.values(), key=lambda names: min(map(len, names))):  # from the outside in
                self._match(names)
        return self._found.get(name, {})

    def _match(self, names: list[str]) -> None:
        """Which row is which of the nodes of one display name.

        A node's children are inside it, or come after it in a DAG that it is in. Rows that this does not tell apart
        are pods, which end and begin in the order of the nodes that they are in.
        """
        assert self._found is not None
        left, unsure = dict.fromkeys(names), list[tuple[Json, list[str]]]()
        for row in self._rows.get(_display(names[0]), ()):
            parents = [_parent(self._named.get(hash_in(child), "")) for child in _children(row)]
            if inside := next((name for name in parents if name in left), ""):
                del left[inside]
                self._found[inside] = row
            else:
                unsure.append((row, [f"{dag}." for dag in parents if dag]))
        around = {name: _moment(self._found.get(_parent(name), {})) for name in left}
        for row, dags in [one for one in unsure if one[1]]:
            state, begun, ended = _moment(row)
            fits = [name for name in left if all(name.startswith(dag) for dag in dags)]
            near = {n: (around[n][0] != state, abs(around[n][1] - begun), abs(around[n][2] - ended)) for n in fits}
            if near:
                chosen = min(near, key=lambda name: near[name])
                del left[chosen]
                self._found[chosen] = row
        alone = sorted((row for row, dags in unsure if not dags), key=_moment)
        self._found.update(zip(sorted(left, key=lambda name: around[name]), alone))


def seconds_since_1970(time: object) -> float:
    """A time of the API; 0 for none, which Go writes as the year 1 and KFP's database as 1970."""
    try:
        found = datetime.fromisoformat(re.sub(r"(\.\d+)?Z$", "+00:00", str(time or "")))
        return max(0.0, found.timestamp())
    except (ValueError, OverflowError):
        return 0.0


def _children(row: Json) -> list[str]:
    found = [child.get("pod_name") or child.get("task_id") for child in row.get("child_tasks") or []]
    return [str(child) for child in found if child]


def _display(name: str) -> str:
    """A node's display name: the last part of its full name; a hook's has two."""
    return re.sub(r"^.*\.(?!onExit\b)", "", name)


def _parent(name: str) -> str:
    """The full name of the node that a node is in, or is an attempt of."""
    attempt = re.fullmatch(r"(.+)\(\d+\)", name)
    return attempt[1] if attempt else name.rpartition(".")[0]


def _moment(row: Json) -> tuple[str, float, float]:
    """How a node ended, and when it began and ended."""
    state = str(row.get("state", ""))
    ended = state if state in ("SUCCEEDED", "FAILED", "SKIPPED") else ""
    return ended, seconds_since_1970(row.get("start_time")), seconds_since_1970(row.get("end_time"))
