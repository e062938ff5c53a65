#!/usr/bin/env python
"""Run a command in a terminal of tmux, and take a picture of its screen when it has ended, or when it shows a text.

    python scripts/screenshot_terminal.py end.png -- python train.py experiment=demo
    python scripts/screenshot_terminal.py running.png --until 45/90 -- python train.py experiment=demo

With --until, the command is then stopped with Ctrl-C. Needs tmux, and what scripts/screenshot_page.py needs.
"""

from __future__ import annotations

import argparse
import io
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import _installed

from ranger21.config.arguments import Parser, as_file, as_whole
from ranger21.config.ending import ending_well
from ranger21.report.page.browser import chromium, write_picture
from ranger21.system.errors import UserError

PAGE = """<body style="margin: 0"><pre id="screen" style="margin: 0; padding: 18px; width: max-content;
background: {paper}; color: {ink}; font: 14px/1.35 'DejaVu Sans Mono', Menlo, monospace">{code}</pre></body>"""


def main() -> None:
    """Run the command."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=as_file(".png"), metavar="OUT.png")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what to run, after --")
    parser.add_argument("--width", type=as_whole(), default=100, help="characters per line (default: %(default)s)")
    parser.add_argument("--height", type=as_whole(), default=40, help="lines (default: %(default)s)")
    parser.add_argument("--until", default="", metavar="TEXT", help="take the picture when this is on the screen")
    options = parser.parse_args()
    with ending_well("starts over"):
        if not shutil.which("tmux"):
            raise UserError("tmux is not installed. On Debian, install the package tmux.")
        draw(screen_of(options), options.width, options.picture)


def screen_of(options: argparse.Namespace) -> str:
    """Run the command in a terminal, and return the screen with its colours as ANSI codes."""
    line = shlex.join(options.command)
    with tempfile.TemporaryDirectory() as folder:
        ended = Path(folder) / "ended"
        program = f"trap : INT; echo {shlex.quote(f'$ {line}')}; {line}; touch {ended}; sleep infinity"
        tmux = ["tmux", "-S", f"{folder}/socket", "-f", "/dev/null", "-u"]
        size = ["-x", str(options.width), "-y", str(options.height)]
        subprocess.run([*tmux, "new-session", "-d", *size, "sh", "-c", program], check=True)
        show = [*tmux, "capture-pane", "-p", "-e"]
        try:
            subprocess.run([*tmux, "set", "status", "off"], check=True)
            while True:
                last = ended.exists()
                screen = subprocess.run(show, check=True, capture_output=True, text=True).stdout
                if last or (options.until and options.until in screen):
                    break
                time.sleep(0.1)
            if not last:
                subprocess.run([*tmux, "send-keys", "C-c"], check=True)
                while not ended.exists():
                    time.sleep(0.1)
        finally:
            subprocess.run([*tmux, "kill-server"], check=False)
    if options.until and options.until not in screen:
        raise UserError(f"{line} has ended, and --until={options.until} was not on the screen:\n{screen.rstrip()}")
    return screen.rstrip()


def draw(screen: str, width: int, picture: Path) -> None:
    """Write a picture of a screen."""
    from rich.console import Console
    from rich.terminal_theme import SVG_EXPORT_THEME
    from rich.text import Text

    console = Console(record=True, width=width, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    console.print(Text.from_ansi(screen), highlight=False, soft_wrap=True)
    code = console.export_html(theme=SVG_EXPORT_THEME, inline_styles=True, code_format="{code}")
    with chromium(f"draw {picture}") as browser:
        page = browser.new_page()
        paper, ink = SVG_EXPORT_THEME.background_color.hex, SVG_EXPORT_THEME.foreground_color.hex
        page.set_content(PAGE.format(code=code, paper=paper, ink=ink))
        write_picture(page.locator("#screen").screenshot(), picture)


if __name__ == "__main__":
    main()
