"""Release the commit that is checked out. Killed at any step and run again, it goes on where it was.

The release's commit has the checked out one as its parent, and differs from it only in own `uses:`, which name that
parent by its full commit. Equal parents give equal release commits. The order:

1. the tag vX.Y.Z, which never moves,
2. a draft with the files of FOLDER (`scripts/build` makes them) and the notes of CHANGELOG.md,
3. published, as soon as every file is there whole; from then on nothing of it changes,
4. the tag of the major version, which moves to it unless a newer release has it.

GH_TOKEN is the token: it may write the repository's contents.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
from github import Auth, Github, GithubException
from github.GitRelease import GitRelease
from github.Repository import Repository

ROOT = Path(__file__).resolve().parents[1]
BOT = "github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com"
HELPER = '!f() { echo username=x-access-token; echo "password=$GH_TOKEN"; }; f'
"""git asks it for the token, which so is on no command line."""
LARGEST = 2 << 30
"""Bytes of an asset; https://docs.github.com/repositories/releasing-projects-on-github/about-releases#storage-and-bandwidth-quotas."""


class Refused(Exception):
    """It cannot be released; the message says why, and what to do."""


class GitFailed(Exception):
    """A git command failed; the message says how."""


def git(*arguments: str, root: Path = ROOT, environ: Mapping[str, str] | None = None) -> str:
    """What a git command prints.

    Raises:
        GitFailed: it failed.
    """
    done = subprocess.run(
        ["git", "-C", str(root), "-c", f"credential.helper={HELPER}", *arguments],
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0", **(environ or {})}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise GitFailed(f"git {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def notes(version: str) -> str:
    """The section of CHANGELOG.md for a version such as `v1.2.3`, without its heading.

    Each item is one line, as GitHub shows the ends of lines in a release.

    Raises:
        Refused: there is none, it is empty, or it still says `unreleased`.
    """
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(version[1:])}\b(.*)\n([\s\S]*?)(?=^## |\Z)", text, re.MULTILINE)
    if not found or not found[2].strip():
        raise Refused(f"CHANGELOG.md has no section {version[1:]}. Write one.")
    if "unreleased" in found[1]:
        raise Refused(f"CHANGELOG.md says that {version[1:]} is unreleased. Put the date there.")
    return re.sub(r"(?<=\S)\n +(?! |[-*] )", " ", found[2].strip())


def release_commit(version: str, parent: str) -> str:
    """The id of the release's commit, made in a worktree of its own: the checkout stays as it is."""
    date = git("show", "--no-patch", "--format=%cI", parent)
    said = {"NAME": BOT[0], "EMAIL": BOT[1], "DATE": date}
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in said.items()}
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), parent)
        try:
            rewrite = [sys.executable, str(ROOT / "scripts" / "rewrite-uses"), "release", "--root", str(tree)]
            done = subprocess.run([*rewrite, version, parent], capture_output=True, text=True, check=False)
            if done.returncode:
                raise Refused(done.stderr.strip())
            git("-c", "commit.gpgsign=false", "commit", "--all", "--quiet", "--message", f"Release {version}",
                root=tree, environ=who)  # fmt: skip
            return git("rev-parse", "HEAD", root=tree)
        finally:
            git("worktree", "remove", "--force", str(tree))


def remote_tags(remote: str) -> dict[str, str]:
    """The remote's tags of versions, and their commits."""
    lines = (line.split("\t") for line in git("ls-remote", "--tags", remote).splitlines())
    return {name.removeprefix("refs/tags/"): commit for commit, name in lines}


def numbers(tag: str) -> tuple[int, ...]:
    """A tag such as `v1.10.0` as one can order it; () for another one."""
    return tuple(map(int, tag[1:].split("."))) if re.fullmatch(r"v\d+\.\d+\.\d+", tag) else ()


def check_frozen(version: str, tags: Mapping[str, str]) -> None:
    """Ask that the newest release of an earlier minor version is among those that the upgrade test goes on from.

    Raises:
        Refused: it is not.
    """
    earlier = [tag for tag in tags if numbers(tag) and numbers(tag)[:2] < numbers(version)[:2]]
    previous = max(earlier, key=numbers, default="")
    frozen = [path.name for path in (ROOT / "tests" / "upgrade").iterdir()]
    if previous and not any(numbers(f"v{name}")[:2] == numbers(previous)[:2] for name in frozen):
        raise Refused(f"No test upgrades from {previous}. Run `scripts/freeze {previous[1:]}` and commit the folder.")


def find_release(repository: Repository, version: str) -> GitRelease | None:
    """The release of a tag, also when it is a draft, which is not found by its tag."""
    return next((one for one in repository.get_releases() if one.tag_name == version), None)


