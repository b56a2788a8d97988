"""Train a small neural network on scikit-learn's handwritten digits; an NNI trial as NNI users write it."""

import logging

import nni
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

LOG = logging.getLogger("digits")
EPOCHS = 12


def load_data():
    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.data, digits.target, random_state=99, test_size=0.25, stratify=digits.target
    )
    scaler = StandardScaler().fit(x_train)
    return scaler.transform(x_train), scaler.transform(x_test), y_train, y_test


def default_params():
    return {"hidden_units": 32, "activation": "relu", "learning_rate": 0.001, "alpha": 0.0001, "batch_size": 32}


def run(params):
    x_train, x_test, y_train, y_test = load_data()
    model = MLPClassifier(
        hidden_layer_sizes=(int(params["hidden_units"]),),
        activation=params["activation"],
        learning_rate_init=params["learning_rate"],
        alpha=params["alpha"],
        batch_size=int(params["batch_size"]),
        random_state=1,
    )
    accuracy = 0.0
    for epoch in range(EPOCHS):
        model.partial_fit(x_train, y_train, classes=range(10))
        accuracy = accuracy_score(y_test, model.predict(x_test))
        LOG.info("epoch %d: accuracy %.4f", epoch, accuracy)
        nni.report_intermediate_result(accuracy)
    nni.report_final_result(accuracy)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    params = default_params()
    params.update(nni.get_next_parameter())
    LOG.info("parameters: %s", params)
    run(params)
