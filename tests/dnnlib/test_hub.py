"""hf://OWNER/NAME/FILE by a stand-in of the Hub's client: nothing here uses a network."""

import builtins
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tiny_network import saved, tiny_network

import generate
from dnnlib import hub
from dnnlib.catalogue import Entry
from dnnlib.places import ROOT
from dnnlib.util import file_sha256
from metrics.references import References
from skip.tables.sources import local_path, location
from training.checkpoint import describe, load_network, main, save_network

package: Any = None


@pytest.fixture(autouse=True)
def _library() -> None:
    global package
    package = pytest.importorskip("huggingface_hub", reason="needs the package huggingface_hub")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """What a stand-in of hf_hub_download is asked for; it gives the files in tmp_path/hub."""
    calls = []

    def download(repo_id: str, filename: str, revision: str | None = None) -> str:
        calls.append((repo_id, filename, revision))
        return str(tmp_path / "hub" / filename)

    def cached(repo_id: str, filename: str, revision: str | None = None) -> str | None:
        path = tmp_path / "hub" / filename
        return str(path) if path.exists() else None

    (tmp_path / "hub").mkdir()
    monkeypatch.setattr(package, "hf_hub_download", download)
    monkeypatch.setattr(package, "try_to_load_from_cache", cached)
    return calls


def response(status: int = 404) -> Any:
    """As much of a server's answer as the client's errors look at."""
    return SimpleNamespace(status_code=status, headers={}, request=None, url="", text="")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf://me/nets/a.safetensors", ("me/nets", None, "a.safetensors")),
        ("hf://me/nets@v1.0/deep/er/a.npz", ("me/nets", "v1.0", "deep/er/a.npz")),
        (Path("hf://me/nets/a.pkl"), ("me/nets", None, "a.pkl")),
    ],
)
def test_names(source: Any, expected: tuple[str, str | None, str]) -> None:
    assert hub.is_hub(source) and hub.parse(source) == expected


@pytest.mark.parametrize(
    "source",
    ["hf://", "hf://me", "hf://me/nets", "hf://me/nets/", "hf://me/nets@/a", "hf://me//a", "hf://me/nets/../a",
     "hf://me/n ets/a", "hf://me/nets/a?b", "hf://me/nets/a\n"],
)  # fmt: skip
def test_what_names_no_file(source: str) -> None:
    with pytest.raises(
        ValueError, match=r"names no file of the Hub; write hf://OWNER/NAME/FILE"
    ) as caught:
        load_network(source)
    assert "\n" not in str(caught.value)


def test_not_of_the_hub() -> None:
    for source in ("demo", "hf/me/nets", "https://huggingface.co/me/nets/resolve/main/a", "./hf"):
        assert not hub.is_hub(source)


def test_a_network_of_the_hub(tmp_path: Path, asked: list[Any]) -> None:
    saved(tmp_path / "hub")
    source = "hf://me/nets@main/tiny.safetensors"
    net, plain = load_network(source), tiny_network()
    for name, value in plain.state_dict().items():
        assert torch.equal(net.state_dict()[name], value)
    assert asked == [("me/nets", "tiny.safetensors", "main")]
    facts = describe(source)
    assert facts["source"] == source and facts["path"] == str(tmp_path / "hub" / "tiny.safetensors")


