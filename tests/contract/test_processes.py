"""Process groups: what is started ends as a whole, however the process that started it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import docker_engine
from conftest import MLOPS, ROOT, Run
from feast_worlds import DEFINITIONS, make_shop
from mlops_actions.pipelines.local.processes import run_loop, run_process, together
from mlops_actions.processes.group import Group, end_found, end_group, guard
from mlops_actions.processes.identity import Identity, group_is_alive
from mlops_actions.processes.scratch import scratch
from mlops_actions.stores.lease import lease
from mlops_actions.stores.store import Store
from mlops_actions.waiting import wait_until
from proc import command_lines

pytestmark = pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX's")
SLOW = 120.0
"""Seconds that the first use of an action's environment may take."""
SOON = 15.0
"""Seconds that a killed run's processes may take to go on a busy machine."""

# Code of a consumer that does not want to end, and has started a process that does not either.
STUBBORN = """
import os, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
with open({mark!r} + ".part", "w") as file:
    file.write(f"{{os.getpid()}} {{child.pid}}")
os.replace({mark!r} + ".part", {mark!r})
time.sleep(600)
"""
PIPELINE = """
from kfp import dsl

@dsl.component
def work():
    with open({code!r}) as file:
        exec(file.read())

@dsl.pipeline(name="stubborn")
def pipeline():
    work()
"""
# Starts a group of a stubborn process and waits; with a lease where a store is given.
STARTER = """
import os, sys
from contextlib import nullcontext
from pathlib import Path
from mlops_actions.stores.lease import lease
from mlops_actions.processes.group import Group
from mlops_actions.stores.store import Store
held = lease(Store(sys.argv[2]), "locks/it", "the killed one", print) if len(sys.argv) > 2 else nullcontext()
with held:
    Group([sys.executable, sys.argv[1]], Path("/"), os.environ).process.wait()
"""


def identities(mark: Path, timeout: float = SLOW) -> list[Identity]:
    """The processes that wrote the mark."""
    assert wait_until(mark.exists, timeout), f"{mark.name} was not written"
    return [Identity.of(int(pid)) for pid in mark.read_text().split()]


def gone(processes: list[Identity], timeout: float = SOON) -> bool:
    return wait_until(lambda: not any(process.alive for process in processes), timeout)


def stubborn(folder: Path) -> tuple[Path, Path]:
    """A file with stubborn code, and the mark that it writes."""
    code, mark = folder / "stubborn.py", folder / "mark"
    code.write_text(STUBBORN.format(mark=str(mark)))
    return code, mark


def pipeline(folder: Path, code: Path) -> list[str]:
    (folder / "pipeline.py").write_text(PIPELINE.format(code=str(code)))
    return ["run-pipeline"]


def trial(folder: Path, code: Path) -> list[str]:
    experiment = yaml.safe_load((ROOT / "tests" / "data" / "katib" / "example-random.yaml").read_text())
    template = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    given = ["${trialParameters.learningRate}", "${trialParameters.momentum}"]  # each has to be used
    template["containers"][0]["command"] = ["python3", str(code), *given]
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    return ["tune-hyperparams", "--max-trials", "1"]


def model(folder: Path, code: Path) -> list[str]:
    (folder / "hooks.py").write_text(f"def load(path):\n    exec(open({str(code)!r}).read(), {{}})\n")
    (folder / "model.json").write_text("{}")
    (folder / "golden.csv").write_text("x,score\n1,2\n")
    return ["test-model", "--model-uri", "model.json", "--golden", "golden.csv", "--predict", "hooks.py:load"]


def features(folder: Path, code: Path) -> list[str]:
    (folder / "features" / "definitions.py").write_text(f"{DEFINITIONS}\nexec(open({str(code)!r}).read(), {{}})\n")
    return ["materialize-features"]


def prepare(folder: Path, code: Path) -> list[str]:
    return ["materialize-features", "--prepare", f"python {code}"]


def killed(command: list[str], folder: Path, mark: Path, **environ: str) -> list[Identity]:
    """Run an action until the stubborn code runs, and kill it; the processes of the stubborn code."""
    with (folder / "log").open("wb") as log:
        action = subprocess.Popen(
            [str(MLOPS), *command], cwd=folder, env={**os.environ, **environ}, stdout=log, stderr=log
        )
    wait_until(lambda: mark.exists() or action.poll() is not None, SLOW)
    assert mark.exists(), (folder / "log").read_text()
    started = identities(mark)
    assert os.getpgid(started[0].pid) != os.getpgid(action.pid)
    action.kill()
    action.wait()
    return started


