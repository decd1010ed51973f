//! The life of a workspace as a pure decision: from what should be and what is seen, the next step.
//!
//! ```text
//!              create                     (image absent)
//!   pending ------------> creating <--------- pulling
//!                            |  start, guest connected and configured
//!                            v
//!              resume     running  --- pause ---> paused
//!                ^        |  ^  |                   |
//!                |  stop  |  |  | engine silent     | stop (thaws first)
//!                |        v  |  v                   |
//!                |  stopping |  unreachable         |
//!                |        |  |                      |
//!                |        v  | start                |
//!                +----- stopped <-------------------+
//!
//!   error: a step was refused for good; parked until someone asks again.
//!   deleted: the container is gone, the home kept for a while or gone; the record stays as a tombstone.
//! ```
//!
//! Invariant: every step may be repeated and may be interrupted; deciding again from what is then
//! seen leads to the same end. Nothing here does I/O or knows the time.

use rexec_api::workspaces::WorkspaceStatus;

/// What its owner wants of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    Running,
    Paused,
    Stopped,
    Deleted,
}

impl Desired {
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Stopped, Self::Deleted];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.as_str() == text)
    }
}

/// What the record asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    pub desired: Desired,
    /// Raised by each request to restart.
    pub boot_seq: i64,
    /// The `boot_seq` that the container was last started for.
    pub booted_seq: i64,
}

/// What the engine shows of the workspace's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Missing,
    Created,
    Running,
    Paused,
    Exited,
    /// The engine is at work on it.
    Changing,
}

/// What is known besides the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Around {
    pub image_present: bool,
    /// The guest of this boot is connected and has its configuration.
    pub guest_ready: bool,
    /// It is to be made again from another image than it was made from.
    pub image_outdated: bool,
    /// The home has what it is to begin with.
    pub home_filled: bool,
    /// Somebody waits for a snapshot of it.
    pub snapshot_wanted: bool,
    /// It is to have other limits.
    pub limits_wanted: bool,
    /// It is to be moved to another host.
    pub move_wanted: bool,
}

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Pull,
    /// Make it again from the image that its repository names: fetch that, remove the container, and take it over.
    AdoptImage,
    /// Copy into the home what it is to begin with.
    FillHome,
    /// All is as it should be, and that is what the snapshot is to show.
    Snapshot(WorkspaceStatus),
    /// Bring all there is of it, at rest, to another host.
    Move,
    /// Give the container other limits where there is one.
    Limit,
    Create,
    Start,
    /// Reach the guest and give it its configuration.
    Connect,
    Pause,
    Unpause,
    Stop,
    /// Remove the container; the home stays.
    Remove,
    /// Keep the home for a while or remove it, as its owner wants, and bury the record.
    Release,
    /// The engine is busy with the container: look again shortly.
    Wait,
    /// All is as it should be.
    Settled(WorkspaceStatus),
}

pub fn decide(intent: Intent, seen: Seen, around: Around) -> Step {
    match next(intent, seen, around) {
        // Whatever is made or started next has them from the first.
        Step::Create | Step::Start | Step::Settled(_) if around.limits_wanted => Step::Limit,
        Step::Settled(status) if around.snapshot_wanted && around.home_filled => Step::Snapshot(status),
        Step::Settled(WorkspaceStatus::Stopped) if around.move_wanted && around.home_filled => Step::Move,
        step => step,
    }
}

fn next(intent: Intent, seen: Seen, around: Around) -> Step {
    match intent.desired {
        Desired::Deleted => match seen {
            Seen::Missing => Step::Release,
            _ => Step::Remove,
        },
        Desired::Stopped => match seen {
            Seen::Missing | Seen::Created | Seen::Exited => Step::Settled(WorkspaceStatus::Stopped),
            // A frozen process cannot hear that it should end.
            Seen::Paused => Step::Unpause,
            Seen::Running => Step::Stop,
            Seen::Changing => Step::Wait,
        },
        Desired::Paused => match seen {
            Seen::Paused => Step::Settled(WorkspaceStatus::Paused),
            Seen::Running => Step::Pause,
            _ => bring_up(intent, seen, around),
        },
        Desired::Running => bring_up(intent, seen, around),
    }
}

fn bring_up(intent: Intent, seen: Seen, around: Around) -> Step {
    match seen {
        Seen::Changing => Step::Wait,
        _ if around.image_outdated => Step::AdoptImage,
        Seen::Missing if !around.home_filled => Step::FillHome,
        Seen::Missing if around.image_present => Step::Create,
        Seen::Missing => Step::Pull,
        Seen::Created | Seen::Exited => Step::Start,
        Seen::Paused => Step::Unpause,
        Seen::Running if intent.booted_seq < intent.boot_seq => Step::Stop,
        Seen::Running if around.guest_ready => Step::Settled(WorkspaceStatus::Running),
        Seen::Running => Step::Connect,
    }
}

/// What a request would change, or why it cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Start,
    Stop,
    Restart,
    Pause,
    Resume,
}

/// What a request makes of the intent; `None` when the state does not allow it.
pub fn ask(intent: Intent, status: WorkspaceStatus, request: Request) -> Option<Intent> {
    use WorkspaceStatus as S;
    let want = |desired| Some(Intent { desired, ..intent });
    match (request, intent.desired) {
        (_, Desired::Deleted) => None,
        (Request::Start, _) => want(Desired::Running),
        (Request::Stop, _) => want(Desired::Stopped),
        (Request::Restart, _) => Some(Intent { desired: Desired::Running, boot_seq: intent.boot_seq + 1, ..intent }),
        (Request::Pause, Desired::Paused) => Some(intent),
        (Request::Pause, Desired::Running) if matches!(status, S::Running) => want(Desired::Paused),
        (Request::Pause, _) => None,
        (Request::Resume, Desired::Paused | Desired::Running) => want(Desired::Running),
        (Request::Resume, _) => None,
    }
}

