"""Bayesian optimisation: a model of the objective, and the point where trying promises most.

The settings and their defaults are those of scikit-optimize, which Katib uses; the models are scikit-learn's, since
scikit-optimize is no longer kept. It differs in that values are searched as their distribution says (Katib's service
takes the logarithm of every double), and in that what gp_hedge has learnt about its functions ends with the process.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from ..engine import Trial
from ..space import Value
from .base import Suggestion, Task

Array = numpy.ndarray[Any, numpy.dtype[numpy.float64]]
Predict = Callable[[Array], tuple[Array, Array]]
"""Mean and standard deviation of the objective at points."""
Promise = Callable[[Array, Array, float], Array]
"""How much points promise, by their means and deviations and the best value so far."""
_CANDIDATES = 2000
_STARTS = 5
"""From how many of the best candidates the optimum is climbed to."""
_XI, _KAPPA = 0.01, 1.96
_STEPS = 1000  # a number with more of them is taken as one that has none
_SHIFT = 1e-6
"""By how much a point is moved to see a slope."""


class Bayesian:
    """A model that is fitted anew for each trial."""

    size: int | None = None

    def __init__(self, task: Task) -> None:
        self._task, self._space = task, task.space()
        given = task.settings
        self._estimator = given.get("base_estimator", "GP")
        self._initial = max(int(given.get("n_initial_points", "10")), 1)
        self._function = given.get("acq_func", "gp_hedge")
        climbs = given.get("acq_optimizer", "auto")
        self._climbs = climbs == "lbfgs" or (climbs == "auto" and self._estimator == "GP")
        self._gains = dict.fromkeys(("EI", "LCB", "PI"), 0.0)
        self._told: list[tuple[dict[str, Value], float]] = []
        self._running: dict[int, dict[str, Value]] = {}

    def ask(self, number: int) -> Suggestion:
        """See `Algorithm.ask`."""
        chance = self._task.generator(number)
        parameters = self._space.at(chance.random(len(self._space.dimensions)))
        if len(self._told) >= self._initial:
            chosen = self._promising(chance)
            known = [*(p for p, _ in self._told), *self._running.values()]
            parameters = chosen if chosen not in known else parameters
        self._running[number] = parameters
        return Suggestion(parameters)

    def tell(self, trial: Trial) -> None:
        """See `Algorithm.tell`."""
        parameters = self._running.pop(trial.number)
        loss = self._task.loss(trial)
        if loss is not None:
            self._told.append((parameters, loss))

    def recall(self, trial: Trial) -> None:
        """See `Algorithm.recall`."""
        self._running[trial.number] = dict(trial.parameters)

    def _promising(self, chance: numpy.random.Generator) -> dict[str, Value]:
        losses = numpy.array([loss for _, loss in self._told])
        spread = float(losses.std()) or 1.0
        known = [*(parameters for parameters, _ in self._told), *self._running.values()]
        # of a trial that runs the best so far is believed, so that the next one goes elsewhere
        values = numpy.append(
            (losses - losses.mean()) / spread, [(losses.min() - losses.mean()) / spread] * len(self._running)
        )
        best = float(values.min())
        predict = _fitted(self._estimator, self._features(known), values, int(chance.integers(2**31)))
        draws = chance.random((_CANDIDATES, len(self._space.dimensions)))
        mean, deviation = predict(self._cube(self._snapped(draws)))
        names = list(self._gains) if self._function == "gp_hedge" else [self._function]
        found = {}
        for name in names:
            promise = _ACQUISITIONS[name]
            order = numpy.argsort(-promise(mean, deviation, best))
            starts = draws[order[: _STARTS if self._climbs else 1]]
            found[name] = self._space.at(self._climbed(promise, predict, best, starts) if self._climbs else starts[0])
        if len(names) == 1:
            return found[names[0]]
        weights = numpy.exp(numpy.array([self._gains[name] for name in names]) - max(self._gains.values()))
        chosen = names[int(chance.choice(len(names), p=weights / weights.sum()))]
        for name in names:
            self._gains[name] -= float(predict(self._features([found[name]]))[0][0])
        return found[chosen]

    def _climbed(self, promise: Promise, predict: Predict, best: float, starts: Array) -> Array:
        """The point near some starts, in the cube of quantiles, where a function promises most."""
        numbers = [i for i, d in enumerate(self._space.dimensions) if not d.choices]
        shifts = _SHIFT * numpy.vstack([numpy.zeros(len(numbers)), numpy.eye(len(numbers))])
        tops = []
        for start in starts:

            def loss(point: Array, start: Array = start) -> tuple[float, Array]:
                """The promise at a point, the less the better, and its slopes, asked of the model in one go."""
                around = numpy.tile(start, (len(shifts), 1))
                around[:, numbers] = point + shifts
                values = -promise(*predict(self._cube(around)), best)
                return float(values[0]), (values[1:] - values[0]) / _SHIFT

            bounds = [(0.0, 1.0)] * len(numbers)
            top = minimize(loss, start[numbers], jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 15})
            there = start.copy()
            there[numbers] = top.x
            tops.append((float(top.fun), there))
        return numpy.asarray(min(tops, key=lambda pair: pair[0])[1])

    def _features(self, several: list[dict[str, Value]]) -> Array:
        """Points for the model, a row each."""
        return self._cube(numpy.array([self._space.quantiles(parameters) for parameters in several]))

    def _cube(self, quantiles: Array) -> Array:
        """Rows of quantiles as the model has them: a number's quantile, and a column for each item of a list."""
        columns = []
        for dimension, column in zip(self._space.dimensions, quantiles.T):
            if dimension.choices:
                items = numpy.minimum((column * len(dimension.choices)).astype(int), len(dimension.choices) - 1)
                columns += [(items == item).astype(float) for item in range(len(dimension.choices))]
            else:
                columns.append(column)
        return numpy.column_stack(columns)

    def _snapped(self, quantiles: Array) -> Array:
        """Rows of quantiles, with a number that has steps at the nearest one."""
        moved: Array = quantiles.copy()
        for number, dimension in enumerate(self._space.dimensions):
            if not dimension.choices and dimension.step is not None and dimension.count() <= _STEPS:
                there, half = dimension.grid(), float(dimension.step) / 2
                edges = [dimension.quantile(float(value) + half) for value in there[:-1]]
                steps = numpy.array([dimension.quantile(value) for value in there])
                moved[:, number] = steps[numpy.searchsorted(edges, quantiles[:, number])]
        return moved


