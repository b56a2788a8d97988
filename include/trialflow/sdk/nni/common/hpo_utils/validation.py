"""A check of search spaces, for tuners that take some types only."""

import logging

__all__ = ["common_search_space_types", "validate_search_space"]

common_search_space_types = [
    "choice", "randint", "uniform", "quniform", "loguniform", "qloguniform", "normal", "qnormal", "lognormal",
    "qlognormal",
]  # fmt: skip


def validate_search_space(search_space, support_types=None, raise_exception=False):
    """Return whether a search space is right; log what is wrong, or raise it as a `ValueError`.

    Options of a choice are numbers and texts; nested ones are not known here, as in NNI.
    """
    wrong = _find_wrong(search_space, support_types or common_search_space_types)
    if wrong and raise_exception:
        raise ValueError(wrong)
    if wrong:
        logging.getLogger(__name__).error(wrong)
    return not wrong


def _find_wrong(space, types):
    if not isinstance(space, dict):
        return "search space is a {}, expect a dict : {!r}".format(type(space).__name__, space)
    return next(filter(None, (_find_wrong_in(name, spec, types) for name, spec in space.items())), "")


def _find_wrong_in(name, spec, types):
    what = 'search space "{}"'.format(name)
    if not isinstance(spec, dict):
        return "{} is a {}, expect a dict : {!r}".format(what, type(spec).__name__, spec)
    if "_type" not in spec or "_value" not in spec:
        return '{} does not have "_type" or "_value" : {}'.format(what, spec)
    kind, values = spec["_type"], spec["_value"]
    if kind not in types:
        return '{} has unsupported type "{}" : {}'.format(what, kind, spec)
    if not isinstance(values, list):
        return "{}'s value is not a list : {}".format(what, spec)
    rule = _rule_for_options(values) if kind == "choice" else _rule_for_numbers(kind, values)
    return "{} ({}) must have {} : {}".format(what, kind, rule, spec) if rule else ""


def _rule_for_options(options):
    return "" if all(isinstance(option, (float, int, str)) for option in options) else "numbers and texts as options"


def _rule_for_numbers(kind, values):
    """Return what has to hold of the numbers and does not."""
    count = 3 if kind.startswith("q") else 2
    if len(values) != count:
        return "{} values".format(count)
    wanted = int if kind == "randint" else (float, int)
    if not all(isinstance(value, wanted) for value in values):
        return "int values" if kind == "randint" else "float values"
    if "normal" in kind:
        return "" if values[1] > 0 else "sigma > 0"
    if values[0] >= values[1]:
        return "high > low"
    return "low > 0" if "log" in kind and values[0] <= 0 else ""