/// Whether there is anything to do for a request that makes `after` of `before`: what is so already, or on its
/// way to be, is no news. What has failed is tried again.
pub fn changes(before: Intent, after: Intent, status: WorkspaceStatus) -> bool {
    before != after || status == WorkspaceStatus::Error
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A world that obeys, so that deciding and obeying can be run to the end.
    #[derive(Debug, Clone, Copy)]
    struct World {
        intent: Intent,
        seen: Seen,
        around: Around,
        released: bool,
    }

    impl World {
        fn obey(&mut self, step: Step) {
            match step {
                Step::Pull => self.around.image_present = true,
                Step::AdoptImage => {
                    self.around.image_outdated = false;
                    self.seen = Seen::Missing;
                }
                Step::FillHome => self.around.home_filled = true,
                Step::Snapshot(_) => self.around.snapshot_wanted = false,
                Step::Limit => self.around.limits_wanted = false,
                Step::Move => {
                    self.around.move_wanted = false;
                    self.seen = Seen::Missing;
                }
                Step::Create => self.seen = Seen::Created,
                Step::Start => {
                    self.seen = Seen::Running;
                    self.intent.booted_seq = self.intent.boot_seq;
                    self.around.guest_ready = false;
                }
                Step::Connect => self.around.guest_ready = true,
                Step::Pause => self.seen = Seen::Paused,
                Step::Unpause => self.seen = Seen::Running,
                Step::Stop => self.seen = Seen::Exited,
                Step::Remove => self.seen = Seen::Missing,
                Step::Release => self.released = true,
                Step::Wait => self.seen = Seen::Running,
                Step::Settled(_) => {}
            }
        }
    }

    fn world() -> impl Strategy<Value = World> {
        let seen = prop_oneof![
            Just(Seen::Missing),
            Just(Seen::Created),
            Just(Seen::Running),
            Just(Seen::Paused),
            Just(Seen::Exited),
            Just(Seen::Changing)
        ];
        let around = any::<[bool; 7]>().prop_map(
            |[image_present, guest_ready, home_filled, snapshot_wanted, limits_wanted, image_outdated, move_wanted]| {
                Around {
                    image_present,
                    guest_ready,
                    home_filled,
                    snapshot_wanted,
                    limits_wanted,
                    image_outdated,
                    move_wanted,
                }
            },
        );
        (prop::sample::select(Desired::ALL.to_vec()), 0..3i64, 0..3i64, seen, around).prop_map(
            |(desired, boot_seq, booted_seq, seen, around)| World {
                intent: Intent { desired, boot_seq, booted_seq },
                seen,
                around,
                released: false,
            },
        )
    }

    proptest! {
        /// From anywhere, obeying leads to what is wanted in a few steps and stays there.
        #[test]
        fn every_world_settles(mut world in world()) {
            for _ in 0..12 {
                let step = decide(world.intent, world.seen, world.around);
                if world.released { break; }
                if let Step::Settled(status) = step {
                    prop_assert_eq!(status.as_str(), world.intent.desired.as_str());
                    return Ok(());
                }
                world.obey(step);
            }
            prop_assert!(world.released && world.intent.desired == Desired::Deleted);
        }

        /// Nothing that runs, or is to run, is moved.
        #[test]
        fn only_what_rests_moves(world in world()) {
            if decide(world.intent, world.seen, world.around) == Step::Move {
                prop_assert_eq!(world.intent.desired, Desired::Stopped);
                prop_assert!(!matches!(world.seen, Seen::Running | Seen::Paused | Seen::Changing));
            }
        }

        /// A home is only ever let go when its owner wants the workspace deleted.
        #[test]
        fn only_deletion_destroys(world in world()) {
            let step = decide(world.intent, world.seen, world.around);
            if matches!(step, Step::Release | Step::Remove) {
                prop_assert_eq!(world.intent.desired, Desired::Deleted);
            }
        }
    }

    #[test]
    fn what_is_so_already_is_no_news() {
        let running = Intent { desired: Desired::Running, boot_seq: 1, booted_seq: 1 };
        let asked = |status, request| changes(running, ask(running, status, request).unwrap(), status);
        assert!(!asked(WorkspaceStatus::Running, Request::Start) && !asked(WorkspaceStatus::Running, Request::Resume));
        assert!(asked(WorkspaceStatus::Running, Request::Restart) && asked(WorkspaceStatus::Running, Request::Stop));
        assert!(asked(WorkspaceStatus::Error, Request::Start), "it is tried again");
    }

    #[test]
    fn requests_respect_the_state() {
        let running = Intent { desired: Desired::Running, boot_seq: 1, booted_seq: 1 };
        let stopped = Intent { desired: Desired::Stopped, ..running };
        assert_eq!(ask(running, WorkspaceStatus::Running, Request::Restart).unwrap().boot_seq, 2);
        assert_eq!(ask(stopped, WorkspaceStatus::Stopped, Request::Pause), None);
        assert_eq!(ask(stopped, WorkspaceStatus::Stopped, Request::Resume), None);
        assert_eq!(ask(running, WorkspaceStatus::Creating, Request::Pause), None);
        let gone = Intent { desired: Desired::Deleted, ..running };
        assert_eq!(ask(gone, WorkspaceStatus::Deleted, Request::Start), None);
    }
}
