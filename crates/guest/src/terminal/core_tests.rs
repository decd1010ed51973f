//! The core against a model: whatever happens in whatever order, a client's screen is the one that
//! an uninterrupted emulator would show.

use super::core::{AttachmentId, Core, Departure};
use super::flow::{Pace, Verdict, WINDOW_BYTES_MIN};
use super::frames::{CATCH_UP_BYTES, Pull};
use super::sizes::Size;
use super::viewer::Intake;
use crate::screen::Screen;
use proptest::prelude::*;
use rexec_api::error::ErrorCode;
use rexec_api::frames::{ServerControl, ServerFrame};
use rexec_api::guest::{AttachMode, AttachSpec};
use std::time::Duration;
use uuid::Uuid;

const SCROLLBACK: u32 = 50;
const START: Size = Size { cols: 20, rows: 6 };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn spec(mode: AttachMode) -> AttachSpec {
    AttachSpec { offset: None, mode, client: None }
}

fn control() -> AttachSpec {
    spec(AttachMode::Control)
}

/// A client as a browser is one: an emulator fed with what arrives, in order.
struct Client {
    id: AttachmentId,
    uuid: Uuid,
    mode: AttachMode,
    screen: Option<Screen>,
    /// Where the next output must begin; unknown until the first `attached`.
    at: Option<u64>,
    attached: bool,
    ended: bool,
    exit: Option<i32>,
    accepted: u64,
    controller: bool,
    errors: Vec<ErrorCode>,
}

impl Client {
    fn attach(core: &mut Core, uuid: Uuid, mode: AttachMode, offset: Option<u64>, now: Duration) -> Self {
        let id = core.attach(&AttachSpec { offset, mode, client: Some(uuid) }, now);
        Self {
            id,
            uuid,
            mode,
            screen: None,
            at: None,
            attached: false,
            ended: false,
            exit: None,
            accepted: 0,
            controller: false,
            errors: Vec::new(),
        }
    }

    /// Comes back and goes on with the screen it has, where it stopped.
    fn resume(&mut self, core: &mut Core, now: Duration) {
        let offset = self.at;
        self.id = core.attach(&AttachSpec { offset, mode: self.mode, client: Some(self.uuid) }, now);
        self.attached = false;
    }

    /// Takes one frame; false when there is none at the moment.
    fn pull(&mut self, core: &mut Core, bytes: usize, now: Duration, all: &[u8]) -> bool {
        loop {
            match core.pull(self.id, bytes, now) {
                Pull::Frame(frame) => {
                    self.receive(&frame, all);
                    return true;
                }
                Pull::CatchUp => {
                    core.catch_up(CATCH_UP_BYTES);
                }
                Pull::Wait => return false,
                Pull::End => {
                    self.ended = true;
                    return false;
                }
            }
        }
    }

    fn receive(&mut self, frame: &[u8], all: &[u8]) {
        match ServerFrame::parse(frame).unwrap() {
            ServerFrame::Output { offset, bytes } => {
                assert!(self.attached, "output before attached");
                assert_eq!(self.at.unwrap_or(offset), offset, "a gap or an overlap");
                let from = offset as usize;
                assert_eq!(bytes, &all[from..from + bytes.len()]);
                self.at = Some(offset + bytes.len() as u64);
                if let Some(screen) = &mut self.screen {
                    screen.feed(bytes);
                }
            }
            ServerFrame::Snapshot { offset, bytes } => {
                assert!(self.attached && offset <= all.len() as u64);
                assert!(bytes.starts_with(b"\x18\x1bc"));
                self.at = Some(offset);
                self.screen.as_mut().unwrap().feed(bytes);
            }
            ServerFrame::Exit(code) => {
                assert_eq!(self.at.unwrap_or(all.len() as u64), all.len() as u64);
                self.exit = Some(code);
            }
            ServerFrame::InputAccepted(count) => {
                assert!(count >= self.accepted, "the count went back");
                self.accepted = count;
            }
            ServerFrame::Control(message) => self.hear(message),
        }
    }

    fn hear(&mut self, message: ServerControl) {
        match message {
            ServerControl::Attached { cols, rows, controller, .. } => {
                assert!(!self.attached, "attached twice");
                self.attached = true;
                self.controller = controller;
                self.resize(cols, rows);
            }
            ServerControl::Size { cols, rows, .. } => self.resize(cols, rows),
            ServerControl::Viewers { controller, .. } => self.controller = controller,
            ServerControl::Error { code, .. } => self.errors.push(code),
            ServerControl::Title { .. } | ServerControl::Status { .. } => {}
        }
    }

