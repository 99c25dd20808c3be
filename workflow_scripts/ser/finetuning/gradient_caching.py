"""The gradient of a loss over a whole batch, in the memory of a part of it.

A CCC is no mean over utterances, so the gradients of parts of a batch do not add up to that of the batch. But the
loss reaches the encoder through one vector per utterance alone: these are computed without a graph, the loss is
differentiated at them, and each part is computed once more to carry its share of the gradient on (Gao et al. 2021,
arXiv 2101.06983, for contrastive losses).
"""

from collections.abc import Callable, Sequence

import torch


def split_parts(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Utterances of `lengths` in groups of like length, of `most` in total (a longer one is a group of its own)."""
    groups, total = [[]], 0
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if groups[-1] and total + lengths[index] > most:
            groups.append([])
            total = 0
        groups[-1].append(index)
        total += lengths[index]
    return groups


def backpropagate(
    encode: Callable[[list], torch.Tensor],
    finish: Callable[[torch.Tensor], torch.Tensor],
    groups: list[list],
    seed: int,
) -> None:
    """Add the gradient of `finish(cat(encode(group) for group in groups))`, a scalar, to what is trained.

    Dropout is drawn from `seed` and a group's number, so that it is the same in both passes; a single group needs
    but one.
    """

    def run(number: int) -> torch.Tensor:
        torch.manual_seed(seed + number)
        return encode(groups[number])

    if len(groups) == 1:
        encoded = run(0)
        torch.manual_seed(seed + 1)
        finish(encoded).backward()
        return
    with torch.no_grad():
        encoded = [run(number) for number in range(len(groups))]
    sizes = list(map(len, encoded))
    leaves = torch.cat(encoded).requires_grad_()
    torch.manual_seed(seed + len(groups))
    finish(leaves).backward()
    for number, share in enumerate(leaves.grad.split(sizes)):
        run(number).backward(share)
