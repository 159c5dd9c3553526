"""What a fit says of rows that it has not seen: of one fitted to all rows, of one fitted to others.

`left_predicted` leaves sets out of a generalised model at its variance parameters, in its working
linear model: the distribution of eta_S given the other rows is what `left_out` says of the working
response less its noise, a cavity (Vehtari, Mononen, Tolvanen, Sivula & Winther 2016, J. Mach.
Learn. Res. 17). `Trained` is a fit to some of the rows that is asked about the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised, joint_errors, linear
from ranef.design.deletion import without_rows
from ranef.errors import ModelError
from ranef.families import Cumulative, Multinomial
from ranef.inference.effects.linearised import Linearised, linearised
from ranef.inference.rows.parts import threshold_basis
from ranef.models.generalised import threshold_columns
from ranef.models.noise import Noise
from ranef.models.records import (
    CONDITIONAL,
    Component,
    Estimate,
    GeneralisedEstimate,
    LinearEstimate,
    columns_in,
)
from ranef.models.refitting import refitted
from ranef.models.rows import at_levels
from ranef.questions.selection.integrated import Predicted
from ranef.questions.selection.left_out import LeftOut, LinearModel, left_out

__all__ = ["THRESHOLD", "Trained", "ends_of", "left_predicted", "thresholds_of", "trained"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]
Codes = NDArray[np.integer]
Random = list[tuple[NDArray[np.int32], Floats] | None]

SMALLEST = 1e-12
THRESHOLD = "threshold"


def left_predicted(estimate: GeneralisedEstimate, sets: Codes) -> list[Predicted]:
    """Each set of rows given all others, at the estimate's variance parameters."""
    if isinstance(estimate.family, Multinomial):
        return left_categories(estimate, sets)
    working = linearised(estimate)
    spec = working.specification
    found = left_out(_model_of(working), sets)
    out = []
    for own, rest, S in zip(found.rows, found.rest, found.covariance, strict=True):
        etas = _others(estimate, own)
        etas[0] = spec.y[own] - rest
        V = S - np.diag(1.0 / working.weights[own])
        out.append(Predicted(own, etas, definite(V), thresholds_of(estimate, estimate, own)))
    return out


def left_categories(estimate: GeneralisedEstimate, sets: Codes) -> list[Predicted]:
    """Sets of rows of categories without an order, each given all others.

    The log odds of a row have the precision W = diag(p) - p p' in the working model. With W = K K'
    the J - 1 working responses of a row, K'z, are rows of a linear model with unit variances.
    """
    spec, q = estimate.specification, len(estimate.predictors)
    p = estimate.family.mean(estimate.predictors)
    weights = np.ones(spec.n) if spec.weights is None else spec.weights
    own = np.maximum(p[:, 1:], 1e-10)
    W = (own[:, :, None] * np.eye(q) - own[:, :, None] * own[:, None, :]) * weights[:, None, None]
    K = np.linalg.cholesky(W + 1e-12 * np.trace(W, axis1=1, axis2=2)[:, None, None] * np.eye(q))
    pulled = np.swapaxes(K, 1, 2)
    score = weights[:, None] * (np.eye(q + 1)[spec.y.astype(np.intp)][:, 1:] - p[:, 1:])
    z = estimate.predictors.T + np.linalg.solve(K @ pulled, score[:, :, None])[:, :, 0]
    X, terms = np.zeros((spec.n, q, len(estimate.coefficients))), list(estimate.terms)
    offset = np.zeros((spec.n, q))
    for part in estimate.components:
        full = estimate.parts[part.name]
        columns = full.X[:, [full.names.index(name) for name in part.names]]
        k = part.predictor
        X[:, :, part.coefficients] = pulled[:, :, [k]] * columns[:, None, :]
        offset[:, k] = 0.0 if full.offset is None else full.offset
        for t in part.terms:
            entered = pulled[:, :, [k]] * estimate.terms[t].z[:, None, :]
            terms[t] = replace(estimate.terms[t], z=entered.reshape(spec.n * q, -1))
    y = (pulled @ (z - offset)[:, :, None]).ravel()
    wide = replace(
        spec, y=y, X=X.reshape(spec.n * q, -1), weights=None, offset=None, terms=tuple(terms),
        names=tuple(f"free {j}" for j in range(X.shape[2])), residual=None,
        factors=tuple(replace(f, codes=np.repeat(f.codes, q)) for f in estimate.factors),
    )  # fmt: skip
    noise = Noise(None, None, spec.n * q, np.empty(0))
    model = LinearModel(wide, estimate.covariances, noise, 1.0)
    found, out = left_out(model, np.repeat(np.asarray(sets), q)), []
    for wide_rows, rest, S in zip(found.rows, found.rest, found.covariance, strict=True):
        rows = wide_rows[::q] // q
        m = len(rows)
        back = np.zeros((m, q, m, q))
        back[np.arange(m), :, np.arange(m)] = np.linalg.inv(pulled[rows])
        inverse = back.reshape(m * q, m * q)
        etas = (inverse @ (y[wide_rows] - rest)).reshape(m, q) + offset[rows]
        V = inverse @ (S - np.eye(m * q)) @ inverse.T
        V = V.reshape(m, q, m, q).transpose(1, 0, 3, 2).reshape(m * q, m * q)
        out.append(Predicted(rows, np.ascontiguousarray(etas.T), definite(V)))
    return out