    fn resize(&mut self, cols: u16, rows: u16) {
        match &mut self.screen {
            Some(screen) => screen.resize(cols, rows),
            None => self.screen = Some(Screen::new(cols, rows, SCROLLBACK)),
        }
    }

    fn picture(&mut self) -> (u16, u16, String) {
        picture(self.screen.as_mut().unwrap())
    }
}

fn picture(screen: &mut Screen) -> (u16, u16, String) {
    let snapshot = screen.snapshot();
    (snapshot.cols, snapshot.rows, String::from_utf8(snapshot.bytes).unwrap())
}

/// Bytes that a failing test shows in a readable form.
#[derive(Clone)]
struct Written(Vec<u8>);

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// The last bytes, so many, come with the next output.
    Output(Written, usize),
    Attach(AttachMode),
    /// A client detaches and at once comes back for the rest.
    Reconnect(usize, Departure),
    /// Comes back before its old connection is noticed to be dead.
    Supersede(usize),
    Leave(usize, Departure),
    Pull(usize, usize),
    Acknowledge(usize),
    Type(usize),
    Resize(usize, u16, u16),
    Hide(usize),
    Wait(u64),
    CatchUp(u64),
}

fn departure() -> impl Strategy<Value = Departure> {
    prop_oneof![Just(Departure::Closed), Just(Departure::Cut)]
}

/// Pieces of a terminal's life.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-z ]{1,30}".prop_map(String::into_bytes),
        2 => Just(b"\r\n".to_vec()),
        1 => prop_oneof![
            Just("\x1b[31;1m"), Just("\x1b[0m"), Just("\x1b[2J"), Just("\x1b[3;4H"), Just("\x1b[K"),
            Just("\x1b[?1049h"), Just("\x1b[?1049l"), Just("\x1b[2;4r"), Just("\x1b[r"), Just("\x1bM"),
            Just("\x1b]0;a title\x07"), Just("\x1b7"), Just("\x1b8"), Just("\x1b[?25l"), Just("\x1b[?2004h"),
            Just("h\u{e9}llo \u{6f22}\u{5b57} \u{1f600}"), Just("e\u{301}"), Just("\t\x08"),
        ].prop_map(|s| s.as_bytes().to_vec()),
        1 => proptest::collection::vec(Just(b'x'), 40..400),
    ];
    proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..4;
    prop_oneof![
        6 => (output(), 0usize..6).prop_map(|(bytes, cut)| Step::Output(Written(bytes), cut)),
        1 => prop_oneof![Just(AttachMode::Control), Just(AttachMode::View)].prop_map(Step::Attach),
        2 => (which.clone(), departure()).prop_map(|(w, d)| Step::Reconnect(w, d)),
        1 => which.clone().prop_map(Step::Supersede),
        1 => (which.clone(), departure()).prop_map(|(w, d)| Step::Leave(w, d)),
        6 => (which.clone(), 1usize..700).prop_map(|(w, n)| Step::Pull(w, n)),
        2 => which.clone().prop_map(Step::Acknowledge),
        1 => which.clone().prop_map(Step::Type),
        2 => (which.clone(), 1u16..40, 1u16..12).prop_map(|(w, c, r)| Step::Resize(w, c, r)),
        1 => which.prop_map(Step::Hide),
        1 => (0u64..4000).prop_map(Step::Wait),
        1 => (0u64..2000).prop_map(Step::CatchUp),
    ]
}

/// The core, its clients, and what an uninterrupted emulator shows.
struct World {
    core: Core,
    reference: Screen,
    all: Vec<u8>,
    /// Written by the program and not yet read: sequences are cut anywhere.
    carry: Vec<u8>,
    clients: Vec<Client>,
    now: Duration,
    names: u128,
}

