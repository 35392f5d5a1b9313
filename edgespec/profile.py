"""A tuned profile: how a pair is run best on one device of one machine, with the figures that say so.

`edgespec tune` writes it into the pair's manifest, or into the user's folder of profiles where the pair may not be
written to; SpecPipeline and the bench's arms `tuned` and `auto` read it. It holds for the machine, device and versions
it was measured with; elsewhere it is passed over, with the reason.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from . import machine, own_profiles, settings
from .errors import EdgespecError
from .pair import MANIFEST, Manifest, Pair, fingerprint_of, installed_versions, read_manifest, write_manifest

SCHEMA = 1
PACKAGES = ("edgespec", "openvino", "openvino-genai")
"""Whose releases change how fast a mode or a setting is: a profile of other versions is not used."""

PropertyValue = str | int | float | bool


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MachineFacts(_Record):
    """What makes a machine the same one. A core count is None where it cannot be told."""

    cpu: str
    physical_cores: int | None
    logical_cores: int | None
    system: str


class Gain(_Record):
    """A speed-up: geometric mean of paired ratios over `prompts` prompts, with its 95 % interval (None: too few)."""

    geomean: float
    ci95: tuple[float, float] | None
    verdict: Literal["faster", "slower", "cannot tell"]
    prompts: int


class Quality(_Record):
    """How far plugin settings move the target's next-token distribution from the f32 reference without dynamic
    quantization, by teacher forcing over `tokens` tokens: share with the same likeliest token, and the mean of
    KL(reference, settings) in nats a token. The bounds are those that the tune kept to."""

    top1_agreement: float
    kl_nats: float
    tokens: int
    least_top1_agreement: float
    most_kl_nats: float


class PlainDecoding(_Record):
    """The fastest plain decoding that was within the bounds: what the speed-up is over, and what to fall back to.

    tpot_ms: a token after the first, behind `context_tokens` of prompt and answer, both in the median over prompts; the
    prompt's pass, which tokens_per_second holds, is not in it. None in profiles that were made without it.
    """

    engine: Literal["genai", "native"]
    settings: dict[str, PropertyValue]
    tokens_per_second: float
    tpot_ms: float | None = None
    context_tokens: int | None = None


class Profile(_Record):
    """The winner of one tune.

    machine_fingerprint: edgespec.machine's, which covers OpenVINO's version too. device_name: the driver's full name.
    draft_device: where the draft runs; None when the mode uses none. draft_devices: all that were tried.
    engine and mode: as the engines take them (genai: plain, draft, lookup; native: a drafter). mode "plain" says that
    nothing speculative paid. gamma, threshold: as `generate` takes them, None where the mode decides itself.
    settings: OpenVINO properties of target and draft; empty for the untouched default.
    over_plain: the speed-up over `plain`; None when this is that. over_default: over plain decoding with nothing set;
    None when this is that, or that could not be measured. quality: None when nothing could be scored.
    """

    schema_version: int = SCHEMA
    machine_fingerprint: str
    machine: MachineFacts
    device: str
    device_name: str
    draft_device: str | None
    draft_devices: tuple[str, ...]
    engine: Literal["genai", "native"]
    mode: str
    gamma: int | None
    threshold: float | None
    settings: dict[str, PropertyValue]
    tokens_per_second: float
    plain: PlainDecoding
    default_tokens_per_second: float | None
    over_plain: Gain | None
    over_default: Gain | None
    quality: Quality | None
    prompts: str
    prompts_sha256: str
    max_new_tokens: int
    tried: int
    stopped_because: str
    seconds: float
    at: str
    versions: dict[str, str]

    @property
    def speculative(self) -> bool:
        return self.mode != "plain"

    @property
    def name(self) -> str:
        """Engine, mode and what bounds its proposals, as the bench names arms: native-draft-g3."""
        engine = "native-" if self.engine == "native" else ""
        gamma = "" if self.gamma is None else f"-g{self.gamma}"
        threshold = "" if self.threshold is None else f"-t{self.threshold:g}"
        where = f"@{self.draft_device}" if self.draft_device not in (None, self.device) else ""
        return f"{engine}{self.mode}{gamma}{threshold}{where}"

    def sentence(self) -> str:
        """What it is and what it gains, in words."""
        how = f"{self.name} with {settings.describe(self.settings)}"
        if self.over_plain is None:
            return f"{how}: nothing speculative was faster than plain decoding"
        low_high = "{:.2f} to {:.2f}".format(*self.over_plain.ci95) if self.over_plain.ci95 else "no interval"
        return f"{how}: {self.over_plain.geomean:.2f}x over the best plain setting ({low_high})"


@dataclass(frozen=True)
class Here:
    """What a profile is compared with."""

    machine: MachineFacts
    device_name: str
    versions: dict[str, str]

    @classmethod
    def on(cls, device: str) -> Here:
        """This machine and `device` of it, as OpenVINO spells it."""
        return cls(this_machine(), device_name(device), this_software())


def this_machine() -> MachineFacts:
    facts = machine.describe()
    return MachineFacts(
        cpu=facts["cpu"],
        physical_cores=facts["physical_cores"],
        logical_cores=facts["logical_cores"],
        system=platform.system(),
    )


def this_software() -> dict[str, str]:
    """Versions of PACKAGES."""
    return {name: version for name, version in installed_versions(*PACKAGES).items() if name in PACKAGES}


def device_name(device: str) -> str:
    """The driver's full name of a device; the device itself where it tells none."""
    from .devices import list_devices

    names = {item.name: item.full_name for item in list_devices()}
    return next((names[name] for name in (device, f"{device}.0") if name in names), device)


