"""Katib's Experiments are taken as they are; what is wrong or is not supported is said with its line."""

from pathlib import Path

import pytest

from mlops_actions.errors import BadInput
from mlops_actions.tuning.checks import check
from mlops_actions.tuning.checks_local import check_local, notices
from mlops_actions.tuning.reading import Document, read

KATIB = Path(__file__).resolve().parents[1] / "data" / "katib"
RANDOM = (KATIB / "example-random.yaml").read_text()
GRID = (KATIB / "example-grid.yaml").read_text()


def load(folder: Path, text: str) -> Document:
    file = folder / "experiment.yaml"
    file.write_text(text)
    document = read(file, "experiment.yaml")
    check(document)
    check_local(document, parallel=3)
    return document


@pytest.mark.parametrize("name", ["random", "grid", "tpe"])
def test_katibs_own_examples_are_taken_unchanged(name: str) -> None:
    document = read(KATIB / f"example-{name}.yaml", f"example-{name}.yaml")
    check(document)
    check_local(document)
    spec = document.experiment.spec
    assert document.experiment.name == name
    assert spec.algorithm.algorithm_name == name
    assert (spec.parallel_trial_count, spec.max_trial_count, spec.max_failed_trial_count) == (3, 12, 3)
    assert spec.objective.goal == 0.001
    assert document.primary and document.primary[1].command[0] == "python3"


REFUSED = {
    "darts-cpu": ("`spec.nasConfig` is not supported by the local engine", "nasConfig"),
    "custom-metrics-collector": ("the metrics collector Custom is not supported by the local engine", "kind: Custom"),
    "pytorchjob-mnist": ("a trial of kind 'PyTorchJob'", "kind: PyTorchJob"),
}
"""Published examples that only Katib runs."""


@pytest.mark.parametrize("file", sorted(KATIB.glob("example-*.yaml")), ids=lambda file: file.stem)
def test_every_published_example_runs_here_or_is_refused_by_name(file: Path, tmp_path: Path) -> None:
    document = read(file, file.name)
    if file.stem == "example-simple-pbt":  # Katib's own webhook refuses it as it was published
        with pytest.raises(BadInput, match=r"`spec\.maxFailedTrialCount` is 3, more than `spec\.maxTrialCount`, 2"):
            check(document)
        (tmp_path / file.name).write_text(file.read_text().replace("maxFailedTrialCount: 3", "maxFailedTrialCount: 2"))
        document = read(tmp_path / file.name, file.name)
    check(document)
    name = file.stem.removeprefix("example-")
    if name not in REFUSED:
        check_local(document, parallel=document.experiment.spec.parallel_trial_count)
        return
    message, line = REFUSED[name]
    with pytest.raises(BadInput, match=message) as refused:
        check_local(document, parallel=document.experiment.spec.parallel_trial_count)
    assert refused.value.place and refused.value.place.line
    assert line in file.read_text().splitlines()[refused.value.place.line - 1]


def test_experiment_among_other_documents_is_found_with_its_lines(tmp_path: Path) -> None:
    other = "apiVersion: v1\nkind: Namespace\nmetadata: {name: kubeflow}\n"
    assert load(tmp_path, other + RANDOM).experiment.name == "random"
    with pytest.raises(BadInput) as refused:
        load(tmp_path, other + RANDOM.replace("minimize", "minimise"))
    lines = (tmp_path / "experiment.yaml").read_text().splitlines()
    assert refused.value.place and "minimise" in lines[(refused.value.place.line or 0) - 1]


def test_defaults_are_katibs(tmp_path: Path) -> None:
    text = RANDOM.replace("  parallelTrialCount: 3\n", "").replace("  maxFailedTrialCount: 3\n", "")
    spec = load(tmp_path, text).experiment.spec
    assert spec.parallel_trial_count == 3
    assert spec.max_failed_trial_count is None
    assert spec.resume_policy == "Never"
    assert spec.metrics_collector_spec.collector.kind == "StdOut"
    assert spec.objective.strategy("loss") == "min"


def test_default_conditions_of_a_job_are_taken(tmp_path: Path) -> None:
    given = """    successCondition: status.conditions.#(type=="Complete")#|#(status=="True")#\n    trialParameters:"""
    assert load(tmp_path, RANDOM.replace("    trialParameters:", given)).experiment.name == "random"


