"""What each type of a search space draws, for tuners of the user's own; ``random_state`` is one of numpy's."""

import math

__all__ = [
    "choice", "lognormal", "loguniform", "normal", "qlognormal", "qloguniform", "qnormal", "quniform", "randint",
    "uniform",
]  # fmt: skip


def choice(options, random_state):
    """Draw one of the options, or a number below it."""
    return random_state.choice(options)


def randint(lower, upper, random_state):
    """Draw an integer; ``upper`` itself is not drawn."""
    return random_state.randint(lower, upper)


def uniform(low, high, random_state):
    """Draw a number, each alike."""
    if high < low:
        raise ValueError("low must not be greater than high; got {}, {}".format(low, high))
    return random_state.uniform(low, high)


def quniform(low, high, q, random_state):
    """Draw a multiple of q, or a bound where that lies outside."""
    return _clip(_snap(uniform(low, high, random_state), q), low, high)


def loguniform(low, high, random_state):
    """Draw a number, each order of magnitude alike."""
    if low <= 0:
        raise ValueError("low must be greater than 0; got {}".format(low))
    return math.exp(uniform(math.log(low), math.log(high), random_state))


def qloguniform(low, high, q, random_state):
    """Draw a multiple of q, each order of magnitude alike."""
    return _clip(_snap(loguniform(low, high, random_state), q), low, high)


def normal(mu, sigma, random_state):
    """Draw a number around a mean."""
    return random_state.normal(mu, sigma)


def qnormal(mu, sigma, q, random_state):
    """Draw a multiple of q around a mean."""
    return _snap(normal(mu, sigma, random_state), q)


def lognormal(mu, sigma, random_state):
    """Draw a number whose logarithm lies around a mean."""
    return math.exp(normal(mu, sigma, random_state))


def qlognormal(mu, sigma, q, random_state):
    """Draw a multiple of q whose logarithm lies around a mean."""
    return _snap(lognormal(mu, sigma, random_state), q)


def _snap(value, q):
    return float(round(value / q) * q)


def _clip(value, low, high):
    return float(min(max(value, low), high))
