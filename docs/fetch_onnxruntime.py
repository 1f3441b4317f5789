"""
Fetches onnxruntime's web build from the npm registry, once, for the page that plays an agent (``make play``).

Its WebAssembly has 14 MB, too much for a repository; the documentation builds without it, and the page then says so.
"""

import hashlib
import io
import tarfile
from base64 import b64encode
from pathlib import Path
from urllib.request import urlopen

VERSION = "1.30.0"
ARCHIVE = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
#: As the registry tells it (dist.integrity): SHA-512
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
#: The smallest build: WebAssembly alone
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
FOLDER = Path(__file__).parent / "_static" / "play" / "ort"


def main() -> None:
    note = FOLDER / "version.txt"
    if note.is_file() and note.read_text(encoding="utf-8").strip() == VERSION:
        return
    print(f"Fetching {ARCHIVE} (33 MB)")
    with urlopen(ARCHIVE, timeout=120) as response:
        content = response.read()
    found = b64encode(hashlib.sha512(content).digest()).decode("ascii")
    if found != INTEGRITY:
        raise SystemExit(f"{ARCHIVE} has the checksum {found}, expected {INTEGRITY}: nothing was written.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None, f"{name} is not in the archive"
            (FOLDER / name).write_bytes(member.read())
    note.write_text(f"{VERSION}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
