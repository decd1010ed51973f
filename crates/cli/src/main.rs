//! The `rexec` command: the server, and everything that the page can do, for people and scripts.
//!
//! Answers go to standard output, talk to standard error; `failure` has the exit codes.

mod browser;
mod commands;
mod connection;
mod failure;
mod feed;
mod logins;
mod machine;
mod private_file;
mod serve;
mod show;
mod tty;
mod tui;

use clap::{CommandFactory as _, Parser, Subcommand};
use commands::{
    account, admin, attach, copy, egress, exec, forward, join, keys, logs, models, moving, ports, regions, secrets,
    snapshots, ssh, sync, tokens, volumes, workspaces,
};
use connection::Connection;
use failure::{EXIT_OF_OURS, Failure, Result};
use rexec_client::Lifecycle;
use std::process::ExitCode;
use std::time::Duration;

/// Long-lived buffers of many sizes fragment the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a command that is interrupted may take to tidy up.
const TIDY_PATIENCE: Duration = Duration::from_secs(2);

/// Instant, isolated Linux machines on hardware that you own.
#[derive(Parser)]
#[command(name = "rexec", version, arg_required_else_help = true, after_help = failure::EXIT_CODES)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server. It is configured by the environment, `.env` and rexec.toml.
    Serve,
    /// Sign in to a server.
    Login(account::LoginArguments),
    /// Sign out, and revoke what the sign-in has made.
    Logout,
    /// Tell who is signed in, and where.
    Whoami,
    /// Show the workspaces on the whole terminal, with figures as they come, and keys to open, start, stop and delete them.
    Tui,
    /// Make a workspace.
    New(workspaces::NewArguments),
    /// List your workspaces.
    Ls(workspaces::ListArguments),
    /// List what workspaces can be made from.
    Templates,
    /// List the regions that a workspace can be made in.
    Regions,
    /// Open a workspace in the browser; without a desktop, print its address.
    Open { workspace: String },
    /// Hold a terminal of a workspace; Ctrl-] lets go.
    Attach(attach::AttachArguments),
    /// Run a command in a workspace.
    Exec(exec::ExecArguments),
    /// Connect to a workspace by the ssh of this machine.
    Ssh(ssh::SshArguments),
    /// Copy files from and to a workspace (WORKSPACE:PATH).
    Cp(copy::CopyArguments),
    /// Bring a folder here and one in a workspace to the same content, by rsync (WORKSPACE:PATH).
    Sync(sync::SyncArguments),
    /// List the ports on which something listens, and open previews.
    Ports(ports::PortsArguments),
    /// Tell what has happened to a workspace, or what its set-up printed. With --json, one object a line.
    Logs(logs::LogsArguments),
    /// Have ports of this machine lead into a workspace, until Ctrl-C.
    Forward(forward::ForwardArguments),
    /// Start workspaces.
    Start(workspaces::Several),
    /// Stop workspaces.
    Stop(workspaces::Several),
    /// Restart workspaces.
    Restart(workspaces::Several),
    /// Freeze workspaces; they wake when they are used.
    Pause(workspaces::Several),
    /// Wake workspaces.
    Resume(workspaces::Several),
    /// See or change what a workspace may reach outside, and print what it asked for.
    Egress(egress::EgressArguments),
    /// Move a stopped workspace to another server.
    Move(moving::MoveArguments),
    /// Delete workspaces; their homes are kept for a while.
    Rm(workspaces::RemoveArguments),
    /// Take, list, delete, export and import snapshots.
    #[command(subcommand)]
    Snapshot(snapshots::SnapshotCommand),
    /// Add, list and delete your SSH keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Carry SSH over HTTP: a ProxyCommand for ssh, where the server's SSH port is out of reach.
    Proxy {
        /// Ignored: what ssh calls the host.
        host: Option<String>,
    },
    /// Write your workspaces into the configuration of ssh.
    ConfigSsh(ssh::ConfigArguments),
    /// Store, list and delete secrets, which workspaces use without having them.
    #[command(subcommand)]
    Secret(secrets::SecretCommand),
    /// Tell which language models workspaces may ask, and what yours have used of them.
    Models,
    /// Make, list and revoke API tokens.
    #[command(subcommand)]
    Token(tokens::TokenCommand),
    /// List, restore and remove homes, those kept of deleted workspaces among them.
    #[command(subcommand)]
    Volume(volumes::VolumeCommand),
    /// Look after the server, as its administrator.
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Join this machine to a server: its terminals, commands, files and ports are yours there, until Ctrl-C.
    Join(join::JoinArguments),
    /// Remove this machine from the server that it was joined to.
    Leave(join::LeaveArguments),
    /// Make, list and revoke the tokens by which machines join.
    #[command(subcommand)]
    JoinToken(join::JoinTokenCommand),
    /// What a joined machine runs for its server.
    #[command(hide = true)]
    Guest { verb: machine::Verb },
    /// Print the completion script of a shell.
    Completion { shell: clap_complete::Shell },
    /// Print the description of the API (OpenAPI 3.1) and exit.
    Openapi,
    /// Print the version and exit.
    Version,
}