@pytest.mark.parametrize("kind", [pipeline, trial, model, features, prepare])
def test_a_killed_action_leaves_no_process_of_the_consumers(
    kind: Callable[[Path, Path], list[str]], tmp_path: Path, mlops: Run
) -> None:
    shop = make_shop(tmp_path, mlops)
    code, mark = stubborn(tmp_path)
    assert gone(killed(kind(shop.root, code), shop.root, mark, **shop.environ))


def test_the_next_run_removes_the_temporary_files_of_a_killed_one(tmp_path: Path) -> None:
    code, mark = stubborn(tmp_path)
    temporary, folder = tmp_path / "tmp", tmp_path / "repository"
    temporary.mkdir()
    folder.mkdir()
    (temporary / "another's").write_text("")
    assert gone(killed(model(folder, code), folder, mark, TMPDIR=str(temporary)))
    assert [path for path in temporary.rglob("*") if "golden" in path.name]
    command = [str(MLOPS), "test-model", "--model-uri", "absent"]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "TMPDIR": str(temporary)}, check=False)
    assert done.returncode == 2
    assert [path.name for path in temporary.iterdir()] == ["another's"]


@pytest.mark.skipif(bool(docker_engine.missing()), reason=docker_engine.missing() or "-")
def test_a_killed_build_ends_with_its_steps(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox:test\nRUN echo begun && sleep 7531\n")

    def left() -> list[str]:
        marks = b"sleep\x007531", str(tmp_path / "Dockerfile").encode()
        return [line.decode() for line in command_lines() if any(mark in line for mark in marks)]

    with docker_engine.docker_engine() as engine, (tmp_path / "log").open("wb") as log:
        command = [str(MLOPS), "build-image", "--image", "killed", "--no-reuse"]
        action = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, **engine.environ}, stdout=log, stderr=log
        )  # fmt: skip
        begun = wait_until(lambda: any("sleep\x007531" in text for text in left()), SLOW)
        action.kill()
        action.wait()
        assert begun, (tmp_path / "log").read_text()
        assert wait_until(lambda: not left(), SOON), left()


def starter(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", STARTER, *map(str, arguments)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")}, start_new_session=True)


def test_a_process_that_is_killed_at_any_moment_of_a_start_leaves_nothing(tmp_path: Path) -> None:
    """The child tells the guard its group by itself, before it runs the program."""
    marks = []
    for number in range(6):
        code = tmp_path / f"{number}.py"
        mark = tmp_path / f"mark-{number}"
        code.write_text(STUBBORN.format(mark=str(mark)))
        holder = starter(code)
        wait_until(mark.exists, 0.1 * number)  # before, in the middle of, or after the start
        holder.kill()
        holder.wait()
        marks.append(mark)
    wait_until(lambda: all(mark.exists() for mark in marks), 3.0)
    assert gone([process for mark in marks if mark.exists() for process in identities(mark)])


def test_a_kill_of_the_whole_group_of_the_starter_does_not_reach_the_guard(tmp_path: Path) -> None:
    code, mark = stubborn(tmp_path)
    holder = starter(code)
    started = identities(mark)
    os.killpg(holder.pid, signal.SIGKILL)
    holder.wait()
    assert gone(started)


def test_a_lease_is_not_taken_over_while_a_process_of_its_killed_holder_is_at_work(tmp_path: Path) -> None:
    code, mark = stubborn(tmp_path)
    url = (tmp_path / "store").as_uri()
    holder = starter(code, url)
    started = identities(mark)
    assert all(process.alive for process in started)
    holder.kill()
    holder.wait()
    with lease(Store(url), "locks/it", "next", lambda text: None):
        assert not any(process.alive for process in started)


def test_leaving_the_block_ends_what_the_head_started_though_it_has_ended_itself(tmp_path: Path) -> None:
    code, mark = stubborn(tmp_path)
    start = f"import subprocess, sys; subprocess.Popen([sys.executable, {str(code)!r}])"
    with Group([sys.executable, "-c", start], tmp_path, os.environ, stdout=subprocess.DEVNULL) as group:
        started = identities(mark)
        assert group.wait(SOON) and all(process.alive for process in started)
    assert not any(process.alive for process in started)


def test_an_exception_in_the_block_ends_the_group(tmp_path: Path) -> None:
    code, mark = stubborn(tmp_path)
    with pytest.raises(KeyError), Group([sys.executable, str(code)], tmp_path, os.environ):
        started = identities(mark)
        raise KeyError
    assert not any(process.alive for process in started)


def test_a_group_that_ends_when_it_is_asked_is_not_killed(tmp_path: Path) -> None:
    ends = "import signal, sys; signal.signal(2, lambda *_: sys.exit(7)); print('ready', flush=True); signal.pause()"
    group = Group([sys.executable, "-c", ends], tmp_path, os.environ)
    assert next(group.lines()) == "ready"
    group.end(grace=SOON, ask=signal.SIGINT)
    assert group.process.returncode == 7


