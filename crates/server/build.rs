//! Builds the guest and the gateway as static binaries and hands their paths and a hash of both to the server, which
//! embeds them. `REXEC_GUEST_BINARY` names a guest that was built elsewhere, with `rexec-gateway` beside it.

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=REXEC_GUEST_BINARY");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = manifest.join("../..");
    for source in ["guest", "channel", "egress", "sftp", "api"] {
        println!("cargo::rerun-if-changed={}", root.join("crates").join(source).join("src").display());
        println!("cargo::rerun-if-changed={}", root.join("crates").join(source).join("Cargo.toml").display());
    }
    // The root's Cargo.toml has the guest's profile.
    for file in ["Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }

    // The page is embedded too: an empty folder lets the server build before the page is.
    fs::create_dir_all(root.join("web/dist")).expect("web/dist can be made");
    // A release embeds files that rustc has read; a page built for the first time it has not.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rerun-if-changed={}", root.join("web/dist/index.html").display());
    }

    let built = match env::var_os("REXEC_GUEST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build_guest(&root),
    };
    let mut hash = Sha256::new();
    for (name, built) in [("guest", built.clone()), ("gateway", built.with_file_name("rexec-gateway"))] {
        let bytes = fs::read(&built).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
        // A copy of our own, so that a later build of it cannot change what this one embeds.
        let copy = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join(name);
        fs::write(&copy, &bytes).expect("OUT_DIR is writable");
        println!("cargo::rustc-env=REXEC_{}_PATH={}", name.to_uppercase(), copy.display());
        hash.update(&bytes);
    }
    println!("cargo::rustc-env=REXEC_GUEST_HASH={}", hex::encode(&hash.finalize()[..8]));
}

/// Runs cargo for both with flags and a target directory of its own: a static binary wants
/// other flags than the server, and the outer cargo holds a lock on the outer directory.
fn build_guest(root: &Path) -> PathBuf {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let target = format!("{arch}-unknown-linux-gnu");
    let target_dir = target_dir().join("guest");
    let status = Command::new(env::var_os("CARGO").expect("cargo sets it"))
        .current_dir(root)
        .args(["build", "--package", "rexec-guest", "--bins", "--profile", "guest", "--locked"])
        .args(["--target", &target, "--target-dir"])
        .arg(&target_dir)
        // These would override RUSTFLAGS, or make the inner build check rather than build.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CLIPPY_ARGS")
        .env("RUSTFLAGS", format!("-C target-feature=+crt-static{}", packed_relocations()))
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "the guest did not build; the reason stands above");
    target_dir.join(&target).join("guest/rexec-guest")
}

/// Relocations of a position-independent program take 85 KB of the guest as a plain table, and are resident
/// in every workspace; packed (RELR) they take one. A static program applies them by itself, with a C
/// library that knows them: glibc 2.36 (sourceware.org/glibc, NEWS).
fn packed_relocations() -> &'static str {
    let version = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let minor = version.trim().strip_prefix("glibc 2.").and_then(|minor| minor.parse().ok());
    if minor >= Some(36) { " -C link-arg=-Wl,-z,pack-relative-relocs" } else { "" }
}

/// The outer target directory: OUT_DIR is `<target>/<profile>/build/<package>/out`.
fn target_dir() -> PathBuf {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    out.ancestors().nth(4).expect("OUT_DIR lies below the target directory").to_path_buf()
}