def upload(draft: GitRelease, files: Sequence[Path]) -> None:
    """Bring the draft's assets to what the files are: what is there whole stays, a half or another one is replaced."""
    there = {asset.name: asset for asset in draft.get_assets()}
    for path in files:
        asset = there.pop(path.name, None)
        if asset and is_whole(asset.raw_data, path):
            print(f"{path.name}: is there")
            continue
        if asset:
            asset.delete_asset()
        draft.upload_asset(str(path), name=path.name, content_type="application/octet-stream")
        print(f"{path.name}: uploaded")
    for name, asset in there.items():
        asset.delete_asset()
        print(f"{name}: removed, it is not of this release")


def is_whole(asset: Mapping[str, Any], path: Path) -> bool:
    """Whether an asset, as GitHub tells of it, has a file's content. An older server has no digests."""
    digest = f"sha256:{digest_of(path)}"
    same = asset.get("size") == path.stat().st_size and asset.get("digest") in (digest, None)
    return same and asset.get("state") == "uploaded"


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, which may be larger than the memory."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def release(version: str, folder: Path, remote: str, repository: Repository, *, dry: bool) -> None:
    """See the module.

    Raises:
        Refused: it cannot be released.
        GitFailed, GithubException: git or GitHub failed.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise Refused(f"{folder} is empty. Run `scripts/build {folder}`.")
    for path in files:
        if path.stat().st_size >= LARGEST:
            raise Refused(f"{path.name} has {path.stat().st_size:,} bytes. GitHub takes assets of less than 2 GiB.")
    text = notes(version)
    if git("status", "--porcelain"):
        raise Refused("The checkout has changes that are not committed.")
    parent = git("rev-parse", "HEAD")
    commit = release_commit(version, parent)
    tags = remote_tags(remote)
    if tags.get(version, commit) != commit:
        raise Refused(f"{version} is {tags[version]} already, and a release never changes. Raise the version.")
    check_frozen(version, tags)
    found = find_release(repository, version)
    major = version.split(".")[0]
    newest = max((tag for tag in {*tags, version} if tag.startswith(f"{major}.")), key=numbers)
    print(f"{version} is {commit}, of {parent}; {len(files)} files")
    if dry:
        print("\n".join(f"  {path.name}, {path.stat().st_size:,} bytes" for path in files))
        print(f"notes:\n{text}")
        return
    if version not in tags:
        git("push", "--quiet", remote, f"{commit}:refs/tags/{version}")
        print(f"{version}: tag pushed")
    if found is None:
        found = repository.create_git_release(version, version, text, draft=True)
    if found.draft:
        upload(found, files)
        latest = max({*tags, version}, key=numbers) == version
        found = found.update_release(version, text, draft=False, make_latest="true" if latest else "false")
        print(f"{version}: published, {found.html_url}")
        if not found.raw_data.get("immutable"):
            print("It can be changed: turn on immutable releases in the repository's settings.", file=sys.stderr)
    else:
        print(f"{version}: is published, {found.html_url}")
    print(f"Next: `scripts/freeze {version[1:]}`, and commit the folder for the upgrade test.")
    if newest != version:
        print(f"{major}: stays at {newest}")
    elif tags.get(major) != commit:
        lease = f"--force-with-lease=refs/tags/{major}:{tags.get(major, '')}"  # moved meanwhile: refused
        git("push", "--quiet", lease, remote, f"{commit}:refs/tags/{major}")
        print(f"{major}: moved")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. 0 released, 2 refused, 3 GitHub failed."""
    name = os.environ.get("GITHUB_REPOSITORY", "mlops-actions/mlops-actions")
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    parser = argparse.ArgumentParser(
        prog="scripts/release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", help="vX.Y.Z; the package must say the same")
    parser.add_argument("folder", type=Path, help="its files")
    parser.add_argument("--remote", default=f"{server}/{name}.git", help="of the tags; default: %(default)s")
    parser.add_argument("--api", default=os.environ.get("GITHUB_API_URL", "https://api.github.com"), help="%(default)s")
    parser.add_argument("--dry-run", action="store_true", help="say what would be released, and change nothing")
    given = parser.parse_args(arguments)
    try:
        if not numbers(given.version):
            raise Refused(f"{given.version} is not a version such as v1.2.3.")
        source = (ROOT / "scripts" / "mlops_actions" / "__init__.py").read_text(encoding="utf-8")
        package = re.search(r'^__version__ = "(.*)"', source, re.MULTILINE)
        if not package or f"v{package[1]}" != given.version:
            said = package[1] if package else "no version"
            raise Refused(f"The package says {said}. Change __version__ and CHANGELOG.md first.")
        token = os.environ.get("GH_TOKEN")
        if not token:
            raise Refused("GH_TOKEN is not set.")
        github = Github(auth=Auth.Token(token), base_url=given.api, timeout=300, lazy=True)
        release(given.version, given.folder, given.remote, github.get_repo(name), dry=given.dry_run)
    except (GitFailed, GithubException, requests.RequestException) as error:
        print(f"scripts/release: {error}. Run it again: it goes on where it was.", file=sys.stderr)
        return 3
    except (Refused, OSError) as error:
        print(f"scripts/release: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
