"""A trial's command and its metrics come out as Katib makes and reads them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_actions.code_files import code_files, digest
from mlops_actions.tuning.experiment import Experiment, Objective
from mlops_actions.tuning.metrics import collect
from mlops_actions.tuning.reading import Document
from mlops_actions.tuning.template import command

KATIB = Path(__file__).resolve().parents[1] / "data" / "katib"


def example(name: str = "random", **container: Any) -> Document:
    values = yaml.safe_load((KATIB / f"example-{name}.yaml").read_text())
    values["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0] |= container
    return document(values)


def document(values: dict[str, Any]) -> Document:
    return Document("experiment.yaml", values, Experiment.model_validate(values), {})


@pytest.mark.parametrize("name", ["random", "grid", "tpe", "median-stop"])
def test_katibs_examples_become_the_commands_that_katib_runs(name: str) -> None:
    made = command(example(name), f"{name}-0001", {"lr": "0.0123", "momentum": "0.7"})
    assert made.arguments == ()
    assert made.words == (
        "python3",
        "/opt/pytorch-mnist/mnist.py",
        "--epochs=1",
        "--batch-size=16",
        "--lr=0.0123",
        "--momentum=0.7",
    )
    assert made.environ == {"KATIB_TRIAL_NAME": f"{name}-0001"}
    assert made.folder == ""


def test_metadata_of_the_trial_is_filled_in() -> None:
    values = yaml.safe_load((KATIB / "example-random.yaml").read_text())
    template = values["spec"]["trialTemplate"]
    template["trialSpec"]["metadata"] = {"labels": {"team": "flights"}, "annotations": {"a/b": "c"}}
    names = {
        "name": "${trialSpec.Name}",
        "namespace": "${trialSpec.Namespace}",
        "kind": "${trialSpec.Kind}",
        "version": "${trialSpec.APIVersion}",
        "team": "${trialSpec.Labels[team]}",
        "note": "${trialSpec.Annotations[a/b]}",
    }
    template["trialParameters"] += [{"name": name, "reference": text} for name, text in names.items()]
    container = template["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container["command"] = ["echo", *(f"${{trialParameters.{name}}}" for name in names)]
    made = command(document(values), "random-0007", {"lr": "1", "momentum": "2"})
    assert made.words == ("echo", "random-0007", "kubeflow", "Job", "batch/v1", "flights", "c")


def test_variables_are_expanded_as_kubernetes_does() -> None:
    made = command(
        example(
            command=["run", "$(BOTH)", "$$(RATE)", "$(UNKNOWN)", "$HOME"],
            args=["$(KATIB_TRIAL_NAME)"],
            env=[
                {"name": "RATE", "value": "${trialParameters.learningRate}"},
                {"name": "BOTH", "value": "$(RATE)/${trialParameters.momentum}"},
            ],
        ),
        "t-1",
        {"lr": "0.1", "momentum": "0.9"},
    )
    assert made.words == ("run", "0.1/0.9", "$(RATE)", "$(UNKNOWN)", "$HOME")
    assert made.arguments == ("t-1",)
    assert made.environ == {"KATIB_TRIAL_NAME": "t-1", "RATE": "0.1", "BOTH": "0.1/0.9"}


def test_a_value_is_not_filled_in_twice() -> None:
    """A categorical value that looks like a placeholder stays what it is."""
    made = command(example(), "t-1", {"lr": "${trialParameters.momentum}", "momentum": "2"})
    assert made.words[-2:] == ("--lr=${trialParameters.momentum}", "--momentum=2")


def objective(kind: str = "minimize", **more: Any) -> Objective:
    return Objective.model_validate({"type": kind, "objectiveMetricName": "loss", **more})


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("loss=0.3", 0.3),
        ("epoch 3 loss = -1.5e-3, accuracy=0.9", -0.0015),
        ("loss=.5", 0.5),
        ("loss=+7", 7.0),
        ("2026-01-02T03:04:05Z INFO loss=2E2", 200.0),
        ("{'loss': 0.3}", None),
        ("loss: 0.3", None),
        ("val_loss=0.3", None),
        ("loss=nan", None),
        ("loss=", None),
        ("loss=0.3abc", 0.3),
    ],
)
def test_default_format_is_katibs(line: str, value: float | None) -> None:
    assert collect([line + "\n"], objective(), []).get("loss") == value


def test_names_may_have_bars_and_dashes() -> None:
    given = Objective.model_validate({"type": "maximize", "objectiveMetricName": "Validation-accuracy|top1"})
    assert collect(["Validation-accuracy|top1=0.98"], given, []) == {"Validation-accuracy|top1": 0.98}


LINES = ["loss=3 accuracy=0.1\n", "loss=1 accuracy=0.5\n", "loss=2 accuracy=0.3\n"]


def test_best_value_counts_by_default_and_strategies_change_it() -> None:
    assert collect(LINES, objective(), []) == {"loss": 1.0}
    assert collect(LINES, objective("maximize"), []) == {"loss": 3.0}
    more = objective(
        additionalMetricNames=["accuracy"],
        metricStrategies=[{"name": "loss", "value": "latest"}, {"name": "accuracy", "value": "max"}],
    )
    assert collect(LINES, more, []) == {"loss": 2.0, "accuracy": 0.5}


def test_latest_goes_by_the_times_where_there_are_any() -> None:
    latest = objective(metricStrategies=[{"name": "loss", "value": "latest"}])
    lines = [
        "2026-01-01T10:00:00.123456789Z loss=1",
        "2026-01-01T13:00:00+02:00 loss=2",
        "2026-01-01T10:30:00Z loss=3",
        "loss=4",
    ]
    assert collect(lines, latest, []) == {"loss": 2.0}
    assert collect(["loss=1", "loss=2"], latest, []) == {"loss": 2.0}


def test_custom_formats_replace_the_default() -> None:
    formats = [r"\{metricName: ([\w|-]+), metricValue: ((-?\d+)(\.\d+)?)\}", r"([\w]+)\s*:\s*(\S+)"]
    lines = ["loss=9", "{metricName: loss, metricValue: 0.25}", "loss: 5e-1"]
    assert collect(lines, objective("maximize"), formats) == {"loss": 0.5}


def test_code_of_a_command_is_its_files_and_what_they_import(tmp_path: Path) -> None:
    for name, text in {
        "train.py": "import features\nfrom lib.model import fit\nimport json, numpy\n",
        "features.py": "from lib import data\n",
        "lib/__init__.py": "",
        "lib/model.py": "from . import tools\nfrom .deep import layer\n",
        "lib/tools.py": "",
        "lib/deep.py": "",
        "lib/data.py": "import train\n",
        "lib/unused.py": "",
        "other.py": "",
        "conf/a.yaml": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def names(*words: str) -> list[str]:
        return [path.relative_to(tmp_path.resolve()).as_posix() for path in code_files(words, tmp_path)]

    all_of_it = [
        "features.py",
        "lib/__init__.py",
        "lib/data.py",
        "lib/deep.py",
        "lib/model.py",
        "lib/tools.py",
        "train.py",
    ]
    assert names("python", "train.py", "--config=conf/a.yaml") == sorted(["conf/a.yaml", *all_of_it])
    assert names("python", "-m", "lib.tools") == ["lib/__init__.py", "lib/tools.py"]
    assert names("python", "-c", "print('loss=1')\n") == []
    before = digest(code_files(["train.py"], tmp_path), tmp_path)
    (tmp_path / "lib/deep.py").write_text("layer = 2")
    assert digest(code_files(["train.py"], tmp_path), tmp_path) != before
