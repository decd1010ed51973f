// Makes the README's pictures from the real product: a workspace at work, at a desk and on a phone.
// Usage: REXEC_BIN=... REXEC_CHROMIUM=... node web/e2e/screenshot.mjs [FOLDER]
import { join, resolve } from 'node:path';
import { attached, DESKTOP, enter, inBuffer, PHONE, screenLines, signIn, startBrowser, waitForText } from './browser.mjs';
import { eventually } from './environment.mjs';
import { Server } from './server.mjs';

const folder = process.argv[2] ?? resolve(import.meta.dirname, '../../docs');

/** Draws a part of the Mandelbrot set into the terminal, and serves the same as tiles. */
const SOURCE = `"""A map of the Mandelbrot set, in a terminal and over HTTP."""
from colorsys import hsv_to_rgb
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log2
from time import perf_counter, strftime
import os, sys

CENTRE, STEPS = -0.6, 96


def escape(c: complex) -> float:
    """How long the point stays near; 0 if it never leaves."""
    z = 0j
    for step in range(STEPS):
        z = z * z + c
        if abs(z) > 64:
            return (step + 2 - log2(log2(abs(z)))) / STEPS
    return 0.0


def colour(c: complex, pixel: float) -> str:
    parts = (pixel * complex(x, y) / 4 for x in (-1, 1) for y in (-1, 1))
    near = sum(escape(c + part) for part in parts) / 4
    hue, light = 0.62 + 0.28 * near**0.4, min(1, 2.6 * near**0.6)
    rgb = hsv_to_rgb(hue, 0.8 - 0.6 * near, light)
    return ";".join(str(round(255 * part)) for part in rgb)


def draw(columns: int, rows: int):
    """A line of half blocks after the other; the set fills the height."""
    pixel = 1 / rows
    for row in range(rows):
        upper = 1.25j * (2 * row - rows + 0.5) * pixel
        lower = upper + 1.25j * pixel
        line = ""
        for column in range(columns):
            c = CENTRE + (column - columns / 2) * pixel
            line += f"\\x1b[38;2;{colour(c + upper, pixel)};48;2;{colour(c + lower, pixel)}m▀"
        yield line + "\\x1b[0m"


class Tiles(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        begun = perf_counter()
        body = "\\n".join(draw(48, 16)).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
        ms = 1000 * (perf_counter() - begun)
        print(f"\\x1b[2m{strftime('%T')}\\x1b[0m \\x1b[35mGET\\x1b[0m {self.path:<15}"
              f"\\x1b[32m200\\x1b[0m {len(body):>5} B \\x1b[33m{ms:4.0f} ms\\x1b[0m", flush=True)

    def log_message(self, *_: object) -> None:
        pass


if sys.argv[1:] == ["serve"]:
    print("\\x1b[1;35matlas\\x1b[0m \\x1b[32m●\\x1b[0m serving tiles on port 8000", flush=True)
    ThreadingHTTPServer(("", 8000), Tiles).serve_forever()
else:
    size = os.get_terminal_size()
    for line in draw(size.columns, min(size.lines - 2, size.columns // 3)):
        print(line, flush=True)
`;

const VIM = `set number background=dark termguicolors laststatus=2 noswapfile noshowcmd
let &t_8f = "\\<Esc>[38;2;%lu;%lu;%lum"
let &t_8b = "\\<Esc>[48;2;%lu;%lu;%lum"
syntax on
colorscheme habamax
hi Normal guibg=NONE
hi EndOfBuffer guifg=#2b2d3b guibg=NONE
hi LineNr guifg=#5a5d70
hi Comment guifg=#7f8296
hi String guifg=#43e097
hi Statement guifg=#b79bff
hi Conditional guifg=#b79bff
hi PreProc guifg=#b79bff
hi Function guifg=#6fb7ff
hi Builtin guifg=#ffcf70
hi Number guifg=#ff9e64
hi StatusLine guifg=#e8e6f5 guibg=#1f1b33
`;

