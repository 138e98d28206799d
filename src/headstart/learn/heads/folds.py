"""Folds for choosing a strength inside the training pictures."""

from __future__ import annotations

import numpy as np

from headstart.learn.stratify import share_out


def deal_folds(targets: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold that holds out each picture, int64 `(n,)`; -1 for pictures that are always trained on.

    Stratified: the groups of a class are shuffled and dealt out in turn, so every fold holds out its share of every
    class and trains on each. There are never more folds than the largest class has groups, and a class of one group is
    always trained on. The folds do not depend on how the classes are numbered.

    (scikit-learn's `StratifiedGroupKFold` does not promise a training picture of every class, and refuses classes that
    are smaller than the number of folds.)

    With several labels a picture the folds come from iterative stratification, and the only group that has some label
    is always trained on.

    Args:
        targets: int `(n,)`, or bool `(n, c)`.
        groups: int `(n,)`, equal for pictures that stay together.
        folds: At most so many.
        seed: Of the shuffle.
    """
    if targets.ndim == 2:
        return _deal_several(targets.astype(bool), groups, folds, seed)
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    label = targets[first]  # a group of several classes counts for that of its first picture
    key = np.random.default_rng(seed).permutation(len(first))
    sizes = np.bincount(label)
    folds = min(folds, int(sizes.max()))
    dealt = np.full(len(first), -1, np.int64)
    for name in np.flatnonzero(sizes > 1):
        mine = np.flatnonzero(label == name)
        mine = mine[np.argsort(key[mine])]
        # The start differs from class to class, so that no fold gets all the remainders.
        dealt[mine] = (np.arange(len(mine)) + key[mine[0]]) % folds
    held_out = dealt[member]
    for name in np.unique(targets):
        mine = targets == name
        if len(np.unique(held_out[mine])) == 1:  # one fold would leave nothing of this class to train on
            held_out[np.isin(groups, groups[mine])] = -1
    return held_out


def _deal_several(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    turn = np.random.default_rng(seed).permutation(count)[member]
    folds = min(folds, count)
    held_out = share_out(labels, member, turn, [1 / folds] * folds)
    for label in range(labels.shape[1]):
        mine = np.unique(member[labels[:, label]])
        if len(mine) == 1:
            held_out[member == mine[0]] = -1
    return held_out
