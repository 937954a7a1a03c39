"""Find the encoder in a module and run it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dnc_lightning.probe.pooling import Layout, pool

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
"""Attributes tried when no encoder is named; the first that runs on images is taken."""

EVERY_LAYER = "*"
"""Stands in a path for all layers that run, one after the other."""

LAST_NAMES = ("model", "net", "network")
"""Tried after these and the module's own `forward`."""


@dataclass(frozen=True)
class Encoder:
    """One view of a module: what to run and which output to take."""

    name: str  # in keys and records
    source: str  # human-readable: "backbone", "backbone:layer3", "forward", "my_function"
    root: str | None  # dotted path of the module to run; "" is the module itself; None: a callable
    layer: str | None = None  # dotted path below the root whose output is taken
    function: Callable[[Any, Tensor], Tensor] | None = None
    profile: str | None = None  # of the layers that it is one of, see `probe.layers`
    layout: Layout | None = None  # of its output; None until it was tried

    @property
    def expression(self) -> str:
        """Python that calls it, for remedies."""
        if self.root is None:
            return "features(module, images)"
        if self.layer is not None:
            return f"dnc_lightning.layer_output(module, {self.source!r}, images)"
        return f"module.{self.root}(images)" if self.root else "module(images)"


class EncoderError(ValueError):
    """What is wrong with an encoder, with the remedy; not what its own code raised."""


class MissingEncoderError(EncoderError):
    """A path that the module does not have, or not yet."""


@dataclass(frozen=True)
class Lookup:
    """What to embed with: the first of the alternatives that runs on images."""

    alternatives: tuple[tuple[Encoder, ...], ...]  # one only where the user has named it
    by_name: bool  # the alternatives are guesses from names
    others: tuple[str, ...] = ()  # what else there is to choose

    def message(self, encoders: tuple[Encoder, ...], failed: Mapping[str, str]) -> str:
        """Say what is probed and why: `encoders` is taken, `failed` did not run, for a reason."""
        taken = ", ".join(f"{e.source} ({e.layout})" if e.layout else e.source for e in encoders)
        message = f"Probing {taken}"
        if not self.by_name:
            return f"{message}."
        if encoders[0].root == "":
            message += ", the module's own forward"
        else:
            message += ", the first of the names that dnc_lightning looks for"
        if failed:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
            message += f" that gives features of images ({reasons})"
        others = [name for name in self.others if name not in failed and name != encoders[0].source]
        if others:
            message += f". Also there: {', '.join(others)}; name one or several with encoder="
        return f"{message}."


def find_encoders(
    module: nn.Module, encoder: EncoderLike | Mapping[str, EncoderLike] | None
) -> Lookup:
    """Resolve an encoder argument against a module.

    The rule for None: the first that runs on images of those `ENCODER_NAMES` that the module has,
    then its own `forward` if it has one, then `LAST_NAMES`.
    A path "backbone:layer3" runs `backbone` and takes the output of its submodule `layer3`.

    Args:
        module: The LightningModule.
        encoder: A path ("" is the module itself), a callable `(module, images) -> features`, a
            mapping name -> either, or None.

    Returns:
        The alternatives, to be tried in their order.

    Raises:
        MissingEncoderError: a path that does not exist (near names are listed), or nothing to run.
        ValueError: an argument of the wrong type.
    """
    if encoder is None:
        return _default(module)
    if isinstance(encoder, Mapping):
        if not encoder:
            raise ValueError("encoder must name at least one encoder, got an empty mapping.")
        if len({str(name) for name in encoder}) < len(encoder) or "" in encoder:
            raise ValueError(
                f"encoders must have different names that are not empty, got {list(encoder)}. "
                "Rename them."
            )
        found = tuple(_resolve(module, str(name), value) for name, value in encoder.items())
    else:
        name = encoder if isinstance(encoder, str) else getattr(encoder, "__name__", "encoder")
        found = (_resolve(module, name, encoder),)
    return Lookup((found,), by_name=False)


def encoder_modules(module: nn.Module, encoders: tuple[Encoder, ...]) -> list[nn.Module]:
    """The submodules that running the encoders may touch, outermost only."""
    roots = {encoder.root for encoder in encoders}
    if None in roots or "" in roots:
        return [module]
    return [module.get_submodule(root) for root in sorted(r for r in roots if r)]


