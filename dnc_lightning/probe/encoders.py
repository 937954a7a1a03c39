"""Find the encoder in a module, run it, and pool what it returns to [N, D]."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

Pooling = Literal["auto", "cls", "mean"]
EncoderLike = str | Callable[[Any, Tensor], Tensor]

ENCODER_NAMES = (
    "backbone",
    "encoder",
    "student_backbone",
    "student_encoder",
    "student",
    "online_backbone",
    "online_encoder",
    "encoder_q",
    "model.backbone",
    "model.encoder",
)
"""Attributes tried when no encoder is named; the first that is a module is taken."""


@dataclass(frozen=True)
class Encoder:
    """One view of a module: what to run and which output to take."""

    name: str  # in keys and records
    source: str  # human-readable: "backbone", "backbone:layer3", "forward", "my_function"
    root: str | None  # dotted path of the module to run; "" is the module itself; None: a callable
    layer: str | None = None  # dotted path below the root whose output is taken
    function: Callable[[Any, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Lookup:
    """The encoders of a module and what to tell the user about the choice."""

    encoders: tuple[Encoder, ...]
    message: str


def find_encoders(
    module: nn.Module, encoder: EncoderLike | Mapping[str, EncoderLike] | None
) -> Lookup:
    """Resolve an encoder argument against a module.

    The rule for None: the first of `ENCODER_NAMES` that the module has, else its `forward`.
    A path "backbone:layer3" runs `backbone` and takes the output of its submodule `layer3`.

    Args:
        module: The LightningModule.
        encoder: A path, a callable `(module, images) -> features`, a mapping name -> either, or
            None.

    Returns:
        The encoders, and a sentence saying which were taken and what else was there.

    Raises:
        ValueError: a path that does not exist (near names are listed), or nothing to run.
    """
    if encoder is None:
        return _default(module)
    if isinstance(encoder, Mapping):
        if not encoder:
            raise ValueError("encoder must name at least one encoder, got an empty mapping.")
        found = tuple(_resolve(module, str(name), value) for name, value in encoder.items())
    else:
        name = encoder if isinstance(encoder, str) else getattr(encoder, "__name__", "encoder")
        found = (_resolve(module, name, encoder),)
    return Lookup(found, f"Probing {', '.join(e.source for e in found)}.")


def encoder_modules(module: nn.Module, encoders: tuple[Encoder, ...]) -> list[nn.Module]:
    """The submodules that running the encoders may touch, outermost only."""
    roots = {encoder.root for encoder in encoders}
    if None in roots or "" in roots:
        return [module]
    return [module.get_submodule(root) for root in sorted(r for r in roots if r)]


def run_encoders(
    module: nn.Module, encoders: tuple[Encoder, ...], images: Tensor, pooling: Pooling
) -> dict[str, Tensor]:
    """Embed one batch with every encoder, each root run once.

    Args:
        module: The LightningModule.
        encoders: From `find_encoders`.
        images: [N, C, H, W].
        pooling: "cls" takes the first token, "mean" averages tokens or positions, "auto" takes
            the first token of encoders that have a class token and averages otherwise.

    Returns:
        Encoder name -> features [N, D].

    Raises:
        ValueError: an output that is no feature tensor; names the encoder and the remedy.
    """
    features: dict[str, Tensor] = {}
    for root in dict.fromkeys(encoder.root for encoder in encoders if encoder.function is None):
        assert root is not None
        target = module.get_submodule(root)
        captured: dict[str, Any] = {}
        members = [encoder for encoder in encoders if encoder.root == root]
        hooks = [
            target.get_submodule(e.layer).register_forward_hook(_keep(captured, e.layer))
            for e in members
            if e.layer is not None
        ]
        try:
            output = target(images)
        finally:
            for hook in hooks:
                hook.remove()
        for member in members:
            if member.layer is not None and member.layer not in captured:
                raise ValueError(
                    f"encoder {member.source!r}: {root!r} did not run its layer {member.layer!r}. "
                    "Name a layer that its forward pass goes through."
                )
            value = output if member.layer is None else captured[member.layer]
            features[member.name] = pool(value, images, pooling, target, member.source)
    for encoder in encoders:
        if encoder.function is not None:
            output = encoder.function(module, images)
            features[encoder.name] = pool(output, images, pooling, module, encoder.source)
    return {encoder.name: features[encoder.name] for encoder in encoders}


def pool(output: Any, images: Tensor, pooling: Pooling, module: nn.Module, source: str) -> Tensor:
    """Reduce [N, D], [N, T, D] or [N, D, H, W] to features [N, D]."""
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise ValueError(
            f"encoder {source!r} must return a floating point tensor [N, D], [N, T, D] or "
            f"[N, D, H, W], got {type(output).__name__}. Pass encoder=lambda module, images: ... "
            "that picks the features out of it."
        )
    if output.ndim not in (2, 3, 4) or output.shape[0] != images.shape[0]:
        raise ValueError(
            f"encoder {source!r} must return [N, D], [N, T, D] or [N, D, H, W] for "
            f"N={images.shape[0]} images, got {list(output.shape)}. Pass encoder=lambda module, "
            "images: ... that returns one feature vector an image."
        )
    if output.ndim == 2:
        return output
    if output.ndim == 4:
        if pooling == "cls":
            raise ValueError(
                f"encoder {source!r} returns maps [N, D, H, W], which have no class token. "
                'Use pooling="auto" or "mean".'
            )
        return output.mean((2, 3))
    first = pooling == "cls" or (pooling == "auto" and _has_class_token(module))
    return output[:, 0] if first else output.mean(1)


def _keep(captured: dict[str, Any], layer: str) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        captured[layer] = output

    return hook


def _has_class_token(module: nn.Module) -> bool:
    names = ("cls_token", "class_token")
    return any(isinstance(getattr(m, n, None), Tensor) for m in module.modules() for n in names)


def _default(module: nn.Module) -> Lookup:
    found = [path for path in ENCODER_NAMES if _module_at(module, path) is not None]
    if found:
        encoder = Encoder(name=found[0], source=found[0], root=found[0])
        message = f"Probing `{found[0]}`, the first of the names that dnc_lightning looks for."
        others = found[1:] + [
            name for name, _ in module.named_children() if "teacher" in name or "momentum" in name
        ]
        if others:
            message += f" Also there: {', '.join(others)}; name one or several with encoder=."
        return Lookup((encoder,), message)
    if not _overrides_forward(module):
        children = [name for name, _ in module.named_children()]
        raise ValueError(
            f"no encoder found in {type(module).__name__}: it has none of "
            f"{', '.join(ENCODER_NAMES)} and no forward. Name one with ProbeCallback(encoder=...); "
            f"its submodules are {children}."
        )
    message = f"Probing {type(module).__name__}.forward: it has none of {', '.join(ENCODER_NAMES)}."
    return Lookup((Encoder(name="forward", source="forward", root=""),), message)


def _overrides_forward(module: nn.Module) -> bool:
    """Whether a class below Lightning's and torch's own defines `forward`."""
    owner = next(cls for cls in type(module).__mro__ if "forward" in vars(cls))
    return not owner.__module__.startswith(
        ("torch.nn.", "lightning.pytorch.core", "pytorch_lightning.core")
    )


def _resolve(module: nn.Module, name: str, encoder: EncoderLike) -> Encoder:
    if "/" in name:
        raise ValueError(f"an encoder's name must not contain '/', got {name!r}.")
    if callable(encoder) and not isinstance(encoder, str):
        source = getattr(encoder, "__name__", type(encoder).__name__)
        return Encoder(name=name, source=source, root=None, function=encoder)
    if not isinstance(encoder, str):
        raise ValueError(
            "encoder must be a dotted path, a callable (module, images) -> features or a mapping "
            f"of names to these, got {type(encoder).__name__}."
        )
    root, _, layer = encoder.partition(":")
    for base, path in ((module, root), (_module_at(module, root), layer)):
        if path and base is not None and _module_at(base, path) is None:
            names = [n for n, _ in base.named_modules() if n]
            near = difflib.get_close_matches(path, names, n=5, cutoff=0.4)
            hint = near or [n for n, _ in base.named_children()]
            raise ValueError(
                f"encoder path {encoder!r} does not exist in {type(module).__name__}: no module "
                f"{path!r}. Near names: {', '.join(hint) or 'none'}."
            )
    return Encoder(name=name, source=encoder, root=root, layer=layer or None)


def _module_at(module: nn.Module, path: str) -> nn.Module | None:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None
