"""Take examples/flight-delays through `.github/workflows/mlops.yml` on this machine, and say where the results are.

act executes the workflow, SeaweedFS is the S3 store, the engines are the embedded ones, the data is real. State is kept
in one folder (MLOPS_DEMO, by default in the user's data folder), so that a second run finds what the first one did.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

from mlops_actions import environments  # noqa: E402
from mlops_actions.processes.identity import Identity  # noqa: E402
from mlops_actions.serving.process import end, running  # noqa: E402

DATA = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
STATE = Path(os.environ.get("MLOPS_DEMO") or DATA / "mlops-actions-demo")
BUCKET = "mlops"
ACCESS, SECRET = "demo", "demo-secret-key"
OWNER = "mlops-actions/mlops-actions"
BIN = Path(sys.executable).parent
COMMAND = re.compile(r"::(?P<kind>[a-z-]+)(?: [^:]*(?::[^:]+)*?)?::(?P<text>.*)$")
NAMES = re.compile(r"^\[(?P<where>[^\]]+)\]\s?(?P<text>.*)$")


def main() -> int:
    """Parse the arguments and run the demo; the exit code is act's."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.split("\n")[0])
    parser.add_argument("--stop", action="store_true", help="end the servers that the demo left running")
    parser.add_argument("--clean", action="store_true", help="with --stop: delete the demo's state too")
    parser.add_argument("--verbose", action="store_true", help="show everything that act prints")
    parser.add_argument("--event", default="push", choices=["push", "pull_request", "workflow_dispatch"])
    parser.add_argument("--input", action="append", default=[], metavar="NAME=VALUE", help="of a workflow_dispatch")
    parser.add_argument("--example", default="flight-delays", choices=["flight-delays", "minimal"])
    options = parser.parse_args()
    if options.stop:
        return stop(clean=options.clean)
    began = time.monotonic()
    STATE.mkdir(parents=True, exist_ok=True)
    endpoint = start_store()
    os.environ.update(
        AWS_ACCESS_KEY_ID=ACCESS,
        AWS_SECRET_ACCESS_KEY=SECRET,
        AWS_REGION="us-east-1",
        MLOPS_STORE=f"s3://{BUCKET}/{options.example}",
        MLOPS_STORE_ENDPOINT=endpoint,
        MLOPS_HOME=str(STATE / "home"),
    )
    ingest(options.example)
    consumer = copy_consumer(options.example)
    actions = STATE / "actions"
    subprocess.run([sys.executable, HERE / "rewrite-uses", "copy", actions], check=True, stdout=subprocess.DEVNULL)
    prepared = time.monotonic()
    say(f"Prepared in {prepared - began:.0f} s. Now act runs the workflow; its whole log is {STATE / 'act.log'}")
    code = run_act(consumer, actions, options)
    say(f"The chain took {time.monotonic() - prepared:.0f} s, exit code {code}")
    show_results(endpoint, options.example)
    say(f"Done in {time.monotonic() - began:.0f} s")
    return code