def test_lines_come_as_they_are_printed_and_the_input_is_given(tmp_path: Path) -> None:
    code = "import sys; print('one', flush=True); print(sys.stdin.read()); print('no', file=sys.stderr); sys.exit(7)"
    with (
        (tmp_path / "log").open("wb") as log,
        Group([sys.executable, "-c", code], tmp_path, os.environ, stdin=subprocess.PIPE, stderr=log) as group,
    ):
        assert list(group.lines(b"given")) == ["one", "given"]
        assert group.process.wait() == 7
    assert (tmp_path / "log").read_text().strip() == "no"


def test_a_program_that_does_not_exist_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Group(["no-such-program"], tmp_path, os.environ)


def test_one_guard_for_all_groups_which_is_replaced_when_it_was_killed(tmp_path: Path) -> None:
    first = guard()
    assert first.alive and guard() == first
    os.kill(first.pid, signal.SIGKILL)
    assert wait_until(lambda: not first.alive, SOON)
    assert guard().alive and guard() != first


def test_a_process_is_known_by_number_and_start() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        known = Identity.of(child.pid)
        assert known.alive
        for stranger in (Identity(child.pid, "another start"), Identity(child.pid, "")):
            assert not stranger.alive
            end_found(stranger)
        assert child.poll() is None, "a stranger with the same number must live"
        end_found(known)
        assert not known.alive
        assert child.wait(SOON) == -signal.SIGTERM
    finally:
        child.kill()
        child.wait()


LEFT_BY_ITS_FIRST_THREAD = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_whose_first_thread_has_ended_before_the_others_is_alive() -> None:
    """One that is killed is so for a moment, and still has its port."""
    with subprocess.Popen([sys.executable, "-c", LEFT_BY_ITS_FIRST_THREAD], start_new_session=True) as child:
        try:
            stat = Path(f"/proc/{child.pid}/stat")
            assert wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", SOON)
            known = Identity.of(child.pid)
            assert known.alive and group_is_alive(child.pid)
        finally:
            child.kill()
        assert wait_until(lambda: not known.alive and not group_is_alive(child.pid), SOON)


def test_what_has_ended_and_was_not_waited_for_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    known = Identity.of(child.pid)
    assert known.alive and group_is_alive(child.pid)
    assert child.stdin
    child.stdin.close()
    assert wait_until(lambda: not known.alive and not group_is_alive(child.pid), SOON)
    end_group(child.pid)  # at once: there is nobody to wait for
    child.wait()


def test_only_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    hold = "import sys; from pathlib import Path; from mlops_actions.processes.scratch import scratch\n"
    hold += "with scratch(Path(sys.argv[1])) as folder: print(folder, flush=True); input()"
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", hold, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    left, held = (Path(holder.stdout.readline().strip()) for holder in holders if holder.stdout)
    holders[0].kill()
    holders[0].wait()
    old, recent = (left.with_name(f"mlops-00000000-{number}-00000000-x") for number in (1, 2))
    for folder in (old, recent):  # of another container
        folder.mkdir()
    os.utime(old, (0, 0))
    (tmp_path / "mlops-other").mkdir()
    with scratch(tmp_path) as mine:
        assert {path.name for path in tmp_path.iterdir()} == {mine.name, held.name, recent.name, "mlops-other"}
    assert not mine.exists()
    holders[1].communicate("\n")
    assert not held.exists()


@pytest.mark.parametrize("at_once", [True, False])
def test_an_interrupted_loop_leaves_no_process(tmp_path: Path, at_once: bool) -> None:
    ready = tmp_path / "ready"

    def tick() -> None:
        if at_once or ready.exists():
            raise KeyboardInterrupt

    async def several() -> None:
        obedient = f"import time; '{tmp_path}'; time.sleep(60)"
        stubborn = f"import signal, pathlib; signal.signal(15, signal.SIG_IGN); pathlib.Path({str(ready)!r}).touch()"
        commands = [[sys.executable, "-c", program] for program in (obedient, f"{stubborn}; {obedient}")]
        await together(run_process(command, tmp_path, os.environ, tmp_path / "log", print, str) for command in commands)

    with pytest.raises(KeyboardInterrupt):
        run_loop(several(), tick)
    listed = subprocess.run(["ps", "-axww", "-o", "stat=,args="], capture_output=True, text=True, check=True).stdout
    assert [line for line in listed.splitlines() if f"'{tmp_path}'" in line and not line.startswith("Z")] == []
