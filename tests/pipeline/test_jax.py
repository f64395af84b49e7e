"""Training, evaluation and rendering on JAX, where there is no TensorFlow."""

import json

import pandas as pd

from tests.support import on_jax

RUN_STAGES = """
import runpy

for name in ("prepare", "normalize", "reference", "train", "evaluate", "render"):
    runpy.run_module(f"stages.{name}", run_name="__main__")
"""


def test_all_stages_run_on_jax_without_tensorflow(tmp_path):
    import yaml

    from tests.conftest import tiny_settings

    settings = tiny_settings(
        train={"pairing": "immiscible", "loss_weighting": "learned"},
        runtime={"backend": "jax"},
        tracking={"enabled": False},
    ).model_dump(mode="json")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    on_jax.run(RUN_STAGES, folder=tmp_path)
    history = pd.read_csv(tmp_path / "metrics/history.csv")
    assert list(history["epoch"]) == [1, 2]
    assert history["n_loss"][1] < history["n_loss"][0]
    assert history.notna().all(axis=None)
    summary = json.loads((tmp_path / "metrics/kid.json").read_text())
    assert summary["best_kid"] > 0
    assert (tmp_path / "renders/samples.png").exists()
    drawn = {path.stem for path in (tmp_path / "renders/animations").iterdir()}
    assert drawn == {"steps", "deterministic", "interpolation", "training"}
    assert not list((tmp_path / ".resume").iterdir())
