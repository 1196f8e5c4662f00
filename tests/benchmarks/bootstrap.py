"""Resamples of ROC AUC by our bootstrap, beside scikit-learn in a loop.

`python tests/benchmarks/bootstrap.py [rows] [draws]` prints the seconds of so many resamples of one model's AUC, and of
the difference of two models', with rows and with blocks of a thousand rows; what scikit-learn takes for as many, from a
few that are timed in the same run; their ratio; the standard errors of both, which agree; and the peak of memory. The
aim for 1,000,000 rows and 1,000 draws is 10 s on two cores, and 50 times scikit-learn.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from mlops_actions.evaluation import formulas, resampling
from mlops_actions.evaluation.compare import paired
from mlops_actions.evaluation.metric import METRICS
from mlops_actions.evaluation.predictions import Predictions

LOOPED = 9


def main() -> None:
    """Prepare, measure, print."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    draws = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    random = np.random.default_rng(1)
    label = (random.random(rows) < 0.3).astype(float)
    new, old = (random.normal(size=rows) + label for _ in range(2))
    print(f"{rows:,} rows, {draws:,} resamples of ROC AUC")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, used = time.perf_counter(), time.process_time()
    found = resampling.bootstrap(formulas.auc(label, new), rows, rows, draws)
    ours, cpu = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"ours           {ours:7.1f} s ({cpu:.1f} s of processors)   standard error {found.std():.6f}")
    print(f"memory         {(peak - before) / 1024:7.0f} MB more than before")

    looped, values, used = [], [], time.process_time()
    for _ in range(LOOPED):
        began = time.perf_counter()
        drawn = random.integers(0, rows, rows)
        values.append(roc_auc_score(label[drawn], new[drawn]))
        looped.append(time.perf_counter() - began)
    theirs, cpu = statistics.median(looped) * draws, (time.process_time() - used) / LOOPED * draws
    timed = f"{cpu:.1f} s of processors; {LOOPED} timed"
    print(f"scikit-learn   {theirs:7.1f} s ({timed})   standard error {np.std(values):.6f}")
    print(f"ratio          {theirs / ours:7.0f}")

    sides = [Predictions("binary", label, score, weight=np.ones(rows)) for score in (new, old)]
    blocks = [Predictions("binary", label, score, blocks=np.arange(rows) // 1_000) for score in (new, old)]
    for name, pair in (("weighted rows", sides), ("blocks", blocks)):
        began = time.perf_counter()
        compared = paired(METRICS["auc"], *pair, draws=draws)
        assert compared is not None
        print(f"two models, {name}: {time.perf_counter() - began:.1f} s; {compared.sentence()}")


if __name__ == "__main__":
    main()