def start_store() -> str:
    """Start SeaweedFS's S3 server unless it runs, and make the bucket; its URL."""
    running = read_pid("store")
    if running:
        port = int((STATE / "store.port").read_text())
        say(f"The object store runs at http://127.0.0.1:{port}")
        return f"http://127.0.0.1:{port}"
    began = time.monotonic()
    ports = free_ports(4)
    folder = STATE / "store"
    folder.mkdir(exist_ok=True)
    identity = {"name": "demo", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}], "actions": ["Admin"]}
    keys = STATE / "s3.json"
    keys.touch(mode=0o600)
    keys.write_text(json.dumps({"identities": [identity]}))
    names = ("-master.port", "-volume.port", "-filer.port", "-s3.port")
    chosen = [f"{name}={port}" for name, port in zip(names, ports)]
    command = [BIN / "weed", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-s3", "-filer"]
    grpc = [f"-{name}.port.grpc={port}" for name, port in zip(("master", "volume", "filer", "s3"), free_ports(4))]
    quiet = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", f"-filer.localSocket={STATE / 'filer.sock'}"]
    limits = ["-master.telemetry=false", "-master.volumeSizeLimitMB=256", "-volume.max=0", f"-s3.config={keys}"]
    log = (STATE / "store.log").open("ab")
    process = subprocess.Popen(
        [*command, *chosen, *grpc, *quiet, *limits],
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    write_pid("store", process.pid)
    (STATE / "store.port").write_text(str(ports[3]))
    endpoint = f"http://127.0.0.1:{ports[3]}"
    make_bucket(ports[3], process)
    say(f"Started an S3 server (SeaweedFS) at {endpoint} in {time.monotonic() - began:.1f} s")
    return endpoint


def make_bucket(port: int, process: subprocess.Popen[bytes]) -> None:
    """Make the bucket, and wait until the server writes, and reads what an earlier demo wrote.

    It answers before it knows its volumes, and says internal error to whoever reads then.
    """
    from minio import Minio
    from urllib3 import PoolManager, Retry, Timeout

    http = PoolManager(timeout=Timeout(5), retries=Retry(0))
    client = Minio(f"127.0.0.1:{port}", access_key=ACCESS, secret_key=SECRET, secure=False, http_client=http)
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            if not client.bucket_exists(BUCKET):
                client.make_bucket(BUCKET)
            client.put_object(BUCKET, "ready", io.BytesIO(b"1"), 1)
            for item in itertools.islice(client.list_objects(BUCKET, recursive=True), 20):
                client.get_object(BUCKET, item.object_name).read()
            return
        except Exception:
            time.sleep(0.2)
    tail = (STATE / "store.log").read_text(errors="replace")[-1500:]
    raise SystemExit(f"{tail}\nThe object store did not start; its log is {STATE / 'store.log'}")


def ingest(example: str) -> None:
    """Bring the raw data into the store, as a company's ingestion would."""
    script = ROOT / "examples" / example / "ingest.py"
    if not script.exists():
        return
    began = time.monotonic()
    header = re.search(r"dependencies = \[(.*?)\]", script.read_text(), re.DOTALL)
    packages = re.findall(r'"([^"]+)"', header.group(1)) if header else []
    try:
        made = environments.ensure("", environments.cache_folder(), packages=packages, say=say)
    except environments.EnvironmentFailed as error:
        raise SystemExit(f"demo: {error}") from None
    if subprocess.run([made.python, script, os.environ["MLOPS_STORE"]], check=False).returncode:
        raise SystemExit(
            "demo: the raw data could not be brought to the store; `scripts/demo --stop --clean` starts anew"
        )
    say(f"Raw data is in {os.environ['MLOPS_STORE']} ({time.monotonic() - began:.1f} s)")


def copy_consumer(example: str) -> Path:
    """The example as a repository of its own, with a commit for each state it is run in."""
    target = STATE / "consumer" / example
    source = ROOT / "examples" / example
    target.mkdir(parents=True, exist_ok=True)
    for item in target.iterdir():
        if item.name != ".git":
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    ignore = shutil.ignore_patterns("__pycache__", ".git", "*.pyc")
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignore)
    identity = ["-c", "user.name=demo", "-c", "user.email=demo@example.invalid", "-c", "commit.gpgsign=false"]
    git = ["git", "-C", str(target)]
    if not (target / ".git").exists():
        subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], check=True)
        subprocess.run([*git, "remote", "add", "origin", f"https://github.com/example/{example}.git"], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    if subprocess.run([*git, "diff", "--cached", "--quiet"], check=False).returncode:
        subprocess.run([*git, *identity, "commit", "--quiet", "-m", "The example as it is"], check=True)
    return target


def cache_commit(actions: Path) -> str:
    """The commit of actions/cache that the actions name."""
    text = (actions / "actions" / "plan" / "action.yml").read_text(encoding="utf-8")
    return text.partition("actions/cache/restore@")[2].split()[0]


def run_act(consumer: Path, actions: Path, options: argparse.Namespace) -> int:
    """Run the consumer's workflow in act's host mode, showing our actions' own lines."""
    shutil.rmtree(STATE / "act", ignore_errors=True)  # act leaves the workspaces of jobs that failed
    event = {
        "repository": {"default_branch": "main"},
        "inputs": dict(item.split("=", 1) for item in options.input),
    }
    if options.event == "pull_request":
        head = {"ref": "change", "repo": {"full_name": f"example/{options.example}"}}
        event["pull_request"] = {"number": 1, "head": head, "base": {"ref": "main"}}
    event_file = STATE / "event.json"
    event_file.write_text(json.dumps(event))
    secrets = STATE / "secrets"
    secrets.touch(mode=0o600)
    secrets.write_text(f"AWS_ACCESS_KEY_ID={ACCESS}\nAWS_SECRET_ACCESS_KEY={SECRET}\n")
    command = [str(BIN / "act"), options.event, "--workflows", ".github/workflows/mlops.yml"]
    command += ["--platform", "ubuntu-latest=-self-hosted", "--eventpath", str(event_file), "--no-cache-server"]
    command += ["--local-repository", f"{OWNER}@v1={actions}", "--local-repository", f"{OWNER}@act={actions}"]
    command += ["--local-repository", f"actions/cache@{cache_commit(actions)}={actions / 'scripts' / 'act' / 'cache'}"]
    command += ["--secret-file", str(secrets), "--concurrent-jobs", "2", "--defaultbranch", "main"]
    command += ["--var", f"MLOPS_STORE={os.environ['MLOPS_STORE']}"]
    command += ["--var", f"MLOPS_STORE_ENDPOINT={os.environ['MLOPS_STORE_ENDPOINT']}"]
    command += ["--action-cache-path", str(STATE / "act")]
    # The keys reach the jobs as secrets, as they would on GitHub; MLOPS_HOME is inherited.
    hidden = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLOPS_STORE", "MLOPS_STORE_ENDPOINT", "MLOPS_DEMO")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    with (STATE / "act.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=consumer, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace",
        )  # fmt: skip
        assert process.stdout
        try:
            for line in process.stdout:
                log.write(line)
                for shown in [line.rstrip()] if options.verbose else condensed(line):
                    print(shown, flush=True)
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            return process.wait() or 130


