//! The routes of `rexec_api::guest`: one arm each, no decisions.

use crate::guest::Guest;
use crate::link::Dialler;
use crate::refusal::refuse;
use crate::{attach, dial, exec, files, listen, ports, way_out};
use rexec_api::error::ErrorCode;
use rexec_api::guest::{AttachSpec, Configure, GuestError, TerminalSpec, WayOut};
use rexec_api::ids::TerminalId;
use rexec_channel::Call;
use serde_json::json;
use std::path::Path;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Serves one connection until it ends. With a dialler, terminals may have lanes.
pub async fn serve(guest: Rc<Guest>, io: impl AsyncRead + AsyncWrite + Unpin, dialler: Option<Rc<Dialler>>) {
    // A broken connection is the server's to notice and to make again.
    let _ = rexec_channel::serve(io, move |call| route(guest.clone(), dialler.clone(), call)).await;
}

/// Answers what comes by the control socket, where there are no lanes.
pub fn handler(guest: Rc<Guest>) -> impl Fn(Call) -> BoxLocal + Clone {
    move |call| Box::pin(route(guest.clone(), None, call))
}

type BoxLocal = std::pin::Pin<Box<dyn Future<Output = ()>>>;

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
        (_, ["files", ..]) => files::route(&guest, call, &parts[1..]).await,
        ("GET", ["ports"]) => {
            let found = ports::listening(&guest).await;
            call.answer(found).await;
        }
        ("GET", ["ports", "watch"]) => ports::watch::send(&guest, call).await,
        ("POST", ["dial"]) => match guest.workspace() {
            Ok(workspace) => dial::dial(&workspace.rights, call).await,
            Err(error) => call.answer::<()>(Err(error)).await,
        },
        ("POST", ["listen"]) => listen::listen(&guest, call).await,
        ("POST", ["accepted"]) => listen::accepted(&guest, call).await,
        ("POST", ["way-out"]) => {
            let tried = match call.json::<WayOut>().await {
                Ok(ways) => way_out::try_ways(Path::new("/"), ways).await,
                Err(error) => Err(error),
            };
            call.answer(tried).await;
        }
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
                Ok(spec) => workspace
                    .identity(spec.user.as_deref())
                    .and_then(|identity| terminals.create(&workspace.launcher, identity, &spec)),
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
