// Makes the README's picture, and one of every main screen, from the real product.
// Usage: REXEC_BIN=... REXEC_CHROMIUM=... node web/e2e/screenshot.mjs PICTURE [FOLDER]
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { attached, command, DESKTOP, enter, inBuffer, PHONE, signIn, startBrowser, waitForText } from './browser.mjs';
import { Server } from './server.mjs';

const [picture, folder] = process.argv.slice(2);
if (!picture) throw new Error('Name the file for the picture.');

const SOURCE = `"""Watch a long build from anywhere."""
from dataclasses import dataclass, field
from time import monotonic


@dataclass(slots=True)
class Step:
    name: str
    started: float = field(default_factory=monotonic)
    done: bool = False

    def __str__(self) -> str:
        mark = "✔" if self.done else "…"
        return f"{mark} {self.name:<12} {monotonic() - self.started:6.1f} s"


def report(steps: list[Step]) -> str:
    # Still here after the laptop was closed.
    return "\\n".join(map(str, steps)) + "  日本語 🚀"


if __name__ == "__main__":
    print(report([Step("compile", done=True), Step("test")]))
`;

const COLOURS = `from colorsys import hsv_to_rgb

WIDTH = 80


def colour(x: float, value: float) -> str:
    return ";".join(str(round(255 * part)) for part in hsv_to_rgb((0.48 + 0.42 * x / WIDTH) % 1, 0.62, value))


for upper, lower in ((1.0, 0.88), (0.74, 0.58), (0.42, 0.24)):
    print("".join(f"\\x1b[38;2;{colour(x, upper)}m\\x1b[48;2;{colour(x, lower)}m▀" for x in range(WIDTH)) + "\\x1b[0m")
print("\\n \\x1b[1;35mrexec\\x1b[0m  \\x1b[32m●\\x1b[0m running  \\x1b[2mDebian 12 · true colour · 日本語 · 🚀\\x1b[0m\\n")
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
commit() { git -c user.name=Ada -c user.email=ada@example.org commit -q --allow-empty -m "$1"; }
git add watch.py
commit "Watch a build"
commit "Mark finished steps"
git switch -q -c report
commit "Report in one line"
git switch -q main
commit "Survive a closed laptop"
git -c user.name=Ada -c user.email=ada@example.org merge -q --no-ff -m "Merge the report" report
commit "Print from anywhere"
git tag v1.0
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

async function fill(server, page, workspace) {
  await server.writeFile(workspace, '/home/user/watch.py', SOURCE);
  await server.writeFile(workspace, '/home/user/.rainbow.py', COLOURS);
  await server.writeFile(workspace, '/home/user/.tmux.conf', TMUX);
  await server.writeFile(workspace, '/home/user/.vimrc', VIM);
  const made = await server.api('POST', `/api/workspaces/${workspace}/exec`, { command: ['sh', '-c', HISTORY] });
  if (made.exit_code !== 0) throw new Error(made.stderr);
  await enter(page, 'tmux new -s build -n shell');
  await inBuffer(page, 'alternate');
  await waitForText(page, '$');
  await enter(page, 'clear; vim watch.py');
  await waitForText(page, 'dataclass');
  const split = async (key) => {
    await page.keyboard.press('Control+B');
    await page.keyboard.type(key);
  };
  await split('%');
  await waitForText(page, /│.*\$/);
  await enter(page, 'htop');
  await waitForText(page, 'Load average');
  await split('"');
  await waitForText(page, /│user@/);
  await command(page, 'clear; python3 .rainbow.py; git log --oneline --graph --color', 'Watch a build');
}

async function shoot(page, name, options = {}) {
  await page.evaluate(() => document.fonts.ready);
  if (folder) await page.screenshot({ path: join(folder, `${name}.png`), animations: 'disabled', ...options });
}

async function screens(server, size, suffix) {
  const browser = await startBrowser(size);
  const page = await browser.context.newPage();
  await page.goto(server.url);
  await page.getByTestId('submit').waitFor();
  await shoot(page, `sign-in-${suffix}`);
  await signIn(browser.context, server.url);
  await page.goto(server.url);
  await page.getByTestId('workspace-card').first().waitFor();
  await shoot(page, `dashboard-${suffix}`);
  await page.getByTestId('new-workspace').click();
  await page.getByTestId('workspace-name').waitFor();
  await shoot(page, `new-${suffix}`);
  return { browser, page };
}

if (folder) await mkdir(folder, { recursive: true });
const server = await Server.start();
try {
  const fresh = await startBrowser();
  const first = await fresh.context.newPage();
  await first.goto(server.url);
  await first.getByTestId('register-form').waitFor();
  await shoot(first, 'first-account');
  await server.register();
  await signIn(fresh.context, server.url);
  await first.goto(server.url);
  await first.getByTestId('new-workspace').waitFor();
  await shoot(first, 'empty');
  await fresh.close();

  const names = ['atlas-api', 'sandbox', 'nightly-build'];
  const made = [];
  for (const name of names) made.push(await server.workspace(name));
  await server.api('POST', `/api/workspaces/${made[1].id}/stop`);
  const { browser, page } = await screens(server, DESKTOP, 'desktop');
  await page.goto(`${server.url}/w/${made[2].id}`);
  await attached(page);
  await waitForText(page, '$');
  await shoot(page, 'terminal-desktop');
  await fill(server, page, made[2].id);
  await waitForText(page, '/.rexec/current/gue');
  await page.screenshot({ path: picture });
  await page.goto(`${server.url}/w/${made[1].id}`);
  await page.getByTestId('standing').waitFor();
  await shoot(page, 'asleep-desktop');
  await browser.close();

  const phone = await screens(server, PHONE, 'phone');
  await phone.page.goto(`${server.url}/w/${made[0].id}`);
  await attached(phone.page);
  await command(phone.page, 'echo "hello $((6 * 7)) 世界 🚀"', 'hello 42');
  await shoot(phone.page, 'terminal-phone');
  await phone.browser.close();
} finally {
  await server.close();
}
