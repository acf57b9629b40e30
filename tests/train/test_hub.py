"""Finding a model by its hub name in what lies at hand."""

import arguments
import hub
import pytest
from arguments import ArgumentMistake, parse_arguments

NAME = "deepseek-ai/deepseek-7b"


def cache(home, commit="abc123", has_files=True):
    folder = home / "hub/models--deepseek-ai--deepseek-7b"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(f"{commit}\n")
    snapshot = folder / "snapshots/abc123"
    snapshot.mkdir(parents=True)
    if has_files:
        (snapshot / "config.json").write_text("{}")
    return str(snapshot)


def test_cached_model_is_found(tmp_path):
    snapshot = cache(tmp_path)
    assert hub.find_model(NAME, {"HF_HOME": str(tmp_path)}) == snapshot
    assert hub.find_model(NAME, {"HF_HUB_CACHE": f"{tmp_path}/hub"}) == snapshot
    assert hub.find_model(NAME, {"XDG_CACHE_HOME": str(tmp_path), "HF_HOME": ""}) is None


def test_models_dir_comes_first(tmp_path):
    cache(tmp_path / "hf")
    for place in ("deepseek-7b", NAME):  # the fuller name before the shorter
        (tmp_path / "models" / place).mkdir(parents=True)
        (tmp_path / "models" / place / "config.json").write_text("{}")
        environ = {"HF_HOME": str(tmp_path / "hf"), "MODELS_DIR": str(tmp_path / "models")}
        assert hub.find_model(NAME, environ) == str(tmp_path / "models" / place)


@pytest.mark.parametrize("broken", [{"commit": "../../x"}, {"commit": ""}, {"has_files": False}])
def test_broken_cache_has_no_model(tmp_path, broken):
    cache(tmp_path, **broken)
    assert hub.find_model(NAME, {"HF_HOME": str(tmp_path)}) is None


@pytest.mark.parametrize("name", ["tiny-llama", "../a/b", "/a/b", "a/b/c", "", "a/../b", "./a"])
def test_other_words_are_no_names(name):
    assert hub.find_model(name, {"MODELS_DIR": "/"}) is None


def test_missing_model_is_one_line_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with pytest.raises(ArgumentMistake) as caught:
        parse_arguments([f"--model={NAME}"])
    assert f"nor a model of that name in {tmp_path}/hub" in str(caught.value)
    assert "hf download deepseek-ai/deepseek-7b" in str(caught.value)


def test_directory_comes_before_the_cache(tmp_path, monkeypatch):
    cache(tmp_path / "hf")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    found, _ = arguments.read_arguments([f"--model={NAME}"])
    assert found.model == str(tmp_path / "hf/hub/models--deepseek-ai--deepseek-7b/snapshots/abc123")
    (tmp_path / NAME).mkdir(parents=True)
    assert arguments.read_arguments([f"--model={NAME}"])[0].model == NAME
