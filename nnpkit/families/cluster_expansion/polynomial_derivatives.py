"""First and second derivatives of the invariants by the expansion coefficients, as sparse maps of monomials.

With all monomials of A_lm that appear in them evaluated once, derivatives are products with sparse matrices that
never change, over all atoms and channels at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from nnpkit.families.cluster_expansion.invariants import invariant_terms

__all__ = ["PolynomialDerivatives"]

Entries = dict[tuple[int, int], float]


class PolynomialDerivatives:
    """Derivatives of the I invariants of one channel by its L coefficients A_lm.

    Parameters
    ----------
    lists : sequence of sequences of int
        Degrees of each invariant.
    """

    def __init__(self, lists: Sequence[Sequence[int]]) -> None:
        self.n_invariants, l_max = len(lists), max(max(degrees) for degrees in lists)
        self.n_coefficients = n = (l_max + 1) ** 2 - 1
        self._monomials: list[list[tuple[int, ...]]] = [[()], [(k,) for k in range(n)], [], []]
        numbers: dict[tuple[int, ...], int] = {}
        first: dict[tuple[int, tuple[int, ...]], float] = {}
        second: dict[tuple[int, tuple[int, tuple[int, ...]]], float] = {}
        for invariant, terms in enumerate(invariant_terms(lists)):
            for coefficient, indices in terms:
                for s, k in enumerate(indices):
                    rest = indices[:s] + indices[s + 1 :]
                    key = (invariant * n + k, rest)
                    first[key] = first.get(key, 0.0) + coefficient
                    for other, m in enumerate(rest):
                        pair = (k * n + m, (invariant, rest[:other] + rest[other + 1 :]))
                        second[pair] = second.get(pair, 0.0) + coefficient
        needed = {rest for _, rest in first} | {rest for _, (_, rest) in second}
        for power in (2, 3):
            self._monomials[power] = sorted(rest for rest in needed if len(rest) == power)
        for own in self._monomials:
            for monomial in own:
                numbers[monomial] = len(numbers)
        self._first = _sparse(
            {(target, numbers[rest]): value for (target, rest), value in first.items()},
            (self.n_invariants * n, len(numbers)),
        )
        products = sorted({(i, numbers[rest]) for _, (i, rest) in second})
        place = {product: column for column, product in enumerate(products)}
        self._products = torch.tensor(products).T.contiguous()
        # dense, and its product the other way round: that is cheaper than to transpose the result
        self._second = _sparse(
            {(place[i, numbers[rest]], target): value for (target, (i, rest)), value in second.items()},
            (len(products), n * n),
        ).to_dense()
        self._pairs = torch.tensor(self._monomials[2], dtype=torch.int64).reshape(-1, 2).T
        self._triples = torch.tensor(self._monomials[3], dtype=torch.int64).reshape(-1, 3).T

    def monomials(self, a: Tensor) -> Tensor:
        """All monomials (M, R) that derivatives are made of, for coefficients `a` (L, R)."""
        i, j = self._pairs, self._triples
        return torch.cat([torch.ones_like(a[:1]), a, a[i[0]] * a[i[1]], a[j[0]] * a[j[1]] * a[j[2]]])

    def first(self, monomials: Tensor) -> Tensor:
        """Derivatives (I, L, R)."""
        return (self._first @ monomials).view(self.n_invariants, self.n_coefficients, -1)

    def second(self, monomials: Tensor, weights: Tensor) -> Tensor:
        """Second derivatives (R, L, L) of the sum of the invariants with `weights` (I, R)."""
        products = weights[self._products[0]] * monomials[self._products[1]]
        return (products.T @ self._second).view(-1, self.n_coefficients, self.n_coefficients)


def _sparse(entries: Entries, shape: tuple[int, int]) -> Tensor:
    """Matrix in compressed rows."""
    keys = torch.tensor(sorted(entries)).reshape(-1, 2).T
    values = torch.tensor([entries[key] for key in sorted(entries)], dtype=torch.float64)
    with warnings.catch_warnings():  # that of torch, about the state of its sparse matrices
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_coo_tensor(keys, values, shape, check_invariants=True).to_sparse_csr()
