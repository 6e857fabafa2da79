"""The training YAML: what is accepted, and what the message says when something is not."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnpkit.config.config_file import config_from_mapping, load_config, write_config
from nnpkit.config.schema import Config
from nnpkit.errors import InputError

YAML = """\
seed: 3
data:
  train: train.xyz          # one file
  frames: 1:30
model:
  wall: on
  descriptor: {cutoff: 5}
training:
  epochs: 4
  optimizer: {noise: {energy: 1e-3}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``train.yaml`` and the data file it names; the current folder is another one."""
    (tmp_path / "train.yaml").write_text(YAML)
    (tmp_path / "train.xyz").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def message(folder: Path, *overrides: str, text: str | None = None) -> str:
    """What the user reads; the name of the folder removed."""
    if text is not None:
        (folder / "train.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_config(folder / "train.yaml", overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


def test_values_and_defaults(folder: Path) -> None:
    config = load_config(folder / "train.yaml")
    assert config.data.train == [str(folder / "train.xyz")]
    assert config.data.frames == "1:30"  # not a number in base 60
    assert config.model.wall == "on"  # not a boolean
    assert config.model.descriptor.cutoff == 5.0
    assert config.training.optimizer.kind == "ekf"
    assert config.training.optimizer.noise.energy == 1e-3  # not text
    assert config.training.schedule.kind == "epoch"


def test_overrides(folder: Path) -> None:
    overrides = [
        "training.epochs=7",
        "training.optimizer={kind: adam, learning_rate: 1e-2}",
        "training.early_stopping.patience=2",
        "model.network.per_element.H.hidden=[5]",
    ]
    config = load_config(folder / "train.yaml", overrides)
    assert config.training.epochs == 7
    assert config.training.optimizer.kind == "adam"
    assert config.training.optimizer.learning_rate == 1e-2
    assert config.training.early_stopping is not None
    assert config.training.early_stopping.patience == 2
    assert config.model.network.per_element["H"].hidden == [5]


def test_data_paths_of_the_command_line_count_from_the_current_folder(folder: Path) -> None:
    Path("mine.xyz").touch()
    config = load_config(folder / "train.yaml", ["data.train=mine.xyz", "data.test=[../*.xyz]"])
    assert config.data.train == [str(folder / "elsewhere/mine.xyz")]
    assert config.data.test == [str(folder / "elsewhere/../*.xyz")]


def test_written_configuration_is_complete_and_reads_back_the_same(folder: Path) -> None:
    config = load_config(
        folder / "train.yaml", ["model.network.per_element.No.hidden=[5]", "model.wall={O-H: 0.8}"]
    )
    write_config(config, folder / "run" / "config.yaml")
    assert load_config(folder / "run" / "config.yaml") == config
    assert set(yaml.safe_load((folder / "run" / "config.yaml").read_text())) == set(Config.model_fields)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epoch=3", "training.epoch=3: unknown key training.epoch. Did you mean training.epochs"),
        ("model.cutoff=3", "unknown key model.cutoff. Did you mean model.descriptor.cutoff?"),
        ("batch_size=3", "unknown key batch_size. Did you mean training.schedule.batch_size?"),
        ("zzzzzz=1", "unknown key zzzzzz. Valid here: seed, output, data, model, training, committee, start, report."),
        ("a.b=2", "command line, a.b=2: unknown key a. Valid here"),
        ("training.schedule.force_labels=3", "It belongs to training.schedule.kind: pinn; valid here: kind"),
        ("training.optimizer={kind: adam, beta: [0.9, 0.9]}", "Did you mean training.optimizer.betas?"),
        ("model.descriptor.functions=[{kind: G2, center: H, neighbors: [O], etta: 1}]", "functions.0.eta?"),
        ("model.network.per_element.H.hiden=[3]", "Did you mean model.network.per_element.H.hidden?"),
        ("data.labels.energi=x", "unknown key data.labels.energi; expected 'energy', 'forces'"),
        ("training.epochs=abc", "training.epochs is 'abc'; expected a whole number ≥ 0."),
        ("training.epochs=1.5", "training.epochs is 1.5; expected a whole number ≥ 0."),
        ("training.epochs=true", "training.epochs is true; expected a whole number"),
        ("training.epochs='4'", "training.epochs is '4'; expected a whole number"),
        ("training=3", "training is 3; expected a mapping with the keys epochs, time, min_updates, optimizer"),
        ("training.optimizer.kind=adm", "training.optimizer.kind is 'adm'; expected 'ekf', 'adam', 'lbfgs'."),
        ("training.weights.energy=.inf", "training.weights.energy is inf; expected a number ≥ 0."),
        ("training.schedule.forces=some", "forces is 'some'; expected one of auto, all or a whole number ≥ 0."),
        ("training.schedule={energy: false, forces: 0}", "training.schedule: energies, forces and virials"),
        ("model.descriptor.cutoff=0", "model.descriptor.cutoff is 0; expected a number > 0."),
        ("model.descriptor.cutoff=null", "model.descriptor.cutoff is null; expected a number > 0."),
        ("model.descriptor.functions=[G2 H O 1]", "model.descriptor: say in which unit of length"),
        ("model.descriptor.functions=[{kind: G2, center: H, neighbors: [H], eta: -1}]", "0.eta is -1"),
        ("model.elements=[H, Q]", "model.elements: 'Q' is no chemical element"),
        ("model.elements=[H, H]", "model.elements names an element twice"),
        ("model.wall=maybe", "one of auto, fitted, on, off or a mapping of names to numbers > 0."),
        ("model.wall={O-Q: 1.0}", "model.wall.O-Q: 'Q' is no chemical element"),
        ("model.wall={OH: 1.0}", "'OH' is no pair of elements; expected for example O-H"),
        ("model.scaling.lower=3", "model.scaling: lower (3) is not below upper (1)."),
        ("data.reference_energies={H: a}", "data.reference_energies.H is 'a'; expected a number."),
        ("data.train=[nix.xyz]", "data.train.0: there is no nix.xyz. Looked for elsewhere/nix.xyz."),
        ("data.train=*.nix", "data.train.0: there is no *.nix."),
        ("data.train=[]", "data.train is []; expected a list of text (at least 1)."),
        ("data.train.4=a", "expected"),
        ("data.test_fraction=1", "data.test_fraction is 1; expected a number ≥ 0, < 1."),
        ("foo", "cannot understand the override 'foo'; expected key=value"),
        ("a..b=3", "cannot understand the override 'a..b=3'"),
        ("training.epochs=[", "no valid YAML"),
    ],
)  # fmt: skip
def test_wrong_overrides(folder: Path, override: str, expected: str) -> None:
    assert expected in message(folder, override)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (YAML.replace("epochs: 4", "epoch: 4"), "train.yaml, line 9: unknown key training.epoch."),
        (
            YAML.replace("cutoff: 5", "cutoff: five"),
            "train.yaml, line 7: model.descriptor.cutoff is 'five'; expected",
        ),
        (
            YAML.replace("train.xyz ", "gone.xyz"),
            "train.yaml, line 3: data.train.0: there is no gone.xyz. Looked for ",
        ),
        (YAML.replace("seed", "epochs"), "line 1: unknown key epochs. Did you mean training.epochs?"),
        (
            YAML + "seed: 4\n",
            "train.yaml, line 11: the key seed is given twice. First in train.yaml, line 1.",
        ),
        (YAML + "\tx: 4\n", "train.yaml, line 11: no valid YAML: "),
        (
            YAML + "x: !!python/object/apply:os.getcwd []\n",
            "no valid YAML: could not determine a constructor",
        ),
        ("", "train.yaml: holds no settings; expected a YAML mapping"),
        ("- 1\n- 2\n", "train.yaml: holds no settings"),
        ("2\nLattice=3\n", "with the key data. If these are data, `nnpkit new "),
        (
            "seed: 3\n",
            "train.yaml: the key data is missing; expected a mapping with the keys train, validation",
        ),
        ("data: {test: a}\n", "train.yaml, line 1: the key data.train is missing; expected a list of text"),
        ("&a [*a]\n", "train.yaml: holds no settings"),
    ],
)
def test_wrong_files(folder: Path, text: str, expected: str) -> None:
    assert expected in message(folder, text=text)


def test_unreadable_files(folder: Path) -> None:
    (folder / "train.yaml").write_bytes(b"\xff\xfe\x00")
    expected = "train.yaml: is no text file; expected YAML in UTF-8."
    assert (
        message(folder) == f"{expected} If these are data, `nnpkit new train.yaml` writes settings for them."
    )
    with pytest.raises(InputError, match=r"none\.yaml: cannot read the configuration \(No such file"):
        load_config("none.yaml")


def test_a_mapping_is_a_configuration_too(folder: Path) -> None:
    values = {"data": {"train": ["train.xyz"]}, "model": {"wall": True}}
    assert config_from_mapping(values, folder).model.wall == "on"
    with pytest.raises(InputError, match=r"configuration: unknown key sed\. Did you mean seed"):
        config_from_mapping({**values, "sed": 1}, folder)


def test_choices_are_those_of_the_code() -> None:
    from nnpkit.families import shared_options
    from nnpkit.families import shared_settings as schema
    from nnpkit.models.cutoff import CUTOFF_KINDS
    from nnpkit.models.networks import ACTIVATIONS, INITIALISATIONS
    from nnpkit.models.scaling import SCALING_KINDS

    assert set(get_args(shared_options.CutoffFunction)) == set(CUTOFF_KINDS)
    assert set(get_args(shared_options.Activation)) == set(ACTIVATIONS)
    assert set(get_args(schema.Scaling.model_fields["kind"].annotation)) == set(SCALING_KINDS)
    assert set(get_args(schema.Network.model_fields["initialisation"].annotation)) == set(INITIALISATIONS)


def test_every_setting_is_described() -> None:
    definitions = Config.model_json_schema()
    for section in (definitions, *definitions["$defs"].values()):
        assert section.get("description")
        assert [name for name, p in section["properties"].items() if not p.get("description")] == []


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=60)
    | st.from_regex(r"(data|model|training): \{[a-z]+: [\[{a-z0-9.,: ]*\}", fullmatch=True)
)
def test_no_text_causes_anything_but_an_input_error(folder: Path, text: str) -> None:
    (folder / "train.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(InputError):
        load_config(folder / "train.yaml")


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(["seed", "data.train", "model.wall", "model.descriptor.functions", "training.x.0"]),
    value=st.text(max_size=20)
    | st.recursive(
        st.none() | st.integers() | st.booleans(),
        lambda c: st.lists(c, max_size=2) | st.dictionaries(st.sampled_from(["kind", "file"]), c, max_size=2),
    ).map(str),
)
def test_no_override_causes_anything_but_an_input_error(folder: Path, key: str, value: str) -> None:
    try:
        config = load_config(folder / "train.yaml", [f"{key}={value}"])
    except InputError:
        return
    assert isinstance(config, Config)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"model": {"kind": "deep_potential"}}, "groups"),
        ({"model": {"kind": "deep_potential"}, "training": {"optimizer": {"kind": "adam"}}}, "epoch"),
        ({"model": {"kind": "deep_potential"}, "training": {"schedule": {"kind": "pinn"}}}, "pinn"),
        ({}, "epoch"),
    ],
)
def test_the_filter_of_a_deep_potential_learns_from_groups(values: dict, kind: str) -> None:
    config = Config.model_validate({"data": {"train": "x.xyz"}, **values})
    assert config.training.schedule.kind == kind


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "examples" / "water").glob("*.yaml")), ids=str
)
def test_examples_can_be_read(path: Path) -> None:
    assert load_config(path).data.train


def test_charges_are_labels_of_models_that_learn_them(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    (tmp_path / "a.xyz").touch()
    path.write_text("data: {train: a.xyz, labels: {charges: mulliken}}\n")
    with pytest.raises(
        InputError, match=r"data\.labels\.charges has no effect: charges of atoms are learnt by"
    ):
        load_config(path)
    path.write_text(path.read_text() + "model: {charges: {generation: third}}\n")
    assert load_config(path).data.labels == {"charges": "mulliken"}
    path.write_text("data: {train: a.xyz, labels: {energy: e, total_charge: q}}\n")
    assert load_config(path).data.labels == {"energy": "e", "total_charge": "q"}
