"""Variables of Slurm, Open MPI and Kubernetes become Keras's."""

import pytest

from ddim.errors import DdimError
from ddim.experiments import launchers
from ddim.experiments.launchers import place
from ddim.training.devices import ADDRESSES, COUNT, NUMBER


def test_alone():
    assert place({}) == launchers.Place(0, 1, {})
    assert place({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}).variables == {}
    assert place({"SLURM_PROCID": "0"}).count == 1, "a batch script without srun"


def test_slurm_knows_the_first_host(monkeypatch, tmp_path):
    tool = tmp_path / "scontrol"
    tool.write_text('#!/bin/sh\ntest "$3" = "node[3-4]" && echo node3 && echo node4\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    environ = {
        "SLURM_PROCID": "1",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "node[3-4]",
        "SLURM_JOB_ID": "4099",
    }
    found = place(environ)
    assert not found.leads
    assert found.variables == {ADDRESSES: "node3:61443", NUMBER: "1", COUNT: "2"}
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(DdimError, match="scontrol"):
        place(environ)


@pytest.mark.parametrize(
    "environ",
    [
        {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"},
        {"JOB_COMPLETION_INDEX": "0", COUNT: "2"},
    ],
)
def test_others_must_be_told_the_address(environ):
    with pytest.raises(DdimError, match=ADDRESSES):
        place(environ)
    found = place({**environ, ADDRESSES: "a:1"})
    assert found.leads
    assert found.variables == {ADDRESSES: "a:1", NUMBER: "0", COUNT: "2"}
