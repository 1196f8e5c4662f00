"""One trial: fit the pipeline's model on a sample of the first months, print its quality on the month after them.

    python tune.py --learning-rate=0.05 --max-iter=200 --max-leaf-nodes=31 --l2-regularization=1
    auc=0.7123

It reads the feature tables of the store as they are, with the same join as of a time that Feast makes, but without
Feast's start-up, so that a trial takes seconds. The month that the pipeline tests on is not looked at.
"""

from __future__ import annotations

import argparse
import os

import pandas as pd
import pyarrow.parquet as pq
from features.build import open_store, scheduled_departure
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

CATEGORIES = ["carrier", "origin", "dest"]
LEAD = pd.Timedelta(hours=1)


def main() -> None:
    """Run the trial; the metrics are printed as `name=value`, which Katib's collector reads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--max-iter", type=int, required=True)
    parser.add_argument("--max-leaf-nodes", type=int, required=True)
    parser.add_argument("--l2-regularization", type=float, required=True)
    parser.add_argument("--train-months", default="2013-01,2013-02,2013-03", help="default: %(default)s")
    parser.add_argument("--validation-month", default="2013-04", help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=20_000, help="flights drawn of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    seen, answers = examples(given.train_months.split(","), given.rows, given.seed)
    unseen, truth = examples([given.validation_month], given.rows, given.seed)
    trees = HistGradientBoostingClassifier(
        learning_rate=given.learning_rate,
        max_iter=given.max_iter,
        max_leaf_nodes=given.max_leaf_nodes,
        l2_regularization=given.l2_regularization,
        categorical_features=list(range(len(CATEGORIES))),
        early_stopping=False,
        random_state=given.seed,
    )
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=float("nan"))
    model = make_pipeline(make_column_transformer((encoder, CATEGORIES), remainder="passthrough"), trees)
    score = model.fit(seen, answers).predict_proba(unseen)[:, 1]
    print(f"auc={roc_auc_score(truth, score):.6f}")
    print(f"log_loss={log_loss(truth, score):.6f}")


def examples(months: list[str], rows: int, seed: int) -> tuple[pd.DataFrame, pd.Series]:
    """Flights drawn from the months, as the model's columns and the label."""
    filesystem, folder = open_store(os.environ["MLOPS_STORE"])

    def read(name: str) -> pd.DataFrame:
        return pq.read_table(f"{folder}/{name}.parquet", filesystem=filesystem).to_pandas()

    flights = pd.concat([read(f"data/flights/{month}") for month in months], ignore_index=True)
    flights = flights[flights["arr_delay"].notna()]
    flights = flights.sample(min(rows, len(flights)), random_state=seed)
    table = pd.DataFrame(
        {
            "carrier": flights["carrier"],
            "origin": flights["origin"],
            "dest": flights["dest"],
            "hour": flights["hour"] + flights["minute"] / 60,
            "weekday": pd.to_datetime(flights[["year", "month", "day"]]).dt.dayofweek,
            "distance": flights["distance"],
            "label": (flights["arr_delay"] >= 15).astype("int64"),
            "route": flights["origin"] + "-" + flights["dest"],
            "event_timestamp": (scheduled_departure(flights) - LEAD).astype("datetime64[ns, UTC]"),
        }
    ).sort_values("event_timestamp", kind="stable")
    for name, entity, age in (
        ("carrier_delays", "carrier", "3d"),
        ("route_delays", "route", "3d"),
        ("origin_delays", "origin", "3d"),
        ("weather", "origin", "6h"),
    ):
        known = read(f"features/{name}").sort_values("event_timestamp")
        known["event_timestamp"] = known["event_timestamp"].astype("datetime64[ns, UTC]")
        table = pd.merge_asof(table, known, on="event_timestamp", by=entity, tolerance=pd.Timedelta(age))
    table = table.drop(columns=["route", "event_timestamp"]).dropna()
    return table, table.pop("label")


if __name__ == "__main__":
    main()
