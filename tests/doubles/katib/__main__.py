"""The double as a process: `PYTHONPATH=tests python -m doubles.katib --namespace NAME`, until a signal ends it."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import threading

from .double import KatibDouble


def main() -> None:
    """Run until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m doubles.katib", description=__doc__)
    parser.add_argument("--namespace", action="append", required=True, help="one that exists; may be given again")
    parser.add_argument("--kubeconfig", default=None)
    parser.add_argument("--trials", choices=("pods", "simulated"), default="pods")
    parser.add_argument("--image", default="", help="with Python 3, for the metrics collector; default PYTHON_IMAGE")
    parser.add_argument("--address", default="127.0.0.1", help="where the API server reaches this process")
    parser.add_argument("--faults", default="{}", help='JSON, such as {"suggestion": "never-ready"}')
    parser.add_argument("--release", action="store_true", help="only clean up after a process that was killed")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    double = KatibDouble(
        options.kubeconfig, options.namespace, trials=options.trials, image=options.image, address=options.address,
        **json.loads(options.faults),
    )  # fmt: skip
    if options.release:
        double.release()
        return
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with double:
        logging.info("Katib's double runs in %s", ", ".join(double.namespaces))
        while not ended.wait(1.0):
            pass


if __name__ == "__main__":
    main()
