"""What is chosen before anything is computed."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
from ddim import runtime
runtime.setup("tensorflow", "float32", deterministic=True, operation_threads={count})
import tensorflow
print(tensorflow.config.threading.get_intra_op_parallelism_threads())
"""


@pytest.mark.parametrize(("count", "expected"), [(3, "3"), (None, "0")])
def test_an_operation_takes_so_many_threads(count, expected):
    """0 stands for as many as there are cores."""
    program = PROGRAM.format(count=count)
    command = [sys.executable, "-c", program]
    printed = subprocess.check_output(command, cwd=ROOT, text=True)
    assert printed.strip() == expected
