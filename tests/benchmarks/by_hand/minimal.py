"""What a hand-written workflow runs for examples/minimal: train, evaluate, gate, check a copy, keep the version."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import joblib
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

data = load_breast_cancer(as_frame=True).frame
train, test = train_test_split(data, test_size=0.25, random_state=7, stratify=data["target"])
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=7))
model.fit(train.drop(columns="target"), train["target"])
features = test.drop(columns="target")
score = model.predict_proba(features)[:, 1]
metrics = {
    "auc": float(roc_auc_score(test["target"], score)),
    "accuracy": float(accuracy_score(test["target"], score >= 0.5)),
}
if metrics["auc"] < 0.9:
    sys.exit(f"auc {metrics['auc']} is below 0.9")
digest = hashlib.sha256(json.dumps(metrics).encode()).hexdigest()[:12]
version = Path(os.environ["STORE"]) / "models" / digest
version.mkdir(parents=True)
joblib.dump(model, version / "model.joblib")
(version / "metrics.json").write_text(json.dumps(metrics))
golden = features.assign(score=score).head(20)
golden.to_parquet(version / "golden.parquet")
code = f"""
import joblib, pandas as pd
rows = pd.read_parquet({str(version / "golden.parquet")!r})
found = joblib.load({str(version / "model.joblib")!r}).predict_proba(rows.drop(columns="score"))[:, 1]
assert (abs(found - rows["score"]) < 1e-9).all()
"""
subprocess.run([sys.executable, "-c", code], check=True)
with Path(os.environ["GITHUB_STEP_SUMMARY"]).open("a") as summary:
    summary.write(pd.DataFrame([metrics]).to_html(index=False) + "\n")
