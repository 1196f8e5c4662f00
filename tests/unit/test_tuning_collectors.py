"""Metrics are read where a trial reports them, while it runs and at its end, as Katib's collectors read them."""

import http.server
import json
import struct
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from event_files import event, field, tensor
from mlops_actions.tuning import collectors
from mlops_actions.tuning.collectors import EventFiles, JsonFile, Outputs, Prometheus, TextFile, Unreadable
from mlops_actions.tuning.experiment import MetricsCollector

KATIB = Path(__file__).resolve().parents[1] / "data" / "katib"


def values(found: list[Any]) -> list[tuple[str, float]]:
    return [(observation.name, observation.value) for observation in found]


def test_lines_are_read_as_they_come_and_half_a_line_waits(tmp_path: Path) -> None:
    reader = TextFile(tmp_path / "log", ["loss"], [])
    assert reader.read() == []
    with (tmp_path / "log").open("a") as log:
        log.write("loss=3\nloss=2\nlos")
        log.flush()
        assert values(reader.read()) == [("loss", 3.0), ("loss", 2.0)]
        log.write("s=1")
        log.flush()
        assert reader.read() == []
    assert values(reader.read(ended=True)) == [("loss", 1.0)]


def test_file_in_json_has_its_values_as_text_and_times_of_both_kinds(tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    file.write_text(
        '{"loss": "0.5", "epoch": "1", "timestamp": 1638422847.5}\n\n'
        '{"loss": "nan", "accuracy": "0.9", "timestamp": "2021-12-02T05:27:28Z"}\n'
    )
    found = JsonFile(file, ["loss", "accuracy"]).read(ended=True)
    assert values(found) == [("loss", 0.5), ("accuracy", 0.9)]
    assert found[0].when == datetime(2021, 12, 2, 5, 27, 27, 500000, tzinfo=timezone.utc)
    assert found[1].when == datetime(2021, 12, 2, 5, 27, 28, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("loss=1", "line 1 of its metrics file is not JSON"),
        ("[1]", "line 1 of its metrics file is not a JSON object"),
        ('{"loss": 1.5}', 'Katib reads only text: write "1.5" in quotes'),
    ],
)
def test_wrong_line_of_json_is_said(line: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text(line + "\n")
    with pytest.raises(Unreadable, match=why):
        JsonFile(tmp_path / "metrics", ["loss"]).read(ended=True)


def test_scalars_of_event_files_are_read_in_every_form_as_they_grow(tmp_path: Path) -> None:
    version = struct.pack("<Q", 17) + b"crc1" + field(1, 1.0, kind="double") + field(3, b"brain."[:6]) + b"crc2"
    (tmp_path / "run" / "test").mkdir(parents=True)
    file = tmp_path / "run" / "test" / "events.out.tfevents.1"
    file.write_bytes(version + event(10.5, "loss", field(2, 0.5)) + event(11.0, "loss_1", tensor(0.25, "content")))
    (tmp_path / "run" / "notes.txt").write_text("these are no events")
    reader = EventFiles(tmp_path / "run", ["loss", "test/loss", "train/loss"])
    found = reader.read()
    assert values(found) == [("loss", 0.5), ("test/loss", 0.5), ("loss", 0.25), ("test/loss", 0.25)]
    assert found[0].when == datetime(1970, 1, 1, 0, 0, 10, 500000, tzinfo=timezone.utc)
    more = event(12.0, "loss", tensor(0.125, "double")) + event(13.0, "loss", tensor(0.0625, "float"))
    with file.open("ab") as grown:
        grown.write(more[:-3])
    assert values(reader.read())[::2] == [("loss", 0.125)]
    with file.open("ab") as grown:
        grown.write(more[-3:] + event(14.0, "image", field(4, b"png")))
    assert values(reader.read(ended=True))[::2] == [("loss", 0.0625)]


@pytest.fixture
def exporter() -> Iterator[tuple[int, list[str]]]:
    """A server of metrics in Prometheus' format; what it was asked for, with the header `Accept`."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers.get('X-Team')}")
            body = f'# TYPE loss gauge\nloss{{epoch="1"}} {1 / len(asked)}\nother 5\nloss_total nan\n'.encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()


def test_http_port_of_a_trial_is_asked_until_it_ends(
    exporter: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collectors, "POLL", 0.3)
    port, asked = exporter
    get = {"path": "/m", "port": port, "httpHeaders": [{"name": "X-Team", "value": "a"}]}
    spec = {"source": {"httpGet": get}, "collector": {"kind": "PrometheusMetric"}}
    known: list[str] = []
    reader = Prometheus(lambda: known[0] if known else "", MetricsCollector.model_validate(spec), ["loss"])
    known.append(f"127.0.0.1:{port}")
    found: list[Any] = []
    deadline = time.monotonic() + 20
    while len(found) < 2 and time.monotonic() < deadline:
        found += reader.read()
        time.sleep(0.05)
    reader.close()
    assert values(found)[:2] == [("loss", 1.0), ("loss", 0.5)]
    assert asked[0] == "/m a"
    assert found[0].when <= found[1].when


def test_outputs_of_a_pipeline_are_its_metrics_when_it_has_ended(tmp_path: Path) -> None:
    (tmp_path / "out").write_text(json.dumps({"metrics": {"loss": 0.5, "other": 1}}))
    reader = Outputs(tmp_path / "out", ["loss", "accuracy"])
    assert reader.read() == []
    assert values(reader.read(ended=True)) == [("loss", 0.5)]
