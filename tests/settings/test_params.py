"""Settings: what is read, what is refused, in which words and how fast."""

import copy
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from ddim.diffusion.samplers import SAMPLERS
from ddim.settings import params
from ddim.settings.params import SettingsError
from tests.support.wrong_settings import COMBINED, SINGLE

ROOT = Path(__file__).parents[2]
DEFAULTS = yaml.safe_load((ROOT / "recipes/default.yaml").read_text())


HEAVY = ("tensorflow", "keras", "jax", "mlflow", "pandas", "tensorflow_datasets")


def changed(key, value, settings=DEFAULTS):
    settings = copy.deepcopy(settings)
    *sections, name = key.split(".")
    inside = settings
    for section in sections:
        inside = inside[section]
    inside[name] = value
    return settings


def test_the_committed_settings_are_the_published_defaults():
    settings = params.load(ROOT / "recipes/default.yaml")
    assert settings.data.image_size == 64
    assert settings.network.widths == (32, 64, 96, 128)
    assert settings.network.depth == 2
    assert settings.diffusion.schedule == "cosine"
    assert settings.diffusion.min_signal_rate == 0.02
    assert settings.diffusion.max_signal_rate == 0.95
    assert settings.diffusion.prediction == "noise"
    assert (settings.train.loss, settings.train.optimizer) == ("mae", "adamw")
    assert (settings.train.learning_rate, settings.train.weight_decay) == (1e-3, 1e-4)
    assert (settings.train.epochs, settings.train.repetitions) == (50, 5)
    assert (settings.train.batch_size, settings.train.ema_decay) == (64, 0.999)
    assert (settings.kid.image_size, settings.train.kid_steps) == (75, 5)
    assert settings.evaluate.diffusion_steps == tuple(range(1, 21))
    assert (settings.render.rows, settings.render.columns) == (8, 10)


def test_every_setting_has_a_comment():
    lines = (ROOT / "recipes/default.yaml").read_text().split("\n")
    settings = [line for line in lines if re.match(r"  \w+:", line)]
    assert len(settings) == sum(len(section) for section in DEFAULTS.values())
    assert [line for line in settings if "#" not in line] == []


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        params.validate(DEFAULTS).train.epochs = 3


def test_reads_what_dvc_writes_for_a_small_number():
    """DVC writes 0.00001 as 1e-05, which YAML 1.1 takes for a string."""
    written = yaml.safe_load("1e-05")
    assert isinstance(written, str)
    settings = params.validate(changed("train.learning_rate", written))
    assert settings.train.learning_rate == 1e-5


def refused(settings) -> str:
    """The one line that these settings are refused with."""
    with pytest.raises(SettingsError) as caught:
        params.validate(settings)
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    assert "received" in message
    return message


@pytest.mark.parametrize(
    ("key", "value", "words"), SINGLE, ids=[f"{k}-{v!r:.40}" for k, v, _ in SINGLE]
)
def test_a_wrong_setting_is_refused_with_key_expected_and_received(key, value, words):
    message = refused(changed(key, value))
    assert re.match(rf"{re.escape(key)}[.:]", message), message
    assert words in message


@pytest.mark.parametrize(
    ("changes", "key", "words"), COMBINED, ids=[f"{k}-{w:.30}" for _, k, w in COMBINED]
)
def test_settings_that_do_not_go_together_are_refused(changes, key, words):
    """Each value is in its own range; what it goes wrong with is another setting."""
    settings = DEFAULTS
    for changed_key, value in changes.items():
        settings = changed(changed_key, value, settings)
    message = refused(settings)
    assert message.startswith(f"{key}: ")
    assert words in message


def test_no_setting_is_left_out_of_the_wrong_ones():
    keys = {f"{section}.{key}" for section in DEFAULTS for key in DEFAULTS[section]}
    assert {key for key, _, _ in SINGLE} == keys
    assert len(SINGLE) + len(COMBINED) >= 60


@pytest.mark.parametrize("section", DEFAULTS)
@pytest.mark.parametrize("value", [None, 5, [], "text"])
def test_a_section_that_is_none_is_refused(section, value):
    message = refused(DEFAULTS | {section: value})
    assert message.startswith(f"{section}: expected a section of settings; received ")


def test_all_wrong_settings_are_refused_without_any_heavy_import(tmp_path):
    """The same in one fresh process, through the file: none takes Keras or MLflow."""
    wrong = [changed(key, value) for key, value, _ in SINGLE]
    for number, settings in enumerate(wrong):
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(settings))
    code = f"""
import sys
from pathlib import Path
from typing import get_args
from ddim.diffusion.samplers import SAMPLERS
from ddim.settings import params
refused = 0
for path in Path(sys.argv[1]).glob("*.yaml"):
    try:
        params.load(path)
    except params.SettingsError:
        refused += 1
print(refused, *(name for name in {HEAVY} if name in sys.modules))
"""
    arguments = [sys.executable, "-c", code, tmp_path]
    told = subprocess.check_output(arguments, cwd=ROOT, text=True)
    assert told.split() == [str(len(SINGLE))]


def test_an_unknown_key_is_named_with_the_nearest_known_one():
    with pytest.raises(SettingsError, match=r"train\.epoch: expected epochs perhaps"):
        params.validate(changed("train.epoch", 3))


def test_a_missing_key_is_named():
    settings = copy.deepcopy(DEFAULTS)
    del settings["train"]["epochs"]
    with pytest.raises(SettingsError, match=r"train\.epochs: expected a value"):
        params.validate(settings)