def test_what_a_process_has_not_is_noticed(tmp_path: Path) -> None:
    found = notices(load(tmp_path, RANDOM))
    assert found[0].startswith("The image ghcr.io/kubeflow/katib/pytorch-mnist-cpu:latest is not used")
    assert any(".resources` is ignored" in text for text in found)
    assert not any(
        "resources" in text or "image" in text for text in notices(load(tmp_path, RANDOM), isolation="container")
    )
    bent = GRID.replace('        max: "0.05"\n', '        max: "0.05"\n        distribution: normal\n')
    assert notices(load(tmp_path, bent))[0].startswith("The distribution of 'lr' is ignored: a grid has even steps")


SPACE = '        min: "0.01"\n        max: "0.05"\n'
SPEC = "            containers:\n"
# fmt: off
# ruff: noqa: E501 — a case a line reads best
WRONG = {
    "not YAML": ("spec:\n", "spec: [\n", "is not valid YAML", None),
    "kind": ("kind: Experiment", "kind: Trial", "the kind is 'Trial'", "kind: Trial"),
    "no kind": ("kind: Experiment\n", "", "it has no kind", None),
    "version": ("beta1\nkind", "alpha3\nkind", "`apiVersion` is 'kubeflow.org/v1alpha3'", "v1alpha3"),
    "name": ("  name: random", "  name: Random_1", "'Random_1' is not a name", "name: Random_1"),
    "no name": ("  name: random\n", "", "`metadata.name` is missing", "metadata:"),
    "unknown field": ("maxTrialCount", "maxTrialCounts", "`spec.maxTrialCounts` is unknown", "maxTrialCounts"),
    "unknown deep": ("          spec:\n", "          spec:\n            restartPolice: x\n", "restartPolice", "restartPolice"),
    "objective": (RANDOM[RANDOM.index("  objective:") : RANDOM.index("  algorithm:")], "", "`spec.objective` is missing", "spec:"),
    "objective type": ("minimize", "minimise", "must be 'minimize' or 'maximize'", "minimise"),
    "goal text": ("goal: 0.001", 'goal: "0.001"', "`spec.objective.goal`", "goal:"),
    "number for text": ('min: "0.01"', "min: 0.01", 'write "0.01" in quotes', "min: 0.01"),
    "count text": ("maxTrialCount: 12", "maxTrialCount: many", "`spec.maxTrialCount`", "maxTrialCount"),
    "count zero": ("maxTrialCount: 12", "maxTrialCount: 0", "greater than 0", "maxTrialCount"),
    "parallel over max": ("parallelTrialCount: 3", "parallelTrialCount: 13", "more than `spec.maxTrialCount`", "parallel"),
    "failed over max": ("maxFailedTrialCount: 3", "maxFailedTrialCount: 13", "more than `spec.maxTrialCount`", "maxFailed"),
    "metric twice": (
        "objectiveMetricName: loss\n",
        "objectiveMetricName: loss\n    additionalMetricNames: [loss]\n",
        "has the objective 'loss', too",
        "additionalMetricNames",
    ),
    "strategy": (
        "objectiveMetricName: loss\n",
        "objectiveMetricName: loss\n    metricStrategies: [{name: los, value: max}]\n",
        "'los', which is not a metric",
        "metricStrategies",
    ),
    "algorithm of Katib": ("Name: random", "Name: darts", "'darts' is not supported by the local engine", "darts"),
    "cmaes": (
        RANDOM[RANDOM.index("  algorithm:") :],
        RANDOM[RANDOM.index("  algorithm:") :].replace("Name: random", "Name: cmaes").replace("Type: double", 'Type: discrete', 1)
        .replace('        min: "0.01"\n        max: "0.05"\n', '        list: ["1"]\n'),
        "cmaes needs two or more parameters that are numbers, and there is 1",
        "  parameters:",
    ),
    "hyperband": ("algorithmName: random", "algorithmName: hyperband", "hyperband needs the setting `r_l`", "  algorithm:"),
    "hyperband's rung": (
        "algorithmName: random\n",
        'algorithmName: hyperband\n    algorithmSettings: [{name: r_l, value: "9"}, {name: resource_name, value: lr}]\n',
        "`parallelTrialCount` is 3, and hyperband's first rung has 9 trials",
        "parallelTrialCount",
    ),
    "hyperband's resource": (
        "algorithmName: random\n",
        'algorithmName: hyperband\n    algorithmSettings: [{name: r_l, value: "3"}, {name: resource_name, value: epochs}]\n',
        "`resource_name` is 'epochs', which is not an int or double parameter",
        "  algorithm:",
    ),
    "pbt": (
        "algorithmName: random\n",
        'algorithmName: pbt\n    algorithmSettings: [{name: n_population, value: "4"}]\n',
        "`n_population` must be an integer of 5 or more, not '4'",
        "n_population",
    ),
    "bayesianoptimization": (
        "algorithmName: random\n",
        "algorithmName: bayesianoptimization\n    algorithmSettings: [{name: acq_func, value: EIps}]\n",
        "`acq_func` EIps is not supported",
        "EIps",
    ),
    "lbfgs": (
        "algorithmName: random\n",
        "algorithmName: bayesianoptimization\n    algorithmSettings: [{name: acq_optimizer, value: lbfgs}, {name: base_estimator, value: RF}]\n",
        "RF has no gradient to follow",
        "  algorithm:",
    ),
    "early stopping": ("  parallelTrial", "  earlyStopping: {algorithmName: median}\n  parallelTrial", "the early stopping 'median' is unknown.*`medianstop`", "earlyS"),
    "early stopping's setting": (
        "  parallelTrial",
        '  earlyStopping:\n    algorithmName: medianstop\n    algorithmSettings: [{name: start_step, value: "0"}]\n  parallelTrial',
        "`start_step` must be an integer of 1 or more",
        "start_step",
    ),
    "algorithm": ("Name: random", "Name: rndom", "'rndom' is unknown to Katib.*Did you mean `random`", "rndom"),
    "setting": (
        "algorithmName: random\n",
        'algorithmName: random\n    algorithmSettings: [{name: gamma, value: "0.2"}]\n',
        "random has no setting 'gamma'",
        "gamma",
    ),
    "setting value": (
        "algorithmName: random\n",
        'algorithmName: tpe\n    algorithmSettings: [{name: gamma, value: "2"}]\n',
        "`gamma` must be a number between 0 and 1, not '2'",
        "gamma",
    ),
    "min over max": ('min: "0.01"', 'min: "0.1"', "`min` of 'lr' is 0.1, above its `max`, 0.05", 'min: "0.1"'),
    "no max": ('        max: "0.05"\n', "", "`max` of 'lr' is missing", "feasibleSpace"),
    "not a number": ('min: "0.01"', 'min: "abc"', "`min` of 'lr' must be a number, not 'abc'", "abc"),
    "not an integer": ("parameterType: double", "parameterType: int", "must be an integer, not '0.01'", "0.01"),
    "infinite": ('max: "0.05"', 'max: "inf"', "must be a number, not 'inf'", "inf"),
    "parameter type": ("parameterType: double", "parameterType: float", "'double', 'int', 'discrete' or 'categorical'", "float"),
    "empty list": (f"double\n      feasibleSpace:\n{SPACE}", "discrete\n      feasibleSpace:\n        list: []\n", "`list` of 'lr' is empty", "list: []"),
    "list of a double": (SPACE, SPACE + '        list: ["1"]\n', "`list` does not apply to 'lr'", "list:"),
    "repeated item": (
        f"double\n      feasibleSpace:\n{SPACE}",
        'categorical\n      feasibleSpace:\n        list: ["a", "a"]\n',
        "'a' appears twice in `list`",
        "list:",
    ),
    "log of zero": (SPACE, '        min: "0"\n        max: "1"\n        distribution: logUniform\n', "logarithm needs more than 0", 'min: "0"'),
    "log normal of zero": (SPACE, '        min: "0"\n        max: "1"\n        distribution: logNormal\n', "logarithm needs more than 0", 'min: "0"'),
    "distribution": (SPACE, SPACE + "        distribution: gauss\n", "'logNormal', not 'gauss'", "gauss"),
    "distribution of a list": (
        f"double\n      feasibleSpace:\n{SPACE}",
        'discrete\n      feasibleSpace:\n        list: ["1"]\n        distribution: normal\n',
        "'lr' is a list: it has no distribution",
        "normal",
    ),
    "no space": (f"feasibleSpace:\n{SPACE}", "feasibleSpace: {}\n", "`feasibleSpace` of 'lr' is empty", "feasibleSpace"),
    "no parameters": (RANDOM[RANDOM.index("  parameters:") : RANDOM.index("  trialTemplate:")], "", "`spec.parameters` is missing", "spec:"),
    "no template": (RANDOM[RANDOM.index("  trialTemplate:") :], "", "`spec.trialTemplate` is missing", "spec:"),
    "no trial": (RANDOM[RANDOM.index("    trialSpec:") :], "", "`spec.trialTemplate.trialSpec` is missing", "trialTemplate:"),
    "trial's name": ("      kind: Job\n", "      kind: Job\n      metadata: {name: mine}\n", "`metadata.name` is Katib's to set", "mine"),
    "config map": ("    trialSpec:", "    configMap: {}\n    trialSpec:", "both `trialSpec` and `configMap`", "configMap"),
    "step of 0": (SPACE, SPACE + '        step: "0"\n', "`step` of 'lr' must be above 0", "step"),
    "parameter twice": ("- name: momentum\n      parameterType", "- name: lr\n      parameterType", "'lr' appears twice in `parameters`", "- name: lr"),
    "reference": ("reference: lr", "reference: lrr", "refers to 'lrr', which is not defined.*Did you mean `lr`", "lrr"),
    "unused": (
        "      - name: momentum\n        description: Momentum for the training model\n        reference: momentum\n",
        "",
        "the parameter 'momentum' is not used",
        "- name: momentum",
    ),
    "unknown placeholder": ("${trialParameters.learningRate}", "${trialParameters.learningrate}", "learningrate.*Did you mean `learningRate`", "--lr"),
    "unused placeholder": ("--lr=${trialParameters.learningRate}", "--lr=1", "'learningRate' is not in the template", "learningRate"),
    "primary": ("primaryContainerName: training-container", "primaryContainerName: train", "the primary container 'train' does not exist", "primaryC"),
    "kind of trial": ("kind: Job", "kind: TFJob", "a trial of kind 'TFJob'", "TFJob"),
    "sidecar": ("            restartPolicy", "              - {name: proxy, image: envoy}\n            restartPolicy", "container 'proxy' beside the primary", "proxy"),
    "volumes": (SPEC, "            volumes: []\n" + SPEC, "volumes` is not supported", "volumes"),
    "value from": (
        "                resources:",
        "                env: [{name: KEY, valueFrom: {secretKeyRef: {name: a, key: b}}}]\n                resources:",
        "valueFrom` is not supported by the local engine",
        "valueFrom",
    ),
    "collector": (
        "  parameters:\n",
        "  metricsCollectorSpec:\n    collector:\n      kind: Push\n  parameters:\n",
        "the metrics collector Push is not supported by the local engine: Katib's SDK reports to the database",
        "Push",
    ),
    "collector None": (
        "  parameters:\n",
        "  metricsCollectorSpec:\n    collector:\n      kind: None\n  parameters:\n",
        "no longer accepts a metrics collector of kind None",
        "None",
    ),
    "relative file": (
        "  parameters:\n",
        "  metricsCollectorSpec:\n    source:\n      fileSystemPath: {path: a.log, kind: File, format: TEXT}\n    collector:\n      kind: File\n  parameters:\n",
        "the metrics collector's path 'a.log' is not absolute",
        "a.log",
    ),
    "file's kind": (
        "  parameters:\n",
        "  metricsCollectorSpec:\n    source:\n      fileSystemPath: {path: /a/b, kind: File}\n    collector:\n      kind: TensorFlowEvent\n  parameters:\n",
        "must be Directory, not File",
        "kind: File",
    ),
    "JSON's filter": (
        "  parameters:\n",
        "  metricsCollectorSpec:\n    source:\n      filter: {metricsFormat: ['(a)(b)']}\n      fileSystemPath: {path: /a/b, kind: File, format: JSON}\n"
        "    collector:\n      kind: File\n  parameters:\n",
        "a metrics file in JSON has no filter",
        "filter",
    ),
    "file that no command names": (
        "  parameters:\n",
        "  metricsCollectorSpec:\n    source:\n      fileSystemPath: {path: /katib/a.log, kind: File, format: TEXT}\n    collector:\n      kind: File\n  parameters:\n",
        "the command does not name /katib, which every trial has for itself",
        "/katib/a.log",
    ),
    "port": (
        "  parameters:\n",
        "  metricsCollectorSpec:\n    source:\n      httpGet: {port: metrics, path: /metrics}\n    collector:\n      kind: PrometheusMetric\n  parameters:\n",
        "the port of the metrics must be a number from 1 to 65535, not 'metrics'",
        "port: metrics",
    ),
    "format": (
        "  parameters:\n",
        "  metricsCollectorSpec:\n    source:\n      filter:\n        metricsFormat: ['(loss']\n  parameters:\n",
        "is not a regular expression",
        "metricsFormat",
    ),
    "format's groups": (
        "  parameters:\n",
        "  metricsCollectorSpec:\n    source:\n      filter:\n        metricsFormat: ['loss (.*)']\n  parameters:\n",
        "needs two groups",
        "metricsFormat",
    ),
    "condition": ("    trialParameters:", "    successCondition: status.phase\n    trialParameters:", "`spec.trialTemplate.successCondition`", "successC"),
    "nas": ("  parameters:\n", "  nasConfig: {}\n  parameters:\n", "both `spec.parameters` and `spec.nasConfig`", "nasConfig"),
}
# fmt: on


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_error_with_its_line(case: str, tmp_path: Path) -> None:
    old, new, message, line = WRONG[case]
    text = RANDOM.replace(old, new, 1)
    assert text != RANDOM, "the test changes nothing"
    with pytest.raises(BadInput, match=message) as refused:
        load(tmp_path, text)
    error = refused.value
    assert error.exit_code == 2
    assert error.fix
    assert error.place and error.place.file == "experiment.yaml" and error.place.line
    if line:
        assert line in text.splitlines()[error.place.line - 1]