impl World {
    fn new(ring_bytes: u64) -> Self {
        Self {
            core: Core::new(START, ring_bytes, SCROLLBACK),
            reference: Screen::new(START.cols, START.rows, SCROLLBACK),
            all: Vec::new(),
            carry: Vec::new(),
            clients: Vec::new(),
            now: ms(0),
            names: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        let count = self.clients.len();
        let pick = |which: usize| (count > 0).then(|| which % count.max(1));
        let (core, now) = (&mut self.core, self.now);
        match step {
            Step::Output(Written(bytes), cut) => {
                self.carry.extend(bytes);
                let bytes: Vec<u8> = self.carry.drain(..self.carry.len().saturating_sub(cut)).collect();
                self.all.extend(&bytes);
                core.output(&bytes);
                self.reference.feed(&bytes);
            }
            Step::Attach(mode) if count < 4 => {
                self.names += 1;
                let uuid = Uuid::from_u128(self.names);
                self.clients.push(Client::attach(core, uuid, mode, None, now));
            }
            Step::Wait(time) => self.now += ms(time),
            Step::CatchUp(bytes) => {
                core.catch_up(bytes);
            }
            Step::Leave(which, how) => {
                if let Some(which) = pick(which) {
                    core.detach(self.clients.remove(which).id, how, now);
                }
            }
            other => {
                if let Some(which) = pick(other.client()) {
                    other.apply_to(&mut self.clients[which], core, now, &self.all);
                }
            }
        }
        // Time that has passed may hand control over, and with it another size.
        self.core.verdict(self.now, Pace::Alone);
        if let Some(size) = self.core.take_effects().resize {
            self.reference.resize(size.cols, size.rows);
        }
        let written = self.core.pending_input().len();
        self.core.input_written(written);
    }

    /// Everybody takes and acknowledges everything; then all screens are one.
    fn settle(&mut self) {
        let expected = picture(&mut self.reference);
        for client in &mut self.clients {
            loop {
                while client.pull(&mut self.core, 4096, self.now, &self.all) {}
                let before = client.at;
                self.core.acknowledge(client.id, client.at.unwrap_or(0), self.now);
                if !client.pull(&mut self.core, 4096, self.now, &self.all) && client.at == before {
                    break;
                }
            }
            assert!(!client.ended && client.errors.is_empty());
            assert_eq!(client.at.unwrap_or(0), self.all.len() as u64);
            assert_eq!(client.picture(), expected);
        }
        let controllers = self.clients.iter().filter(|c| c.controller).count();
        assert!(controllers <= 1, "{controllers} controllers");
    }
}

impl Step {
    fn client(&self) -> usize {
        match self {
            Self::Reconnect(which, _)
            | Self::Supersede(which)
            | Self::Leave(which, _)
            | Self::Pull(which, _)
            | Self::Acknowledge(which)
            | Self::Type(which)
            | Self::Resize(which, _, _)
            | Self::Hide(which) => *which,
            _ => 0,
        }
    }

