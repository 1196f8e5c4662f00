"""The lease in a store: one holder at a time, and a killed one does not block the next for long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import servers
from mlops_actions.errors import RemoteFailed
from mlops_actions.processes.identity import Identity
from mlops_actions.stores.lease import Owner, lease
from mlops_actions.stores.store import Store, StoreOptions
from mlops_actions.waiting import Clock, wait_until

PATH = "locks/features.json"
HOLDING = """
import sys, time
from mlops_actions.stores.lease import lease
from mlops_actions.stores.store import Store
with lease(Store(sys.argv[1]), "locks/features.json", "the killed one", print):
    print("held", flush=True)
    time.sleep(60)
"""


class Jumping(Clock):
    """Jumps where the lease is waited for."""

    waited = 0.0

    def now(self) -> float:
        return super().now() + self.waited

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        if wake is None:
            self.waited += seconds
            return False
        return super().wait(seconds, wake)


@pytest.fixture(params=["file", "seaweedfs", "minio"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return Store((tmp_path / "store").as_uri(), StoreOptions())
    s3: servers.S3 = getattr(servers, request.param)()
    return Store(s3.new_store(), s3.options())


def test_one_holds_and_the_others_wait_their_turn(store: Store) -> None:
    inside, most, told, waited_for = 0, 0, [], threading.Event()

    def waiting(holder: str) -> None:
        told.append(holder)
        waited_for.set()

    def work() -> None:
        nonlocal inside, most
        with lease(store, PATH, "a job", waiting, term=20):
            inside += 1
            most = max(most, inside)
            waited_for.wait(60)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (inside, most) == (0, 1)
    assert "a job" in told[0]


def test_an_owner_and_an_expiry_are_in_the_store_and_are_renewed(store: Store) -> None:
    with lease(store, PATH, "run 7", print, term=1.0) as held:
        first = store.get_json(PATH)
        time.sleep(1.5)
        second = store.get_json(PATH)
        held.check()
    assert first["name"] == "run 7" and first["pid"] == os.getpid()
    assert second["expires"] > first["expires"]
    assert store.get_json(PATH)["id"] == "", "it is free after the block"


def test_a_killed_holder_of_this_machine_is_not_waited_for(tmp_path: Path) -> None:
    url = (tmp_path / "store").as_uri()
    holder = subprocess.Popen([sys.executable, "-c", HOLDING, url], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    known = Store(url).get_json(PATH)["processes"]
    assert wait_until(lambda: not any(Identity(*one).alive for one in known), 15), "its guard ends after it"
    clock = Jumping()
    with lease(Store(url), PATH, "next", print, clock=clock):
        assert not clock.waited


def test_a_silent_holder_of_another_machine_is_waited_for_its_term_only(store: Store) -> None:
    stranger = {**vars(Owner.here("elsewhere")), "host": "elsewhere", "term": 2.0, "mark": "1"}
    store.put(PATH, json.dumps(stranger).encode())
    told: list[str] = []
    clock = Jumping()
    with lease(store, PATH, "next", told.append, clock=clock):
        assert 1.9 < clock.waited < 3.0
    assert told == [f"elsewhere (process {os.getpid()} on elsewhere)"]


def test_a_lease_that_another_took_is_lost(store: Store) -> None:
    with lease(store, PATH, "first", print, term=0.6) as held:
        store.put(PATH, json.dumps({**vars(Owner.here("thief")), "term": 30, "mark": "1"}).encode())
        time.sleep(0.5)
        with pytest.raises(RemoteFailed, match="was lost"):
            held.check()
    assert store.get_json(PATH)["name"] == "thief", "who lost it does not free it"


def test_an_object_that_cannot_be_read_is_taken_over(store: Store) -> None:
    store.put(PATH, b"not JSON")
    with lease(store, PATH, "next", print, term=0.5):
        assert store.get_json(PATH)["name"] == "next"
