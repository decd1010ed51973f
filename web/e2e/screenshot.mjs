// Makes the README's picture, and one of every main screen, from the real product.
// Usage: REXEC_BIN=... REXEC_CHROMIUM=... node web/e2e/screenshot.mjs PICTURE [FOLDER]
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { attached, command, DESKTOP, enter, inBuffer, PHONE, signIn, startBrowser, waitForText } from './browser.mjs';
import { eventually } from './environment.mjs';
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

const COLOURS = `"""Every colour of the rainbow."""
for row in range(3):
    print("  " + "".join(f"\\x1b[48;2;{124 + 2 * x};{77 + x if x < 60 else 160 - x};{max(90, 255 - 3 * x + 40 * row) % 256}m \\x1b[0m" for x in range(56)))
print("\\n  \\x1b[1;35mrexec\\x1b[0m  \\x1b[32m●\\x1b[0m running  \\x1b[2mDebian 12 · 2 CPU · 日本語 · 🚀\\x1b[0m\\n")
`;

const TMUX = `set -g status-style bg=#1b1730,fg=#b79bff
set -g status-left '#[bg=#8b5cf6,fg=#ffffff,bold] #S #[default] '
set -g status-right ' #[fg=#43e097]● live '
set -g pane-border-style fg=#2b2d3b
set -g pane-active-border-style fg=#8b5cf6
set -g default-terminal tmux-256color
set -ga terminal-overrides ',*:Tc'
set -sg escape-time 0
`;

async function fill(server, page, workspace) {
  await server.writeFile(workspace, '/home/user/watch.py', SOURCE);
  await server.writeFile(workspace, '/home/user/.rainbow.py', COLOURS);
  await server.writeFile(workspace, '/home/user/.tmux.conf', TMUX);
  await enter(page, 'tmux new -s build');
  await inBuffer(page, 'alternate');
  await waitForText(page, '$');
  await enter(page, "clear; vim -c 'syntax on' -c 'set number background=dark' -c 'colorscheme habamax' watch.py");
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
  await command(page, 'clear; python3 .rainbow.py && ls -la --color', 'watch.py');
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
  await eventually('htop draws its bars', async () => (await waitForText(page, 'guest init')).length > 0);
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
