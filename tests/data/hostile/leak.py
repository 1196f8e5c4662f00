# ruff: noqa
from kfp import dsl


@dsl.component(base_image="python:3.11")
def leak(metrics: dsl.Output[dsl.Metrics], model: dsl.Output[dsl.Model], fail: bool) -> str:
    import os, json
    from pathlib import Path

    s = os.environ["AWS_SECRET_ACCESS_KEY"]
    print("plain", s)
    print("repr", repr(s))
    print("json", json.dumps({"a": s}))
    metrics.log_metric("m_" + s, 0.5)
    Path(model.path).write_text("model")
    model.metadata["k"] = s
    if fail:
        raise ValueError("boom " + s)
    return s


@dsl.pipeline(name="leak")
def leakp(fail: bool = False):
    leak(fail=fail)
