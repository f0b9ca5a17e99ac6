"""The ceiling: what the simplest use of the tools scores when the experts know the truth."""

from __future__ import annotations

from visenv.policies.single import SingleCallPolicy


class OraclePolicy(SingleCallPolicy):
    """One call, merged; with the expert set ``oracle`` it scores the maximum on every sample.

    It knows nothing but the query: it is the experts that read the truth.
    """

    name = "oracle"