    fn apply_to(self, client: &mut Client, core: &mut Core, now: Duration, all: &[u8]) {
        match self {
            Self::Reconnect(_, how) => {
                core.detach(client.id, how, now);
                client.resume(core, now);
            }
            Self::Supersede(_) => client.resume(core, now),
            Self::Pull(_, bytes) => {
                client.pull(core, bytes, now, all);
            }
            Self::Acknowledge(_) => core.acknowledge(client.id, client.at.unwrap_or(0), now),
            Self::Type(_) => core.input(client.id, b"k"),
            Self::Resize(_, cols, rows) => core.resize(client.id, cols, rows),
            Self::Hide(_) => core.hide(client.id),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_screen_is_the_uninterrupted_one(
        ring_bytes in 400u64..5_000,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(ring_bytes);
        for step in steps {
            world.apply(step);
        }
        world.settle();
    }
}

/// What time alone changes at the very end is seen by the reference, too: the property once missed it.
#[test]
fn control_that_passes_on_at_the_end_resizes_every_screen() {
    let mut world = World::new(400);
    let attach = || Step::Attach(AttachMode::Control);
    let output = |text: &str| Step::Output(Written(text.as_bytes().to_vec()), 0);
    let steps = [attach(), output("a"), attach(), attach(), Step::Leave(3, Departure::Cut), output(" ")];
    for step in steps.into_iter().chain([Step::Resize(1, 1, 1), Step::Leave(2, Departure::Closed), Step::Wait(3000)]) {
        world.apply(step);
    }
    world.settle();
}

/// A terminal with one attached, settled control client.
fn with_controller() -> (Core, Client) {
    let mut core = Core::new(START, 1024 * 1024, SCROLLBACK);
    let mut client = Client::attach(&mut core, Uuid::from_u128(1), AttachMode::Control, None, ms(0));
    while client.pull(&mut core, 4096, ms(0), &[]) {}
    assert!(client.controller);
    (core, client)
}

fn is_held(core: &mut Core, at: u64) -> bool {
    matches!(core.verdict(ms(at), Pace::Alone), Verdict::HoldUntil(_))
}

static FLOOD: [u8; WINDOW_BYTES_MIN as usize + 1] = [b'x'; WINDOW_BYTES_MIN as usize + 1];

#[test]
fn the_controller_holds_until_it_acknowledges() {
    let (mut core, client) = with_controller();
    core.output(&FLOOD);
    assert!(is_held(&mut core, 10));
    while let Pull::Frame(_) = core.pull(client.id, 65_536, ms(10)) {}
    core.acknowledge(client.id, 10, ms(20));
    assert!(!is_held(&mut core, 20));
}

#[test]
fn hiding_closing_silence_and_a_cut_end_the_hold() {
    let (mut core, client) = with_controller();
    core.output(&FLOOD);
    core.hide(client.id);
    assert!(!is_held(&mut core, 0));
    core.show(client.id, ms(100));
    assert!(is_held(&mut core, 100));
    assert!(is_held(&mut core, 2099) && !is_held(&mut core, 2100));

    let (mut core, client) = with_controller();
    core.output(&FLOOD);
    core.detach(client.id, Departure::Closed, ms(0));
    assert!(!is_held(&mut core, 0));

    let (mut core, client) = with_controller();
    core.output(&FLOOD);
    core.detach(client.id, Departure::Cut, ms(1000));
    assert_eq!(core.verdict(ms(1000), Pace::Alone), Verdict::HoldUntil(ms(4000)));
    assert_eq!(core.deadline(), Some(ms(4000)));
    assert!(is_held(&mut core, 3999) && !is_held(&mut core, 4000));
    assert_eq!(core.deadline(), None);
}

#[test]
fn a_quick_reconnect_loses_nothing_and_keeps_the_seat() {
    let (mut core, mut client) = with_controller();
    let all = FLOOD.to_vec();
    core.output(&all);
    assert!(client.pull(&mut core, 1000, ms(0), &all));
    core.detach(client.id, Departure::Cut, ms(0));
    client.resume(&mut core, ms(2000));
    while client.pull(&mut core, 4096, ms(2000), &all) {}
    assert!(client.controller);
    assert_eq!(client.at, Some(all.len() as u64));
}

#[test]
fn viewers_never_hold_and_get_a_snapshot_when_too_far_behind() {
    let mut core = Core::new(START, 8192, SCROLLBACK);
    let mut viewer = Client::attach(&mut core, Uuid::from_u128(1), AttachMode::View, None, ms(0));
    while viewer.pull(&mut core, 4096, ms(0), &[]) {}
    let all = vec![b'y'; 100_000];
    core.output(&all);
    assert!(!is_held(&mut core, 0));
    let mut snapshots = 0;
    while let Pull::Frame(frame) = core.pull(viewer.id, 4096, ms(0)) {
        snapshots += usize::from(frame[0] == 1);
        viewer.receive(&frame, &all);
    }
    assert_eq!((snapshots, viewer.at), (1, Some(100_000)));
}

#[test]
fn an_offset_ahead_is_refused_and_ends_it() {
    let (mut core, _) = with_controller();
    core.output(b"abc");
    let mut ahead = Client::attach(&mut core, Uuid::from_u128(9), AttachMode::Control, Some(4), ms(0));
    while ahead.pull(&mut core, 10, ms(0), b"abc") {}
    assert!(ahead.ended && !ahead.attached);
    assert_eq!(ahead.errors, [ErrorCode::OffsetAhead]);
    let mut exact = Client::attach(&mut core, Uuid::from_u128(8), AttachMode::Control, Some(3), ms(0));
    while exact.pull(&mut core, 10, ms(0), b"abc") {}
    assert!(exact.attached && !exact.ended);
}

#[test]
fn only_the_controller_sizes_and_typing_takes_over() {
    let (mut core, first) = with_controller();
    let second = core.attach(&control(), ms(0));
    core.resize(second, 50, 10);
    assert_eq!(core.size(), START);
    core.resize(first.id, 30, 9);
    assert_eq!(core.take_effects().resize, Some(Size { cols: 30, rows: 9 }));
    core.input(second, b"x");
    assert_eq!(core.size(), Size { cols: 50, rows: 10 });
    core.resize(second, 0, 10);
    core.resize(second, 80, 60_000);
    assert_eq!(core.size(), Size { cols: 50, rows: 10 });
    let mut notices = 0;
    while let Pull::Frame(frame) = core.pull(second, 10, ms(0)) {
        if let Ok(ServerFrame::Control(ServerControl::Error { code, .. })) = ServerFrame::parse(&frame) {
            assert_eq!(code, ErrorCode::InvalidRequest);
            notices += 1;
        }
    }
    assert_eq!(notices, 1);
    core.detach(second, Departure::Closed, ms(0));
    assert_eq!(core.size(), Size { cols: 30, rows: 9 });
}

#[test]
fn viewers_have_no_say() {
    let mut core = Core::new(START, 8192, SCROLLBACK);
    let viewer = core.attach(&spec(AttachMode::View), ms(0));
    core.input(viewer, b"rm -rf /\n");
    core.resize(viewer, 99, 9);
    assert_eq!((core.pending_input(), core.size()), (b"".as_slice(), START));
}

#[test]
fn input_is_counted_across_reconnects_and_never_taken_from_a_dead_connection() {
    let (mut core, mut client) = with_controller();
    core.input(client.id, b"hello");
    while client.pull(&mut core, 10, ms(0), &[]) {}
    assert_eq!(client.accepted, 5);
    let dead = client.id;
    client.accepted = 0;
    client.resume(&mut core, ms(1));
    core.input(dead, b" again");
    let mut kinds = Vec::new();
    while let Pull::Frame(frame) = core.pull(client.id, 10, ms(1)) {
        kinds.push(frame[0]);
        client.receive(&frame, &[]);
    }
    assert_eq!(kinds[..2], [3, 4], "the count comes right after attached");
    assert_eq!((client.accepted, client.controller), (5, true));
    assert_eq!(core.pull(dead, 10, ms(1)), Pull::End);
    assert_eq!(core.pending_input(), b"hello");
}

#[test]
fn input_that_is_not_read_is_bounded_and_kept() {
    let (mut core, client) = with_controller();
    let mut frames = 0;
    while core.has_input_room() {
        core.input(client.id, &[7; 1000]);
        frames += 1;
    }
    assert_eq!(core.pending_input().len(), frames * 1000);
    // Acknowledgements wait behind the input, so nobody waits for them.
    core.output(&FLOOD);
    core.set_intake(client.id, Intake::Blocked, ms(0));
    assert!(!is_held(&mut core, 0));
    core.input_written(1000);
    assert!(core.has_input_room());
    core.set_intake(client.id, Intake::Open, ms(0));
    assert!(is_held(&mut core, 0));
}

#[test]
fn the_exit_follows_the_last_byte_and_late_viewers_still_see_it() {
    let (mut core, mut client) = with_controller();
    let all = b"last words\r\n".to_vec();
    core.output(&all);
    core.exited(7);
    while client.pull(&mut core, 4, ms(0), &all) {}
    assert_eq!((client.at, client.exit, client.ended), (Some(12), Some(7), true));
    let mut late = Client::attach(&mut core, Uuid::from_u128(2), AttachMode::View, None, ms(0));
    while late.pull(&mut core, 4096, ms(0), &all) {}
    assert_eq!((late.exit, late.ended), (Some(7), true));
    assert_eq!(late.picture(), client.picture());
}

#[test]
fn queries_are_answered_by_the_guest_only_when_nobody_controls() {
    let ask = b"\x1b[6n";
    let mut core = Core::new(START, 8192, SCROLLBACK);
    core.output(ask);
    assert_eq!(core.pending_input(), b"\x1b[1;1R");
    core.input_written(6);
    let id = core.attach(&control(), ms(0));
    core.output(ask);
    core.detach(id, Departure::Closed, ms(0));
    assert_eq!(core.pending_input(), b"", "that one was the controller's to answer");
    core.output(ask);
    assert_eq!(core.pending_input(), b"\x1b[1;1R");
    for _ in 0..100_000 {
        core.output(ask);
    }
    assert!(core.pending_input().len() <= 64 * 1024);
}

#[test]
fn the_emulator_is_never_more_than_half_a_ring_behind() {
    let (mut core, _) = with_controller();
    for _ in 0..100 {
        core.output(&FLOOD);
        assert!(core.lag() <= 512 * 1024);
    }
    assert!(core.lag() > 0);
    while core.catch_up(CATCH_UP_BYTES) {}
    assert_eq!(core.lag(), 0);
}

#[test]
fn a_storm_of_sizes_is_bounded_and_still_exact() {
    let mut world = World::new(100_000);
    world.apply(Step::Attach(AttachMode::Control));
    for n in 0..3000u16 {
        world.apply(Step::Resize(0, 10 + n % 30, 3 + n % 7));
        if n % 3 == 0 {
            world.apply(Step::Output(Written(vec![b'a' + (n % 26) as u8; 7]), 0));
        }
    }
    world.settle();
}
