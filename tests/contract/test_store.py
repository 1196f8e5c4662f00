"""`Store` keeps the same promises on a folder, on SeaweedFS and on MinIO, and says in plain words what is wrong."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import servers
from mlops_actions.errors import BadInput, RemoteFailed
from mlops_actions.inputs import Inputs
from mlops_actions.runtime.config import store_options
from mlops_actions.stores.digests import tree_digest
from mlops_actions.stores.store import Store, StoreOptions, blob_path, fetch

SPAWN = multiprocessing.get_context("spawn")
KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}


@pytest.fixture(params=["folder", "seaweedfs", "minio"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, StoreOptions]:
    """A new, empty store of each kind: its URL, and how it is reached."""
    if request.param == "folder":
        return (tmp_path / "store").as_uri(), StoreOptions()
    server = getattr(servers, request.param)()
    return server.new_store(), server.options()


@pytest.fixture
def store(where: tuple[str, StoreOptions]) -> Store:
    return Store(*where)


@pytest.fixture(params=["seaweedfs", "minio"])
def s3(request: pytest.FixtureRequest) -> servers.S3:
    server: servers.S3 = getattr(servers, request.param)()
    return server


def test_many_objects_are_read_and_many_folders_listed_at_once(store: Store) -> None:
    for number in range(70):
        store.put(f"pulls/{number % 3}/runs/{number}.json", str(number).encode())
    assert store.folders("pulls/") == ["pulls/0/", "pulls/1/", "pulls/2/"]
    assert store.folders("nothing/") == []
    found = store.list_all(["pulls/0/runs/", "pulls/2/", "nothing/"])
    assert len(found) == 24 + 23
    data = store.get_all([*(entry.path for entry in found), "pulls/0/gone.json"])
    assert data == {entry.path: entry.path.rpartition("/")[2][:-5].encode() for entry in found}


def test_what_was_put_is_got(store: Store) -> None:
    store.put("a/b c/ü.txt", b"one")
    store.put("a/b c/ü.txt", b"two")
    assert store.get("a/b c/ü.txt") == b"two"
    assert store.exists("a/b c/ü.txt")
    store.put("empty", b"")
    assert store.get("empty") == b""


def test_absent_object(store: Store) -> None:
    assert not store.exists("nope")
    with pytest.raises(FileNotFoundError, match="nope"):
        store.get("nope")
    store.delete("nope")


def test_create_writes_only_what_is_absent(store: Store) -> None:
    assert store.create("models/m/versions/1.json", b"first")
    assert not store.create("models/m/versions/1.json", b"second")
    assert store.get("models/m/versions/1.json") == b"first"


def test_replace_writes_only_what_has_not_changed(store: Store) -> None:
    store.put("alias", b"1")
    _, tag = store.get_tagged("alias")
    assert store.replace("alias", b"2", tag)
    assert not store.replace("alias", b"3", tag)
    assert store.get("alias") == b"2"


def test_replace_of_what_is_gone_writes_nothing(store: Store) -> None:
    store.put("alias", b"1")
    _, tag = store.get_tagged("alias")
    store.delete("alias")
    assert not store.replace("alias", b"2", tag)
    assert not store.exists("alias")


def test_of_many_threads_that_create_one_wins(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.create("once", str(i).encode()), range(16)))
    assert won.count(True) == 1
    assert store.get("once") == str(won.index(True)).encode()


def _add_one(url: str, options: StoreOptions, times: int) -> None:
    store = Store(url, options)
    for _ in range(times):
        while True:
            data, tag = store.get_tagged("counter")
            if store.replace("counter", str(int(data) + 1).encode(), tag):
                break


def test_no_update_is_lost_when_processes_replace(where: tuple[str, StoreOptions]) -> None:
    Store(*where).put("counter", b"0")
    processes = [SPAWN.Process(target=_add_one, args=(*where, 10)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert Store(*where).get("counter") == b"30"


def test_list_is_in_order_and_stays_under_its_prefix(store: Store) -> None:
    for path in ("run/b.json", "run/a/1", "run/a.json", "runs/other", "top"):
        store.put(path, path.encode())
    assert [entry.path for entry in store.list("run/")] == ["run/a.json", "run/a/1", "run/b.json"]
    assert [entry.size for entry in store.list("run/")] == [10, 7, 10]
    assert len(list(store.list())) == 5
    assert list(store.list("nothing/")) == []


def test_an_entry_has_another_version_when_its_content_changed(store: Store) -> None:
    store.put("x", b"one")
    before = next(store.list())
    store.put("x", b"longer")
    assert next(store.list()).version != before.version


def test_a_store_holds_nothing_but_what_was_put_there(tmp_path: Path) -> None:
    store = Store((tmp_path / "store").as_uri())
    store.put("alias", b"1")
    assert store.replace("alias", b"2", store.get_tagged("alias")[1])
    assert [path.name for path in (tmp_path / "store").rglob("*")] == ["alias"]


def test_every_name_of_a_folder_comes_back_and_so_do_empty_files_and_folders(store: Store, tmp_path: Path) -> None:
    made = tmp_path / "model"
    (made / "empty" / "deep").mkdir(parents=True)
    for name in ("uv.lock", "nothing", ".hidden", "a b#c%d.txt", "grün.txt", "n" * 250):
        (made / name).write_bytes(b"" if name == "nothing" else b"x")
    store.put_file(made, "m")
    got = store.get_file("m", tmp_path / "got")
    assert sorted(p.relative_to(got).as_posix() for p in got.rglob("*")) == sorted(
        p.relative_to(made).as_posix() for p in made.rglob("*")
    )
    assert (got / "empty" / "deep").is_dir() and (got / "nothing").read_bytes() == b""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize(
    "odd",
    ["backslash", "newline", "not UTF-8", "link out", "link nowhere", "link to itself", "link to a folder", "pipe",
     "socket", "too long", "being written", "empty folder"],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_by_name_before_anything_is_written(tmp_path: Path, odd: str) -> None:
    made = tmp_path / "model"
    made.mkdir()
    (made / "a.txt").write_text("a")
    names = {
        "backslash": "a\\b",
        "newline": "a\nb",
        "not UTF-8": os.fsdecode(b"caf\xe9"),
        "too long": "n" * 251,
        "being written": "x#1",
    }
    name = {**names, "empty folder": ".empty-folder"}.get(odd, "odd")
    if odd.startswith("link"):
        targets = {"link out": "/etc/hostname", "link nowhere": "/nonexistent", "link to itself": name}
        (made / name).symlink_to(targets.get(odd, "."))
    elif odd == "pipe":
        os.mkfifo(made / name)
    elif odd == "socket":
        with socket.socket(socket.AF_UNIX) as made_here:
            made_here.bind(os.path.relpath(made / name))  # a path may have a hundred characters
    else:
        (made / name).write_text("x")
    store = Store((tmp_path / "store").as_uri())
    for act in (lambda: store.put_file(made, "m"), lambda: fetch(str(made), tmp_path / "got")):
        with pytest.raises(BadInput, match="in model cannot be kept: it") as raised:
            act()
        assert repr(name) in str(raised.value) and "write it as a plain file" in raised.value.fix
    assert list(store.list()) == [] and not (tmp_path / "got").exists()
    assert tree_digest(made).startswith("sha256:")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_is_no_file_is_not_copied(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, why in (("pipe", "It is neither a file nor a folder"), ("loop", "It is a link that leads nowhere")):
        with pytest.raises(BadInput, match=f"Cannot read .*{name}. {why}"):
            fetch(str(tmp_path / name), tmp_path / "got")


@pytest.mark.parametrize("url", ["s3:/bucket/x", "s3:bucket", "file:/x", "gs:/b"])
def test_a_store_with_too_few_slashes_is_not_taken_for_a_folder(url: str) -> None:
    with pytest.raises(BadInput, match="is not a URL"):
        Store(url)


def test_folder_goes_up_and_comes_down_the_same(store: Store, tmp_path: Path) -> None:
    made = tmp_path / "model"
    (made / "deep").mkdir(parents=True)
    (made / "a.txt").write_bytes(b"a" * 100_000)
    (made / "deep" / "b.bin").write_bytes(os.urandom(20_000_000))
    assert store.put_file(made, "artifacts/model") == store.uri("artifacts/model")
    got = store.get_file("artifacts/model", tmp_path / "got")
    assert tree_digest(got) == tree_digest(made)


def test_fetch_by_uri(where: tuple[str, StoreOptions], tmp_path: Path) -> None:
    url, options = where
    Store(url, options).put("data/x.csv", b"a,b\n")
    assert fetch(f"{url}/data/x.csv", tmp_path / "x.csv", options).read_bytes() == b"a,b\n"
    assert (fetch(f"{url}/data", tmp_path / "all", options) / "x.csv").read_bytes() == b"a,b\n"
    with pytest.raises(BadInput, match=r"Nothing found at .*/nope"):
        fetch(f"{url}/nope", tmp_path / "nope", options)


def test_blob_is_named_by_its_content_and_uploaded_once(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "model.joblib"
    file.write_bytes(b"bytes")
    digest = store.put_blob(file)
    assert digest == "sha256:" + hashlib.sha256(b"bytes").hexdigest()
    before = next(store.list("blobs/")).version
    assert store.put_blob(file) == digest
    assert next(store.list("blobs/")).version == before
    assert store.get(blob_path(digest)) == b"bytes"


@pytest.mark.parametrize("damage", [b"byt", b"BYTES", b"", None], ids=["cut off", "others", "empty", "gone"])
def test_damaged_blob_is_put_back_as_a_whole(store: Store, tmp_path: Path, damage: bytes | None) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"bytes")
    for source in (file, b"bytes"):
        path = blob_path(store.put_blob(source))
        if damage is None:
            store.delete(path)
        else:
            store.put(path, damage)
        assert blob_path(store.put_blob(source)) == path
        assert store.get(path) == b"bytes"


def test_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with _server(send=4_000, promised=8_000) as endpoint:
        store = Store("s3://bucket/p", StoreOptions(endpoint, settings=KEYS, timeout=2.0))
        (tmp_path / "target").write_bytes(b"before")
        with pytest.raises(RemoteFailed, match="Cannot use the store"):
            store.get_file("x", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target").read_bytes() == b"before"


def test_download_may_take_longer_than_the_time_for_an_answer(tmp_path: Path) -> None:
    with _server(send=8_000, promised=8_000, pause=0.4) as endpoint:
        store = Store("s3://bucket/p", StoreOptions(endpoint, settings=KEYS, timeout=1.0))
        began = time.monotonic()
        assert store.get_file("x", tmp_path / "target").stat().st_size == 8_000
    assert time.monotonic() - began > 1.5


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_killed_while_it_writes_to_a_folder_leaves_no_half_object(tmp_path: Path) -> None:
    code = (
        "import sys; from mlops_actions.stores.store import Store; s = Store(sys.argv[1]); print('ready', flush=True)\n"
        "while True: s.put('x', b'a' * 30_000_000); s.put('x', b'b' * 30_000_000)"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "scripts")}
    for wait in (0.05, 0.08, 0.13):
        child = subprocess.Popen([sys.executable, "-c", code, tmp_path.as_uri()], stdout=subprocess.PIPE, env=environ)
        assert child.stdout and child.stdout.readline() == b"ready\n"
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    store = Store(tmp_path.as_uri())
    assert {entry.path for entry in store.list()} <= {"x"}
    for entry in store.list():
        assert entry.size == 30_000_000
        assert len(set(store.get("x"))) == 1


def test_nobody_answers() -> None:
    with pytest.raises(RemoteFailed) as raised:
        _s3(f"http://127.0.0.1:{servers.free_port()}").get("x")
    assert "Cannot connect to the store s3://bucket/p at http://127.0.0.1:" in str(raised.value)
    assert "Connection refused" in raised.value.why or "refused" in raised.value.why
    assert raised.value.fix == "Check `store-endpoint`"


@pytest.mark.skipif(sys.platform != "linux", reason="a full backlog drops connections on Linux")
def test_packets_are_lost() -> None:
    """A firewall that drops packets: the client's own limit ends it, long before the system's of two minutes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        callers = [socket.socket() for _ in range(3)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        began = time.monotonic()
        with pytest.raises(RemoteFailed, match="Timed out waiting for a response"):
            _s3(f"http://127.0.0.1:{listener.getsockname()[1]}").put("x", b"1")
        assert time.monotonic() - began < 60
        for caller in callers:
            caller.close()


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str, status: str) -> None:
    with servers.raw(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()) as proxy:
        named = proxy.replace("//", "//me:word@")
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, named)
        monkeypatch.setenv("NO_PROXY", "")
        options = store_options(Inputs(store_endpoint=f"{scheme}://s3.example.com"), os.environ)
        with pytest.raises(RemoteFailed, match=f"through the proxy {proxy}") as caught:
            Store("s3://b/p", replace(options, settings=KEYS)).get("x")
    assert "word" not in str(caught.value) and "HTTPS_PROXY" in caught.value.fix


