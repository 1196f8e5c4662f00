"""Metrics are read where a trial reports them, while it runs and at its end, as Katib's collectors read them."""

import http.server
import json
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_actions.tuning.collectors import EventFiles, JsonFile, Outputs, Prometheus, TextFile, Unreadable
from mlops_actions.tuning.engine import Outcome, Request, Site, Trial
from mlops_actions.tuning.experiment import Experiment, MetricsCollector
from mlops_actions.tuning.local import LocalEngine
from mlops_actions.tuning.reading import Document

KATIB = Path(__file__).resolve().parents[1] / "data" / "katib"


class Silent:
    def resumed(self, trials: list[Trial]) -> None: ...

    def started(self, trial: Trial, running: int) -> None: ...

    def finished(self, trial: Trial, best: Trial | None, done: int) -> None: ...

    def interrupted(self, best: Trial | None, done: int) -> None: ...


def example(name: str, program: str, folder: Path, **request: Any) -> Outcome:
    """One of Katib's examples, with a program of this machine for the training in the image."""
    values = yaml.safe_load((KATIB / f"example-{name}.yaml").read_text())
    values["spec"]["objective"].pop("goal")
    container = values["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container["command"] = [sys.executable, "-c", program, *container["command"][2:]]
    document = Document("experiment.yaml", values, Experiment.model_validate(values), {})
    made = Request(document, "key", **{"parallel": 2, "max_trials": 2, **request})
    return LocalEngine(Site(folder, dict(os.environ), folder / "state")).run(made, Silent())


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


def varint(value: int) -> bytes:
    found = b""
    while value >= 0x80:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def field(number: int, value: bytes | int | float, *, kind: str = "") -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        packed = struct.pack("<d" if kind == "double" else "<f", value)
        return varint(number << 3 | (1 if kind == "double" else 5)) + packed
    return varint(number << 3 | 2) + varint(len(value)) + value


def event(when: float, tag: str, value: bytes) -> bytes:
    """A record of an event file, as TensorFlow and PyTorch write it; checksums are not looked at."""
    summary = field(5, field(1, field(1, tag.encode()) + value))
    message = field(1, when, kind="double") + field(2, 7) + summary
    return struct.pack("<Q", len(message)) + b"crc1" + message + b"crc2"


def tensor(value: float, kind: str) -> bytes:
    shape = field(2, b"")
    if kind == "content":
        return field(8, field(1, 1) + shape + field(4, struct.pack("<f", value)))
    if kind == "double":
        return field(8, field(1, 2) + shape + field(6, struct.pack("<d", value)))
    return field(8, field(1, 1) + shape + field(5, value))


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


def test_http_port_of_a_trial_is_asked_until_it_ends(exporter: tuple[int, list[str]], tmp_path: Path) -> None:
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


WRITE = """
import pathlib, sys
given = dict(word[2:].split("=", 1) for word in sys.argv[1:])
path = pathlib.Path(given["log-path"])
for value in (0.9, 0.5, 0.7):
    with path.open("a") as log:
        log.write({line} + "\\n")
"""


def test_katibs_example_with_a_file_has_one_of_its_own_for_each_trial(tmp_path: Path) -> None:
    line = '"{metricName: accuracy, metricValue: %s}" % value'
    outcome = example("file-metrics-collector", WRITE.replace("{line}", line), tmp_path)
    assert [trial.metrics for trial in outcome.trials] == [{"accuracy": 0.9}] * 2
    for trial in outcome.trials:
        own = tmp_path / "state" / "trials" / trial.name / "metrics" / "mnist.log"
        assert len(own.read_text().splitlines()) == 3


def test_katibs_example_with_a_file_in_json_is_read(tmp_path: Path) -> None:
    line = '\'{"accuracy": "%s", "loss": "1"}\' % value'
    outcome = example("median-stop-with-json-format", WRITE.replace("{line}", line), tmp_path)
    assert [trial.metrics for trial in outcome.trials] == [{"accuracy": 0.9, "loss": 1.0}] * 2


def test_katibs_example_with_event_files_is_read(tmp_path: Path) -> None:
    record = event(1.0, "accuracy_1", field(2, 0.75))
    program = f"""
import pathlib, sys
given = dict(word[2:].split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(given["log_dir"])
folder.mkdir()
(folder / "events.out.tfevents.1").write_bytes({record!r})
"""
    outcome = example("tfevent-metrics-collector", program, tmp_path)
    assert outcome.best.metrics == {"accuracy_1": 0.75}


def test_katibs_example_with_metadata_gets_it(tmp_path: Path) -> None:
    program = """
import os
assert os.environ["TRIAL_NAME"] == os.environ["KATIB_TRIAL_NAME"]
names = ("NAMESPACE", "KIND", "API_VERSION", "LABEL_CUSTOM", "ANNOTATION_CUSTOM")
assert [os.environ["TRIAL_" + n] for n in names] == ["kubeflow", "Job", "batch/v1", "custom-label", "custom-annotation"]
print("Validation-accuracy=1")
"""
    assert example("trial-metadata-substitution", program, tmp_path).value == 1.0


def test_file_that_was_never_written_is_named(tmp_path: Path) -> None:
    from mlops_actions.errors import ComponentFailed

    with pytest.raises(ComponentFailed) as failed:
        example("file-metrics-collector", "print('done')", tmp_path)
    assert "it never reported 'accuracy' in /katib/mnist.log as {metricName" in failed.value.why
