//! Pages of lists, newest first: ids are UUIDv7, so their order as text is the order of creation.

use crate::error::Error;
use rexec_api::Page;
use rexec_api::error::ErrorCode;

/// Entries of one page.
const ENTRIES_MAX: usize = 100;
/// How many rows to ask the database for: one more than is shown tells whether another page follows.
pub const FETCH: i64 = ENTRIES_MAX as i64 + 1;

/// The id that those of a page come before, given the page before; without one, a text beyond every id.
pub fn before(cursor: Option<impl ToString>) -> String {
    cursor.map_or_else(|| "g".to_owned(), |id| id.to_string())
}

/// A cursor that no page has told.
pub fn bad_cursor() -> Error {
    let message = "`cursor` must be the `next` of the page before. Leave it out to begin with the first page.";
    Error::new(ErrorCode::InvalidCursor, message).details(serde_json::json!({ "field": "cursor" }))
}

/// The page of [`FETCH`] rows.
pub fn of<R, V>(mut rows: Vec<R>, id: impl Fn(&R) -> String, view: impl Fn(&R) -> V) -> Page<V> {
    let more = rows.len() > ENTRIES_MAX;
    rows.truncate(ENTRIES_MAX);
    let next = rows.last().filter(|_| more).map(id);
    Page { items: rows.iter().map(view).collect(), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_of_the_next() {
        let page = |rows: u32| of((0..rows).collect(), u32::to_string, |n| *n);
        assert_eq!(page(3).next, None);
        assert_eq!((page(100).items.len(), page(100).next), (100, None));
        assert_eq!((page(101).items.len(), page(101).next), (100, Some("99".to_owned())));
    }
}
