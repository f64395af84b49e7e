"""Where relative paths start."""

from pathlib import Path

from ddim import paths


def test_paths_start_at_the_project_even_in_a_temporary_copy(monkeypatch, tmp_path):
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert paths.resolve("a/b") == Path("a/b")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert paths.resolve("a/b") == tmp_path / "a/b"
    assert paths.resolve("/c") == Path("/c")
