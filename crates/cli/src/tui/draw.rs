//! The dashboard on the screen: a title, the workspaces, the selected one where there is room, and what keys do.
//!
//! Everything fits 40 columns and 12 rows; columns and the panel come as the screen grows.

use super::model::{Mode, Model, Usage};
use crate::feed;
use crate::show::{Tint, age, plain, size};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Cell, Clear, Padding, Paragraph, Row, Sparkline, Table, TableState, Wrap};
use rexec_api::workspaces::{WorkspaceStatus, WorkspaceView};

/// Columns from which memory is told with its limit, and from which all columns are there.
const COLS_ROOMY: u16 = 64;
const COLS_WIDE: u16 = 104;
/// Rows from which the selected workspace has a panel, and the panel's.
const ROWS_ROOMY: u16 = 20;
const PANEL_ROWS: u16 = 7;
/// Violet, of the 256 colours.
const BRAND: Color = Color::Indexed(141);

const KEYS: [(&str, &str); 10] = [
    ("enter", "open"),
    ("n", "new"),
    ("s", "start"),
    ("x", "stop"),
    ("p", "pause"),
    ("d", "delete"),
    ("l", "logs"),
    ("?", "help"),
    ("q", "quit"),
    ("r", "restart"),
];
/// Nine lines of 36 columns, as the smallest screen has.
const HELP: [(&str, &str); 9] = [
    ("enter, o", "open; Ctrl-] comes back"),
    ("n", "make a workspace"),
    ("s, x", "start, stop"),
    ("p", "pause, or resume"),
    ("r", "restart"),
    ("d", "delete; keeps the home"),
    ("l", "logs"),
    ("up, down", "choose; j, k, g, G too"),
    ("q, Ctrl-C", "quit"),
];

/// Whether colours are wanted (<https://no-color.org>).
#[derive(Clone, Copy)]
pub struct Look {
    pub coloured: bool,
}

impl Look {
    fn colour(self, colour: Color) -> Style {
        if self.coloured { Style::new().fg(colour) } else { Style::new() }
    }

    fn tint(self, tint: Tint) -> Style {
        match tint {
            Tint::Plain => Style::new(),
            Tint::Faint => Style::new().add_modifier(Modifier::DIM),
            Tint::Good => self.colour(Color::Green),
            Tint::Warm => self.colour(Color::Yellow),
            Tint::Bad => self.colour(Color::Red),
        }
    }

    fn brand(self) -> Style {
        self.colour(BRAND).add_modifier(Modifier::BOLD)
    }

    fn window(self, title: &str) -> Block<'static> {
        let title = Line::styled(format!(" {title} "), self.brand());
        Block::bordered().border_type(BorderType::Rounded).title(title).padding(Padding::horizontal(1))
    }
}

pub fn draw(frame: &mut Frame<'_>, model: &Model, look: Look) {
    let area = frame.area();
    let panel = if area.height >= ROWS_ROOMY { PANEL_ROWS } else { 0 };
    let rows = [
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(panel),
        Constraint::Length(1),
        Constraint::Length(1),
    ];
    let [title, list, panel, said, keys] = Layout::vertical(rows).areas(area);
    draw_title(frame, title, model, look);
    draw_list(frame, list, model, look);
    if let Some(one) = model.selected().filter(|_| panel.height > 0) {
        draw_panel(frame, panel, one, model.usage.get(&one.id), look);
    }
    frame.render_widget(Paragraph::new(question(model, look)), said);
    frame.render_widget(Paragraph::new(hints(model, keys.width, look)), keys);
    match &model.mode {
        Mode::Log { id, entries, top } => {
            let name = model.get(*id).map(|one| one.name.as_str()).unwrap_or_default();
            draw_log(frame, area, name, entries.as_deref(), *top, look);
        }
        Mode::Help => draw_help(frame, area, look),
        Mode::List | Mode::Naming(_) | Mode::Deleting(_) => {}
    }
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let running = model.list().iter().filter(|one| one.status == WorkspaceStatus::Running).count();
    let count = match &model.workspaces {
        None => String::new(),
        Some(all) => format!("{running} of {} running ", all.len()),
    };
    let left = Line::from(vec![Span::styled(" rexec ", look.brand()), Span::raw(plain(&model.account))]);
    frame.render_widget(Paragraph::new(left), area);
    // What does not fit beside it goes; the count is told.
    let width = (count.len() as u16).min(area.width);
    let right = Rect { x: area.right() - width, width, ..area };
    frame.render_widget(Clear, right);
    frame.render_widget(Paragraph::new(count).alignment(Alignment::Right).style(look.tint(Tint::Faint)), right);
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let empty = match &model.workspaces {
        None => Some("Asking the server..."),
        Some(all) if all.is_empty() => Some("No workspaces yet: n makes one."),
        Some(_) => None,
    };
    if let Some(words) = empty {
        let place = Rect { y: area.y + area.height / 3, height: area.height.min(1), ..area };
        return frame.render_widget(Paragraph::new(words).alignment(Alignment::Center), place);
    }
    let (is_roomy, is_wide) = (area.width >= COLS_ROOMY, area.width >= COLS_WIDE);
    let mut heads = vec!["NAME", "STATUS", "  CPU", "MEMORY"];
    let memory = if is_roomy { 19 } else { 8 };
    let mut widths =
        vec![Constraint::Fill(3), Constraint::Length(11), Constraint::Length(5), Constraint::Length(memory)];
    if is_wide {
        heads.extend(["DISK", "AGE", "MADE FROM"]);
        widths.extend([Constraint::Length(19), Constraint::Length(7), Constraint::Fill(4)]);
    }
    let rows = model.list().iter().map(|one| row(one, model.usage.get(&one.id), is_roomy, is_wide, look));
    let table = Table::new(rows, widths)
        .header(Row::new(heads).style(look.tint(Tint::Faint)))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .highlight_symbol(" ")
        .highlight_spacing(ratatui::widgets::HighlightSpacing::Always);
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(model.place()));
}

