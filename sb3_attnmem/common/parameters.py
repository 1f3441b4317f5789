"""Select parameters of a module by name or by block, and keep those that do not learn in eval mode."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from sb3_attnmem.common.names import did_you_mean

#: "all", "none", the first k blocks, or patterns of names
Selection = str | int | Sequence[str]


def matches(name: str, pattern: str) -> bool:
    """
    Say whether a name is meant by a pattern.

    :param name: of a parameter or a module, dotted
    :param pattern: a name that stands for all under it ("memory.rnn"), or one with wildcards ("*.bias")
    :return: whether the one is meant by the other
    """
    return name == pattern or name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)


def match_names(what: str, names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """
    Find the names that patterns mean.

    :param what: the argument's name, for the message
    :param names: that there are
    :param patterns: names that stand for all under them ("memory.rnn"), or with wildcards ("*.bias")
    :return: the names that are meant
    :raises ValueError: when a pattern means nothing (what is near is named)
    """
    names = list(names)
    meant: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if matches(name, pattern)}
        if not found:
            prefixes = {name.rsplit(".", i)[0] for name in names for i in range(name.count(".") + 1)}
            hint = did_you_mean(pattern, sorted(prefixes))
            tops = sorted({name.split(".")[0] for name in names})
            raise ValueError(f"{what}: {pattern!r} means nothing here.{hint} There are {', '.join(tops) or 'none'}.")
        meant |= found
    return meant


def select(what: str, names: Iterable[str], selection: str | Sequence[str]) -> set[str]:
    """
    Find the names that are selected.

    :param what: the argument's name, for the message
    :param names: that there are
    :param selection: "all", "none" or pattern(s)
    :return: the names that are meant
    :raises ValueError: when a pattern means nothing, or it is something else
    """
    if selection == "all":
        return set(names)
    if selection == "none":
        return set()
    patterns = [selection] if isinstance(selection, str) else selection
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(f"{what}={selection!r}: pass 'all', 'none', a number of blocks or pattern(s) of names.")
    return match_names(what, names, patterns)


def first_blocks(what: str, module: nn.Module, n_blocks: int) -> set[str]:
    """
    The parameters of the first blocks, and of all that stands before them (embeddings, a stem). Blocks are the items of
    the ``nn.Sequential`` or ``nn.ModuleList`` nearest to the top, where one is longer than the others there together;
    else the module's own children (a ResNet's stages). Only children with parameters count.

    :param what: the argument's name, for the message
    :param module: whose parameters are meant
    :param n_blocks: k
    :return: names of parameters
    :raises ValueError: when there are fewer blocks
    """
    path, blocks = _find_blocks(module)
    if isinstance(n_blocks, bool) or not 1 <= n_blocks <= len(blocks):
        listed = ", ".join(f"{path}{name}" for name in blocks) or "none"
        raise ValueError(f"{what}={n_blocks}: there are {len(blocks)} blocks in {type(module).__name__}: {listed}.")
    names = [name for name, _ in module.named_parameters()]
    last = max(i for i, name in enumerate(names) if name.startswith(f"{path}{blocks[n_blocks - 1]}."))
    return set(names[: last + 1])


def _find_blocks(module: nn.Module) -> tuple[str, list[str]]:
    """:return: where the blocks are ("encoder.layer." or ""), and their names there"""
    level = [("", module)]
    while level:
        stacks = [(path, m) for path, m in level if isinstance(m, (nn.Sequential, nn.ModuleList))]
        stacks = [(path, m) for path, m in stacks if len(_children(m)) > 1]
        if stacks:
            lengths = [len(_children(m)) for _, m in stacks]
            longest = lengths.index(max(lengths))
            if 2 * lengths[longest] > sum(lengths):
                return stacks[longest][0], list(_children(stacks[longest][1]))
            break
        level = [(f"{path}{name}.", child) for path, m in level for name, child in _children(m).items()]
    return "", list(_children(module))


def _children(module: nn.Module) -> dict[str, nn.Module]:
    return {name: child for name, child in module.named_children() if any(True for _ in child.parameters())}


def eval_frozen_parts(module: nn.Module) -> None:
    """
    Put the parts of which nothing learns into eval mode: their statistics stay, nothing drops out.

    :param module: that was just put into training mode
    """
    for part in frozen_parts(module):
        for layer in part.modules():
            # The backward pass of cuDNN's RNNs, through frozen weights to what lies before, asks for training mode
            layer.training = isinstance(layer, nn.RNNBase) and not layer.dropout


def frozen_parts(module: nn.Module) -> list[nn.Module]:
    """
    Find what does not learn at all.

    :param module: a network
    :return: the largest submodules that have parameters, none of which learns
    """
    weights = list(module.parameters())
    if weights and not any(weight.requires_grad for weight in weights):
        return [module]
    return [part for child in module.children() for part in frozen_parts(child)]


def what_learns(module: nn.Module) -> str:
    """
    Tell how much of a network learns.

    :param module: a network
    :return: a line: how many of its parameters learn
    """
    counts = [(weight.numel(), weight.requires_grad) for weight in module.parameters()]
    total, learning = sum(n for n, _ in counts), sum(n for n, learns in counts if learns)
    return f"{learning:,} of {total:,} parameters learn ({learning / max(total, 1):.1%})"
