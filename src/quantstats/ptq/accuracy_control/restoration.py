"""Which groups of quantizers return to floating point: few, found with few validations.

Groups are ranked by what each does alone: the rest of the model in floating point, how much does it hurt on the ranking
subset? In this the errors of others do not interfere, which in a model that is hurt in many places hide each other.
Then the shortest beginning of the ranking that meets the allowed drop is searched, by doubling its length and halving
the last step. A step that makes the metric worse shows that the ranking does not hold in the company of what is
reverted already; then the rest is ranked anew in this company. In the end groups that turn out not to matter are
quantized again.
"""

from __future__ import annotations

from collections.abc import Sequence

from quantstats.ptq.accuracy_control.groups import Group, revert
from quantstats.ptq.accuracy_control.journal import Journal
from quantstats.ptq.accuracy_control.measurement import Candidate, Measurement, Score, Trial
from quantstats.ptq.accuracy_control.predicted_noise import PredictedNoise
from quantstats.ptq.plan import QuantizationPlan

# Groups are measured in the order of their predicted noise, at first only those that make up this share of it.
_FIRST_SHARE = 0.99
_FIRST_COUNT = 4
# Of groups that hurt alone at most so many times as much as another, either may turn out to be the one that matters.
_ALIKE = 2.0
# The search begins with as many groups as leave this share of the measured noise.
_LEFT_AT_FIRST = 0.5


