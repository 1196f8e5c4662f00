"""What the local engine cannot honour of an Experiment that Katib takes, and what it leaves out and says so."""

from __future__ import annotations

from collections.abc import Iterator

from .algorithms.settings import NAS
from .checks import Fault, refuse
from .engine import Isolation
from .experiment import Path
from .jobs import marked
from .mounts import inside, names
from .reading import TRIAL_SPEC, Document, dotted

_CONDITIONS = {
    "successCondition": 'status.conditions.#(type=="Complete")#|#(status=="True")#',
    "failureCondition": 'status.conditions.#(type=="Failed")#|#(status=="True")#',
}
"""Katib's defaults for a Job."""
_ON_KATIB = "Leave it out, or run the Experiment on Katib"
_POD: Path = (*TRIAL_SPEC, "spec", "template", "spec")


def check_local(
    document: Document, *, isolation: Isolation = "process", pipeline: bool = False, parallel: int = 1
) -> None:
    """Refuse an Experiment that asks for what the local engine cannot do; it has passed `checks.check`.

    Args:
        document: the Experiment.
        isolation: what trials run as.
        pipeline: its trials are runs of a pipeline.
        parallel: how many run at a time.

    Raises:
        BadInput: with the line.
    """
    refuse(document, _search(document))
    if pipeline:
        refuse(document, _of_a_pipeline(document))
    else:
        refuse(document, _job(document, isolation))
        refuse(document, _collector(document, isolation, parallel))


def notices(document: Document, *, isolation: Isolation = "process", pipeline: bool = False) -> list[str]:
    """What the Experiment says and the local engine does not do, each with what is done instead."""
    experiment = document.experiment
    found = []
    if experiment.spec.algorithm.algorithm_name == "grid":
        bent = [p.name for p in experiment.spec.parameters if p.feasible_space.distribution not in (None, "uniform")]
        found += [f"The distribution of {name!r} is ignored: a grid has even steps, as on Katib" for name in bent]
    if pipeline:
        if experiment.spec.trial_template.trial_spec:
            found.append("The trial template's `trialSpec` is not used: each trial is a run of the pipeline")
        return found
    marks = ["ignored", "for-containers"] if isolation == "process" else ["ignored"]
    image = document.primary[1].image if document.primary else ""
    if image and isolation == "process":
        found.append(f"The image {image} is not used: trials run as processes in the consumer's environment")
    for mark in marks:
        found += [f"`{dotted(p)}` is ignored: {why}" for p, why in marked(document.job, mark, TRIAL_SPEC)]  # type: ignore[arg-type]
    return found


def _search(document: Document) -> Iterator[Fault]:
    spec = document.experiment.spec
    path: Path = ("spec", "algorithm")
    if spec.nas_config is not None:
        what = "`spec.nasConfig` is not supported by the local engine: neural architecture search needs Katib itself"
        yield Fault(("spec", "nasConfig"), what, _ON_KATIB)
    if spec.algorithm.algorithm_name in NAS:
        what = f"the algorithm {spec.algorithm.algorithm_name!r} is not supported by the local engine"
        yield Fault((*path, "algorithmName"), f"{what}: neural architecture search needs Katib itself", _ON_KATIB)
    for index, setting in enumerate(spec.algorithm.algorithm_settings):
        if setting.value in ("EIps", "PIps"):
            what = f"`acq_func` {setting.value} is not supported: it weighs seconds that Katib does not tell it, either"
            yield Fault((*path, "algorithmSettings", index, "value"), what, "Use EI, PI, LCB or gp_hedge")


def _of_a_pipeline(document: Document) -> Iterator[Fault]:
    spec = document.experiment.spec
    if spec.early_stopping is not None:
        what = "`spec.earlyStopping` is not supported: a pipeline's metrics are known when its run has ended"
        yield Fault(("spec", "earlyStopping"), what, "Leave it out")
    if spec.algorithm.algorithm_name == "pbt":
        what = "the algorithm 'pbt' is not supported: runs of a pipeline share no checkpoints"
        yield Fault(("spec", "algorithm", "algorithmName"), what, "Use another algorithm")
    if spec.metrics_collector_spec.collector.kind != "StdOut" or spec.metrics_collector_spec.formats:
        what = "`spec.metricsCollectorSpec` does not apply to a pipeline: its metrics are those that its components log"
        yield Fault(("spec", "metricsCollectorSpec"), what, "Leave it out")