def test_host_that_does_not_exist() -> None:
    with pytest.raises(RemoteFailed, match=r"Cannot connect to the store .* Check `store-endpoint`"):
        _s3("http://no-such-host.invalid:9000").get("x")


def test_wrong_keys(s3: servers.S3) -> None:
    url = s3.new_store()
    acts: list[Callable[[Store], object]] = [
        lambda store: store.get("x"), lambda store: store.put("x", b""), lambda store: list(store.list()),
        lambda store: store.exists("x"), lambda store: store.create("x", b""),
    ]  # fmt: skip
    for keys in (replace(s3, secret_key="wrong-secret"), replace(s3, access_key="nobody")):
        for act in acts:
            with pytest.raises(RemoteFailed) as raised:
                act(Store(url, keys.options()))
            assert raised.value.what == f"Cannot use the store {url} at {s3.endpoint}: access denied"
            assert "AWS_SECRET_ACCESS_KEY" in raised.value.fix
            assert "{" not in raised.value.why and "\n" not in raised.value.why and len(raised.value.why) > 10


def test_bucket_that_does_not_exist(s3: servers.S3) -> None:
    store = Store("s3://no-such-bucket/prefix", s3.options())
    for act in (lambda: store.get("x"), lambda: store.put("x", b""), lambda: list(store.list("y/")),
                lambda: store.create("x", b"")):  # fmt: skip
        with pytest.raises(RemoteFailed) as raised:
            act()
        assert raised.value.what.startswith("The bucket 'no-such-bucket' does not exist in the store")
        assert "aws s3 mb s3://no-such-bucket" in raised.value.fix