def test_programs_take_it(tmp_path: Path, asked: list[Any]) -> None:
    saved(tmp_path / "hub")
    command = ["--network", "hf://me/nets/tiny.safetensors", "--outdir", str(tmp_path / "out")]
    result = CliRunner().invoke(generate.main, [*command, "--seeds", "0-1", "--steps", "2"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "000001.png").is_file()


def test_whatever_takes_a_url_takes_it(tmp_path: Path, asked: list[Any]) -> None:
    """References and detectors, entries of configs/ and cells of tables."""
    shutil.copy(ROOT / "assets/demo/reference.npz", tmp_path / "hub" / "ref.npz")
    source = "hf://me/nets/ref.npz"
    assert References(source, None).record["reference"] == source
    assert location("network", source) == source
    assert local_path("network", source) == tmp_path / "hub" / "ref.npz"
    absent = local_path("network", "hf://me/nets/deep/other.npz")
    assert absent is not None and not absent.exists()

    sha256 = file_sha256(tmp_path / "hub" / "ref.npz")
    entry = Entry("mine", "CC0", url=source, sha256=sha256[:8])
    assert entry.file() == entry.local_path == tmp_path / "hub" / "ref.npz"
    with pytest.raises(ValueError, match="expected sha256 00, found"):
        Entry("mine", "CC0", url=source, sha256="00").file()


def test_a_pickle_of_the_hub_is_not_executed(tmp_path: Path, asked: list[Any]) -> None:
    canary = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (canary,)

    (tmp_path / "hub" / "a.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError):
        load_network("hf://me/nets/a.pkl")
    assert not canary.exists()
    pickle.loads((tmp_path / "hub" / "a.pkl").read_bytes())
    assert canary.exists(), "the attack is no attack"


def errors() -> dict[str, tuple[Callable[[], Exception], type[Exception], str]]:
    """What the client raises, and what the user reads."""
    e = package.errors
    file = "hf://me/nets/a"
    return {
        "gated": (lambda: e.GatedRepoError("403", response=response(403)), RuntimeError,
                  "hf://me/nets is open to those who were granted access: ask for it at https://huggingface.co/me/nets"),
        "private": (lambda: e.RepositoryNotFoundError("401", response=response(401)), FileNotFoundError,
                    "there is no hf://me/nets on the Hub, or it is private: then log in"),
        "revision": (lambda: e.RevisionNotFoundError("404", response=response()), FileNotFoundError,
                     "there is no revision None of hf://me/nets"),
        "file": (lambda: e.RemoteEntryNotFoundError("404", response=response()), FileNotFoundError,
                 "there is no file a in hf://me/nets"),
        "offline": (lambda: e.LocalEntryNotFoundError("not in the cache\nand more"), RuntimeError,
                    f"{file} is not in the Hub's cache, and the Hub cannot be reached"),
        "HF_HUB_OFFLINE": (lambda: e.OfflineModeIsEnabled("offline"), RuntimeError,
                           f"{file} is not in the Hub's cache"),
        "validation": (lambda: e.HFValidationError("no such\nname"), ValueError, f"{file}: no such name"),
        "server": (lambda: e.HfHubHTTPError("500 Server\nError", response=response(500)), RuntimeError,
                   f"{file}: the Hub does not answer as it should (HfHubHTTPError: 500 Server Error)"),
        "disk": (lambda: OSError(28, "No space left on device"), RuntimeError, "No space left on device"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "case",
    ["gated", "private", "revision", "file", "offline", "HF_HUB_OFFLINE", "validation", "server", "disk"],
)  # fmt: skip
def test_failures_are_one_line(case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make, kind, message = errors()[case]

    def fails(*args: Any, **kwargs: Any) -> str:
        raise make()

    monkeypatch.setattr(package, "hf_hub_download", fails)
    monkeypatch.setattr(package.HfApi, "upload_file", fails)
    with pytest.raises(kind) as caught:
        load_network("hf://me/nets/a")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(kind) as caught:
        save_network(tiny_network(), "hf://me/nets/a")
    assert message in str(caught.value)
    command = ["--network", "hf://me/nets/a", "--outdir", str(tmp_path / "out")]
    result = CliRunner().invoke(generate.main, command)
    assert result.exit_code == 2 and message in result.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "huggingface_hub":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RuntimeError, match=r"which needs a package: pip install huggingface_hub$"):
        load_network("hf://me/nets/a")


def test_a_network_is_stored_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {}

    def upload(self: Any, *, path_or_fileobj: str, **target: Any) -> None:
        stored[tuple(target.values())] = Path(path_or_fileobj).read_bytes()

    monkeypatch.setattr(package.HfApi, "upload_file", upload)
    save_network(tiny_network(), "hf://me/nets@new/deep/tiny.safetensors", licence="CC0")
    save_network(tiny_network(), tmp_path / "tiny.safetensors", licence="CC0")
    expected = (tmp_path / "tiny.safetensors").read_bytes()
    assert stored == {("deep/tiny.safetensors", "me/nets", "new"): expected}

    stored.clear()
    source, target = str(tmp_path / "tiny.safetensors"), "hf://me/nets/again.safetensors"
    result = CliRunner().invoke(main, ["convert", source, target])
    assert result.exit_code == 0, result.output
    assert list(stored) == [("again.safetensors", "me/nets", None)] and target in result.output
    assert not Path("hf:").exists()
