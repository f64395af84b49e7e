"""What a training tells its run."""

import keras
import numpy as np

from ddim.tracking import Run
from ddim.tracking.callback import LogEpochs


def test_every_epoch_is_logged_with_its_seconds_and_its_picture(tmp_path, monkeypatch):
    run, figures, pictures = Run(enabled=False), {}, []
    monkeypatch.setattr(run, "log_metrics", lambda f, step: figures.update({step: f}))
    monkeypatch.setattr(run, "log_epoch", pictures.append)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    data = np.ones((4, 1))
    log = LogEpochs(run, tmp_path)
    model.fit(data, data, epochs=2, verbose=0, callbacks=[log])
    assert set(figures) == {1, 2}
    assert all(
        each["epoch_seconds"] > 0 and "loss" in each for each in figures.values()
    )
    names = ("epoch_0001.png", "epoch_0002.png")
    assert pictures == [tmp_path / name for name in names]
