"""Probe a causal language model: the class of a context is the token that comes next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from dnc_lightning.probe.encoders import EncoderError
from dnc_lightning.probe.probe_set import ProbeSet

TASK = "next_token"


class TokenProbe(ProbeSet):
    """Contexts of a text, with the next token as their class, for causal language models.

    Features are what the model gives its output embedding at the last position of the context:
    after the final norm, before the logits (Wu and Papyan, arXiv:2405.17767). All contexts have one
    length, so that nothing is padded. A context does not decide its next token, so the variability
    within a class has a floor that no model passes; and there is no simplex of more than D + 1
    classes, where GNC2 and CDNV still say something.

    Args:
        tokens: Held-out text, [N] token ids, or [W, L] of which no context crosses a row.
        per_class: Contexts of each class, at least 4; tokens that come next less often are left
            out.
        context: Tokens that the model sees, at most what it can take.
        most_classes: The most frequent next tokens are taken, at most so many.
        names: Of the tokens, for people: id -> text. None for the ids.
        padding: Id of the padding, which is in no context and no class.
        seed: Of the choice of contexts.

    Raises:
        ValueError: an argument out of range, no integers, or fewer than two tokens that come next
            often enough.

    Examples:
        ```python
        probe = TokenProbe(held_out_ids, names=tokenizer.decode)
        trainer = Trainer(callbacks=[ProbeCallback(probe, metrics=["collapse", "simplex"])])
        ```
    """

    def __init__(
        self,
        tokens: Tensor,
        per_class: int = 50,
        context: int = 64,
        most_classes: int = 200,
        names: Callable[[int], str] | None = None,
        padding: int | None = None,
        seed: int = 0,
    ) -> None:
        rows = _rows(tokens)
        if per_class < 4 or most_classes < 2 or not 1 <= context < rows.shape[1]:
            raise ValueError(
                "TokenProbe needs per_class >= 4, most_classes >= 2 and a context shorter than the "
                f"text of {rows.shape[1]} tokens, got per_class={per_class}, "
                f"most_classes={most_classes}, context={context}."
            )
        place, following = _candidates(rows, context, padding)
        ids, counts = torch.unique(following, return_counts=True)
        often = counts >= per_class
        order = counts[often].argsort(descending=True, stable=True)[:most_classes]
        chosen = ids[often][order]
        if len(chosen) < 2:
            raise ValueError(
                f"only {len(chosen)} tokens come next {per_class} times or more in this text of "
                f"{rows.numel():,} tokens. Give more text, or a lower per_class."
            )
        generator = torch.Generator().manual_seed(seed)
        picked = []
        for token in chosen:
            where = (following == token).nonzero()[:, 0]
            picked.append(where[torch.randperm(len(where), generator=generator)[:per_class]])
        named = _distinct(chosen.tolist(), names)
        labels = [name for name in named for _ in range(per_class)]
        data = _Contexts(rows, place[torch.cat(picked)], context)
        super().__init__(data, per_class, labels={TASK: labels}, seed=seed)
        self.encoder: Callable[[Any, Tensor], Tensor] = next_token_features

    def image(self, position: int) -> Tensor:
        """The token ids [context] int64 of chosen sample `position`."""
        context: Tensor = self.dataset[int(self.indices[position])][0]
        return context


class _Contexts(Dataset[tuple[Tensor, int]]):
    """Windows of a text, made when they are asked for."""

    def __init__(self, rows: Tensor, place: Tensor, context: int) -> None:
        self.rows = rows  # [W, L]
        self.place = place  # [n, 2] row and column of what follows
        self.context = context

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row, column = self.place[index].tolist()
        return self.rows[row, column - self.context : column].clone(), 0


def next_token_features(module: nn.Module, ids: Tensor) -> Tensor:
    """What a causal language model gives its output embedding at the last position.

    The model is the first of the module and its submodules that has `get_output_embeddings()`, as
    those of transformers, or an attribute `lm_head`, as nanoGPT and LitGPT; it is called with the
    ids, and a hook reads the input of that layer.

    Args:
        module: A LightningModule or the model itself.
        ids: [B, T] token ids.

    Returns:
        [B, D].

    Raises:
        ValueError: no such layer, or the model did not run it.
    """
    model, head = _language_model(module)
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        model(ids)
    finally:
        hook.remove()
    if not seen:
        raise EncoderError(
            f"{type(model).__name__} was called with token ids and did not run its output "
            "embedding. Pass ProbeCallback(encoder=lambda module, ids: ...) that returns [B, D]."
        )
    return seen[-1][:, -1]


def _language_model(module: nn.Module) -> tuple[nn.Module, nn.Module]:
    for model in module.modules():
        find = getattr(model, "get_output_embeddings", None)
        head = find() if callable(find) else getattr(model, "lm_head", None)
        if isinstance(head, nn.Module):
            return model, head
    raise EncoderError(
        f"{type(module).__name__} has no output embedding: no submodule has "
        "get_output_embeddings() or lm_head. Pass ProbeCallback(encoder=lambda module, ids: ...) "
        "that returns [B, D]."
    )


def _rows(tokens: Tensor) -> Tensor:
    if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.ndim not in (1, 2):
        got = f"{tokens.dtype} {list(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens)
        raise ValueError(f"tokens must be integers [N] or [W, L], got {got}.")
    return tokens.reshape(1, -1).long() if tokens.ndim == 1 else tokens.long()


def _candidates(rows: Tensor, context: int, padding: int | None) -> tuple[Tensor, Tensor]:
    """Row and column [M, 2] of every token that a whole context precedes, and the tokens [M]."""
    whole = torch.ones_like(rows, dtype=torch.bool)
    whole[:, :context] = False
    if padding is not None:
        padded = (rows == padding).long().cumsum(1)
        before = torch.zeros_like(padded)
        before[:, context + 1 :] = padded[:, : -context - 1]
        whole &= padded == before  # none among the context and what follows
    return whole.nonzero(), rows[whole]


def _distinct(ids: Sequence[int], names: Callable[[int], str] | None) -> list[str]:
    """A name for each, with its id where it would be that of several."""
    if names is None:
        return [str(token) for token in ids]
    given = [names(token) for token in ids]
    often = Counter(given)
    return [
        name if often[name] == 1 and name.strip() else f"{name!r} ({token})"
        for name, token in zip(given, ids, strict=True)
    ]
