"""The lines that are scored, each with what is looked for and what would give it.

The ML Test Score is by Breck, Cai, Nielsen, Salib and Sculley, "The ML Test Score: A Rubric for ML Production Readiness
and Technical Debt Reduction", IEEE Big Data 2017: 28 tests in four sections. A test that is done by hand, with its
result documented, is half a point; one that is done automatically and again and again is a point. The score is that of
the weakest section.

The scorecard has the components and the automated stages of level 2 in Google's "MLOps: Continuous delivery and
automation pipelines in machine learning". A line is met or not; a stage is only met without a person.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import evidence
from .evidence import Evidence

TAG = "ml-test-score"
"""The tag `ml-test-score.<line>` of a version is the URL where a test that was done by hand is documented."""
WORDS = (
    (0.0, "more a research project than a productionized system"),
    (1.0, "not untested, but there may be serious holes in reliability"),
    (2.0, "a first pass at productionization; more investment may be needed"),
    (3.0, "reasonably tested; more of the tests may be automated"),
    (5.0, "strong automated testing and monitoring, appropriate for what is critical"),
    (7.0, "exceptional automated testing and monitoring"),
)
"""What a score means, up to and including each number, as the paper says it."""


@dataclass(frozen=True)
class Line:
    """A line: its name, what shows it, and what would."""

    name: str
    evidence: Evidence
    remedy: str


@dataclass(frozen=True)
class Part:
    """Lines under one title.

    Attributes:
        key: how each is called, with its number.
        title: for people.
        lines: of it.
        by_hand: points of a line that a person did; without one it is 1.
    """

    key: str
    title: str
    lines: tuple[Line, ...]
    by_hand: float = 0.5


_MONITOR = "Configure `monitor-model`, and call `monitor.yml` on a schedule"
_SCHEDULE = "Let the workflow run on a schedule, or give `run-pipeline` `schedules` (engine kfp)"
_DEPLOY = "Configure `deploy-model`"

ML_TEST_SCORE = (
    Part("data", "Features and data", (
        Line("Feature expectations are captured in a schema", evidence.schema,
             "Give `validate-data` a `contract`; `mlops infer-schema` writes a first one"),
        Line("All features are beneficial", evidence.nothing, "Remove a feature at a time, and document what is lost"),
        Line("No feature's cost is too much", evidence.nothing, "Document what each feature costs"),
        Line("Features adhere to meta-level requirements", evidence.meta_level,
             "Name columns that must not be used under `forbidden` in the contract's `table`"),
        Line("The data pipeline has appropriate privacy controls", evidence.privacy,
             "Run `validate-data` with `personal-data: fail`, which is the default"),
        Line("New features can be added quickly", evidence.nothing,
             "Document how long the last feature took from the idea to serving"),
        Line("All input feature code is tested", evidence.nothing, "Test the code of features, and document it"),
    )),
    Part("model", "Model development", (
        Line("Model specs are reviewed and submitted", evidence.checked_in,
             "Train from a commit without other changes, and let a rule of the branch ask for a review"),
        Line("Offline and online metrics correlate", evidence.offline_and_online,
             "Give `monitor-model` `predictions` with the labels that came since, for two versions or more"),
        Line("All hyperparameters have been tuned", evidence.tuned, "Name an `experiment` for `tune-hyperparams`"),
        Line("The impact of model staleness is known", evidence.staleness,
             "Name an `id-column` for `evaluate-model`: the champion is then compared on the same rows"),
        Line("A simpler model is not better", evidence.simpler_model,
             "Add `linear` or `season-naive` to the `baselines` of `evaluate-model`"),
        Line("Model quality is sufficient on important data slices", evidence.slices,
             "Name `slices` and `slice-thresholds` for `evaluate-model`"),
        Line("The model is tested for considerations of inclusion", evidence.inclusion,
             "Name `groups` and limits of `fairness` for `evaluate-model`"),
    )),
    Part("infrastructure", "ML infrastructure", (
        Line("Training is reproducible", evidence.reproducible,
             "Run `run-pipeline` again with `reuse: false`: the same bytes must come out (set every seed)"),
        Line("Model specs are unit tested", evidence.unit_tested,
             "Give `build-image` a `test` that runs your unit tests, such as `python -m pytest tests`"),
        Line("The ML pipeline is integration tested", evidence.integrated,
             "Let the whole chain run: `run-pipeline`, `evaluate-model` and `test-model`"),
        Line("Model quality is validated before serving", evidence.validated,
             "Set `thresholds` for `evaluate-model`, and require it for `deploy-model`"),
        Line("The model is debuggable", evidence.nothing,
             "Document how the computation of a single row is looked at, step by step"),
        Line("Models are canaried before serving", evidence.canaried,
             "Deploy with rising `steps`, such as `10, 50, 100`, over a version that serves"),
        Line("Serving models can be rolled back", evidence.rolled_back,
             "Run `mlops drill`, or `deploy-model` with `drill: true` on a schedule"),
    )),
    Part("monitoring", "Monitoring", (
        Line("Dependency changes result in notification", evidence.nothing,
             "Subscribe to the announcements of what the data and the packages come from, and document it"),
        Line("Data invariants hold for inputs", evidence.invariants,
             f"Give `validate-data` a `contract`. {_MONITOR}"),
        Line("Training and serving are not skewed", evidence.not_skewed,
             "Materialize features from a Feast repository, or compare with `serving` in the contract's `table`"),
        Line("Models are not too stale", evidence.fresh, _SCHEDULE),
        Line("Models are numerically stable", evidence.stable,
             "Write golden predictions in the pipeline: `test-model` compares them in each environment"),
        Line("Computing performance has not regressed", evidence.fast,
             "Deploy over a version that serves: latency is compared; or set `max-latency-ms` for `test-model`"),
        Line("Prediction quality has not regressed", evidence.quality_in_use,
             "Give `monitor-model` `predictions` with the labels that came since"),
    )),
)  # fmt: skip

LEVEL_2 = (
    Part("component", "Components", (
        Line("Source control", evidence.source_controlled, "Train from a commit without other changes"),
        Line("Test and build services", evidence.built, "Add a Dockerfile: `build-image` builds and tests it"),
        Line("Deployment services", evidence.deployed, _DEPLOY),
        Line("Model registry", evidence.registered, "Run `register-model`"),
        Line("Feature store", evidence.features, "Add a Feast repository: `materialize-features` brings it up to date"),
        Line("ML metadata store", evidence.traced,
             "Run `validate-data`, and `build-image` for a cluster, before `run-pipeline`, in the same run"),
        Line("ML pipeline orchestrator", evidence.orchestrated, "Train in a pipeline: `run-pipeline`"),
    ), by_hand=1.0),
    Part("stage", "Automated stages", (
        Line("Pipeline continuous integration", evidence.integrated, "Let the workflow run on a push"),
        Line("Data and model validation", evidence.validation,
             "Give `validate-data` a `contract`, and set `thresholds` for `evaluate-model`"),
        Line("Automated triggering", evidence.triggered, f"Let the workflow run on a push. {_SCHEDULE}"),
        Line("Model continuous delivery", evidence.delivered, f"{_DEPLOY} with an `alias`, in a workflow on a push"),
        Line("Monitoring", evidence.monitored, _MONITOR),
    ), by_hand=0.0),
)  # fmt: skip