def _others(estimate: GeneralisedEstimate, rows: Ints) -> Floats:
    """Predictors (M, m) of rows; in other parts than the mean levels of theirs alone have none."""
    etas = estimate.predictors[:, rows].copy()
    for component in estimate.components[1:]:
        for t in component.terms:
            codes = estimate.factors[estimate.terms[t].factor].codes
            z = columns_in(estimate, t, component)[rows]
            inside = np.bincount(codes[rows], minlength=codes.max() + 1)
            gone = (inside == np.bincount(codes))[codes[rows]]
            effect = at_levels(estimate.modes[t], codes[rows], z)
            etas[component.predictor] -= np.where(gone, effect, 0.0)
    return np.asarray(etas)


def _model_of(working: Linearised) -> LinearModel:
    spec = working.specification
    noise = Noise(None, spec.weights, spec.n, np.empty(0))
    return LinearModel(spec, working.covariances, noise, 1.0)


def definite(V: Floats) -> Floats:
    """The nearest matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh((V + V.T) / 2)
    return np.asarray(
        (vectors * np.maximum(values, SMALLEST * max(values[-1], 1e-300))) @ vectors.T
    )


def thresholds_of(own: GeneralisedEstimate, whole: Estimate, rows: Ints) -> Floats | None:
    """Thresholds (J - 1, m) of ordered categories for rows of the whole; None of others."""
    if not isinstance(own.family, Cumulative):
        return None
    (component,) = [one for one in own.components if one.name == THRESHOLD]
    beta, basis = own.coefficients[component.coefficients], threshold_basis(own)
    if component.specification is None:
        return np.repeat((basis @ beta)[:, None], len(rows), axis=1)
    W = whole.parts[component.name].X[rows]
    return np.stack([threshold_columns(W, row) @ beta for row in basis])


def ends_of(cuts: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Upper and lower threshold (m,) of categories y; 0 where a category has none."""
    m = cuts.shape[1]
    ends, at, category = (
        np.vstack([np.zeros(m), cuts, np.zeros(m)]),
        np.arange(m),
        y.astype(np.intp),
    )
    return ends[category + 1, at], ends[category, at]