def test_grid_needs_a_step_of_each_double(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'lr' has no `step`, and a grid needs one"):
        load(tmp_path, GRID.replace('        step: "0.005"\n', ""))


def test_grid_of_fewer_combinations_than_trials_is_refused_as_on_katib(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="`maxTrialCount` is 46, and the grid has 45 combinations"):
        load(tmp_path, GRID.replace("maxTrialCount: 12", "maxTrialCount: 46"))


def test_pipeline_needs_no_template_and_only_its_parameters_are_checked(tmp_path: Path) -> None:
    text = RANDOM[: RANDOM.index("  trialTemplate:")]
    (tmp_path / "e.yaml").write_text(text)
    document = read(tmp_path / "e.yaml", "e.yaml")
    check(document, pipeline=True)
    check_local(document, pipeline=True, parallel=3)
    with pytest.raises(BadInput, match=r"`spec\.trialTemplate` is missing"):
        check(document)
    mapping = "  trialTemplate:\n    trialParameters:\n      - {name: learning_rate, reference: lrr}\n"
    (tmp_path / "e.yaml").write_text(text + mapping)
    with pytest.raises(BadInput, match="refers to 'lrr', which is not defined"):
        check(read(tmp_path / "e.yaml", "e.yaml"), pipeline=True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("  earlyStopping: {algorithmName: medianstop}\n", "a pipeline's metrics are known when its run has ended"),
        (
            "  metricsCollectorSpec: {collector: {kind: Push}}\n",
            "`spec.metricsCollectorSpec` does not apply to a pipeline",
        ),
    ],
)
def test_what_a_pipeline_cannot_do_is_refused(more: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(RANDOM.replace("  parameters:\n", f"{more}  parameters:\n"))
    document = read(tmp_path / "e.yaml", "e.yaml")
    check(document, pipeline=True)
    with pytest.raises(BadInput, match=message):
        check_local(document, pipeline=True)


def test_container_needs_no_command_and_may_have_a_folder_of_its_own(tmp_path: Path) -> None:
    text = RANDOM.replace("                command:\n", "                workingDir: /opt\n                args:\n")
    (tmp_path / "e.yaml").write_text(text)
    document = read(tmp_path / "e.yaml", "e.yaml")
    check_local(document, isolation="container", parallel=3)
    with pytest.raises(BadInput, match="has no `command`"):
        check_local(document)


def test_grid_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"the grid has [\d,]+ combinations"):
        load(tmp_path, GRID.replace('step: "0.005"', 'step: "0.00000005"'))


def test_numbers_are_read_as_kubernetes_reads_them(tmp_path: Path) -> None:
    assert load(tmp_path, RANDOM.replace("goal: 0.001", "goal: 1e-3")).experiment.spec.objective.goal == 0.001
    with pytest.raises(BadInput, match="in quotes"):
        load(tmp_path, RANDOM.replace('min: "0.01"', "min: 1e-2"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no Experiment"),
        ("- a\n", "holds no Experiment"),
        (f"{RANDOM}\n{RANDOM}", "holds 2 Experiments"),
        ("kind: Namespace\n---\nkind: Pod\n", "Its documents are: Namespace, Pod"),
    ],
)
def test_a_file_has_exactly_one_experiment(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        load(tmp_path, text)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.yaml does not exist"):
        read(tmp_path / "gone.yaml", "gone.yaml")
