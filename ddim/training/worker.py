"""Worker process: computes its share of each batch; process 0 does the rest."""

from ddim.networks.description import Description
from ddim.settings.sections import TrainParams
from ddim.training import callbacks, devices, resume
from ddim.training.loop import fit
from ddim.training.train import set_up


def work(description: Description, train: TrainParams) -> None:
    """Compute this process's share of every batch, and nothing else.

    Settings and prepared data must be those of the leader, whose state it takes over.
    Raises `DdimError` where the training breaks down, or another process is gone.
    """
    with devices.spread(train.devices):
        model, training, validation = set_up(description, train)
        trained = resume.follow(callbacks.state_variables(model))
        print(f"train: process {devices.process()} helps", flush=True)
        fit(model, training, validation, epochs=train.epochs, trained=trained)