const HISTORY = `set -eu
cd /home/user
git init -q -b main
git add atlas.py
git -c user.name=Ada -c user.email=ada@example.org commit -q -m "Draw a map"
`;

const TMUX = `set -g status-style bg=#1b1730,fg=#b79bff
set -g status-left '#[bg=#8b5cf6,fg=#ffffff,bold] #S #[default] '
set -g status-right ' #[fg=#43e097]● live '
set -g pane-border-style fg=#2b2d3b
set -g pane-active-border-style fg=#8b5cf6
set -g default-terminal tmux-256color
set -ga terminal-overrides ',*:Tc'
set -sg escape-time 0
set -g automatic-rename off
`;

/** Divides the window between an editor, the drawn map, and the log of the server. */
async function build(server, page, workspace) {
  await server.writeFile(workspace, '/home/user/atlas.py', SOURCE);
  await server.writeFile(workspace, '/home/user/.tmux.conf', TMUX);
  await server.writeFile(workspace, '/home/user/.vimrc', VIM);
  const made = await server.api('POST', `/api/workspaces/${workspace}/exec`, { command: ['sh', '-c', HISTORY] });
  if (made.exit_code !== 0) throw new Error(made.stderr);
  await enter(page, 'tmux new -s atlas -n map');
  await inBuffer(page, 'alternate');
  await waitForText(page, '$');
  await enter(page, 'clear; vim atlas.py');
  await waitForText(page, 'Mandelbrot set');
  const split = async (key) => {
    await page.keyboard.press('Control+B');
    await page.keyboard.type(key);
  };
  await split('%');
  await waitForText(page, /│.*\$/);
  await split('"');
  await eventually('a third pane', async () => (await screenLines(page)).filter((line) => /│.*user@/.test(line)).length === 2);
  await enter(page, 'clear; python3 atlas.py serve');
  await waitForText(page, 'serving tiles');
  await page.getByTestId('view-ports').getByText('1', { exact: true }).waitFor();
  for (let n = 0; n < 14; n += 1) await fetchTile(server, workspace, n);
  await page.keyboard.press('Control+B');
  await page.keyboard.press('ArrowUp');
  await enter(page, 'clear; python3 atlas.py');
  await eventually('the map is drawn', async () => (await screenLines(page)).filter((line) => (line.match(/▀/g)?.length ?? 0) > 40).length > 12, 60_000);
}

async function fetchTile(server, workspace, n) {
  const fetched = `import urllib.request; urllib.request.urlopen("http://127.0.0.1:8000/tile/${3 + (n >> 2)}/${(n * 5) % 8}/${(n * 3) % 8}").read()`;
  const { exit_code, stderr } = await server.api('POST', `/api/workspaces/${workspace}/exec`, { command: ['python3', '-c', fetched] });
  if (exit_code !== 0) throw new Error(stderr);
}

async function shoot(page, name) {
  await page.evaluate(() => document.fonts.ready);
  await page.screenshot({ path: join(folder, name), animations: 'disabled' });
}

async function open(server, options, workspace) {
  const browser = await startBrowser(options);
  await signIn(browser.context, server.url);
  const page = await browser.context.newPage();
  await page.goto(`${server.url}/w/${workspace}`);
  await attached(page);
  await waitForText(page, '$');
  return { browser, page };
}

const server = await Server.start();
try {
  await server.register();
  const { id } = await server.workspace('atlas');
  const desk = await open(server, DESKTOP, id);
  await build(server, desk.page, id);
  await shoot(desk.page, 'screenshot.png');
  await desk.browser.close();

  const other = await server.workspace('pocket-atlas');
  const hand = await open(server, PHONE, other.id);
  await server.writeFile(other.id, '/home/user/atlas.py', SOURCE);
  await enter(hand.page, 'clear; python3 atlas.py && python3 atlas.py serve');
  await waitForText(hand.page, 'serving tiles', 60_000);
  for (let n = 0; n < 9; n += 1) await fetchTile(server, other.id, n);
  await shoot(hand.page, 'phone.png');
  await hand.browser.close();
} finally {
  await server.close();
}