def _fitted(estimator: str, points: Array, values: Array, seed: int) -> Predict:
    """A model of the values at the points."""
    if estimator == "GP":
        kernel = ConstantKernel(1.0, (0.01, 1000.0)) * Matern(numpy.ones(points.shape[1]), (0.01, 100.0), nu=2.5)
        model = GaussianProcessRegressor(kernel + WhiteKernel(), n_restarts_optimizer=2, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kernels whose optimum is at a bound
            model.fit(points, values)
        return lambda at: model.predict(at, return_std=True)
    if estimator == "GBRT":
        quantiles = [
            GradientBoostingRegressor(loss="quantile", alpha=q, n_estimators=30, random_state=seed).fit(points, values)
            for q in (0.16, 0.5, 0.84)
        ]

        def of_quantiles(at: Array) -> tuple[Array, Array]:
            low, middle, high = (model.predict(at) for model in quantiles)
            return middle, numpy.maximum((high - low) / 2, 1e-9)

        return of_quantiles
    kind = RandomForestRegressor if estimator == "RF" else ExtraTreesRegressor
    forest = kind(n_estimators=100, min_samples_leaf=3, random_state=seed).fit(points, values)

    def of_trees(at: Array) -> tuple[Array, Array]:
        means = numpy.array([tree.predict(at) for tree in forest.estimators_])
        within = numpy.array([tree.tree_.impurity[tree.apply(at)] for tree in forest.estimators_])
        return means.mean(axis=0), numpy.sqrt(numpy.maximum(means.var(axis=0) + within.mean(axis=0), 1e-18))

    return of_trees


def _expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    gain = best - mean - _XI
    scaled = gain / numpy.maximum(deviation, 1e-12)
    return numpy.asarray(gain * norm.cdf(scaled) + deviation * norm.pdf(scaled))


def _probability_of_improvement(mean: Array, deviation: Array, best: float) -> Array:
    return numpy.asarray(norm.cdf((best - mean - _XI) / numpy.maximum(deviation, 1e-12)))


def _lower_bound(mean: Array, deviation: Array, _: float) -> Array:
    return _KAPPA * deviation - mean


_ACQUISITIONS = {"EI": _expected_improvement, "PI": _probability_of_improvement, "LCB": _lower_bound}