def _job(document: Document, isolation: Isolation) -> Iterator[Fault]:
    template = document.experiment.spec.trial_template
    path: Path = ("spec", "trialTemplate")
    if template.config_map is not None:
        what = "`spec.trialTemplate.configMap` is not supported by the local engine: it is in a cluster"
        yield Fault((*path, "configMap"), what, "Write it as `trialSpec`, or run the Experiment on Katib")
    for key, default in _CONDITIONS.items():
        given = template.success_condition if key == "successCondition" else template.failure_condition
        if given not in ("", default):
            what = f"`{dotted((*path, key))}` is not supported by the local engine: a trial's exit code decides"
            yield Fault((*path, key), what, _ON_KATIB)
    for where, why in marked(document.job, "refused", TRIAL_SPEC):
        yield Fault(where, f"`{dotted(where)}` is not supported by the local engine: {why}", _ON_KATIB)
    assert document.primary
    index, primary = document.primary
    containers = document.job.spec.template.spec.containers
    for other, container in enumerate(containers):
        if other != index:
            what = f"the container {container.name!r} beside the primary one is not supported by the local engine"
            yield Fault((*_POD, "containers", other), what, _ON_KATIB)
    here: Path = (*_POD, "containers", index)
    if isolation == "container":
        if not primary.image:
            yield Fault(here, "the container has no `image`", "Name one")
        return
    if not primary.command:
        what = "the container has no `command`, and the image's own is not known here"
        yield Fault(here, what, "Write the command, such as [python, train.py]")
    if primary.working_dir.startswith("/"):
        what = f"`workingDir` {primary.working_dir} is a folder of the image"
        fix = "Leave it out (trials run in the consumer's folder), or make it relative"
        yield Fault((*here, "workingDir"), what, fix)


def _collector(document: Document, isolation: Isolation, parallel: int) -> Iterator[Fault]:
    collector = document.experiment.spec.metrics_collector_spec
    kind, path = collector.collector.kind, ("spec", "metricsCollectorSpec", "collector", "kind")
    if kind == "Push":
        why = "Katib's SDK reports to the database manager of the cluster, and only from a pod"
        yield Fault(path, f"the metrics collector Push is not supported by the local engine: {why}", _COLLECTORS)
    if kind == "Custom":
        why = "its container reads the trial's from beside it"
        yield Fault(path, f"the metrics collector Custom is not supported by the local engine: {why}", _COLLECTORS)
    if isolation == "container":
        return
    if kind == "PrometheusMetric" and parallel > 1:
        what = f"{parallel} trials at a time would all listen on port {collector.port} of this machine"
        fix = "Set `parallel` to 1, or run trials with `isolation: container`"
        yield Fault(("spec", "metricsCollectorSpec", "source", "httpGet"), what, fix)
    assert document.primary
    container = document.primary[1]
    words = [*container.command, *container.args, *(variable.value for variable in container.env)]
    for purpose, folder in inside(document.experiment).items():
        if not any(names(word, folder) for word in words):
            where: Path = (
                ("spec", "metricsCollectorSpec", "source", "fileSystemPath", "path")
                if purpose == "metrics"
                else ("spec", "algorithm", "algorithmSettings")
            )
            what = f"the command does not name {folder}, which every trial has for itself on Katib"
            fix = "Give the program the path as an argument or a variable (it is replaced by a folder of the trial's"
            yield Fault(where, what, f"{fix} own), or run trials with `isolation: container`")


_COLLECTORS = "Use StdOut, File, TensorFlowEvent or PrometheusMetric, or run the Experiment on Katib"
