from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.additive import fit, interval, terms_of, together
from analysis.choices import halves


def drawn(rows: int, seed: int, noise: float = 1.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Choices that go along with one another, and an outcome of known effects: a −2, b 0, c 2; slope 1.5; f nothing."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["a", "b", "c"], rows, p=[0.5, 0.3, 0.2])
    number = rng.normal(size=rows) + (kind == "c")
    other = np.where(rng.random(rows) < 0.7, kind == "a", rng.random(rows) < 0.5).astype(str)
    effect = pd.Series(kind).map({"a": -2.0, "b": 0.0, "c": 2.0}).to_numpy()
    values = 5 + effect + 1.5 * (number - number.mean()) / number.std() + noise * rng.normal(size=rows)
    return pd.DataFrame({"kind": kind, "number": number, "other": other}), values


def test_with_many_trials_effects_and_intervals_are_those_of_least_squares() -> None:
    choices, values = drawn(600, seed=0)
    fitted = fit(terms_of(choices), values)
    kind = choices["kind"].to_numpy()
    columns = [np.ones(600), kind == "b", kind == "c", stats.zscore(choices["number"]), choices["other"] == "True"]
    design = np.column_stack(columns).astype(float)
    found, rest, *_ = np.linalg.lstsq(design, values, rcond=None)
    covariance = np.linalg.inv(design.T @ design) * rest[0] / (600 - 5)
    contrast = np.array([0.0, -1 / 3, 2 / 3, 0.0, 0.0])  # level c against the average level
    for draws, weights in ((fitted.level("kind", "c"), contrast), (fitted.effects["number"][:, 0], np.eye(5)[3])):
        mean, low, high = interval(draws)
        error = np.sqrt(weights @ covariance @ weights)
        assert mean == pytest.approx(weights @ found, abs=0.3 * error)
        assert (high - low) / (2 * 1.96 * error) == pytest.approx(1.0, abs=0.1)
    assert fitted.noise.mean() == pytest.approx(np.sqrt(rest[0] / 595), rel=0.03)


def test_draws_follow_the_posterior_that_numeric_integration_gives() -> None:
    """One number and no more: the posterior mean of its slope as an integral over slope width, noise and slope."""
    rng = np.random.default_rng(3)
    x = stats.zscore(rng.normal(size=8))
    values = 0.4 * x + rng.normal(size=8)
    y = stats.zscore(values)
    fitted = fit(terms_of(pd.DataFrame({"x": x})), values)

    # The noise's variance has an inverse gamma prior (1, 0.02), the width a half-Cauchy one (1).
    # Density of (log width, log noise) given y, up to a constant, and the slope's mean there.
    width, noise = np.exp(np.meshgrid(np.linspace(-8, 8, 400), np.linspace(-3, 3, 200), indexing="ij"))
    precision = 8 / noise**2 + 1 / width**2
    slope = (x @ y) / noise**2 / precision
    log = (
        -2 * np.log(noise)
        - 0.02 / noise**2
        - (7 * np.log(noise) + (y @ y) / (2 * noise**2))
        - np.log(width)
        - 0.5 * np.log(precision)
    )
    density = np.exp(log + 0.5 * precision * slope**2) * stats.halfcauchy.pdf(width) * width
    expected = (density * slope).sum() / density.sum() * values.std()
    draws = fitted.effects["x"][:, 0]
    assert draws.mean() == pytest.approx(expected, abs=0.05 * draws.std())


def test_intervals_of_small_studies_cover_the_truth() -> None:
    hits = []
    for seed in range(12):
        choices, values = drawn(25, seed, noise=2.0)
        fitted = fit(terms_of(choices), values)
        for draws, truth in ((fitted.level("kind", "c"), 2.0), (fitted.effects["number"][:, 0], 1.5)):
            _, low, high = interval(draws)
            hits.append(low <= truth <= high)
        _, low, high = interval(fitted.level("other", "True"))
        hits.append(low <= 0 <= high)
    assert np.mean(hits) > 0.85  # of 36 intervals of 95 %, with shrinkage


def test_what_goes_along_with_a_cause_is_not_taken_for_it() -> None:
    choices, values = drawn(300, seed=1)
    naive = values[choices["other"] == "True"].mean() - values[choices["other"] == "False"].mean()
    _, low, high = interval(2 * fit(terms_of(choices), values).level("other", "True"))
    assert naive < -1
    assert -0.5 < low < 0 < high < 0.5


def test_an_interaction_moves_the_outcome_only_where_there_is_one() -> None:
    rng = np.random.default_rng(0)
    choices = pd.DataFrame({"one": rng.choice(["a", "b"], 120), "two": rng.normal(size=120)})
    both = (choices["one"] == "a") & (halves(choices["two"]) == "high")
    noise = rng.normal(size=120)
    terms = {**terms_of(choices), "pair": together(choices["one"], choices["two"])}
    assert terms["pair"].levels == ["a × high", "a × low", "b × high", "b × low"]
    _, low, _ = interval(fit(terms, 4.0 * both + noise).spread("pair"))
    assert low > 0.5
    mean, _, _ = interval(fit(terms, 2.0 * (choices["one"] == "a") + noise).spread("pair"))
    assert mean < 0.3


def test_a_number_that_some_trials_do_not_have_leaves_them_alone() -> None:
    rng = np.random.default_rng(2)
    number = pd.Series(np.where(np.arange(200) % 2, rng.normal(size=200), np.nan))
    values = np.where(number.isna(), 7.0, 3.0 * number) + rng.normal(size=200)
    kind = number.isna().map({True: "without", False: "with"})
    fitted = fit(terms_of(pd.DataFrame({"kind": kind, "number": number})), values)
    assert fitted.effects["number"][:, 0].mean() == pytest.approx(3.0 * number.std(ddof=0), rel=0.1)
    assert fitted.level("kind", "without").mean() == pytest.approx(3.5, abs=0.4)


def test_more_coefficients_than_trials_are_no_error_and_say_little() -> None:
    rng = np.random.default_rng(0)
    choices = pd.DataFrame({f"x{place}": rng.normal(size=12) for place in range(20)})
    fitted = fit(terms_of(choices), rng.normal(size=12))
    bounds = np.quantile([fitted.effects[name][:, 0] for name in choices], [0.025, 0.975], axis=1)
    assert ((bounds[0] < 0) & (bounds[1] > 0)).mean() > 0.9
    assert fitted.noise.min() > 0


def test_nothing_to_learn_from_is_an_error() -> None:
    choices = pd.DataFrame({"kind": ["a", "b", "a"]})
    with pytest.raises(ValueError, match="three values or more"):
        fit(terms_of(choices), np.ones(3))
    with pytest.raises(ValueError, match="three values or more"):
        fit(terms_of(choices[:2]), np.array([1.0, 2.0]))
