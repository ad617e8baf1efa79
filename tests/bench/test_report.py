"""
From samples to figures, tables and a chart.
"""

import json
from xml.etree import ElementTree

import pytest
from chart import make_panels, to_svg
from hypothesis import given
from hypothesis import strategies as st
from measure import Measured, flatten
from report import judge, median, number, to_document, to_markdown
from run import choose, parse
from works import Case, Figure, Scale, Work, make_works

RATIO = Figure("CPU, to Caddy's", "cpu", "gateway", 0.6, per="caddy")
WORK = Work(
    "small",
    "Small things",
    (Case("gateway", "gateway", ()), Case("caddy", "caddy", ())),
    ("cpu_us_per_request", "all_bad"),
    (RATIO, Figure("tokens", "tokens", "gateway", 5, at_least=True)),
)


def test_flatten_keeps_numbers_under_dotted_names() -> None:
    """Text and nothing are left out."""
    nested = {"ok": 3, "mode": "hold", "first_ms": {"p50": 1.5}, "gap_ms": None}
    assert flatten(nested) == {"ok": 3.0, "first_ms.p50": 1.5}


def test_median_skips_rounds_without_the_metric() -> None:
    """A round that could not measure it does not count as nought."""
    assert median([{"a": 1.0}, {"b": 9.0}, {"a": 3.0}], "a") == 2.0
    assert median([], "a") is None


def test_ratios_are_taken_within_rounds() -> None:
    """
    A machine that was twice as slow for a whole round changes no ratio.
    """
    measured = Measured(
        WORK,
        {"gateway": [{"cpu": 5.0}, {"cpu": 10.0}], "caddy": [{"cpu": 10.0}, {"cpu": 20.0}]},
    )
    outcome = judge(RATIO, measured)
    assert outcome.value == 0.5
    assert outcome.met is True
    assert outcome.shown() == "0.50 ×"


@pytest.mark.parametrize(
    ("value", "at_least", "met"), [(4.0, True, False), (5.0, True, True), (6.0, False, False)]
)
def test_bounds_hold_in_their_direction(value: float, at_least: bool, met: bool) -> None:
    """At least and at most."""
    figure = Figure("x", "x", "gateway", 5, at_least=at_least, unit=" KB")
    outcome = judge(figure, Measured(WORK, {"gateway": [{"x": value}]}))
    assert outcome.met is met
    assert outcome.bound_shown() == f"at {'least' if at_least else 'most'} 5 KB"


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    """No gateway, no verdict."""
    outcome = judge(RATIO, Measured(WORK, {"caddy": [{"cpu": 1.0}]}))
    assert (outcome.value, outcome.met, outcome.shown()) == (None, None, "not measured")


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_numbers_keep_three_digits(value: float) -> None:
    """Shown numbers read back to within half a per cent."""
    shown = float(number(value).replace(",", ""))
    assert shown == pytest.approx(value, rel=0.01, abs=1e-300)


def make_results() -> list[Measured]:
    """One work with two targets, one of which failed."""
    samples = {"cpu_us_per_request": 100.0, "cpu": 50.0, "all_bad": 0.0}
    return [
        Measured(WORK, {"gateway": [samples], "caddy": []}, {"caddy": "it did\nnot start"}),
    ]


def test_markdown_names_versions_left_out_and_failures() -> None:
    """Everything a reader has to know to judge the figures."""
    text = to_markdown(
        make_results(), {"cpu": "a CPU"}, {"gateway": ("1.0", "all on")}, {"smol": "not there"}, 1
    )
    assert "| gateway | 1.0 | all on |" in text
    assert "| smol | left out | not there |" in text
    assert "caddy: it did not start" in text
    assert "| gateway | 100 | 0 |" in text
    assert "not measured" in text


def test_document_is_json_with_every_round() -> None:
    """The raw rounds can be computed with again."""
    document = json.loads(json.dumps(to_document(make_results(), {}, {}, {})))
    assert document["works"]["small"]["rounds"]["gateway"][0]["cpu"] == 50.0
    assert document["works"]["small"]["figures"][0]["met"] is None


def test_chart_is_well_formed_and_labels_bars() -> None:
    """It parses as XML, holds a bar for what was measured and none for what was not."""
    svg = to_svg(make_results(), "a <caption> & more")
    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "gateway" in texts
    assert "caddy" not in texts
    assert "a <caption> & more" in texts


def test_chart_takes_logarithms_where_bars_would_vanish() -> None:
    """Twenty-six thousand beside twenty-four."""
    samples = {
        "nginx": [{"cpu_us_per_request": 24.0}],
        "litellm": [{"cpu_us_per_request": 26000.0}],
    }
    results = [Measured(WORK, samples)]
    assert make_panels(results)[0].bars == (("nginx", 24.0), ("litellm", 26000.0))
    assert "(log scale)" in to_svg(results, "")


def test_every_figure_reads_a_case_of_its_own_work() -> None:
    """A figure that names no case would never be measured, and never be missed."""
    for work in make_works(Scale()):
        labels = {case.label for case in work.cases}
        for figure in work.figures:
            assert figure.of in labels
            assert figure.per is None or figure.per in labels


def test_only_picks_works() -> None:
    """Those that are named, in their order."""
    assert [w.name for w in choose(parse(["--only", "hold,small"]))] == ["small", "hold"]
    assert len(choose(parse(["--quick"]))) < len(choose(parse([])))


def test_an_unknown_work_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """And it is named."""
    with pytest.raises(SystemExit) as stop:
        parse(["--only", "smal"])
    assert stop.value.code == 2
    assert "smal" in capsys.readouterr().err
