//! The routes of files: one arm each, no decisions.

use super::{archive, content, extract, info, list, mkdir, mode_of, path_of, remove, rename, upload, watch};
use crate::guest::Guest;
use crate::refusal::{invalid, refuse};
use crate::rights::Rights;
use rexec_api::error::ErrorCode;
use rexec_api::files::LIST_ENTRIES_MAX;
use rexec_api::guest::{GuestError, WriteCondition};
use rexec_channel::Call;
use serde_json::json;
use std::path::PathBuf;

/// Answers a call whose path goes on with `parts` after `/files`.
pub async fn route(guest: &Guest, call: Call, parts: &[&str]) {
    let workspace = match guest.workspace() {
        Ok(workspace) => workspace,
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    let rights = workspace.rights.clone();
    match (call.method().as_str(), parts) {
        ("GET", []) => content::read(&rights, call).await,
        ("PUT", []) => content::write(&rights, call, None).await,
        ("PUT", ["conditional"]) => match condition(&call) {
            Ok(condition) => content::write(&rights, call, Some(condition)).await,
            Err(error) => call.answer::<()>(Err(error)).await,
        },
        ("DELETE", []) => {
            let home = PathBuf::from(&workspace.user().home);
            work(&rights, call, |call| {
                let (path, recursive) = (path_of(call, "path")?, flag(call, "recursive")?);
                Ok(move || remove(&path, recursive, &home).map(|()| json!({})))
            })
            .await;
        }
        ("GET", ["stat"]) => {
            work(&rights, call, |call| {
                let path = path_of(call, "path")?;
                Ok(move || info::stat(&path))
            })
            .await;
        }
        ("GET", ["list"]) => {
            work(&rights, call, |call| {
                let (path, after) = (path_of(call, "path")?, call.query("after"));
                let limit = number(call, "limit")?.map_or(LIST_ENTRIES_MAX, |limit| limit as usize);
                Ok(move || list::list(&path, after.as_deref(), limit))
            })
            .await;
        }
        ("POST", ["mkdir"]) => {
            work(&rights, call, |call| {
                let (path, mode) = (path_of(call, "path")?, mode_of(call)?);
                Ok(move || mkdir(&path, mode))
            })
            .await;
        }
        ("POST", ["move"]) => {
            work(&rights, call, |call| {
                let (from, to) = (path_of(call, "from")?, path_of(call, "to")?);
                let overwrite = flag(call, "overwrite")?;
                Ok(move || rename(&from, &to, overwrite))
            })
            .await;
        }
        ("PUT", ["upload"]) => upload::take(&workspace, call).await,
        ("GET", ["upload"]) => {
            work(&rights, call, |call| {
                let (path, upload) = (path_of(call, "path")?, upload::upload_of(call)?);
                Ok(move || upload::state(&path, upload))
            })
            .await;
        }
        ("DELETE", ["upload"]) => {
            work(&rights, call, |call| {
                let (path, upload) = (path_of(call, "path")?, upload::upload_of(call)?);
                Ok(move || upload::forget(&path, upload).map(|()| json!({})))
            })
            .await;
        }
        ("GET", ["watch"]) => match flag(&call, "recursive") {
            Ok(recursive) => watch::send(&rights, call, recursive).await,
            Err(error) => call.answer::<()>(Err(error)).await,
        },
        ("GET", ["archive"]) => archive::send(&rights, call).await,
        ("POST", ["extract"]) => extract::take(&rights, call).await,
        _ => {
            let message = "This guest does not know that request; restart the workspace to renew it.";
            call.answer::<()>(Err(refuse(ErrorCode::NoSuchRoute, message))).await;
        }
    }
}

/// Reads the call's parameters, does the work with the user's rights, answers.
async fn work<T, W>(rights: &Rights, call: Call, prepare: impl FnOnce(&Call) -> Result<W, GuestError>)
where
    T: serde::Serialize + Send + 'static,
    W: FnOnce() -> Result<T, GuestError> + Send + 'static,
{
    let done = match prepare(&call) {
        Ok(work) => rights.run(work).await,
        Err(error) => Err(error),
    };
    call.answer(done).await;
}

fn condition(call: &Call) -> Result<WriteCondition, GuestError> {
    match call.query("if").as_deref() {
        Some("absent") => Ok(WriteCondition::Absent),
        Some("present") => Ok(WriteCondition::Present),
        Some("etag") => {
            let etags = call.query("etags").unwrap_or_default();
            Ok(WriteCondition::Etag(etags.split(',').map(str::to_owned).collect()))
        }
        _ => Err(invalid("if must be absent, present or etag")),
    }
}

fn flag(call: &Call, name: &str) -> Result<bool, GuestError> {
    match call.query(name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(invalid(format!("{name} must be true or false"))),
    }
}

fn number(call: &Call, name: &str) -> Result<Option<u64>, GuestError> {
    let text = call.query(name);
    text.map(|text| text.parse().map_err(|_| invalid(format!("{name} must be a number")))).transpose()
}
