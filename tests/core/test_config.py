"""A configuration is a value: validated when it is made, and the same after every way out and back in."""

import json
import math
from contextlib import suppress
from dataclasses import FrozenInstanceError, replace

import pytest
from conftest import CNN_SHAPES, configurations, random_tensors
from hypothesis import given
from hypothesis import strategies as st

from core.__main__ import _parser, configuration
from core.config import (
    LAYER,
    CompressionConfig,
    ConfigError,
    LayerConfig,
    RecoveryConfig,
    TrainingConfig,
    from_query,
    to_arguments,
    to_query,
)
from core.datasets import fashion_mnist
from core.measuring.training import train_baseline
from core.networks import families
from core.networks.models import Baseline

CNN = Baseline("cnn", random_tensors(CNN_SHAPES))
LAYERS = tuple(CNN_SHAPES)
RECOVERIES = st.builds(
    RecoveryConfig,
    st.integers(1, 100),
    st.floats(1e-6, 1),
    st.integers(0, 2**31 - 1),
    distillation=st.booleans(),
    teacher=st.just("") | st.text("0123456789abcdef", min_size=8, max_size=64),
)
CONFIGS = st.builds(
    lambda config, recovery: replace(config, recovery=recovery), configurations(CNN), st.none() | RECOVERIES
)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, "half", True, [0.5]])
@pytest.mark.parametrize("record", [CompressionConfig, LayerConfig])
def test_a_sparsity_outside_0_1_is_refused_by_name_range_and_value(record: type, value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        record(sparsity=value)
    message = str(refused.value)
    assert "sparsity" in message
    assert "[0, 1]" in message
    assert repr(value) in message


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rank_share": 0}, ("rank_share", "(0, 1]", "0")),
        ({"rank_share": 1.5}, ("rank_share", "(0, 1]", "1.5")),
        ({"bits": 1}, ("bits", "[2, 8]", "1")),
        ({"bits": 9}, ("bits", "[2, 8]", "9")),
        ({"bits": 32}, ("bits", "[2, 8]", "32")),
        ({"bits": 4.0}, ("bits", "[2, 8]", "4.0")),
        ({"bits": True}, ("bits", "[2, 8]", "True")),
        ({"activation_bits": 16}, ("activation_bits", "[2, 8]", "16")),
        ({"scope": "world"}, ("scope", "network, layer", "'world'")),
        ({"low_rank_method": "magic"}, ("low_rank_method", "svd, whitened", "'magic'")),
        ({"recovery": 3}, ("recovery", "RecoveryConfig", "3")),
        ({"granularity": "row"}, ("granularity", "channel, tensor", "'row'")),
        ({"above_break_even": 1}, ("above_break_even", "true or false", "1")),
        ({"layers": {"fc1": {"rank": 2}}}, ("layers", "LayerConfig", "'fc1'")),
        ({"layers": {"not a name": LayerConfig(rank=2)}}, ("layers", "LayerConfig", "'not a name'")),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name_range_and_value(
    settings: dict[str, object], named: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as refused:
        CompressionConfig(**settings)  # type: ignore[arg-type]
    assert all(part in str(refused.value) for part in named), str(refused.value)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rank": -1}, ("rank", "at least 0", "-1")),
        ({"rank": 2.5}, ("rank", "2.5")),
        ({"bits": 16}, ("bits", "[2, 8]", "32", "16")),
    ],
)
def test_a_layer_refuses_what_no_layer_can_have(settings: dict[str, object], named: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as refused:
        LayerConfig(**settings)  # type: ignore[arg-type]
    assert all(part in str(refused.value) for part in named), str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "lion"},
        {"epochs": 0},
        {"epochs": 10_000},
        {"seed": -1},
        {"batch_size": 1},
        {"dropout": 1.0},
        {"label_smoothing": -0.1},
        {"learning_rate": math.nan},
        {"weight_decay": -1.0},
        {"widths": ((12, 0),)},
        {"widths": (12, 12)},
        {"widths": ((),)},
    ],
)
def test_a_recipe_outside_its_ranges_is_refused_by_name_and_value(settings: dict[str, object]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(ConfigError) as refused:
        TrainingConfig(**({"model": "mlp", "epochs": 1} | settings))  # type: ignore[arg-type]
    assert name in str(refused.value)
    assert repr(value) in str(refused.value)


def test_a_recipe_of_a_family_that_there_is_not_is_refused_by_name_and_value() -> None:
    nothing = fashion_mnist.load("calibration").part(slice(0))
    for refuses in (
        families.named,
        lambda name: train_baseline(TrainingConfig(name, 1), fashion_mnist.images(), nothing, nothing),
    ):
        with pytest.raises(ConfigError, match=r"model must be one of .*cnn.*mlp.* Got 'vgg' instead"):
            refuses("vgg")


def test_a_configuration_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        CompressionConfig().bits = 4  # type: ignore[misc]


def test_what_came_later_is_not_in_what_was_made_before() -> None:
    """Keys of trainings from before there were shifts, erasing, widths, teachers and rates still hold."""
    plain = TrainingConfig("cnn", 3)
    assert not {"shifts", "erasing", "widths", "teacher"} & set(plain.to_dict())
    assert TrainingConfig(**plain.to_dict()) == plain
    student = TrainingConfig("compact", 3, widths=((8, 8), (12,)), teacher="cnn")
    assert TrainingConfig(**json.loads(json.dumps(student.to_dict()))) == student
    asked = CompressionConfig(bits=4, recovery=RecoveryConfig(3))
    assert "rate_weight" not in asked.to_json()
    assert "rate_weight" in replace(asked, recovery=RecoveryConfig(3, rate_weight=0.1)).to_json()
    moved = TrainingConfig("cnn", 3, shifts=2, erasing=0.5)
    assert (moved.to_dict()["shifts"], moved.to_dict()["erasing"]) == (2, 0.5)
    assert TrainingConfig(**moved.to_dict()) == moved


def test_the_recipes_are_plain_data() -> None:
    assert families.recipes()
    for recipe in families.recipes().values():
        assert TrainingConfig(**json.loads(json.dumps(recipe.to_dict()))) == recipe


@given(CONFIGS)
def test_json_and_back_is_the_same_configuration(config: CompressionConfig) -> None:
    again = CompressionConfig.from_json(config.to_json())
    assert again == config
    assert hash(again) == hash(config)


@given(CONFIGS, CONFIGS)
def test_two_configurations_are_equal_exactly_when_their_json_is(a: CompressionConfig, b: CompressionConfig) -> None:
    assert (a == b) == (a.to_json() == b.to_json())


@pytest.mark.parametrize(
    ("setting", "one", "other"),
    [("sparsity", 1, 1.0), ("rank_share", 1, 1.0), ("sparsity", 0, 0.0), ("sparsity", -0.0, 0.0)],
)
def test_equal_numbers_give_equal_json_however_they_are_written(setting: str, one: float, other: float) -> None:
    configs = [replace(CompressionConfig(), **{setting: value}) for value in (one, other)]
    assert configs[0] == configs[1]
    assert configs[0].to_json() == configs[1].to_json()


def test_json_names_every_setting_defaults_included() -> None:
    written = json.loads(CompressionConfig().to_json())
    later = {setting.name for setting in CompressionConfig.declared if setting.later}
    assert set(written) == set(CompressionConfig.__dataclass_fields__) - later


def test_the_order_of_layers_and_layers_that_set_nothing_do_not_matter() -> None:
    a, b = LayerConfig(bits=4), LayerConfig(rank=3)
    one = CompressionConfig(layers={"fc1": a, "fc2": b})  # type: ignore[arg-type]
    other = CompressionConfig(layers=(("fc2", b), ("fc1", a), ("conv1", LayerConfig())))
    assert one == other
    assert one.to_json() == other.to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '{"colour": "red"}',
        '{"layers": []}',
        '{"layers": {"fc1": 3}}',
        '{"layers": {"fc1": {"colour": 1}}}',
        '{"sparsity": NaN}',
        '{"bits": "4"}',
        '{"scope": []}',
        '{"scope": {}}',
    ],
)
def test_json_that_is_no_configuration_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError):
        CompressionConfig.from_json(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*CompressionConfig.__dataclass_fields__, "fc1", "rank"]), inner, max_size=4
            )
        ),
    )
)
def test_no_json_raises_anything_but_a_configuration_error(payload: object) -> None:
    with suppress(ConfigError):
        CompressionConfig.from_json(json.dumps(payload))


