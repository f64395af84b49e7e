"""The training objective against closed forms."""

import keras
import numpy as np
import pytest
from keras import ops

from ddim.data.normalizer import Normalizer
from ddim.diffusion.losses import LOSSES
from ddim.networks.description import Description
from ddim.training import callbacks
from ddim.training.batches import Batches
from ddim.training.diffusion_model import COMPONENTS, DiffusionModel
from tests.conftest import tiny_settings

NORMALIZER = Normalizer((0.4, 0.5, 0.3), (0.06, 0.05, 0.07))


def make_model(prediction="noise", classes=None, network=(), **train) -> DiffusionModel:
    settings = tiny_settings(
        network={"class_conditional": classes is not None, **dict(network)},
        diffusion={"prediction": prediction},
        train={"seed": 3, "label_dropout": 0.1, **train},
    )
    description = Description(
        network=settings.network,
        diffusion=settings.diffusion,
        image_shape=(16, 16, 3),
        normalizer=NORMALIZER,
        class_names=tuple(map(str, range(classes or 1))),
        data_digest="",
    )
    return DiffusionModel(description, settings.train)


def images(count=64) -> np.ndarray:
    """Pixels whose normalized values have mean 0 and variance 1."""
    normal = np.random.default_rng(0).normal(size=(count, 16, 16, 3))
    values = np.array(NORMALIZER.mean) + normal * np.sqrt(NORMALIZER.variance)
    return np.clip(np.round(255 * values), 0, 255).astype(np.uint8)


def numpy(values):
    return ops.convert_to_numpy(values)


def test_untrained_mse_loss_is_one():
    model = make_model(loss="mse")
    outputs = model({"images": images(256)}, training=True)
    loss = model.compute_loss(y_pred=outputs)
    assert float(loss) == pytest.approx(1.0, rel=0.01)


def test_true_components_mix_to_what_the_network_is_given():
    outputs = make_model()({"images": images()}, training=True)
    true = outputs["true"]
    snr = numpy(outputs["snr"])
    noise_rates = 1 / np.sqrt(1 + snr)
    signal_rates = np.sqrt(1 - noise_rates**2)
    velocities = signal_rates * numpy(true.noises) - noise_rates * numpy(true.images)
    np.testing.assert_allclose(numpy(true.velocities), velocities, atol=1e-4)
    assert numpy(true.noises).std() == pytest.approx(1.0, rel=0.01)


def test_noise_is_drawn_anew_in_training_and_repeated_in_validation():
    model = make_model()

    def draw(training):
        return numpy(model({"images": images()}, training=training)["true"].noises)

    first, second = draw(True), draw(True)
    assert not np.allclose(first, second)
    model.seed_epoch(0)
    validation = draw(False)
    model.seed_epoch(1)
    np.testing.assert_array_equal(draw(False), validation)
    other_epoch = draw(True)
    model.seed_epoch(1)
    np.testing.assert_array_equal(draw(True), other_epoch)
    model.seed_epoch(0)
    assert not np.allclose(draw(True), other_epoch)


def test_dropout_is_a_function_of_seed_epoch_and_layer():
    model = make_model(network={"dropout": 0.5, "depth": 2})
    layers = [x for x in model.network.layers if isinstance(x, keras.layers.Dropout)]
    assert len(layers) > 2

    def masks(epoch):
        model.seed_epoch(epoch)
        ones = np.ones((1, 8, 8, 4), np.float32)
        return [[numpy(x(ones, training=True)) for x in layers] for _ in range(2)]

    first = np.array(masks(0))
    np.testing.assert_array_equal(masks(0), first)
    different = np.concatenate([*first, *masks(1)])
    assert len({mask.tobytes() for mask in different}) == len(different)
    assert set(np.unique(first)) == {0.0, 2.0}


def test_an_epoch_with_dropout_repeats_itself_from_its_state():
    model = make_model(network={"dropout": 0.5})
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    model.optimizer.build(model.trainable_variables)
    variables = callbacks.state_variables(model)
    batches = Batches(images(32), {}, batch_size=16)

    def train(epoch):
        model.fit(
            batches,
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            verbose=0,
            callbacks=[callbacks.SeedEpochs(batches)],
        )
        return [numpy(variable) for variable in variables]

    before, once = train(0), train(1)
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    assert all(np.array_equal(a, b) for a, b in zip(once, train(1), strict=True))


def averaged(model, weight):
    """The average of one of the network's weights."""
    (place,) = [k for k, one in enumerate(model.network.weights) if one is weight]
    return model.ema_network.weights[place]


def test_ema_follows_its_definition_with_warm_up():
    model = make_model(ema_decay=0.5)
    kernel = next(w for w in model.network.weights if w.name == "kernel")
    average = averaged(model, kernel)
    expected = numpy(kernel)
    for step in range(12):
        kernel.assign(kernel + 1.0)
        model({"images": images(2)}, training=True)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * numpy(kernel)
        np.testing.assert_allclose(numpy(average), expected, rtol=1e-5)


