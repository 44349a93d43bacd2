"""Fine-tunes the bundled model for a new region, and shows that it was worth it.

    python tune_region.py OUTPUT_FOLDER

The region is simulated: three small scenes with their land cover, of which two are for training
and the third is held out. They are noisier than what the bundled model was trained on (2 looks
instead of 6), as scenes of another product or another processing would be. Both models map the
third scene, and ``cwsam-geo evaluate`` says how good the maps are. Takes half a minute.

With scenes of your own: put them and their labels (class rasters or polygons) where the simulated
ones are, list them in ``region.yaml``, and give more epochs (20 to 100) than the few used here.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
MODEL = "demo"
TRAINING = (12, 27)  # seeds of the simulator: each is a landscape of its own
HELD_OUT = 31
REGION = f"""\
classes:
  - {{code: 0, name: water, color: "#419bdf"}}
  - {{code: 1, name: trees, color: "#397d49"}}
  - {{code: 2, name: crops/grass, color: "#e3c567"}}
  - {{code: 3, name: built-up, color: "#c4281b"}}
  - {{code: 4, name: bare, color: "#a59b8f"}}

scenes:
  - scene: train/{{number}}_scene.tif      # every pair of files with the same number
    labels: train/{{number}}_labels.tif

init: {MODEL}                             # training starts here

train:
  epochs: 4
  samples: 64                           # tiles an epoch
  batch_size: 8
  lr: 1.0e-3
  tile_size: 128                        # that of the model
  augment: [flip, rot90]

validation: {{block_size_m: 1280, fraction: 0.25}}
"""


def main(folder: Path) -> None:
    """Simulates, trains, maps and compares; all files go into the folder."""

    def run(*words: str) -> None:
        """Says and runs one command line."""
        print(f"$ {shlex.join(words)}", flush=True)
        programs = {
            "cwsam-geo": ["-m", "cwsam_geo.cli.main"],
            "simulate_scene": [str(EXAMPLES / "simulate_scene.py")],
        }
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, *programs[words[0]], *words[1:]]
        if subprocess.run(command, cwd=folder, env=environment).returncode:
            sys.exit(f"{words[0]} has failed")

    def simulate(scene: str, labels: str, seed: int) -> None:
        size = ["--height", "384", "--width", "512", "--tilt", "0"]
        run("simulate_scene", scene, labels, "--seed", str(seed), "--looks", "2", *size)

    def try_out(model: str, name: str) -> None:
        run("cwsam-geo", "predict", "new_scene.tif", "-o", f"{name}.tif", "-m", model, "-q")
        run("cwsam-geo", "evaluate", f"{name}.tif", "new_truth.tif", "-o", f"{name}.json")

    # 1. The region: labelled scenes to train on, and one that training never sees.
    (folder / "train").mkdir()
    for seed in TRAINING:
        simulate(f"train/{seed}_scene.tif", f"train/{seed}_labels.tif", seed)
    simulate("new_scene.tif", "new_truth.tif", HELD_OUT)

    # 2. How good is the bundled model here?
    try_out(MODEL, "before")

    # 3. Fine-tuning: only the adapters are trained, and only they are saved. Beside the bundle
    #    stand a model card, curves, the split, and the scores of each epoch.
    (folder / "region.yaml").write_text(REGION, encoding="utf-8")
    run("cwsam-geo", "finetune", "region.yaml", "-o", "region.safetensors")

    # 4. And how good is the new one?
    try_out("region.safetensors", "after")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tune_region.py OUTPUT_FOLDER")
    output = Path(sys.argv[1])
    if output.exists():
        sys.exit(f"{output} exists; give the name of a new folder")
    output.mkdir(parents=True)
    main(output)
