"""The probes are those of scikit-learn, on the same split."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dnc_lightning.functional import (
    TrainingSet,
    half_of_each_class,
    knn_predict,
    logistic_probe,
    ridge_probe,
)
from dnc_lightning.functional.linear_probe import PENALTIES
from tests.functional.test_probes import data

linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn: the extra dev")
neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn: the extra dev")

X, Y = data((80, 61, 90, 70), d=25, apart=0.15)
TRAIN = half_of_each_class(Y)
FIT = TrainingSet.build(X[TRAIN], Y[TRAIN])
X_TRAIN, Y_TRAIN, X_TEST, Y_TEST = (
    part.numpy() for part in (X[TRAIN], Y[TRAIN], X[~TRAIN], Y[~TRAIN])
)


def test_ridge() -> None:
    probe = ridge_probe(FIT)
    theirs = linear_model.RidgeClassifierCV(alphas=np.array(PENALTIES) * FIT.unit_variance)
    theirs.fit(X_TRAIN, Y_TRAIN)
    assert theirs.alpha_ == pytest.approx(probe.penalty)
    ours = probe.scores(X[~TRAIN])
    np.testing.assert_allclose(  # they regress -1 and 1
        2 * ours.numpy() - 1, theirs.decision_function(X_TEST), atol=1e-6, rtol=0
    )
    right = float((ours.argmax(1) == Y[~TRAIN]).double().mean())
    assert right == pytest.approx(theirs.score(X_TEST, Y_TEST), abs=1e-6)
    assert 0.4 < right < 0.95


@pytest.mark.parametrize("penalty", [0.1, 1.0, 30.0])
def test_logistic_regression(penalty: float) -> None:
    probe = logistic_probe(FIT, penalty=penalty, iterations=1_000)
    theirs = linear_model.LogisticRegression(
        C=1 / probe.penalty, tol=1e-12, max_iter=1_000, solver="newton-cholesky"
    ).fit(X_TRAIN, Y_TRAIN)
    ours = probe.scores(X[~TRAIN]).softmax(1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(X_TEST), atol=1e-6, rtol=0)
    assert (ours.argmax(1) == theirs.predict(X_TEST)).all()


@pytest.mark.parametrize("k", [1, 5, 20])
def test_neighbours(k: int) -> None:
    theirs = neighbors.KNeighborsClassifier(
        k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(X_TRAIN, Y_TRAIN)
    ours = knn_predict(X[~TRAIN], X[TRAIN], Y[TRAIN], k=k)
    assert (ours.numpy() == theirs.predict(X_TEST)).all()
    assert 0.4 < float((ours == Y[~TRAIN]).double().mean()) < 0.95


def test_single_precision_answers_alike() -> None:
    single = TrainingSet.build(X[TRAIN].float(), Y[TRAIN])
    for fitted in (ridge_probe, logistic_probe):
        one, other = fitted(single).scores(X[~TRAIN]), fitted(FIT).scores(X[~TRAIN])
        assert (one.argmax(1) == other.argmax(1)).double().mean() > 0.99
        assert torch.allclose(one, other, atol=1e-2)
