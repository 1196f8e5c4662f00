"""Keep what a version leaves behind, so that the next ones are tested with it: `scripts/freeze X.Y.Z`.

A small consumer goes through the chain of that version twice, with its store on an S3 server that is started for it,
and one of the two versions of its model is deployed after the other. `tests/upgrade/X.Y.Z` then has

- `consumer`: the files of `examples/starter`, with `mlops.yaml` of `tests/upgrade/consumer`, both as that version takes
  them, and `callers`: the examples' workflows,
- `store`: every object that was written: records, manifests, aliases, the deployments, finished work, reports,
- `home`: what is kept on a machine beside the store, such as what the engine `local` serves,
- `workflows.json` and `actions.json`: what the reusable workflows and the actions take and give.

tests/contract/test_upgrade.py lets the present code go on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

import servers  # noqa: E402
from mlops_actions.environments import cache_folder  # noqa: E402

BUCKET = "frozen"
STORE = f"s3://{BUCKET}/churn"
HOME = "/frozen/home"
"""In the place of the folder where it was made: nothing of that machine is kept."""
CHAIN = ("validate-data", "run-pipeline", "evaluate-model", "test-model", "register-model", "promote-model")
RUNS = {"first": ["--parameters", "c=1.0"], "second": ["--parameters", "c=0.5"]}
TEXT = {".json", ".yaml", ".md", ".html", ".txt"}


def freeze(checkout: Path, folder: Path) -> None:
    """Make the folder of a version from a checkout of it."""
    server = servers.seaweedfs()
    server.client().make_bucket(BUCKET)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        consumer, home = made / "consumer", made / "home"
        for part in ("examples/starter", "tests/upgrade/consumer"):  # as they are in that version, if it has them
            source = checkout / part
            shutil.copytree(source if source.is_dir() else ROOT / part, consumer, dirs_exist_ok=True)
        shutil.copytree(consumer, folder / "consumer")
        environ = {**os.environ, **server.environ(STORE), "MLOPS_HOME": str(home)}
        environ |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "someone"}

        def mlops(action: str, run: str, *options: str) -> None:
            command = [str(checkout / "scripts" / "mlops"), action, *options]
            subprocess.run(command, cwd=consumer, env={**environ, "MLOPS_RUN": run}, check=True)

        try:
            for run, parameters in RUNS.items():
                for action in CHAIN:
                    mlops(action, run, *(parameters if action == "run-pipeline" else []))
                mlops("deploy-model", run)
                mlops("monitor-model", run)
                mlops("report", run)
        finally:
            mlops("deploy-model", "end", "--stop")
        for one in server.client().list_objects(BUCKET, recursive=True):
            if not str(one.object_name).endswith((".png", ".html")):  # large, and read by people alone
                server.client().fget_object(BUCKET, str(one.object_name), str(folder / "store" / str(one.object_name)))
        keep_home(home, folder / "home")
        names = {str(home): HOME, str(consumer): "/frozen/consumer", server.endpoint: "http://127.0.0.1:8333"}
        names[str(cache_folder())] = "/frozen/cache"
        boot = Path("/proc/sys/kernel/random/boot_id")
        names |= {boot.read_text().strip(): "an-earlier-start"} if boot.exists() else {}
        forget(folder, names)
    callers(checkout, folder / "callers")
    write(folder / "workflows.json", callable_workflows(checkout))
    write(folder / "actions.json", actions(checkout))


def keep_home(home: Path, folder: Path) -> None:
    """What of a machine's folder is small and not made again."""
    for path in sorted(home.rglob("*.json")):
        if path.stat().st_size < 20_000:
            target = folder / path.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def forget(folder: Path, names: Mapping[str, str]) -> None:
    """Put other names in the place of this machine's."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in TEXT:
            text = path.read_text(encoding="utf-8")
            for name, other in names.items():
                for form in (name, name.replace("_", "\\_")):  # as it is, and as Markdown has it
                    text = text.replace(form, other)
            path.write_text(text, encoding="utf-8")


def callers(checkout: Path, folder: Path) -> None:
    """The workflows that the examples call ours with."""
    for path in sorted(checkout.glob("examples/*/.github/workflows/*.yml")):
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / f"{path.parents[2].name}-{path.name}")


def callable_workflows(checkout: Path) -> dict[str, dict[str, list[str]]]:
    """The inputs and secrets of each reusable workflow."""
    found = {}
    for path in sorted((checkout / ".github" / "workflows").glob("*.yml")):
        call = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader).get("on")
        call = call.get("workflow_call") if isinstance(call, dict) else None
        if call:
            found[path.name] = {part: sorted(call.get(part) or {}) for part in ("inputs", "secrets", "outputs")}
    return found


def actions(checkout: Path) -> dict[str, dict[str, list[str]]]:
    """The inputs and outputs of each action."""
    found = {}
    for path in sorted((checkout / "actions").glob("*/action.yml")):
        text = yaml.safe_load(path.read_text(encoding="utf-8"))
        found[path.parent.name] = {part: sorted(text.get(part) or {}) for part in ("inputs", "outputs")}
    return found


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Run the command. 0 done, 2 the folder is there already, or there is no such commit."""
    parser = argparse.ArgumentParser(
        prog="scripts/freeze", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", help="X.Y.Z, whose folder is made")
    parser.add_argument("commit", nargs="?", help="by default the tag vX.Y.Z")
    given = parser.parse_args()
    folder = Path(__file__).parent / given.version
    commit = given.commit or f"v{given.version}"
    if folder.exists():
        print(f"scripts/freeze: {folder} exists already.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
        checkout, made = Path(scratch, "checkout"), Path(scratch, "made")
        worktree = ["git", "-C", str(ROOT), "worktree"]
        if subprocess.run([*worktree, "add", "--quiet", "--detach", str(checkout), commit], check=False).returncode:
            print(f"scripts/freeze: there is no commit {commit}. Fetch the tags, or name one.", file=sys.stderr)
            return 2
        try:
            freeze(checkout, made)
        finally:
            subprocess.run([*worktree, "remove", "--force", str(checkout)], check=True)
        made.rename(folder)
    print(f"{folder}: {sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
