"""The archive's list of components: Paintover's wheels, the effect's crates, and what the installer fetches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import lock
from crates import Crate
from crates import notices as crate_notices
from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement

OWN = "Apache-2.0"


@dataclass(frozen=True)
class Package:
    """A Python package that the installer fetches. marker: where, "" for everywhere. licence: as the installed package
    of that name states it; "" where this Python has none. optional: only with --models."""

    name: str
    version: str
    marker: str
    licence: str
    optional: bool


def locked_packages() -> list[Package]:
    """What the installer may fetch, as it is locked."""
    return [
        Package(
            requirement.name,
            str(requirement.specifier).removeprefix("=="),
            str(requirement.marker or ""),
            _licence(requirement.name),
            file == lock.MODEL_REQUIREMENTS,
        )
        for file in (lock.REQUIREMENTS, lock.MODEL_REQUIREMENTS)
        for requirement in _requirements(file)
    ]


def _requirements(file: Path) -> Iterator[Requirement]:
    for entry in lock.entries(file.read_text("utf-8")):
        yield Requirement(entry.split("\\")[0])


def _licence(name: str) -> str:
    """Of an installed package: its expression, else its trove classifiers, else the first line of its free text."""
    try:
        stated = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ""
    if "License-Expression" in stated:
        return stated["License-Expression"]
    prefix = "License :: "
    classifiers = [line.split(" :: ")[-1] for line in stated.get_all("Classifier") or () if line.startswith(prefix)]
    text = "\n".join(stated.get_all("License") or ())
    return ", ".join(classifiers) or text.strip().partition("\n")[0]


def notices(crates: list[Crate], packages: list[Package]) -> str:
    """What is in the archive of others, with its licences, and under which licences what it fetches is."""
    lines = [
        f"{package.name} {package.version}: {package.licence or 'see its own metadata'}"
        + (f"   ({package.marker})" if package.marker else "")
        for package in packages
    ]
    fetched = (
        "Python packages that the installer fetches\n"
        "==========================================\n\n"
        "None of them is in this archive; each brings its licence's text in its .dist-info folder.\n\n"
    )
    return fetched + "\n".join(lines) + "\n" + (f"\n\n{crate_notices(crates)}" if crates else "")


def document(version: str, wheels: list[Path], crates: list[Crate], packages: list[Package]) -> str:
    """The list in CycloneDX 1.6, as JSON."""
    bom = Bom()
    bom.metadata.component = Component(
        name="paintover", version=version, type=ComponentType.APPLICATION, licenses=_licences(OWN)
    )
    for component in (*map(_wheel, wheels), *map(_crate, crates), *map(_package, packages)):
        bom.components.add(component)
        bom.register_dependency(bom.metadata.component, [component])
    return JsonV1Dot6(bom).output_as_string(indent=1)


def _wheel(path: Path) -> Component:
    name, version = path.name.split("-")[:2]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Component(
        name=name,
        version=version,
        bom_ref=path.name,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        licenses=_licences(OWN),
    )


def _crate(crate: Crate) -> Component:
    purl = PackageURL("cargo", name=crate.name, version=crate.version)
    return Component(
        name=crate.name,
        version=crate.version,
        bom_ref=str(purl),
        purl=purl,
        scope=ComponentScope.REQUIRED,
        licenses=_licences(crate.licence),
    )


def _package(package: Package) -> Component:
    purl = PackageURL("pypi", name=package.name, version=package.version)
    return Component(
        name=package.name,
        version=package.version,
        bom_ref=str(purl),
        purl=purl,
        scope=ComponentScope.OPTIONAL if package.optional else ComponentScope.REQUIRED,
        licenses=_licences(package.licence),
        properties=[Property(name="paintover:marker", value=package.marker)] if package.marker else [],
    )


def _licences(stated: str) -> list[DisjunctiveLicense | LicenseExpression]:
    return [LicenseFactory().make_from_string(stated)] if stated else []
