"""What a hand-written workflow runs for examples/flight-delays: validate, features, tune, train, evaluate, test, keep.

The example's own modules do the work, called without this project: what is left is glue.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import joblib
import optuna
import pandas as pd
import pandera.polars as pa
import pipeline
import polars as pl
from sklearn.metrics import log_loss, roc_auc_score

STORE = Path(os.environ["MLOPS_STORE"])


def validate() -> None:
    flights = pl.read_parquet(str(STORE / "data" / "flights" / "2013-0[1-5].parquet"))
    number = {"coerce": False, "nullable": False}
    schema = pa.DataFrameSchema(
        {
            "year": pa.Column(pl.Int64, pa.Check.equal_to(2013), **number),
            "month": pa.Column(pl.Int64, pa.Check.in_range(1, 12), **number),
            "day": pa.Column(pl.Int64, pa.Check.in_range(1, 31), **number),
            "carrier": pa.Column(pl.String, pa.Check.str_matches("^[A-Z0-9]{2}$")),
            "origin": pa.Column(pl.String, pa.Check.isin(["EWR", "JFK", "LGA"])),
            "distance": pa.Column(pl.Int64, pa.Check.in_range(10, 6000), **number),
        }
    )
    schema.validate(flights)
    assert (
        flights.height > 20_000
        and not flights.select("year", "month", "day", "sched_dep_time", "carrier", "flight", "origin", "dest")
        .is_duplicated()
        .any()
    )


def features() -> None:
    subprocess.run([sys.executable, "features/build.py"], check=True)
    Path(os.environ["MLOPS_HOME"], "features").mkdir(parents=True)
    feast = str(Path(sys.executable).with_name("feast"))
    subprocess.run([feast, "-c", "features", "apply"], check=True)
    subprocess.run([feast, "-c", "features", "materialize", "2013-01-01T00:00:00", "2013-06-01T00:00:00"], check=True)


def tune() -> dict[str, float]:
    def trial(one: optuna.Trial) -> float:
        given = {
            "learning_rate": one.suggest_float("learning_rate", 0.02, 0.2),
            "max_iter": one.suggest_int("max_iter", 50, 300, step=50),
            "max_leaf_nodes": one.suggest_int("max_leaf_nodes", 7, 63),
            "l2_regularization": one.suggest_float("l2_regularization", 0, 10),
        }
        options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        said = subprocess.run(
            [sys.executable, "tune.py", *options], check=True, capture_output=True, text=True, env=environ
        )
        return float(said.stdout.split("auc=")[1].split()[0])

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=1))
    study.optimize(trial, n_trials=8, n_jobs=2)
    return study.best_params


def artifact(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, path=str(Path("out", name)), metadata={})


def train(best: dict[str, float]) -> dict[str, float]:
    Path("out").mkdir()
    seen, unseen, model = artifact("train"), artifact("test"), artifact("model")
    pipeline.features.python_func(
        ["2013-01", "2013-02", "2013-03", "2013-04"], ["2013-05"], 0, 60, 1, "", "", seen, unseen
    )
    pipeline.train.python_func(data=seen, seed=1, model=model, **best)
    table = pd.read_parquet(unseen.path)
    columns = table.drop(columns=["id", "month", "label"])
    score = joblib.load(Path(model.path, "model.joblib")).predict_proba(columns)[:, 1]
    metrics = {"auc": roc_auc_score(table["label"], score), "log_loss": log_loss(table["label"], score)}
    columns.assign(score=score).sample(200, random_state=1).to_parquet("out/golden.parquet", index=False)
    if metrics["auc"] < 0.70 or metrics["log_loss"] > 0.52:
        sys.exit(f"not good enough: {metrics}")
    return metrics


def test() -> None:
    """The model in the packages of training, and in the oldest ones."""
    code = """
import joblib, pandas as pd
rows = pd.read_parquet("out/golden.parquet")
found = joblib.load("out/model/model.joblib").predict_proba(rows.drop(columns="score"))[:, 1]
assert (abs(found - rows["score"]) < 1e-9).all()
"""
    for name in ("requirements.txt", "requirements-oldest.txt"):
        subprocess.run([sys.executable, "-m", "venv", f"out/{name}.venv"], check=True)
        python = f"out/{name}.venv/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", name], check=True)
        subprocess.run([python, "-c", code], check=True)


validate()
features()
found = train(tune())
test()
shutil.copytree("out/model", STORE / "models" / "1")
Path(STORE, "models", "1", "metrics.json").write_text(json.dumps(found))
with Path(os.environ["GITHUB_STEP_SUMMARY"]).open("a") as summary:
    summary.write(pd.DataFrame([found]).to_html(index=False) + "\n")
