//! Visitors of previews: a server in a workspace, and requests to it as browsers and programs make them.

use super::workspaces::{PATIENCE, Stage, eventually};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use rexec_api::ids::WorkspaceId;
use rexec_api::ports::{OpenedPort, PortList};
use serde_json::{Value, json};
use std::time::Duration;

const SERVER: &str = include_str!("preview_server.py");
/// As a browser says it that goes to a page.
pub const PAGE: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// One who asks a preview.
pub struct Visitor {
    pub http: reqwest::Client,
    /// Where the server listens.
    pub base: String,
    pub host: String,
    pub cookie: Option<String>,
}

#[derive(Debug)]
pub struct Seen {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A header of the request, as the server in the workspace had it.
    pub fn told(&self, name: &str) -> Vec<String> {
        let body = self.json();
        let pairs = body["headers"].as_array().unwrap().iter();
        let named = pairs.filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name));
        named.map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
    }
}

impl Visitor {
    pub fn of(base: &str, host: &str) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        let http = http.timeout(PATIENCE).build().unwrap();
        Self { http, base: base.to_owned(), host: host.to_owned(), cookie: None }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base)).header("host", &self.host);
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Seen {
        let mut request = self.request(Method::GET, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        seen(request.send().await.unwrap()).await
    }

    /// Goes to the address that opens the preview and keeps its cookie; gives where it led.
    pub async fn enter(&mut self, url: &str) -> String {
        let path = url.splitn(4, '/').nth(3).unwrap();
        let answer = self.get(&format!("/{path}"), &[PAGE]).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        let cookie = answer.header("set-cookie");
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && !cookie.contains("Domain"),
            "{cookie}"
        );
        self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        answer.header("location").to_owned()
    }
}

pub async fn seen(response: reqwest::Response) -> Seen {
    let (status, headers) = (response.status(), response.headers().clone());
    Seen { status, headers, text: response.text().await.unwrap() }
}

impl Stage {
    /// Starts the tests' web server in a workspace and waits until it listens.
    pub async fn serve(&self, workspace: WorkspaceId, port: u16) {
        self.terminal(workspace, &["python3", "-c", SERVER, &port.to_string()]).await;
        eventually("the server to listen", async || {
            let ports = self.ports(workspace).await;
            ports.items.iter().any(|view| view.port == port && view.listening).then_some(())
        })
        .await;
    }

    pub async fn ports(&self, workspace: WorkspaceId) -> PortList {
        let path = format!("/api/workspaces/{workspace}/ports");
        let response = self.client.request(Method::GET, &path).send().await.unwrap();
        response.error_for_status().unwrap().json().await.unwrap()
    }

    pub async fn set_port(&self, workspace: WorkspaceId, port: &str, set: Value) -> Seen {
        let path = format!("/api/workspaces/{workspace}/ports/{port}");
        seen(self.client.request(Method::PUT, &path).json(&set).send().await.unwrap()).await
    }

    pub async fn open_port(&self, workspace: WorkspaceId, port: u16, path: &str) -> OpenedPort {
        let route = format!("/api/workspaces/{workspace}/ports/{port}/open");
        let request = self.client.request(Method::POST, &route).json(&json!({ "path": path }));
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// Whoever asks for a port's preview at its name below `localhost`.
    pub fn stranger(&self, workspace: WorkspaceId, port: u16) -> Visitor {
        let listens = self.server.running.addr.port();
        let host = format!("{port}-{}.localhost:{listens}", workspace.0.simple());
        Visitor::of(&self.server.base, &host)
    }

    /// The same, let in as the owner.
    pub async fn guest(&self, workspace: WorkspaceId, port: u16) -> Visitor {
        let mut visitor = self.stranger(workspace, port);
        let opened = self.open_port(workspace, port, "/").await;
        visitor.enter(&opened.url).await;
        visitor
    }
}

/// A time from now, as the API takes it.
pub fn in_a_while(wait: Duration) -> String {
    (jiff::Timestamp::now() + wait).to_string()
}