class Restoration:
    """The search for one plan.

    :param start: The plan that loses too much.
    :param groups: Its groups.
    :param predicted: Its predicted noise.
    :param measurement: Measures plans; its ranking subset is that of ``start``.
    :param journal: Where decisions go.
    :param limit: Most groups to revert.
    :param keep_weights: Leave the weights of what is reverted rounded.
    """

    def __init__(
        self,
        start: Candidate,
        groups: Sequence[Group],
        predicted: PredictedNoise,
        measurement: Measurement,
        journal: Journal,
        *,
        limit: int,
        keep_weights: bool,
    ) -> None:
        self._start = start
        self._groups = tuple(groups)
        self._measurement = measurement
        self._journal = journal
        self._limit = min(limit, len(self._groups))
        self._keep_weights = keep_weights
        self._noise = {g.name: predicted.of_group(g, with_weights=not keep_weights) for g in groups}
        self._alone: dict[str, Score] = {}
        self._validated: dict[frozenset[str], Candidate] = {}
        # Most noise first; equal ones by name, so that two runs agree.
        self._unmeasured = sorted(groups, key=lambda g: (-self._noise[g.name], g.name))

    def run(self) -> Candidate | None:
        """Return the candidate that meets the allowed drop with the fewest groups found, or ``None``."""
        if self._limit == 0:
            return None
        order = self._measured_next()
        low, high, failed = 0, None, self._start
        length, reranked_at = self._first_length(order), -1
        while high is None:
            if length > len(order) and self._unmeasured:
                order += self._measured_next()
            length = min(length, len(order), self._limit)
            candidate = self._validate(order[:length])
            if candidate.passes:
                high = candidate
            elif candidate.metric < failed.metric and reranked_at != low and length < len(self._groups):
                # On this way things get worse. Once at each place, look at what remains from here.
                reranked_at = low
                order = [*order[:low], *self._ranked_in_company(order[:low])]
                length = low + 1
            elif length == self._limit:
                return None
            else:
                low, failed = length, candidate
                # All that is measured so far is tried before more is.
                length = 2 * length if length in (len(order), self._limit) else min(2 * length, len(order))
        while len(high.reverted) - low > 1:
            middle = (low + len(high.reverted)) // 2
            candidate = self._validate(order[:middle])
            if candidate.passes:
                high = candidate
            else:
                low, failed = middle, candidate
        return self._put_back(high, failed)

    def _first_length(self, order: Sequence[Group]) -> int:
        """The shortest beginning of the ranking that a search has reason to begin with.

        Noises add up, and a drop grows with the noise, if at all. While more than half of the noise is left, a drop
        that is several times what is allowed will hardly have shrunk enough.
        """
        noise = [max(self._alone[group.name].noise, 0.0) for group in order]
        allowed = self._measurement.max_drop / self._start.drop
        left, length = sum(noise), 0
        enough = max(allowed, _LEFT_AT_FIRST) * left
        while length < self._limit and length < len(order) and (length == 0 or left > enough):
            left -= noise[length]
            length += 1
        return length

    # Ranking

    def _measured_next(self) -> list[Group]:
        """Measure groups that were not measured yet, those with the most predicted noise; the worst comes first."""
        total = sum(self._noise.values())
        count, seen = 0, 0.0
        if len(self._unmeasured) == len(self._groups):
            while count < len(self._groups) and (seen < _FIRST_SHARE * total or count < _FIRST_COUNT):
                seen += self._noise[self._unmeasured[count].name]
                count += 1
        else:
            count = len(self._unmeasured)
        chosen, self._unmeasured = self._unmeasured[:count], self._unmeasured[count:]
        trials = [
            Trial("Ranking", group.name, self._without([g for g in self._groups if g is not group])) for group in chosen
        ]
        scores = self._measurement.scores(trials)
        self._alone.update((group.name, score) for group, score in zip(chosen, scores, strict=True))
        return self._noted("alone", chosen, [Score(-score.error, -score.noise) for score in scores])

    def _ranked_in_company(self, reverted: Sequence[Group]) -> list[Group]:
        """Rank all other groups by what is left when each is reverted too; the one that helps most comes first."""
        self._unmeasured = []
        others = [group for group in self._groups if group not in reverted]
        trials = [Trial("Ranking again", group.name, self._without([*reverted, group])) for group in others]
        return self._noted("in company", others, self._measurement.scores(trials))

    def _noted(self, way: str, groups: Sequence[Group], scores: Sequence[Score]) -> list[Group]:
        ranked = sorted(
            zip(scores, groups, strict=True), key=lambda pair: (pair[0], -self._noise[pair[1].name], pair[1].name)
        )
        order = [group for _, group in ranked]
        self._journal.take({"step": "ranking", "way": way}, lambda: {"order": [group.name for group in order]})
        return order

    # Groups that turn out not to matter

    def _put_back(self, found: Candidate, failed: Candidate) -> Candidate:
        """Quantize again what the result does not need, as far as the ranking subset lets hope for it.

        The beginning of the ranking that lacks the last group alone is known to fail. A plan that hurts more than that
        one on the ranking subset is not worth a validation.
        """
        while len(found.reverted) > 1:
            last = found.reverted[-1]
            dropped = [group for group in found.reverted if group is not last and self._may_matter_less(group, last)]
            if not dropped:
                break
            trials = [Trial("Putting back", last.name, failed.plan)]
            trials += [Trial("Putting back", g.name, self._without(_less(found.reverted, g))) for g in dropped]
            bound, *scores = self._measurement.scores(trials)
            hopeful = sorted(
                (score, group.name, group) for score, group in zip(scores, dropped, strict=True) if score < bound
            )
            if not hopeful:
                break
            candidate = self._validate(_less(found.reverted, hopeful[0][2]))
            if not candidate.passes:
                break
            found = candidate
        return found

    def _may_matter_less(self, group: Group, last: Group) -> bool:
        """Whether a group may hurt less in company than one that is known to be needed, though it hurts more alone."""
        if group.name not in self._alone or last.name not in self._alone:
            return True
        return self._alone[group.name].noise <= _ALIKE * self._alone[last.name].noise

    # Plans

    def _without(self, groups: Sequence[Group]) -> QuantizationPlan:
        return revert(self._start.plan, groups, keep_weights=self._keep_weights)

    def _validate(self, groups: Sequence[Group]) -> Candidate:
        """Validate the plan without some groups, unless that was done: another ranking may begin alike."""
        names = frozenset(group.name for group in groups)
        if names not in self._validated:
            plan = self._without(groups)
            self._validated[names] = self._measurement.validate(plan, self._start.settings, tuple(groups))
        return self._validated[names]


def _less(groups: Sequence[Group], group: Group) -> list[Group]:
    return [other for other in groups if other is not group]


__all__ = ["Restoration"]