def profile_for(
    pair: Pair, device: str, draft_device: str | None = None, here: Here | None = None
) -> tuple[Profile | None, str]:
    """The profile to run `pair` with on `device`, and a sentence that says which it is, or why there is none.

    draft_device: None leaves the choice to the profile. One that is given has to be the profile's; a profile that
    uses no draft will do as well when a draft on that device was tried for it.
    """
    device = device.upper()
    entries = entries_of(pair.manifest)
    if not entries:
        return None, f"the pair has no tuned profile; make one with: edgespec tune {pair.root} --device {device}"
    here = here or Here.on(device)
    refused: list[tuple[int, str]] = []
    for profile in _readable(entries):
        problem = _problem(profile, device, draft_device.upper() if draft_device else None, here)
        if problem is None:
            return profile, f"tuned on this machine on {profile.at[:10]}: {profile.sentence()}"
        refused.append(problem)
    if not refused:
        return None, "the pair's profiles are of another edgespec; tune it again"
    return None, min(refused)[1]  # of several, the one that fits best has the reason worth telling


def entries_of(manifest: Manifest) -> list[dict[str, Any]]:
    """Every profile of a pair, in its manifest and beside the user, the newest last."""
    entries = [*manifest.profiles, *own_profiles.read(fingerprint_of(manifest))]
    return sorted(entries, key=lambda entry: str(entry.get("at", "")))


def save_profile(root: Path, profile: Profile) -> Path:
    """Write `profile` into the manifest of the pair at `root`, in place of this machine's last one for its device;
    where that may not be written to, into the user's folder of profiles, where it is found by the pair's content.

    Returns the file. A manifest is read anew and replaced atomically; nothing else in it changes, and nothing else in
    the pair is touched. Raises EdgespecError when there is no pair, or neither place can be written to.
    """
    manifest = read_manifest(root)
    entries = _in_place_of_the_last(manifest.profiles, profile)
    try:
        write_manifest(root, manifest.model_copy(update={"profiles": entries}))
        return root / MANIFEST
    except OSError as error:
        refusal = error
    key = fingerprint_of(manifest)
    try:
        return own_profiles.write(key, _in_place_of_the_last(own_profiles.read(key), profile))
    except OSError as error:
        raise EdgespecError(
            f"the profile could be written neither into the pair ({refusal}) nor to '{error.filename}' "
            f"({error.strerror}); give the pair's folder, or set {own_profiles.VARIABLE} to one that may be written to"
        ) from error


def _in_place_of_the_last(entries: Sequence[dict[str, Any]], profile: Profile) -> list[dict[str, Any]]:
    kept = [
        entry
        for entry in entries
        if not any((old.machine, old.device) == (profile.machine, profile.device) for old in _readable([entry]))
    ]
    return [*kept, profile.model_dump(mode="json")]


def _readable(entries: Sequence[dict[str, Any]]) -> Iterator[Profile]:
    """Entries of this schema, newest first; those of another edgespec are passed over, and kept when one is saved."""
    for entry in reversed(entries):
        if entry.get("schema_version") != SCHEMA:
            continue
        try:
            yield Profile.model_validate(entry)
        except ValidationError:
            continue


def _problem(profile: Profile, device: str, draft_device: str | None, here: Here) -> tuple[int, str] | None:
    """Why `profile` does not hold here: how far off it is, and a sentence. None: it holds."""
    again = f"tune again with: edgespec tune PAIR --device {device}"
    if profile.machine != here.machine:
        was, now = profile.machine, here.machine
        theirs = f"'{was.cpu}' with {was.logical_cores} logical cores under {was.system}"
        ours = f"'{now.cpu}' with {now.logical_cores} under {now.system}"
        return 4, f"the profile was tuned on another machine ({theirs}; this is {ours}); {again}"
    if profile.device != device:
        return 3, f"the profile was tuned for {profile.device}, not for {device}; {again}"
    if profile.device_name != here.device_name:
        return 2, f"the profile was tuned for {device} '{profile.device_name}', and here it is '{here.device_name}'"
    if profile.versions != here.versions:
        names = [name for name in PACKAGES if profile.versions.get(name) != here.versions.get(name)]
        changed = ", ".join(
            f"{name} {profile.versions.get(name, 'none')} (here {here.versions.get(name, 'none')})" for name in names
        )
        return 1, f"the profile was tuned with other versions: {changed}; {again}"
    if draft_device and draft_device != profile.draft_device:
        if profile.draft_device is not None:
            return 0, f"the profile has the draft on {profile.draft_device}, and {draft_device} was asked for"
        if draft_device not in profile.draft_devices:
            return 0, f"the profile was tuned without a draft on {draft_device}; {again} --draft-device {draft_device}"
    return None


def require_profile(pair: Pair, device: str, draft_device: str | None = None) -> tuple[Profile, str]:
    """As `profile_for`; raises EdgespecError with the reason when there is none."""
    profile, reason = profile_for(pair, device, draft_device)
    if profile is None:
        raise EdgespecError(reason)
    return profile, reason
