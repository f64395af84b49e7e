"""MLflow as a sink: runs, data sets and models, and never a reason to stop."""

from ddim.tracking.provenance import MODEL_SECTIONS
from ddim.tracking.run import Run, attach, start

__all__ = ["MODEL_SECTIONS", "Run", "attach", "start"]