def test_ema_starts_as_a_copy_holds_batch_statistics_and_is_not_trained():
    model = make_model()
    pairs = zip(model.network.weights, model.ema_network.weights, strict=True)
    assert all(np.array_equal(numpy(w), numpy(e)) for w, e in pairs)
    names = {weight.name for weight in model.ema_network.weights}
    assert {"moving_mean", "moving_variance"} <= names
    assert len(model.trainable_weights) == len(model.network.trainable_weights)


def test_components_losses_are_tracked_under_the_published_names():
    model = make_model()
    outputs = model({"images": images()}, training=True)
    model.compute_loss(y_pred=outputs)
    figures = {metric.name: float(metric.result()) for metric in model.metrics}
    noise_error = numpy(outputs["true"].noises) - numpy(outputs["predicted"].noises)
    image_error = numpy(outputs["true"].images) - numpy(outputs["predicted"].images)
    assert figures["n_loss"] == pytest.approx(np.abs(noise_error).mean(), rel=1e-4)
    assert figures["i_loss"] == pytest.approx(np.abs(image_error).mean(), rel=1e-4)
    assert set(figures) == {"n_loss", "i_loss", "v_loss"}


def test_the_loss_of_the_flow_is_tracked_where_it_is_the_target():
    model = make_model(prediction="flow", loss="mse", loss_target="flow")
    outputs = model({"images": images()}, training=True)
    loss = float(model.compute_loss(y_pred=outputs))
    figures = {metric.name: float(metric.result()) for metric in model.metrics}
    assert set(figures) == {"n_loss", "i_loss", "v_loss", "f_loss"}
    true, predicted = outputs["true"], outputs["predicted"]
    error = (numpy(true.noises) - numpy(true.images)) - numpy(predicted.flows)
    assert figures["f_loss"] == pytest.approx(np.mean(error**2), rel=1e-3)
    assert loss == pytest.approx(figures["f_loss"], rel=1e-5)


@pytest.mark.parametrize("target", COMPONENTS)
@pytest.mark.parametrize("prediction", COMPONENTS)
def test_min_snr_weighs_every_target_like_the_image(prediction, target):
    """Whatever the target, the weighted loss is min(SNR, 5) times the image loss."""
    model = make_model(
        prediction, loss="mse", loss_weighting="min_snr", loss_target=target
    )
    outputs = model({"images": images()}, training=True)
    loss = float(model.compute_loss(y_pred=outputs))
    squares = (numpy(outputs["true"].images) - numpy(outputs["predicted"].images)) ** 2
    weights = np.minimum(numpy(outputs["snr"]).ravel(), 5.0)
    expected = (weights * squares.mean(axis=(1, 2, 3))).mean()
    assert loss == pytest.approx(expected, rel=2e-3)


def test_losses_by_hand():
    true, predicted = ops.array([0.0, 0.0]), ops.array([0.5, -3.0])
    expected = {"mae": [0.5, 3.0], "mse": [0.25, 9.0], "huber": [0.125, 2.5]}
    for name, values in expected.items():
        np.testing.assert_allclose(numpy(LOSSES[name](true, predicted)), values)


def test_flips_half_of_the_training_images_and_no_validation_image():
    model = make_model(horizontal_flips=True)
    batch = {"images": images()}
    plain = numpy(model(batch, training=False)["true"].images)
    augmented = numpy(model(batch, training=True)["true"].images)
    flipped = [
        np.array_equal(a, p[:, ::-1]) for a, p in zip(augmented, plain, strict=True)
    ]
    kept = [np.array_equal(a, p) for a, p in zip(augmented, plain, strict=True)]
    assert sum(flipped) + sum(kept) == len(plain)
    assert 16 < sum(flipped) < 48


def test_augments_in_training_only_and_tells_the_network():
    network = {"augmentation": True}
    batch = {"images": images()}
    off, model = (make_model(network=network, augmentation=p) for p in (0.0, 0.1))
    plain = numpy(off(batch, training=True)["true"].images)
    np.testing.assert_array_equal(plain, numpy(off._normalize(batch["images"])))
    kept = numpy(model(batch, training=False)["true"].images)
    np.testing.assert_array_equal(kept, plain)
    assert not numpy(model._augment(plain, model.random, training=False)[1][0]).any()
    model.seed_epoch(2)
    warped, (told,) = model._augment(plain, model.random, training=True)
    as_told = [not any(row) for row in numpy(told)]
    as_they_were = [
        np.array_equal(a, b) for a, b in zip(numpy(warped), plain, strict=True)
    ]
    assert as_told == as_they_were
    assert 0 < sum(as_told) < 32
    model.seed_epoch(2)
    again = numpy(model(batch, training=True)["true"].images)
    np.testing.assert_array_equal(again, numpy(warped))


