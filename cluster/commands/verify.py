"""coldfleet verify: is a results directory what it says it is?"""

from __future__ import annotations

from coldfleet.cluster.commands.execution import Directory, Json


def verify(directory: Directory, json: Json = False) -> int:
    """Check every file of a sweep's results, and say what to do about each problem.

    Finds parts that are missing, changed or not named by any receipt, cells that are there twice, receipts and plans
    of another study. Reads only. Exit code 0: all is well, even if runs are still to do; 1: problems.

    \b
    Examples:
      coldfleet verify results/quickstart
      coldfleet verify results/quickstart --json
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.results.results import Results
    from coldfleet.cluster.results.verify import verify as find_problems
    from coldfleet.cluster.study.terminal import counted

    results = Results.open(directory)
    problems = list(find_problems(results))
    missing = len(results.missing)
    if json:
        output.print_json({"parts": len(results.parts), "missing": missing, "problems": problems})
        return 1 if problems else 0
    for problem in problems:
        output.print_text(problem)
    if not problems:
        rest = f"; {counted(missing, 'run')} to do: coldfleet resume {results.storage}" if missing else ""
        output.print_text(f"{results.storage}: {len(results.parts)} parts are as their receipts say{rest}")
    return 1 if problems else 0