def condensed(line: str) -> Iterator[str]:
    """What a person wants to see of act's output: the jobs' own lines, failures and skipped jobs."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line.rstrip())
    found = NAMES.match(plain)
    if not found:
        if plain.startswith("Error"):
            yield plain
        return
    job = found["where"].split("/")[-1].strip()
    text = found["text"].strip()
    if text.startswith("|"):
        yield f"{job:<12} {text[1:].strip()}"
    elif command := COMMAND.search(text):
        if command["kind"] in ("error", "warning", "notice"):
            words = command["text"].replace("%0A", "\n").replace("%25", "%").splitlines()
            yield f"{job:<12} {command['kind']}: {words[0]}"
            yield from (f"{job:<12}   {line}" for line in words[1:])
    elif "Job failed" in text or "Skipping" in text:
        yield f"{job:<12} {text}"


def show_results(endpoint: str, example: str) -> None:
    """Say where the results of the last run are."""
    records = last_records(endpoint, example)
    if not records:
        say("No action left a record: see the log")
        return

    def out(action: str, name: str) -> Any:
        return records.get(action, {}).get("outputs", {}).get(name, "")

    rows = [
        ("model", f"{records.get('register-model', {}).get('inputs', {}).get('model') or example}"
         f" version {out('register-model', 'version')}"),
        ("model URI", out("register-model", "model-uri")),
        ("metrics", json.dumps(out("evaluate-model", "metrics") or out("run-pipeline", "metrics"))),
        ("served at", out("deploy-model", "url")),
        ("try it", out("deploy-model", "curl")),
        ("drift", records.get("monitor-model", {}).get("reason", "")),
        ("report", str(STATE / "home" / "reports" / str(records["run"]) / "report.md")),
        ("page", str(STATE / "home" / "reports" / str(records["run"]) / "report.html")),
        ("reused", ", ".join(name for name, r in records.items() if isinstance(r, dict) and r.get("reused"))),
    ]  # fmt: skip
    print()
    for name, value in rows:
        if value:
            print(f"{name:<10} {value}")
    print(f"{'store':<10} {os.environ['MLOPS_STORE']} at {endpoint} (keys {ACCESS} / {SECRET})")
    print(f"{'to stop':<10} scripts/demo --stop\n")


def last_records(endpoint: str, example: str) -> dict[str, Any]:
    """The records of the newest run in the store, by action."""
    from minio import Minio

    client = Minio(endpoint.split("//")[1], access_key=ACCESS, secret_key=SECRET, secure=False)
    names = [o.object_name for o in client.list_objects(BUCKET, f"{example}/runs/", recursive=True)]
    runs = sorted({name.split("/")[2] for name in names})
    found: dict[str, Any] = {"run": runs[-1]} if runs else {}
    for name in names:
        if runs and name.split("/")[2] == runs[-1]:
            record = json.loads(client.get_object(BUCKET, name).data)
            found[record["action"]] = record
    return found


def stop(*, clean: bool) -> int:
    """End the model server and the store."""
    for folder in (STATE / "home" / "serving").glob("*/releases/*"):
        if server := running(folder):
            end(server)
            say("Stopped the model server")
    pid = read_pid("store")
    if pid:
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            if not read_pid("store"):
                break
            time.sleep(0.1)
        else:
            os.kill(pid, signal.SIGKILL)
        (STATE / "store.pid").unlink()
        say("Stopped the object store")
    if clean:
        shutil.rmtree(STATE, ignore_errors=True)
        say(f"Deleted {STATE}")
    return 0


def write_pid(name: str, pid: int) -> None:
    """Remember a process."""
    (STATE / f"{name}.pid").write_text(f"{pid} {Identity.of(pid).started}")


def read_pid(name: str) -> int:
    """The number of a remembered process that still runs, or 0."""
    try:
        pid, _, start = (STATE / f"{name}.pid").read_text().partition(" ")
    except FileNotFoundError:
        return 0
    return int(pid) if Identity(int(pid), start).alive else 0


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below the range that outgoing connections take."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def say(text: str) -> None:
    """A line of progress."""
    print(f"demo: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
