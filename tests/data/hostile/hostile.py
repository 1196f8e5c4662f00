# ruff: noqa
from kfp import dsl


@dsl.component(base_image="python:3.11")
def good(
    metrics: dsl.Output[dsl.Metrics],
    cls: dsl.Output[dsl.ClassificationMetrics],
    model: dsl.Output[dsl.Model],
    note: str,
) -> str:
    import os, sys
    from pathlib import Path

    print("::set-output name=model-uri::EVIL1")
    print("::add-mask::a")
    print("##[set-output name=model-uri]EVIL2")
    print("epoch 1 ##[set-output name=model-uri]EVIL3")
    print("epoch 1 ##[set-env name=X]Y")
    print("\x1b[31mred \x1b]0;title\x07 \x00 nul \u202e rtl \u2028::error::x \r::error::cr")
    print("\ufeff::error::bom")
    print("\u00a0::error::nbsp")
    print("\u200b::error::zwsp")
    print("x" * 300000)
    # what can code under training see?
    pp = os.getppid()
    seen = []
    for _ in range(6):
        try:
            e = open(f"/proc/{pp}/environ", "rb").read().decode(errors="replace")
            c = open(f"/proc/{pp}/cmdline", "rb").read().replace(b"\0", b" ").decode()[:80]
            seen.append(c + " :: " + ";".join(sorted(v.split("=")[0] for v in e.split("\0") if v)))
            pp = int([l for l in open(f"/proc/{pp}/status") if l.startswith("PPid")][0].split()[1])
        except OSError as x:
            seen.append(str(x))
            break
    Path(os.environ["SEEN"]).write_text(
        "\n".join(seen)
        + "\nOWN "
        + ";".join(sorted(k for k, v in os.environ.items() if v))
        + "\nALLOWN "
        + " ".join(sorted(os.environ))
    )
    metrics.log_metric("<img src=x onerror=alert(1)>", 0.5)
    metrics.log_metric("&#64;octocat @octocat [x](javascript:alert(1)) | `a`", 1e308)
    metrics.log_metric("m", "<img src=y onerror=alert(2)>")
    metrics.log_metric("big", 10**400 if False else 1.7e308)
    cls.log_confusion_matrix(["<img src=z onerror=alert(3)>", "b"], [["<img src=w onerror=alert(4)>", 2], [3, 4]])
    Path(model.path).write_text("model")
    model.metadata["framework"] = "<img src=v onerror=alert(5)>"
    return "<img src=u onerror=alert(6)> &#64;octocat"


@dsl.component(base_image="python:3.11")
def bad(x: str):
    print("~~~~~~~~~\n\n<img src=x onerror=alert(document.domain)>\n\n&#64;octocat @octocat")
    raise ValueError("<img src=q> &#64;octocat ##[set-output name=model-uri]EVIL4 \x1b[2J")


@dsl.pipeline(name="hostile")
def hostile(note: str = "<img src=p onerror=alert(7)> @octocat | `x`", fail: bool = True):
    g = good(note=note)
    with dsl.If(fail == True):
        bad(x=g.outputs["Output"])