fn row(one: &WorkspaceView, usage: Option<&Usage>, is_roomy: bool, is_wide: bool, look: Look) -> Row<'static> {
    let last = usage.map(|usage| &usage.last);
    let cpu = last.map_or(String::new(), |last| format!("{:>4.0}%", last.cpu_percent));
    let memory = last.map_or(String::new(), |last| match last.memory_limit_bytes {
        0 => size(last.memory_bytes),
        limit if is_roomy => format!("{} / {}", size(last.memory_bytes), size(limit)),
        limit => format!("{:>4.0}%", 100.0 * last.memory_bytes as f64 / limit as f64),
    });
    let mut cells = vec![
        Cell::from(plain(&one.name)).style(Style::new().add_modifier(Modifier::BOLD)),
        Cell::from(one.status.as_str()).style(look.tint(tint(one.status))),
        Cell::from(cpu).style(look.tint(last.map_or(Tint::Plain, |last| load(last.cpu_percent)))),
        Cell::from(memory),
    ];
    if is_wide {
        let disk = last.and_then(|last| Some((last.disk_bytes?, last.disk_limit_bytes)));
        let disk = disk.map_or(String::new(), |(used, limit)| match limit {
            Some(limit) => format!("{} / {}", size(used), size(limit)),
            None => size(used),
        });
        cells.extend([Cell::from(disk), Cell::from(age(&one.created_at)), Cell::from(plain(made_from(one)))]);
    }
    Row::new(cells)
}

fn made_from(one: &WorkspaceView) -> &str {
    one.git_url.as_deref().or(one.template.as_deref()).unwrap_or(&one.image)
}

fn cores(cpu: f64) -> String {
    format!("{cpu} {}", if cpu == 1.0 { "core" } else { "cores" })
}

const fn tint(status: WorkspaceStatus) -> Tint {
    match status {
        WorkspaceStatus::Running => Tint::Good,
        WorkspaceStatus::Error | WorkspaceStatus::Unreachable => Tint::Bad,
        WorkspaceStatus::Stopped | WorkspaceStatus::Paused | WorkspaceStatus::Deleted => Tint::Faint,
        _ => Tint::Warm,
    }
}

fn load(percent: f64) -> Tint {
    match percent {
        90.0.. => Tint::Bad,
        60.0.. => Tint::Warm,
        _ => Tint::Plain,
    }
}

/// The selected one: what it is, why it stands where it stands, and its processors' last minutes.
fn draw_panel(frame: &mut Frame<'_>, area: Rect, one: &WorkspaceView, usage: Option<&Usage>, look: Look) {
    let name = plain(&one.name);
    let block = look.window(&name).border_style(look.tint(Tint::Faint));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [words, graph] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(inside);
    let why = one.status_reason.as_deref().map(plain).unwrap_or_default();
    let lines = vec![
        Line::styled(one.status.as_str(), look.tint(tint(one.status))),
        Line::raw(plain(made_from(one))),
        Line::raw(format!("{}, {}", cores(one.cpu), size(u64::from(one.memory_mb) << 20))),
        Line::styled(one.id.to_string(), look.tint(Tint::Faint)),
        Line::raw(why),
    ];
    frame.render_widget(Paragraph::new(lines), words);
    let Some(usage) = usage else { return };
    let [head, spark] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(graph);
    let processes = format!("cpu {:.0}%, {} processes", usage.last.cpu_percent, usage.last.pids);
    frame.render_widget(Paragraph::new(processes).style(look.tint(Tint::Faint)), head);
    let skipped = usage.cpu.len().saturating_sub(usize::from(spark.width));
    let shown: Vec<u64> = usage.cpu.iter().skip(skipped).copied().collect();
    frame.render_widget(Sparkline::default().data(shown).max(100).style(look.colour(BRAND)), spark);
}