def run_encoders(
    module: nn.Module, encoders: tuple[Encoder, ...], images: Tensor
) -> dict[str, Tensor]:
    """Embed one batch with every encoder, each root run once.

    Args:
        module: The LightningModule.
        encoders: From `try_encoders`, which fixes their layouts.
        images: [N, C, H, W].

    Returns:
        Encoder name -> features [N, D].

    Raises:
        ValueError: an output unlike that of the trial.
    """
    outputs = encoder_outputs(module, encoders, images)
    features = {}
    for encoder in encoders:
        assert encoder.layout is not None
        output = outputs[encoder.name]
        features[encoder.name] = pool(output, len(images), encoder.layout, encoder.source)
    return features


def encoder_outputs(
    module: nn.Module, encoders: tuple[Encoder, ...], images: Tensor
) -> dict[str, Any]:
    """Run every encoder on one batch, each root once; encoder name -> what it returned.

    Raises:
        ValueError: a layer that does not run.
    """
    outputs: dict[str, Any] = {}
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
            output = target(_given(images, encoders))
        finally:
            for hook in hooks:
                hook.remove()
        for member in members:
            if member.layer is not None and member.layer not in captured:
                raise EncoderError(
                    f"encoder {member.source!r}: {root!r} did not run its layer {member.layer!r}. "
                    "Name a layer that its forward pass goes through."
                )
            outputs[member.name] = output if member.layer is None else captured[member.layer]
    for encoder in encoders:
        if encoder.function is not None:
            outputs[encoder.name] = encoder.function(module, _given(images, encoders))
    return outputs


def layer_output(module: nn.Module, path: str, images: Tensor) -> Any:
    """Return what a layer returns, for encoders that are functions.

    Args:
        module: The LightningModule.
        path: As of an encoder: "backbone:layer3" runs `backbone` and returns what `layer3` did.
        images: [N, C, H, W].

    Raises:
        MissingEncoderError: the path does not exist; near names are listed.
        ValueError: a layer that does not run.

    Examples:
        >>> module = nn.ModuleDict({"backbone": nn.Sequential(nn.Flatten(), nn.Linear(12, 2))})
        >>> layer_output(module, "backbone:0", torch.zeros(5, 3, 2, 2)).shape
        torch.Size([5, 12])
    """
    return encoder_outputs(module, (_resolve(module, path, path),), images)[path]


def _given(images: Tensor, encoders: tuple[Encoder, ...]) -> Tensor:
    """A copy where there are several encoders, for one may work in place."""
    return images.clone() if len(encoders) > 1 else images


def _keep(captured: dict[str, Any], layer: str) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        captured[layer] = output

    return hook


def _default(module: nn.Module) -> Lookup:
    found = [path for path in ENCODER_NAMES if _module_at(module, path) is not None]
    roots = {path: path for path in found}
    if _overrides_forward(module):
        roots["forward"] = ""
    roots |= {path: path for path in LAST_NAMES if _module_at(module, path) is not None}
    if not roots:
        children = [name for name, _ in module.named_children()]
        raise MissingEncoderError(
            f"no encoder found in {type(module).__name__}: it has none of "
            f"{', '.join((*ENCODER_NAMES, *LAST_NAMES))} and no forward. Name one with "
            f"ProbeCallback(encoder=...); its submodules are {children}."
        )
    others = found + [
        name for name, _ in module.named_children() if "teacher" in name or "momentum" in name
    ]
    return Lookup(
        tuple((Encoder(name=name, source=name, root=root),) for name, root in roots.items()),
        by_name=True,
        others=tuple(dict.fromkeys(others)),
    )


def _overrides_forward(module: nn.Module) -> bool:
    """Whether a class below Lightning's and torch's own defines `forward`."""
    owner = next(cls for cls in type(module).__mro__ if "forward" in vars(cls))
    return not owner.__module__.startswith(
        ("torch.nn.", "lightning.pytorch.core", "pytorch_lightning.core")
    )


def _resolve(module: nn.Module, name: str, encoder: EncoderLike) -> Encoder:
    if "/" in name:
        raise ValueError(
            f"an encoder's name must not contain '/', which separates the parts of metric "
            f"keys, got {name!r}. Rename it, such as to {name.replace('/', '_')!r}."
        )
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
        if path and path != EVERY_LAYER and base is not None and _module_at(base, path) is None:
            names = [n for n, _ in base.named_modules() if n]
            near = difflib.get_close_matches(path, names, n=5, cutoff=0.4)
            hint = near or [n for n, _ in base.named_children()]
            raise MissingEncoderError(
                f"encoder path {encoder!r} does not exist in {type(module).__name__}: no module "
                f"{path!r}. Near names: {', '.join(hint) or 'none'}. If it is made later, make "
                "it in __init__, setup, configure_model or on_fit_start."
            )
    return Encoder(name=name, source=encoder or "forward", root=root, layer=layer or None)


def _module_at(module: nn.Module, path: str) -> nn.Module | None:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None