@dataclass(frozen=True, eq=False)
class Trained:
    """A model fitted to some of the rows.

    Attributes
    ----------
    estimate : Estimate
        Of the rows kept.
    whole : Estimate
        Of all rows: the model whose rows are asked about.
    keep : (n,) bool array
    """

    estimate: Estimate
    whole: Estimate
    keep: Bools

    # --- linear models

    def linear(self, sets: Sequence[Ints]) -> tuple[LeftOut, float]:
        """Return what the fit expects of sets of the other rows, and its sigma."""
        own, whole = self.estimate, self.whole
        assert isinstance(own, LinearEstimate)
        spec = whole.specification
        related = any(term.kernel is not None for term in spec.terms)
        if spec.residual is not None or related:
            return self._given_all_else(own, sets)
        rest, covariance = [], []
        for rows in sets:
            random = self._random(rows)
            mean = spec.X[rows] @ own.coefficients + self._offset(rows)
            for b, given in zip(own.modes, random, strict=True):
                assert given is not None
                mean = mean + at_levels(b, *given)
            V = self._linear_errors(own, spec.X[rows], random)
            w = np.ones(len(rows)) if spec.weights is None else spec.weights[rows]
            rest.append(spec.y[rows] - mean)
            covariance.append((V + self._unseen(rows, own)) / own.sigma**2 + np.diag(1.0 / w))
        return LeftOut(list(sets), rest, covariance), own.sigma

    def _given_all_else(self, own: LinearEstimate, sets: Sequence[Ints]) -> tuple[LeftOut, float]:
        """By the model of the rows kept and asked about, at the parameters of those kept."""
        whole = self.whole
        assert isinstance(whole, LinearEstimate)
        used = self.keep.copy()
        used[np.concatenate(list(sets))] = True
        place = np.full(len(used), -1, dtype=np.intp)
        place[used] = np.arange(int(used.sum()))
        spec = without_rows(whole.specification, used)
        moved = LinearModel.of(whole, own.theta, spec)
        model = LinearModel(moved.spec, moved.psis, moved.noise, own.sigma)
        found = left_out(model, np.where(self.keep[used], -1, 0))
        within = np.full(spec.n, -1, dtype=np.intp)
        within[found.rows[0]] = np.arange(len(found.rows[0]))
        at = [within[place[rows]] for rows in sets]
        return LeftOut(
            list(sets),
            [found.rest[0][k] for k in at],
            [found.covariance[0][np.ix_(k, k)] for k in at],
        ), own.sigma

    def _linear_errors(self, own: LinearEstimate, X: Floats, random: Random) -> Floats:
        if not own.terms:
            return np.asarray(X @ own.coefficient_vcov @ X.T)
        found = joint_errors.whitened(own, X, random)
        dense = np.hstack([found.tail, found.fixed])
        return np.asarray((found.chain @ found.chain.T).toarray() + dense @ dense.T)

    def linear_rows(self, rows: Ints) -> tuple[Floats, Floats]:
        """Mean and standard deviation of each row by itself, (m,)."""
        own, spec = self.estimate, self.whole.specification
        assert isinstance(own, LinearEstimate)
        related = any(term.kernel is not None for term in spec.terms)
        if spec.residual is not None or related or not own.terms:
            found, sigma = self.linear([rows])
            return spec.y[rows] - found.rest[0], sigma * np.sqrt(np.diag(found.covariance[0]))
        random = self._random(rows)
        mean = spec.X[rows] @ own.coefficients + self._offset(rows)
        for b, given in zip(own.modes, random, strict=True):
            assert given is not None
            mean = mean + at_levels(b, *given)
        w = 1.0 if spec.weights is None else spec.weights[rows]
        variance = linear.prediction_variance(own, spec.X[rows], random) + own.sigma**2 / w
        return mean, np.sqrt(variance)

    # --- generalised ones

    def generalised(self, sets: Sequence[Ints], *, joint: bool = True) -> list[Predicted]:
        """Return the predictors of sets of the other rows, with their errors."""
        own = self.estimate
        assert isinstance(own, GeneralisedEstimate)
        if isinstance(own.family, Multinomial):
            return [self._nominal(own, rows) for rows in sets]
        out = []
        for rows in sets:
            etas, random = self._predictors(own, rows), self._random(rows)
            X = np.zeros((len(rows), len(own.coefficients)))
            part = own.components[0]
            spec = self.whole.specification
            X[:, part.coefficients] = spec.X[rows][:, [spec.names.index(n) for n in part.names]]
            self._common_threshold(own, X)
            cuts = thresholds_of(own, self.whole, rows)
            for t, given in enumerate(random):
                assert given is not None
                inside = t in part.terms
                random[t] = (given[0], columns_in(self.whole, t, part)[rows]) if inside else None
            if not joint:
                V = generalised.generalised_prediction_variance(own, X, random)
                out.append(Predicted(rows, etas, V, cuts))
                continue
            found = joint_errors.generalised_whitened(own, X, random)
            dense = np.hstack([found.tail, found.fixed])
            V = (found.chain @ found.chain.T).toarray() + dense @ dense.T
            out.append(Predicted(rows, etas, V + self._unseen(rows, own, part), cuts))
        return out

    @staticmethod
    def _common_threshold(own: GeneralisedEstimate, X: Floats) -> None:
        """What the thresholds of ordered categories have in common stands for the intercept."""
        for component in own.components[1:]:
            if component.name == THRESHOLD and component.specification is None:
                X[:, component.coefficients] = -threshold_basis(own).mean(axis=0)

    def _nominal(self, own: GeneralisedEstimate, rows: Ints) -> Predicted:
        """Log odds of each category, with their errors."""
        whole, m = self.whole, len(rows)
        assert isinstance(whole, GeneralisedEstimate)
        etas, q = self._predictors(own, rows), len(own.predictors)
        X, given = np.zeros((q * m, len(own.coefficients))), self._random(rows)
        random: Random = [None] * len(own.terms)
        new = np.zeros((q * m, q * m))
        for part in own.components:
            here, spec = slice(part.predictor * m, (part.predictor + 1) * m), whole.parts[part.name]
            X[here, part.coefficients] = spec.X[rows][:, [spec.names.index(n) for n in part.names]]
            for t in part.terms:
                known = given[t]
                assert known is not None
                z = np.zeros((q * m, known[1].shape[1]))
                z[here] = known[1]
                random[t] = np.tile(known[0], q), z
            new[here, here] = self._unseen(rows, own, part)
        found = joint_errors.generalised_whitened(own, X, random)
        dense = np.hstack([found.tail, found.fixed])
        V = (found.chain @ found.chain.T).toarray() + dense @ dense.T
        return Predicted(rows, etas, V + new)

    def _predictors(self, own: GeneralisedEstimate, rows: Ints) -> Floats:
        """Predictors (M, m) at the fit's coefficients and modes, zero for levels not seen."""
        whole = self.whole
        assert isinstance(whole, GeneralisedEstimate)
        random = self._random(rows)
        out = np.empty((len(own.predictors), len(rows)))
        known = np.zeros(len(out), dtype=np.bool_)
        for component in own.components:
            spec = component.specification
            k = component.predictor
            beta = own.coefficients[component.coefficients]
            if spec is None or component.name == THRESHOLD:
                continue
            full = whole.parts[component.name]
            X = full.X[rows][:, [full.names.index(n) for n in component.names]]
            eta = X @ beta + (0.0 if full.offset is None else full.offset[rows])
            for t in component.terms:
                given = random[t]
                assert given is not None
                z = columns_in(whole, t, component)[rows]
                eta = eta + at_levels(own.modes[t], given[0], z)
            out[k], known[k] = eta, True
        out[~known] = own.predictors[~known, :1]  # constants
        cuts = thresholds_of(own, whole, rows)
        if cuts is not None:
            out[1], out[2] = ends_of(cuts, whole.specification.y[rows])
        return out

    # --- both

    def _offset(self, rows: Ints) -> Floats | float:
        offset = self.whole.specification.offset
        return 0.0 if offset is None else offset[rows]

    def _random(self, rows: Ints) -> Random:
        """Codes of the levels as the fit counts them, -1 of those that it has not seen."""
        out: Random = []
        for term in self.whole.terms:
            factor = self.whole.factors[term.factor]
            place = np.full(factor.n_levels, -1, dtype=np.int32)
            seen = np.unique(factor.codes[self.keep])
            place[seen] = np.arange(len(seen), dtype=np.int32)
            out.append((place[factor.codes[rows]], np.ascontiguousarray(term.z[rows])))
        return out

    def _unseen(self, rows: Ints, own: Estimate, part: Component | None = None) -> Floats:
        """Covariance (m, m) that levels not seen add: rows of one level share its effect."""
        out = np.zeros((len(rows), len(rows)))
        for t in range(len(self.whole.terms)) if part is None else part.terms:
            term = self.whole.terms[t]
            factor = self.whole.factors[term.factor]
            columns = term.z if part is None else columns_in(self.whole, t, part)
            codes, z = factor.codes[rows], columns[rows]
            new = ~np.isin(codes, np.unique(factor.codes[self.keep]))
            if not new.any():
                continue
            if term.kernel is not None:
                raise ModelError(
                    f"the levels of {factor.name} are related by a kernel, so that a level left "
                    "out is no new one of a generalised model; leave out rows, or use a linear "
                    "model"
                )
            z = np.where(new[:, None], z, 0.0)
            same = codes[:, None] == codes
            out += np.where(same, z @ own.covariances[t] @ z.T, 0.0)
        return out


def trained(whole: Estimate, keep: Bools) -> Trained:
    """Fit the model to the rows that are kept, from its theta."""
    parts = {name: without_rows(spec, keep) for name, spec in whole.parts.items()}
    extra = None if whole.extra is None else whole.extra[keep]
    if not whole.terms and whole.specification.residual is None and whole.sigma is not None:
        from ranef.inference.nested.removal import ordinary

        return Trained(ordinary(parts[CONDITIONAL], whole.reml), whole, keep)
    found = refitted(whole, parts, extra, start=whole.theta, n_jobs=1)
    return Trained(found, whole, keep)
