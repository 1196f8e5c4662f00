"""A watch of a real API server behind a proxy that fails in every way: nothing is lost, and nothing is told twice.

Needs KUBECONFIG.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest

from faults import FaultyProxy, faulty
from given import cluster_inputs
from mlops_actions.kubernetes import watching
from mlops_actions.kubernetes.connection import connect
from mlops_actions.kubernetes.failures import ClusterFailed
from mlops_actions.kubernetes.objects import CONFIG_MAP, NAMESPACE, Change, Cluster, Object

pytestmark = pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no kubernetes: set KUBECONFIG")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    name = f"mlops-watch-{uuid.uuid4().hex[:8]}"
    cluster = connect(cluster_inputs(namespace=name), os.environ)
    cluster.create(NAMESPACE, {"metadata": {"name": name}})
    yield cluster
    cluster.delete(NAMESPACE, name)


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[FaultyProxy]:
    transport = cluster._transport
    with faulty(cluster.server, transport._client._pool("")) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: FaultyProxy, cluster: Cluster) -> Cluster:
    """The same cluster, through the proxy."""
    context = {"cluster": "c", "namespace": cluster.namespace}
    config = {
        "clusters": [{"name": "c", "cluster": {"server": proxy.url}}],
        "contexts": [{"name": "c", "context": context}],
        "current-context": "c",
    }
    return connect(cluster_inputs(json.dumps(config)), {})


class Seen:
    """What a watch has told, and a way to wait for more of it."""

    def __init__(self, cluster: Cluster, labels: str, limit: float = 60.0, known: Sequence[Object] = ()) -> None:
        self.cluster, self.labels = cluster, labels
        self.changes: list[Change] = []
        self._watch = cluster.watch(CONFIG_MAP, labels=labels, until=cluster.clock.now() + limit, known=known)

    def until(self, wanted: Callable[[list[tuple[str, str, str]]], bool]) -> list[tuple[str, str, str]]:
        for change in self._watch:
            if change is not None:
                self.changes.append(change)
            if wanted(self.told):
                return self.told
        raise AssertionError(f"the watch ended before that; it told {self.told}")

    def until_told(self, count: int) -> list[tuple[str, str, str]]:
        return self.until(lambda told: len(told) >= count)

    def quiet(self) -> list[tuple[str, str, str]]:
        """After a second in which nothing was told."""
        assert next(self._watch) is None
        return self.told

    @property
    def told(self) -> list[tuple[str, str, str]]:
        return [
            (change.type, change.object["metadata"]["name"], (change.object.get("data") or {}).get("value", ""))
            for change in self.changes
        ]

    def close(self) -> None:
        self._watch.close()


@pytest.fixture
def label() -> str:
    return f"test={uuid.uuid4().hex[:8]}"


def put(cluster: Cluster, label: str, name: str, value: object) -> Object:
    key, _, text = label.partition("=")
    body: Object = {"metadata": {"name": f"{text}-{name}", "labels": {key: text}}, "data": {"value": str(value)}}
    return cluster.apply(CONFIG_MAP, body)


@pytest.fixture
def seen(through: Cluster, cluster: Cluster, label: str) -> Iterator[Seen]:
    """A watch that has told of one object."""
    put(cluster, label, "a", 0)
    seen = Seen(through, label)
    seen.until_told(1)
    yield seen
    seen.close()


def names(told: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return [(kind, name.partition("-")[2], value) for kind, name, value in told]


def watched(proxy: FaultyProxy, seen: Seen) -> None:
    """Wait until the watch is open, so that what follows hits it and not the list before it."""
    seen.until(lambda _: proxy.streams() > 0)


def test_changes_are_told_in_order_and_once(cluster: Cluster, seen: Seen, label: str) -> None:
    for value in range(1, 6):
        put(cluster, label, "a", value)
    put(cluster, label, "b", 0)
    cluster.delete(CONFIG_MAP, f"{label.partition('=')[2]}-a")
    assert names(seen.until_told(8)) == [
        ("ADDED", "a", "0"),
        *(("MODIFIED", "a", str(value)) for value in range(1, 6)),
        ("ADDED", "b", "0"),
        ("DELETED", "a", "5"),
    ]


def test_what_was_known_before_is_told_when_it_changed_or_is_gone(cluster: Cluster, label: str) -> None:
    known = [put(cluster, label, name, 0) for name in "abcd"]
    put(cluster, label, "b", 1)
    for name in "cd":
        cluster.delete(CONFIG_MAP, f"{label.partition('=')[2]}-{name}")
    put(cluster, label, "d", 2)  # another one of that name
    seen = Seen(cluster, label, known=known)
    assert sorted(names(seen.until_told(4))) == [
        ("ADDED", "d", "2"), ("DELETED", "c", ""), ("DELETED", "d", ""), ("MODIFIED", "b", "1"),
    ]  # fmt: skip
    assert len(seen.quiet()) == 4
    seen.close()


def test_cut_connections_lose_and_repeat_nothing(cluster: Cluster, proxy: FaultyProxy, seen: Seen, label: str) -> None:
    watched(proxy, seen)
    for value in range(1, 9):
        put(cluster, label, "a", value)
        proxy.cut()
    told = seen.until(lambda told: told[-1][2] == "8")
    assert [value for _, _, value in told] == [str(value) for value in range(9)]
    assert len(seen.quiet()) == 9


def test_connection_that_breaks_within_a_line_is_taken_up_before_it(
    cluster: Cluster, proxy: FaultyProxy, seen: Seen, label: str
) -> None:
    watched(proxy, seen)
    proxy.after_bytes = 40
    put(cluster, label, "a", 1)
    put(cluster, label, "a", 2)
    assert [value for _, _, value in seen.until_told(3)] == ["0", "1", "2"]


def test_server_that_is_down_for_a_while_is_waited_for(
    cluster: Cluster, proxy: FaultyProxy, seen: Seen, label: str
) -> None:
    watched(proxy, seen)
    proxy.stop()
    put(cluster, label, "a", 1)
    assert len(seen.quiet()) == 1
    proxy.start()
    assert names(seen.until_told(2))[-1] == ("MODIFIED", "a", "1")


def test_silent_connection_is_noticed(
    cluster: Cluster, proxy: FaultyProxy, through: Cluster, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_ROUND", 2)
    monkeypatch.setattr(watching, "_SILENCE", 3.0)
    put(cluster, label, "a", 0)
    seen = Seen(through, label)
    seen.until_told(1)
    watched(proxy, seen)
    proxy.flowing.clear()
    put(cluster, label, "a", 1)
    before = proxy.streams()
    seen.until(lambda _: proxy.streams() > before)  # it asks again, since it hears nothing
    proxy.flowing.set()
    put(cluster, label, "b", 0)
    assert names(seen.until_told(3))[1:] == [("MODIFIED", "a", "1"), ("ADDED", "b", "0")]
    assert len(seen.quiet()) == 3


def test_idle_watch_is_renewed_and_tells_nothing(
    cluster: Cluster, proxy: FaultyProxy, through: Cluster, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_ROUND", 1)
    put(cluster, label, "a", 0)
    seen = Seen(through, label)
    seen.until_told(1)
    seen.until(lambda _: proxy.streams() >= 3)
    assert len(seen.told) == 1
    assert proxy.streams("limit=500") == 1  # it is not listed again


def test_what_happened_before_a_version_that_is_gone_is_found_by_a_list(
    cluster: Cluster, proxy: FaultyProxy, seen: Seen, label: str
) -> None:
    put(cluster, label, "gone", 0)
    seen.until_told(2)
    watched(proxy, seen)
    proxy.answer(410, pattern="watch=true", reason="Expired", message="too old resource version")
    proxy.stop()
    cluster.delete(CONFIG_MAP, f"{label.partition('=')[2]}-gone")
    put(cluster, label, "a", 1)
    put(cluster, label, "new", 0)
    proxy.start()
    told = names(seen.until_told(5))[2:]
    assert sorted(told) == [("ADDED", "new", "0"), ("DELETED", "gone", ""), ("MODIFIED", "a", "1")]
    assert len(seen.quiet()) == 5


def test_object_that_was_made_anew_in_a_gap_is_told_as_deleted_and_added(
    cluster: Cluster, proxy: FaultyProxy, seen: Seen, label: str
) -> None:
    watched(proxy, seen)
    proxy.answer(410, pattern="watch=true", reason="Expired", message="too old resource version")
    proxy.stop()
    cluster.delete(CONFIG_MAP, f"{label.partition('=')[2]}-a")
    put(cluster, label, "a", "another")
    proxy.start()
    assert names(seen.until_told(3))[1:] == [("DELETED", "a", ""), ("ADDED", "a", "another")]


def test_version_that_the_server_itself_has_forgotten_is_survived(
    through: Cluster, proxy: FaultyProxy, cluster: Cluster, label: str
) -> None:
    put(cluster, label, "a", 0)
    asked, path = through._target("watch", CONFIG_MAP, "")
    watch = watching.Watch(through._transport, asked, path, {"labelSelector": label}, lambda item: item)
    watch._version = "1"  # a real server says in the stream that it is too old
    changes = watch.changes(through.clock.now() + 30)
    found = next(change for change in changes if change is not None)
    changes.close()
    assert found.object["data"]["value"] == "0"
    asked_for = ["list" if "limit=" in line else "watch" for line in proxy.seen if "configmaps?" in line]
    assert asked_for[:2] == ["watch", "list"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_busy_server_is_asked_again(cluster: Cluster, proxy: FaultyProxy, seen: Seen, label: str, status: int) -> None:
    watched(proxy, seen)
    proxy.answer(status, times=2, headers={"Retry-After": "1"} if status == 429 else {})
    proxy.cut()
    put(cluster, label, "a", 1)
    assert names(seen.until_told(2))[-1] == ("MODIFIED", "a", "1")
    assert all(fault.times == 0 for fault in proxy.faults)
    assert len(seen.quiet()) == 2


@pytest.mark.parametrize(("status", "reason"), [(401, "Unauthorized"), (403, "Forbidden"), (404, "NotFound")])
def test_server_that_starts_and_knows_nobody_yet_is_waited_for(
    cluster: Cluster, proxy: FaultyProxy, seen: Seen, label: str, status: int, reason: str
) -> None:
    watched(proxy, seen)
    proxy.answer(status, times=3, reason=reason, message="not yet")
    proxy.cut()
    put(cluster, label, "a", 1)
    assert names(seen.until_told(2))[-1] == ("MODIFIED", "a", "1")


def test_server_that_has_forgotten_the_version_and_knows_nobody_yet(
    cluster: Cluster, proxy: FaultyProxy, seen: Seen, label: str
) -> None:
    watched(proxy, seen)
    proxy.answer(410, pattern="watch=true", reason="Expired", message="too old resource version")
    proxy.answer(403, pattern="limit=", reason="Forbidden", message="not yet")
    proxy.cut()
    put(cluster, label, "a", 1)
    assert names(seen.until_told(2))[-1] == ("MODIFIED", "a", "1")
    assert all(fault.times == 0 for fault in proxy.faults)


def test_right_that_is_missing_from_the_start_is_an_error_at_once(through: Cluster, proxy: FaultyProxy) -> None:
    message = 'configmaps is forbidden: User "jo" cannot list resource "configmaps" in API group ""'
    proxy.answer(403, pattern="configmaps", reason="Forbidden", message=message)
    with pytest.raises(ClusterFailed, match="The user jo may not list configmaps"):
        next(through.watch(CONFIG_MAP))


def test_list_whose_pages_are_forgotten_begins_anew(
    cluster: Cluster, proxy: FaultyProxy, through: Cluster, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_PAGE", 2)
    for name in "abcde":
        put(cluster, label, name, 0)
    proxy.answer(410, pattern="continue=", reason="Expired", message="The provided continue parameter is too old")
    assert len(through.list(CONFIG_MAP, labels=label)) == 5
    seen = Seen(through, label)
    proxy.answer(410, pattern="continue=", reason="Expired", message="The provided continue parameter is too old")
    seen.until_told(5)
    assert len(seen.quiet()) == 5
    assert all(fault.times == 0 for fault in proxy.faults)


def test_watch_ends_at_its_time_and_leaves_no_connection(
    cluster: Cluster, proxy: FaultyProxy, through: Cluster, label: str
) -> None:
    put(cluster, label, "a", 0)
    told = list(through.watch(CONFIG_MAP, labels=label, until=through.clock.now() + 2.5))
    assert [change.type for change in told if change] == ["ADDED"]
    assert told.count(None) >= 1
    for thread in threading.enumerate():
        if thread.name.startswith("watch ") and through.namespace in thread.name:
            thread.join(5)
            assert not thread.is_alive()


def test_one_object_can_be_watched(cluster: Cluster, through: Cluster, label: str) -> None:
    first, other = put(cluster, label, "a", 0), put(cluster, label, "b", 0)
    changes = through.watch(CONFIG_MAP, name=first["metadata"]["name"], until=through.clock.now() + 30)
    assert next(change for change in changes if change).object["metadata"]["uid"] == first["metadata"]["uid"]
    cluster.delete(CONFIG_MAP, other["metadata"]["name"])
    cluster.delete(CONFIG_MAP, first["metadata"]["name"])
    last = next(change for change in changes if change)
    assert (last.type, last.object["metadata"]["uid"]) == ("DELETED", first["metadata"]["uid"])
    changes.close()
