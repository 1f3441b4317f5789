"""The section on ΔQ, for both kinds of page."""

from sb3_attnmem.inspection.memory.page import Section, Table
from sb3_attnmem.inspection.memory.state_gap import StateGaps
from sb3_attnmem.inspection.memory.verdict import number


def gaps_section(gaps: StateGaps) -> Section:
    """
    Show what the states that replay begins from cost.

    :param gaps: ΔQ
    :return: a table, and how to read it
    """
    title = "ΔQ: what the states that replay begins from cost"
    if not gaps.gaps:
        return Section(title, ["There is no state to be wrong about, or no step with a past."])
    rows = [(gap.state, number(gap.first), number(gap.last), gap.meaning) for gap in gaps.gaps]
    return Section(
        title,
        [
            "‖q̂ − q‖₂ / |max q̂| (R2D2, section 3), q̂ from the states that the network has after its whole history, "
            f"q from the states below. Mean of {gaps.n_sequences} sequences from {gaps.source}; 0 is exact, 0.1 a "
            "tenth of the largest Q-value. A large value at the first step that is small at the last says that the "
            "sequence itself warms the state up.",
            Table(("sequences begin from", "first step", "last step", "that is"), rows, words=True),
        ],
    )
