"""Reading #SBATCH lines, and the table of sbatch's options."""

from __future__ import annotations

import pytest

from orchestrator.domain.sbatch_options import KNOWN, Directive, read_directives


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#SBATCH --time=60", [Directive("time", "60")]),
        ("#SBATCH --time 60", [Directive("time", "60")]),
        ("#SBATCH -t60 -N 2", [Directive("time", "60"), Directive("nodes", "2")]),
        ("#SBATCH -HQ", [Directive("hold", None), Directive("quiet", None)]),
        ("#SBATCH --exclusive", [Directive("exclusive", None)]),
        ("#SBATCH --exclusive=user", [Directive("exclusive", "user")]),
        ("#SBATCH --job-nam=x", [Directive("job-name", "x")]),
        ('#SBATCH --comment="a b" # why', [Directive("comment", "a b")]),
        ("#SBATCH --container-image=x.sqsh", [Directive("container-image", "x.sqsh")]),
        ("#SBATCH hetjob", []),
        ("#SBATCH", []),
    ],
)
def test_read_directives_as_getopt_does(line: str, expected: list[Directive]) -> None:
    assert read_directives(line) == expected


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("#SBATCH --tiem=60", "sbatch has no option --tiem; did you mean --time?"),
        ("#SBATCH --cpus_per_task=2", "did you mean --cpus-per-task?"),
        ("#SBATCH --zzz", "sbatch has no option --zzz"),
        ("#SBATCH -y", "sbatch has no option -y"),
        ("#SBATCH --n=2", "--n could be any of --network, --nice"),
        ("#SBATCH --hold=1", "--hold takes no value"),
        ("#SBATCH --time", "--time needs a value"),
        ("#SBATCH --time= --hold", "--time has an empty value"),
        ("#SBATCH -t", "-t (--time) needs a value"),
        ("#SBATCH time=60", "'time=60' is no option"),
        ('#SBATCH --comment="a', "cannot be read: no closing quotation"),
    ],
)
def test_read_directives_mistake_names_the_nearest(line: str, mistake: str) -> None:
    assert mistake in "; ".join(item.mistake for item in read_directives(line))


def test_read_directives_option_younger_than_the_cluster() -> None:
    line = "#SBATCH --segment=4"
    assert read_directives(line, (24, 5, 1))[0].mistake == ""
    assert read_directives(line, (22, 5, 8))[0].mistake == (
        "--segment came with Slurm 24.05; here is 22.05"
    )


def test_read_directives_option_older_than_the_cluster() -> None:
    mistake = read_directives("#SBATCH --power=level", (24, 5))[0].mistake
    assert mistake == "--power is gone since Slurm 24.05; here is 24.05"


def test_read_directives_option_of_a_plugin_may_take_a_value() -> None:
    assert read_directives("#SBATCH --tmpfs 4G --hold", None, ["tmpfs"]) == [
        Directive("tmpfs", "4G"),
        Directive("hold", None),
    ]


def test_table_has_every_option_of_the_base_template() -> None:
    stated = "array chdir cpus-per-task gres job-name mem nodes ntasks-per-node open-mode output"
    assert set(stated.split()) <= KNOWN
