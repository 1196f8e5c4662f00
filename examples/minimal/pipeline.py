"""Tells malignant from benign tumours: scikit-learn's breast cancer data, split, trained on, evaluated."""

from kfp import dsl

PACKAGES = ["scikit-learn==1.7.2", "pandas==2.3.3", "pyarrow==21.0.0"]


@dsl.component(base_image="python:3.11", packages_to_install=PACKAGES)
def load(train: dsl.Output[dsl.Dataset], test: dsl.Output[dsl.Dataset], test_size: float, seed: int):
    """Split the bundled data, with the same share of each class in both parts."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    data = load_breast_cancer(as_frame=True).frame.rename(columns={"target": "label"})
    parts = train_test_split(data, test_size=test_size, random_state=seed, stratify=data["label"])
    for artifact, part in zip((train, test), parts):
        part.rename_axis("id").reset_index().to_parquet(artifact.path, index=False)
        artifact.metadata["rows"] = len(part)


@dsl.component(base_image="python:3.11", packages_to_install=PACKAGES)
def train(data: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model], c: float, seed: int):
    """Fit a logistic regression on standardized features."""
    from pathlib import Path

    import joblib
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = pd.read_parquet(data.path)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000, random_state=seed))
    classifier.fit(rows.drop(columns=["id", "label"]), rows["label"])
    folder = Path(model.path)
    folder.mkdir(parents=True)
    joblib.dump(classifier, folder / "model.joblib")
    model.metadata["framework"] = "scikit-learn"


@dsl.component(base_image="python:3.11", packages_to_install=PACKAGES)
def evaluate(
    model: dsl.Input[dsl.Model],
    data: dsl.Input[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    predictions: dsl.Output[dsl.Dataset],
    golden: dsl.Output[dsl.Dataset],
):
    """Measure the model on the test data; keep its predictions, and twenty of them to check a copy of it by."""
    import joblib
    import pandas as pd
    from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score, roc_curve

    rows = pd.read_parquet(data.path)
    features = rows.drop(columns=["id", "label"])
    score = joblib.load(f"{model.path}/model.joblib").predict_proba(features)[:, 1]
    prediction = (score >= 0.5).astype(int)
    metrics.log_metric("auc", float(roc_auc_score(rows["label"], score)))
    metrics.log_metric("accuracy", float(accuracy_score(rows["label"], prediction)))
    classification.log_confusion_matrix(["malignant", "benign"], confusion_matrix(rows["label"], prediction).tolist())
    classification.log_roc_curve(*(axis[1:].tolist() for axis in roc_curve(rows["label"], score)))
    rows[["id", "label"]].assign(score=score, prediction=prediction).to_parquet(predictions.path, index=False)
    features.assign(score=score).head(20).to_parquet(golden.path, index=False)


@dsl.pipeline(name="breast-cancer")
def pipeline(c: float = 1.0, test_size: float = 0.25, seed: int = 7):
    """Load, train, evaluate."""
    parts = load(test_size=test_size, seed=seed)
    trained = train(data=parts.outputs["train"], c=c, seed=seed)
    evaluate(model=trained.outputs["model"], data=parts.outputs["test"])
