//! Random output: what programs write, and what nobody should.

use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub enum Step {
    Output(Vec<u8>),
    Resize(u16, u16),
}

fn bytes(text: impl Into<String>) -> Vec<u8> {
    text.into().into_bytes()
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-z ]{1,12}".prop_map(bytes),
        1 => "[a-zA-Z]{10,60}".prop_map(bytes),
        2 => proptest::sample::select(vec![
            "漢字", "한", "😀", "e\u{301}", "❤\u{fe0f}", "👩\u{200d}💻", "\u{301}", "ｗ", "é", "×",
            "\u{200b}", "\u{85}", "\u{feff}a", "\u{1f1e9}\u{1f1ea}", "a\u{301}\u{302}\u{303}",
        ]).prop_map(bytes),
        3 => proptest::sample::select(vec!["\r\n", "\n", "\r", "\t", "\x08", "\x07", "\x0e", "\x0f", "\x0b", "\x7f", " "])
            .prop_map(bytes),
    ];
    vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

fn csi() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![3 => 0_u16..8, 2 => 0_u16..40, 1 => Just(999_u16), 1 => Just(u16::MAX)];
    let moves = proptest::sample::select("ABCDEFGHIJKLMPSTXZ@`adefgbr".chars().collect::<Vec<_>>());
    (moves, vec(number, 0..3)).prop_map(|(end, numbers)| {
        // A huge repetition is slow and shows nothing.
        let most = if end == 'b' { 50 } else { u16::MAX };
        let numbers: Vec<String> = numbers.iter().map(|n| n.min(&most).to_string()).collect();
        bytes(format!("\x1b[{}{end}", numbers.join(";")))
    })
}

fn sgr() -> impl Strategy<Value = Vec<u8>> {
    let attribute = prop_oneof![
        (0_u16..110).prop_map(|n| n.to_string()),
        proptest::sample::select(vec!["0", "7", "41", "44", "104", "4:3", "4:4", "4:5", "4:2", "21", "5", "59", "49"])
            .prop_map(str::to_owned),
        any::<u8>().prop_map(|n| format!("38;5;{n}")),
        any::<u8>().prop_map(|n| format!("48;5;{n}")),
        any::<u8>().prop_map(|n| format!("58:5:{n}")),
        any::<[u8; 3]>().prop_map(|[r, g, b]| format!("48;2;{r};{g};{b}")),
        any::<[u8; 3]>().prop_map(|[r, g, b]| format!("58:2::{r}:{g}:{b}")),
    ];
    vec(attribute, 0..4).prop_map(|all| bytes(format!("\x1b[{}m", all.join(";"))))
}

fn modes() -> impl Strategy<Value = Vec<u8>> {
    let mode = proptest::sample::select(vec![
        "?1",
        "?6",
        "?6",
        "?7",
        "?7",
        "?9",
        "?12",
        "?25",
        "?45",
        "?47",
        "?66",
        "?1000",
        "?1002",
        "?1003",
        "?1004",
        "?1005",
        "?1006",
        "?1007",
        "?1015",
        "?1016",
        "?1042",
        "?1047",
        "?1048",
        "?1049",
        "?1049",
        "?2004",
        "?2031",
        "4",
        "4",
        "20",
        "?3",
        "?1000;1006",
    ]);
    (mode, proptest::sample::select(vec!["h", "h", "l"])).prop_map(|(mode, end)| bytes(format!("\x1b[{mode}{end}")))
}

fn others() -> impl Strategy<Value = Vec<u8>> {
    let fixed = proptest::sample::select(vec![
        "\x1b7",
        "\x1b8",
        "\x1bM",
        "\x1bD",
        "\x1bE",
        "\x1bH",
        "\x1b=",
        "\x1b>",
        "\x1b(0",
        "\x1b(B",
        "\x1b)0",
        "\x1b*0",
        "\x1b#8",
        "\x1b[3g",
        "\x1b[s",
        "\x1b[u",
        "\x1b[?6n",
        "\x1b[6n",
        "\x1b[c",
        "\x1b[>c",
        "\x1b[5 q",
        "\x1b[4 q",
        "\x1b[0 q",
        "\x1b[22;0t",
        "\x1b[23;0t",
        "\x1b[18t",
        "\x1b[?2026$p",
        "\x1b]0;title\x07",
        "\x1b]2;ti;tle \u{301}\x1b\\",
        "\x1b]2;\x07",
        "\x1b]4;3;#123456\x07",
        "\x1b]4;1;?\x07",
        "\x1b]10;rgb:12/34/56\x07",
        "\x1b]11;?\x1b\\",
        "\x1b]104\x07",
        "\x1b]112\x07",
        "\x1b]8;;http://a/b;c\x1b\\",
        "\x1b]8;id=7;http://d\x1b\\",
        "\x1b]8;;\x1b\\",
        "\x1b]52;c;aGk=\x07",
        "\x1b[>1u",
        "\x1b[>5u",
        "\x1b[<u",
        "\x1b[=3;2u",
        "\x1b[=0u",
        "\x1b[?u",
        "\x1bP$qm\x1b\\",
        "\x1b_x\x1b\\",
        "\x1b[?2026h",
        "\x1b[?2026l",
        "\x1b[?2026h",
        "\x1b[?2026l",
        "\x1b[2J",
        "\x1b[3J",
        "\x1b[1;3r",
        "\x1b[2;4r",
        "\x1b[2;99r",
        "\x1b[3;3H\x1b[1mX",
        "\x1b[12\n3",
        "\x1b[3\x18",
        "\x1b[1;1H",
        "\x1b[99;99H",
    ])
    .prop_map(bytes);
    prop_oneof![30 => fixed, 1 => Just(b"\x1bc".to_vec())]
}

fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), proptest::sample::select(b"\x1b[]P_;?:\x18\x1a\\h0\xe6\xf0\x9f\x80".to_vec())];
    vec(byte, 1..12)
}

pub fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => text(),
        5 => csi(),
        4 => sgr(),
        2 => modes(),
        3 => others(),
        1 => garbage(),
    ];
    vec(piece, 1..40).prop_map(|pieces| pieces.concat())
}

pub fn size() -> impl Strategy<Value = (u16, u16)> {
    prop_oneof![
        4 => (2_u16..20, 1_u16..8),
        1 => (0_u16..4, 0_u16..3),
        1 => (20_u16..90, 5_u16..30),
    ]
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => output().prop_map(Step::Output),
        1 => size().prop_map(|(cols, rows)| Step::Resize(cols, rows)),
    ];
    vec(step, 1..7)
}
