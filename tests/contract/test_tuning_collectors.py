"""Katib's examples of metrics collectors, with trials that are processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from event_files import event, field
from mlops_actions.errors import ComponentFailed
from mlops_actions.tuning.engine import Outcome, Trial, TuneRequest, TuningContext
from mlops_actions.tuning.experiment import Experiment
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
    made = TuneRequest(document, "key", **{"parallel": 2, "max_trials": 2, **request})
    return LocalEngine(TuningContext(folder, dict(os.environ), folder / "state")).run(made, Silent())


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

    with pytest.raises(ComponentFailed) as failed:
        example("file-metrics-collector", "print('done')", tmp_path)
    assert "it never reported 'accuracy' in /katib/mnist.log as {metricName" in failed.value.why
