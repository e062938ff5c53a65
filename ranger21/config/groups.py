"""The groups of choices: those with a folder of files in configs/, and `ablation`, whose choices are generated."""

from hydra.core.config_store import ConfigStore

from ranger21.config import ablation
from ranger21.system.project import CONFIG_DIR

SPACE = "space"  # the folder of search spaces, which tune.py reads
GENERATED = {"ablation": ablation.nodes()}
GROUPS = sorted({path.name for path in CONFIG_DIR.iterdir() if path.is_dir()} - {SPACE} | GENERATED.keys())

for group, nodes in GENERATED.items():
    for name, node in nodes.items():
        ConfigStore.instance().store(group=group, name=name, node=node, package="_global_", provider="ranger21")


def choices(group: str) -> list[str]:
    """Return the project's choices of a group, sorted. A user's own folder may have more."""
    return sorted({path.stem for path in (CONFIG_DIR / group).glob("*.yaml")} | GENERATED.get(group, {}).keys())
