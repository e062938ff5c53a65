"""A program that kills `prepare` before its first, second, ... change in the target, and runs it again.

Each time it begins with a new target. A file that is about to be written is then half written. Its arguments are the
source, a folder for the targets, and optionally a number n: it then kills only before every n-th change.
"""

KILLER = """
import os, signal, sys
from itertools import count
from pathlib import Path
import pyarrow.parquet, scipy.io
from ranger21.downloads.prepare import prepare

source, targets = Path(sys.argv[1]), Path(sys.argv[2])
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")

def run(target, moment):
    left = moment
    def hook(event, args):
        nonlocal left
        writes = event == "open" and str(args[0]).endswith(".unfinished")
        if writes or event in CHANGES and str(args[0]).startswith(str(target)):
            left -= 1
            if left == 0:
                if writes:
                    with open(os.open(args[0], os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:
                        file.write(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
    if (pid := os.fork()) == 0:
        sys.addaudithook(hook)
        prepare(source, target, 1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

every = int(sys.argv[3]) if len(sys.argv) > 3 else 1
for moment in count(1, every):
    status = run(targets / str(moment), moment)
    if status == 0:
        break
    assert status == signal.SIGKILL, status
    assert run(targets / str(moment), 0) == 0
while (status := run(targets / "again", 9)) != 0:  # one target is killed again and again
    assert status == signal.SIGKILL, status
"""
