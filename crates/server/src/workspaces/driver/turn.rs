//! The wait for the host's engine, before a container is made or started.

use super::Driver;
use crate::hosts::turns::{Rank, Standing};

impl Driver {
    /// Whether its turn has come; if not, somebody has asked for something, and its place is kept meanwhile.
    pub(super) async fn take_turn(&mut self, ticket: u64, is_warm: bool) -> bool {
        let rank = if is_warm { Rank::Warm } else { Rank::Asked };
        let mut place = self.place.take().unwrap_or_else(|| self.host.turns.line_up(rank));
        loop {
            let standing = place.standing();
            self.slot.tell_queue(match standing {
                Standing::Turn => None,
                Standing::Waiting(position) => Some(position),
            });
            if standing == Standing::Turn {
                self.place = Some(place);
                return true;
            }
            tokio::select! {
                () = place.moved() => {}
                () = self.slot.nudged(ticket) => {
                    self.place = Some(place);
                    return false;
                }
            }
        }
    }

    /// Others may have its turn, or its place.
    pub(super) fn give_up_turn(&mut self) {
        if self.place.take().is_some() {
            self.slot.tell_queue(None);
        }
    }
}