@pytest.mark.parametrize("prediction", ["noise", "velocity"])
def test_model_guidance_moves_what_is_learnt(prediction):
    """By what the averaged network makes of the labels, where they are not hidden."""
    inputs = {"images": images(64), "labels": np.arange(64) % 4}
    model = make_model(prediction, 4, model_guidance=2.0, label_dropout=0.5)
    random = np.random.default_rng(1)
    for weight in model.network.trainable_weights:  # else it predicts zeros
        weight.assign(random.normal(scale=0.1, size=weight.shape))
    model.seed_epoch(0)
    outputs = model(inputs, training=True)
    model.seed_epoch(0)
    noised = model.noised(inputs, model.random, training=True)
    signal_rates, noise_rates = numpy(noised.signal_rates), numpy(noised.noise_rates)
    noisy_images = numpy(noised.noisy_images)
    noises = []
    for labels in (noised.conditions[0], ops.full((64,), 4)):
        predicted = numpy(
            model.ema_network([noised.noisy_images, noised.noise_rates**2, labels])
        )
        if prediction == "velocity":
            predicted = noise_rates * noisy_images + signal_rates * predicted
        noises.append(predicted)
    moved = (noises[0] - noises[1]) / 2
    hidden = numpy(noised.conditions[0]) == 4
    assert 10 < hidden.sum() < 54
    assert not moved[hidden].any()
    assert np.abs(moved[~hidden]).max() > 0.01
    expected = numpy(noised.noises) + moved
    np.testing.assert_allclose(numpy(outputs["true"].noises), expected, atol=1e-5)
    mixed = signal_rates * numpy(outputs["true"].images) + noise_rates * expected
    np.testing.assert_allclose(mixed, noisy_images, atol=1e-4)
    true = model(inputs, training=False)["true"]  # validation knows no guidance
    assert numpy(true.noises).std() == pytest.approx(1.0, abs=0.02)


def test_noises_of_the_inputs_are_taken_and_mirrored_with_their_images():
    model = make_model(horizontal_flips=True)
    noises = np.random.default_rng(1).normal(size=(64, 16, 16, 3)).astype(np.float32)
    batch = {"images": images(), "noises": noises}
    (plain, kept), (mirrored, with_them) = (
        (numpy(true.images), numpy(true.noises))
        for true in (model(batch, training=on)["true"] for on in (False, True))
    )
    np.testing.assert_array_equal(kept, noises)
    flips = [not np.array_equal(a, b) for a, b in zip(mirrored, plain, strict=True)]
    assert 16 < sum(flips) < 48
    for flip, image, noise, before, drawn in zip(
        flips, mirrored, with_them, plain, noises, strict=True
    ):
        np.testing.assert_array_equal(image, before[:, ::-1] if flip else before)
        np.testing.assert_array_equal(noise, drawn[:, ::-1] if flip else drawn)


def test_labels_are_dropped_at_the_stated_share_in_training_only():
    model = make_model(classes=4, label_dropout=0.25)
    labels = ops.zeros((4000,), dtype="int32")
    dropped = numpy(
        model._conditions({"labels": labels}, model.random, training=True)[0]
    )
    assert set(np.unique(dropped)) == {0, 4}
    assert (dropped == 4).mean() == pytest.approx(0.25, abs=0.03)
    kept = numpy(model._conditions({"labels": labels}, model.random, training=False)[0])
    assert not kept.any()


def test_keras_fit_trains_the_network_and_not_the_average():
    model = make_model()
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    before = [numpy(weight) for weight in model.network.trainable_weights]
    batches = Batches(images(48), {}, batch_size=16)
    model.fit(batches, shuffle=False, verbose=0)
    after = [numpy(weight) for weight in model.network.trainable_weights]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    model.fit(batches, shuffle=False, verbose=0)
    trained = [numpy(weight) for weight in model.network.trainable_weights]
    assert any(not np.array_equal(a, b) for a, b in zip(before, trained, strict=True))


def test_averages_in_float32_under_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make_model()
    finally:
        keras.config.set_dtype_policy(policy)
    assert model.network.get_layer("bottom_block_0_conv_1").compute_dtype == "bfloat16"
    kernel = next(w for w in model.network.weights if w.name == "kernel")
    average = averaged(model, kernel)
    model({"images": images(2)}, training=True)
    start = numpy(kernel)
    kernel.assign(kernel + 1e-4)
    for step in range(1, 21):
        model({"images": images(2)}, training=True)
        decay = (1 + step) / (10 + step)
        start = decay * start + (1 - decay) * numpy(kernel)
    np.testing.assert_allclose(numpy(average), start, rtol=1e-5)
    assert float(model.ema_updates) == 21
