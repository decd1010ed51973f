//! `keys ls|add|import|rm|sync`.

use crate::connection::{Connection, named, workspace};
use crate::failure::{Failure, Result};
use crate::private_file;
use crate::show::{self, Table, age};
use rexec_api::ssh::NewSshKey;
use std::path::PathBuf;
use tokio::io::AsyncReadExt as _;

/// What ssh-keygen makes when nothing is named, the preferred one first.
const USUAL: [&str; 3] = ["id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub"];
/// More than any public key has.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// List your SSH keys.
    Ls,
    /// Add a public key.
    Add {
        /// Such as `~/.ssh/id_ed25519.pub`, which is taken when absent if there is one; `-` is standard input.
        file: Option<PathBuf>,
        /// For people; the key's comment when absent.
        #[arg(long)]
        name: Option<String>,
    },
    /// Add the public keys that a user has at GitHub.
    Import {
        #[arg(value_name = "GITHUB_USER")]
        username: String,
    },
    /// Delete one.
    Rm {
        /// Its id or name.
        key: String,
    },
    /// Write your keys into a workspace's authorized_keys, for an sshd of its own.
    Sync { workspace: String },
}

pub async fn run(connection: &Connection, command: KeysCommand) -> Result<()> {
    let client = connection.client()?;
    match command {
        KeysCommand::Ls => {
            let keys = client.ssh_keys().await?.items;
            if connection.json {
                return show::json(&keys);
            }
            let mut table = Table::new(&["ID", "NAME", "KIND", "FINGERPRINT", "USED"]);
            for key in keys {
                let used = key.last_used_at.as_deref().map_or("never".into(), |time| format!("{} ago", age(time)));
                let id = key.id.to_string();
                table.row(vec![id.into(), key.name.into(), key.kind.into(), key.fingerprint.into(), used.into()]);
            }
            table.print()
        }
        KeysCommand::Add { file, name } => {
            let public_key = public_key(file).await?;
            let added = client.add_ssh_key(&NewSshKey { name, public_key }).await?;
            if connection.json {
                return show::json(&added);
            }
            show::print(&format!("{} {} {}\n", added.id, added.fingerprint, added.name))
        }
        KeysCommand::Import { username } => {
            let imported = client.import_ssh_keys(&username).await?;
            if connection.json {
                return show::json(&imported);
            }
            for skipped in &imported.skipped {
                eprintln!("Line {} was left out: {}", skipped.line, skipped.reason);
            }
            for added in &imported.added {
                show::print(&format!("{} {} {}\n", added.id, added.fingerprint, added.name))?;
            }
            Ok(())
        }
        KeysCommand::Rm { key: word } => {
            let all = client.ssh_keys().await?.items;
            let key = named(all, &word, |one| (one.id.to_string(), &one.name), "key", "rexec keys ls")?;
            client.delete_ssh_key(key.id).await.map_err(Failure::from)
        }
        KeysCommand::Sync { workspace: word } => {
            let synced = client.sync_ssh_keys(workspace(&client, &word).await?.id).await?;
            if connection.json {
                return show::json(&synced);
            }
            show::print(&format!("{}: {} keys\n", synced.path, synced.keys))
        }
    }
}

async fn public_key(file: Option<PathBuf>) -> Result<String> {
    let file = match file {
        Some(file) => file,
        None => {
            let directory = private_file::home()?.join(".ssh");
            let found = USUAL.iter().map(|name| directory.join(name)).find(|file| file.exists());
            found.ok_or_else(|| {
                Failure::NotFound(format!(
                    "There is no public key in {}. Make one with `ssh-keygen -t ed25519`, or name its file.",
                    directory.display()
                ))
            })?
        }
    };
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        tokio::io::stdin().take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).await
    } else {
        let opened = tokio::fs::File::open(&file).await.map_err(Failure::io(file.display().to_string()))?;
        opened.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).await
    };
    read.map_err(Failure::io(file.display().to_string()))?;
    // It must not leave this machine, not even to be refused.
    if text.contains("PRIVATE KEY") {
        return Err(Failure::Usage(format!(
            "{} is a private key: keep it to yourself, and name the .pub file beside it.",
            file.display()
        )));
    }
    Ok(text.trim().to_owned())
}
