"""Tell two spirals apart with a small network: in TensorFlow where there is one, in plain Python otherwise."""

import math
import random

import nni

try:
    import tensorflow as tf
except ImportError:
    tf = None

EPOCHS = 25
POINTS = 240


def make_data(seed):
    """Points on two spirals; each is (features, label)."""
    chance = random.Random(seed)
    data = []
    for number in range(POINTS):
        label = number % 2
        radius = chance.uniform(0.1, 1.0)
        angle = 4.0 * radius + math.pi * label + chance.gauss(0, 0.15)
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        data.append(((x, y, x * x - y * y, x * y), label))
    return data


def train_with_tensorflow(params, train, test):
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Dense(params["hidden_units"], activation=params["activation"], input_shape=(4,)),
            tf.keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    optimizer = tf.keras.optimizers.SGD(params["learning_rate"])
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    (inputs, labels), (test_inputs, test_labels) = (tuple(map(list, zip(*data))) for data in (train, test))
    for _ in range(EPOCHS):
        model.fit(tf.constant(inputs), tf.constant(labels), batch_size=params["batch_size"], verbose=0)
        yield model.evaluate(tf.constant(test_inputs), tf.constant(test_labels), verbose=0)[1]


class Network:
    """One hidden layer, trained by gradient descent."""

    def __init__(self, hidden_units, activation, learning_rate):
        chance = random.Random(1)
        self.hidden = [[chance.gauss(0, 0.5) for _ in range(5)] for _ in range(hidden_units)]
        self.output = [chance.gauss(0, 0.5) for _ in range(hidden_units + 1)]
        self.learning_rate = learning_rate
        if activation == "tanh":
            self.activate, self.slope = math.tanh, lambda value: 1 - value * value
        else:
            self.activate, self.slope = lambda total: max(0.0, total), lambda value: 1.0 if value > 0 else 0.0

    def forward(self, features):
        inputs = (*features, 1.0)
        values = [self.activate(sum(w * x for w, x in zip(row, inputs))) for row in self.hidden]
        total = sum(w * value for w, value in zip(self.output, (*values, 1.0)))
        return inputs, values, 1 / (1 + math.exp(-max(-50.0, min(50.0, total))))

    def learn(self, batch):
        step = self.learning_rate / len(batch)
        for features, label in batch:
            inputs, values, guess = self.forward(features)
            error = guess - label
            for unit, value in enumerate(values):
                back = error * self.output[unit] * self.slope(value)
                self.output[unit] -= step * error * value
                self.hidden[unit] = [w - step * back * x for w, x in zip(self.hidden[unit], inputs)]
            self.output[-1] -= step * error


def train_in_python(params, train, test):
    network = Network(params["hidden_units"], params["activation"], params["learning_rate"])
    for _ in range(EPOCHS):
        for start in range(0, len(train), params["batch_size"]):
            network.learn(train[start : start + params["batch_size"]])
        yield sum((network.forward(features)[2] > 0.5) == bool(label) for features, label in test) / len(test)


if __name__ == "__main__":
    params = {"hidden_units": 8, "activation": "tanh", "learning_rate": 0.1, "batch_size": 16}
    params.update(nni.get_next_parameter())
    print("parameters:", params, "with TensorFlow" if tf else "in plain Python", flush=True)
    train = train_with_tensorflow if tf else train_in_python
    accuracy = 0.0
    for epoch, accuracy in enumerate(train(params, make_data(1), make_data(2))):
        print(f"epoch {epoch}: accuracy {accuracy:.3f}", flush=True)
        nni.report_intermediate_result(accuracy)
    nni.report_final_result(accuracy)
