"""The worker's line to the process that started it: commands and answers in, events and questions out, as JSON lines.

Standard output is kept for events: whatever else is printed goes to standard error. When the other end is gone, so is
this process; what it started ends with its group.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from itertools import count
from typing import Any


class Channel:
    """Both directions of the line. Safe to use from several threads."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._writing = threading.Lock()
        self._commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self._answers: dict[int, queue.Queue[Any]] = {}
        self._numbers = count()
        threading.Thread(target=self._read, daemon=True).start()

    def tell(self, event: str, **values: Any) -> None:
        """Send an event."""
        line = json.dumps({"event": event, **values}, default=str)
        with self._writing:
            self._out.write(line + "\n")
            self._out.flush()

    def ask(self, question: str, **values: Any) -> Any:
        """Send a question and wait for its answer."""
        number = next(self._numbers)
        answer = self._answers[number] = queue.Queue()
        self.tell(question, number=number, **values)
        return answer.get()

    def command(self) -> dict[str, Any]:
        """Wait for the next command."""
        return self._commands.get()

    def _read(self) -> None:
        with os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8") as lines:
            for line in lines:
                message = json.loads(line)
                if "answer" in message:
                    self._answers.pop(message["number"]).put(message["answer"])
                else:
                    self._commands.put(message)
        os._exit(1)