def test_unknown_scheme() -> None:
    with pytest.raises(BadInput, match="has an unknown scheme"):
        Store("ftp://host/folder")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RemoteFailed, match="Cannot create"):
        Store((tmp_path / "store").as_uri())


def test_disk_is_full(small_disk: Path, tmp_path: Path) -> None:
    store = Store((small_disk / "store").as_uri())
    store.put("models/m/versions/1.json", b"{}")
    big = tmp_path / "big"
    big.write_bytes(b"x" * 2_000_000)
    for act in (lambda: store.put("x", b"x" * 2_000_000), lambda: store.put_blob(big),
                lambda: store.create("y", b"x" * 2_000_000)):  # fmt: skip
        with pytest.raises(RemoteFailed, match="No space left in the store"):
            act()
    assert [entry.path for entry in store.list()] == ["models/m/versions/1.json"]
    store.put("z", b"small")
    assert store.get("z") == b"small"


@pytest.mark.parametrize("size", [2_000_000, 100])
def test_disk_is_full_where_it_is_downloaded_to(small_disk: Path, tmp_path: Path, size: int) -> None:
    store = Store((tmp_path / "store").as_uri())
    store.put("x/y", b"x" * size)
    if size < 1_000_000:
        with suppress(OSError), (small_disk / "fill").open("wb") as file:
            file.write(bytes(2_000_000))
    copied: Callable[[str, Path], Path] = lambda path, target: fetch(str(tmp_path / "store" / path), target)  # noqa: E731
    for number, get in enumerate((store.get_file, copied)):
        for path in ("x/y", "x"):
            with pytest.raises(RemoteFailed, match=f"No space left in {small_disk}"):
                get(path, small_disk / f"{number}-{path[-1]}")


def _s3(endpoint: str) -> Store:
    return Store("s3://bucket/p", StoreOptions(endpoint, settings=KEYS))


class _server:
    """An HTTP server whose answer promises more than it sends, or takes its time."""

    def __init__(self, send: int, promised: int, pause: float = 0.0) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(promised))
                self.send_header("ETag", '"tag"')
                self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
                self.end_headers()
                for _ in range(send // 1_000):
                    self.wfile.write(b"x" * 1_000)
                    self.wfile.flush()
                    time.sleep(pause)
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._http.server_port}"

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()
