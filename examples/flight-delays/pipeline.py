"""Will a flight from New York arrive 15 minutes late or more? Features, training and evaluation as a KFP pipeline.

Components are self-contained: KFP runs the source of each one alone. The store and its keys come to them as variables:
MLOPS_STORE, and for S3 MLOPS_STORE_ENDPOINT (or AWS_ENDPOINT_URL) and AWS_….
"""

import os
from pathlib import Path
from typing import NamedTuple

from kfp import dsl

IMAGE = os.environ.get("MLOPS_IMAGE", "python:3.11-slim")
LEARNING = [
    line
    for line in Path(__file__).with_name("requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
FEATURES = [*LEARNING, "feast==0.67.0", "ibis-framework[duckdb]==12.0.0", "duckdb==2.0.0"]


@dsl.component(base_image=IMAGE, packages_to_install=FEATURES)
def features(
    train_months: list[str],
    test_months: list[str],
    max_rows: int,
    lead_minutes: int,
    seed: int,
    store: str,
    registry: str,
    train: dsl.Output[dsl.Dataset],
    test: dsl.Output[dsl.Dataset],
) -> NamedTuple("Rows", [("train_rows", int), ("test_rows", int)]):
    """Join the flights of the months with what Feast knew of them `lead_minutes` before their departure."""
    import logging
    import os
    import tempfile
    from collections import namedtuple
    from pathlib import Path
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    import pandas as pd
    import pyarrow.parquet as pq
    from feast import FeatureStore, RepoConfig
    from feast.protos.feast.core.Registry_pb2 import Registry
    from pyarrow import fs

    logging.getLogger("feast").setLevel(logging.WARNING)
    store = store or os.environ["MLOPS_STORE"]
    registry = registry or f"{store}/features/registry.db"

    def locate(uri: str):
        if uri.startswith("s3://"):
            endpoint = os.environ.get("MLOPS_STORE_ENDPOINT") or os.environ.get("AWS_ENDPOINT_URL")
            return fs.S3FileSystem(endpoint_override=endpoint), uri.removeprefix("s3://")
        return fs.LocalFileSystem(), url2pathname(urlsplit(uri).path) if uri.startswith("file://") else uri

    def flights_of(months: list[str], rows: int) -> pd.DataFrame:
        filesystem, folder = locate(store)
        paths = [f"{folder}/data/flights/{month}.parquet" for month in months]
        flights = pd.concat([pq.read_table(p, filesystem=filesystem).to_pandas() for p in paths], ignore_index=True)
        flights = flights[flights["arr_delay"].notna()]  # a cancelled or diverted flight has no arrival to be late
        return flights.sample(rows, random_state=seed).sort_index() if 0 < rows < len(flights) else flights

    def copied_repository(folder: Path) -> FeatureStore:
        """The feature store that the registry describes, with its tables beside it.

        DuckDB joins as of a time without making every pair of rows, as Feast's dask engine would, but it needs an
        extension from the internet to read S3: so the few tables are copied.
        """
        filesystem, path = locate(registry)
        described = Registry()
        with filesystem.open_input_file(path) as file:
            described.ParseFromString(file.read())
        for view in described.feature_views:
            options = view.spec.batch_source.file_options
            copy = folder / f"{view.spec.name}.parquet"
            filesystem, path = locate(options.uri)
            fs.copy_files(path, str(copy), source_filesystem=filesystem, destination_filesystem=fs.LocalFileSystem())
            options.uri = str(copy)
        (folder / "registry.db").write_bytes(described.SerializeToString())
        config = RepoConfig(
            project=described.projects[0].spec.name,
            provider="local",
            registry=str(folder / "registry.db"),
            offline_store={"type": "duckdb"},
            online_store=None,
            entity_key_serialization_version=3,
        )
        return FeatureStore(config=config)

    def with_features(flights: pd.DataFrame, repository: FeatureStore) -> pd.DataFrame:
        departure = flights["time_hour"] + pd.to_timedelta(flights["minute"], unit="min")
        day = pd.to_datetime(flights[["year", "month", "day"]])
        number = flights["carrier"] + flights["flight"].astype(str)
        entities = pd.DataFrame(
            {
                "id": day.dt.strftime("%Y-%m-%d ") + number + " " + flights["origin"] + "-" + flights["dest"],
                "month": day.dt.strftime("%Y-%m"),
                "label": (flights["arr_delay"] >= 15).astype("int64"),
                "carrier": flights["carrier"],
                "origin": flights["origin"],
                "dest": flights["dest"],
                "route": flights["origin"] + "-" + flights["dest"],
                "hour": flights["hour"] + flights["minute"] / 60,
                "weekday": day.dt.dayofweek,
                "distance": flights["distance"],
                "event_timestamp": departure - pd.Timedelta(minutes=lead_minutes),
            }
        )
        service = repository.get_feature_service("flight_delays")
        joined = repository.get_historical_features(entities, service).to_df()
        joined = joined.drop(columns=["route", "event_timestamp"]).dropna()
        names = [name for name in joined.columns if name not in ("id", "month", "label")]
        numbers = [name for name in names if pd.api.types.is_numeric_dtype(joined[name])]
        joined[numbers] = joined[numbers].astype("float64")  # JSON knows one kind of number: so does the model
        # The engine gives rows in any order; the order of the rows is part of what is learnt.
        return joined.sort_values(["month", "id"], ignore_index=True)

    with tempfile.TemporaryDirectory() as folder:
        repository = copied_repository(Path(folder))
        tables = {}
        for artifact, months in ((train, train_months), (test, test_months)):
            flights = flights_of(months, max_rows)
            table = with_features(flights, repository)
            table.to_parquet(artifact.path, index=False)
            artifact.metadata |= {"months": months, "rows": len(table), "without_features": len(flights) - len(table)}
            tables[artifact.name] = len(table)
            print(f"{len(table)} flights of {', '.join(months)}; {len(flights) - len(table)} had no features yet")
    return namedtuple("Rows", ["train_rows", "test_rows"])(*tables.values())


@dsl.component(base_image=IMAGE, packages_to_install=LEARNING)
def train(
    data: dsl.Input[dsl.Dataset],
    learning_rate: float,
    max_iter: int,
    max_leaf_nodes: int,
    l2_regularization: float,
    seed: int,
    model: dsl.Output[dsl.Model],
):
    """Fit gradient-boosted trees on a DataFrame of raw columns; categories are text."""
    from pathlib import Path

    import joblib
    import pandas as pd
    import sklearn
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    table = pd.read_parquet(data.path)
    label = table.pop("label")
    columns = table.drop(columns=["id", "month"])
    categories = ["carrier", "origin", "dest"]
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=float("nan"))
    trees = HistGradientBoostingClassifier(
        learning_rate=learning_rate,
        max_iter=max_iter,
        max_leaf_nodes=max_leaf_nodes,
        l2_regularization=l2_regularization,
        categorical_features=list(range(len(categories))),
        early_stopping=False,
        random_state=seed,
    )
    fitted = make_pipeline(make_column_transformer((encoder, categories), remainder="passthrough"), trees)
    fitted.fit(columns, label)
    model.framework = "scikit-learn"
    model.metadata |= {"scikit-learn": sklearn.__version__, "rows": len(columns), "columns": list(columns.columns)}
    Path(model.path).mkdir(parents=True)
    joblib.dump(fitted, Path(model.path) / "model.joblib")  # the name that model servers look for in a folder


@dsl.component(base_image=IMAGE, packages_to_install=LEARNING)
def evaluate(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    seed: int,
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    predictions: dsl.Output[dsl.Dataset],
    golden: dsl.Output[dsl.Dataset],
):
    """Measure the model on the test flights, against the route's own history as the score; keep its predictions."""
    from pathlib import Path

    import joblib
    import numpy as np
    import pandas as pd
    from sklearn.metrics import (
        accuracy_score,
        average_precision_score,
        brier_score_loss,
        confusion_matrix,
        log_loss,
        roc_auc_score,
        roc_curve,
    )

    table = pd.read_parquet(data.path)
    columns = table.drop(columns=["id", "month", "label"])
    label = table["label"]
    score = joblib.load(Path(model.path) / "model.joblib").predict_proba(columns)[:, 1]
    prediction = (score >= 0.5).astype("int64")
    for name, value in {
        "auc": roc_auc_score(label, score),
        "average_precision": average_precision_score(label, score),
        "log_loss": log_loss(label, score),
        "brier": brier_score_loss(label, score),
        "accuracy": accuracy_score(label, prediction),
        "late_rate": label.mean(),
        "baseline_auc": roc_auc_score(label, table["route_late_28d"]),
        "rows": len(table),
    }.items():
        metrics.log_metric(name, round(float(value), 6))
    matrix = confusion_matrix(label, prediction, labels=[0, 1])
    classification.log_confusion_matrix(["on time", "late"], matrix.tolist())
    wrong, right, thresholds = roc_curve(label, score)
    shown = np.unique(np.linspace(0, len(wrong) - 1, 101).astype(int))  # a curve has thousands of points
    # The first threshold is infinite, which JSON is not.
    curve = (wrong[shown], right[shown], np.minimum(thresholds[shown], 1.0))
    classification.log_roc_curve(*(values.tolist() for values in curve))
    kept = table[["id", "label"]].assign(score=score, prediction=prediction)
    kept = kept.join(table[["carrier", "origin", "dest", "month"]])
    kept.to_parquet(predictions.path, index=False)
    examples = columns.assign(score=score)
    examples.sample(min(200, len(examples)), random_state=seed).to_parquet(golden.path, index=False)


@dsl.pipeline(name="flight-delays", description="Will a flight from New York arrive 15 minutes late or more?")
def pipeline(
    train_months: list[str] = ["2013-01", "2013-02", "2013-03", "2013-04"],  # noqa: B006 (KFP's way to say a default)
    test_months: list[str] = ["2013-05"],  # noqa: B006
    max_rows: int = 0,
    lead_minutes: int = 60,
    learning_rate: float = 0.05,
    max_iter: int = 200,
    max_leaf_nodes: int = 31,
    l2_regularization: float = 1.0,
    seed: int = 1,
    store: str = "",
    registry: str = "",
):
    """Train on some months, test on later ones.

    Args:
        train_months: months to learn from, as they are named in the store.
        test_months: later months to measure on.
        max_rows: flights drawn for training and for testing; 0 takes all.
        lead_minutes: how long before the scheduled departure the prediction is made.
        learning_rate: of the trees.
        max_iter: number of trees.
        max_leaf_nodes: leaves of a tree.
        l2_regularization: of the trees' leaves.
        seed: of drawing and training.
        store: URI of the data; MLOPS_STORE without it.
        registry: URI of Feast's registry; the one in the store without it.
    """
    joined = features(
        train_months=train_months,
        test_months=test_months,
        max_rows=max_rows,
        lead_minutes=lead_minutes,
        seed=seed,
        store=store,
        registry=registry,
    )
    trained = train(
        data=joined.outputs["train"],
        learning_rate=learning_rate,
        max_iter=max_iter,
        max_leaf_nodes=max_leaf_nodes,
        l2_regularization=l2_regularization,
        seed=seed,
    )
    evaluate(data=joined.outputs["test"], model=trained.outputs["model"], seed=seed)
