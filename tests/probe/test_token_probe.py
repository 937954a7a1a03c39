"""Contexts and next tokens, against a slow reference; a real GPT-2 in a real fit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dnc_lightning import ProbeCallback, evaluate, read_run
from dnc_lightning.functional import cdnv, class_geometry, pair_mean
from dnc_lightning.probe import TokenProbe, next_token_features


def text(rows: int = 12, length: int = 90, tokens: int = 9, seed: int = 0) -> Tensor:
    """A random walk: what comes next depends on what was there."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(-1, 2, (rows, length), generator=generator)
    return (steps.cumsum(1) + torch.arange(rows)[:, None]) % tokens


class Language(LightningModule):
    """A LightningModule around a small GPT-2 of transformers."""

    def __init__(self, vocabulary: int = 9) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(vocab_size=vocabulary, n_positions=64, n_embd=24, n_layer=1, n_head=2,
                            bos_token_id=0, eos_token_id=0)  # fmt: skip
        self.model = GPT2LMHeadModel(config)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self.model(input_ids=batch[0], labels=batch[0]).loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), 0.01)


def test_every_context_is_followed_by_its_class() -> None:
    rows = text()
    probe = TokenProbe(rows, per_class=20, context=8, names=lambda token: f"t{token}")
    task = probe.tasks["next_token"]
    known = {
        (tuple(rows[w, c - 8 : c].tolist()), f"t{rows[w, c]}") for w in range(12)
        for c in range(8, 90)
    }  # fmt: skip
    assert len(probe) == 20 * len(task.classes)
    for position in range(len(probe)):
        context = probe.image(position)
        assert context.dtype == torch.int64
        assert (tuple(context.tolist()), task.classes[task.labels[position]]) in known
    assert set(Counter(task.labels.tolist()).values()) == {20}
    assert len(torch.unique(probe.dataset.place, dim=0)) == len(probe.dataset)  # none twice


def test_the_most_frequent_next_tokens_are_taken_and_rare_ones_left() -> None:
    rows = text()
    often = Counter(rows[:, 8:].flatten().tolist())
    probe = TokenProbe(rows, per_class=10, context=8, most_classes=3)
    assert set(probe.tasks["next_token"].classes) == {str(t) for t, _ in often.most_common(3)}
    least = sorted(often.values())[-2]
    two = TokenProbe(rows, per_class=least, context=8)
    assert len(two.tasks["next_token"].classes) == 2
    with pytest.raises(ValueError, match="only 1 tokens come next"):
        TokenProbe(rows, per_class=max(often.values()), context=8)


def test_padding_is_in_no_context_and_no_class() -> None:
    rows = text()
    rows[::2, 40:] = 99
    rows[1, 50] = 99
    probe = TokenProbe(rows, per_class=5, context=8, padding=99)
    assert "99" not in probe.tasks["next_token"].classes
    assert not any((probe.image(i) == 99).any() for i in range(len(probe)))
    free = {(w, c) for w in range(12) for c in range(8, 90) if (rows[w, c - 8 : c + 1] != 99).all()}
    assert {tuple(place) for place in probe.dataset.place.tolist()} <= free
    every = TokenProbe(rows, per_class=4, context=8, padding=99)
    assert len(every.dataset) == 4 * len(every.tasks["next_token"].classes)


def test_names_that_are_one_or_blank_are_told_apart_by_id() -> None:
    probe = TokenProbe(text(tokens=4), per_class=5, context=4, names=lambda t: " " if t else "x")
    assert sorted(probe.tasks["next_token"].classes) == ["' ' (1)", "' ' (2)", "' ' (3)", "x"]


def test_features_are_what_the_output_embedding_is_given() -> None:
    module = Language().eval()
    ids = text(5, 8)
    with torch.no_grad():
        hidden = module.model.transformer(ids).last_hidden_state
        torch.testing.assert_close(next_token_features(module, ids), hidden[:, -1])

    class Nano(nn.Module):
        """As nanoGPT: logits of the last position alone."""

        def __init__(self) -> None:
            super().__init__()
            self.wte, self.lm_head = nn.Embedding(9, 6), nn.Linear(6, 9)

        def forward(self, ids: Tensor) -> Tensor:
            return self.lm_head(self.wte(ids)[:, [-1]])

    nano = Nano()
    torch.testing.assert_close(next_token_features(nano, ids), nano.wte(ids[:, -1]))


def test_a_module_without_an_output_embedding_is_refused() -> None:
    with pytest.raises(ValueError, match="no output embedding"):
        next_token_features(nn.Linear(3, 3), text(2, 8))


def fit(folder: Path, **options: Any) -> Any:
    torch.manual_seed(0)
    module = Language()
    probe = TokenProbe(text(seed=1), per_class=30, context=12)
    watch = ProbeCallback(probe, metrics=["collapse", "simplex"])
    trainer = Trainer(
        max_steps=60, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        callbacks=[watch], **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(text(64, 24)), 16))
    return read_run(folder / "dnc" / "probe"), module, probe


def test_a_language_model_is_probed_in_a_fit(tmp_path: Path) -> None:
    run, module, probe = fit(tmp_path)
    first, last = (run.records[at].scalars for at in (0, -1))
    ids = torch.stack([probe.image(i) for i in range(len(probe))])
    with torch.no_grad():
        features = next_token_features(module.eval(), ids)
    geometry = class_geometry(features, probe.tasks["next_token"].labels)
    expected = float(pair_mean(cdnv(geometry)))
    assert last["probe/next_token/cdnv"] == pytest.approx(expected, rel=1e-4)
    assert last["probe/next_token/cdnv_median"] < first["probe/next_token/cdnv_median"] / 2
    assert not run.records[-1].warnings


def test_integers_stay_integers_in_half_precision(tmp_path: Path) -> None:
    run, _, _ = fit(tmp_path, precision="bf16-true")
    assert not any("failed" in text for record in run.records for text in record.warnings)
    assert run.records[-1].scalars["probe/next_token/cdnv"] > 0


@pytest.mark.parametrize(
    ("tokens", "options", "words"),
    [
        (torch.rand(50), {}, "tokens must be integers"),
        (torch.zeros(2, 2, 2).long(), {}, "tokens must be integers"),
        ([1, 2, 3], {}, "tokens must be integers"),
        (torch.zeros(50).long(), {"context": 50}, "context shorter"),
        (torch.zeros(50).long(), {"per_class": 3}, "per_class >= 4"),
        (torch.zeros(500).long(), {}, "only 1 tokens come next"),
    ],
)
def test_what_is_no_text_is_refused(tokens: Any, options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TokenProbe(tokens, **options)


def test_fewer_contexts_of_the_same_text_are_contexts_too() -> None:
    probe = TokenProbe(text(), per_class=20, context=8)
    other = probe.rechosen(5, probe.labels, 0)
    assert len(other) == 5 * len(other.tasks["next_token"].classes)
    assert other.image(0).shape == (8,)
    assert other.encoder is next_token_features


def test_a_frozen_language_model_is_evaluated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, probe = Language(), TokenProbe(text(seed=1), per_class=10, context=12)
    options = {"metrics": ["collapse"], "accelerator": "cpu", "page": False}
    (run,) = evaluate(module, probe, out=tmp_path, **options).runs.values()
    ids = torch.stack([probe.image(i) for i in range(len(probe))])
    with torch.no_grad():
        geometry = class_geometry(
            next_token_features(module.eval(), ids), probe.tasks["next_token"].labels
        )
    expected = float(pair_mean(cdnv(geometry)))
    assert run.records[-1].scalars["probe/next_token/cdnv"] == pytest.approx(expected, rel=1e-4)
