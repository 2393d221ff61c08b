"""Scores of the interaction context in blocks, by matrix products where terms factor.

Scoring a pair from its row of d = 3F + 5 features takes d^2 steps. Here the features are split:
u = [1, mean, teacher solves, student solves] is affine in the student s and in the teacher t, the
product p = t * s is bilinear, and y = [absolute difference, divergence, lead] does not factor.
Squares of u and p are polynomials in t and s, hence one product of N x (F^2 / 2 + 5F / 2 + 2)
matrices. Terms with y take one product per teacher, since u and p are affine in s for a given t.

Axes: N agents, T teachers, S students, b a block of teachers, F profile features, u, y features of
those parts, g columns of the factored term.
"""

import numpy as np

from knexa.data.divergence import divergence, entropy_bits, normalised_bins
from knexa.matchmaking.arrays import Array, Indices
from knexa.matchmaking.large.pair_scores import Span
from knexa.profiles import layout

_BLOCK = 1 << 11
"""Ordered pairs in a block; their features, about 70 a pair, fit into the cache."""


class InteractionScorer:
    """Fills blocks of theta^T x + beta sqrt(x^T A^-1 x); see ``Interaction`` for x.

    Args:
        profiles_NF: Profiles.
        num_histogram: How many of the last profile features are the data histogram.
        theta_d: The estimate.
        metric_dd: beta^2 A^-1; None leaves out the second term.
    """

    def __init__(
        self, profiles_NF: Array, num_histogram: int, theta_d: Array, metric_dd: Array | None
    ) -> None:
        self._profiles_NF = profiles_NF
        self._profiles_FN = np.ascontiguousarray(profiles_NF.T)
        self._shares_HN = normalised_bins(profiles_NF[:, -num_histogram:])
        self._entropies_N = entropy_bits(self._shares_HN)
        self._scale = 1.0 / float(np.sqrt(profiles_NF.shape[1]))
        self._parts(profiles_NF.shape[1])
        self._widens = metric_dd is not None
        self._z_bzS: Array = np.empty((0, 0, 0))
        self._factor_estimates(theta_d)
        if metric_dd is not None:
            self._factor_squares(metric_dd)
        self._prepare_y(theta_d, metric_dd)

    def __call__(self, teachers: Span, students: Span, out_TS: Array) -> None:
        """Write the scores of the teachers with the students."""
        np.matmul(
            self._teacher_estimates_Ne[teachers],
            self._student_estimates_eN[:, students],
            out=out_TS,
        )
        squares_TS = None
        if self._widens:
            squares_TS = self._teacher_squares_Ng[teachers] @ self._student_squares_gN[:, students]
        teachers_T = np.arange(len(self._profiles_NF))[teachers]
        size = max(1, _BLOCK // max(1, out_TS.shape[1]))
        for begin in range(0, len(teachers_T), size):
            rows = slice(begin, begin + size)
            squares_bS = None if squares_TS is None else squares_TS[rows]
            self._add_y(teachers_T[rows], students, out_TS[rows], squares_bS)
        if squares_TS is not None:
            # Rounding can push the square of a well-explored direction just below zero.
            np.maximum(squares_TS, 0.0, out=squares_TS)
            np.sqrt(squares_TS, out=squares_TS)
            out_TS += squares_TS

    def _parts(self, num_features: int) -> None:
        """Set the places of u, p and y in x, and the parts of u = constant + Ut t + Us s."""
        mean = np.arange(num_features) + 1
        difference, self._p = mean + num_features, mean + 2 * num_features
        divergence, teacher_solves, student_solves, lead = 3 * num_features + 1 + np.arange(4)
        self._u = np.array([0, *mean, teacher_solves, student_solves])
        self._y = np.array([*difference, divergence, lead])
        self._constant_u = np.zeros(len(self._u))
        self._constant_u[0] = 1.0
        self._of_teacher_uF = np.zeros((len(self._u), num_features))
        self._of_teacher_uF[1:-2] = np.eye(num_features) * (self._scale / 2.0)
        self._of_student_uF = self._of_teacher_uF.copy()
        self._of_teacher_uF[-2, layout.PASS_AT_1] = 1.0
        self._of_student_uF[-1, layout.PASS_AT_1] = 1.0

    def _factor_estimates(self, theta_d: Array) -> None:
        """Factor theta^T [u, p]: additive but for one bilinear term."""
        t_NF = s_NF = self._profiles_NF
        theta_u, theta_p = theta_d[self._u], theta_d[self._p]
        ones_N = np.ones(len(t_NF))
        teacher_N = t_NF @ (self._of_teacher_uF.T @ theta_u) + self._constant_u @ theta_u
        student_N = s_NF @ (self._of_student_uF.T @ theta_u)
        self._teacher_estimates_Ne = np.column_stack(
            [t_NF * (self._scale * theta_p), teacher_N, ones_N]
        )
        self._student_estimates_eN = np.vstack([s_NF.T, ones_N, student_N])

    def _factor_squares(self, metric_dd: Array) -> None:
        """Factor the form of [u, p] alone, a polynomial of degree 2 in t and in s.

        With a = constant + Ut t and b = Us s, so that u = a + b, and p = scale t * s:
        a' Muu a + b' Muu b + 2 a' Muu b + 2 p' Mpu (a + b) + p' Mpp p. The last term is a sum over
        k <= m of (t_k t_m) (s_k s_m).
        """
        t_NF = s_NF = self._profiles_NF
        u_uu, p_pp = metric_dd[np.ix_(self._u, self._u)], metric_dd[np.ix_(self._p, self._p)]
        pu_pu = metric_dd[np.ix_(self._p, self._u)]
        a_Nu = t_NF @ self._of_teacher_uF.T + self._constant_u
        b_Nu = s_NF @ self._of_student_uF.T
        k, m = np.triu_indices(len(p_pp))
        weights_q = np.where(k == m, 1.0, 2.0) * self._scale**2 * p_pp[k, m]
        ones_N = np.ones(len(t_NF))
        self._teacher_squares_Ng = np.column_stack(
            [
                2.0 * (a_Nu @ u_uu @ self._of_student_uF + self._scale * t_NF * (a_Nu @ pu_pu.T)),
                t_NF,
                weights_q * t_NF[:, k] * t_NF[:, m],
                np.einsum("nu,nu->n", a_Nu @ u_uu, a_Nu),
                ones_N,
            ]
        )
        self._student_squares_gN = np.column_stack(
            [
                s_NF,
                2.0 * self._scale * s_NF * (b_Nu @ pu_pu.T),
                s_NF[:, k] * s_NF[:, m],
                ones_N,
                np.einsum("nu,nu->n", b_Nu @ u_uu, b_Nu),
            ]
        ).T.copy()

    def _prepare_y(self, theta_d: Array, metric_dd: Array | None) -> None:
        """Keep theta_y and, for W = [2 Myu a, 2 Myu Us + 2 Myp diag(scale t), Myy], its parts."""
        self._theta_y = theta_d[self._y]
        if metric_dd is None:
            return
        yu_yu = 2.0 * metric_dd[np.ix_(self._y, self._u)]
        a_Nu = self._profiles_NF @ self._of_teacher_uF.T + self._constant_u
        self._of_constant_Ny = a_Nu @ yu_yu.T
        self._of_student_yF = yu_yu @ self._of_student_uF
        self._of_product_yF = 2.0 * self._scale * metric_dd[np.ix_(self._y, self._p)]
        self._of_y_yy = metric_dd[np.ix_(self._y, self._y)]

    def _add_y(
        self, teachers_b: Indices, students: Span, out_bS: Array, squares_bS: Array | None
    ) -> None:
        """Add theta_y^T y to the estimates, and y^T W [1, s, y] to the squares."""
        z_bzS = self._features(teachers_b, students)
        y_byS = z_bzS[:, -len(self._y) :]
        out_bS += self._theta_y @ y_byS
        if squares_bS is not None:
            w_byS = self._weights(teachers_b) @ z_bzS
            squares_bS += np.einsum("byS,byS->bS", w_byS, y_byS)

    def _features(self, teachers_b: Indices, students: Span) -> Array:
        """Return [1, s, y] of every pair of a block."""
        students_FS = self._profiles_FN[:, students]
        teachers_bF1 = self._profiles_NF[teachers_b][:, :, None]
        num_features, num_students = students_FS.shape
        shape = (len(teachers_b), 1 + num_features + len(self._y), num_students)
        if self._z_bzS.shape != shape:  # else the pages of the last block serve again
            self._z_bzS = np.empty(shape)
        z_bzS = self._z_bzS
        z_bzS[:, 0] = 1.0
        z_bzS[:, 1 : 1 + num_features] = students_FS
        differences_bFS = z_bzS[:, 1 + num_features : -2]
        np.subtract(students_FS, teachers_bF1, out=differences_bFS)
        np.maximum(-differences_bFS[:, layout.PASS_AT_1], 0.0, out=z_bzS[:, -1])
        np.abs(differences_bFS, out=differences_bFS)
        differences_bFS *= self._scale
        shares = self._shares_HN[:, teachers_b, None], self._shares_HN[:, None, students]
        entropies = self._entropies_N[teachers_b, None], self._entropies_N[students]
        z_bzS[:, -2] = divergence(*shares, *entropies)
        return z_bzS

    def _weights(self, teachers_b: Indices) -> Array:
        """Return W of every teacher of a block."""
        products_byF = self._of_product_yF * self._profiles_NF[teachers_b][:, None, :]
        shape = (len(teachers_b), *self._of_y_yy.shape)
        return np.concatenate(
            [
                self._of_constant_Ny[teachers_b][:, :, None],
                self._of_student_yF + products_byF,
                np.broadcast_to(self._of_y_yy, shape),
            ],
            axis=2,
        )
