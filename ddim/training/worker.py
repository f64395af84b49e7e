"""A process that lends its devices to a training which another process leads."""

from ddim.networks import checkpoint
from ddim.settings.params import TrainParams
from ddim.training import callbacks, devices, input_pipeline, resume
from ddim.training import train as training


def follow(
    description: checkpoint.Description,
    train: TrainParams,
) -> None:
    """Compute this process's share of every batch; write, judge and show nothing.

    Settings and prepared data are to be those of the leader, whose state it takes over.
    Raises `DdimError` where the training breaks down, or another process is gone.
    """
    with devices.spread(train.devices):
        model, batches, validation = training.set_up(description, train)
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
