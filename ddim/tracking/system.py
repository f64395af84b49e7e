"""What a training takes of its machine: processor, memory, disk, network and GPU."""

from typing import Any

SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
PREFIX = "system/"
"""Of these metrics, which no stage knows of."""


def watch(run_id: str, uri: str) -> Any:
    """MLflow's monitor of this process's machine, going on where an earlier one ended.

    MLflow itself starts one only for a run that its fluent functions start. None if
    `SWITCH` is off, or where the system does not tell, as in some containers.
    """
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        return None
    try:
        monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)
    except (AttributeError, OSError, RuntimeError, ImportError):
        return None
    monitor.start()
    return monitor
