//! The content of one file on its way out, whole or in part (RFC 9110, sections 13 and 14).

use super::{PathQuery, outgoing, query_path};
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Path, Query};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use rexec_api::error::{ErrorBody, ErrorCode};
use rexec_api::files::FileInfo;
use rexec_api::guest::{FileContent, ReadSpec, WriteCondition};
use rexec_api::ids::WorkspaceId;

const FILE_MODE: HeaderName = HeaderName::from_static("x-rexec-file-mode");
/// Longest `Range` that is looked at: one range of two 64-bit numbers, generously.
const RANGE_BYTES_MAX: usize = 128;
/// Most etags of an `If-None-Match` that are looked at.
const ETAGS_MAX: usize = 32;
/// Longest etag of a guest that is passed on.
const ETAG_BYTES_MAX: usize = 96;

/// Read a file. Takes `Range` (one range), `If-Range`, `If-None-Match`, and HEAD.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/files", tag = "files",
    params(("id" = WorkspaceId, Path), PathQuery),
    responses(
        (status = 200, description = "The content.", content_type = "application/octet-stream"),
        (status = 206, description = "The part that was asked for.", content_type = "application/octet-stream"),
        (status = 304, description = "It is still as `If-None-Match` says."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
pub(super) async fn read(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<PathQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response> {
    let spec = spec_of(&method, &headers);
    let path = query_path(&query.path, query.path_b64.as_deref())?;
    let turn = app.streams.open(&actor)?;
    let (content, body) = match app.files.read(&actor, id, &path, &spec).await {
        Err(error) if error.code == ErrorCode::RangeNotSatisfiable => {
            let all = error.details["size"].as_u64().map(|size| format!("bytes */{size}"));
            let mut response = error.into_response();
            put(response.headers_mut(), header::CONTENT_RANGE, all);
            return Ok(response);
        }
        read => read?,
    };
    let etag = etag_of(&content.info);
    let mut response = if etag.as_ref().is_some_and(|_| spec.unless_etag.contains(&content.info.etag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let held = (app.workspaces.in_use(id), turn);
        let mut response = outgoing(body, content.part.map(|part| part.bytes), held).into_response();
        describe(&mut response, &content);
        response
    };
    let headers = response.headers_mut();
    put(headers, header::ETAG, etag);
    put(headers, header::ACCEPT_RANGES, Some("bytes".to_owned()));
    // Kept by nobody in between; whoever has it asks whether it still holds.
    put(headers, header::CACHE_CONTROL, Some("private, no-cache".to_owned()));
    Ok(response)
}

fn describe(response: &mut Response, content: &FileContent) {
    if let Some(part) = content.part.filter(|part| part.ranged) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = part.first.saturating_add(part.bytes).saturating_sub(1);
        let range = format!("bytes {}-{last}/{}", part.first, content.info.size);
        put(response.headers_mut(), header::CONTENT_RANGE, Some(range));
    }
    let headers = response.headers_mut();
    // Never a type that a browser would run on our origin.
    put(headers, header::CONTENT_TYPE, Some("application/octet-stream".to_owned()));
    put(headers, header::CONTENT_DISPOSITION, Some("attachment".to_owned()));
    put(headers, header::CONTENT_LENGTH, content.part.map(|part| part.bytes.to_string()));
    put(headers, FILE_MODE, Some(format!("{:o}", content.info.mode & 0o7777)));
}

pub(super) fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<String>) {
    if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
        headers.insert(name, value);
    }
}

/// What of a request's fields is the guest's to know. `Range` counts for GET alone.
fn spec_of(method: &Method, headers: &HeaderMap) -> ReadSpec {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let head = method == Method::HEAD;
    let range = text(header::RANGE).filter(|range| !head && range.len() <= RANGE_BYTES_MAX);
    ReadSpec {
        range: range.map(str::to_owned),
        // A date, or a weak etag, never holds: then all of the file is sent.
        if_etag: text(header::IF_RANGE).map(|field| unquoted(field).unwrap_or_default().to_owned()),
        unless_etag: text(header::IF_NONE_MATCH).map(etags).unwrap_or_default(),
        head,
    }
}

/// What a request to write says must be true of the file (RFC 9110, sections 13.1.1 and 13.1.2). Of
/// `If-None-Match` only `*` says something that a write could mean.
pub(super) fn condition_of(headers: &HeaderMap) -> Result<Option<WriteCondition>> {
    let field = |name: HeaderName| {
        let text = headers.get(&name).map(|value| value.to_str().map(str::trim).unwrap_or_default());
        (text, name)
    };
    match (field(header::IF_MATCH), field(header::IF_NONE_MATCH)) {
        ((None, _), (None, _)) => Ok(None),
        ((Some("*"), _), (None, _)) => Ok(Some(WriteCondition::Present)),
        ((None, _), (Some("*"), _)) => Ok(Some(WriteCondition::Absent)),
        ((Some(field), _), (None, _)) => {
            // Compared strongly: a weak etag never holds.
            let etags = field.split(',').filter_map(unquoted).take(ETAGS_MAX).filter(|etag| is_etag(etag));
            Ok(Some(WriteCondition::Etag(etags.map(str::to_owned).collect())))
        }
        (_, (_, name)) => Err(Error::field(
            name.as_str(),
            "A write takes `If-Match` with etags or `*`, or `If-None-Match: *` for a file that must not be there.",
        )),
    }
}

/// The etags of an `If-None-Match`, compared weakly.
fn etags(field: &str) -> Vec<String> {
    let each = field.split(',').map(str::trim).map(|etag| etag.strip_prefix("W/").unwrap_or(etag));
    each.filter_map(unquoted).take(ETAGS_MAX).map(str::to_owned).collect()
}

fn unquoted(etag: &str) -> Option<&str> {
    etag.trim().strip_prefix('"')?.strip_suffix('"').filter(|etag| !etag.is_empty() && etag.len() <= ETAG_BYTES_MAX)
}

/// The guest's etag, if it is of the form that ours have.
pub(super) fn etag_of(info: &FileInfo) -> Option<String> {
    let etag = &info.etag;
    is_etag(etag).then(|| format!("\"{etag}\""))
}

fn is_etag(etag: &str) -> bool {
    !etag.is_empty()
        && etag.len() <= ETAG_BYTES_MAX
        && etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(method: Method, fields: &[(HeaderName, &'static str)]) -> ReadSpec {
        let headers = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        spec_of(&method, &headers)
    }

    #[test]
    fn fields_become_what_the_guest_is_asked() {
        let got = spec(Method::GET, &[(header::RANGE, "bytes=0-1"), (header::IF_RANGE, "\"a-b\"")]);
        assert_eq!((got.range.as_deref(), got.if_etag.as_deref()), (Some("bytes=0-1"), Some("a-b")));
        // What never matches is no reason to trust the range.
        for never in ["W/\"a-b\"", "Sat, 29 Oct 1994 19:43:31 GMT", "a-b"] {
            assert_eq!(spec(Method::GET, &[(header::IF_RANGE, never)]).if_etag.as_deref(), Some(""));
        }
        let got = spec(Method::GET, &[(header::IF_NONE_MATCH, "\"a\", W/\"b\" ,c, \"\"")]);
        assert_eq!(got.unless_etag, ["a", "b"]);
        let got = spec(Method::HEAD, &[(header::RANGE, "bytes=0-1")]);
        assert!(got.head && got.range.is_none());
    }

    #[test]
    fn a_write_says_what_must_be_true() {
        let condition = |fields: &[(HeaderName, &'static str)]| {
            let headers = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
            condition_of(&headers).map_err(|error| error.code)
        };
        assert_eq!(condition(&[]), Ok(None));
        assert_eq!(condition(&[(header::IF_MATCH, "*")]), Ok(Some(WriteCondition::Present)));
        assert_eq!(condition(&[(header::IF_NONE_MATCH, "*")]), Ok(Some(WriteCondition::Absent)));
        let etags = WriteCondition::Etag(vec!["a-b".into(), "c".into()]);
        assert_eq!(condition(&[(header::IF_MATCH, "\"a-b\", W/\"x\", \"c\", d")]), Ok(Some(etags)));
        // What matches nothing is a condition all the same.
        assert_eq!(condition(&[(header::IF_MATCH, "W/\"x\"")]), Ok(Some(WriteCondition::Etag(vec![]))));
        for fields in
            [&[(header::IF_NONE_MATCH, "\"a\"")][..], &[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")]]
        {
            assert_eq!(condition(fields), Err(ErrorCode::InvalidRequest));
        }
    }
}
