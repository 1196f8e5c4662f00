"""A first pipeline: which customers will leave? Change the data, the columns and the model to yours."""

from kfp import dsl

PACKAGES = ["scikit-learn==1.7.2", "pandas==2.3.3", "pyarrow==21.0.0"]


@dsl.component(base_image="python:3.11", packages_to_install=PACKAGES)
def split(data: str, train: dsl.Output[dsl.Dataset], test: dsl.Output[dsl.Dataset], test_size: float, seed: int):
    """Split the customers, with the same share of those who left in both parts."""
    import pandas as pd
    from sklearn.model_selection import train_test_split

    rows = pd.read_csv(data)
    parts = train_test_split(rows, test_size=test_size, random_state=seed, stratify=rows["churned"])
    for artifact, part in zip((train, test), parts):
        part.to_parquet(artifact.path, index=False)
        artifact.metadata["rows"] = len(part)


@dsl.component(base_image="python:3.11", packages_to_install=PACKAGES)
def train(data: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model], c: float):
    """Fit a logistic regression."""
    from pathlib import Path

    import joblib
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rows = pd.read_parquet(data.path)
    columns = make_column_transformer(
        (StandardScaler(), ["months", "fee", "calls"]), (OneHotEncoder(handle_unknown="ignore"), ["plan"])
    )
    classifier = make_pipeline(columns, LogisticRegression(C=c))
    classifier.fit(rows.drop(columns=["id", "churned"]), rows["churned"])
    folder = Path(model.path)
    folder.mkdir(parents=True)
    joblib.dump(classifier, folder / "model.joblib")
    model.metadata["framework"] = "scikit-learn"


@dsl.component(base_image="python:3.11", packages_to_install=PACKAGES)
def evaluate(
    model: dsl.Input[dsl.Model],
    data: dsl.Input[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    predictions: dsl.Output[dsl.Dataset],
    golden: dsl.Output[dsl.Dataset],
):
    """Measure the model on the test data; keep its predictions, and twenty of them to check a copy of it by."""
    import joblib
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    rows = pd.read_parquet(data.path).rename(columns={"churned": "label"})
    features = rows.drop(columns=["id", "label"])
    score = joblib.load(f"{model.path}/model.joblib").predict_proba(features)[:, 1]
    metrics.log_metric("auc", float(roc_auc_score(rows["label"], score)))
    kept = rows[["id", "label"]].assign(score=score, prediction=(score >= 0.5).astype(int))
    kept.to_parquet(predictions.path, index=False)
    features.assign(score=score).head(20).to_parquet(golden.path, index=False)


@dsl.pipeline(name="churn")
def pipeline(data: str = "data/customers.csv", c: float = 1.0, test_size: float = 0.25, seed: int = 7):
    """Split, train, evaluate."""
    parts = split(data=data, test_size=test_size, seed=seed)
    trained = train(data=parts.outputs["train"], c=c)
    evaluate(model=trained.outputs["model"], data=parts.outputs["test"])
