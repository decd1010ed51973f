//! The page and its files, from a folder.

use crate::support::{Backend, Server, with_server};
use reqwest::{Method, StatusCode};
use std::path::Path;

fn page(dir: &Path) {
    std::fs::create_dir(dir.join("assets")).unwrap();
    std::fs::write(dir.join("index.html"), "<title>Rexec</title>").unwrap();
    std::fs::write(dir.join("assets/app-1234.js"), "console.log(1)").unwrap();
    std::fs::write(dir.join("assets/app-1234.js.br"), "brotli").unwrap();
    std::fs::write(dir.join("assets/app-1234.js.gz"), "gzip").unwrap();
}

async fn with_page(test: impl AsyncFnOnce(&Server)) {
    let dir = tempfile::tempdir().unwrap();
    page(dir.path());
    let web_dir = dir.path().display().to_string();
    with_server(Backend::Sqlite, &[("WEB_DIR", &web_dir)], test).await;
}

#[tokio::test]
async fn the_page_answers_its_own_routes() {
    with_page(async |server| {
        let html = [("accept", "text/html,*/*;q=0.8")];
        for path in ["/", "/index.html", "/workspaces/0197/terminal"] {
            let answer = server.send(Method::GET, path, &html, None).await;
            assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "<title>Rexec</title>"), "{path}");
            assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
            assert_eq!(answer.header("cache-control"), "no-cache");
            assert!(answer.header("content-security-policy").contains("script-src 'self'"));
        }
        for path in ["/assets/gone-1.js", "/api/gone", "/../secret", "/%2e%2e/secret"] {
            let answer = server.send(Method::GET, path, &[], None).await;
            assert_eq!(answer.code(), "no_such_route", "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn files_are_compressed_and_kept() {
    with_page(async |server| {
        let path = "/assets/app-1234.js";
        let cases = [
            ("gzip, deflate, br", "br", "brotli"),
            ("gzip", "gzip", "gzip"),
            ("br;q=0, gzip", "gzip", "gzip"),
            ("identity", "", "console.log(1)"),
        ];
        for (accepted, coding, text) in cases {
            let headers = [("accept-encoding", accepted)];
            let answer = server.send(Method::GET, path, &headers, None).await;
            assert_eq!((answer.header("content-encoding"), answer.text.as_str()), (coding, text));
            assert!(answer.header("cache-control").contains("immutable"));
            assert_eq!(answer.header("content-type"), "text/javascript; charset=utf-8");
            let etag = answer.header("etag").to_owned();
            let again = [("accept-encoding", accepted), ("if-none-match", &etag)];
            let answer = server.send(Method::GET, path, &again, None).await;
            assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
        }
    })
    .await;
}

#[tokio::test]
async fn the_description_has_a_page_of_its_own() {
    with_page(async |server| {
        let docs = server.get("/api/docs").await;
        assert_eq!(docs.status, StatusCode::OK);
        assert!(!docs.text.contains("//cdn") && !docs.text.contains("https://"), "loads from elsewhere");
        for path in ["/api/docs/docs.js", "/api/docs/docs.css"] {
            assert_eq!(server.get(path).await.status, StatusCode::OK);
        }
    })
    .await;
}
