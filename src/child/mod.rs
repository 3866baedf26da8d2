//! This program, executed again as a child: the measured server, or the load, each in a process of its own.
//!
//! CPU time and memory are accounted by process, so server and load must not share one; and a fresh process for each
//! visit keeps what one left behind from the next. A child is told what to do over its standard input and ends when
//! that closes, so nothing survives a parent that is killed.
//!
//! | idea | file |
//! |---|---|
//! | what the two say to each other | `wire.rs` |
//! | the parent's end, of one child and of several | `parent.rs`, `group.rs` |
//! | whatever is started: heard, waited for, ended | `started.rs` |
//! | several servers on one port, several loads as one | `servers.rs`, `loads.rs` |
//! | the child's end | `orders.rs` |
//! | the measured server | `serve.rs`, `instructions.rs` |
//! | the cheapest server, in the place of a measured one | `ceiling.rs`, `ceiling/echo.rs` |
//! | a server that is not ours | `foreign.rs` |
//! | the load, and whom it is aimed at | `load.rs`, `target.rs` |
//! | a poller alone, and the parent's end of it | `poller.rs`, `drills.rs` |
//! | who writes to it while it sleeps | `partner.rs` |
//! | what single calls cost, and the parent's end of it | `calibrator.rs`, `calibrator/`, `calibrations.rs` |

mod calibrations;
#[cfg(unix)]
mod calibrator;
mod ceiling;
#[cfg(unix)]
mod drills;
mod foreign;
mod group;
mod instructions;
mod knobs;
mod load;
mod loads;
mod orders;
mod parent;
#[cfg(unix)]
mod partner;
#[cfg(unix)]
mod poller;
mod serve;
mod servers;
mod started;
mod target;
pub(crate) mod wire;

use std::env;
use std::io;
use std::process::{self, Command};

use pollmark_backends::Registry;

pub(crate) use calibrations::calibrate;
#[cfg(unix)]
pub(crate) use drills::Drills;
pub use knobs::Knobs;
pub(crate) use loads::{Loads, Target, Trouble};
pub(crate) use parent::Failure;
pub(crate) use servers::{Servers, Service};
pub(crate) use started::{Words, wait_at_most};
pub(crate) use target::target;
pub(crate) use wire::{CalibrationOrder, Crew, Lap, Launch, Open, Ran, Span};
#[cfg(unix)]
pub(crate) use wire::{Drill, Drilled};

/// Set in a child, to its role.
const ROLE_VARIABLE: &str = "POLLMARK_CHILD";

/// What a child is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Server,
    Ceiling,
    Load,
    /// A poller alone. Nowhere but on Unix is there what it could watch without a server.
    Poller,
    /// Who writes to a poller alone, once it sleeps.
    Partner,
    /// Measures what single calls cost.
    Calibrator,
    /// Whom it exchanges messages with.
    Peer,
}

impl Role {
    const ALL: [Role; 7] =
        [Role::Server, Role::Ceiling, Role::Load, Role::Poller, Role::Partner, Role::Calibrator, Role::Peer];

    const fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Ceiling => "ceiling",
            Role::Load => "load",
            Role::Poller => "poller",
            Role::Partner => "partner",
            Role::Calibrator => "calibrator",
            Role::Peer => "peer",
        }
    }

    /// This program, to be executed again in this role.
    fn command(self) -> io::Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        // The argument is for whoever looks at the list of processes.
        command.arg(format!("{}-child", self.name())).env(ROLE_VARIABLE, self.name());
        Ok(command)
    }
}

/// Becomes a child, if this process was started as one, and does not return then. Call it first thing in `main`, with
/// the registry whose mechanisms are to be compared: the child executes the same program, and so has the same.
///
/// ```no_run
/// use pollmark_backends::Registry;
///
/// fn main() {
///     let registry = Registry::builtin();
///     pollmark::child::enter(&registry);
///     // From here on this is the parent.
/// }
/// ```
pub fn enter(registry: &Registry) {
    let Ok(role) = env::var(ROLE_VARIABLE) else { return };
    match Role::ALL.into_iter().find(|one| one.name() == role) {
        Some(Role::Server) => serve::run(registry),
        Some(Role::Ceiling) => ceiling::run(),
        Some(Role::Load) => load::run(),
        #[cfg(unix)]
        Some(Role::Poller) => poller::run(registry),
        #[cfg(unix)]
        Some(Role::Partner) => partner::run(),
        #[cfg(unix)]
        Some(Role::Calibrator) => calibrator::run(registry),
        #[cfg(unix)]
        Some(Role::Peer) => calibrator::run_peer(),
        #[cfg(not(unix))]
        Some(Role::Poller | Role::Partner) => eprintln!("a poller is measured alone on Unix only"),
        #[cfg(not(unix))]
        Some(Role::Calibrator | Role::Peer) => eprintln!("calls are measured one at a time on Unix only"),
        None => eprintln!("{ROLE_VARIABLE}={role:?} is not a role: it is set by pollmark for its children, unset it"),
    }
    process::exit(2);
}

/// Whether instructions can be counted here; if not, why.
pub(crate) fn can_count_instructions() -> Result<(), String> {
    instructions::Counters::open().map(drop).map_err(|error| error.to_string())
}

/// Whether this process is a child that has not entered its role: to start children from here would never end.
pub(crate) fn is_unentered_child() -> bool {
    env::var_os(ROLE_VARIABLE).is_some()
}
