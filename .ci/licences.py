#!/usr/bin/env python3
"""Licences and duplicate versions of everything the workspace depends on, against deny.toml.

deny.toml is cargo-deny's own configuration and `cargo deny check licenses bans sources` reads the same lists; this
needs nothing but cargo and Python, so that it also runs where cargo-deny is not.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict


def main():
    with open("deny.toml", "rb") as file:
        deny = tomllib.load(file)
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--all-features"]
    packages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]

    problems = [
        *licence_problems(packages, set(deny["licenses"]["allow"])),
        *duplicate_problems(packages, deny["bans"].get("skip", [])),
        *source_problems(packages),
    ]
    print(f"{len(packages)} packages, {len(problems)} problems")
    for problem in problems:
        print(" ", problem)
    sys.exit(bool(problems))


def licence_problems(packages, allowed):
    for package in packages:
        expression = package["license"]
        name = f"{package['name']} {package['version']}"
        if not expression:
            yield f"{name}: no licence expression"
        elif not permits(expression, allowed):
            yield f"{name}: {expression} is not covered by deny.toml"


def duplicate_problems(packages, skip):
    versions = defaultdict(set)
    for package in packages:
        versions[package["name"]].add(package["version"])
    # A skipped version does not count; one that is no longer there should leave deny.toml too.
    for entry in skip:
        name, _, version = entry["crate"].partition("@")
        stale = len(versions[name]) < 2 or (version and version not in versions[name])
        if stale:
            yield f"deny.toml skips {entry['crate']}, but there is no such duplicate"
        versions[name].discard(version)
        if not version:
            versions[name].clear()
    for name, found in sorted(versions.items()):
        if len(found) > 1:
            yield f"{name}: {len(found)} versions: {', '.join(sorted(found))}; `cargo tree --duplicates` says why"


def source_problems(packages):
    """All that is not ours comes from one registry, and nothing from a repository or a folder elsewhere."""
    foreign = [package for package in packages if package["source"] is not None]
    registry = next((package["source"] for package in foreign if package["source"].startswith("registry+")), None)
    for package in foreign:
        if package["source"] != registry:
            yield f"{package['name']} {package['version']}: from {package['source']}"


def permits(expression, allowed):
    """Whether the SPDX expression can be satisfied with allowed licences only."""
    # Before SPDX, crates wrote "MIT/Apache-2.0".
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def alternatives():
        result = conjunction()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = conjunction() or result
        return result

    def conjunction():
        result = licence()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = licence() and result
        return result

    def licence():
        token = tokens.pop(0)
        if token == "(":
            result = alternatives()
            tokens.pop(0)
            return result
        if tokens and tokens[0] == "WITH":
            token = f"{token} WITH {tokens[1]}"
            del tokens[:2]
        return token in allowed

    return alternatives()


if __name__ == "__main__":
    main()
