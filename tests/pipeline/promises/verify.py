"""make verify: two clean clones, run one after the other, give the same bytes.

The clones lie in different folders and their environments differ in what should not
matter: time zone, language, hash seed, file permissions, number of columns.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.pipeline.promises import clones

ENVIRONMENTS = (
    {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1", "COLUMNS": "80"},
    {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "2", "COLUMNS": "200"},
)
UMASKS = (0o022, 0o027)


def reproduce(folder: Path, recipe: str, changes: Sequence[str], turn: int) -> Path:
    """Run the whole pipeline in a fresh clone; ends the program if it fails."""
    place = clones.clone(folder, clones.settings_of(recipe, changes))
    print(f"run {turn + 1} ...", flush=True)
    done = subprocess.run(
        clones.REPRODUCE,
        cwd=place,
        env=clones.environment(**ENVIRONMENTS[turn]),
        umask=UMASKS[turn],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nerror: run {turn + 1} failed")
    return place


def compare(first: Path, second: Path) -> list[str]:
    """Print a table of every output's MD5 in both; return the files that differ."""
    left, right = clones.outputs(first), clones.outputs(second)
    width = max(map(len, left | right))
    print(f"\n{'output':{width}}  {'md5 of run 1':36}  {'md5 of run 2':36}")
    for output in left | right:
        pair = left.get(output, "missing"), right.get(output, "missing")
        verdict = "same" if pair[0] == pair[1] else "DIFFERENT"
        print(f"{output:{width}}  {pair[0]:36}  {pair[1]:36}  {verdict}")
    return [
        name
        for output in left | right
        if left.get(output) != right.get(output)
        for name in _different(first, second, output)
    ]


def _different(first: Path, second: Path, output: str) -> list[str]:
    left, right = clones.files(first, output), clones.files(second, output)
    return [name for name in left | right if left.get(name) != right.get(name)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make verify", description=__doc__)
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument(
        "-S", dest="changes", action="append", default=[], metavar="KEY=VALUE"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ddim-") as scratch:
        folders = Path(scratch, "a"), Path(scratch, "another", "place")
        places = [
            reproduce(folder, options.recipe, options.changes, turn)
            for turn, folder in enumerate(folders)
        ]
        different = compare(*places)
    if different:
        sys.exit("\nerror: these files differ: " + ", ".join(different))
    print("\nevery output of both runs has the same bytes")


if __name__ == "__main__":
    main()