def test_all_mistakes_are_told_at_once():
    settings = changed("train.loss", "l3")
    settings["render"]["rows"] = 0
    with pytest.raises(SettingsError) as caught:
        params.validate(settings)
    assert "train.loss" in str(caught.value)
    assert "render.rows" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\x00", "5"])
def test_refuses_a_file_that_is_no_mapping(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match="expected"):
        params.load(path)


def test_yaml_cannot_make_objects(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("data: !!python/object/apply:os.system ['true']")
    with pytest.raises(SettingsError, match="expected readable YAML"):
        params.load(path)


@pytest.mark.parametrize(
    ("key", "value", "stage"),
    [
        ("kid.weights", "nowhere.weights.h5", "reference"),
        ("train.initial_weights", "nowhere", "train"),
        ("train.loss", "mes", "train"),
        ("diffusion.min_signal_rate", 0, "evaluate"),
        ("data.image_size", 60, "prepare"),
        ("sampling.options", {"rk2": {"alpha": 2.0}}, "evaluate"),
        ("render.step_counts", [1, 1], "render"),
    ],
)
def test_a_stage_ends_before_any_heavy_import_with_one_plain_message(
    tmp_path, key, value, stage
):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed(key, value)))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"stages.{stage}"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    errors = [line for line in lines if not line.startswith("import time:")]
    imported = {line.split("|")[-1].strip() for line in lines if line not in errors}
    assert "pydantic" in imported
    assert not imported & set(HEAVY)
    assert done.returncode == 1
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {key}")


def test_the_choices_named_in_the_settings_are_those_there_are():
    """The sections name them, since the dicts that have them need Keras."""
    from ddim import runtime
    from ddim.networks import blocks
    from ddim.settings import sections
    from ddim.training import ema, optimizers

    for choice, choices in (
        (sections.NoiseInput, blocks.NOISE_INPUTS),
        (sections.Normalization, blocks.NORMALIZATIONS),
        (sections.Activation, blocks.ACTIVATIONS),
        (sections.Modulation, blocks.MODULATIONS),
        (sections.Upsampling, blocks.UPSAMPLINGS),
        (sections.Optimizer, optimizers.OPTIMIZERS),
        (sections.LearningRateSchedule, optimizers.LEARNING_RATE_SCHEDULES),
        (sections.Averaging, ema.DECAYS),
        (sections.Backend, runtime.BACKENDS),
    ):
        assert set(get_args(choice)) == set(choices)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose last commit has the default settings."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "recipes/default.yaml", tmp_path / "params.yaml")
    person = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (["init", "-q"], ["add", "."], [*person, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"train.loss": "mea"}, "git restore params.yaml undoes it"),
        ({"train.loss": "mea", "train.epochs": 9}, "-S train.loss=mae undoes it"),
        (
            {"sampling.options.ddim.eta": 2.0, "train.loss": "mse"},
            "-S sampling.options.ddim.eta=0.0 undoes it",
        ),
        (
            {"network.widths": [1, -1], "network.depth": 0, "train.loss": "mse"},
            "-S 'network.widths=[32,64,96,128]' -S network.depth=2 undoes it",
        ),
        ({"network.widths": [8] * 8}, "git restore params.yaml undoes it"),
        ({"network.widths": [8] * 8, "train.loss": "mse"}, None),
    ],
)
def test_a_mistake_that_dvc_has_left_is_told_with_its_remedy(
    repository, changes, remedy
):
    """`dvc exp run -S` changes params.yaml, so the next run would fail the same way."""
    settings = DEFAULTS
    for key, value in changes.items():
        settings = changed(key, value, settings)
    (repository / "params.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SettingsError) as caught:
        params.load()
    *_, last = str(caught.value).splitlines()
    if remedy is None:
        assert "keeps this" not in last
    else:
        assert last.strip() == f"params.yaml keeps this; {remedy}"


def test_a_committed_mistake_is_told_alone(repository):
    text = (repository / "params.yaml").read_text().replace("loss: mae", "loss: mea")
    (repository / "params.yaml").write_text(text)
    person = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *person, "commit", "-qam", "wrong"], check=True)
    with pytest.raises(SettingsError) as caught:
        params.load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "steps"),
    [
        ("1-20", list(range(1, 21))),
        ("7-7", [7]),
        ([1, 5, 20], [1, 5, 20]),
        ([5], [5]),
    ],
)
def test_steps_are_a_range_or_a_list(written, steps):
    settings = params.validate(changed("evaluate.diffusion_steps", written))
    assert list(settings.evaluate.diffusion_steps) == steps
    kept = settings.model_dump(mode="json")
    assert params.validate(kept) == settings
    if written != "7-7":
        assert kept["evaluate"]["diffusion_steps"] == written


@pytest.mark.parametrize("written", ["20-1", "0-5", "1-10001", "1-", "-5", "1-2-3"])
def test_no_other_range_is_one(written):
    assert refused(changed("evaluate.diffusion_steps", written))


def test_what_dvc_writes_back_reads_as_before(tmp_path):
    """DVC rewrites params.yaml: a line per entry of a list, nothing for null."""
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "recipes/default.yaml", path)
    apply_overrides(path, ["train.loss=mse"])
    assert params.load(path) == params.validate(changed("train.loss", "mse"))
    before = (ROOT / "recipes/default.yaml").read_text().splitlines()
    after = path.read_text().splitlines()
    assert max(map(len, after)) <= max(map(len, before))
    assert len(after) <= len(before) + 11


def test_the_default_options_are_those_of_the_samplers():
    for sampler, options in DEFAULTS["sampling"]["options"].items():
        parameters = inspect.signature(SAMPLERS[sampler]).parameters
        assert options == {name: parameters[name].default for name in options}
