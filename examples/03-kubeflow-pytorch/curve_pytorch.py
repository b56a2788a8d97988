"""Fit a polynomial to a curve: in PyTorch, replicas sharing their gradients, or in plain Python where there is none."""

import math
import os

import nni

try:
    import torch
except ImportError:
    torch = None

STEPS = 60
REPORT_EVERY = 6
# The operator tells every replica which one it is.
RANK, REPLICAS = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def make_data(offset):
    xs = [-1 + 2 * (number + offset) / 64 for number in range(64)]
    return xs, [math.sin(3 * x) * math.exp(-x * x) for x in xs]


def fit_with_pytorch(params):
    if REPLICAS > 1:
        torch.distributed.init_process_group("gloo")
    xs, ys = (torch.tensor(values[RANK::REPLICAS]) for values in make_data(0.0))
    test_xs, test_ys = (torch.tensor(values) for values in make_data(0.5))
    weights = torch.zeros(params["degree"] + 1, requires_grad=True)
    optimizer = torch.optim.SGD([weights], params["learning_rate"], params["momentum"])
    powers = torch.arange(params["degree"] + 1)

    def loss_of(inputs, targets):
        return ((inputs[:, None] ** powers @ weights - targets) ** 2).mean()

    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(xs, ys).backward()
        if REPLICAS > 1:
            torch.distributed.all_reduce(weights.grad)
            weights.grad /= REPLICAS
        optimizer.step()
        yield loss_of(test_xs, test_ys).item()


def fit_in_python(params):
    powers = range(params["degree"] + 1)
    weights, speed = [0.0 for _ in powers], [0.0 for _ in powers]

    def errors_of(xs, ys):
        return [(x, sum(w * x**power for power, w in zip(powers, weights)) - y) for x, y in zip(xs, ys)]

    train, test = make_data(0.0), make_data(0.5)
    for _ in range(STEPS):
        errors = errors_of(*train)
        for power in powers:
            slope = sum(2 * error * x**power for x, error in errors) / len(errors)
            speed[power] = params["momentum"] * speed[power] + slope
        weights = [w - params["learning_rate"] * v for w, v in zip(weights, speed)]
        yield sum(error * error for _, error in errors_of(*test)) / len(test[0])


if __name__ == "__main__":
    params = {"degree": 3, "learning_rate": 0.1, "momentum": 0.5}
    params.update(nni.get_next_parameter())
    print("replica", RANK, "of", REPLICAS, params, "with PyTorch" if torch else "in plain Python", flush=True)
    loss = math.inf
    for step, found in enumerate((fit_with_pytorch if torch else fit_in_python)(params)):
        loss = min(1000000.0, found)  # What diverges is bad, not missing; NaN is less than nothing.
        if step % REPORT_EVERY == 0:
            print(f"step {step}: loss {loss:.5f}", flush=True)
            nni.report_intermediate_result(loss)
    nni.report_final_result(loss)