@given(CONFIGS)
def test_a_link_and_back_is_the_same_configuration(config: CompressionConfig) -> None:
    assert from_query(to_query(config), LAYERS) == (config, [])


def test_a_link_of_nothing_is_empty() -> None:
    assert to_query(CompressionConfig()) == {}


def test_a_link_may_carry_other_things() -> None:
    assert from_query({"baseline": "cnn", "page": "2"}, LAYERS) == (CompressionConfig(), [])


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("sparsity", "2"),
        ("sparsity", "much"),
        ("sparsity", "nan"),
        ("rank", "0"),
        ("bits", "99"),
        ("bits", "4.5"),
        ("activations", ""),
        ("scope", "world"),
        ("granularity", "row"),
        ("course", "yes"),
        ("fc1.rank", "-3"),
        ("fc1.bits", "16"),
        ("fc1.sparsity", "many"),
        ("fc9.rank", "3"),
        ("recover", "0"),
        ("recover", "soon"),
    ],
)
def test_a_value_that_a_link_gets_wrong_falls_back_and_is_reported(key: str, text: str) -> None:
    config, problems = from_query({"conv1.bits": "4", key: text, "fc2.bits": "8"}, LAYERS)
    assert config == CompressionConfig().with_layer("conv1", bits=4).with_layer("fc2", bits=8)
    assert len(problems) == 1
    assert key in problems[0]
    assert text in problems[0]


