//! This machine as a joined one: what is known of its servers, its connection to one, and its unit of systemd.

mod link;
mod state;
mod unit;

pub use link::{End, stay};
pub use state::{Known, Lock};
pub use unit::unit;

use crate::failure::{Failure, Result};

/// The guest's own programs that a server may ask for, run by this one.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Verb {
    Sftp,
}

pub fn serve(verb: Verb) -> Result<()> {
    match verb {
        Verb::Sftp => rexec_guest::sftp::run().map_err(Failure::io("sftp")),
    }
}
