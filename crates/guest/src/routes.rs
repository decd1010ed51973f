//! The routes of `rexec_api::guest`: one arm each, no decisions.

use crate::guest::Guest;
use crate::link::Dialler;
use crate::refusal::{invalid, refuse};
use crate::rights::Rights;
use crate::{attach, dial, exec, files, ports};
use rexec_api::error::ErrorCode;
use rexec_api::guest::{AttachSpec, Configure, GuestError, TerminalSpec};
use rexec_api::ids::TerminalId;
use rexec_channel::Call;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Serves one connection until it ends. With a dialler, terminals may have lanes.
pub async fn serve(guest: Rc<Guest>, io: impl AsyncRead + AsyncWrite + Unpin, dialler: Option<Rc<Dialler>>) {
    // A broken connection is the server's to notice and to make again.
    let _ = rexec_channel::serve(io, move |call| route(guest.clone(), dialler.clone(), call)).await;
}

async fn route(guest: Rc<Guest>, dialler: Option<Rc<Dialler>>, mut call: Call) {
    let path = call.path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match (call.method().as_str(), parts.as_slice()) {
        ("GET", ["hello"]) => call.answer(Ok(guest.hello())).await,
        ("POST", ["configure"]) => {
            let configured = match call.json::<Configure>().await {
                Ok(configure) => guest.configure(configure).await,
                Err(error) => Err(error),
            };
            call.answer(configured).await;
        }
        (_, ["terminals", ..]) => terminals(&guest, dialler.as_deref(), call, &parts[1..]).await,
        ("POST", ["exec"]) => exec::run(&guest, call).await,
        (_, ["files", ..]) => file_route(&guest, call, &parts[1..]).await,
        ("GET", ["ports"]) => {
            let found = listening(&guest).await;
            call.answer(found).await;
        }
        ("POST", ["dial"]) => match guest.workspace() {
            Ok(workspace) => dial::dial(&workspace.rights, call).await,
            Err(error) => call.answer::<()>(Err(error)).await,
        },
        ("GET", ["usage"]) => call.answer(guest.usage()).await,
        _ => no_such_route(call).await,
    }
}

async fn no_such_route(call: Call) {
    let error =
        refuse(ErrorCode::NoSuchRoute, "This guest does not know that request; restart the workspace to renew it.");
    call.answer::<()>(Err(error)).await;
}

fn terminal_id(text: &str) -> Result<TerminalId, GuestError> {
    text.parse().map_err(|_| refuse(ErrorCode::InvalidId, "That is not a terminal's id."))
}

async fn terminals(guest: &Guest, dialler: Option<&Dialler>, mut call: Call, parts: &[&str]) {
    let workspace = match guest.workspace() {
        Ok(workspace) => workspace,
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    let terminals = &workspace.terminals;
    match (call.method().as_str(), parts) {
        ("GET", []) => call.answer(Ok(terminals.list())).await,
        ("POST", []) => {
            let created = match call.json::<TerminalSpec>().await {
                Ok(spec) => terminals.create(&workspace.launcher, &spec),
                Err(error) => Err(error),
            };
            call.answer(created).await;
        }
        ("DELETE", [id]) => {
            let removed = match terminal_id(id) {
                Ok(id) => terminals.remove(id).await,
                Err(error) => Err(error),
            };
            call.answer(removed.map(|()| json!({}))).await;
        }
        ("POST", [id, "attach"]) => {
            let asked = terminal_id(id).and_then(|id| Ok((id, call.header::<AttachSpec>("x-rexec-attach")?)));
            match asked {
                Ok((id, spec)) => attach::run(terminals, id, spec, call, dialler).await,
                Err(error) => call.answer::<()>(Err(error)).await,
            }
        }
        _ => no_such_route(call).await,
    }
}

async fn file_route(guest: &Guest, call: Call, parts: &[&str]) {
    let rights = match guest.workspace() {
        Ok(workspace) => workspace.rights.clone(),
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    match (call.method().as_str(), parts) {
        ("GET", []) => files::read(&rights, call).await,
        ("PUT", []) => files::write(&rights, call).await,
        ("DELETE", []) => {
            let recursive = call.query("recursive");
            let recursive = match recursive.as_deref() {
                None | Some("false") => Ok(false),
                Some("true") => Ok(true),
                Some(_) => Err(invalid("recursive must be true or false")),
            };
            file_work(&rights, call, move |path, _| files::remove(&path, recursive?).map(|()| json!({}))).await;
        }
        ("GET", ["stat"]) => file_work(&rights, call, |path, _| files::stat(&path)).await,
        ("GET", ["list"]) => file_work(&rights, call, |path, _| files::list(&path)).await,
        ("POST", ["mkdir"]) => {
            file_work(&rights, call, |path, _| files::mkdir(&path).map(|()| json!({}))).await;
        }
        ("POST", ["move"]) => {
            file_work(&rights, call, |from, to| {
                let to = to.ok_or_else(|| invalid("to is missing"))?;
                files::rename(&from, &to).map(|()| json!({}))
            })
            .await;
        }
        _ => no_such_route(call).await,
    }
}

/// Work on the path that the call names (`path`, or `from` and `to`), with the user's rights.
async fn file_work<T>(
    rights: &Rights,
    call: Call,
    work: impl FnOnce(PathBuf, Option<PathBuf>) -> Result<T, GuestError> + Send + 'static,
) where
    T: serde::Serialize + Send + 'static,
{
    let paths = if call.query("from").is_some() {
        files::path_of(&call, "from").and_then(|from| {
            let to = files::path_of(&call, "to")?;
            Ok((from, Some(to)))
        })
    } else {
        files::path_of(&call, "path").map(|path| (path, None))
    };
    let done = match paths {
        Ok((path, to)) => rights.run(move || work(path, to)).await,
        Err(error) => Err(error),
    };
    call.answer(done).await;
}

/// The kernel lets the user look at the user's processes and root at root's, so both look.
async fn listening(guest: &Guest) -> Result<Value, GuestError> {
    let workspace = guest.workspace()?;
    let (listeners, owners) = workspace
        .rights
        .run(|| {
            let listeners = ports::listeners();
            let owners = ports::owners(&listeners);
            Ok((listeners, owners))
        })
        .await?;
    let described = Rights::own()
        .run(move || {
            let mut owners = owners;
            if owners.len() < listeners.len() {
                owners.extend(ports::owners(&listeners));
            }
            Ok(ports::describe(&listeners, &owners))
        })
        .await?;
    Ok(json!(described))
}