@given(CONFIGS)
def test_the_command_line_of_a_configuration_means_that_configuration(config: CompressionConfig) -> None:
    options = _parser().parse_args(["evaluate", *to_arguments(config)])
    assert configuration(options) == config


NAMES = st.from_regex(LAYER, fullmatch=True) | st.sampled_from(
    ["block1.conv2", "features/3", "a:b", "fc1.rank", "rank", "bits", "3", ".", "é"]
)


@given(st.lists(NAMES, min_size=1, max_size=3, unique=True), st.integers(2, 8), st.integers(1, 9), st.floats(0, 1))
def test_whatever_a_layer_is_called_a_link_and_a_command_line_mean_its_settings(
    names: list[str], bits: int, count: int, sparsity: float
) -> None:
    own = [LayerConfig(bits=bits), LayerConfig(rank=count, channels=count), LayerConfig(sparsity=sparsity)]
    config = CompressionConfig(layers=dict(zip(names, own, strict=False)))
    assert CompressionConfig.from_json(config.to_json()) == config
    assert from_query(to_query(config), names) == (config, [])
    assert configuration(_parser().parse_args(["evaluate", *to_arguments(config)])) == config


@pytest.mark.parametrize(
    "name", ["", "a b", "a=b", "a,b", "a\nb", "a&b", "a" * 201, "<b>", "`a`", "-", "--bits", "-x", 3, None]
)
def test_a_name_that_no_link_could_hold_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match="layers must map layer names"):
        CompressionConfig(layers={name: LayerConfig(bits=4)})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"epochs": 0}, ("epochs", "[1, 100]", "0")),
        ({"epochs": 2.5}, ("epochs", "2.5")),
        ({"learning_rate": 0}, ("learning_rate", "(0, 1]", "0")),
        ({"learning_rate": float("nan")}, ("learning_rate", "nan")),
        ({"seed": -1}, ("seed", "-1")),
        ({"distillation": 1}, ("distillation", "true or false", "1")),
        ({"teacher": "residual"}, ("teacher", "SHA-256", "'residual'")),
        ({"teacher": "0123ABCD"}, ("teacher", "8 digits", "'0123ABCD'")),
        ({"teacher": 12345678}, ("teacher", "12345678")),
    ],
)
def test_a_recovery_outside_its_ranges_is_refused(settings: dict[str, object], named: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as refused:
        RecoveryConfig(**settings)  # type: ignore[arg-type]
    assert all(part in str(refused.value) for part in named), str(refused.value)


def test_a_damaged_recovery_is_refused_in_words() -> None:
    for text in ('{"recovery": {"epoch": 3}}', '{"recovery": 3}', '{"recovery": {"epochs": "3"}}'):
        with pytest.raises(ConfigError, match="epochs"):
            CompressionConfig.from_json(text)


def test_details_of_a_recovery_that_is_not_asked_for_are_left_out() -> None:
    assert from_query({"rate": "0.1", "seed": "3"}, LAYERS) == (CompressionConfig(), [])
    with pytest.raises(ConfigError, match="--recover EPOCHS"):
        configuration(_parser().parse_args(["evaluate", "--distill"]))


def test_a_layer_without_bits_of_its_own_takes_the_networks() -> None:
    config = CompressionConfig(bits=4).with_layer("fc1", bits=8).with_layer("fc2", bits=32)
    assert [config.bits_of(name) for name in ("conv1", "fc1", "fc2")] == [4, 8, 32]
    assert CompressionConfig().bits_of("conv1") == 32
