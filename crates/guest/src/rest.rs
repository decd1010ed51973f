//! Giving back, at rest, the memory that work took: the guest is in every workspace, and most of them wait.
//!
//! What the allocator holds free goes to the kernel, and the program's own pages are let go: they are clean,
//! come from a file, and those that are used again are mapped again from the page cache. Nearly all that the guest
//! ran since it began (booting, a shell's start, a burst of output) it does not need to wait.

use crate::guest::Guest;
use crate::terminal::unix_ms;
use std::rc::Rc;
use std::time::Duration;

/// At rest is who has done nothing for this long: what is let go must not be missed between two keys.
const REST_MS: i64 = 5_000;
/// Less work than this takes no memory worth giving back.
const WORK_MIN: Duration = Duration::from_millis(10);
/// How often to look whether there is something to give back, and after it was given back.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_AT_REST: Duration = Duration::from_secs(10);

/// Gives memory back whenever nobody has done anything for a while, nothing is under way (a large file, say), and
/// something was before.
pub async fn keep(guest: Rc<Guest>) {
    let began_ms = unix_ms();
    let mut given_back_at = Duration::ZERO;
    loop {
        let before = worked();
        let due = before.saturating_sub(given_back_at) >= WORK_MIN;
        tokio::time::sleep(if due { LOOK } else { LOOK_AT_REST }).await;
        let under_way = worked().saturating_sub(before) >= WORK_MIN;
        let idle_ms = unix_ms() - guest.last_busy_ms().max(began_ms);
        if due && !under_way && idle_ms >= REST_MS {
            give_back();
            given_back_at = worked();
        }
    }
}

fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn give_back() {
    // SAFETY: `malloc_trim` takes no pointer, and may be called whenever `free` may.
    unsafe { libc::malloc_trim(0) };
    let_go_of_program();
}

/// The linker's marks of where the program's constants and code begin and end. All between them is as it is in the file:
/// what the loader changes comes after.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn let_go_of_program() {
    unsafe extern "C" {
        #[link_name = "__executable_start"]
        static START: u8;
        #[link_name = "etext"]
        static END: u8;
    }
    let page = rustix::param::page_size();
    let from = (&raw const START as usize).next_multiple_of(page);
    let to = (&raw const END as usize) & !(page - 1);
    // SAFETY: the range is of this program's file, mapped privately and never written; the kernel reads it anew when it
    // is used again. Advice that is refused changes nothing.
    unsafe { libc::madvise(from as *mut libc::c_void, to.saturating_sub(from), libc::MADV_DONTNEED) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn let_go_of_program() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_is_there_again() {
        give_back();
        assert_eq!("as before".to_uppercase(), "AS BEFORE");
    }
}
