"""Runs: their random numbers, their device, and what they count."""

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from expunge.errors import ExpungeError
from expunge.run import Meter, Run


def drawn(run: Run, name: str) -> list[float]:
    return torch.rand(8, generator=run.generator(name)).tolist()


@given(st.integers(0, 2**40), st.text(max_size=12))
def test_a_generator_repeats_for_the_same_seed_and_name(seed: int, name: str) -> None:
    assert drawn(Run(seed), name) == drawn(Run(seed), name)
    assert drawn(Run(seed), name) != drawn(Run(seed + 1), name)
    assert drawn(Run(seed), name) != drawn(Run(seed), name + "'")


def test_generators_are_independent_of_each_other_and_of_the_global_one() -> None:
    run = Run(7)
    alone = drawn(run, "order")
    first, second = run.generator("order"), run.generator("noise")
    torch.manual_seed(0)
    woven = []
    for _ in range(8):
        torch.rand(3)
        torch.rand(5, generator=second)
        woven.append(float(torch.rand((), generator=first)))
    torch.manual_seed(0)
    singly = run.generator("order")
    assert woven == [float(torch.rand((), generator=singly)) for _ in range(8)]
    assert drawn(run, "order") == alone


def test_a_thousand_names_give_a_thousand_streams_without_correlation() -> None:
    run = Run(1)
    streams = torch.stack([torch.randn(256, generator=run.generator(str(i))) for i in range(1000)])
    assert len({tuple(row[:2].tolist()) for row in streams}) == 1000
    correlation = torch.corrcoef(streams).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 6.5 / 256**0.5  # half a million pairs: 5 sigma expected
    assert abs(float(correlation.square().mean()) * 256 - 1) < 0.05


def test_the_global_numbers_inside_a_seeded_block_repeat_and_leave_no_trace() -> None:
    run, inside = Run(3), []
    torch.manual_seed(11)
    want = torch.rand(4)
    torch.manual_seed(11)
    for _ in range(2):
        with run.seeded("dropout"):
            inside.append(torch.rand(4))
    assert torch.equal(torch.rand(4), want)
    assert torch.equal(inside[0], inside[1])
    assert torch.equal(inside[0], torch.rand(4, generator=run.generator("dropout")))


@pytest.mark.parametrize("device", ["quantum", "cuda:99", ""])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(ExpungeError, match=f"device '{device}' was asked for.*give 'cpu'") as said:
        Run(device=device)
    assert "\n" not in str(said.value)


def test_precision_is_of_forward_passes_and_weights_stay_float32() -> None:
    layer, given = torch.nn.Linear(4, 4), torch.randn(2, 4)
    with Run().autocast():
        assert layer(given).dtype == torch.float32
    with Run(precision="bfloat16").autocast():
        assert layer(given).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32


def test_a_meter_adds_seconds_and_rows_and_keeps_the_highest_memory() -> None:
    meter = Meter(peak_bytes=1)
    seconds = []
    for _ in range(2):
        with meter.measured():
            torch.rand(1000).sort()
        seconds.append(meter.seconds)
    assert 0 < seconds[0] < seconds[1]
    assert meter.peak_bytes > 1 << 20  # bytes, not pages or kibibytes: an interpreter is larger
    meter.touch("forget", 3)
    meter.touch("forget", 4)
    meter.touch("retain", 1)
    assert meter.touched == {"forget": 7, "retain": 1}


def test_work_that_fails_is_paid_for_too() -> None:
    meter = Meter()
    with pytest.raises(ZeroDivisionError), meter.measured():
        _ = 1 / 0
    assert meter.seconds > 0


def test_each_run_has_a_meter_of_its_own() -> None:
    Run().meter.touch("forget", 1)
    assert Run().meter.touched == {}


def test_progress_is_drawn_where_a_console_was_given_and_nowhere_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    for run in (Run(), Run(console=console)):
        with run.progress("forgetting", 2) as bar:
            bar.advance()
            bar.advance()
    assert "forgetting" in screen.getvalue()
    assert capsys.readouterr() == ("", "")


def test_a_warning_is_printed_as_it_is_or_raised_where_there_is_no_console() -> None:
    said = io.StringIO()
    Run(console=Console(file=said, width=20)).warn("nothing in layers[red] was moved at all")
    assert said.getvalue() == "Warning: nothing in layers[red] was moved at all\n"
    with pytest.warns(UserWarning, match="nothing moved") as raised:
        Run().warn("nothing moved")
    assert len(raised) == 1
