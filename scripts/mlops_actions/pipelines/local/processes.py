"""Processes and blocking work of an event loop, which ends with everything in it when its starter is interrupted."""

from __future__ import annotations

import asyncio
import codecs
import signal
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ...processes.group import KILL, forget, group_options, signal_group

_PATIENCE = 1.5
"""Seconds between asking a group to end and killing it: a cancelled job has 7.5 s in all."""
_LINGER = 2.0
"""Seconds that output is read after a process has ended, from what it left running."""
_LONGEST_LINE = 64 * 1024
_TICK = 0.1
_ENDING = 5.0
"""Seconds that everything in a loop may take to end."""
T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T], tick: Callable[[], None]) -> T:
    """Run a coroutine in a thread of its own, until it is done or this thread is interrupted.

    Args:
        main: the coroutine.
        tick: called in this thread now and then; what it raises ends the coroutine.

    A signal's handler raises wherever its thread is at work. In an event loop that may be a callback, and the exception
    would be lost; so the loop has a thread of its own, and is cancelled from here.
    """
    done = threading.Event()
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[T]]] = []
    results: list[T] = []
    errors: list[BaseException] = []

    async def body() -> T:
        task = asyncio.ensure_future(main)
        started.append((asyncio.get_running_loop(), task))
        return await task

    def thread() -> None:
        try:
            results.append(asyncio.run(body()))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=thread, daemon=True).start()
    try:
        while not done.wait(_TICK):
            tick()
    except BaseException:
        for loop, task in started:
            if not done.is_set():
                loop.call_soon_threadsafe(task.cancel)
        done.wait(_ENDING)
        raise
    for error in errors:
        raise error
    return results[0]


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do several things at once; their results in order. When one raises, or this is cancelled, all others are ended.

    Each is cancelled once and then waited for: `asyncio.gather` goes on with the first that has ended, and a second
    cancel, with the loop's end, would interrupt the others while they end their processes.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for error in (task.exception() for task in tasks if not task.cancelled()):
        if error:
            raise error
    return [task.result() for task in tasks]


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Do blocking work in a thread that holds nothing back when the loop is cancelled."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def thread() -> None:
        result, error = None, None
        try:
            result = work(*arguments)
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # the loop has been cancelled
            pass

    threading.Thread(target=thread, daemon=True).start()
    return await future


async def run_process(
    command: Sequence[str],
    folder: Path,
    environ: Mapping[str, str],
    log: Path,
    line: Callable[[str], None],
    hide: Callable[[str], str],
) -> int:
    """Run a process to its end, with all that it starts; its exit code, negative for a signal.

    Its standard input is a pipe that closes when this process is gone, however that happens.

    Args:
        command: its words.
        folder: where it runs.
        environ: its variables.
        log: the file that its output is added to.
        line: told each line of its output.
        hide: takes what must not be seen out of a line before it is written to the file.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environ),
            **group_options(),
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:  # in the middle of the start: nobody else would end what has been started
        await _end(await starting)
        raise
    reading = asyncio.ensure_future(_read(process, log, line, hide))
    try:
        code = await process.wait()
        await asyncio.wait([reading], timeout=_LINGER)
        return code
    finally:
        await _end(process)
        await asyncio.wait([reading], timeout=_LINGER)
        reading.cancel()


async def _read(
    process: asyncio.subprocess.Process, log: Path, line: Callable[[str], None], hide: Callable[[str], str]
) -> None:
    assert process.stdout
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    with log.open("a", encoding="utf-8") as file:
        while chunk := await process.stdout.read(_LONGEST_LINE):
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            if len(rest) > _LONGEST_LINE:
                lines, rest = [*lines, rest], ""
            file.writelines(f"{hide(each)}\n" for each in lines)
            file.flush()
            for each in lines:
                line(each.rstrip("\r"))
        if rest:
            file.write(hide(rest))
            line(rest)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process that is still there, and what it has left behind."""
    if process.returncode is None and signal_group(process.pid, signal.SIGTERM):
        try:
            await asyncio.wait_for(process.wait(), _PATIENCE)
        except asyncio.TimeoutError:
            pass
    signal_group(process.pid, KILL)
    await process.wait()
    forget(process.pid)
    if process.stdin:  # closed here and not with the loop, which may be gone by then
        process.stdin.close()
        with suppress(BrokenPipeError, ConnectionResetError):
            await process.stdin.wait_closed()
