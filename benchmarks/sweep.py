"""What a sweep saves on two nodes, and what a worker adds to its experiment.

    python -m benchmarks.sweep --experiments 12

Trains the recipe `tiny` with so many seeds in clones of the last commit: one after
another by `dvc exp run`, which may use all processors, and by `ddim cluster run` on two
nodes of one processor. Then a worker runs one of them again under another name, and
`dvc exp run` does. DVC restores every stage, so that the difference is what a worker
adds (clone, checkout, push, looking whether it arrived). Prints seconds and ratios.
Needs `make cluster`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml

from ddim.settings import recipes

NODES = 2


def main() -> None:
    options = _parser().parse_args()
    seeds = [*range(1, options.experiments + 1)]
    # Ray has sockets in here, whose addresses must be short.
    with tempfile.TemporaryDirectory(prefix="d") as folder:
        os.environ["TMPDIR"] = folder
        os.environ["RAY_AUTH_MODE"] = "disabled"
        alone, swept = (_project(Path(folder) / name) for name in ("a", "b"))
        one_by_one = sum(
            _seconds(alone, "dvc", "exp", "run", "-q", "-S", f"train.seed={seed}")
            for seed in seeds
        )
        together = _on_nodes(swept, seeds)
        setting = ("-S", f"train.seed={seeds[0]}")
        worker = _seconds(swept, "ddim", "cluster", "task", "--name", "w", *setting)
        plain = _seconds(swept, "dvc", "exp", "run", "-q", "--name", "p", *setting)
    rows = {
        f"{len(seeds)} experiments, one after another": one_by_one,
        f"{len(seeds)} experiments, {NODES} nodes of one processor": together,
        "a worker, all stages restored": worker,
        "the same by dvc exp run": plain,
    }
    table = pd.DataFrame({"seconds": pd.Series(rows)}).round(1)
    table["ratio to the first"] = (table["seconds"] / one_by_one).round(3)
    print(table.to_string())


def _project(folder: Path) -> Path:
    """A clone with the recipe committed, in which all stages ran once."""
    _run(Path(), "git", "clone", "-q", str(Path().resolve()), str(folder))
    settings = yaml.safe_dump(recipes.whole("tiny"), sort_keys=False)
    (folder / "params.yaml").write_text(settings, encoding="utf-8")
    for key, value in (("name", "ddim"), ("email", "ddim@localhost")):
        _run(folder, "git", "config", f"user.{key}", value)
    _run(folder, "git", "commit", "-q", "-a", "-m", "tiny")
    _run(folder, sys.executable, "-m", "dvc", "repro", "-q")
    return folder


def _on_nodes(project: Path, seeds: list[int]) -> float:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(NODES):
        cluster.add_node(num_cpus=1)
    values = f"train.seed={','.join(map(str, seeds))}"
    where = ("--address", cluster.address)
    seconds = _seconds(project, "ddim", "cluster", "run", *where, "-S", values)
    cluster.shutdown()
    return seconds


def _seconds(folder: Path, module: str, *words: str) -> float:
    began = time.perf_counter()
    _run(folder, sys.executable, "-m", module, *words)
    return time.perf_counter() - began


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--experiments", type=int, default=12)
    return parser


if __name__ == "__main__":
    main()