/// What is asked, or else what was said.
fn question(model: &Model, look: Look) -> Line<'static> {
    match &model.mode {
        Mode::Naming(name) => Line::from(vec![
            Span::styled(" New workspace: ", look.brand()),
            Span::raw(plain(name)),
            Span::styled(" ", Style::new().add_modifier(Modifier::REVERSED)),
        ]),
        Mode::Deleting(id) => {
            let name = model.get(*id).map(|one| plain(&one.name)).unwrap_or_default();
            Line::styled(format!(" Delete {name}? y, or any other key"), look.tint(Tint::Bad))
        }
        Mode::List | Mode::Log { .. } | Mode::Help => match &model.said {
            Some((text, tint)) => Line::styled(format!(" {}", plain(text)), look.tint(*tint)),
            None => Line::default(),
        },
    }
}

/// As many keys as there is room for.
fn hints(model: &Model, width: u16, look: Look) -> Line<'static> {
    let of_mode: &[(&'static str, &'static str)] = match model.mode {
        Mode::List => &KEYS,
        Mode::Naming(_) => &[("enter", "make it (no name: one is made up)"), ("esc", "leave")],
        Mode::Deleting(_) => &[("y", "delete"), ("any other key", "leave")],
        Mode::Log { .. } => &[("up, down", "scroll"), ("r", "again"), ("any other key", "close")],
        Mode::Help => &[("any key", "close")],
    };
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, what) in of_mode {
        used += key.len() + what.len() + 3;
        if used > usize::from(width) {
            break;
        }
        spans.push(Span::styled(format!(" {key}"), look.brand()));
        spans.push(Span::raw(format!(" {what} ")));
    }
    Line::from(spans)
}

/// A window over the list.
fn over(frame: &mut Frame<'_>, area: Rect, title: &str, look: Look) -> Rect {
    // The keys' line stays in sight.
    let area = Rect { height: area.height.saturating_sub(1), ..area };
    let block = look.window(title);
    let inside = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    inside
}

fn draw_log(
    frame: &mut Frame<'_>,
    area: Rect,
    name: &str,
    entries: Option<&[rexec_api::events::EventView]>,
    top: usize,
    look: Look,
) {
    let inside = over(frame, area, &format!("{}: logs", plain(name)), look);
    let Some(entries) = entries else {
        return frame.render_widget(Paragraph::new("Asking the server..."), inside);
    };
    let lines: Vec<Line<'_>> = entries
        .iter()
        .filter_map(|event| {
            let entry = feed::entry(event)?;
            let detail = entry.detail.map_or(String::new(), |detail| format!(": {detail}"));
            Some(Line::from(vec![
                Span::styled(format!("{:>7} ", age(&event.at)), look.tint(Tint::Faint)),
                Span::styled(entry.text, look.tint(entry.tint)),
                Span::raw(plain(&detail)),
            ]))
        })
        .skip(top)
        .take(usize::from(inside.height))
        .collect();
    frame.render_widget(Paragraph::new(lines), inside);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect, look: Look) {
    let inside = over(frame, area, "keys", look);
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(key, what)| Line::from(vec![Span::styled(format!("{key:<10}"), look.brand()), Span::raw(*what)]))
        .collect();
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), inside);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::model::News;
    use super::super::model::tests::{model, sample};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn drawn(model: &Model, cols: u16, rows: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(cols, rows)).unwrap();
        terminal.draw(|frame| draw(frame, model, Look { coloured: true })).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..cols).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..rows).map(|y| line(y).trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn a_small_screen_has_what_matters() {
        let mut model = model(&[("atlas-api", "running"), ("nightly-build", "stopped")]);
        let id = model.list()[0].id;
        model.hear(News::Sample(id, sample(42.0, 128 << 20)));
        let screen = drawn(&model, 40, 12);
        assert_eq!(
            screen,
            " rexec ada@example.com   1 of 2 running\n \
             NAME         STATUS        CPU MEMORY\n \
             atlas-api    running       42%   25%\n \
             nightly-buil stopped\n\
             \n\n\n\n\n\n\n \
             enter open  n new  s start  x stop\n"
        );
    }

    #[test]
    fn a_large_screen_has_all_of_it() {
        let mut model = model(&[("atlas-api", "running")]);
        let id = model.list()[0].id;
        model.hear(News::Sample(id, sample(42.0, 128 << 20)));
        let screen = drawn(&model, 120, 30);
        for told in
            ["128 MiB / 512 MiB", "MADE FROM", "rexec/base:latest", "cpu 42%, 3 processes", "1 core, 512 MiB", "q quit"]
        {
            assert!(screen.contains(told), "{told:?} is missing:\n{screen}");
        }
    }

    #[test]
    fn every_mode_fits_any_screen() {
        let mut model = model(&[("a", "running"), ("b\u{1b}[31m", "error")]);
        let id = model.list()[0].id;
        let modes = [
            Mode::List,
            Mode::Naming("x".repeat(100)),
            Mode::Deleting(id),
            Mode::Log { id, entries: None, top: 0 },
            Mode::Log { id, entries: Some(vec![]), top: 7 },
            Mode::Help,
        ];
        for mode in modes {
            model.mode = mode;
            for (cols, rows) in [(40, 12), (1, 1), (3, 5), (80, 24), (300, 100)] {
                let screen = drawn(&model, cols, rows);
                assert!(!screen.contains('\u{1b}'), "{screen:?}");
            }
        }
    }
}
