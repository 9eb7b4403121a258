"""Random damage to a record; see `tests.torture.tamper`."""

from random import Random

import pytest

from tests.torture.harness import LONG
from tests.torture.tamper import main, make_record, tamper


@pytest.mark.parametrize("seed", range(2))
def test_random_damage_is_named_and_no_reader_fails_hangs_or_grows(seed, capsys):
    assert main(["--seed", str(seed), "--rounds", "10000" if LONG else "150"]) == 0
    assert "each was reported" in capsys.readouterr().out


def test_damage_that_is_not_named_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = make_record(tmp_path)
    monkeypatch.setattr("tests.torture.tamper.verdict", lambda checks: "MATCH")
    rng = Random(0)
    with pytest.raises(AssertionError, match="not named"):
        for _ in range(100):
            tamper(root, rng)
