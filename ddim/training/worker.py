"""Worker process: computes its share of each batch; process 0 does the rest."""

from ddim.networks.description import Description
from ddim.settings.sections import TrainParams
from ddim.training import callbacks, devices, input_pipeline, resume
from ddim.training.train import set_up


def work(description: Description, train: TrainParams) -> None:
    """Compute this process's share of every batch; write, judge and show nothing.

    Settings and prepared data are to be those of the leader, whose state it takes over.
    Raises `DdimError` where the training breaks down, or another process is gone.
    """
    with devices.spread(train.devices):
        model, batches, validation = set_up(description, train)
        epochs = resume.follow(callbacks.state_variables(model))
        print(f"train: process {devices.process()} helps", flush=True)
        fed, fed_validation = input_pipeline.feed(model, batches, validation)
        model.fit(
            fed,
            validation_data=fed_validation,
            epochs=train.epochs,
            initial_epoch=epochs,
            shuffle=False,
            verbose=0,
            callbacks=[callbacks.SeedEpochs(batches), callbacks.StopOnNonFinite()],
        )
