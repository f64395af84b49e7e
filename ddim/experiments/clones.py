"""The clone in which a worker runs one experiment: made, filled, and deleted."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from ddim import git
from ddim.errors import DdimError
from ddim.experiments.home import Home
from ddim.experiments.sweep import Experiment

LOCK_SECONDS = 60
"""An earlier attempt that is just being stopped has so long to end."""
STOP_SECONDS = 30
"""A training that is stopped has so long to end by itself."""


def folder(experiment: Experiment, home: Home, suffix: str = "") -> Path:
    """Where the clone of this experiment lies on this machine, while it runs."""
    key = sha256(f"{home.git} {experiment.commit}".encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"ddim-{key}-{experiment.name}{suffix}"


def log_file(clone: Path) -> Path:
    """What the experiment printed; kept where it failed."""
    return clone.with_name(f"{clone.name}.log")


def scratch(clone: Path) -> Path:
    """The folder for temporary files, which goes with the clone."""
    return clone / ".dvc/tmp/scratch"


@contextmanager
def alone(clone: Path) -> Iterator[Path]:
    """Only one worker per clone, which is deleted at the end.

    What a killed worker has left is cleared away first.
    """
    lock = FileLock(clone.with_name(f"{clone.name}.lock"), timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise DdimError(
            f"{clone.name}: expected to run this experiment alone; it is already "
            "running on this machine"
        ) from None
    try:
        _delete(clone)
        yield clone
    finally:
        _delete(clone)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _delete(clone: Path) -> None:
    """Delete a clone, and end before it what might still write there."""
    end(_processes_in(clone))
    shutil.rmtree(clone, ignore_errors=True)


def _processes_in(clone: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cwd"])
    return [one for one in found if one.info["cwd"] == str(clone)]


def end(processes: Sequence[psutil.Process]) -> None:
    """Ask processes to end, and make those that do not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for one in processes:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(number)
        _, processes = psutil.wait_procs(processes, timeout=STOP_SECONDS)


def make(experiment: Experiment, home: Home, clone: Path) -> None:
    """Clone the experiment's commit, with what git does not keep: DVC's settings and
    the images."""
    git.run(".", "clone", "--quiet", "--no-checkout", home.git, str(clone))
    git.run(clone, "checkout", "--quiet", "--detach", experiment.commit)
    for key, value in home.identity.items():
        git.run(clone, "config", f"user.{key}", value)
    from dvc.config import Config

    with Config(str(clone / ".dvc")).edit("local") as config:
        for section, values in home.data.items():
            config[section] = {**config.get(section, {}), **values}
    scratch(clone).mkdir(parents=True, exist_ok=True)
    _bring_images(experiment, home, clone)


def _bring_images(experiment: Experiment, home: Home, clone: Path) -> None:
    """Link the images of the project's folder, which are no part of the commit.

    DVC tells by them whether crops are of these images or of earlier ones.
    """
    folder = experiment.settings(clone)["data"]["folder"]
    if home.project and not (clone / f"{folder}.dvc").exists():
        images = Path(home.project, folder)
        if images.is_dir() and not Path(folder).is_absolute():
            shutil.copytree(
                images,
                clone / folder,
                symlinks=True,
                copy_function=_link,
                dirs_exist_ok=True,
            )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:  # another disk
        shutil.copyfile(source, target)