fn main() -> ExitCode {
    let Arguments { connection, command } = Arguments::parse();
    let is_exec = matches!(command, Command::Exec(_) | Command::Attach(_) | Command::Ssh(_));
    let done = match command {
        Command::Serve => return serve::run(),
        Command::Openapi => show::print(rexec_server::http::openapi::document()).map(|()| ExitCode::SUCCESS),
        Command::Version => show::print(concat!("rexec ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| ExitCode::SUCCESS),
        Command::Completion { shell } => complete(shell).map(|()| ExitCode::SUCCESS),
        Command::Guest { verb } => machine::serve(verb).map(|()| ExitCode::SUCCESS),
        command => speak(&connection, command),
    };
    match done {
        Ok(code) => code,
        Err(failure) if is_exec && !failure.is_broken_pipe() => {
            failure.tell();
            ExitCode::from(EXIT_OF_OURS)
        }
        Err(failure) => failure.tell(),
    }
}

/// Runs what speaks to a server.
fn speak(connection: &Connection, command: Command) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::io("the runtime"))?;
    let done = runtime.block_on(run(connection, command));
    if matches!(done, Err(Failure::Interrupted)) {
        // What was half made is taken away.
        runtime.shutdown_timeout(TIDY_PATIENCE);
    } else {
        // A thread may still wait for input that nobody will type.
        runtime.shutdown_background();
    }
    done
}

async fn run(connection: &Connection, command: Command) -> Result<ExitCode> {
    match command {
        Command::Login(arguments) => account::login(connection, arguments).await?,
        Command::Logout => account::logout(connection).await?,
        Command::Whoami => account::whoami(connection).await?,
        Command::Tui => tui::run(connection).await?,
        Command::New(arguments) => workspaces::new(connection, arguments).await?,
        Command::Ls(arguments) => workspaces::ls(connection, arguments).await?,
        Command::Templates => workspaces::templates(connection).await?,
        Command::Regions => regions::choice(connection).await?,
        Command::Open { workspace } => workspaces::open(connection, &workspace).await?,
        Command::Attach(arguments) => return attach::run(connection, arguments).await,
        Command::Exec(arguments) => return exec::run(connection, arguments).await,
        Command::Ssh(arguments) => return ssh::ssh(connection, arguments).await,
        Command::Cp(arguments) => tokio::select! {
            done = copy::run(connection, arguments) => done?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::Interrupted),
        },
        Command::Sync(arguments) => sync::run(connection, arguments).await?,
        Command::Ports(arguments) => ports::run(connection, arguments).await?,
        Command::Forward(arguments) => forward::run(connection, arguments).await?,
        Command::Logs(arguments) => logs::run(connection, arguments).await?,
        Command::Start(of) => workspaces::lifecycle(connection, of, Lifecycle::Start).await?,
        Command::Stop(of) => workspaces::lifecycle(connection, of, Lifecycle::Stop).await?,
        Command::Restart(of) => workspaces::lifecycle(connection, of, Lifecycle::Restart).await?,
        Command::Pause(of) => workspaces::lifecycle(connection, of, Lifecycle::Pause).await?,
        Command::Resume(of) => workspaces::lifecycle(connection, of, Lifecycle::Resume).await?,
        Command::Egress(arguments) => egress::run(connection, arguments).await?,
        Command::Move(arguments) => moving::run(connection, arguments).await?,
        Command::Rm(arguments) => workspaces::rm(connection, arguments).await?,
        Command::Snapshot(command) => snapshots::run(connection, command).await?,
        Command::Keys(command) => keys::run(connection, command).await?,
        Command::Secret(command) => secrets::run(connection, command).await?,
        Command::Models => models::run(connection).await?,
        Command::Proxy { .. } => ssh::proxy(connection).await?,
        Command::ConfigSsh(arguments) => ssh::config(connection, arguments).await?,
        Command::Volume(command) => volumes::run(connection, command).await?,
        Command::Admin(command) => admin::run(connection, command).await?,
        Command::Token(command) => tokens::run(connection, command).await?,
        Command::Join(arguments) => return join::join(connection, arguments).await,
        Command::Leave(arguments) => join::leave(connection, arguments).await?,
        Command::JoinToken(command) => join::tokens(connection, command).await?,
        // Those that speak to no server have been seen to.
        Command::Serve | Command::Openapi | Command::Version | Command::Completion { .. } | Command::Guest { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Into memory first: the generator panics where its reader is gone.
fn complete(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "rexec", &mut script);
    show::print(&String::from_utf8_lossy(&script))
}
