"""The default model the way Keras tutorials write it, to be measured against.

On TensorFlow: a `train_step` with a tape, then a loop over weights for the average; KID
as a metric of `test_step` that encodes real and generated images of every validation
batch; sampling as an unrolled loop with one Keras call per step. Written from the facts
of the project's specification.
"""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers

WIDTHS = (32, 64, 96, 128)
DEPTH = 2
EMBEDDING_DIMS = 32
MAX_FREQUENCY = 1000.0
MIN_SIGNAL_RATE, MAX_SIGNAL_RATE = 0.02, 0.95
EMA = 0.999


@keras.saving.register_keras_serializable("reference")
def embed(variances):
    frequencies = np.geomspace(1.0, MAX_FREQUENCY, EMBEDDING_DIMS // 2)
    phases = 2.0 * math.pi * frequencies.astype("float32") * variances
    return keras.ops.concatenate([keras.ops.sin(phases), keras.ops.cos(phases)], axis=3)


def residual_block(width):
    def apply(x):
        residual = x
        if x.shape[3] != width:
            residual = layers.Conv2D(width, kernel_size=1)(x)
        x = layers.BatchNormalization(center=False, scale=False)(x)
        x = layers.Conv2D(width, 3, padding="same", activation="swish")(x)
        x = layers.Conv2D(width, 3, padding="same")(x)
        return layers.Add()([x, residual])

    return apply


def build_network(size, widths=WIDTHS, depth=DEPTH):
    noisy_images = keras.Input((size, size, 3))
    variances = keras.Input((1, 1, 1))
    e = layers.Lambda(embed, output_shape=(1, 1, EMBEDDING_DIMS))(variances)
    e = layers.UpSampling2D(size, interpolation="nearest")(e)
    x = layers.Concatenate()([layers.Conv2D(widths[0], 1)(noisy_images), e])
    skips = []
    for width in widths[:-1]:
        for _ in range(depth):
            x = residual_block(width)(x)
            skips.append(x)
        x = layers.AveragePooling2D(2)(x)
    for _ in range(depth):
        x = residual_block(widths[-1])(x)
    for width in reversed(widths[:-1]):
        x = layers.UpSampling2D(2, interpolation="bilinear")(x)
        for _ in range(depth):
            x = residual_block(width)(layers.Concatenate()([x, skips.pop()]))
    x = layers.Conv2D(3, kernel_size=1, kernel_initializer="zeros")(x)
    return keras.Model([noisy_images, variances], x)


class KID(keras.metrics.Metric):
    """Mean over batches of the unbiased estimate between real and generated images."""

    def __init__(self, encoder, **settings):
        super().__init__(name="kid", **settings)
        self.tracker = keras.metrics.Mean()
        self.encoder = encoder

    @staticmethod
    def kernel(x, y):
        dims = keras.ops.cast(keras.ops.shape(x)[1], "float32")
        return (x @ keras.ops.transpose(y) / dims + 1.0) ** 3

    def update_state(self, real_images, generated_images, sample_weight=None):
        real = self.encoder(real_images, training=False)
        generated = self.encoder(generated_images, training=False)
        count = keras.ops.cast(keras.ops.shape(real)[0], "float32")
        off_diagonal = 1.0 - keras.ops.eye(keras.ops.shape(real)[0])
        within = sum(
            keras.ops.sum(self.kernel(features, features) * off_diagonal)
            for features in (real, generated)
        )
        cross = keras.ops.mean(self.kernel(real, generated))
        self.tracker.update_state(within / (count * (count - 1.0)) - 2.0 * cross)

    def result(self):
        return self.tracker.result()

    def reset_state(self):
        self.tracker.reset_state()


class Reference(keras.Model):
    """Trains with `fit` on float images in [0, 1]."""

    def __init__(self, network, encoder, mean, deviation, kid_steps=5):
        super().__init__()
        self.network = network
        self.ema_network = keras.models.clone_model(network)
        self.ema_network.set_weights(network.get_weights())
        self.encoder = encoder
        self.mean = np.asarray(mean, "float32")
        self.deviation = np.asarray(deviation, "float32")
        self.kid_steps = kid_steps

    def compile(self, **settings):
        super().compile(**settings)
        self.noise_tracker = keras.metrics.Mean(name="n_loss")
        self.image_tracker = keras.metrics.Mean(name="i_loss")
        self.kid = KID(self.encoder)

    @property
    def metrics(self):
        return [self.noise_tracker, self.image_tracker, self.kid]

    def denormalize(self, images):
        return tf.clip_by_value(self.mean + images * self.deviation, 0.0, 1.0)

    def rates(self, times):
        start, end = math.acos(MAX_SIGNAL_RATE), math.acos(MIN_SIGNAL_RATE)
        angles = start + times * (end - start)
        return tf.cos(angles), tf.sin(angles)

    def denoise(self, noisy_images, signal_rates, noise_rates, training):
        network = self.network if training else self.ema_network
        noises = network([noisy_images, noise_rates**2], training=training)
        return noises, (noisy_images - noise_rates * noises) / signal_rates

    def generate(self, count, steps):
        size = self.network.input_shape[0][1]
        noisy_images = tf.random.normal((count, size, size, 3))
        for step in range(steps):
            times = tf.ones((count, 1, 1, 1)) - step / steps
            noises, images = self.denoise(
                noisy_images, *self.rates(times), training=False
            )
            signal_rates, noise_rates = self.rates(times - 1 / steps)
            noisy_images = signal_rates * images + noise_rates * noises
        return self.denormalize(images)

    def noised(self, images):
        images = (images - self.mean) / self.deviation
        noises = tf.random.normal(tf.shape(images))
        times = tf.random.uniform((tf.shape(images)[0], 1, 1, 1))
        signal_rates, noise_rates = self.rates(times)
        noisy_images = signal_rates * images + noise_rates * noises
        return images, noises, noisy_images, signal_rates, noise_rates

    def train_step(self, images):
        images, noises, noisy_images, *rates = self.noised(images)
        with tf.GradientTape() as tape:
            pred_noises, pred_images = self.denoise(noisy_images, *rates, training=True)
            noise_loss = tf.reduce_mean(tf.abs(noises - pred_noises))
            image_loss = tf.reduce_mean(tf.abs(images - pred_images))
        gradients = tape.gradient(noise_loss, self.network.trainable_weights)
        self.optimizer.apply_gradients(
            zip(gradients, self.network.trainable_weights, strict=True)
        )
        for weight, average in zip(
            self.network.weights, self.ema_network.weights, strict=True
        ):
            average.assign(EMA * average + (1 - EMA) * weight)
        self.noise_tracker.update_state(noise_loss)
        self.image_tracker.update_state(image_loss)
        return {metric.name: metric.result() for metric in self.metrics[:-1]}

    def test_step(self, images):
        pixels = images
        images, noises, noisy_images, *rates = self.noised(pixels)
        pred_noises, pred_images = self.denoise(noisy_images, *rates, training=False)
        self.noise_tracker.update_state(tf.reduce_mean(tf.abs(noises - pred_noises)))
        self.image_tracker.update_state(tf.reduce_mean(tf.abs(images - pred_images)))
        generated = self.generate(tf.shape(pixels)[0], self.kid_steps)
        self.kid.update_state(pixels, generated)
        return {metric.name: metric.result() for metric in self.metrics}


def build(size, widths, depth, encoder, mean, deviation, kid_steps=5):
    """Compiled, with the default recipe's optimizer."""
    network = build_network(size, widths, depth)
    model = Reference(network, encoder, mean, deviation, kid_steps)
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=1e-3, weight_decay=1e-4),
        jit_compile=False,
    )
    return model


def dataset(images, batch_size):
    """Shuffled float batches of uint8 images, as `tf.data` hands them out."""
    return (
        tf.data.Dataset.from_tensor_slices(images)
        .shuffle(10 * batch_size)
        .map(lambda x: tf.cast(x, tf.float32) / 255.0, tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def preprocess(path, size):
    """A file to a float image: centre crop, antialiased resize."""
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    side = tf.minimum(height, width)
    image = tf.image.crop_to_bounding_box(
        image, (height - side) // 2, (width - side) // 2, side, side
    )
    image = tf.image.resize(image, (size, size), antialias=True)
    return tf.clip_by_value(image / 255.0, 0.0, 1.0)
