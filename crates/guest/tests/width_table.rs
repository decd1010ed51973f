//! The page's table of character widths (`web/src/lib/terminal/widths.ts`) is this emulator's own.
//!
//! Run with `REXEC_UPDATE=1` to write the table anew after an update of the emulator.

use rexec_guest::screen::width;
use std::fmt::Write;
use std::path::PathBuf;

const HEADER: &str = "// Generated from the guest's emulator by crates/guest/tests/width_table.rs. Do not edit.\n\
    // Ranges of code points in hexadecimal; every other character takes one cell.\n";
/// Characters of a line of the table.
const LINE_CHARS_MAX: usize = 110;
/// Controls, which an emulator acts on and never measures.
const CONTROLS: [std::ops::RangeInclusive<u32>; 2] = [0..=0x1f, 0x7f..=0x9f];

fn ranges(wanted: u8) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for code in 0..=u32::from(char::MAX) {
        let Some(c) = char::from_u32(code) else {
            continue;
        };
        if CONTROLS.iter().any(|range| range.contains(&code)) || width(c) != wanted {
            continue;
        }
        match ranges.last_mut() {
            Some(range) if range.1 + 1 == code => range.1 = code,
            _ => ranges.push((code, code)),
        }
    }
    ranges
}

fn constant(name: &str, wanted: u8) -> String {
    let mut text = format!("\nexport const {name} = `\n");
    let mut line = String::new();
    for (first, last) in ranges(wanted) {
        if line.len() > LINE_CHARS_MAX {
            writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
            line.clear();
        }
        if first == last {
            write!(line, "{first:x} ").expect("a string takes everything");
        } else {
            write!(line, "{first:x}-{last:x} ").expect("a string takes everything");
        }
    }
    writeln!(text, "{}`;", line.trim_end()).expect("a string takes everything");
    text
}

#[test]
fn the_page_has_this_emulators_widths() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../web/src/lib/terminal/widths.ts");
    let table = format!("{HEADER}{}{}", constant("ZERO", 0), constant("WIDE", 2));
    if std::env::var_os("REXEC_UPDATE").is_some() {
        std::fs::write(&path, &table).expect("the table can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == table, "widths.ts is stale: run `REXEC_UPDATE=1 cargo test -p rexec-guest --test width_table`");
}
