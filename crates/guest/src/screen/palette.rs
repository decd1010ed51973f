//! Colours that a program has changed (OSC 4, 10, 11, 12), and the answer to a question for one.

use alacritty_terminal::vte::ansi::Rgb;
use std::collections::BTreeMap;
use std::io::Write;

/// Where the emulator counts the foreground, background and cursor colours on from the palette.
const DYNAMIC_FIRST: usize = 256;
const DYNAMIC_COUNT: usize = 3;
/// The page's theme: foreground, background, cursor.
const DYNAMIC_RGB: [u32; DYNAMIC_COUNT] = [0xdcdde6, 0x0c0d13, 0xb39bff];
/// The page's theme: the sixteen named colours.
const NAMED_RGB: [u32; 16] = [
    0x23252f, 0xff6b81, 0x5fe0a2, 0xf3c969, 0x7aa8ff, 0xc79bff, 0x63d8e6, 0xd5d7e2, 0x676b7e, 0xff8fa0, 0x86f0bd,
    0xffdd8c, 0xa2c3ff, 0xdcbfff, 0x92ebf5, 0xffffff,
];
/// The colour cube's levels, after xterm's 256 colours.
const CUBE_LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Palette(BTreeMap<usize, [u8; 3]>);

impl Palette {
    pub fn set(&mut self, index: usize, color: Rgb) {
        if index < DYNAMIC_FIRST + DYNAMIC_COUNT {
            self.0.insert(index, [color.r, color.g, color.b]);
        }
    }

    pub fn reset(&mut self, index: usize) {
        self.0.remove(&index);
    }

    pub fn get(&self, index: usize) -> [u8; 3] {
        self.0.get(&index).copied().unwrap_or_else(|| initial(index))
    }

    /// Appends what gives a viewer these colours, whatever it had.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\");
        for (index, [r, g, b]) in &self.0 {
            let _ = match index.checked_sub(DYNAMIC_FIRST) {
                None => write!(out, "\x1b]4;{index};"),
                Some(dynamic) => write!(out, "\x1b]{};", 10 + dynamic),
            };
            let _ = write!(out, "rgb:{r:02x}/{g:02x}/{b:02x}\x1b\\");
        }
    }
}

fn initial(index: usize) -> [u8; 3] {
    let rgb = match index {
        0..16 => NAMED_RGB[index],
        16..232 => {
            let at = index - 16;
            return [at / 36, at / 6 % 6, at % 6].map(|level| CUBE_LEVELS[level]);
        }
        232..DYNAMIC_FIRST => return [(8 + 10 * (index - 232)) as u8; 3],
        _ => DYNAMIC_RGB[(index - DYNAMIC_FIRST).min(DYNAMIC_COUNT - 1)],
    };
    let [_, r, g, b] = rgb.to_be_bytes();
    [r, g, b]
}
