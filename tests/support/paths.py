"""Where the project's folders are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "cwsam_geo"
EXAMPLES = ROOT / "examples"
BENCHMARKS = ROOT / "benchmarks"
EXPERIMENTS = ROOT / "experiments"
INTEGRATIONS = ROOT / "integrations"
SUPPORT = ROOT / "tests" / "support"
